// What an agent does by itself, on the page: its own turns, background tasks and subagents. The mock gateway's agent plays them.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { play } from "../test/mock/agent.mjs";
import { startMock } from "../test/mock/gateway.mjs";
import { withReport, answerText, chatOf, waitForOutcome, launch, newUser, sendMessage } from "./harness.mjs";

const HOSTILE = "a\u202egpj.exe";
const SOURCES = [
  { url: "https://example.com/a", title: "An article" }, { url: "http://bank.example@evil.example/", title: "bank.example" },
  { url: "javascript:alert(1)", title: "Click me" }, { url: "data:text/html,<script>alert(1)</script>" }, { url: "https://example.com/b", title: `<img src=x onerror=alert(1)>${HOSTILE}` },
];
const CODES = ["usage_limit", "compacting", "compacted", "compaction_failed", "context_cleared", "memory_lost", "sign_in", "hook", "command_output", "last_words", "permission_denied", "request_refused", "budget", "agent_stopped", "degraded", "other", "from_the_future"];

async function agent(turn, text) {
  switch (text) {
    case "silence": return undefined;
    case "parallel":
      for (const call_id of ["p1", "p2"]) turn.emit({ event: "tool_event", phase: "start", call_id, name: "Bash", arguments: { command: `make ${call_id}` } });
      turn.emit({ event: "tool_event", phase: "error", call_id: "p1", name: "Bash", error: "status 1" });
      return turn.never();
    case "own":
    case "own silent":
      void turn.byItself("schedule", async (own) => {
        if (text === "own") own.emit({ event: "message", text: "It is all in here." });
        await own.ask({ event: "permission_request", tool: "Bash", input: { command: "make" } });
      });
      return turn.emit({ event: "message", text: `${"A line before it.\n\n".repeat(40)}` });
    case "sources":
      turn.emit({ event: "delta", stream_id: "s1", text: "See there." });
      return turn.emit({ event: "stream_end", stream_id: "s1", sources: SOURCES });
    case "codes":
      for (const code of CODES) turn.emit({ event: "notice", level: "warning", code, text: `about ${code}`, data: { secret: "not for people" } });
      return turn.emit({ event: "message", text: "after them" });
    case "cut edit":
      return turn.emit({ event: "file_edit", edits: [{ call_id: "e1", tool: "Edit", path: "big.rs", added: 9000, deleted: 1, diff: "@@ -1 +1,2 @@\n-a\n+b\n+c\n", diff_truncated: true }] });
    default: return play(turn, text);
  }
}

let mock;
let harness;
before(async () => {
  mock = await startMock({ agent });
  harness = { base: mock.origin, token: "secret", browser: await launch() };
});
after(async () => {
  await harness.browser.close();
  await mock.close();
});

function browserTest(name, check) {
  test(name, { timeout: 120_000 }, async () => {
    const user = await newUser(harness);
    try {
      await withReport(user, () => check(user));
      assert.deepEqual(user.recorded.console, [], "the console stays empty");
    } finally {
      await user.context.close();
    }
  });
}

const ownTurn = (page) => page.locator(".turn[data-origin=agent]").last();
const chatLamp = (page, chat) => page.locator(`.chat-link[data-chat="${chat}"] .lamp`).getAttribute("data-lamp");

browserTest("a turn of the agent's own says why it began, and its request is answered after a reload and from another device", async (user) => {
  const page = await user.open();
  assert.equal(await waitForOutcome(await sendMessage(page, "background ask")), "completed");
  await page.locator(".tasks [data-task]").getByText("cargo build --release").waitFor();
  const own = ownTurn(page);
  await own.getByText("The agent went on by itself: background work ended.").waitFor();
  await page.locator(".tasks").waitFor({ state: "detached" });
  assert.match(await page.locator(".trace[data-task][data-status=completed]").innerText(), /Background work is done:\s+cargo build --release/);
  await page.locator(".dock").getByText("In a turn that the agent began by itself").waitFor();
  assert.equal(await own.getAttribute("data-phase"), "running");
  const chat = await chatOf(page);
  assert.equal(await chatLamp(page, chat), "waiting");

  await page.reload();
  await page.locator(".dock").getByRole("heading", { name: "Bash" }).waitFor();
  await ownTurn(page).getByText("The agent went on by itself: background work ended.").waitFor();
  const elsewhere = await newUser(harness);
  try {
    const other = await elsewhere.open({ chat });
    await other.getByRole("button", { name: "Allow once" }).click();
    assert.equal(await waitForOutcome(ownTurn(other)), "completed");
  } finally {
    await elsewhere.context.close();
  }
  assert.equal(await waitForOutcome(ownTurn(page)), "completed");
  assert.match(await answerText(ownTurn(page)), /The build is done\.\s+You said: allow\./);
  await page.locator(".dock").waitFor({ state: "detached" });
});

browserTest("tasks that run are listed after a reload", async (user) => {
  const page = await user.open();
  await waitForOutcome(await sendMessage(page, "background hang 60"));
  await page.locator(".tasks [data-task][data-kind=shell]").waitFor();
  await page.reload();
  await page.locator(".tasks [data-task][data-kind=shell]").waitFor();
});

for (const place of [".tasks", ".composer"]) {
  browserTest(`background work is stopped in ${place} once no turn is open, and the row of the tool that began it says so`, async (user) => {
    const page = await user.open();
    const turn = await sendMessage(page, "background hang 60");
    const stop = page.locator(place).getByRole("button", { name: "Stop the background work" });
    const row = turn.locator("[data-call=b1] > summary");
    await page.locator(".tasks [data-task]").waitFor();
    assert.equal(await waitForOutcome(turn), "completed");
    assert.match(await row.innerText(), /runs in the background/);
    const other = await sendMessage(page, "slow 60");
    await other.getByText(/word1/).waitFor();
    await stop.waitFor({ state: "detached" });
    const isDisabledAtFirst = page.evaluate((selector) => new Promise((done) => {
      new MutationObserver((_, observer) => {
        const button = document.querySelector(selector);
        if (!button) return;
        observer.disconnect();
        done(button.disabled);
      }).observe(document.body, { childList: true, subtree: true });
    }), `${place} [aria-label="Stop the background work"]`);
    await page.getByRole("button", { name: "Stop the answer" }).click();
    assert.equal(await waitForOutcome(other), "cancelled");
    assert.equal(await isDisabledAtFirst, true, "a double click on the turn's button stops the turn only");
    await stop.click();
    await page.locator(".tasks").waitFor({ state: "detached" });
    await page.locator(".trace[data-task][data-status=stopped]").getByText("Background work was stopped:").waitFor();
    const showsEnd = async () => {
      assert.match(await row.innerText(), /stopped/);
      assert.equal(await row.locator(".lamp").getAttribute("data-lamp"), "off");
    };
    await showsEnd();
    await page.reload();
    await row.waitFor();
    await showsEnd();
  });
}

browserTest("of two tool uses of a stopped turn, the one that failed before says so, and the other was stopped, also after a reload", async (user) => {
  const page = await user.open();
  const turn = await sendMessage(page, "parallel");
  const words = async () => {
    const rows = [];
    for (const call of ["p1", "p2"]) {
      const row = turn.locator(`[data-call=${call}]`);
      await row.locator("> summary").click();
      rows.push([await row.locator(".tool-status").innerText(), (await row.locator("h3").innerText()).trim(), await row.locator(".output").innerText()]);
    }
    return rows;
  };
  await turn.locator("[data-call=p1]").getByText("failed").waitFor();
  await page.getByRole("button", { name: "Stop the answer" }).click();
  assert.equal(await waitForOutcome(turn), "cancelled");
  const expected = [["failed", "Error", "status 1"], ["stopped", "Stopped", "no result came before the end of the turn"]];
  assert.deepEqual(await words(), expected);
  await page.reload();
  await turn.waitFor();
  assert.deepEqual(await words(), expected);
});

browserTest("a key that was released while a turn ran does not keep the button for background work disabled", async (user) => {
  const page = await user.open();
  await waitForOutcome(await sendMessage(page, "background hang 60"));
  const stop = page.locator(".composer").getByRole("button", { name: "Stop the background work" });
  await stop.waitFor();
  await page.locator("#composer").fill("slow 60");
  for (let press = 0; press < 2; press += 1) await page.keyboard.down("F2"); // the second one is the repeat of a key that is held
  await page.getByRole("button", { name: "Send" }).evaluate((button) => button.click());
  await page.getByText(/word1/).waitFor();
  await page.keyboard.up("F2");
  await page.getByRole("button", { name: "Stop the answer" }).evaluate((button) => button.click());
  await stop.click();
  await page.locator(".tasks").waitFor({ state: "detached" });
});

browserTest("without a connection, nothing is said to run or to wait now", async (user) => {
  const page = await user.open();
  const background = await sendMessage(page, "background hang 60");
  await waitForOutcome(background);
  const running = await sendMessage(page, "parallel");
  const words = () => Promise.all([background.locator("[data-call=b1]"), running.locator("[data-call=p2]")].map((row) => row.locator(".tool-status").innerText()));
  await running.locator("[data-call=p1]").getByText("failed").waitFor();
  assert.deepEqual(await words(), ["runs in the background", "runs"]);
  mock.kill({ refuse: true });
  await page.locator(".app[data-online=false]").waitFor();
  assert.deepEqual(await words(), ["ran when last connected", "ran when last connected"]);
  assert.equal(await page.locator(".turn .lamp[data-lamp=running]").count(), 0);
  mock.kill();
  await page.locator(".app[data-online=true]").waitFor();
  user.recorded.console.length = 0; // has the connections that were refused
  assert.deepEqual(await words(), ["runs in the background", "runs"]);
});

browserTest("a prompt beside the agent's own turn waits; Stop stops the turn that works, and the prompt goes on", async (user) => {
  const page = await user.open();
  await waitForOutcome(await sendMessage(page, "background hang"));
  await ownTurn(page).getByText("The build is done.").waitFor();
  const prompt = await sendMessage(page, "echo afterwards");
  await prompt.getByText("Waits until the agent is done with what it began by itself").waitFor();
  assert.equal(await ownTurn(page).getAttribute("data-phase"), "running");
  assert.equal(await chatLamp(page, await chatOf(page)), "running");
  await page.getByRole("button", { name: "Stop the answer" }).click();
  assert.equal(await waitForOutcome(ownTurn(page)), "cancelled");
  assert.equal(await waitForOutcome(prompt), "completed");
  assert.equal(await answerText(prompt), "afterwards");
  assert.match(await prompt.locator(".turn-footer").innerText(), /with waiting/);
});

for (const [text, says] of [["own", "The agent took this into what it did by itself, and answered there."], ["own silent", "Ended without an answer."]]) {
  browserTest(`a prompt that was taken into a turn of the agent's own says where its answer is, if there is one: ${text}`, async (user) => {
    const page = await user.open();
    await page.locator("#composer").fill(text);
    await page.locator("#composer").press("Enter");
    await page.locator(".dock").getByRole("heading", { name: "Bash" }).waitFor();
    const prompt = await sendMessage(page, "silence");
    await page.getByRole("button", { name: "Allow once" }).click();
    assert.equal(await waitForOutcome(prompt), "completed");
    await prompt.getByText(says).waitFor();
    const link = prompt.getByRole("button", { name: "Go to the answer" });
    assert.equal(await link.count(), text === "own" ? 1 : 0);
    if (text !== "own") return;
    await page.locator(".thread").evaluate((thread) => { thread.scrollTop = 0; });
    await link.evaluate((button) => button.click());
    const isVisible = (element) => { const { top } = element.getBoundingClientRect(); return top >= 0 && top < innerHeight; };
    assert.ok(await ownTurn(page).getByText("It is all in here.").evaluate(isVisible));
  });
}

browserTest("a turn of the agent's own has a button of its own to stop it, and a prompt beside it can be taken back", async (user) => {
  const page = await user.open();
  await waitForOutcome(await sendMessage(page, "background hang"));
  await ownTurn(page).getByText("The build is done.").waitFor();
  const prompt = await sendMessage(page, "echo never");
  await prompt.getByRole("button", { name: "Take back" }).click();
  assert.equal(await waitForOutcome(prompt), "cancelled");
  assert.equal(await ownTurn(page).getAttribute("data-phase"), "running");
  await ownTurn(page).getByRole("button", { name: "Stop" }).click();
  assert.equal(await waitForOutcome(ownTurn(page)), "cancelled");
});

browserTest("what a subagent does is folded below the use that began it, and open while it asks", async (user) => {
  const page = await user.open();
  const turn = await sendMessage(page, "subagent ask");
  const use = turn.locator("[data-call=a1]");
  await page.locator(".dock").getByText("A subagent asks: Look for the fault").waitFor();
  assert.match(await use.locator("> summary").innerText(), /subagent, 4 steps/);
  await use.getByText("The fault is in line 12.").waitFor();
  // It cannot be folded away while it asks.
  await use.locator("> summary").click();
  assert.ok(await use.getByText("waits for your permission").isVisible());
  await page.getByRole("button", { name: "Allow once" }).click();
  assert.equal(await waitForOutcome(turn), "completed");
  assert.equal(await answerText(turn), "The subagent found it: line 12.", "what the subagent said is no answer");
});

browserTest("what a subagent in the background does in a later turn is folded below the use that began it, also after a reload", async (user) => {
  const page = await user.open();
  const turn = await sendMessage(page, "subagent later");
  assert.equal(await waitForOutcome(turn), "completed");
  const use = turn.locator("[data-call=a1]");
  const read = use.locator("[data-call=n1]");
  await page.locator(".dock").getByText("A subagent asks: Look for the fault").waitFor();
  const isFolded = async () => {
    assert.match(await use.locator("> summary").innerText(), /runs in the background/);
    assert.equal(await read.getAttribute("data-status"), "done", "begun in one turn and ended in another, it is one use");
    await use.locator("[data-call=n2]").getByText("waits for your permission").waitFor();
    assert.equal(await page.locator("[data-call=n1], [data-call=n2]").count(), 2);
    assert.equal(await ownTurn(page).locator(".step").count(), 0);
    await ownTurn(page).getByText("A subagent went on. Shown where it began:").waitFor();
  };
  await isFolded();
  await page.reload();
  await page.locator(".dock").getByText("A subagent asks: Look for the fault").waitFor();
  await isFolded();
  await page.getByRole("button", { name: "Allow once" }).click();
  assert.equal(await waitForOutcome(ownTurn(page)), "completed");
  assert.doesNotMatch(await use.locator("> summary").innerText(), /runs/);
  await use.locator("> summary").click();
  await use.getByText("The fault is in line 12.").waitFor();
  assert.equal(await ownTurn(page).getByText("Ended without an answer.").count(), 0);
});

browserTest("a subagent's steps show titles, places, output, media and sources", async (user) => {
  const page = await user.open();
  const turn = await sendMessage(page, "subagent");
  assert.equal(await waitForOutcome(turn), "completed");
  assert.equal(await turn.getByText("The fault is in line 12.").count(), 0, "folded at first");
  await turn.locator("[data-call=a1] > summary").click();
  const step = turn.locator("[data-call=n1]");
  assert.match(await step.locator("> summary").innerText(), /Read\s+Read parser.rs/);
  await step.locator("> summary").click();
  assert.equal(await step.locator(".output").innerText(), "fn parse() {}");
  assert.equal((await step.locator(".places").innerText()).trim(), "src/parser.rs:12");
  assert.equal((await step.locator(".media").innerText()).trim(), "image/png, 2 KB");
  assert.deepEqual(await step.locator(".sources a").evaluateAll((links) => links.map((link) => [link.href, link.rel])), [["https://example.com/parser", "noopener noreferrer"]]);
});

browserTest("of an agent's sources only web pages become links, and their titles hide nothing", async (user) => {
  const page = await user.open();
  const turn = await sendMessage(page, "sources");
  await waitForOutcome(turn);
  const links = await turn.locator(".sources a").evaluateAll((all) => all.map((link) => [link.getAttribute("href"), link.rel, link.innerText.replace(/\s+/g, " ")]));
  assert.deepEqual(links.map(([href, rel]) => [href, rel]), ["https://example.com/a", "http://bank.example@evil.example/", "https://example.com/b"].map((href) => [href, "noopener noreferrer"]));
  assert.equal(links[1][2], "bank.example evil.example");
  assert.match(links[2][2], /<img src=x onerror=alert\(1\)>.*U\+202E.*example\.com/);
  assert.match(await turn.locator(".sources").innerText(), /javascript:alert\(1\)/);
  assert.equal(await turn.locator(".sources img").count(), 0);
});

browserTest("every kind of notice is shown with its level, and its details are not", async (user) => {
  const page = await user.open();
  const turn = await sendMessage(page, "codes");
  await waitForOutcome(turn);
  for (const code of CODES) await turn.locator(`.notice[data-code=${code}][data-level=warning]`).getByText(`about ${code}`).waitFor();
  assert.match(await turn.locator("[data-code=sign_in]").innerText(), /Not signed in: about sign_in/);
  assert.match(await turn.locator("[data-code=from_the_future]").innerText(), /Warning: about from_the_future/);
  assert.ok(!(await turn.innerText()).includes("not for people"));
});

browserTest("a turn that ended without a word says so, and a cut change says how much there is", async (user) => {
  const page = await user.open();
  const turn = await sendMessage(page, "silence");
  assert.equal(await waitForOutcome(turn), "completed");
  await turn.getByText("Ended without an answer.").waitFor();
  const edit = await sendMessage(page, "cut edit");
  await waitForOutcome(edit);
  await edit.locator("[data-tool=Edit] > summary").click();
  await edit.getByText("The change goes on: in all, 9000 lines were added and 1 deleted.").waitFor();
});
