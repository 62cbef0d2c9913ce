import type { Unsent } from "../client/index.ts";
import { CopyButton } from "./code.tsx";
import { explain } from "./text/errors.ts";
import { UserMessage } from "./turn.tsx";

interface UnsentProps {
  message: Unsent;
  online: boolean;
  onDiscard: (turnId: string) => void;
  onReuse: (text: string) => void;
}

/** A message that the gateway has not acknowledged: sending, waiting for a connection or a retry, or refused. */
export function UnsentMessage({ message: { turnId, content, createdAtMs, failure, delay }, online, onDiscard, onReuse }: UnsentProps) {
  const edit = () => {
    onDiscard(turnId);
    onReuse(content);
  };
  return (
    <article class="turn unsent" data-turn={turnId} data-phase={failure ? "refused" : "unsent"} aria-label="Message that is not sent yet">
      <UserMessage text={content} atMs={createdAtMs} />
      {failure ? (
        <div class="refused" role="alert">
          <p><strong>Not sent.</strong> {explain(failure.code, failure.detail, "message")}</p>
          <p class="refused-actions">
            {/* No button to send it again: the gateway would refuse the unchanged message again. */}
            <button type="button" onClick={edit}>Edit</button>
            <CopyButton text={content} what="message" />
            <button type="button" class="quiet" onClick={() => onDiscard(turnId)}>Discard</button>
          </p>
        </div>
      ) : (
        <p class="sending">
          {delay ? `${explain(delay.code, delay.detail, "message")} It is sent again by itself.` : online ? "Sending…" : "Is sent as soon as the connection is back."}
          {(delay || !online) && <button type="button" class="quiet" onClick={edit}>Take back</button>}
        </p>
      )}
    </article>
  );
}
