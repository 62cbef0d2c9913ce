/** The client: keeps chats up to date with the gateway, and sends messages exactly once, over a connection that reconnects. */
import { agentIn } from "./agent.ts";
import { Answers, type Refusal } from "./answers.ts";
import { backoff } from "./backoff.ts";
import {
  acceptedEvent, applyControl, applyEvent, emptyChat, isChatEvent, sequencePosition, stopRequested, stopSettled, type Chat, type Control,
} from "./chat.ts";
import { ChatList } from "./chat-list.ts";
import { CLOSE, Connection, type Status, type Transport } from "./connection.ts";
import type { Environment, KeyValueStore } from "./environment.ts";
import { Inputs, utf8Length, type WholeInput } from "./input.ts";
import { HistoryRequests } from "./history.ts";
import { Outbox, type Unsent } from "./outbox.ts";
import type { AgentState, Answer, ChatEvent, ChatId, ErrorEvent, PermissionRequest, RequestId, ServerEvent, TurnId, WireLimits } from "./wire.ts";

/** A request for a history page without an answer for this long counts as ended, so that it can be made again. */
const ANSWER_TIMEOUT_MS = 15_000;
/** How many of the chats opened last stay subscribed. */
const MAX_ATTACHED_CHATS = 8;
const HISTORY_PAGE_EVENTS = 500;
/** How long the client waits before it lists the chats again after hearing of a change; several may come at once. */
const LIST_DELAY_MS = 200;

export interface ClientOptions {
  /** The address of the WebSocket. */
  url: () => string;
  /** The address, ending in a slash, of the server-sent events that replace a blocked WebSocket. Without it they are not used. */
  fallback?: () => string;
  /** Gives the access token, for each attempt to connect. Undefined if the gateway needs none or a person has yet to enter it. */
  token: () => string | undefined;
  environment: Environment;
  /** Storage in which unsent messages survive a reload. */
  store?: KeyValueStore;
  /** The prefix of the keys in `store`. */
  storePrefix?: string;
}

export class Client {
  readonly chats = new ChatList();
  #environment: Environment;
  #connection: Connection;
  #outbox: Outbox;
  #chatsById = new Map<ChatId, Chat>();
  /** Chats that are attached or will be once there is a connection; least recently opened first. */
  #openChats = new Set<ChatId>();
  /** Messages sent on this connection and not acknowledged; one per chat at a time, so that they arrive in order. */
  #inFlight = new Map<ChatId, Unsent>();
  /** Refused messages that are sent again later; each value cancels the timer. */
  #retries = new Map<TurnId, () => void>();
  #answers = new Answers();
  #inputs: Inputs;
  #history: HistoryRequests;
  /** Cancels the timer after which the chats are listed again; undefined while it does not run. */
  #cancelList: (() => void) | undefined;
  /** Chats whose `attach` was refused and is sent again later. `attempt` counts refusals from 0. */
  #attachRetries = new Map<ChatId, { cancel: () => void; attempt: number }>();
  /** How many gaps in a row were found in a chat's events. */
  #gaps = new Map<ChatId, number>();
  /** Chats attached again after a gap. Events before the new `attached` still have the gap, and are dropped. */
  #reattaching = new Set<ChatId>();
  /** Chats that their first message, which is in flight, will create. */
  #creating = new Set<ChatId>();
  #limits: WireLimits | undefined;
  #agent: AgentState | undefined;
  #degraded: string | undefined;
  #changeListeners = new Set<() => void>();
  #errorListeners = new Set<(error: ErrorEvent) => void>();

  constructor(options: ClientOptions) {
    this.#environment = options.environment;
    this.#outbox = new Outbox(options.store, options.storePrefix ?? "switchboard:");
    this.#connection = new Connection(options.environment, { url: options.url, fallback: options.fallback }, options.token, {
      status: () => this.#notify(),
      event: (event) => this.#receive(event),
      disconnected: (code) => this.#disconnected(code),
    });
    const requestInput = (chatId: ChatId, requestId: RequestId, offset: number) => this.#connection.send({ type: "request_input", chat_id: chatId, request_id: requestId, offset });
    this.#history = new HistoryRequests(options.environment, ANSWER_TIMEOUT_MS, () => this.#notify());
    this.#inputs = new Inputs(options.environment, requestInput, () => this.#notify());
  }

  /** Connects now; ends the present connection, if any. To be called with a new token, too. */
  start(): void { this.#connection.start(); }
  stop(): void { this.#connection.stop(); }
  /** To be called when the network or the page is back. */
  wake(): void { this.#connection.wake(); }
  get status(): Status { return this.#connection.status; }
  /** The transport of the present connection, or of the last attempt. */
  get transport(): Transport { return this.#connection.transport; }
  get limits(): WireLimits | undefined { return this.#limits; }
  /** The gateway's notice that it cannot store messages at the moment; undefined while it can. */
  get degraded(): string | undefined { return this.#degraded; }
  /** The gateway's default agent, for chats that have no `agent` of their own yet. */
  get agent(): AgentState | undefined { return this.#agent; }

  /** Calls `listener` after every change; it reads the getters. The returned function removes it. */
  onChange(listener: () => void): () => void {
    this.#changeListeners.add(listener);
    return () => this.#changeListeners.delete(listener);
  }

  /** Calls `listener` with errors that are not part of a message's, request's or chat's state. The returned function removes it. */
  onError(listener: (error: ErrorEvent) => void): () => void {
    this.#errorListeners.add(listener);
    return () => this.#errorListeners.delete(listener);
  }

  /** Whether a chat is subscribed and its state up to date. */
  isLive(chatId: ChatId): boolean { return this.#openChats.has(chatId) && this.#chatsById.get(chatId)?.phase === "live"; }
  chat(chatId: ChatId): Chat | undefined { return this.#chatsById.get(chatId); }
  unsent(chatId: ChatId): Unsent[] { return this.#outbox.of(chatId); }
  isSending(turnId: TurnId): boolean { return [...this.#inFlight.values()].some((entry) => entry.turnId === turnId); }
  isResponding(chatId: ChatId, requestId: RequestId): boolean { return this.#answers.isPending(chatId, requestId); }
  isLoadingOlder(chatId: ChatId): boolean { return this.#history.isPending(chatId); }
  /** Why the gateway refused the last `loadOlder`. */
  olderError(chatId: ChatId): ErrorEvent | undefined { return this.#history.error(chatId); }
  newChatId(): ChatId { return this.#environment.newId(); }

  /** Subscribes to a chat. `fresh`: the gateway does not have the chat yet; its first message will create it. */
  open(chatId: ChatId, fresh = false): void {
    if (!this.#chatsById.has(chatId)) this.#chatsById.set(chatId, emptyChat(chatId, fresh ? "new" : "loading"));
    const attached = this.#openChats.delete(chatId);
    this.#openChats.add(chatId);
    if (!attached && !fresh) this.#attach(chatId);
    for (const oldest of this.#openChats) {
      if (this.#openChats.size <= MAX_ATTACHED_CHATS) break;
      if (oldest !== chatId && this.#outbox.of(oldest).length === 0) this.close(oldest);
    }
    this.#notify();
  }

  /** Ends the subscription. The chat's state stays, so that the next `open` can resume from its cursor. */
  close(chatId: ChatId): void {
    this.#openChats.delete(chatId);
    this.#connection.send({ type: "detach", chat_id: chatId });
  }

  /** Sends a message now, or as soon as there is a connection. Gives the id of its turn. */
  send(chatId: ChatId, content: string): TurnId {
    const turnId = this.#environment.newId();
    this.#outbox.put({ chatId, turnId, content, createdAtMs: this.#environment.now() });
    this.#flush(chatId);
    this.#notify();
    return turnId;
  }

  /** Removes a message from the outbox. One that is in flight may arrive all the same. */
  discard(turnId: TurnId): void {
    this.#retries.get(turnId)?.();
    this.#retries.delete(turnId);
    this.#outbox.remove(turnId);
    this.#notify();
  }

  /** Stops the turn `turnId`, else all running ones, else the agent's background work. False without a connection. */
  cancel(chatId: ChatId, turnId?: TurnId): boolean {
    if (!this.#connection.send({ type: "cancel", chat_id: chatId, ...(turnId !== undefined && { turn_id: turnId }) })) return false;
    const chat = this.#chatsById.get(chatId);
    if (chat) this.#chatsById.set(chatId, stopRequested(chat, turnId));
    this.#notify();
    return true;
  }

  /** Answers a request. False without a connection; not sent later, since by then somebody else may have answered it. */
  respond(chatId: ChatId, requestId: RequestId, answer: Answer): boolean {
    if (!this.#connection.send({ type: "respond", chat_id: chatId, request_id: requestId, ...answer })) return false;
    this.#answers.begin(chatId, requestId);
    this.#notify();
    return true;
  }

  /** Why the gateway refused the last answer to an open request. */
  refusal(chatId: ChatId, requestId: RequestId): Refusal | undefined { return this.#answers.refusal(chatId, requestId); }

  /** The input that `loadInput` loads, as far as it has arrived. */
  input(chatId: ChatId, requestId: RequestId): WholeInput | undefined { return this.#inputs.get(chatId, requestId); }

  /** Loads and hashes the whole input of an open request whose event has it truncated or not exactly as the agent wrote it. */
  loadInput(chatId: ChatId, request: PermissionRequest): void { this.#inputs.load(chatId, request); }

  /** Requests a new title for a chat; the state changes when the gateway confirms it. False without a connection. */
  rename(chatId: ChatId, title: string): boolean {
    return this.#connection.send({ type: "rename_chat", chat_id: chatId, title });
  }

  /** Requests that a chat be deleted for good; the state changes when the gateway confirms it. False without a connection. */
  delete(chatId: ChatId): boolean {
    return this.#connection.send({ type: "delete_chat", chat_id: chatId });
  }

  /** Loads the page of history before the chat's oldest turn. */
  loadOlder(chatId: ChatId): void {
    const before = this.#chatsById.get(chatId)?.before;
    if (before === undefined || this.#history.isPending(chatId)) return;
    if (!this.#connection.send({ type: "history", chat_id: chatId, before, limit: HISTORY_PAGE_EVENTS })) return;
    this.#history.begin(chatId);
    this.#notify();
  }

  /** Lists the newest chats again, or with `older` the ones after the last in the list. */
  listChats(older = false): void {
    const request = this.chats.request(older, this.#environment.now());
    if (request && !this.#connection.send(request)) this.chats.reset();
  }

  #listChatsSoon(): void {
    this.#cancelList ??= this.#environment.after(LIST_DELAY_MS, () => {
      this.#cancelList = undefined;
      if (this.chats.isPending(this.#environment.now())) this.#listChatsSoon();
      else this.listChats();
    });
  }

  #notify(): void {
    for (const listener of this.#changeListeners) listener();
  }

  #attach(chatId: ChatId): void {
    const cursor = this.#chatsById.get(chatId)?.cursor;
    this.#connection.send({ type: "attach", chat_id: chatId, ...(cursor && { after: cursor }) });
  }

  #disconnected(code: number): void {
    // Sent again, a message that is too long would close each new connection.
    if (code === CLOSE.tooBig) {
      for (const entry of this.#inFlight.values()) {
        this.#outbox.put({ ...entry, failure: { code: "too_large", detail: "The message is longer than the gateway accepts." } });
      }
    }
    this.#degraded = undefined; // the gateway sends the notice again on a new connection
    this.#inFlight.clear();
    this.#reattaching.clear();
    this.#answers.clear();
    this.#inputs.clear();
    this.#history.clear();
    for (const { cancel } of this.#attachRetries.values()) cancel();
    this.#attachRetries.clear();
    this.#cancelList?.();
    this.#cancelList = undefined;
    this.chats.reset();
    this.#notify();
  }

  #receive(event: ServerEvent): void {
    if (isChatEvent(event)) this.#receiveChatEvent(event);
    else this.#receiveControl(event);
    this.#notify();
  }

  #receiveControl(event: Exclude<ServerEvent, ChatEvent>): void {
    switch (event.event) {
      case "ready":
        return this.#ready(event);
      case "chats":
        return this.chats.receive(event);
      case "chats_changed":
        return this.#listChatsSoon();
      case "error":
        return this.#receiveError(event);
      case "request_input":
        return this.#inputs.receive(event);
      case "notice":
        if (event.code === "degraded") this.#degraded = event.level === "error" ? event.text : undefined;
        return;
      case "pong":
        return;
      case "message_accepted":
        return this.#messageAccepted(event);
      case "history":
        // A page that is not awaited any more would continue turns that a snapshot has replaced.
        if (!this.#history.end(event.chat_id)) return;
        break;
      case "snapshot":
        if (event.part === 0) this.#history.end(event.chat_id);
        for (const each of event.events) this.#acknowledgeMessage(each);
        for (const each of event.state?.queue ?? []) this.#acknowledgeMessage(each);
        break;
      case "session_updated":
        if (event.scope === "deleted") return this.#chatDeleted(event.chat_id);
        if (this.#chatsById.has(event.chat_id) || this.chats.has(event.chat_id)) {
          this.chats.touch(event.chat_id, this.#environment.now(), event.title === undefined ? {} : { title: event.title });
        } else this.#listChatsSoon(); // a new chat of another client, or one that is not loaded in the list
        break;
      default:
    }
    if (!("chat_id" in event) || event.chat_id === undefined) return;
    const chat = this.#chatsById.get(event.chat_id);
    if (!chat) return; // never opened here
    if (event.event === "attached") {
      this.#reattaching.delete(event.chat_id);
      this.#creating.delete(event.chat_id);
      this.#attachRetries.delete(event.chat_id);
    } else if (this.#reattaching.has(event.chat_id)) return;
    const behind = event.event === "replay_end" && chat.cursor !== undefined
      && (chat.cursor.epoch !== event.epoch || chat.cursor.seq < event.seq);
    if (behind) return this.#recoverFromGap(event.chat_id);
    const next = applyControl(chat, event);
    this.#chatsById.set(event.chat_id, next);
    // A stop that was requested on the previous connection may have been lost with it.
    for (const turn_id of event.event === "replay_end" ? next.stopping : []) this.#connection.send({ type: "cancel", chat_id: next.id, turn_id });
  }

  /** Forgets a chat that was deleted, and drops the messages that waited to be sent to it. */
  #chatDeleted(chatId: ChatId): void {
    for (const { turnId } of this.#outbox.of(chatId)) this.#removeUnsent(chatId, turnId);
    this.#forget(chatId);
    const chat = this.#chatsById.get(chatId);
    if (chat) this.#chatsById.set(chatId, { ...chat, deleted: true });
  }

  /** Ends what is under way for a chat that the gateway does not have, and removes it from the list. */
  #forget(chatId: ChatId): void {
    this.#history.end(chatId);
    this.#openChats.delete(chatId);
    this.#creating.delete(chatId);
    this.#reattaching.delete(chatId);
    this.chats.remove(chatId);
    const chat = this.#chatsById.get(chatId);
    if (chat) this.#chatsById.set(chatId, { ...emptyChat(chatId, "unknown"), ...(chat.deleted && { deleted: true as const }) });
  }

  #ready(event: Control<"ready">): void {
    this.#limits = event.limits;
    this.#agent = agentIn(event.agent);
    for (const chatId of this.#openChats) {
      if (this.#chatsById.get(chatId)?.phase !== "new") this.#attach(chatId);
    }
    for (const chatId of new Set(this.#outbox.all().map((entry) => entry.chatId))) this.#flush(chatId);
    this.listChats();
  }

  /** Applies a chat event, once and in order. */
  #receiveChatEvent(event: ChatEvent): void {
    this.#acknowledgeMessage(event);
    const { chat_id: chatId } = event;
    const chat = this.#chatsById.get(chatId);
    if (!chat || !this.#openChats.has(chatId) || this.#reattaching.has(chatId)) return;
    switch (sequencePosition(chat, event)) {
      case "duplicate":
        return;
      case "gap":
        return this.#recoverFromGap(chatId);
      case "next":
        this.#gaps.delete(chatId);
        this.#chatsById.set(chatId, applyEvent(chat, event));
        // A new request may have the id of an earlier one; an answer that was sent was to the earlier one.
        if (event.event === "request_resolved" || event.event === "permission_request" || event.event === "question") {
          this.#answers.drop(event.chat_id, event.request_id);
          this.#inputs.drop(event.chat_id, event.request_id);
        }
        this.#updateChatList(event);
    }
  }

  #recoverFromGap(chatId: ChatId): void {
    const chat = this.#chatsById.get(chatId);
    const gaps = (this.#gaps.get(chatId) ?? 0) + 1;
    this.#gaps.set(chatId, gaps);
    if (!chat || gaps > 3) return; // attaching again does not help
    this.#reattaching.add(chatId);
    // The first time the client resumes from its cursor; if that leaves a gap too, it starts from a snapshot.
    if (gaps > 1) this.#chatsById.set(chatId, emptyChat(chatId));
    this.#attach(chatId);
  }

  #messageAccepted(event: Control<"message_accepted">): void {
    const entry = this.#outbox.get(event.turn_id) ?? this.#inFlight.get(event.chat_id);
    const content = entry?.turnId === event.turn_id ? entry.content : "";
    this.#removeUnsent(event.chat_id, event.turn_id);
    if (!event.duplicate) this.#receiveChatEvent(acceptedEvent(event, content, this.#environment.now()));
    this.#flush(event.chat_id);
  }

  /** Removes a message from the outbox once its `user_message` is in the chat's log, even if `message_accepted` was lost. */
  #acknowledgeMessage(event: ChatEvent): void {
    if (event.event !== "user_message" || event.turn_id === undefined || !this.#outbox.get(event.turn_id)) return;
    this.#removeUnsent(event.chat_id, event.turn_id);
    this.#flush(event.chat_id);
  }

  #removeUnsent(chatId: ChatId, turnId: TurnId): void {
    this.#retries.get(turnId)?.();
    this.#retries.delete(turnId);
    this.#outbox.remove(turnId);
    if (this.#inFlight.get(chatId)?.turnId === turnId) this.#inFlight.delete(chatId);
  }

  /** Sends the chat's next message unless one is in flight or waits for its retry. */
  #flush(chatId: ChatId): void {
    if (this.#inFlight.has(chatId)) return;
    const entry = this.#outbox.of(chatId).find((each) => !each.failure);
    if (!entry || this.#retries.has(entry.turnId)) return;
    const limit = this.#limits?.text_bytes;
    if (limit !== undefined && utf8Length(entry.content) > limit) {
      const detail = `The message is longer than the ${Math.floor(limit / 1024)} KiB that the gateway accepts.`;
      this.#outbox.put({ ...entry, failure: { code: "too_large", detail } });
      return this.#flush(chatId);
    }
    const { turnId, content } = entry;
    if (!this.#connection.send({ type: "message", chat_id: chatId, content, turn_id: turnId })) return;
    this.#inFlight.set(chatId, entry);
    const chat = this.#chatsById.get(chatId);
    if (!chat) this.#chatsById.set(chatId, emptyChat(chatId));
    else if (chat.phase === "new" || chat.phase === "unknown") {
      this.#creating.add(chatId);
      this.#chatsById.set(chatId, { ...chat, phase: "loading" });
    }
    this.#openChats.add(chatId); // the gateway attaches the sender of a message
  }

  #receiveError(event: ErrorEvent): void {
    const { chat_id: chatId, turn_id: turnId, request_id: requestId } = event;
    const entry = turnId === undefined ? undefined : this.#outbox.get(turnId);
    if (entry) return this.#messageRefused(entry, event);
    if (chatId !== undefined && requestId !== undefined) {
      if (event.code === "input_unseen" || this.#inputs.get(chatId, requestId)?.phase === "loading") this.#inputs.drop(chatId, requestId);
      if (this.#answers.fail(chatId, requestId, event)) return; // the page shows the refusal at the request
    }
    else if (chatId !== undefined && turnId !== undefined && this.#chatsById.get(chatId)?.stopping.includes(turnId)) this.#chatsById.set(chatId, stopSettled(this.#chatsById.get(chatId)!, turnId));
    else if (chatId !== undefined && turnId === undefined) {
      if (event.code === "unknown_chat") {
        this.#history.end(chatId);
        // A message in the outbox will create the chat.
        if (!this.#outbox.of(chatId).some((each) => !each.failure)) this.#forget(chatId);
        return;
      }
      if (this.#history.fail({ ...event, chat_id: chatId })) return;
      if (event.code === "damaged") return this.#chatDamaged(chatId);
      if (event.retryable && this.#openChats.has(chatId) && this.#chatsById.get(chatId)?.phase === "loading") this.#attachLater(chatId, event);
    }
    if (event.code === "unauthorized") return; // the status says so, too
    for (const listener of this.#errorListeners) listener(event);
  }

  /** Ends the subscription of a chat whose log is damaged. Turns that were received before stay visible. */
  #chatDamaged(chatId: ChatId): void {
    const chat = this.#chatsById.get(chatId);
    this.#openChats.delete(chatId);
    this.#reattaching.delete(chatId);
    if (chat) this.#chatsById.set(chatId, { ...chat, phase: "damaged" });
  }

  /** Attaches a chat again after a backoff; without that, a refusal would leave the chat in phase `loading`. */
  #attachLater(chatId: ChatId, { retry_after_ms }: ErrorEvent): void {
    const previous = this.#attachRetries.get(chatId);
    previous?.cancel();
    const attempt = previous === undefined ? 0 : previous.attempt + 1;
    const cancel = this.#environment.after((retry_after_ms ?? 0) + backoff(attempt, this.#environment.random()), () => {
      if (this.#openChats.has(chatId) && this.#chatsById.get(chatId)?.phase === "loading") this.#attach(chatId);
    });
    this.#attachRetries.set(chatId, { cancel, attempt });
  }

  #messageRefused(entry: Unsent, { code, detail, retryable, retry_after_ms }: ErrorEvent): void {
    const { chatId, turnId } = entry;
    if (this.#inFlight.get(chatId)?.turnId === turnId) this.#inFlight.delete(chatId);
    const { delay, ...rest } = entry;
    if (this.#creating.delete(chatId)) {
      // The message would have created and attached the chat.
      this.#openChats.delete(chatId);
      this.#chatsById.set(chatId, emptyChat(chatId, "new"));
    }
    if (!retryable) {
      this.#outbox.put({ ...rest, failure: { code, detail } });
      return this.#flush(chatId);
    }
    const attempt = (delay?.attempt ?? -1) + 1;
    this.#outbox.put({ ...rest, delay: { code, detail, attempt } });
    // Never before the time that the gateway gave, and with jitter, so that several tabs do not retry at once.
    const wait = (retry_after_ms ?? 0) + backoff(attempt, this.#environment.random());
    this.#retries.get(turnId)?.();
    this.#retries.set(turnId, this.#environment.after(wait, () => {
      this.#retries.delete(turnId);
      this.#flush(chatId);
      this.#notify();
    }));
  }

  /** Updates the chat list from the events of attached chats, without listing the chats again. */
  #updateChatList(event: ChatEvent): void {
    const now = this.#environment.now();
    if (event.event === "user_message" || (event.event === "turn_started" && event.origin === "agent")) this.chats.touch(event.chat_id, now, { running: true });
    if (event.event === "turn_end") {
      const chat = this.#chatsById.get(event.chat_id);
      this.chats.touch(event.chat_id, now, { running: chat?.turns.some((turn) => turn.phase !== "done") ?? false });
    }
  }
}
