// The browser's own EventSource, as a page of somebody else's would use it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { binary, ownGateway } from "./gateway.mjs";
import { acting, chatOf, ended, launch, person, say, startProxy } from "./world.mjs";

const skip = binary() ? false : "no gateway to start: SWITCHBOARD_BINARY is not set";
const WORDS = Array.from({ length: 12 }, (_, index) => `word${index + 1}`).join(" ");

test("the browser's EventSource hears an answer, and goes on by itself after a cut", { skip, timeout: 120_000 }, async () => {
  const gateway = await ownGateway("--no-auth");
  const proxy = await startProxy(gateway, "/below/");
  const browser = await launch();
  try {
    const me = await person({ browser, token: null, base: proxy.base });
    await acting(me, () => hear(me, proxy));
  } finally {
    await browser.close();
    await proxy.end();
    await gateway.end();
  }
});

async function hear(me, proxy) {
  const page = await me.open();
  await ended(await say(page, "echo hello"));
  const chat = await chatOf(page);
  await page.evaluate((chat) => {
    const heard = { opened: 0, events: [] };
    window.heard = heard;
    const source = new EventSource(`./sse?chat=${chat}`);
    source.onopen = () => { heard.opened += 1; };
    source.onmessage = ({ data, lastEventId }) => heard.events.push({ ...JSON.parse(data), id: lastEventId });
  }, chat);
  const has = (kind) => page.waitForFunction((kind) => window.heard.events.some(({ event }) => event === kind), kind);
  await has("replay_end");
  const turn = await say(page, "slow 12");
  await turn.getByText(/word3/).waitFor();
  proxy.cut();
  await page.locator(".top .connection").waitFor();
  proxy.mend();
  await has("turn_end");
  const { opened, events } = await page.evaluate(() => window.heard);
  assert.equal(opened, 2);
  // Nothing is missing, and nothing comes again.
  const live = events.filter(({ event }) => event === "delta");
  assert.equal(live.map(({ text }) => text).join("").trim(), WORDS);
  const last = events.findLast(({ event }) => event === "turn_end");
  assert.equal(last.id, `${chat}@${last.epoch}:${last.seq}`);
}
