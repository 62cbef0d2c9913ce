// The chat list: renaming, deleting, paging, also on a phone. Each test has its own gateway, so that other tests' chats are
// not in the list.
import assert from "node:assert/strict";
import { test } from "node:test";
import { gatewayBinary, startGateway } from "./gateway.mjs";
import { withReport, chatOf, waitForOutcome, launch, newUser, sendMessage } from "./harness.mjs";

const skip = gatewayBinary() ? false : "no gateway to start: SWITCHBOARD_BINARY is not set";

function browserTest(name, check, options = {}) {
  test(name, { skip, timeout: 120_000 }, async () => {
    const gateway = await startGateway("--no-auth");
    let browser;
    try {
      browser = await launch();
      const user = await newUser({ browser, ...gateway, get base() { return gateway.base; } }, options);
      await withReport(user, () => check(gateway, user));
      assert.deepEqual(user.recorded.console, []);
    } finally {
      await browser?.close();
      await gateway.end();
    }
  });
}

const row = (page, chat) => page.locator(`.chat-row:has([data-chat="${chat}"])`);

browserTest("a chat is renamed with the keyboard, and other tabs show the new title", async (gateway, user) => {
  const page = await user.open();
  await waitForOutcome(await sendMessage(page, "echo a title of its own making"));
  const chat = await chatOf(page);
  const other = await user.open();
  await row(other, chat).getByText("echo a title").waitFor();
  await row(page, chat).locator(".chat-link").focus();
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  const dialog = page.getByRole("dialog", { name: "Chat" });
  assert.equal(await dialog.getByLabel("Title").inputValue(), "echo a title of its own making");
  await page.keyboard.type("Sea & sky <b>");
  await page.keyboard.press("Enter");
  await dialog.waitFor({ state: "detached" });
  await page.getByRole("heading", { name: "Sea & sky <b>", level: 1 }).waitFor();
  await row(other, chat).getByText("Sea & sky <b>").waitFor();
  await page.reload();
  await row(page, chat).getByText("Sea & sky <b>").waitFor();
  await waitForOutcome(await sendMessage(page, "echo the title stays"));
  await page.getByRole("heading", { name: "Sea & sky <b>", level: 1 }).waitFor();
});

browserTest("a title that is too long or empty cannot be sent", async (gateway, user) => {
  const page = await user.open();
  await waitForOutcome(await sendMessage(page, "echo hello"));
  await page.getByRole("button", { name: "Rename or delete echo hello" }).click();
  const dialog = page.getByRole("dialog");
  const renameButton = dialog.getByRole("button", { name: "Rename" });
  await dialog.getByLabel("Title").fill("ü".repeat(129));
  await dialog.getByText("too long").waitFor();
  assert.ok(await renameButton.isDisabled());
  await dialog.getByLabel("Title").fill("  ");
  assert.ok(await renameButton.isDisabled());
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
});

browserTest("a running chat is deleted after a confirmation, and disappears in every tab", async (gateway, user) => {
  const page = await user.open();
  await sendMessage(page, "slow 40");
  const chat = await chatOf(page);
  const other = await user.context.newPage();
  await other.goto(`${gateway.base}#chat=${chat}`);
  await other.locator(".turn[data-phase=running]").waitFor();
  await row(page, chat).locator(".chat-link").waitFor();
  await page.getByRole("button", { name: /^Rename or delete slow 40/ }).click();
  await page.getByRole("button", { name: "Delete chat…" }).click();
  const dialog = page.getByRole("dialog", { name: "Delete this chat?" });
  await dialog.getByText("will be stopped").waitFor();
  await page.keyboard.press("Enter"); // the focus is on the button that keeps the chat
  await page.getByRole("button", { name: "Delete chat…" }).click();
  await dialog.getByRole("button", { name: "Delete", exact: true }).click();
  await row(page, chat).waitFor({ state: "detached" });
  await page.locator(".empty").waitFor();
  // After deleting the chat on the screen, the page shows a new one.
  await page.waitForFunction(() => !location.hash.includes("chat="));
  await other.getByRole("heading", { name: "This chat was deleted" }).waitFor();
  await row(other, chat).waitFor({ state: "detached" });
  // A link to the chat says so too in the tab that created and deleted it, until that tab is loaded again.
  await page.goto(`${gateway.base}#chat=${chat}`);
  await page.getByRole("heading", { name: "This chat was deleted" }).waitFor();
  await page.reload();
  await page.getByRole("heading", { name: "No such chat" }).waitFor();
  await Promise.all([page.close(), other.close()]);
  await gateway.kill();
  await gateway.start();
  const later = await user.context.newPage();
  await later.goto(`${gateway.base}#chat=${chat}`);
  await later.getByRole("heading", { name: "No such chat" }).waitFor();
});

browserTest("on a phone a chat is deleted from the drawer", async (gateway, user) => {
  const page = await user.open();
  await page.locator("#composer").fill("echo to be deleted");
  await page.getByRole("button", { name: "Send" }).tap();
  await page.locator(".turn[data-phase=done]").waitFor();
  const chat = await chatOf(page);
  await page.getByRole("button", { name: "Open the list of chats" }).tap();
  const more = page.getByRole("button", { name: "Rename or delete echo to be deleted" });
  // The layout size, since the drawer's animation may scale the drawn size.
  const [width, height] = await more.evaluate((button) => [button.offsetWidth, button.offsetHeight]);
  assert.ok(width >= 40 && height >= 40, `${width} by ${height} pixels are large enough for a finger`);
  await more.tap();
  await page.getByRole("button", { name: "Delete chat…" }).tap();
  await page.getByRole("button", { name: "Delete", exact: true }).tap();
  await row(page, chat).waitFor({ state: "detached" });
}, { viewport: { width: 375, height: 700 }, isMobile: true, hasTouch: true });

/** Sends frames to the gateway over a WebSocket of the page's origin. Gives all events up to the `count`th of kind `lastEvent`. */
function exchangeFrames(page, frames, lastEvent, count) {
  return page.evaluate(([frames, lastEvent, count]) => new Promise((done) => {
    const socket = new WebSocket(new URL("./ws", location.href.replace(/^http/, "ws")), ["switchboard.v1"]);
    const events = [];
    socket.onmessage = ({ data }) => {
      const event = JSON.parse(data);
      events.push(event);
      if (event.event === "ready") for (const frame of frames) socket.send(JSON.stringify(frame));
      if (events.filter((each) => each.event === lastEvent).length < count) return;
      socket.close();
      done(events);
    };
  }), [frames, lastEvent, count]);
}

browserTest("on a phone the page says which agent runs, where and in which sandbox", async (gateway, user) => {
  const page = await user.open();
  for (const part of [".agent-name", ".agent-workspace", ".agent-sandbox"]) {
    const box = await page.locator(part).boundingBox();
    assert.ok(box && box.width > 20 && box.x >= 0 && box.x + box.width <= 320, `${part}: ${JSON.stringify(box)}`);
  }
}, { viewport: { width: 320, height: 640 }, isMobile: true, hasTouch: true });

browserTest("chats that another tab or a program creates appear in the list at once", async (gateway, user) => {
  const page = await user.open();
  const other = await user.open();
  await waitForOutcome(await sendMessage(other, "echo made in another tab"));
  // The page lists the chats again only every 30 s, so this waits for less.
  await row(page, await chatOf(other)).getByText("echo made in another tab").waitFor({ timeout: 15_000 });
  const events = await exchangeFrames(other, [{ type: "message", chat_id: "of-a-program", content: "echo made by a program", turn_id: "t" }], "turn_end", 1);
  assert.equal(events.at(-1).outcome, "completed");
  for (const each of [page, other]) await row(each, "of-a-program").getByText("echo made by a program").waitFor({ timeout: 15_000 });
  assert.deepEqual(await page.locator(".chat-link").evaluateAll((links) => links.map((each) => each.dataset.chat)), ["of-a-program", await chatOf(other)]);
});

browserTest("with more chats than one page, the newest come first and older ones load on demand", async (gateway, user) => {
  const page = await user.open();
  const events = await exchangeFrames(page, Array.from({ length: 58 }, () => ({ type: "new_chat" })), "replay_end", 58);
  const ids = events.filter((event) => event.event === "attached").map((event) => event.chat_id);
  await exchangeFrames(page, ids.map((chat_id, at) => ({ type: "rename_chat", chat_id, title: `number ${at}` })), "session_updated", 58);
  // The oldest chat, which this page never opened, gets a permission request and becomes the newest.
  await exchangeFrames(page, [{ type: "message", chat_id: ids[0], content: "permission touch x", turn_id: "t" }], "permission_request", 1);
  await page.reload();
  const links = page.locator(".chat-link");
  await page.getByRole("button", { name: "Older chats" }).waitFor();
  assert.equal(await links.count(), 50);
  assert.equal(await links.first().getAttribute("data-chat"), ids[0], "newest activity first");
  assert.equal(await links.first().locator(".lamp").getAttribute("data-lamp"), "waiting", "the list shows that the unopened chat waits");
  assert.match(await links.nth(1).innerText(), /^number \d+$/);
  await page.getByRole("button", { name: "Older chats" }).click();
  await page.getByRole("button", { name: "Older chats" }).waitFor({ state: "detached" });
  const [first] = (await exchangeFrames(page, [{ type: "list_chats" }], "chats", 1)).slice(-1);
  const [second] = (await exchangeFrames(page, [{ type: "list_chats", before: first.before }], "chats", 1)).slice(-1);
  const all = [...first.chats, ...second.chats];
  assert.ok(all.every((chat, at) => at === 0 || chat.updated_at_ms <= all[at - 1].updated_at_ms), "newest activity first");
  assert.deepEqual(await links.evaluateAll((links) => links.map((each) => each.dataset.chat)), all.map((chat) => chat.chat_id), "each chat is listed once, in order");
  assert.deepEqual([all.length, second.before], [58, undefined]);
});

browserTest("the list shows live which other chats run and wait, also for the agent's own turns", async (gateway, user) => {
  // Without the regular listing, only the gateway's word leads to a new list.
  await user.context.addInitScript(() => {
    const every = window.setInterval.bind(window);
    window.setInterval = (run, ms, ...rest) => (ms === 30_000 ? 0 : every(run, ms, ...rest));
  });
  const page = await user.open();
  await waitForOutcome(await sendMessage(page, "echo here"));
  const chat = await chatOf(page);
  const other = await user.open();
  await other.getByRole("button", { name: "New chat" }).click();
  await waitForOutcome(await sendMessage(other, "background ask 1"));
  const busy = await chatOf(other);
  assert.notEqual(busy, chat);
  const lamp = (state) => row(page, busy).locator(`.lamp[data-lamp=${state}]`).waitFor();
  await lamp("waiting");
  await other.getByRole("button", { name: "Allow once" }).click();
  await waitForOutcome(other.locator(".turn[data-origin=agent]"));
  await lamp("off");
  await sendMessage(other, "hang");
  await lamp("running");
  await other.getByRole("button", { name: "Stop the answer" }).click();
  await lamp("off");
});
