// Claude Code itself behind a real gateway, with a scripted model on loopback: what people see of a turn that it begins by itself,
// and how they answer and stop it. SWITCHBOARD_TEST_CLAUDE names its executable, SWITCHBOARD_TEST_MODEL the model's program.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { delimiter, dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { gatewayBinary, startGateway } from "./gateway.mjs";
import { withReport, answerText, chatOf, waitForOutcome, launch, newUser, sendMessage } from "./harness.mjs";

const { SWITCHBOARD_TEST_CLAUDE: claude, SWITCHBOARD_TEST_MODEL: program } = process.env;
const skip = gatewayBinary() && claude && program ? false : "no gateway, Claude Code or scripted model: `cargo xtask test --only browser` has them";
const SWITCHES = ["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "CLAUDE_CODE_MAX_RETRIES", "DISABLE_AUTOUPDATER", "DISABLE_ERROR_REPORTING", "DISABLE_TELEMETRY"];
/** How long a page may take to show something: Claude Code has to start, on a machine on which other tests run. */
const PATIENCE_MS = 60_000;

let model;
let gateway;
let harness;
before(async () => {
  if (skip) return;
  model = spawn(program, { stdio: ["pipe", "pipe", "inherit"] });
  const [address] = await once(createInterface({ input: model.stdout }), "line");
  const env = {
    PATH: `${dirname(claude)}${delimiter}${process.env.PATH}`,
    ANTHROPIC_API_KEY: "test-key",
    ANTHROPIC_BASE_URL: `http://${address}`,
    ...Object.fromEntries(SWITCHES.map((name) => [name, "1"])),
  };
  gateway = await startGateway("--sandbox", "off", { preset: "claude", env });
  harness = { get base() { return gateway.base; }, get token() { return gateway.token; }, browser: await launch() };
});
after(async () => {
  await harness?.browser.close();
  await gateway?.end();
  model?.stdin.end();
});

/** A test of a person with two devices. */
function browserTest(name, act) {
  test(name, { timeout: 4 * PATIENCE_MS, skip }, async () => {
    const user = await newUser(harness);
    const elsewhere = await newUser(harness);
    for (const device of [user, elsewhere]) device.context.setDefaultTimeout(PATIENCE_MS);
    try {
      await withReport(user, () => withReport(elsewhere, () => act(user, elsewhere)));
    } finally {
      await user.context.close();
      await elsewhere.context.close();
    }
  });
}

const inWorkspace = (name) => join(gateway.workspace, name);
const ownTurn = (page) => page.locator(".turn[data-origin=agent]").last();
const dockOf = (page) => page.locator(".dock").filter({ hasText: "In a turn that the agent began by itself" });
const allowOnce = (page) => dockOf(page).getByRole("button", { name: "Allow once" });

/** Has Claude Code begin a turn by itself, in which it does what the message says. `gate` names the file that lets it. */
async function beginOwnTurn(page, gate, message) {
  const before = await page.locator(".turn[data-origin=agent]").count();
  const turn = await sendMessage(page, `background:until [ -e ${gate} ]; do sleep 0.02; done|${message}`);
  assert.equal(await waitForOutcome(turn), "completed");
  await page.locator(".tasks [data-task][data-kind=shell]").waitFor();
  await writeFile(inWorkspace(gate), "");
  await page.locator(".turn[data-origin=agent]").nth(before).getByText("The agent went on by itself: background work ended.").waitFor();
}

browserTest("a permission in a turn of the agent's own is there after a reload, and a click allows the tool", async (user, elsewhere) => {
  const page = await user.open();
  await beginOwnTurn(page, "gate-1", "tool:touch made-1; echo did-it");
  await allowOnce(page).waitFor();
  const other = await elsewhere.open({ chat: await chatOf(page) });
  await allowOnce(other).waitFor();
  await page.reload();
  await allowOnce(page).and(page.locator(":enabled")).waitFor();
  assert.ok(!existsSync(inWorkspace("made-1")), "nothing is done before it is allowed");
  await allowOnce(page).click();
  assert.equal(await waitForOutcome(ownTurn(page)), "completed");
  assert.ok(existsSync(inWorkspace("made-1")));
  for (const device of [page, other]) {
    assert.equal(await waitForOutcome(ownTurn(device)), "completed");
    assert.match(await answerText(ownTurn(device)), /tool said: did-it$/);
    assert.equal(await ownTurn(device).locator("[data-tool=Bash]").getAttribute("data-resolution"), "allowed");
    await device.locator(".dock").waitFor({ state: "detached" });
  }
});

browserTest("a permission in a turn of the agent's own is answered from another device, after a restart of the gateway", async (user, elsewhere) => {
  const page = await user.open();
  await beginOwnTurn(page, "gate-2", "tool:touch made-2; echo did-it");
  await allowOnce(page).waitFor();
  await gateway.kill();
  await gateway.start();
  const other = await elsewhere.open({ chat: await chatOf(page) });
  await allowOnce(other).click();
  for (const device of [other, page]) {
    assert.equal(await waitForOutcome(ownTurn(device)), "completed");
    assert.match(await answerText(ownTurn(device)), /tool said: did-it$/);
  }
  assert.ok(existsSync(inWorkspace("made-2")));
  const next = await sendMessage(page, "say:still here");
  assert.equal(await waitForOutcome(next), "completed");
  assert.equal(await answerText(next), "still here");
});

browserTest("a turn of the agent's own is stopped while it asks and while it speaks, and a message behind it is taken back without it", async (user, elsewhere) => {
  const page = await user.open();
  await beginOwnTurn(page, "gate-3", "tool:touch never");
  await allowOnce(page).waitFor();
  const other = await elsewhere.open({ chat: await chatOf(page) });
  await ownTurn(other).getByRole("button", { name: "Stop" }).click();
  for (const device of [other, page]) {
    assert.equal(await waitForOutcome(ownTurn(device)), "cancelled");
    await device.locator(".dock").waitFor({ state: "detached" });
  }
  assert.ok(!existsSync(inWorkspace("never")));

  await beginOwnTurn(page, "gate-4", "slow:600");
  await ownTurn(page).getByText(/chunk1/).waitFor();
  const prompt = await sendMessage(page, "say:never");
  await prompt.getByRole("button", { name: "Take back" }).click();
  assert.equal(await waitForOutcome(prompt), "cancelled");
  const said = await answerText(ownTurn(page));
  await page.waitForFunction((before) => [...document.querySelectorAll(".turn[data-origin=agent] .answer")].at(-1).innerText.length > before, said.length);
  assert.equal(await ownTurn(page).getAttribute("data-phase"), "running");
  await page.getByRole("button", { name: "Stop the answer" }).click();
  assert.equal(await waitForOutcome(ownTurn(page)), "cancelled");
  const next = await sendMessage(page, "say:still here");
  assert.equal(await waitForOutcome(next), "completed");
  assert.equal(await answerText(next), "still here");
});
