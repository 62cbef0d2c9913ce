// Where no WebSocket gets through: everything on the page works, and a small sign says how.
import assert from "node:assert/strict";
import { test } from "node:test";
import { binary, ownGateway } from "./gateway.mjs";
import { acting, answer, chatOf, ended, launch, person, say, startProxy } from "./world.mjs";

const skip = binary() ? false : "no gateway to start: SWITCHBOARD_BINARY is not set";
const WORDS = Array.from({ length: 12 }, (_, index) => `word${index + 1}`).join(" ");

/** A gateway of one's own behind a proxy that refuses upgrades. The browser says on the console what failed. */
function scene(name, act) {
  test(name, { skip, timeout: 120_000 }, async () => {
    const gateway = await ownGateway();
    const proxy = await startProxy(gateway, "/below/", { upgrades: false });
    let browser;
    try {
      browser = await launch();
      const me = await person({ browser, token: gateway.token, base: proxy.base });
      await acting(me, () => act(me, gateway, proxy));
      assert.ok(me.heard.requests.some((url) => url.endsWith("/sse")));
      assert.ok(me.heard.requests.every((url) => !url.includes(gateway.token)), "the token is in no address");
    } finally {
      await browser.close();
      await proxy.end();
      await gateway.end();
    }
  });
}

const sign = (page) => page.locator(".sidebar .way");

scene("messages, stop, permissions and questions work over server-sent events", async (me) => {
  const page = await me.open();
  assert.match(await sign(page).innerText(), /SSE\s*: .*Everything works the same/s, "also for who hears the page");
  const hello = await say(page, "echo hello **there**");
  assert.equal(await ended(hello), "completed");
  assert.equal(await answer(hello), "hello there");

  const slow = await say(page, "slow 40");
  const queued = await say(page, "echo then");
  await slow.getByText(/word2/).waitFor();
  await page.getByRole("button", { name: "Stop the answer" }).click();
  assert.equal(await ended(slow), "cancelled");
  assert.equal(await ended(queued), "completed");

  const tool = await say(page, "tool");
  await page.locator(".dock").getByRole("heading", { name: "Bash" }).waitFor();
  const other = await me.open({ chat: await chatOf(page) });
  await other.locator(".dock").getByRole("heading", { name: "Bash" }).waitFor();
  await other.getByRole("button", { name: "Allow once" }).click();
  assert.equal(await ended(tool), "completed");
  await page.locator(".dock").waitFor({ state: "detached" });

  const question = await say(page, "question");
  await page.locator(".dock").getByRole("textbox").last().fill("something else");
  await page.locator(".dock").getByRole("radio").first().check();
  await page.locator(".dock-input").press("End");
  await page.getByRole("button", { name: "Answer", exact: true }).click();
  assert.equal(await ended(question), "completed");
});

scene("a reload in mid-answer loses no word and repeats none, also without WebSocket", async (me) => {
  const page = await me.open();
  const turn = await say(page, "slow 12");
  await turn.getByText(/word3/).waitFor();
  await page.reload();
  await turn.getByText(/word3/).waitFor();
  await sign(page).waitFor({ state: "attached" });
  assert.equal(await ended(turn), "completed");
  assert.equal(await answer(turn), WORDS);
});

scene("a cut stream is resumed: what was missed comes, what was written goes, once", async (me, _, proxy) => {
  const page = await me.open();
  const turn = await say(page, "slow 12");
  await turn.getByText(/word3/).waitFor();
  proxy.cut();
  await page.locator(".top .connection").waitFor();
  const unsent = await say(page, "echo written in between");
  await unsent.getByText("as soon as the connection is back").waitFor();
  proxy.mend();
  assert.equal(await ended(turn), "completed");
  assert.equal(await answer(turn), WORDS);
  assert.equal(await ended(unsent), "completed");
  assert.equal(await page.locator(".thread").getByText("written in between").count(), 2, "once as message, once as answer");
});

scene("a gateway that is killed in mid-answer comes back with the whole answer, also without WebSocket", async (me, gateway) => {
  const page = await me.open();
  const turn = await say(page, "slow 12");
  await turn.getByText(/word3/).waitFor();
  await gateway.kill();
  await page.locator(".top .connection").waitFor();
  await gateway.start();
  assert.equal(await ended(turn), "completed");
  assert.equal(await answer(turn), WORDS);
  await sign(page).waitFor({ state: "attached" });
});

scene("a WebSocket is taken as soon as one gets through, in the middle of an answer", async (me, _, proxy) => {
  const page = await me.open();
  const turn = await say(page, "slow 60");
  await turn.getByText(/word3 /).waitFor();
  proxy.admitUpgrades();
  await sign(page).waitFor({ state: "detached", timeout: 40_000 });
  await page.getByRole("button", { name: "Stop the answer" }).click();
  assert.equal(await ended(turn), "cancelled");
  const words = (await answer(turn)).split(" ");
  assert.deepEqual(words, words.map((_, index) => `word${index + 1}`));
  assert.equal(await page.locator(".top .connection").count(), 0);
  await page.reload();
  await page.locator(".connection[data-state=online]").first().waitFor({ state: "attached" });
  assert.equal(await sign(page).count(), 0);
});
