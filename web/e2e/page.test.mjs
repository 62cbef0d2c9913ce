// The page in Chromium against the gateway with the demo agent that SWITCHBOARD_URL names, or else against the mock gateway.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { withReport, answerText, chatOf, waitForOutcome, lastTurn, newUser, sendMessage, startProxy, startHarness, turnOf } from "./harness.mjs";

const PREFIX = "/under/a/path/";
/** The answer to `slow 12`. Its words come half a second apart, which leaves time to interfere. */
const WORDS = Array.from({ length: 12 }, (_, index) => `word${index + 1}`).join(" ");

let harness;
/** The chat that most tests share, since gateways limit how fast new chats may be created. */
let shared;

before(async () => {
  harness = await startHarness();
  const user = await newUser(harness);
  const page = await user.open();
  await waitForOutcome(await sendMessage(page, "echo a chat to share"));
  shared = await chatOf(page);
  await user.context.close();
});
after(() => harness.end());

/** A test with a user of its own. Unless `silent` is false, the test fails if a page wrote to the console. */
function browserTest(name, check, { silent = true, ...options } = {}) {
  test(name, { timeout: 120_000 }, async () => {
    const user = await newUser(harness, options);
    try {
      await withReport(user, () => check(user));
      if (silent) assert.deepEqual(user.recorded.console, [], "the console stays empty: no error, no warning, no violation of the policy");
    } catch (error) {
      await stopRunningTurns(user).catch(() => {});
      throw error;
    } finally {
      await user.context.close();
    }
  });
}

/** Stops the turns that a failed test left running in the shared chat, so that later tests do not fail too. */
async function stopRunningTurns(user) {
  const page = await user.open({ chat: shared });
  const open = page.locator(".turn[data-phase=running]");
  while (await open.count() > 0) {
    await page.getByRole("button", { name: "Stop the answer" }).click();
    await open.first().waitFor({ state: "detached" });
  }
}

browserTest("a message is answered, and the token is removed from the address", async (user) => {
  const page = await user.open({ chat: shared });
  assert.ok(!page.url().includes("token"));
  const turn = await sendMessage(page, "echo hello **there**");
  assert.equal(await waitForOutcome(turn), "completed");
  assert.equal(await answerText(turn), "hello there");
  assert.equal(await turn.locator("strong").innerText(), "there");
});

browserTest("an answer is shown while it is streamed, and can be stopped", async (user) => {
  const page = await user.open({ chat: shared });
  const turn = await sendMessage(page, "slow 40");
  await turn.getByText(/word2/).waitFor();
  assert.equal(await turn.getAttribute("data-phase"), "running");
  await page.getByRole("button", { name: "Stop the answer" }).click();
  assert.equal(await waitForOutcome(turn), "cancelled");
  assert.ok(!(await answerText(turn)).includes("word40"));
});

browserTest("a message sent during another turn is queued, and can be taken back", async (user) => {
  const page = await user.open({ chat: shared });
  const first = await sendMessage(page, "slow 12");
  const withdrawn = await sendMessage(page, "echo never");
  const second = await sendMessage(page, "echo then");
  await withdrawn.getByRole("button", { name: "Take back" }).click();
  assert.equal(await waitForOutcome(withdrawn), "cancelled");
  assert.match((await withdrawn.locator(".turn-footer").innerText()).trim(), /^Stopped before it began$/);
  await first.getByText(/word2/).waitFor();
  await page.keyboard.press("Escape");
  assert.equal(await waitForOutcome(first), "cancelled");
  assert.equal(await waitForOutcome(second), "completed");
  assert.equal(await answerText(second), "then");
  assert.match(await second.locator(".turn-footer").innerText(), /s with waiting/);
  assert.ok(!(await first.locator(".turn-footer").innerText()).includes("waiting"));
});

browserTest("a permission request shows the command, which runs when allowed and not when denied", async (user) => {
  const page = await user.open({ chat: shared });
  const prompt = page.locator(".dock");
  const allowed = await sendMessage(page, "tool");
  await prompt.getByRole("heading", { name: "Bash" }).waitFor();
  assert.ok((await prompt.locator("pre").first().innerText()).trim().length > 0);
  await prompt.getByRole("button", { name: "Allow once" }).click();
  assert.equal(await waitForOutcome(allowed), "completed");
  await prompt.waitFor({ state: "detached" });

  const denied = await sendMessage(page, "tool");
  await prompt.getByRole("button", { name: "Deny with a reason" }).click();
  await prompt.getByRole("textbox").fill("too risky");
  await prompt.locator("button.danger:enabled").waitFor();
  await page.keyboard.press("Enter");
  assert.equal(await waitForOutcome(denied), "completed");
  assert.match(await answerText(denied), /too risky/);
  assert.equal(await denied.locator("[data-tool=Bash]").getAttribute("data-resolution"), "denied");
});

browserTest("a tool whose permission request is open when its turn is stopped did not fail, but was stopped", async (user) => {
  const page = await user.open({ chat: shared });
  const turn = await sendMessage(page, "tool");
  const row = turn.locator("[data-tool=Bash] > summary");
  await row.getByText("waits for your permission").waitFor();
  await page.getByRole("button", { name: "Stop the answer" }).click();
  assert.equal(await waitForOutcome(turn), "cancelled");
  assert.match(await row.innerText(), /stopped/);
  assert.equal(await row.locator(".lamp").getAttribute("data-lamp"), "off");
});

browserTest("a permission request is answered with the keyboard alone", async (user) => {
  const page = await user.open({ chat: shared });
  const turn = await sendMessage(page, "tool");
  await page.locator(".dock:focus").waitFor();
  const allow = page.getByRole("button", { name: "Allow once" });
  await page.locator(".dock button.primary:enabled").waitFor();
  for (let tabs = 0; tabs < 8 && !(await allow.evaluate((button) => button === document.activeElement)); tabs += 1) await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  assert.equal(await waitForOutcome(turn), "completed");
  await page.locator("#composer:focus").waitFor();
});

browserTest("the agent goes on by itself after background work, and what it asks then is answered after a reload", async (user) => {
  const page = await user.open({ chat: shared });
  // The task may have ended before the turn's outcome is seen.
  const task = page.locator(".tasks [data-task]").waitFor();
  assert.equal(await waitForOutcome(await sendMessage(page, "background ask 3")), "completed");
  await task;
  await page.locator(".dock").getByText("In a turn that the agent began by itself").waitFor();
  await page.locator(".tasks").waitFor({ state: "detached" });
  const own = page.locator(".turn[data-origin=agent]").last();
  await own.getByText("The agent went on by itself: background work ended.").waitFor();
  const prompt = await sendMessage(page, "echo afterwards");
  await prompt.getByText("Waits until the agent is done with what it began by itself").waitFor();
  await page.reload();
  await page.getByRole("button", { name: "Allow once" }).click();
  assert.equal(await waitForOutcome(own), "completed");
  assert.equal(await waitForOutcome(prompt), "completed");
  assert.equal(await answerText(prompt), "afterwards");
});

browserTest("a turn that the agent began by itself is stopped", async (user) => {
  const page = await user.open({ chat: shared });
  await waitForOutcome(await sendMessage(page, "background ask 1"));
  await page.locator(".dock").getByText("In a turn that the agent began by itself").waitFor();
  const own = page.locator(".turn[data-origin=agent]").last();
  await own.getByRole("button", { name: "Stop" }).click();
  assert.equal(await waitForOutcome(own), "cancelled");
  await page.locator(".dock").waitFor({ state: "detached" });
});

browserTest("questions are answered with options and with written text", async (user) => {
  const page = await user.open({ chat: shared });
  const turn = await sendMessage(page, "question");
  const prompt = page.locator(".dock");
  await prompt.getByRole("radio").first().check();
  await prompt.getByRole("checkbox").first().check();
  await prompt.getByRole("textbox").last().fill("something else");
  await page.locator(".dock-input").press("End");
  await prompt.getByRole("button", { name: "Answer", exact: true }).click();
  assert.equal(await waitForOutcome(turn), "completed");
  assert.match(await answerText(turn), /something else/);
});

browserTest("the change of an edit is shown before and after it is allowed", async (user) => {
  const page = await user.open({ chat: shared });
  const turn = await sendMessage(page, "edit");
  await page.locator(".dock .diff-line.is-added").first().waitFor();
  await page.getByRole("button", { name: "Allow once" }).click();
  assert.equal(await waitForOutcome(turn), "completed");
  await turn.locator("[data-tool=Edit] summary").click();
  await turn.locator("[data-tool=Edit] .diff-line.is-deleted").first().waitFor();
});

browserTest("a failed turn says why, and its message can be edited and sent again", async (user) => {
  const page = await user.open({ chat: shared });
  const turn = await sendMessage(page, "fail");
  assert.equal(await waitForOutcome(turn), "failed");
  await turn.getByRole("button", { name: "Edit and send again" }).click();
  await page.waitForFunction(() => document.querySelector("#composer").value === "fail");
  const dead = await sendMessage(page, "die");
  assert.ok(["failed", "interrupted"].includes(await waitForOutcome(dead)));
});

browserTest("a reload during an answer neither loses nor repeats text", async (user) => {
  const page = await user.open({ chat: shared });
  const turn = await sendMessage(page, "slow 12");
  await turn.getByText(/word3/).waitFor();
  await page.reload();
  await turn.getByText(/word3/).waitFor();
  assert.equal(await waitForOutcome(turn), "completed");
  assert.equal(await answerText(turn), WORDS);
  assert.ok(!page.url().includes("token"), "the page does not ask for the token again");
});

browserTest("two tabs show the same, and a request answered in one closes in both", async (user) => {
  const [one, two] = [await user.open({ chat: shared }), await user.open({ chat: shared })];
  const turn = await sendMessage(one, "tool");
  await two.locator(".dock").getByRole("heading", { name: "Bash" }).waitFor();
  await two.getByRole("button", { name: "Allow once" }).click();
  await one.locator(".dock").waitFor({ state: "detached" });
  await waitForOutcome(turn);
  const other = turnOf(two, await turn.getAttribute("data-turn"));
  await waitForOutcome(other);
  assert.equal(await answerText(other), await answerText(turn));
  assert.equal(await lastTurn(two), await lastTurn(one));
});

// The browser writes failed connections to the console, so these tests are not silent.
browserTest("a cut connection resumes: missed text arrives, and a message written meanwhile is sent once", async (user) => {
  const proxy = await startProxy(harness, PREFIX);
  try {
    const page = await user.open({ chat: shared, base: proxy.base });
    const turn = await sendMessage(page, "slow 12");
    await turn.getByText(/word3/).waitFor();
    proxy.cut();
    await page.locator(".top .connection").waitFor();
    const hint = () => page.locator("#composer").getAttribute("placeholder");
    assert.equal(await hint(), "Is sent as soon as the connection is back");
    const unsent = await sendMessage(page, "echo written in between");
    await unsent.getByText("as soon as the connection is back").waitFor();
    proxy.restore();
    assert.equal(await waitForOutcome(turn), "completed");
    assert.equal(await answerText(turn), WORDS);
    assert.equal(await waitForOutcome(unsent), "completed");
    assert.equal(await hint(), "Message the agent");
    assert.equal(await answerText(unsent), "written in between");
    assert.equal(await page.locator(".thread").getByText("written in between").count(), 2, "once as message, once as answer");
  } finally {
    await proxy.end();
  }
}, { silent: false });

browserTest("a new chat says that the agent listens only while the page is connected", async (user) => {
  const proxy = await startProxy(harness, PREFIX);
  try {
    const page = await user.open({ base: proxy.base });
    const line = page.getByRole("heading", { name: "The line is open." });
    await line.waitFor();
    proxy.cut();
    await page.getByRole("heading", { name: "Not connected." }).waitFor();
    assert.equal(await line.count(), 0);
    proxy.restore();
    await line.waitFor();
  } finally {
    await proxy.end();
  }
}, { silent: false });

browserTest("an unsent message survives closing the page", async (user) => {
  const proxy = await startProxy(harness, PREFIX);
  try {
    const page = await user.open({ chat: shared, base: proxy.base });
    const reopened = await user.context.newPage();
    proxy.cut();
    await page.locator(".top .connection").waitFor();
    const unsent = await sendMessage(page, "echo kept over the reload");
    await unsent.getByText("as soon as").waitFor();
    proxy.restore();
    const id = await unsent.getAttribute("data-turn");
    await page.close();
    await reopened.goto(`${proxy.base}#chat=${shared}`);
    assert.equal(await waitForOutcome(turnOf(reopened, id)), "completed");
    assert.equal(await reopened.locator(".thread").getByText("kept over the reload").count(), 2);
  } finally {
    await proxy.end();
  }
}, { silent: false });

browserTest("the page works below a path", async (user) => {
  const proxy = await startProxy(harness, PREFIX);
  try {
    const page = await user.open({ chat: shared, base: proxy.base });
    assert.equal(await waitForOutcome(await sendMessage(page, "echo below")), "completed");
    assert.ok(user.recorded.requests.every((url) => new URL(url).pathname.startsWith(PREFIX)), user.recorded.requests.join("\n"));
  } finally {
    await proxy.end();
  }
});

browserTest("a hostile query and fragment cause no connection to another host", async (user) => {
  const evil = "evil.example";
  const hostile = `gateway=wss://${evil}/ws&ws=wss://${evil}/ws&gatewayUrl=wss://${evil}&url=//${evil}&base=//${evil}&redirect=https://${evil}`;
  const page = await user.context.newPage();
  await page.goto(`${harness.base}?${hostile}#${hostile}${harness.token ? `&token=${harness.token}` : ""}`);
  await page.locator(".connection[data-state=online]").first().waitFor({ state: "attached" });
  const { host } = new URL(harness.base);
  assert.ok(user.recorded.requests.length > 3);
  assert.ok(user.recorded.requests.every((url) => new URL(url).host === host), user.recorded.requests.join("\n"));
  assert.ok(user.recorded.requests.every((url) => !harness.token || !url.includes(harness.token)), "no address has the token");
});

browserTest("HTML in an answer is shown as text", async (user) => {
  const page = await user.open({ chat: shared });
  page.on("dialog", (dialog) => assert.fail(dialog.message()));
  const turn = await sendMessage(page, "echo <img src=x onerror=alert(1)> <svg/onload=alert(2)> [a](javascript:alert(3)) ![b](https://evil.example/pixel.png)");
  assert.equal(await waitForOutcome(turn), "completed");
  assert.match(await answerText(turn), /<img src=x onerror=alert\(1\)>/);
  assert.equal(await turn.locator(".answer img, .answer svg[onload], .answer a[href^=javascript]").count(), 0);
  assert.ok(user.recorded.requests.every((url) => !url.includes("evil.example")));
});

browserTest("a refused token makes the page ask for another one, and the right one signs in", async (user) => {
  if (!harness.token) return;
  const page = await user.context.newPage();
  await page.goto(`${harness.base}#token=wrong`);
  await page.getByText("did not accept this token").waitFor();
  const other = await user.context.newPage();
  await other.goto(harness.base);
  await other.getByLabel("Access token").waitFor();
  await page.getByLabel("Access token").fill(harness.token);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.locator(".connection[data-state=online]").first().waitFor({ state: "attached" });
  await other.locator(".connection[data-state=online]").first().waitFor({ state: "attached" });
  await page.reload();
  await page.locator(".connection[data-state=online]").first().waitFor({ state: "attached" });
  await other.goto(`${harness.base}?again#token=wrong`);
  await other.locator(".connection[data-state=online]").first().waitFor({ state: "attached" });
});

browserTest("a new chat appears in the list, and is open again at the next visit", async (user) => {
  const page = await user.open();
  await waitForOutcome(await sendMessage(page, "echo a chat of its own"));
  const chat = await chatOf(page);
  await page.locator(`[data-chat="${chat}"]`).waitFor();
  const later = await user.context.newPage();
  await later.goto(harness.base);
  await later.locator(".turn").first().getByText("a chat of its own").first().waitFor();
  await later.locator(`[data-chat="${shared}"]`).click();
  await later.locator(`[data-chat="${shared}"][aria-current]`).waitFor();
  await later.locator(".turn").first().waitFor();
  await later.goBack();
  await later.locator(".turn").first().getByText("a chat of its own").first().waitFor();
});

browserTest("on a phone the chat list is a drawer", async (user) => {
  const page = await user.open({ chat: shared });
  const list = page.locator(`[data-chat="${shared}"]`);
  assert.ok(!(await list.isVisible()));
  await page.getByRole("button", { name: "Open the list of chats" }).tap();
  await list.waitFor();
  await page.keyboard.press("Escape");
  await list.waitFor({ state: "hidden" });
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(overflow <= 0, `the page is ${overflow} px wider than the phone`);
}, { viewport: { width: 375, height: 700 }, isMobile: true, hasTouch: true });

browserTest("new text below does not move a reader who has scrolled up", async (user) => {
  const page = await user.open({ chat: shared });
  const turn = await sendMessage(page, "long");
  await turn.locator(".markdown > *").nth(4).waitFor();
  const thread = page.locator(".thread");
  await thread.hover();
  await page.mouse.wheel(0, -1500);
  await page.getByRole("button", { name: "Go to the newest message" }).waitFor();
  const top = await thread.evaluate((box) => box.scrollTop);
  await waitForOutcome(turn);
  assert.ok(Math.abs((await thread.evaluate((box) => box.scrollTop)) - top) < 50);
  await page.getByRole("button", { name: "Go to the newest message" }).click();
  await page.waitForFunction(() => { const box = document.querySelector(".thread"); return box.scrollHeight - box.scrollTop - box.clientHeight < 4; });
});
