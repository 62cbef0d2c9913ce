// A permission request takes no click or key press that was meant for something else: its buttons are enabled only after a
// time without one. The page's clock stands still here and is moved by the test.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startMock } from "../test/mock/gateway.mjs";
import { withReport, answerText, waitForOutcome, launch, newUser, sendMessage } from "./harness.mjs";

/** As in `src/page/consent/arming.ts`. */
const ARMED_AFTER_MS = 600;

async function agent(turn, text) {
  if (text === "hello") return turn.emit({ event: "message", text });
  const { decision } = await turn.ask({ event: "permission_request", tool: "Bash", input: { command: "rm -rf ~" } });
  return turn.emit({ event: "message", text: `received: ${decision}` });
}

let mock;
let harness;
before(async () => {
  mock = await startMock({ agent });
  harness = { base: mock.origin, token: "secret", browser: await launch() };
});
after(async () => {
  await harness?.browser.close();
  await mock?.close();
});

/** A test of a request that has just appeared, with its input seen to its end, at a clock that stands still. */
function armingTest(name, check) {
  test(name, { timeout: 120_000 }, async () => {
    const user = await newUser(harness);
    try {
      await withReport(user, async () => {
        const { clock } = user.context;
        await clock.install();
        const page = await user.open();
        await waitForOutcome(await sendMessage(page, "hello")); // a first answer, so that nothing else changes on the page
        await clock.pauseAt(await page.evaluate(() => Date.now() + 1_000));
        await page.locator("#composer").fill("ask");
        await page.locator("#composer").press("Enter");
        const dock = page.locator(".dock");
        // The page draws in animation frames, which belong to the clock.
        while (await dock.count() === 0) await clock.runFor(20);
        await dock.getByText("once you have seen the end").waitFor({ state: "detached" });
        const [allow, deny] = ["Allow once", "Deny"].map((label) => dock.getByRole("button", { name: label, exact: true }));
        const { x, y, width, height } = await allow.boundingBox();
        await page.mouse.move(x + width / 2, y + height / 2);
        const assertDisabled = async (when) => assert.ok(await allow.isDisabled() && await deny.isDisabled(), when);
        await assertDisabled("at first");
        await check({ page, clock, allow, assertDisabled, pressMouse: () => page.mouse.down(), releaseMouse: () => page.mouse.up() });
        // After the arming, a click answers.
        await clock.runFor(ARMED_AFTER_MS + 2);
        assert.ok(await allow.isEnabled() && await deny.isEnabled());
        await page.mouse.click(x + width / 2, y + height / 2);
        const turn = page.locator(".turn").last();
        while (await turn.getAttribute("data-phase") !== "done") await clock.runFor(20);
        assert.equal(await answerText(turn), "received: allow");
      });
      assert.deepEqual(user.recorded.console, []);
    } finally {
      await user.context.close();
    }
  });
}

armingTest("the buttons of a request are enabled after a time, and not before", async ({ clock, assertDisabled }) => {
  await clock.runFor(ARMED_AFTER_MS - 20);
  await assertDisabled("shortly before");
});

armingTest("a click or key press that comes too early answers nothing, and the time begins again", async ({ page, clock, assertDisabled, pressMouse, releaseMouse }) => {
  for (let round = 0; round < 3; round += 1) {
    await clock.runFor(ARMED_AFTER_MS - 20);
    await pressMouse();
    await releaseMouse();
    await assertDisabled(`after click ${round}`);
    await clock.runFor(ARMED_AFTER_MS - 20);
    await page.keyboard.press(round === 1 ? " " : "Enter");
    await assertDisabled(`after key ${round}`);
  }
  assert.equal(await page.locator(".dock").count(), 1, "nothing was answered");
});

armingTest("a mouse button that is held down answers nothing, however long, and nor does its release", async ({ page, clock, assertDisabled, pressMouse, releaseMouse }) => {
  await pressMouse();
  await clock.runFor(10 * ARMED_AFTER_MS);
  await assertDisabled("while it is held");
  await releaseMouse();
  await assertDisabled("at its release");
  await clock.runFor(ARMED_AFTER_MS - 20);
  await assertDisabled("soon after its release");
  assert.equal(await page.locator(".dock").count(), 1, "nothing was answered");
});
