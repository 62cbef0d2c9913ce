// Sends a message and prints the answer: node --experimental-websocket chat.mjs ws://127.0.0.1:8765/ws TOKEN "Hello"
const [url, token, content] = process.argv.slice(2);
const chat_id = crypto.randomUUID(), turn_id = crypto.randomUUID();
const answer = new Map(); // the text of each stream, in the order in which the streams began
let socket, cursor, accepted = false, failures = 0;

const send = (frame) => socket.send(JSON.stringify(frame));
const finish = (text, status) => process.stdout.write(`${text}\n`, () => process.exit(status));

function ask() {
  if (cursor) send({ type: 'attach', chat_id, after: cursor });
  if (!accepted) send({ type: 'message', chat_id, content, turn_id }); // sent again, it is still one message
}

function take(event) {
  const { event: kind, stream_id = event.seq, text } = event;
  if (event.seq && kind !== 'snapshot' && !event.duplicate) cursor = { epoch: event.epoch, seq: event.seq };
  if (kind === 'ready') {
    failures = 0;
    ask();
  } else if (kind === 'snapshot') { // the log does not continue from the cursor
    if (event.part === 0) answer.clear();
    event.events.forEach(take);
    if (!event.more) cursor = { epoch: event.epoch, seq: event.seq };
  } else if (kind === 'message_accepted') accepted = true;
  else if (kind === 'delta') answer.set(stream_id, (answer.get(stream_id) ?? '') + text);
  else if (kind === 'stream_end' && event.void) answer.delete(stream_id);
  else if (kind === 'stream_end' && text) answer.set(stream_id, text);
  else if (kind === 'message' && !event.kind) answer.set(stream_id, text);
  else if (kind === 'permission_request' || kind === 'question') console.error('Another client has to answer:', event);
  else if (kind === 'turn_end' && event.error) finish(event.error.detail, 1);
  else if (kind === 'turn_end') finish([...answer.values()].join('\n\n'), 0);
  else if (kind === 'error' && !event.retryable) finish(event.detail, 1);
  else if (kind === 'error' && !event.close) // refused for now; without an open socket, `ready` comes first
    setTimeout(() => socket.readyState === 1 && ask(), (event.retry_after_ms ?? 1000) + 1000 * Math.random());
}

(function connect() {
  socket = new WebSocket(url, 'switchboard.v1');
  socket.onopen = () => send({ type: 'authenticate', token });
  socket.onmessage = ({ data }) => take(JSON.parse(data));
  socket.onclose = ({ code }) => code === 4401 ? finish('The token is wrong.', 1)
    : setTimeout(connect, Math.random() * Math.min(30_000, 500 * 2 ** failures++)); // backoff with jitter
})();
