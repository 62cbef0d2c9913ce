// A mock gateway in memory, for work on the page and for its tests. It stores nothing and checks little; the real gateway is
// the reference.
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname, join } from "node:path";
import { WebSocketServer } from "ws";
import { play } from "./agent.mjs";

const DIST = new URL("../../dist/", import.meta.url).pathname;
const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".woff2": "font/woff2", ".txt": "text/plain", ".webmanifest": "application/manifest+json" };
const CSP = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob: data:; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";
const PAGE_EVENTS = 60;
/**
 * Starts the mock. `agent` answers messages, by default the scripted one. `ready`: additional fields of `ready`. `inputPage`:
 * the size of a page of an input in bytes; no character may cross a page's end.
 */
export async function startMock({ port = 0, token = "secret", base = "/", agent = play, ready = {}, inputPage = 4096 } = {}) {
  const chats = new Map();
  const sockets = new Set();
  let refusing = false;
  const http = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://x");
    if (!pathname.startsWith(base)) return response.writeHead(404).end();
    const name = pathname.slice(base.length) || "index.html";
    try {
      if (name.includes("..")) throw new Error("outside");
      const body = await readFile(join(DIST, name));
      response.writeHead(200, { "content-type": TYPES[extname(name)] ?? "application/octet-stream", "content-security-policy": CSP, "x-content-type-options": "nosniff", "referrer-policy": "no-referrer" }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  const server = new WebSocketServer({ noServer: true, handleProtocols: () => "switchboard.v1" });
  http.on("upgrade", (request, socket, head) => {
    if (refusing || new URL(request.url, "http://x").pathname !== `${base}ws`) return socket.end("HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\r\n");
    server.handleUpgrade(request, socket, head, (ws) => connect(ws));
  });
  await new Promise((done) => http.listen(port, "127.0.0.1", done));
  const origin = `http://127.0.0.1:${http.address().port}${base}`;
  return {
    url: token ? `${origin}#token=${token}` : origin, origin, chats,
    /** Ends every connection without a close frame; with `refuse`, refuses new ones until `admit`. */
    kill({ refuse = false } = {}) { refusing = refuse; for (const ws of sockets) ws.terminate(); },
    admit() { refusing = false; },
    close() { for (const ws of sockets) ws.terminate(); http.closeAllConnections(); return new Promise((done) => http.close(done)); },
  };

  function connect(ws) {
    sockets.add(ws);
    const conn = { ws, attached: new Set(), ready: !token, send: (frame) => ws.readyState === 1 && ws.send(JSON.stringify(frame)) };
    ws.on("close", () => { sockets.delete(ws); for (const chat of chats.values()) chat.readers.delete(conn); });
    ws.on("message", (data) => {
      const frame = JSON.parse(String(data));
      if (!conn.ready) {
        if (frame.type !== "authenticate" || frame.token !== token) {
          conn.send({ event: "error", code: "unauthorized", detail: "The token is not valid.", retryable: false });
          return ws.close(4401);
        }
        conn.ready = true;
        return greet(conn);
      }
      receive(conn, frame);
    });
    if (conn.ready) greet(conn);
  }

  function greet(conn) {
    conn.send({ event: "ready", chat_id: "default", client_id: "page", protocol: "switchboard.v1", limits: { frame_bytes: 1 << 20, text_bytes: 1 << 18, chats_per_connection: 64, queued_turns: 16 }, ...ready });
  }

  function receive(conn, frame) {
    const error = (code, detail, rest = {}) => conn.send({ event: "error", code, detail, retryable: false, chat_id: frame.chat_id, ...rest });
    const chat = chats.get(frame.chat_id);
    switch (frame.type) {
      case "authenticate": return;
      case "ping": return conn.send({ event: "pong" });
      case "list_chats": {
        const all = [...chats.values()].sort((a, b) => b.updated - a.updated);
        return conn.send({ event: "chats", chats: all.map((each) => ({ chat_id: each.id, title: each.title, updated_at_ms: each.updated, running: isRunning(each), ...(each.requests.size > 0 && { waiting: true }), head: { epoch: each.epoch, seq: each.log.length } })) });
      }
      case "attach": return chat ? attach(conn, chat, frame.after) : error("unknown_chat", "There is no such chat.");
      case "detach": return chat?.readers.delete(conn);
      case "history": {
        const end = Number(frame.before);
        const from = Math.max(0, end - PAGE_EVENTS);
        return conn.send({ event: "history", chat_id: chat.id, events: chat.log.slice(from, end), ...(from > 0 && { before: String(from) }) });
      }
      case "message": return message(conn, chat ?? newChat(frame.chat_id), frame);
      case "rename_chat": {
        if (!chat) return error("unknown_chat", "There is no such chat.");
        chat.title = frame.title;
        return sendToAll({ event: "session_updated", chat_id: chat.id, scope: "metadata", title: chat.title });
      }
      case "delete_chat": {
        if (!chat) return error("unknown_chat", "There is no such chat.");
        for (const turn of [chat.running, chat.byItself]) if (turn) stop(chat, turn);
        chats.delete(chat.id);
        return sendToAll({ event: "session_updated", chat_id: chat.id, scope: "deleted" });
      }
      case "cancel": {
        const turns = frame.turn_id ? [chat.turns.get(frame.turn_id)] : [chat.byItself, chat.running];
        const known = turns.filter((turn) => turn && !turn.ended);
        if (!frame.turn_id && known.length === 0 && chat.tasks.size > 0) return [...chat.tasks.values()].forEach((task) => setTask(chat, { ...task, status: "stopped" }));
        return known.length > 0 ? known.forEach((turn) => stop(chat, turn)) : error("unknown_turn", "No turn runs.", { turn_id: frame.turn_id });
      }
      case "request_input": {
        const { whole, event } = chat?.requests.get(frame.request_id) ?? {};
        if (whole === undefined) return error("unknown_request", "Nothing is asked under this id.", { request_id: frame.request_id });
        const bytes = Buffer.from(whole);
        const end = Math.min(bytes.length, frame.offset + inputPage);
        return conn.send({ event: "request_input", chat_id: chat.id, request_id: frame.request_id, offset: frame.offset, text: bytes.subarray(frame.offset, end).toString(), ...(end < bytes.length && { next: end }), input_bytes: bytes.length, input_sha256: event.input_sha256 });
      }
      case "respond": {
        const open = chat.requests.get(frame.request_id);
        if (!open) return error("already_resolved", "Somebody answered first.", { request_id: frame.request_id });
        const { truncated, raw, input_sha256 } = open.event;
        if (frame.decision === "allow" && (truncated || raw || frame.input_sha256 !== undefined) && frame.input_sha256 !== input_sha256) return error("input_unseen", "The answer does not have the hash of the input.", { request_id: frame.request_id });
        const refused = open.refuse?.(frame);
        if (refused) return error(refused.code, refused.detail, { request_id: frame.request_id });
        chat.requests.delete(frame.request_id);
        const resolution = { allow: "allowed", deny: "denied", answer: "answered" }[frame.decision];
        append(chat, open.turn, { event: "request_resolved", request_id: frame.request_id, resolution });
        return open.answer(frame);
      }
      default: return error("unknown_type", "No such type.");
    }
  }

  function newChat(id) {
    const chat = { id, epoch: "e1", log: [], readers: new Set(), turns: new Map(), queue: [], tasks: new Map(), requests: new Map(), updated: Date.now() };
    chats.set(id, chat);
    return chat;
  }

  function attach(conn, chat, after) {
    chat.readers.add(conn);
    const head = chat.log.length;
    const recovered = after?.epoch === chat.epoch && after.seq <= head;
    conn.send({ event: "attached", chat_id: chat.id, epoch: chat.epoch, head, recovered, title: chat.title });
    if (recovered) for (const event of chat.log.slice(after.seq)) conn.send(event);
    else {
      const from = Math.max(0, head - PAGE_EVENTS);
      const events = chat.log.slice(from);
      const half = events.length >> 1;
      const stateOf = ({ id, reason }) => ({ turn_id: id, started_at_ms: Date.now(), ...(reason && { reason }) });
      const state = { queue: chat.queue.map((each) => each.event), requests: [...chat.requests.values()].map((each) => each.event), ...(chat.running && { turn: stateOf(chat.running) }), ...(chat.byItself && { agent_turn: stateOf(chat.byItself) }), ...(chat.tasks.size > 0 && { tasks: [...chat.tasks.values()] }) };
      const part = { event: "snapshot", chat_id: chat.id, epoch: chat.epoch, seq: head };
      conn.send({ ...part, part: 0, more: true, events: events.slice(0, half), ...(from > 0 && { before: String(from) }) });
      conn.send({ ...part, part: 1, more: false, events: events.slice(half), state });
    }
    conn.send({ event: "replay_end", chat_id: chat.id, epoch: chat.epoch, seq: head });
    if (chat.running) conn.send({ event: "goal_status", chat_id: chat.id, status: "running", turn_id: chat.running.id });
  }

  function message(conn, chat, { turn_id, content }) {
    if (!chat.readers.has(conn)) attach(conn, chat);
    const known = chat.turns.get(turn_id);
    const accepted = (turn, duplicate) => ({ event: "message_accepted", chat_id: chat.id, turn_id, starts_turn: turn.event.starts_turn, epoch: chat.epoch, seq: turn.event.seq, ...(duplicate && { duplicate }) });
    if (known) return conn.send(accepted(known, true));
    const starts_turn = !chat.running;
    const turn = { id: turn_id, text: content, stopped: false };
    chat.turns.set(turn_id, turn);
    turn.event = append(chat, turn, { event: "user_message", text: content, starts_turn, created_at_ms: Date.now() }, conn);
    conn.send(accepted(turn));
    if (!chat.title) {
      chat.title = content.split("\n")[0].slice(0, 60);
      broadcast(chat, { event: "session_updated", chat_id: chat.id, scope: "metadata", title: chat.title });
    }
    if (starts_turn) run(chat, turn);
    else chat.queue.push(turn);
  }

  async function run(chat, turn) {
    chat.running = turn;
    turn.startedAt = Date.now();
    append(chat, turn, { event: "turn_started", started_at_ms: turn.startedAt });
    // While the agent works by itself, the message waits.
    if (chat.byItself) await Promise.race([chat.byItself.end, new Promise((done) => { turn.wake = done; })]);
    const ending = turn.stopped ? { outcome: "cancelled" } : await play(chat, turn, agent);
    chat.running = undefined;
    end(chat, turn, ending);
    broadcast(chat, { event: "session_updated", chat_id: chat.id, scope: "thread", title: chat.title });
    const next = chat.queue.shift();
    if (next) run(chat, next);
  }

  /** Runs a turn that the agent begins by itself, once no other one runs. */
  async function runByItself(chat, reason, act) {
    const turn = { id: `~${chat.log.length + 1}.${chat.epoch}`, reason, text: "", stopped: false, startedAt: Date.now() };
    let ended;
    turn.end = new Promise((done) => { ended = done; });
    chat.turns.set(turn.id, turn);
    chat.byItself = turn;
    append(chat, turn, { event: "turn_started", origin: "agent", reason, started_at_ms: turn.startedAt });
    const ending = await play(chat, turn, act);
    chat.byItself = undefined;
    end(chat, turn, { origin: "agent", ...ending });
    ended();
  }

  /** Lets the agent answer. Gives how the turn is to end. */
  async function play(chat, turn, act) {
    let ending = { outcome: "completed" };
    await act({
      get stopped() { return turn.stopped; },
      emit: (body) => { if (!turn.stopped) append(chat, turn, body); },
      control: (body) => broadcast(chat, { ...body, chat_id: chat.id, turn_id: turn.id }),
      pause: (ms) => new Promise((done) => setTimeout(done, ms)),
      never: () => new Promise((done) => { turn.wake = done; }),
      /**
       * Asks the person. `whole`: the whole text of an input that `body` has truncated. `refuse` may give an error code and a
       * detail to refuse an answer.
       */
      ask: (body, whole, refuse) => new Promise((answer) => {
        turn.wake = () => answer({});
        const request_id = body.request_id ?? `q${chat.log.length}`;
        chat.requests.set(request_id, { turn, answer, whole, refuse, event: append(chat, turn, { ...body, request_id }) });
      }),
      fail: (code, detail) => { ending = { outcome: "failed", error: { code, detail } }; },
      interrupt: (code, detail) => { ending = { outcome: "interrupted", error: { code, detail } }; },
      /** Begins or ends a background task, outside of turns. False if the task has ended before. */
      task: (task) => setTask(chat, task),
      /** Begins a turn of the agent's own. */
      byItself: (reason, own) => runByItself(chat, reason, own),
    }, turn.text);
    for (const [id, open] of chat.requests) {
      if (open.turn !== turn) continue;
      chat.requests.delete(id);
      append(chat, turn, { event: "request_resolved", request_id: id, resolution: "turn_ended" });
    }
    closeTools(chat, turn);
    return turn.stopped ? { outcome: "cancelled" } : ending;
  }

  /** Ends the tool uses that the agent has left open, but for those of subagents, which may go on in the background. */
  function closeTools(chat, turn) {
    const open = new Map();
    for (const { event, turn_id, phase, call_id, name, parent_call_id } of chat.log) {
      if (event !== "tool_event" || turn_id !== turn.id || parent_call_id !== undefined) continue;
      if (phase === "start") open.set(call_id, name);
      else if (phase !== "update") open.delete(call_id);
    }
    for (const [call_id, name] of open) {
      append(chat, turn, { event: "tool_event", phase: "error", call_id, name, error: "no result came before the end of the turn", ...(turn.stopped && { stopped: true }) });
    }
  }

  function end(chat, turn, ending) {
    turn.ended = true;
    append(chat, turn, { event: "turn_end", latency_ms: Date.now() - turn.startedAt, usage: { input_tokens: 1240, output_tokens: 318, cache_read_tokens: 10_400, cache_write_tokens: 0 }, cost: { usd: 0.0123 }, ...ending });
  }

  function setTask(chat, task) {
    if (task.status !== "running" && !chat.tasks.delete(task.task_id)) return false;
    if (task.status === "running") chat.tasks.set(task.task_id, task);
    append(chat, undefined, { event: "task", ...task });
    return true;
  }

  function isRunning(chat) {
    return chat.running !== undefined || chat.byItself !== undefined;
  }

  function stop(chat, turn) {
    if (turn === chat.running || turn === chat.byItself) {
      turn.stopped = true;
      turn.wake?.();
    } else if (chat.queue.includes(turn)) {
      chat.queue = chat.queue.filter((each) => each !== turn);
      append(chat, turn, { event: "turn_end", outcome: "cancelled", latency_ms: 0 });
    }
  }

  function append(chat, turn, body, except) {
    const event = { ...body, chat_id: chat.id, epoch: chat.epoch, seq: chat.log.length + 1, ...(turn && { turn_id: turn.id }) };
    chat.log.push(event);
    chat.updated = Date.now();
    broadcast(chat, event, except);
    return event;
  }

  function sendToAll(event) {
    for (const ws of sockets) if (ws.readyState === 1) ws.send(JSON.stringify(event));
  }

  function broadcast(chat, event, except) {
    for (const reader of chat.readers) if (reader !== except) reader.send(event);
  }
}
