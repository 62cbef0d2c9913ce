// The page in Chromium against a running gateway with the demo agent. SWITCHBOARD_URL names it; without, the mock plays it.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { acting, answer, chatOf, ended, lastTurn, person, say, startProxy, startWorld, turnOf } from "./world.mjs";

const PREFIX = "/under/a/path/";
/** `slow 12` says them half a second apart: time enough to interfere. */
const WORDS = Array.from({ length: 12 }, (_, index) => `word${index + 1}`).join(" ");

let world;
/** Most tests go on in one chat: gateways limit how fast new ones are made. */
let shared;

before(async () => {
  world = await startWorld();
  const someone = await person(world);
  const page = await someone.open();
  await ended(await say(page, "echo a chat to share"));
  shared = await chatOf(page);
  await someone.context.close();
});
after(() => world.end());

/** A test with a person of its own, whose page must have said nothing on the console. */
function scene(name, act, { silent = true, ...options } = {}) {
  test(name, { timeout: 120_000 }, async () => {
    const someone = await person(world, options);
    try {
      await acting(someone, () => act(someone));
      if (silent) assert.deepEqual(someone.heard.console, [], "the console stays empty: no error, no warning, no violation of the policy");
    } catch (error) {
      await clear(someone).catch(() => {});
      throw error;
    } finally {
      await someone.context.close();
    }
  });
}

/** Stops what a failed test left running, so that one failure stays one. */
async function clear(someone) {
  const page = await someone.open({ chat: shared });
  const open = page.locator(".turn[data-phase=running]");
  while (await open.count() > 0) {
    await page.getByRole("button", { name: "Stop the answer" }).click();
    await open.first().waitFor({ state: "detached" });
  }
}

scene("a message is answered, and the token leaves the address", async (me) => {
  const page = await me.open({ chat: shared });
  assert.ok(!page.url().includes("token"));
  const turn = await say(page, "echo hello **there**");
  assert.equal(await ended(turn), "completed");
  assert.equal(await answer(turn), "hello there");
  assert.equal(await turn.locator("strong").innerText(), "there");
});

scene("an answer appears while it is made, and can be stopped", async (me) => {
  const page = await me.open({ chat: shared });
  const turn = await say(page, "slow 40");
  await turn.getByText(/word2/).waitFor();
  assert.equal(await turn.getAttribute("data-phase"), "running");
  await page.getByRole("button", { name: "Stop the answer" }).click();
  assert.equal(await ended(turn), "cancelled");
  assert.ok(!(await answer(turn)).includes("word40"));
});

scene("a message sent while another is answered waits, and can be taken back", async (me) => {
  const page = await me.open({ chat: shared });
  const first = await say(page, "slow 12");
  const taken = await say(page, "echo never");
  const second = await say(page, "echo then");
  await taken.getByRole("button", { name: "Take back" }).click();
  assert.equal(await ended(taken), "cancelled");
  assert.match((await taken.locator(".turn-footer").innerText()).trim(), /^Stopped before it began$/);
  await first.getByText(/word2/).waitFor();
  await page.keyboard.press("Escape");
  assert.equal(await ended(first), "cancelled");
  assert.equal(await ended(second), "completed");
  assert.equal(await answer(second), "then");
  assert.match(await second.locator(".turn-footer").innerText(), /s with waiting/);
  assert.ok(!(await first.locator(".turn-footer").innerText()).includes("waiting"));
});

scene("a permission shows the command; allowing lets it run, denying does not", async (me) => {
  const page = await me.open({ chat: shared });
  const prompt = page.locator(".dock");
  const allowed = await say(page, "tool");
  await prompt.getByRole("heading", { name: "Bash" }).waitFor();
  assert.ok((await prompt.locator("pre").first().innerText()).trim().length > 0);
  await prompt.getByRole("button", { name: "Allow once" }).click();
  assert.equal(await ended(allowed), "completed");
  await prompt.waitFor({ state: "detached" });

  const denied = await say(page, "tool");
  await prompt.getByRole("button", { name: "Deny with a reason" }).click();
  await prompt.getByRole("textbox").fill("too risky");
  await prompt.locator("button.danger:enabled").waitFor();
  await page.keyboard.press("Enter");
  assert.equal(await ended(denied), "completed");
  assert.match(await answer(denied), /too risky/);
  assert.equal(await denied.locator("[data-tool=Bash]").getAttribute("data-resolution"), "denied");
});

scene("a prompt is answered with the keyboard alone", async (me) => {
  const page = await me.open({ chat: shared });
  const turn = await say(page, "tool");
  await page.locator(".dock:focus").waitFor();
  const allow = page.getByRole("button", { name: "Allow once" });
  await page.locator(".dock button.primary:enabled").waitFor();
  for (let tabs = 0; tabs < 8 && !(await allow.evaluate((button) => button === document.activeElement)); tabs += 1) await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  assert.equal(await ended(turn), "completed");
  await page.locator("#composer:focus").waitFor();
});

scene("questions are answered by choice and in one's own words", async (me) => {
  const page = await me.open({ chat: shared });
  const turn = await say(page, "question");
  const prompt = page.locator(".dock");
  await prompt.getByRole("radio").first().check();
  await prompt.getByRole("checkbox").first().check();
  await prompt.getByRole("textbox").last().fill("something else");
  await page.locator(".dock-input").press("End");
  await prompt.getByRole("button", { name: "Answer", exact: true }).click();
  assert.equal(await ended(turn), "completed");
  assert.match(await answer(turn), /something else/);
});

scene("an edit shows its change before and after", async (me) => {
  const page = await me.open({ chat: shared });
  const turn = await say(page, "edit");
  await page.locator(".dock .diff-line.is-added").first().waitFor();
  await page.getByRole("button", { name: "Allow once" }).click();
  assert.equal(await ended(turn), "completed");
  await turn.locator("[data-tool=Edit] summary").click();
  await turn.locator("[data-tool=Edit] .diff-line.is-deleted").first().waitFor();
});

scene("a turn that fails says why and gives the message back", async (me) => {
  const page = await me.open({ chat: shared });
  const turn = await say(page, "fail");
  assert.equal(await ended(turn), "failed");
  await turn.getByRole("button", { name: "Edit and send again" }).click();
  await page.waitForFunction(() => document.querySelector("#composer").value === "fail");
  const dead = await say(page, "die");
  assert.ok(["failed", "interrupted"].includes(await ended(dead)));
});

scene("a reload in mid-answer loses no word and repeats none", async (me) => {
  const page = await me.open({ chat: shared });
  const turn = await say(page, "slow 12");
  await turn.getByText(/word3/).waitFor();
  await page.reload();
  await turn.getByText(/word3/).waitFor();
  assert.equal(await ended(turn), "completed");
  assert.equal(await answer(turn), WORDS);
  assert.ok(!page.url().includes("token"), "and asks for no token again");
});

scene("two tabs show the same at the same time; a prompt that one answers closes in both", async (me) => {
  const [one, two] = [await me.open({ chat: shared }), await me.open({ chat: shared })];
  const turn = await say(one, "tool");
  await two.locator(".dock").getByRole("heading", { name: "Bash" }).waitFor();
  await two.getByRole("button", { name: "Allow once" }).click();
  await one.locator(".dock").waitFor({ state: "detached" });
  await ended(turn);
  const other = turnOf(two, await turn.getAttribute("data-turn"));
  await ended(other);
  assert.equal(await answer(other), await answer(turn));
  assert.equal(await lastTurn(two), await lastTurn(one));
});

// The browser itself reports connections that fail, so the console is not empty here.
scene("a cut connection is resumed: what was missed comes, what was written goes, once", async (me) => {
  const proxy = await startProxy(world, PREFIX);
  try {
    const page = await me.open({ chat: shared, base: proxy.base });
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
    assert.equal(await answer(unsent), "written in between");
    assert.equal(await page.locator(".thread").getByText("written in between").count(), 2, "once as message, once as answer");
  } finally {
    await proxy.end();
  }
}, { silent: false });

scene("a new chat speaks of a listening agent only while it is connected", async (me) => {
  const proxy = await startProxy(world, PREFIX);
  try {
    const page = await me.open({ base: proxy.base });
    const line = page.getByRole("heading", { name: "The line is open." });
    await line.waitFor();
    proxy.cut();
    await page.getByRole("heading", { name: "Not connected." }).waitFor();
    assert.equal(await line.count(), 0);
    proxy.mend();
    await line.waitFor();
  } finally {
    await proxy.end();
  }
}, { silent: false });

scene("an unsent message outlives a reload", async (me) => {
  const proxy = await startProxy(world, PREFIX);
  try {
    const page = await me.open({ chat: shared, base: proxy.base });
    const kept = await me.context.newPage();
    proxy.cut();
    await page.locator(".top .connection").waitFor();
    const unsent = await say(page, "echo kept over the reload");
    await unsent.getByText("as soon as").waitFor();
    proxy.mend();
    const id = await unsent.getAttribute("data-turn");
    await page.close();
    await kept.goto(`${proxy.base}#chat=${shared}`);
    assert.equal(await ended(turnOf(kept, id)), "completed");
    assert.equal(await kept.locator(".thread").getByText("kept over the reload").count(), 2);
  } finally {
    await proxy.end();
  }
}, { silent: false });

scene("the page works under a subpath", async (me) => {
  const proxy = await startProxy(world, PREFIX);
  try {
    const page = await me.open({ chat: shared, base: proxy.base });
    assert.equal(await ended(await say(page, "echo below")), "completed");
    assert.ok(me.heard.requests.every((url) => new URL(url).pathname.startsWith(PREFIX)), me.heard.requests.join("\n"));
  } finally {
    await proxy.end();
  }
});

scene("a hostile query and fragment cause no connection elsewhere", async (me) => {
  const evil = "evil.example";
  const hostile = `gateway=wss://${evil}/ws&ws=wss://${evil}/ws&gatewayUrl=wss://${evil}&url=//${evil}&base=//${evil}&redirect=https://${evil}`;
  const page = await me.context.newPage();
  await page.goto(`${world.base}?${hostile}#${hostile}${world.token ? `&token=${world.token}` : ""}`);
  await page.locator(".connection[data-state=online]").first().waitFor({ state: "attached" });
  const { host } = new URL(world.base);
  assert.ok(me.heard.requests.length > 3);
  assert.ok(me.heard.requests.every((url) => new URL(url).host === host), me.heard.requests.join("\n"));
  assert.ok(me.heard.requests.every((url) => !world.token || !url.includes(world.token)), "nor does the token travel in an address");
});

scene("markup in an answer stays text", async (me) => {
  const page = await me.open({ chat: shared });
  page.on("dialog", (dialog) => assert.fail(dialog.message()));
  const turn = await say(page, "echo <img src=x onerror=alert(1)> <svg/onload=alert(2)> [a](javascript:alert(3)) ![b](https://evil.example/pixel.png)");
  assert.equal(await ended(turn), "completed");
  assert.match(await answer(turn), /<img src=x onerror=alert\(1\)>/);
  assert.equal(await turn.locator(".answer img, .answer svg[onload], .answer a[href^=javascript]").count(), 0);
  assert.ok(me.heard.requests.every((url) => !url.includes("evil.example")));
});

scene("a refused token is asked for, and the right one signs in", async (me) => {
  if (!world.token) return;
  const page = await me.context.newPage();
  await page.goto(`${world.base}#token=wrong`);
  await page.getByText("did not accept this token").waitFor();
  const other = await me.context.newPage();
  await other.goto(world.base);
  await other.getByLabel("Access token").waitFor();
  await page.getByLabel("Access token").fill(world.token);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.locator(".connection[data-state=online]").first().waitFor({ state: "attached" });
  await other.locator(".connection[data-state=online]").first().waitFor({ state: "attached" });
  await page.reload();
  await page.locator(".connection[data-state=online]").first().waitFor({ state: "attached" });
  await other.goto(`${world.base}?again#token=wrong`);
  await other.locator(".connection[data-state=online]").first().waitFor({ state: "attached" });
});

scene("a new chat joins the list and is there again at the next visit", async (me) => {
  const page = await me.open();
  await ended(await say(page, "echo a chat of its own"));
  const chat = await chatOf(page);
  await page.locator(`[data-chat="${chat}"]`).waitFor();
  const later = await me.context.newPage();
  await later.goto(world.base);
  await later.locator(".turn").first().getByText("a chat of its own").first().waitFor();
  await later.locator(`[data-chat="${shared}"]`).click();
  await later.locator(`[data-chat="${shared}"][aria-current]`).waitFor();
  await later.locator(".turn").first().waitFor();
  await later.goBack();
  await later.locator(".turn").first().getByText("a chat of its own").first().waitFor();
});

scene("on a phone the list is a drawer", async (me) => {
  const page = await me.open({ chat: shared });
  const list = page.locator(`[data-chat="${shared}"]`);
  assert.ok(!(await list.isVisible()));
  await page.getByRole("button", { name: "Open the list of chats" }).tap();
  await list.waitFor();
  await page.keyboard.press("Escape");
  await list.waitFor({ state: "hidden" });
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(overflow <= 0, `the page is ${overflow} px wider than the phone`);
}, { viewport: { width: 375, height: 700 }, isMobile: true, hasTouch: true });

scene("whoever reads above is not moved by what comes below", async (me) => {
  const page = await me.open({ chat: shared });
  const turn = await say(page, "long");
  await turn.locator(".markdown > *").nth(4).waitFor();
  const thread = page.locator(".thread");
  await thread.hover();
  await page.mouse.wheel(0, -1500);
  await page.getByRole("button", { name: "Go to the newest message" }).waitFor();
  const top = await thread.evaluate((box) => box.scrollTop);
  await ended(turn);
  assert.ok(Math.abs((await thread.evaluate((box) => box.scrollTop)) - top) < 50);
  await page.getByRole("button", { name: "Go to the newest message" }).click();
  await page.waitForFunction(() => { const box = document.querySelector(".thread"); return box.scrollHeight - box.scrollTop - box.clientHeight < 4; });
});
