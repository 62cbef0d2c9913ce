/** The client: chats that follow the gateway's log, messages that arrive once, over a connection that comes back. */
import { agentIn } from "./agent.ts";
import { backoff } from "./backoff.ts";
import {
  acceptedEvent, applyControl, applyEvent, emptyChat, isChatEvent, placeOf, stopAsked, stopRefused, type Chat, type Control,
} from "./chat.ts";
import { ChatList } from "./chat-list.ts";
import { CLOSE, Connection, type Status, type Way } from "./connection.ts";
import type { Environment, KeyValueStore } from "./environment.ts";
import { Inputs, utf8Length, type WholeInput } from "./input.ts";
import { Older } from "./older.ts";
import { Outbox, type Unsent } from "./outbox.ts";
import type { AgentState, Answer, ChatEvent, ChatId, ErrorEvent, PermissionRequest, RequestId, ServerEvent, TurnId, WireLimits } from "./wire.ts";

/** An answer that takes longer is asked for again, should anybody want it. */
const ANSWER_WITHIN_MS = 15_000;
/** Chats that stay subscribed while others are looked at. */
const ATTACHED_CHATS = 8;
const HISTORY_PAGE_EVENTS = 500;
/** Chats that are announced within this are asked for together. */
const ANNOUNCED_WITHIN_MS = 200;

export interface ClientOptions {
  /** Of the WebSocket. */
  url: () => string;
  /** Where no WebSocket can be had: server-sent events below this address, which ends in a slash. Without, none are used. */
  fallback?: () => string;
  /** Undefined: the gateway needs none, or somebody has to be asked. */
  token: () => string | undefined;
  environment: Environment;
  /** Where unsent messages survive a reload. */
  store?: KeyValueStore;
  /** What the keys in `store` begin with. */
  storePrefix?: string;
}

/** Why an answer was not taken. Its request is still open. */
export interface Refusal extends ErrorEvent {
  /** Grows with each refusal, so that the same words twice are two. */
  readonly nth: number;
}

export class Client {
  readonly chats = new ChatList();
  #environment: Environment;
  #connection: Connection;
  #outbox: Outbox;
  #views = new Map<ChatId, Chat>();
  /** Attached, or about to be; least recently opened first. */
  #open = new Set<ChatId>();
  /** Sent and not yet answered, on this connection. One per chat, so that order is kept. */
  #inFlight = new Map<ChatId, Unsent>();
  #retries = new Map<TurnId, () => void>();
  /** Answers on their way, until the request is resolved or the connection is lost. */
  #responding = new Set<string>();
  #inputs: Inputs;
  /** Of answers to requests that are still open. */
  #refusals = new Map<string, Refusal>();
  #refusalsSeen = 0;
  #older: Older;
  /** Set while chats that others made are about to be asked for. */
  #cancelList: (() => void) | undefined;
  /** Subscriptions that were refused and are tried again, and how often they were. */
  #attachRetries = new Map<ChatId, { cancel: () => void; attempt: number }>();
  #holes = new Map<ChatId, number>();
  /** Attached again after a hole: until `attached`, what comes belongs to the broken sequence. */
  #reattaching = new Set<ChatId>();
  /** Chats that a message in flight is about to make. */
  #making = new Set<ChatId>();
  #limits: WireLimits | undefined;
  #agent: AgentState | undefined;
  #degraded: string | undefined;
  #changed = new Set<() => void>();
  #errors = new Set<(error: ErrorEvent) => void>();

  constructor(options: ClientOptions) {
    this.#environment = options.environment;
    this.#outbox = new Outbox(options.store, options.storePrefix ?? "switchboard:");
    this.#connection = new Connection(options.environment, { url: options.url, fallback: options.fallback }, options.token, {
      status: () => this.#notify(),
      event: (event) => this.#receive(event),
      down: (code) => this.#down(code),
    });
    const ask = (chatId: ChatId, requestId: RequestId, offset: number) => this.#connection.send({ type: "request_input", chat_id: chatId, request_id: requestId, offset });
    this.#older = new Older(options.environment, ANSWER_WITHIN_MS, () => this.#notify());
    this.#inputs = new Inputs(options.environment, ask, () => this.#notify());
  }

  /** Connects, or connects anew, for instance with another token. */
  start(): void { this.#connection.start(); }
  stop(): void { this.#connection.stop(); }
  /** To be called when the network or the page is back. */
  wake(): void { this.#connection.wake(); }
  get status(): Status { return this.#connection.status; }
  /** How it is connected. */
  get way(): Way { return this.#connection.way; }
  get limits(): WireLimits | undefined { return this.#limits; }
  /** Why nothing that is sent can be kept at the moment. */
  get degraded(): string | undefined { return this.#degraded; }
  /** The agent of chats that have not told one of their own. */
  get agent(): AgentState | undefined { return this.#agent; }

  /** Called after anything changed; read the getters then. */
  onChange(listener: () => void): () => void {
    this.#changed.add(listener);
    return () => this.#changed.delete(listener);
  }

  /** Errors that no message or chat shows by itself. */
  onError(listener: (error: ErrorEvent) => void): () => void {
    this.#errors.add(listener);
    return () => this.#errors.delete(listener);
  }

  /** Whether a chat is followed, so that its view is of now. */
  isFollowed(chatId: ChatId): boolean { return this.#open.has(chatId) && this.#views.get(chatId)?.phase === "live"; }
  chat(chatId: ChatId): Chat | undefined { return this.#views.get(chatId); }
  unsent(chatId: ChatId): Unsent[] { return this.#outbox.of(chatId); }
  isSending(turnId: TurnId): boolean { return [...this.#inFlight.values()].some((entry) => entry.turnId === turnId); }
  isResponding(chatId: ChatId, requestId: RequestId): boolean { return this.#responding.has(`${chatId} ${requestId}`); }
  isLoadingOlder(chatId: ChatId): boolean { return this.#older.isLoading(chatId); }
  /** Why the last `loadOlder` came to nothing. */
  olderRefusal(chatId: ChatId): ErrorEvent | undefined { return this.#older.refusal(chatId); }
  newChatId(): ChatId { return this.#environment.newId(); }

  /** Follows a chat. `fresh`: it does not exist before its first message. */
  open(chatId: ChatId, fresh = false): void {
    const known = this.#views.get(chatId);
    if (!known) this.#views.set(chatId, emptyChat(chatId, fresh ? "new" : "loading"));
    const attached = this.#open.delete(chatId);
    this.#open.add(chatId);
    if (!attached && !fresh) this.#attach(chatId);
    for (const oldest of this.#open) {
      if (this.#open.size <= ATTACHED_CHATS) break;
      if (oldest !== chatId && this.#outbox.of(oldest).length === 0) this.close(oldest);
    }
    this.#notify();
  }

  /** Ends the subscription; what was received stays for the next `open`. */
  close(chatId: ChatId): void {
    this.#open.delete(chatId);
    this.#connection.send({ type: "detach", chat_id: chatId });
  }

  /** Sends a message, now or as soon as there is a connection; exactly once. */
  send(chatId: ChatId, content: string): TurnId {
    const turnId = this.#environment.newId();
    this.#outbox.put({ chatId, turnId, content, createdAtMs: this.#environment.now() });
    this.#flush(chatId);
    this.#notify();
    return turnId;
  }

  /** Gives a refused or waiting message up; one that is in flight may still have arrived. */
  discard(turnId: TurnId): void {
    this.#retries.get(turnId)?.();
    this.#retries.delete(turnId);
    this.#outbox.remove(turnId);
    this.#notify();
  }

  /** Stops the running turn, or the one that is named. */
  cancel(chatId: ChatId, turnId?: TurnId): boolean {
    if (!this.#connection.send({ type: "cancel", chat_id: chatId, ...(turnId !== undefined && { turn_id: turnId }) })) return false;
    const chat = this.#views.get(chatId);
    if (chat) this.#views.set(chatId, stopAsked(chat, turnId));
    this.#notify();
    return true;
  }

  /** Answers a request. Not kept for later: by then somebody may have answered, or the agent may have moved on. */
  respond(chatId: ChatId, requestId: RequestId, answer: Answer): boolean {
    if (!this.#connection.send({ type: "respond", chat_id: chatId, request_id: requestId, ...answer })) return false;
    this.#responding.add(`${chatId} ${requestId}`);
    this.#notify();
    return true;
  }

  /** Why the last answer to an open request was not taken. */
  refusal(chatId: ChatId, requestId: RequestId): Refusal | undefined { return this.#refusals.get(`${chatId} ${requestId}`); }

  /** What was loaded of the whole input of a request. */
  input(chatId: ChatId, requestId: RequestId): WholeInput | undefined { return this.#inputs.get(chatId, requestId); }

  /** Loads the whole input of an open request whose event shows it cut or not exactly, and computes its hash. */
  loadInput(chatId: ChatId, request: PermissionRequest): void { this.#inputs.load(chatId, request); }

  /** Gives a chat a title; it shows once the gateway has it. False without a connection. */
  rename(chatId: ChatId, title: string): boolean {
    return this.#connection.send({ type: "rename_chat", chat_id: chatId, title });
  }

  /** Deletes a chat for everybody, for ever; it goes once it is gone there. False without a connection. */
  delete(chatId: ChatId): boolean {
    return this.#connection.send({ type: "delete_chat", chat_id: chatId });
  }

  /** Loads the page of history before what is there. */
  loadOlder(chatId: ChatId): void {
    const before = this.#views.get(chatId)?.before;
    if (before === undefined || this.#older.isLoading(chatId)) return;
    if (!this.#connection.send({ type: "history", chat_id: chatId, before, limit: HISTORY_PAGE_EVENTS })) return;
    this.#older.asked(chatId);
    this.#notify();
  }

  /** Asks for the newest chats again, or for those before the oldest known. */
  listChats(more = false): void {
    const request = this.chats.ask(more, this.#environment.now());
    if (request && !this.#connection.send(request)) this.chats.reset();
  }

  #listSoon(): void {
    this.#cancelList ??= this.#environment.after(ANNOUNCED_WITHIN_MS, () => {
      this.#cancelList = undefined;
      if (this.chats.isAwaiting(this.#environment.now())) this.#listSoon();
      else this.listChats();
    });
  }

  #notify(): void {
    for (const listener of this.#changed) listener();
  }

  #attach(chatId: ChatId): void {
    const cursor = this.#views.get(chatId)?.cursor;
    this.#connection.send({ type: "attach", chat_id: chatId, ...(cursor && { after: cursor }) });
  }

  #down(code: number): void {
    // A message that closes the connection would do so for ever.
    if (code === CLOSE.tooBig) {
      for (const entry of this.#inFlight.values()) {
        this.#outbox.put({ ...entry, failure: { code: "too_large", detail: "The message is longer than the gateway accepts." } });
      }
    }
    // Whoever connects gets it again.
    this.#degraded = undefined;
    this.#inFlight.clear();
    this.#reattaching.clear();
    this.#responding.clear();
    this.#inputs.clear();
    this.#older.clear();
    for (const { cancel } of this.#attachRetries.values()) cancel();
    this.#attachRetries.clear();
    this.#cancelList?.();
    this.#cancelList = undefined;
    this.chats.reset();
    this.#notify();
  }

  #receive(event: ServerEvent): void {
    if (isChatEvent(event)) this.#receiveNumbered(event, event);
    else this.#receiveControl(event);
    this.#notify();
  }

  #receiveControl(event: Exclude<ServerEvent, ChatEvent>): void {
    switch (event.event) {
      case "ready":
        return this.#ready(event);
      case "chats":
        return this.chats.receive(event);
      case "error":
        return this.#refused(event);
      case "request_input":
        return this.#inputs.receive(event);
      case "notice":
        if (event.code === "degraded") this.#degraded = event.level === "error" ? event.text : undefined;
        return;
      case "pong":
        return;
      case "message_accepted":
        return this.#accepted(event);
      case "history":
        // Nobody waits for it any more: what it continues has been replaced.
        if (!this.#older.answered(event.chat_id)) return;
        break;
      case "snapshot":
        if (event.part === 0) this.#older.answered(event.chat_id);
        for (const each of event.events) this.#acknowledge(each);
        for (const each of event.state?.queue ?? []) this.#acknowledge(each);
        break;
      case "session_updated":
        if (event.scope === "deleted") return this.#deleted(event.chat_id);
        if (this.#views.has(event.chat_id) || this.chats.has(event.chat_id)) {
          this.chats.touch(event.chat_id, this.#environment.now(), event.title === undefined ? {} : { title: event.title });
        } else this.#listSoon(); // made elsewhere just now, or renamed further down: the list knows which
        break;
      default:
    }
    if (!("chat_id" in event) || event.chat_id === undefined) return;
    // The gateway may speak of a chat that was made elsewhere or just left.
    const chat = this.#views.get(event.chat_id);
    if (!chat) return;
    if (event.event === "attached") {
      this.#reattaching.delete(event.chat_id);
      this.#making.delete(event.chat_id);
      this.#attachRetries.delete(event.chat_id);
    } else if (this.#reattaching.has(event.chat_id)) return;
    const behind = event.event === "replay_end" && chat.cursor !== undefined
      && (chat.cursor.epoch !== event.epoch || chat.cursor.seq < event.seq);
    if (behind) return this.#hole(event.chat_id);
    const next = applyControl(chat, event);
    this.#views.set(event.chat_id, next);
    // The stop may be lost with the connection before.
    if (event.event === "replay_end" && next.stopping !== undefined) this.#connection.send({ type: "cancel", chat_id: next.id, turn_id: next.stopping });
  }

  /** With everything in it, and what was about to be sent to it. */
  #deleted(chatId: ChatId): void {
    for (const { turnId } of this.#outbox.of(chatId)) this.#settle(chatId, turnId);
    this.#gone(chatId);
  }

  #gone(chatId: ChatId): void {
    this.#older.answered(chatId);
    this.#open.delete(chatId);
    this.#making.delete(chatId);
    this.#reattaching.delete(chatId);
    this.chats.remove(chatId);
    if (this.#views.has(chatId)) this.#views.set(chatId, emptyChat(chatId, "unknown"));
  }

  #ready(event: Control<"ready">): void {
    this.#limits = event.limits;
    this.#agent = agentIn(event.agent);
    for (const chatId of this.#open) {
      if (this.#views.get(chatId)?.phase !== "new") this.#attach(chatId);
    }
    for (const chatId of new Set(this.#outbox.all().map((entry) => entry.chatId))) this.#flush(chatId);
    this.listChats();
  }

  /** Applies what has a number, once and in order. */
  #receiveNumbered(place: { chat_id: ChatId; epoch: string; seq: number; first_seq?: number }, event: ChatEvent): void {
    this.#acknowledge(event);
    const chat = this.#views.get(place.chat_id);
    if (!chat || !this.#open.has(place.chat_id) || this.#reattaching.has(place.chat_id)) return;
    switch (placeOf(chat, place)) {
      case "had":
        return;
      case "hole":
        return this.#hole(place.chat_id);
      case "next":
        this.#holes.delete(place.chat_id);
        this.#views.set(place.chat_id, applyEvent(chat, event));
        // Also an asking whose id was there before: the answer that was sent was not to it.
        if (event.event === "request_resolved" || event.event === "permission_request" || event.event === "question") {
          this.#responding.delete(`${event.chat_id} ${event.request_id}`);
          this.#refusals.delete(`${event.chat_id} ${event.request_id}`);
          this.#inputs.drop(event.chat_id, event.request_id);
        }
        this.#listed(event);
    }
  }

  #hole(chatId: ChatId): void {
    const chat = this.#views.get(chatId);
    const holes = (this.#holes.get(chatId) ?? 0) + 1;
    this.#holes.set(chatId, holes);
    if (!chat || holes > 3) return; // the gateway cannot do better
    this.#reattaching.add(chatId);
    // The cursor once more; should that not help, everything anew.
    if (holes > 1) this.#views.set(chatId, emptyChat(chatId));
    this.#attach(chatId);
  }

  #accepted(event: Control<"message_accepted">): void {
    const entry = this.#outbox.get(event.turn_id) ?? this.#inFlight.get(event.chat_id);
    const mine = entry?.turnId === event.turn_id ? entry : undefined;
    this.#settle(event.chat_id, event.turn_id);
    if (!event.duplicate) this.#receiveNumbered(event, acceptedEvent(event, mine?.content ?? "", this.#environment.now()));
    this.#flush(event.chat_id);
  }

  /** A message seen in the log has arrived, whoever says so. */
  #acknowledge(event: ChatEvent): void {
    if (event.event !== "user_message" || event.turn_id === undefined || !this.#outbox.get(event.turn_id)) return;
    this.#settle(event.chat_id, event.turn_id);
    this.#flush(event.chat_id);
  }

  #settle(chatId: ChatId, turnId: TurnId): void {
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
    const chat = this.#views.get(chatId);
    if (!chat) this.#views.set(chatId, emptyChat(chatId));
    else if (chat.phase === "new" || chat.phase === "unknown") {
      this.#making.add(chatId);
      this.#views.set(chatId, { ...chat, phase: "loading" });
    }
    this.#open.add(chatId); // the message attaches
  }

  #refused(event: ErrorEvent): void {
    const { chat_id: chatId, turn_id: turnId, request_id: requestId } = event;
    const entry = turnId === undefined ? undefined : this.#outbox.get(turnId);
    if (entry) return this.#refusedMessage(entry, event);
    if (chatId !== undefined && requestId !== undefined) {
      this.#responding.delete(`${chatId} ${requestId}`);
      if (event.code === "input_unseen" || this.#inputs.get(chatId, requestId)?.phase === "loading") this.#inputs.drop(chatId, requestId);
      if (event.code !== "unknown_request" && event.code !== "already_resolved") {
        // Said where it is asked, which it still is.
        this.#refusals.set(`${chatId} ${requestId}`, { ...event, nth: (this.#refusalsSeen += 1) });
        return;
      }
    }
    else if (chatId !== undefined && turnId !== undefined && this.#views.get(chatId)?.stopping === turnId) this.#views.set(chatId, stopRefused(this.#views.get(chatId)!));
    else if (chatId !== undefined && turnId === undefined) {
      if (event.code === "unknown_chat") {
        this.#older.answered(chatId);
        // An unsent message will make it.
        if (!this.#outbox.of(chatId).some((each) => !each.failure)) this.#gone(chatId);
        return;
      }
      // Said where it was asked for.
      if (this.#older.refuse({ ...event, chat_id: chatId })) return;
      if (event.code === "damaged") return this.#damaged(chatId);
      if (event.retryable && this.#open.has(chatId) && this.#views.get(chatId)?.phase === "loading") this.#attachLater(chatId, event);
    }
    // Said by the sign-in form.
    if (event.code === "unauthorized") return;
    for (const listener of this.#errors) listener(event);
  }

  /** Nothing of it can be followed; what was seen of it stays. */
  #damaged(chatId: ChatId): void {
    const chat = this.#views.get(chatId);
    this.#open.delete(chatId);
    this.#reattaching.delete(chatId);
    if (chat) this.#views.set(chatId, { ...chat, phase: "damaged" });
  }

  /** A subscription that is refused for now would leave its chat loading for ever. */
  #attachLater(chatId: ChatId, { retry_after_ms }: ErrorEvent): void {
    const before = this.#attachRetries.get(chatId);
    before?.cancel();
    const attempt = before === undefined ? 0 : before.attempt + 1;
    const cancel = this.#environment.after((retry_after_ms ?? 0) + backoff(attempt, this.#environment.random()), () => {
      if (this.#open.has(chatId) && this.#views.get(chatId)?.phase === "loading") this.#attach(chatId);
    });
    this.#attachRetries.set(chatId, { cancel, attempt });
  }

  #refusedMessage(entry: Unsent, { code, detail, retryable, retry_after_ms }: ErrorEvent): void {
    const { chatId, turnId } = entry;
    if (this.#inFlight.get(chatId)?.turnId === turnId) this.#inFlight.delete(chatId);
    const { delay, ...rest } = entry;
    if (this.#making.delete(chatId)) {
      // A refused message makes no chat, and no subscription.
      this.#open.delete(chatId);
      this.#views.set(chatId, emptyChat(chatId, "new"));
    }
    if (!retryable) {
      this.#outbox.put({ ...rest, failure: { code, detail } });
      return this.#flush(chatId);
    }
    const attempt = (delay?.attempt ?? -1) + 1;
    this.#outbox.put({ ...rest, delay: { code, detail, attempt } });
    // Not sooner than told, and with jitter so that tabs do not come at once.
    const wait = (retry_after_ms ?? 0) + backoff(attempt, this.#environment.random());
    this.#retries.get(turnId)?.();
    this.#retries.set(turnId, this.#environment.after(wait, () => {
      this.#retries.delete(turnId);
      this.#flush(chatId);
      this.#notify();
    }));
  }

  /** The list shows what is known of attached chats without asking. */
  #listed(event: ChatEvent): void {
    const now = this.#environment.now();
    if (event.event === "user_message") this.chats.touch(event.chat_id, now, { running: true });
    if (event.event === "turn_end") {
      const chat = this.#views.get(event.chat_id);
      this.chats.touch(event.chat_id, now, { running: chat?.turns.some((turn) => turn.phase !== "done") ?? false });
    }
  }
}
