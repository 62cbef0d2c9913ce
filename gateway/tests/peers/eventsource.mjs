// npm `eventsource`, which comes back by itself with `Last-Event-ID`, and a POST for each frame.
import assert from 'node:assert/strict';

import { ENOUGH, Log, PROMPT, TURN, bearer, converse, packages, url } from './log.mjs';

const { EventSource } = packages('eventsource');

const log = new Log();
let cut = false;

/** Ends the first response once there is enough of it, as a proxy might. */
async function fetching(address, init) {
  const response = await fetch(address, { ...init, headers: { ...init.headers, Authorization: bearer } });
  const body = response.body.pipeThrough(
    new TransformStream({
      transform(chunk, controller) {
        if (log.deltas >= ENOUGH && !cut) {
          cut = true;
          controller.terminate();
        } else {
          controller.enqueue(chunk);
        }
      },
    }),
  );
  return { body, url: response.url, status: response.status, headers: response.headers, redirected: false };
}

await converse(
  () =>
    new Promise((resolve, reject) => {
      let stream;
      const post = async (frame) => {
        const headers = { Authorization: bearer, 'Content-Type': 'application/json', 'Switchboard-Stream': stream };
        const answer = await fetch(`${url}/messages`, { method: 'POST', headers, body: JSON.stringify(frame) });
        assert.equal(answer.status, 202);
      };
      const source = new EventSource(`${url}/sse`, { fetch: fetching });
      source.addEventListener('message', ({ data }) => {
        try {
          const event = JSON.parse(data);
          log.take(event);
          if (event.event === 'ready') {
            stream = event.stream;
            if (!log.chat) post({ type: 'new_chat' }).catch(reject);
          }
          if (event.event === 'replay_end' && log.cursor.seq === 0) {
            post({ type: 'message', chat_id: log.chat, content: PROMPT, turn_id: TURN }).catch(reject);
          }
          if (log.ended) {
            assert.ok(cut, 'the connection was cut');
            source.close();
            resolve(log);
          }
        } catch (error) {
          reject(error);
        }
      });
    }),
);
