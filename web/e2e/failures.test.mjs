// Failures of the gateway that the page explains: the connection limit, and a damaged chat.
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import WebSocket from "ws";
import { gatewayBinary, startGateway } from "./gateway.mjs";
import { withReport, chatOf, waitForOutcome, launch, newUser, sendMessage } from "./harness.mjs";

const skip = gatewayBinary() ? false : "no gateway to start: SWITCHBOARD_BINARY is not set";
/** The gateway's limit of connections per principal. */
const MAX_CONNECTIONS = 20;

function browserTest(name, check) {
  test(name, { skip, timeout: 120_000 }, async () => {
    const gateway = await startGateway();
    let browser;
    try {
      browser = await launch();
      const user = await newUser({ browser, get base() { return gateway.base; }, get token() { return gateway.token; } });
      await withReport(user, () => check(gateway, user));
    } finally {
      await browser?.close();
      await gateway.end();
    }
  });
}

/** Opens a connection and waits for the gateway's first frame; fails if the gateway closes the connection instead. */
async function connection(gateway) {
  const socket = new WebSocket(`${gateway.base.replace(/^http/, "ws")}ws`, "switchboard.v1", { headers: { authorization: `Bearer ${gateway.token}` } });
  await Promise.race([
    once(socket, "message"),
    once(socket, "close").then(([code, reason]) => { throw new Error(`the gateway closed a connection: ${code} ${reason}`); }),
  ]);
  return socket;
}

browserTest("a page over the connection limit says why, and connects once another connection is closed", async (gateway, user) => {
  const page = await user.open(); // stays open: closing it would free a connection at an unknown time
  await waitForOutcome(await sendMessage(page, "echo hello"));
  const chat = await chatOf(page);
  const others = [];
  try {
    for (let made = 1; made < MAX_CONNECTIONS; made += 1) others.push(await connection(gateway));
    const late = await user.context.newPage();
    await late.goto(`${gateway.base}#token=${gateway.token}&chat=${chat}`);
    const alert = late.getByRole("alert").filter({ hasText: "no room for another connection" });
    await alert.waitFor();
    assert.match(await alert.innerText(), /the limit is 20 connections of yours at once; close another page or program\. This page tries again by itself\.$/);
    assert.equal(await late.getByLabel("Access token").count(), 0, "the page does not ask for a token");
    others[0].close();
    await once(others[0], "close");
    await late.getByRole("button", { name: "Connect now" }).first().click();
    await late.locator(".turn[data-phase=done]").waitFor();
    assert.equal(await alert.count(), 0);
  } finally {
    for (const socket of others) socket.terminate();
  }
});

browserTest("a damaged chat says so and what to do, and other chats work", async (gateway, user) => {
  const page = await user.open();
  await waitForOutcome(await sendMessage(page, "echo words that are harmed"));
  const chat = await chatOf(page);
  await page.close();
  await gateway.kill("SIGTERM");
  const journal = join(gateway.data, "journal.db");
  const bytes = await readFile(journal);
  const words = Buffer.from("words that are harmed");
  let count = 0;
  for (let at = bytes.indexOf(words); at >= 0; at = bytes.indexOf(words, at)) {
    bytes[at] ^= 1; // changes the record so that its checksum fails, but not the database's structure
    count += 1;
  }
  assert.ok(count > 0);
  await writeFile(journal, bytes);
  await gateway.start();
  const later = await user.context.newPage();
  await later.goto(`${gateway.base}#token=${gateway.token}&chat=${chat}`);
  const alert = later.getByRole("alert").filter({ hasText: "This chat is damaged" });
  await alert.waitFor();
  assert.match(await alert.innerText(), /switchboard doctor/);
  assert.equal(await later.getByText("Loading…").count(), 0);
  assert.equal(await later.locator("#composer").count(), 0, "no message can be sent that could not be shown");
  await alert.getByRole("button", { name: "New chat" }).click();
  assert.equal(await waitForOutcome(await sendMessage(later, "echo all of these")), "completed");
});
