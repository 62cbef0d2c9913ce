// npm `reconnecting-websocket`, as a page uses it: credentials in the first frame, and a connection that comes back by
// itself.
import { ENOUGH, Log, PROMPT, TURN, converse, packages, token, url } from './log.mjs';

const ReconnectingWebSocket = packages('reconnecting-websocket');
const Plain = packages('ws');

let latest;
class WebSocket extends Plain {
  constructor(address, protocols) {
    super(address, protocols);
    latest = this;
  }
}

await converse(
  () =>
    new Promise((resolve) => {
      const log = new Log();
      let cut = false;
      const options = { WebSocket, minReconnectionDelay: 50, maxReconnectionDelay: 500 };
      const socket = new ReconnectingWebSocket(`${url.replace('http', 'ws')}/ws`, 'switchboard.v1', options);
      const say = (frame) => socket.send(JSON.stringify(frame));
      socket.addEventListener('open', () => say({ type: 'authenticate', token }));
      socket.addEventListener('message', ({ data }) => {
        const event = JSON.parse(data);
        log.take(event);
        if (event.event === 'ready') {
          say(log.chat ? { type: 'attach', chat_id: log.chat, after: log.cursor } : { type: 'new_chat' });
        }
        if (event.event === 'replay_end' && log.cursor.seq === 0) {
          say({ type: 'message', chat_id: log.chat, content: PROMPT, turn_id: TURN });
        }
        if (log.deltas >= ENOUGH && !cut) {
          cut = true;
          latest.terminate();
        }
        if (log.ended) resolve(log);
      });
    }),
);
