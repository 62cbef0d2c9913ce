// The browser's own EventSource, as other programs than this page would use it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { gatewayBinary, startGateway } from "./gateway.mjs";
import { withReport, chatOf, waitForOutcome, launch, newUser, sendMessage, startProxy } from "./harness.mjs";

const skip = gatewayBinary() ? false : "no gateway to start: SWITCHBOARD_BINARY is not set";
const WORDS = Array.from({ length: 12 }, (_, index) => `word${index + 1}`).join(" ");

test("the browser's EventSource receives an answer, and resumes by itself after a lost connection", { skip, timeout: 120_000 }, async () => {
  const gateway = await startGateway("--no-auth");
  const proxy = await startProxy(gateway, "/below/");
  const browser = await launch();
  try {
    const user = await newUser({ browser, token: null, base: proxy.base });
    await withReport(user, () => checkResume(user, proxy));
  } finally {
    await browser.close();
    await proxy.end();
    await gateway.end();
  }
});

async function checkResume(user, proxy) {
  const page = await user.open();
  await waitForOutcome(await sendMessage(page, "echo hello"));
  const chat = await chatOf(page);
  await page.evaluate((chat) => {
    const recorded = { opened: 0, events: [] };
    window.recorded = recorded;
    const source = new EventSource(`./sse?chat=${chat}`);
    source.onopen = () => { recorded.opened += 1; };
    source.onmessage = ({ data, lastEventId }) => recorded.events.push({ ...JSON.parse(data), id: lastEventId });
  }, chat);
  const waitForEvent = (kind) => page.waitForFunction((kind) => window.recorded.events.some(({ event }) => event === kind), kind);
  await waitForEvent("replay_end");
  const turn = await sendMessage(page, "slow 12");
  await turn.getByText(/word3/).waitFor();
  proxy.cut();
  await page.locator(".top .connection").waitFor();
  proxy.restore();
  await waitForEvent("turn_end");
  const { opened, events } = await page.evaluate(() => window.recorded);
  assert.equal(opened, 2);
  // Every event arrived exactly once.
  const live = events.filter(({ event }) => event === "delta");
  assert.equal(live.map(({ text }) => text).join("").trim(), WORDS);
  const last = events.findLast(({ event }) => event === "turn_end");
  assert.equal(last.id, `${chat}@${last.epoch}:${last.seq}`);
}
