// The list of chats: renaming, deleting, on a phone too. It needs a gateway of its own, so that nobody else's chats are in the way.
import assert from "node:assert/strict";
import { test } from "node:test";
import { binary, ownGateway } from "./gateway.mjs";
import { acting, chatOf, ended, launch, person, say } from "./world.mjs";

const skip = binary() ? false : "no gateway to start: SWITCHBOARD_BINARY is not set";

function scene(name, act, options = {}) {
  test(name, { skip, timeout: 120_000 }, async () => {
    const gateway = await ownGateway("--no-auth");
    let browser;
    try {
      browser = await launch();
      const me = await person({ browser, ...gateway, get base() { return gateway.base; } }, options);
      await acting(me, () => act(gateway, me));
      assert.deepEqual(me.heard.console, []);
    } finally {
      await browser?.close();
      await gateway.end();
    }
  });
}

const row = (page, chat) => page.locator(`.chat-row:has([data-chat="${chat}"])`);

scene("a chat is renamed with the keyboard, and other tabs see it", async (gateway, me) => {
  const page = await me.open();
  await ended(await say(page, "echo a title of its own making"));
  const chat = await chatOf(page);
  const other = await me.open();
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
  await ended(await say(page, "echo the title stays"));
  await page.getByRole("heading", { name: "Sea & sky <b>", level: 1 }).waitFor();
});

scene("a title that is too long or empty is not sent", async (gateway, me) => {
  const page = await me.open();
  await ended(await say(page, "echo hello"));
  await page.getByRole("button", { name: "Rename or delete echo hello" }).click();
  const dialog = page.getByRole("dialog");
  const save = dialog.getByRole("button", { name: "Rename" });
  await dialog.getByLabel("Title").fill("ü".repeat(129));
  await dialog.getByText("too long").waitFor();
  assert.ok(await save.isDisabled());
  await dialog.getByLabel("Title").fill("  ");
  assert.ok(await save.isDisabled());
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
});

scene("a chat at work is deleted after a question, and is gone in every tab", async (gateway, me) => {
  const page = await me.open();
  await say(page, "slow 40");
  const chat = await chatOf(page);
  const other = await me.context.newPage();
  await other.goto(`${gateway.base}#chat=${chat}`);
  await other.locator(".turn[data-phase=running]").waitFor();
  await row(page, chat).locator(".chat-link").waitFor();
  await page.getByRole("button", { name: /^Rename or delete slow 40/ }).click();
  await page.getByRole("button", { name: "Delete chat…" }).click();
  const dialog = page.getByRole("dialog", { name: "Delete this chat?" });
  await dialog.getByText("will be stopped").waitFor();
  await page.keyboard.press("Enter"); // the careful answer has the focus
  await page.getByRole("button", { name: "Delete chat…" }).click();
  await dialog.getByRole("button", { name: "Delete", exact: true }).click();
  await row(page, chat).waitFor({ state: "detached" });
  await page.locator(".empty").waitFor();
  // Whoever deletes a chat is led to a new one.
  await page.waitForFunction(() => !location.hash.includes("chat="));
  await other.getByRole("heading", { name: "No such chat" }).waitFor();
  await row(other, chat).waitFor({ state: "detached" });
  // A link to it says so, also where it was begun and deleted.
  await page.goto(`${gateway.base}#chat=${chat}`);
  await page.getByRole("heading", { name: "No such chat" }).waitFor();
  await page.reload();
  await page.getByRole("heading", { name: "No such chat" }).waitFor();
  await Promise.all([page.close(), other.close()]);
  await gateway.kill();
  await gateway.start();
  const later = await me.context.newPage();
  await later.goto(`${gateway.base}#chat=${chat}`);
  await later.getByRole("heading", { name: "No such chat" }).waitFor();
});

scene("on a phone a chat is deleted from the drawer", async (gateway, me) => {
  const page = await me.open();
  await page.locator("#composer").fill("echo to be deleted");
  await page.getByRole("button", { name: "Send" }).tap();
  await page.locator(".turn[data-phase=done]").waitFor();
  const chat = await chatOf(page);
  await page.getByRole("button", { name: "Open the list of chats" }).tap();
  const more = page.getByRole("button", { name: "Rename or delete echo to be deleted" });
  // As it is laid out: where it is drawn while the drawer slides in may be off by a fraction.
  const [width, height] = await more.evaluate((button) => [button.offsetWidth, button.offsetHeight]);
  assert.ok(width >= 40 && height >= 40, `${width} by ${height} pixels are large enough for a finger`);
  await more.tap();
  await page.getByRole("button", { name: "Delete chat…" }).tap();
  await page.getByRole("button", { name: "Delete", exact: true }).tap();
  await row(page, chat).waitFor({ state: "detached" });
}, { viewport: { width: 375, height: 700 }, isMobile: true, hasTouch: true });

/** Speaks to the gateway from within the page, as its origin; gives the events up to the last one that is waited for. */
function talk(page, frames, until, count) {
  return page.evaluate(([frames, until, count]) => new Promise((done) => {
    const socket = new WebSocket(new URL("./ws", location.href.replace(/^http/, "ws")), ["switchboard.v1"]);
    const events = [];
    socket.onmessage = ({ data }) => {
      const event = JSON.parse(data);
      events.push(event);
      if (event.event === "ready") for (const frame of frames) socket.send(JSON.stringify(frame));
      if (events.filter((each) => each.event === until).length < count) return;
      socket.close();
      done(events);
    };
  }), [frames, until, count]);
}

scene("a chat that is made elsewhere is in the list at once, and one that is renamed further down is not", async (gateway, me) => {
  const page = await me.open();
  const other = await me.open();
  await ended(await say(other, "echo made in another tab"));
  // The list is asked for by itself only every 30 s, which is longer than this waits.
  await row(page, await chatOf(other)).getByText("echo made in another tab").waitFor({ timeout: 15_000 });
  const made = await talk(other, [{ type: "message", chat_id: "of-a-program", content: "echo made by a program", turn_id: "t" }], "turn_end", 1);
  assert.equal(made.at(-1).outcome, "completed");
  for (const each of [page, other]) await row(each, "of-a-program").getByText("echo made by a program").waitFor({ timeout: 15_000 });
  assert.deepEqual(await page.locator(".chat-link").evaluateAll((links) => links.map((each) => each.dataset.chat)), ["of-a-program", await chatOf(other)]);
});

scene("more chats than one page: newest first, and the older ones on demand", async (gateway, me) => {
  const page = await me.open();
  const made = await talk(page, Array.from({ length: 58 }, () => ({ type: "new_chat" })), "replay_end", 58);
  const ids = made.filter((event) => event.event === "attached").map((event) => event.chat_id);
  await talk(page, ids.map((chat_id, at) => ({ type: "rename_chat", chat_id, title: `number ${at}` })), "session_updated", 58);
  // The oldest becomes the newest, and waits for a person; nobody has opened it here.
  await talk(page, [{ type: "message", chat_id: ids[0], content: "permission touch x", turn_id: "t" }], "permission_request", 1);
  await page.reload();
  const links = page.locator(".chat-link");
  await page.getByRole("button", { name: "Older chats" }).waitFor();
  assert.equal(await links.count(), 50);
  assert.equal(await links.first().getAttribute("data-chat"), ids[0], "newest activity first");
  assert.equal(await links.first().locator(".lamp").getAttribute("data-lamp"), "waiting", "without being opened");
  assert.match(await links.nth(1).innerText(), /^number \d+$/);
  await page.getByRole("button", { name: "Older chats" }).click();
  await page.getByRole("button", { name: "Older chats" }).waitFor({ state: "detached" });
  const [first] = (await talk(page, [{ type: "list_chats" }], "chats", 1)).slice(-1);
  const [second] = (await talk(page, [{ type: "list_chats", before: first.before }], "chats", 1)).slice(-1);
  const all = [...first.chats, ...second.chats];
  assert.ok(all.every((chat, at) => at === 0 || chat.updated_at_ms <= all[at - 1].updated_at_ms), "newest activity first");
  assert.deepEqual(await links.evaluateAll((links) => links.map((each) => each.dataset.chat)), all.map((chat) => chat.chat_id), "each once, in order");
  assert.deepEqual([all.length, second.before], [58, undefined]);
});
