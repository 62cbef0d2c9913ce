// Inputs of megabytes, made to stall the page that shows them: no task of its main thread may take longer than a person waits.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, test } from "node:test";
import { startMock } from "../test/mock/gateway.mjs";
import { acting, launch, person, say } from "./world.mjs";

const BYTES = 4 << 20;
/** What a task may cost of the processor's time, which other programs of the machine do not add to. */
const TASK_MS = 200;
/** More elements than these a page of an input never has. */
const ELEMENTS = 8_000;
const fill = (unit, bytes = BYTES) => unit.repeat(Math.floor(bytes / Buffer.byteLength(unit)));
/** The whole text of an input. What repeats is 1, 2 or 4 bytes long and begins at a multiple of that, so that no page of the mock cuts a character. */
const INPUTS = {
  hidden: `{"command":"${fill("a\u200b")}"}`,
  words: `{"command":"${fill("\u0430b ")}"}`,
  marks: `{"command":"${fill("\u0301\u0301")}"}`,
  blank: `{"command":"ls",${fill(" \n")}"x":1}`,
  line: `{"command":"${fill("x")}"}`,
  nested: `{"x":${"[".repeat(100)}${fill("[],", BYTES)}[]${"]".repeat(100)}}`,
  parsed: `{"command":"ls","x":${"[".repeat(100)}${fill("[],", 900_000)}[]${"]".repeat(100)}}`,
};

let mock;
let world;
before(async () => {
  const agent = async (turn, name) => {
    const whole = INPUTS[name];
    await turn.ask({ event: "permission_request", tool: "Bash", input: { command: "ls" }, truncated: true, input_bytes: Buffer.byteLength(whole), input_sha256: createHash("sha256").update(whole).digest("hex") }, whole);
  };
  mock = await startMock({ agent, inputPage: 65_536 });
  world = { base: mock.origin, token: "secret", browser: await launch() };
});
after(async () => {
  await world?.browser.close();
  await mock?.close();
});

/** The longest task of a page's main thread while something is done, in milliseconds of the processor's time, and how many there were. */
async function longestTask(page, act) {
  await world.browser.startTracing(page, { categories: ["disabled-by-default-devtools.timeline", "toplevel"] });
  const trace = await act().then(() => world.browser.stopTracing(), async (error) => {
    await world.browser.stopTracing();
    throw error;
  });
  const { traceEvents } = JSON.parse(String(trace));
  const renderers = new Set(traceEvents.filter((each) => each.name === "thread_name" && each.args.name === "CrRendererMain").map((each) => `${each.pid} ${each.tid}`));
  const tasks = traceEvents.filter((each) => each.name === "RunTask" && each.tdur !== undefined && renderers.has(`${each.pid} ${each.tid}`));
  return { count: tasks.length, ms: tasks.reduce((most, each) => Math.max(most, each.tdur / 1000), 0) };
}

for (const name of Object.keys(INPUTS)) {
  test(`four megabytes do not stall the page, and are not allowed before their last part (${name})`, { timeout: 240_000 }, async () => {
    const someone = await person(world);
    try {
      await acting(someone, async () => {
        const page = await someone.open();
        await say(page, name);
        const dock = page.locator(".dock");
        const load = dock.getByRole("button", { name: "Show all of it" });
        const allow = page.getByRole("button", { name: "Allow once" });
        await load.waitFor();
        const { count, ms } = await longestTask(page, async () => {
          await load.click();
          await dock.locator(".warning button").waitFor({ state: "detached" });
          for (let part = 0; part < 3; part += 1) {
            await page.waitForFunction(() => {
              const box = document.querySelector(".dock-input");
              box.scrollTop = box.scrollHeight;
              return document.querySelector(".dock-next:enabled");
            });
            const elements = await dock.locator(".dock-input *").count();
            assert.ok(elements <= ELEMENTS, `${elements} elements`);
            if (process.env.SCREENSHOTS) await page.screenshot({ path: `${process.env.SCREENSHOTS}/large-${name}-${part}.png` });
            await dock.locator(".dock-next").click();
          }
        });
        if (process.env.VERBOSE) console.log(name, count, ms);
        assert.ok(count > 10, "tasks were measured");
        assert.ok(ms < TASK_MS, `a task of ${ms} ms`);
        await dock.getByRole("button", { name: "Deny", exact: true }).and(page.locator(":enabled")).waitFor();
        assert.ok(await allow.isDisabled());
        await dock.getByRole("button", { name: "Deny", exact: true }).click();
      });
    } finally {
      await someone.context.close();
    }
  });
}
