// What goes wrong at the gateway, in words and with a way on: no room for a connection, a chat that is damaged.
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import WebSocket from "ws";
import { binary, ownGateway } from "./gateway.mjs";
import { acting, chatOf, ended, launch, person, say } from "./world.mjs";

const skip = binary() ? false : "no gateway to start: SWITCHBOARD_BINARY is not set";
/** Connections of a principal. */
const LIMIT = 20;

function scene(name, act) {
  test(name, { skip, timeout: 120_000 }, async () => {
    const gateway = await ownGateway();
    let browser;
    try {
      browser = await launch();
      const me = await person({ browser, get base() { return gateway.base; }, get token() { return gateway.token; } });
      await acting(me, () => act(gateway, me));
    } finally {
      await browser?.close();
      await gateway.end();
    }
  });
}

/** A connection that the gateway has greeted; fails if the gateway closes it in place of that. */
async function connection(gateway) {
  const socket = new WebSocket(`${gateway.base.replace(/^http/, "ws")}ws`, "switchboard.v1", { headers: { authorization: `Bearer ${gateway.token}` } });
  await Promise.race([
    once(socket, "message"),
    once(socket, "close").then(([code, reason]) => { throw new Error(`the gateway closed a connection: ${code} ${reason}`); }),
  ]);
  return socket;
}

scene("a page that has no room is told why, stays in sight of its chat, and goes on once there is room", async (gateway, me) => {
  const page = await me.open(); // it stays open: when the gateway sees the end of a closed page's connection is not known
  await ended(await say(page, "echo hello"));
  const chat = await chatOf(page);
  const others = [];
  try {
    for (let made = 1; made < LIMIT; made += 1) others.push(await connection(gateway));
    const late = await me.context.newPage();
    await late.goto(`${gateway.base}#token=${gateway.token}&chat=${chat}`);
    const why = late.getByRole("alert").filter({ hasText: "no room for another connection" });
    await why.waitFor();
    assert.match(await why.innerText(), /the limit is 20 connections of yours at once; close another page or program\. This page tries again by itself\.$/);
    assert.equal(await late.getByLabel("Access token").count(), 0, "its token is right");
    others[0].close();
    await once(others[0], "close");
    await late.getByRole("button", { name: "Connect now" }).first().click();
    await late.locator(".turn[data-phase=done]").waitFor();
    assert.equal(await why.count(), 0);
  } finally {
    for (const socket of others) socket.terminate();
  }
});

scene("a damaged chat says what it is and what to do, and others go on", async (gateway, me) => {
  const page = await me.open();
  await ended(await say(page, "echo words that are harmed"));
  const chat = await chatOf(page);
  await page.close();
  await gateway.kill("SIGTERM");
  const journal = join(gateway.data, "journal.db");
  const bytes = await readFile(journal);
  const words = Buffer.from("words that are harmed");
  let count = 0;
  for (let at = bytes.indexOf(words); at >= 0; at = bytes.indexOf(words, at)) {
    bytes[at] ^= 1; // its checksum notices, the database does not
    count += 1;
  }
  assert.ok(count > 0);
  await writeFile(journal, bytes);
  await gateway.start();
  const later = await me.context.newPage();
  await later.goto(`${gateway.base}#token=${gateway.token}&chat=${chat}`);
  const said = later.getByRole("alert").filter({ hasText: "This chat is damaged" });
  await said.waitFor();
  assert.match(await said.innerText(), /switchboard doctor/);
  assert.equal(await later.getByText("Loading…").count(), 0);
  assert.equal(await later.locator("#composer").count(), 0, "nothing is said into it that could not be shown");
  await said.getByRole("button", { name: "New chat" }).click();
  assert.equal(await ended(await say(later, "echo all of these")), "completed");
});
