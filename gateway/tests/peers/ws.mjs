// npm `ws`, with its credentials in the handshake.
import { once } from 'node:events';

import { ENOUGH, Log, PROMPT, TURN, bearer, converse, packages, url } from './log.mjs';

const WebSocket = packages('ws');

function open() {
  const socket = new WebSocket(`${url.replace('http', 'ws')}/ws`, { headers: { Authorization: bearer } });
  socket.say = (frame) => socket.send(JSON.stringify(frame));
  return socket;
}

await converse(async () => {
  const log = new Log();
  const first = open();
  first.on('open', () => first.say({ type: 'new_chat' }));
  first.on('message', (data) => {
    if (log.deltas >= ENOUGH) return first.terminate();
    const event = JSON.parse(data);
    log.take(event);
    if (event.event === 'replay_end') {
      first.say({ type: 'message', chat_id: log.chat, content: PROMPT, turn_id: TURN });
    }
  });
  await once(first, 'close');

  const second = open();
  second.on('open', () => second.say({ type: 'attach', chat_id: log.chat, after: log.cursor }));
  second.on('message', (data) => {
    log.take(JSON.parse(data));
    if (log.ended) second.close();
  });
  await once(second, 'close');
  return log;
});
