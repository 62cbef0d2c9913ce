// Hostile chat titles, wherever the page shows a title. The mock gateway passes on titles that the real one would clean.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startMock } from "../test/mock/gateway.mjs";
import { withReport, chatOf, waitForOutcome, launch, newUser, sendMessage } from "./harness.mjs";

/** Titles, each with what the page shows of it. */
const TITLES = {
  "bidirectional and invisible characters": ["re\u202etxt.exe\u202c \u200b\u2066x\u2069", "re<U+202E>txt.exe<U+202C> <U+200B><U+2066>x<U+2069>"],
  "line ends and controls": ["one\n\n\n\n\n\ntwo\u0007\u001b[2J", "one 5 blank lines two<U+0007><U+001B>[2J"],
  HTML: ["<img src=x onerror=alert(1)><script>alert(1)</script>&amp;<b>x", "<img src=x onerror=alert(1)><script>alert(1)</script>&amp;<b>x"],
  "a very long word": ["W".repeat(2_000), "W".repeat(2_000)],
  "very many combining marks": [`a${"\u0301".repeat(5_000)}z`, "a\u0301\u0301<U+0301 ×4998>z"],
};

let mock;
let harness;
before(async () => {
  mock = await startMock({ agent: (turn, text) => turn.emit({ event: "message", text }) });
  harness = { base: mock.origin, token: "secret", browser: await launch() };
});
after(async () => {
  await harness?.browser.close();
  await mock?.close();
});

for (const [name, [title, shown]] of Object.entries(TITLES)) {
  for (const viewport of [{ width: 1100, height: 800 }, { width: 375, height: 700 }]) {
    test(`a title with ${name} is shown in its place and does nothing else (${viewport.width} px)`, { timeout: 120_000 }, async () => {
      const user = await newUser(harness, { viewport });
      try {
        await withReport(user, () => check(user, title, shown));
        assert.deepEqual(user.recorded.console, []);
      } finally {
        await user.context.close();
      }
    });
  }
}

async function check(user, title, shown) {
  const first = await user.open();
  await waitForOutcome(await sendMessage(first, "hello"));
  const chat = await chatOf(first);
  mock.chats.get(chat).title = title;
  const page = await user.open({ chat });
  await page.locator("h1").waitFor();
  const inOneLine = (text) => text.replace(/\s+/g, " ").trim();
  assert.equal(inOneLine(await page.locator("h1").innerText()), shown);
  assert.ok((await page.title()).includes(title.includes("\n") ? "one" : shown.slice(0, 200)), await page.title());
  assert.ok(!/[\u200b-\u200f\u202a-\u202e\u2066-\u2069]/.test(await page.title()));
  const drawer = page.getByRole("button", { name: "Open the list of chats" });
  if (await drawer.isVisible()) await drawer.click();
  const row = page.locator(`.chat-row:has([data-chat="${chat}"])`);
  assert.equal(inOneLine(await row.locator(".chat-title").textContent()), shown);
  await assertUnharmed(page);
  // No row of the list is higher than another.
  assert.ok((await row.boundingBox()).height < 80);
  await row.locator(".chat-more").click();
  await page.getByRole("button", { name: "Delete chat…" }).click();
  const dialog = page.getByRole("dialog", { name: "Delete this chat?" });
  assert.equal(inOneLine(await dialog.locator(".chat-named").innerText()), shown);
  await assertUnharmed(page);
  await dialog.getByRole("button", { name: "Delete", exact: true }).click();
  await row.waitFor({ state: "detached" });
}

/** The page is no larger than the window, and has no elements from a title. */
async function assertUnharmed(page) {
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth && document.documentElement.scrollHeight <= innerHeight));
  assert.equal(await page.locator("img, script:not([src])").count(), 0);
}
