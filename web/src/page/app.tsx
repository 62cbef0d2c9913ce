import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { openRequests, runningTurn, subagentOf, turnToStop, worksInBackgroundOnly, type AgentState, type Chat, type ChatSummary, type Client, type RequestItem } from "../client/index.ts";
import { ChatOptions } from "./chat-options.tsx";
import { Composer } from "./composer.tsx";
import { ConnectionState } from "./connection-state.tsx";
import { useArming } from "./consent/use-arming.ts";
import { Empty } from "./empty.tsx";
import { Help } from "./help.tsx";
import { useClient, useStable } from "./hooks.ts";
import { IconMenu, IconPlus, IconTarget } from "./icons.tsx";
import { chatInAddress, showChatInAddress } from "./location.ts";
import { RequestDock, type Asker } from "./requests.tsx";
import { RunningTasks } from "./tasks.tsx";
import { Sidebar } from "./sidebar.tsx";
import { SignIn } from "./sign-in.tsx";
import { read, write, type Credentials } from "./storage.ts";
import { Revealed } from "./revealed.tsx";
import { explain, explainClose } from "./text/errors.ts";
import { about } from "./text/tools.ts";
import { reveal } from "./text/reveal.ts";
import { Thread } from "./thread.tsx";
import { Toasts, type Toast } from "./toasts.tsx";
import { answerText } from "./turn.tsx";
import { useShortcuts } from "./shortcuts.ts";

/** How often the chat list is requested again, since a request for it may have been refused. */
const LIST_EVERY_MS = 30_000;
const ANNOUNCED_CHARACTERS = 600;

export function App({ client, credentials }: { client: Client; credentials: Credentials }) {
  useClient(client);
  const [initialChat] = useState(() => firstChat(client));
  const [chatId, setChatId] = useState(initialChat.id);
  const [drawer, setDrawer] = useState(false);
  const [help, setHelp] = useState(false);
  const [options, setOptions] = useState<string>();
  const [prefill, setPrefill] = useState<{ text: string }>();
  const [sentCount, setSentCount] = useState(0);
  const [toasts, setToasts] = useState<readonly Toast[]>([]);
  const [refused, setRefused] = useState(false);

  const { status } = client;
  const online = status.state === "online";
  const isFirstAttempt = status.state === "connecting" && status.closed === undefined;
  const chat = client.chat(chatId)!;
  const agent = chat.agent ?? client.agent;
  const running = runningTurn(chat);
  const requests = openRequests(chat);
  const inBackground = worksInBackgroundOnly(chat);
  // The button stands where that of a turn was, so a second click on the latter must not stop the background work too.
  const tasksStopArmed = useArming(inBackground ? chatId : undefined);
  const unsent = client.unsent(chatId);

  /**
   * A chat that is replaced by a new one, without a word, if the gateway does not have it: the chat remembered from the last
   * visit, or one that this person just deleted.
   */
  const replaceWhenUnknown = useRef(initialChat.remembered ? initialChat.id : undefined);
  const open = useStable((id: string, fresh: boolean = false, push: boolean = true) => {
    replaceWhenUnknown.current = undefined;
    client.open(id, fresh);
    setChatId(id);
    setDrawer(false);
    showChatInAddress(fresh ? undefined : id, push);
    if (!fresh) write("localStorage", "chat", id);
  });
  const openNew = useStable(() => (chat.phase === "new" && unsent.length === 0 ? setDrawer(false) : open(client.newChatId(), true)));
  const send = useStable((text: string) => {
    client.send(chatId, text);
    setSentCount((count) => count + 1);
    showChatInAddress(chatId, false);
    write("localStorage", "chat", chatId);
  });
  const stop = useStable(() => {
    const turn = turnToStop(chat);
    if (turn) client.cancel(chatId, turn.id);
  });
  const stopTasks = useStable(() => void client.cancel(chatId));
  const cancelTurn = useStable((turnId: string) => void client.cancel(chatId, turnId));
  const reuse = useStable((text: string) => setPrefill({ text }));
  const toast = useStable((text: string) => setToasts((all) => [...all.filter((each) => each.text !== text), { id: Math.random(), text }].slice(-4)));
  const dismissToast = useStable((id: number) => setToasts((all) => all.filter((each) => each.id !== id)));
  const move = useStable((by: number) => {
    const ids = client.chats.items.map((each) => each.chat_id);
    const next = ids[ids.indexOf(chatId) + by];
    if (next !== undefined) open(next);
  });

  // Effects that move the focus or add listeners are layout effects, so that no event can come before them. Setting titles
  // can wait.
  useLayoutEffect(() => client.onError((error) => toast(`${explain(error.code, error.detail)}${error.retryable ? " Try again in a moment." : ""}`)), [client]);
  useLayoutEffect(() => {
    const onPopState = () => {
      if (location.hash.includes("token=")) return; // a sign-in link, which names no chat
      const id = chatInAddress();
      if (id === undefined) open(client.newChatId(), true, false);
      else if (id !== chatId) open(id, false, false);
    };
    addEventListener("popstate", onPopState);
    return () => removeEventListener("popstate", onPopState);
  }, [chatId]);
  useLayoutEffect(() => {
    const timer = setInterval(() => !document.hidden && client.listChats(), LIST_EVERY_MS);
    const onVisible = () => {
      if (document.hidden) return;
      client.wake();
      client.listChats();
    };
    const onOnline = () => client.wake();
    document.addEventListener("visibilitychange", onVisible);
    addEventListener("online", onOnline);
    addEventListener("pageshow", onOnline);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", onVisible);
      removeEventListener("online", onOnline);
      removeEventListener("pageshow", onOnline);
    };
  }, [client]);
  useShortcuts({
    escape: () => (drawer ? setDrawer(false) : void stop()),
    newChat: openNew, help: () => setHelp(true), move, write: () => document.querySelector<HTMLElement>("#composer")?.focus(),
  }, help || options !== undefined);

  // Opening the drawer moves the focus into it; closing it moves the focus back to the button that opens it.
  const wasDrawer = useRef(false);
  useLayoutEffect(() => {
    if (drawer === wasDrawer.current) return;
    wasDrawer.current = drawer;
    document.querySelector<HTMLElement>(drawer ? ".side .new-chat" : ".drawer-open")?.focus();
  }, [drawer]);

  useLayoutEffect(() => {
    if (chat.phase === "live") replaceWhenUnknown.current = undefined; // the chat exists; should it vanish later, the person is told
    else if (chat.phase === "unknown" && replaceWhenUnknown.current === chatId) open(client.newChatId(), true, false);
  }, [chatId, chat.phase]);

  const unauthorized = status.state === "stopped" && status.reason === "unauthorized";
  // In a layout effect, so that a token which another tab stores meanwhile is not missed.
  useLayoutEffect(() => {
    if (!unauthorized) return;
    const hadToken = credentials.token !== undefined;
    if (credentials.refused()) client.start();
    else setRefused(hadToken);
    // Signing in in any tab of this browser is enough.
    const onStorage = () => void (credentials.adopt() && client.start());
    addEventListener("storage", onStorage);
    return () => removeEventListener("storage", onStorage);
  }, [unauthorized]);

  useLayoutEffect(() => {
    if (online) credentials.accepted();
  }, [online]);

  useEffect(() => {
    if (chat.model !== undefined) write("localStorage", "model", chat.model);
  }, [chat.model]);

  const title = titleOf(client, chatId);
  useEffect(() => {
    document.title = `${requests.length > 0 ? "● " : ""}${title ? `${reveal(title)} · ` : ""}Switchboard`;
  }, [title, requests.length > 0]);

  if (unauthorized) {
    return <SignIn refused={refused} onToken={(token) => { credentials.try(token); client.start(); }} />;
  }
  // A chat that is live is known better than the list has it.
  const isRunning = (each: ChatSummary) => (client.isLive(each.chat_id) ? runningTurn(client.chat(each.chat_id)!) !== undefined : each.running);
  const runningChats = new Set(client.chats.items.filter(isRunning).map((each) => each.chat_id));
  const hasOpenRequest = (each: ChatSummary) => (client.isLive(each.chat_id) ? openRequests(client.chat(each.chat_id)!).length > 0 : each.waiting ?? false);
  const waiting = new Set(client.chats.items.filter(hasOpenRequest).map((each) => each.chat_id));
  const lastClose = status.state === "online" ? undefined : status.closed;
  const closeText = lastClose && explainClose(lastClose);
  const isEmpty = chat.turns.length === 0 && unsent.length === 0;
  return (
    <div class="app" data-drawer={drawer ? "open" : "closed"} data-online={online}>
      <a class="skip" href="#composer" onClick={(event) => { event.preventDefault(); document.querySelector<HTMLElement>("#composer")?.focus(); }}>Skip to the message field</a>
      <aside class="side" aria-label="Chats and connection">
        <Sidebar chats={client.chats.items} known={client.chats.isLoaded} hasMore={client.chats.hasMore} current={chatId} running={runningChats} waiting={waiting} status={status} transport={client.transport}
          onOpen={open} onOptions={setOptions} onNew={openNew} onMore={() => client.listChats(true)} onClose={() => setDrawer(false)} onHelp={() => setHelp(true)} onReconnect={() => reconnect(client)} />
      </aside>
      <div class="scrim" onClick={() => setDrawer(false)} />
      <main class="main" inert={drawer}>
        <header class="top">
          <button type="button" class="quiet icon-button drawer-open" onClick={() => setDrawer(true)} aria-label="Open the list of chats" aria-expanded={drawer}><IconMenu /></button>
          {isEmpty ? <span class="title" /> : <h1 class="title"><Revealed text={title ?? "New chat"} style="prose" /></h1>}
          {agent && <AgentBadge agent={agent} />}
          {chat.model && <span class="model" title="The model that the agent used last"><Revealed text={chat.model} style="code" /></span>}
          {!online && <ConnectionState status={status} transport={client.transport} onReconnect={() => reconnect(client)} />}
          <button type="button" class="quiet icon-button drawer-open" onClick={openNew} aria-label="New chat"><IconPlus /></button>
        </header>
        {closeText && <p class="notice lost" role="alert" data-level="warning" data-close={lastClose!.code}><span>{closeText}</span></p>}
        {client.degraded && <p class="notice degraded" role="alert" data-level="error"><span>{client.degraded}</span></p>}
        {chat.goal && <p class="goal"><IconTarget /><span><strong>Goal</strong> {chat.goal.ui_summary ?? chat.goal.objective ?? "A goal is being pursued."}</span>{chat.goal.status && <span class="tag">{chat.goal.status}</span>}</p>}
        <Thread chat={chat} unsent={unsent} loadingOlder={client.isLoadingOlder(chatId)} online={online} sentCount={sentCount}
          onLoadOlder={() => client.loadOlder(chatId)} onCancel={cancelTurn} onReuse={reuse}
          olderError={client.olderError(chatId)} onDiscard={(id) => client.discard(id)}>
          {isEmpty && (chat.phase === "new" || chat.phase === "live") && !isFirstAttempt && <Empty online={online} demo={isDemo(agent)} onWrite={reuse} onSend={send} />}
          {isEmpty && chat.phase === "loading" && <Loading />}
          {chat.phase === "unknown" && <Unknown deleted={chat.deleted === true} onNew={() => open(client.newChatId(), true)} />}
          {chat.phase === "damaged" && <Damaged onNew={() => open(client.newChatId(), true)} />}
        </Thread>
        <div class="bottom">
          <RunningTasks tasks={chat.tasks} online={online} onStop={inBackground ? stopTasks : undefined} stopDisabled={!online || !tasksStopArmed} />
          <RequestDock requests={requests} online={online} askerOf={(request) => askerOf(chat, request)} isResponding={(id) => client.isResponding(chatId, id)}
            onAnswer={(id, answer) => void client.respond(chatId, id, answer)}
            refusalOf={(id) => client.refusal(chatId, id)}
            inputOf={(id) => client.input(chatId, id)} onLoadInput={(request) => client.loadInput(chatId, request)} />
          {/* No composer in a damaged chat: a new message could not be shown. */}
          {chat.phase !== "damaged" && <Composer chatId={chatId} running={running !== undefined} online={online} lost={!online && !isFirstAttempt} prefill={prefill} onSend={send} onStop={stop}
            onStopTasks={inBackground ? stopTasks : undefined} stopTasksDisabled={!online || !tasksStopArmed} />}
          <p class="small-print">Agents make mistakes. Read what they ask for before you allow it.</p>
        </div>
      </main>
      <Announcer chat={chat} />
      <div class="visually-hidden" role="status">{status.state === "waiting" ? "The connection is lost. Reconnecting." : ""}</div>
      <Toasts toasts={toasts} onClose={dismissToast} />
      {help && <Help onClose={() => setHelp(false)} />}
      {options !== undefined && (
        <ChatOptions key={options} title={titleOf(client, options) ?? "New chat"} running={runningChats.has(options)}
          online={online} onClose={() => setOptions(undefined)} onRename={(text) => void client.rename(options, text)}
          onDelete={() => { if (options === chatId) replaceWhenUnknown.current = options; client.delete(options); }} />
      )}
    </div>
  );
}

/** The chat to open first: the one in the address, else the one open last, else a new one. */
function firstChat(client: Client): { id: string; remembered: boolean } {
  const addressed = chatInAddress();
  const known = addressed ?? read("localStorage", "chat");
  const id = known ?? client.newChatId();
  client.open(id, known === undefined);
  showChatInAddress(known, false);
  return { id, remembered: addressed === undefined && known !== undefined };
}

function titleOf(client: Client, chatId: string): string | undefined {
  return client.chat(chatId)?.title ?? client.chats.items.find((each) => each.chat_id === chatId)?.title;
}

/** Says whose request it is, where it is not one of the agent's in answer to a message. */
function askerOf(chat: Chat, request: RequestItem): Asker | undefined {
  const byItself = chat.turns.some((turn) => turn.origin === "agent" && turn.items.includes(request));
  const { parent } = request;
  if (parent === undefined) return byItself ? { byItself } : undefined;
  const use = subagentOf(chat, parent);
  return { byItself, subagent: use ? about(use) || use.name : "" };
}

/**
 * Whether the built-in demo agent is in use. An older gateway does not name its agent; then the model's name, known from
 * earlier answers, tells.
 */
function isDemo(agent: AgentState | undefined): boolean {
  return agent ? agent.agent === "demo" : read("localStorage", "model")?.includes("demo") ?? false;
}

const SANDBOXES: Record<string, string> = {
  shield: "The agent cannot see the gateway's own files and sockets.",
  workspace: "The agent can write in its workspace and its own folders only.",
  off: "The agent can do whatever the gateway's user can.",
};

/** Shows the agent's name, its workspace and its sandbox. */
function AgentBadge({ agent: { agent, workspace, sandbox } }: { agent: AgentState }) {
  return (
    <span class="model agent-sign">
      <span class="agent-name"><Revealed text={agent} style="code" /></span>
      {workspace && <span class="agent-workspace" title="The workspace"><Revealed text={workspace} style="code" /></span>}
      {sandbox && <span class="tag agent-sandbox" data-sandbox={sandbox} title={SANDBOXES[sandbox]}>sandbox: {sandbox}</span>}
    </span>
  );
}

function reconnect(client: Client): void {
  if (client.status.state === "waiting") client.wake();
  else client.start();
}

/** The styles show it after a delay, since most chats load faster than a person could read it. */
function Loading() {
  return <p class="loading" role="status">Loading…</p>;
}

function Unknown({ deleted, onNew }: { deleted: boolean; onNew: () => void }) {
  return (
    <div class="empty">
      <h1>{deleted ? "This chat was deleted" : "No such chat"}</h1>
      {!deleted && <p class="muted">This gateway has none under this address for you: it was deleted, belongs to somebody else, or never was here.</p>}
      <p><button type="button" class="primary" onClick={onNew}>New chat</button></p>
    </div>
  );
}

function Damaged({ onNew }: { onNew: () => void }) {
  return (
    <div class="empty damaged" role="alert">
      <h1>This chat is damaged</h1>
      <p class="muted">{explain("damaged", "")}</p>
      <p><button type="button" class="primary" onClick={onNew}>New chat</button></p>
    </div>
  );
}

/** Reads each finished answer to screen readers as a whole, rather than every streamed word. */
function Announcer({ chat }: { chat: NonNullable<ReturnType<Client["chat"]>> }) {
  const last = chat.turns.findLast((turn) => turn.end);
  const announced = useRef<{ chat: string; turn: string | undefined }>(undefined);
  return useMemo(() => {
    // Answers that were finished when the chat was opened are not announced.
    const isNew = announced.current?.chat === chat.id && announced.current.turn !== last?.id && chat.phase === "live";
    if (chat.phase === "live" || announced.current?.chat !== chat.id) announced.current = { chat: chat.id, turn: last?.id };
    const text = isNew && last ? `${last.origin === "agent" ? "What the agent did by itself" : "Answer"} ${last.end!.outcome}. ${answerText(last).slice(0, ANNOUNCED_CHARACTERS)}` : "";
    return <div class="visually-hidden" aria-live="polite">{text}</div>;
  }, [chat.id, chat.phase, last?.id]);
}
