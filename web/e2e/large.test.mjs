// Inputs of several megabytes that are costly to draw. No task of the page's main thread may take long enough for a person to
// notice.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, test } from "node:test";
import { startMock } from "../test/mock/gateway.mjs";
import { withReport, launch, newUser, sendMessage } from "./harness.mjs";

const BYTES = 4 << 20;
/** The limit of elements for one page of an input. */
const MAX_ELEMENTS = 8_000;
/**
 * The limit for one task in CPU time: so many times what it costs on this machine to lay out `MAX_ELEMENTS` plain elements. That
 * is about 45 ms on a quiet machine, so the limit is about 200 ms; a busy machine is slow at both.
 */
const MAX_TIMES_REFERENCE = 4.5;
const repeatTo = (unit, bytes = BYTES) => unit.repeat(Math.floor(bytes / Buffer.byteLength(unit)));
/**
 * The whole inputs. The repeated unit has 1, 2 or 4 bytes and begins at a multiple of that, since the mock cuts pages at
 * fixed bytes and must not cut a character.
 */
const INPUTS = {
  hidden: `{"command":"${repeatTo("a\u200b")}"}`,
  words: `{"command":"${repeatTo("\u0430b ")}"}`,
  marks: `{"command":"${repeatTo("\u0301\u0301")}"}`,
  blank: `{"command":"ls",${repeatTo(" \n")}"x":1}`,
  line: `{"command":"${repeatTo("x")}"}`,
  nested: `{"x":${"[".repeat(100)}${repeatTo("[],", BYTES)}[]${"]".repeat(100)}}`,
  parsed: `{"command":"ls","x":${"[".repeat(100)}${repeatTo("[],", 900_000)}[]${"]".repeat(100)}}`,
};

let mock;
let harness;
before(async () => {
  const agent = async (turn, name) => {
    const whole = INPUTS[name];
    await turn.ask({ event: "permission_request", tool: "Bash", input: { command: "ls" }, truncated: true, input_bytes: Buffer.byteLength(whole), input_sha256: createHash("sha256").update(whole).digest("hex") }, whole);
  };
  mock = await startMock({ agent, inputPage: 65_536 });
  harness = { base: mock.origin, token: "secret", browser: await launch() };
});
after(async () => {
  await harness?.browser.close();
  await mock?.close();
});

/** Runs `act`. Gives the number of tasks of the page's main thread meanwhile, and the CPU time of the longest in milliseconds. */
async function longestTask(page, act) {
  await harness.browser.startTracing(page, { categories: ["disabled-by-default-devtools.timeline", "toplevel"] });
  const trace = await act().then(() => harness.browser.stopTracing(), async (error) => {
    await harness.browser.stopTracing();
    throw error;
  });
  const { traceEvents } = JSON.parse(String(trace));
  const renderers = new Set(traceEvents.filter((each) => each.name === "thread_name" && each.args.name === "CrRendererMain").map((each) => `${each.pid} ${each.tid}`));
  const tasks = traceEvents.filter((each) => each.name === "RunTask" && each.tdur !== undefined && renderers.has(`${each.pid} ${each.tid}`));
  return { count: tasks.length, ms: tasks.reduce((most, each) => Math.max(most, each.tdur / 1000), 0) };
}

/** Lays out as many plain elements as a page of an input may have. Gives the CPU time of that task in milliseconds. */
async function referenceTask(page) {
  const { ms } = await longestTask(page, () => page.evaluate((count) => {
    const box = document.body.appendChild(document.createElement("div"));
    for (let each = 0; each < count; each += 1) box.appendChild(document.createElement("span")).textContent = `word ${each} `;
    const height = box.offsetHeight;
    box.remove();
    return height;
  }, MAX_ELEMENTS));
  return ms;
}

for (const name of Object.keys(INPUTS)) {
  test(`four megabytes do not freeze the page, and cannot be allowed before their last page (${name})`, { timeout: 240_000 }, async () => {
    const user = await newUser(harness);
    try {
      await withReport(user, async () => {
        const page = await user.open();
        await sendMessage(page, name);
        const dock = page.locator(".dock");
        const load = dock.getByRole("button", { name: "Show all of it" });
        const allow = page.getByRole("button", { name: "Allow once" });
        await load.waitFor();
        const before = await referenceTask(page);
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
            assert.ok(elements <= MAX_ELEMENTS, `${elements} elements`);
            if (process.env.SCREENSHOTS) await page.screenshot({ path: `${process.env.SCREENSHOTS}/large-${name}-${part}.png` });
            await dock.locator(".dock-next").click();
          }
        });
        const reference = Math.max(before, await referenceTask(page));
        if (process.env.VERBOSE) console.log(name, count, ms, before, reference);
        assert.ok(count > 10, "tasks were measured");
        assert.ok(ms < MAX_TIMES_REFERENCE * reference, `a task of ${ms} ms, where ${MAX_ELEMENTS} elements cost ${reference} ms`);
        await dock.getByRole("button", { name: "Deny", exact: true }).and(page.locator(":enabled")).waitFor();
        assert.ok(await allow.isDisabled());
        await dock.getByRole("button", { name: "Deny", exact: true }).click();
      });
    } finally {
      await user.context.close();
    }
  });
}
