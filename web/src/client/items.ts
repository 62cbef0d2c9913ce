/** The items of a turn: what the agent said, used, asked and was told. */
import type {
  ChatEvent, Cursor, FileEdit, NoticeLevel, PermissionRequest, Question, Resolution, Source, Task, TaskStatus, ToolLocation, ToolMedia,
} from "./wire.ts";

/** A tool's streamed output is held to this many characters: the newest ones. */
const MAX_OUTPUT_CHARACTERS = 65_536;

interface Part {
  /** Identifies the item within its turn. */
  readonly key: string;
  /** The tool use of a subagent that the item belongs to; absent for what the agent itself does. */
  readonly parent?: string;
}

/** Text of the agent: a stream of its answer or thinking, or a whole message. */
export interface TextItem extends Part {
  readonly kind: "text" | "thinking" | "note";
  readonly text: string;
  /** More text may follow. */
  readonly open: boolean;
  /** The agent abandoned the stream; its text is no part of the answer. */
  readonly void: boolean;
  /** `text` is the complete text and replaces what the stream had before; otherwise `text` is appended. */
  readonly whole: boolean;
  /** The pages that the agent cites in the text. */
  readonly sources?: readonly Source[];
}

/** One use of a tool, with the files that it changed. */
export interface ToolItem extends Part {
  readonly kind: "tool";
  readonly callId: string;
  /** The position of the event with which the use began. Agents may use a call id again, so the position tells such uses apart. */
  readonly began?: Cursor;
  readonly name: string;
  /** One line for people that says what the use does. */
  readonly title?: string;
  readonly locations?: readonly ToolLocation[];
  readonly arguments?: unknown;
  /** `arguments` are the beginning of the input: the agent still writes it, or it was cut to the limit. */
  readonly inputGoesOn?: boolean;
  /** `edited`: only `edits` are known, since no event of the use itself has arrived. */
  readonly status: "running" | "done" | "error" | "stopped" | "edited";
  /** The newest part of the output that was streamed while the tool ran. */
  readonly output?: string;
  /** The output was longer than `output`, which has its end. */
  readonly outputCut?: true;
  readonly result?: string;
  readonly error?: string;
  /** Output, result or error were cut to the limit. */
  readonly truncated: boolean;
  readonly media?: readonly ToolMedia[];
  readonly sources?: readonly Source[];
  readonly edits: readonly FileEdit[];
  /** Whether the background task that the use began runs, or how it ended. Only `shownItems` says so. */
  readonly task?: TaskStatus;
}

/** A permission request or a question of the agent; open while it has no `resolution`. */
export interface RequestItem extends Part {
  readonly kind: "request";
  readonly requestId: string;
  /**
   * The position of the request's event. Agents may use a request id again, so the position tells such requests apart.
   * Absent where only the resolution is known because the history page with the request is not loaded.
   */
  readonly at?: Cursor;
  readonly permission?: PermissionRequest;
  readonly question?: Question;
  readonly resolution?: Resolution;
}

/** A message of the gateway or the agent to the person, beside the answer. */
export interface NoticeItem extends Part {
  readonly kind: "notice";
  readonly level: NoticeLevel;
  /** Identifies the kind of notice for programs. */
  readonly code: string;
  readonly text: string;
}

/** The end of a background task. */
export interface TaskItem extends Part {
  readonly kind: "task";
  readonly task: Task;
}

export type Item = TextItem | ToolItem | RequestItem | NoticeItem | TaskItem;

/** The items that one event adds or changes. Requests are not among them, since an earlier one may have the same id. */
export function itemsOf(event: ChatEvent): readonly Exclude<Item, RequestItem>[] {
  const position = `${event.epoch}.${event.seq}`;
  const parent = event.parent_call_id === undefined ? {} : { parent: event.parent_call_id };
  const scope = event.parent_call_id === undefined ? "" : `${event.parent_call_id} `;
  const stream = (kind: "text" | "thinking", id: string, rest: Partial<TextItem>): TextItem => ({ kind, key: `${kind} ${scope}${id}`, text: "", open: true, void: false, whole: false, ...parent, ...rest });
  const tool = (callId: string, name: string, rest: Partial<ToolItem>): ToolItem => ({ kind: "tool", key: `tool ${scope}${callId}`, callId, name, status: "edited", truncated: false, edits: [], ...parent, ...rest });
  switch (event.event) {
    case "delta":
      return [stream("text", event.stream_id, { text: event.text })];
    case "reasoning_delta":
      return [stream("thinking", event.stream_id, { text: event.text })];
    case "stream_end":
      return [stream("text", event.stream_id, {
        open: false, void: event.void ?? false,
        ...(event.text !== undefined && { text: event.text, whole: true }),
        ...(event.sources && { sources: event.sources }),
      })];
    case "reasoning_end":
      return [stream("thinking", event.stream_id, { open: false, void: event.void ?? false })];
    case "message": {
      if (event.kind === "tool_hint") return []; // repeats a `tool_event` in an older form
      const kind = event.kind === "progress" ? "note" : "text";
      return [{ kind, key: `message ${position}`, text: event.text, open: false, void: false, whole: true, ...parent }];
    }
    case "notice":
      return [{ kind: "notice", key: `notice ${position}`, level: event.level, code: event.code, text: event.text, ...parent }];
    case "tool_event":
      return [tool(event.call_id, event.name, {
        status: event.phase === "end" ? "done" : event.phase === "error" ? (event.stopped ? "stopped" : "error") : "running",
        truncated: (event.truncated ?? false) && !("arguments" in event),
        ...(event.phase === "start" && { began: { epoch: event.epoch, seq: event.seq } }),
        ...(event.title !== undefined && { title: event.title }),
        ...(event.locations && { locations: event.locations }),
        ...("arguments" in event && { arguments: event.arguments, inputGoesOn: event.truncated ?? false }),
        ...(event.output !== undefined && boundedOutput(event.output)),
        ...(event.result !== undefined && { result: event.result }),
        ...(event.error !== undefined && { error: event.error }),
        ...(event.media && { media: event.media }),
        ...(event.sources && { sources: event.sources }),
      })];
    case "file_edit":
      return event.edits.map((edit) => tool(edit.call_id, edit.tool, { edits: [edit] }));
    case "task": {
      // The list of running tasks is state of the chat; the log has a line for each end. It is not folded below the tool
      // use that began the task, which may be long past.
      const { task_id, kind, title, status, parent_call_id } = event;
      const task = { task_id, kind, title, status, ...(parent_call_id !== undefined && { parent_call_id }) };
      return status === "running" ? [] : [{ kind: "task", key: `task ${position}`, task }];
    }
    default:
      return [];
  }
}

/** Whether a tool use begins that only has the call id of an earlier, ended one. */
export function isLaterUse(item: Item, next: Item): next is ToolItem {
  if (item.kind !== "tool" || next.kind !== "tool" || !next.began) return false;
  if (item.began) return item.began.epoch !== next.began.epoch || item.began.seq !== next.began.seq;
  return item.status !== "running" && item.status !== "edited";
}

export function keyOfLaterUse({ parent, callId, began }: ToolItem): string {
  return `tool ${parent === undefined ? "" : `${parent} `}${callId} ${began?.epoch}.${began?.seq}`;
}

/** Joins what a later event says about an item with what is known. */
export function mergeItem(item: Item, next: Item): Item {
  if (item.kind === "request" || next.kind === "request") return { ...item, ...next } as Item;
  if (item.kind === "notice" || next.kind === "notice" || item.kind === "task" || next.kind === "task") return next;
  if (item.kind !== "tool" && next.kind !== "tool") {
    return { ...item, ...next, text: next.whole ? next.text : item.text + next.text };
  }
  if (item.kind !== "tool" || next.kind !== "tool") return next;
  return {
    ...item, ...next,
    status: next.status === "edited" || (next.status === "running" && item.status !== "edited") ? item.status : next.status,
    truncated: item.truncated || next.truncated,
    edits: [...item.edits, ...next.edits],
    ...(item.output !== undefined && next.output !== undefined && boundedOutput(item.output + next.output)),
    ...((item.outputCut || next.outputCut) && { outputCut: true as const }),
  };
}

function boundedOutput(output: string): { output: string; outputCut?: true } {
  return output.length <= MAX_OUTPUT_CHARACTERS ? { output } : { output: output.slice(-MAX_OUTPUT_CHARACTERS), outputCut: true };
}

/** Closes an item that is still open when its turn has ended. A subagent's tool uses may go on in the background. */
export function closeItem(item: Item): Item {
  switch (item.kind) {
    case "tool": return item.status === "running" && item.parent === undefined ? { ...item, status: "stopped" } : item;
    case "request": return item.resolution ? item : { ...item, resolution: "turn_ended" };
    case "notice":
    case "task": return item;
    default: return item.open ? { ...item, open: false } : item;
  }
}
