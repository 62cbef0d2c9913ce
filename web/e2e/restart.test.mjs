// What only a gateway of one's own can show: its crash, and other ways to start it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { binary, ownGateway } from "./gateway.mjs";
import { acting, answer, chatOf, ended, launch, person, say } from "./world.mjs";

const skip = binary() ? false : "no gateway to start: SWITCHBOARD_BINARY is not set";
const WORDS = Array.from({ length: 12 }, (_, index) => `word${index + 1}`).join(" ");

function scene(name, flags, act) {
  test(name, { skip, timeout: 120_000 }, async () => {
    const gateway = await ownGateway(...flags);
    let browser;
    try {
      browser = await launch();
      const me = await person({ browser, ...gateway, get base() { return gateway.base; } });
      await acting(me, () => act(gateway, me));
    } finally {
      await browser?.close();
      await gateway.end();
    }
  });
}

scene("a gateway that is killed in mid-answer comes back with the whole answer", [], async (gateway, me) => {
  const page = await me.open();
  const turn = await say(page, "slow 12");
  await turn.getByText(/word3/).waitFor();
  await gateway.kill();
  await page.locator(".top .connection").waitFor();
  await gateway.start();
  assert.equal(await ended(turn), "completed");
  assert.equal(await answer(turn), WORDS);
});

scene("a prompt outlives the gateway, and is answered at the next one", [], async (gateway, me) => {
  const page = await me.open();
  const turn = await say(page, "tool");
  const allow = page.getByRole("button", { name: "Allow once" });
  await allow.waitFor();
  await gateway.kill();
  await page.locator(".dock button.primary:disabled").waitFor();
  await gateway.start();
  await allow.click();
  assert.equal(await ended(turn), "completed");
  assert.equal(await turn.locator("[data-tool=Bash]").getAttribute("data-resolution"), "allowed");
});

scene("without authentication the page asks for nothing", ["--no-auth"], async (gateway, me) => {
  const page = await me.open();
  assert.equal(await ended(await say(page, "echo hello")), "completed");
  const again = await me.context.newPage();
  await again.goto(`${gateway.base}#chat=${await chatOf(page)}`);
  await again.locator(".turn[data-phase=done]").waitFor();
  assert.deepEqual(me.heard.console, []);
});
