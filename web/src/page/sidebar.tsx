import type { ChatSummary, Status, Transport } from "../client/index.ts";
import { IconClose, IconHelp, IconMore, IconPlus, Mark } from "./icons.tsx";
import { ConnectionState } from "./connection-state.tsx";
import { Revealed } from "./revealed.tsx";
import { day } from "./text/format.ts";
import { reveal } from "./text/reveal.ts";

interface SidebarProps {
  chats: readonly ChatSummary[];
  known: boolean;
  hasMore: boolean;
  current: string;
  /** Chats in which a turn runs. */
  running: ReadonlySet<string>;
  /** Chats with a request that waits for a person's answer. */
  waiting: ReadonlySet<string>;
  status: Status;
  transport: Transport;
  onOpen: (chatId: string) => void;
  onOptions: (chatId: string) => void;
  onNew: () => void;
  onMore: () => void;
  onClose: () => void;
  onHelp: () => void;
  onReconnect: () => void;
}

export function Sidebar(props: SidebarProps) {
  const groups = grouped(props.chats);
  return (
    <div class="sidebar">
      <header class="brand">
        <Mark /><span>Switchboard</span>
        <button type="button" class="quiet icon-button drawer-close" onClick={props.onClose} aria-label="Close the list of chats"><IconClose /></button>
      </header>
      <button type="button" class="new-chat" onClick={props.onNew}><IconPlus /> New chat</button>
      <nav class="chats" aria-label="Chats">
        {groups.map(([heading, chats]) => (
          <section key={heading} aria-label={heading}>
            <h2>{heading}</h2>
            <ul>
              {chats.map((chat) => (
                <li key={chat.chat_id} class="chat-row">
                  <button type="button" class="chat-link" data-chat={chat.chat_id} aria-current={chat.chat_id === props.current ? "page" : undefined} onClick={() => props.onOpen(chat.chat_id)}>
                    <Lamp running={props.running.has(chat.chat_id)} waiting={props.waiting.has(chat.chat_id)} />
                    <span class="chat-title"><Revealed text={chat.title || "New chat"} style="prose" /></span>
                  </button>
                  <button type="button" class="quiet icon-button chat-more" aria-haspopup="dialog" aria-label={`Rename or delete ${reveal(chat.title || "New chat")}`} title="Rename or delete" onClick={() => props.onOptions(chat.chat_id)}><IconMore /></button>
                </li>
              ))}
            </ul>
          </section>
        ))}
        {props.known && props.chats.length === 0 && <p class="no-chats">Your chats will be listed here.</p>}
        {props.hasMore && <button type="button" class="quiet more-chats" onClick={props.onMore}>Older chats</button>}
      </nav>
      <footer class="sidebar-foot">
        <ConnectionState status={props.status} transport={props.transport} onReconnect={props.onReconnect} />
        <button type="button" class="quiet icon-button" onClick={props.onHelp} aria-label="Help and keyboard shortcuts" title="Help (?)"><IconHelp /></button>
      </footer>
    </div>
  );
}

function Lamp({ running, waiting }: { running: boolean; waiting: boolean }) {
  const lamp = waiting ? "waiting" : running ? "running" : "off";
  const words = { waiting: "waits for you", running: "running", off: undefined }[lamp];
  return <><span class="lamp" data-lamp={lamp} />{words && <span class="visually-hidden">{words}: </span>}</>;
}

function grouped(chats: readonly ChatSummary[]): [string, ChatSummary[]][] {
  const now = Date.now();
  const groups = new Map<string, ChatSummary[]>();
  for (const chat of chats) {
    const heading = day(chat.updated_at_ms, now);
    groups.set(heading, [...(groups.get(heading) ?? []), chat]);
  }
  return [...groups];
}
