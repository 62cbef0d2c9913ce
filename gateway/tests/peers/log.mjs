// What a client keeps of a chat: its cursor, and the text of the answer.
import assert from 'node:assert/strict';
import dns from 'node:dns';
import { createRequire } from 'node:module';

export const url = process.env.SWITCHBOARD_URL;
export const token = process.env.SWITCHBOARD_TOKEN;
export const bearer = `Bearer ${token}`;
export const TURN = 'turn-1';
// More than a second of deltas, so that there is something left after the cut.
export const PROMPT = 'long 8';
// How many of them are enough to cut the connection.
export const ENOUGH = 40;

/** Packages are installed elsewhere. */
export const packages = createRequire(`${process.env.SWITCHBOARD_PEERS}/`);

if (process.env.SWITCHBOARD_RESOLVE) {
  dns.lookup = (_host, options, done) => {
    const found = { address: process.env.SWITCHBOARD_RESOLVE, family: 4 };
    if (options.all) done(null, [found]);
    else done(null, found.address, found.family);
  };
}

export class Log {
  chat;
  cursor;
  deltas = 0;
  text = '';
  ended = false;

  /** Takes an event. One that comes again is dropped; a hole is a failure. */
  take(event) {
    assert.notEqual(event.event, 'error', JSON.stringify(event));
    if (event.event === 'attached') {
      assert.ok(event.recovered, 'a cursor that was just given is good');
      this.chat = event.chat_id;
      this.cursor ??= { epoch: event.epoch, seq: 0 };
    }
    if (event.seq === undefined || event.event === 'replay_end') return;
    assert.equal(event.epoch, this.cursor.epoch);
    if (event.seq <= this.cursor.seq) return;
    assert.equal(event.first_seq ?? event.seq, this.cursor.seq + 1, `a hole before ${JSON.stringify(event)}`);
    this.cursor = { epoch: event.epoch, seq: event.seq };
    if (event.event === 'delta') {
      this.deltas += 1;
      this.text += event.text;
    }
    if (event.event === 'turn_end') {
      assert.equal(event.outcome, 'completed');
      this.ended = true;
    }
  }
}

/** Prints the answer, or says why there is none. */
export async function converse(conversation) {
  const late = setTimeout(() => {
    console.error('no answer within 60 s');
    process.exit(1);
  }, 60_000);
  try {
    const log = await conversation();
    assert.ok(log.ended && log.deltas > ENOUGH);
    process.stdout.write(log.text);
    clearTimeout(late);
    process.exit(0);
  } catch (error) {
    console.error(error);
    process.exit(1);
  }
}
