/** A typed client for Switchboard over WebSocket or server-sent events. It does not use the DOM. */
export type { Refusal } from "./answers.ts";
export { Client, type ClientOptions } from "./client.ts";
export { isChatEvent, openRequests, agentTurn, runningTurn, subagentOf, turnToStop, worksInBackgroundOnly, type Chat, type Control } from "./chat.ts";
export { Connection, CLOSE, type Addresses, type Closed, type ConnectionHandlers, type Status, type Transport } from "./connection.ts";
export { defaultEnvironment, type Environment, type KeyValueStore, type SocketLike } from "./environment.ts";
export type { WholeInput } from "./input.ts";
export type { Unsent } from "./outbox.ts";
export type { Item, NoticeItem, RequestItem, TaskItem, TextItem, ToolItem } from "./items.ts";
export { shownItems, type ShownItems } from "./subagents.ts";
export { hasAnswer, type Turn, type TurnEnd } from "./turns.ts";
export type * from "./wire.ts";
