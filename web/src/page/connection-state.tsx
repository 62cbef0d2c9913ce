import { useEffect, useState } from "preact/hooks";
import type { Status, Transport } from "../client/index.ts";
import { useSecond } from "./hooks.ts";

/** Whether the browser reports a network connection. */
export function useNetwork(): boolean {
  const [online, setOnline] = useState(navigator.onLine);
  useEffect(() => {
    const update = () => setOnline(navigator.onLine);
    addEventListener("online", update);
    addEventListener("offline", update);
    return () => {
      removeEventListener("online", update);
      removeEventListener("offline", update);
    };
  }, []);
  return online;
}

const FALLBACK = "No WebSocket gets through to the gateway, so this page uses server-sent events. Everything works the same.";

export function ConnectionState({ status, transport, onReconnect }: { status: Status; transport: Transport; onReconnect: () => void }) {
  const network = useNetwork();
  const now = useSecond(status.state === "waiting");
  const [lamp, text] = describe(status, network, now);
  const can = status.state === "waiting" || (status.state === "stopped" && status.reason !== "unauthorized");
  return (
    <p class="connection" data-state={status.state}>
      <span class="lamp" data-lamp={lamp} /> <span>{text}</span>
      {status.state === "online" && transport === "sse" && <abbr class="way" title={FALLBACK}>SSE<span class="visually-hidden">: {FALLBACK}</span></abbr>}
      {can && <button type="button" class="quiet" onClick={onReconnect}>Connect now</button>}
    </p>
  );
}

function describe(status: Status, network: boolean, now: number): [string, string] {
  switch (status.state) {
    case "online": return ["done", "Connected"];
    case "connecting": return ["waiting", "Connecting…"];
    case "waiting": {
      if (!network) return ["failed", "Offline"];
      const seconds = Math.ceil((status.retryAt - now) / 1000);
      return ["waiting", seconds > 1 ? `Reconnecting in ${seconds} s` : "Reconnecting…"];
    }
    case "stopped":
      switch (status.reason) {
        case "unauthorized": return ["failed", "Signed out"];
        case "replaced": return ["failed", "In use elsewhere"];
        case "closed": return ["off", "Not connected"];
      }
  }
}
