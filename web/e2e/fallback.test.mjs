// Without WebSockets: everything on the page works over server-sent events, and a small label says so.
import assert from "node:assert/strict";
import { test } from "node:test";
import { gatewayBinary, startGateway } from "./gateway.mjs";
import { withReport, answerText, chatOf, waitForOutcome, launch, newUser, sendMessage, startProxy } from "./harness.mjs";

const skip = gatewayBinary() ? false : "no gateway to start: SWITCHBOARD_BINARY is not set";
const WORDS = Array.from({ length: 12 }, (_, index) => `word${index + 1}`).join(" ");

/**
 * A test with its own gateway, behind a proxy that refuses WebSockets. The console may have messages: the browser reports the
 * failed connections.
 */
function browserTest(name, check) {
  test(name, { skip, timeout: 120_000 }, async () => {
    const gateway = await startGateway();
    const proxy = await startProxy(gateway, "/below/", { upgrades: false });
    let browser;
    try {
      browser = await launch();
      const user = await newUser({ browser, token: gateway.token, base: proxy.base });
      await withReport(user, () => check(user, gateway, proxy));
      assert.ok(user.recorded.requests.some((url) => url.endsWith("/sse")));
      assert.ok(user.recorded.requests.every((url) => !url.includes(gateway.token)), "no address has the token");
    } finally {
      await browser.close();
      await proxy.end();
      await gateway.end();
    }
  });
}

const fallbackSign = (page) => page.locator(".sidebar .way");

browserTest("messages, stop, permissions and questions work over server-sent events", async (user) => {
  const page = await user.open();
  assert.match(await fallbackSign(page).innerText(), /SSE\s*: .*Everything works the same/s, "the label has a text for screen readers");
  const hello = await sendMessage(page, "echo hello **there**");
  assert.equal(await waitForOutcome(hello), "completed");
  assert.equal(await answerText(hello), "hello there");

  const slow = await sendMessage(page, "slow 40");
  const queued = await sendMessage(page, "echo then");
  await slow.getByText(/word2/).waitFor();
  await page.getByRole("button", { name: "Stop the answer" }).click();
  assert.equal(await waitForOutcome(slow), "cancelled");
  assert.equal(await waitForOutcome(queued), "completed");

  const tool = await sendMessage(page, "tool");
  await page.locator(".dock").getByRole("heading", { name: "Bash" }).waitFor();
  const other = await user.open({ chat: await chatOf(page) });
  await other.locator(".dock").getByRole("heading", { name: "Bash" }).waitFor();
  await other.getByRole("button", { name: "Allow once" }).click();
  assert.equal(await waitForOutcome(tool), "completed");
  await page.locator(".dock").waitFor({ state: "detached" });

  const question = await sendMessage(page, "question");
  await page.locator(".dock").getByRole("textbox").last().fill("something else");
  await page.locator(".dock").getByRole("radio").first().check();
  await page.locator(".dock-input").press("End");
  await page.getByRole("button", { name: "Answer", exact: true }).click();
  assert.equal(await waitForOutcome(question), "completed");
});

browserTest("without WebSockets, a reload during an answer neither loses nor repeats text", async (user) => {
  const page = await user.open();
  const turn = await sendMessage(page, "slow 12");
  await turn.getByText(/word3/).waitFor();
  await page.reload();
  await turn.getByText(/word3/).waitFor();
  await fallbackSign(page).waitFor({ state: "attached" });
  assert.equal(await waitForOutcome(turn), "completed");
  assert.equal(await answerText(turn), WORDS);
});

browserTest("a cut event stream resumes: missed text arrives, and a message written meanwhile is sent once", async (user, _, proxy) => {
  const page = await user.open();
  const turn = await sendMessage(page, "slow 12");
  await turn.getByText(/word3/).waitFor();
  proxy.cut();
  await page.locator(".top .connection").waitFor();
  const unsent = await sendMessage(page, "echo written in between");
  await unsent.getByText("as soon as the connection is back").waitFor();
  proxy.restore();
  assert.equal(await waitForOutcome(turn), "completed");
  assert.equal(await answerText(turn), WORDS);
  assert.equal(await waitForOutcome(unsent), "completed");
  assert.equal(await page.locator(".thread").getByText("written in between").count(), 2, "once as message, once as answer");
});

browserTest("without WebSockets, the answer is complete after the gateway was killed and restarted", async (user, gateway) => {
  const page = await user.open();
  const turn = await sendMessage(page, "slow 12");
  await turn.getByText(/word3/).waitFor();
  await gateway.kill();
  await page.locator(".top .connection").waitFor();
  await gateway.start();
  assert.equal(await waitForOutcome(turn), "completed");
  assert.equal(await answerText(turn), WORDS);
  await fallbackSign(page).waitFor({ state: "attached" });
});

browserTest("the page changes to a WebSocket during an answer, once one gets through", async (user, _, proxy) => {
  const page = await user.open();
  const turn = await sendMessage(page, "slow 60");
  await turn.getByText(/word3 /).waitFor();
  proxy.admitUpgrades();
  await fallbackSign(page).waitFor({ state: "detached", timeout: 40_000 });
  await page.getByRole("button", { name: "Stop the answer" }).click();
  assert.equal(await waitForOutcome(turn), "cancelled");
  const words = (await answerText(turn)).split(" ");
  assert.deepEqual(words, words.map((_, index) => `word${index + 1}`));
  assert.equal(await page.locator(".top .connection").count(), 0);
  await page.reload();
  await page.locator(".connection[data-state=online]").first().waitFor({ state: "attached" });
  assert.equal(await fallbackSign(page).count(), 0);
});
