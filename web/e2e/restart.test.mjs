// Restarts of the gateway after a crash, and a gateway without authentication.
import assert from "node:assert/strict";
import { test } from "node:test";
import { gatewayBinary, startGateway } from "./gateway.mjs";
import { withReport, answerText, chatOf, waitForOutcome, launch, newUser, sendMessage } from "./harness.mjs";

const skip = gatewayBinary() ? false : "no gateway to start: SWITCHBOARD_BINARY is not set";
const WORDS = Array.from({ length: 12 }, (_, index) => `word${index + 1}`).join(" ");

function browserTest(name, flags, check) {
  test(name, { skip, timeout: 120_000 }, async () => {
    const gateway = await startGateway(...flags);
    let browser;
    try {
      browser = await launch();
      const user = await newUser({ browser, ...gateway, get base() { return gateway.base; } });
      await withReport(user, () => check(gateway, user));
    } finally {
      await browser?.close();
      await gateway.end();
    }
  });
}

browserTest("the answer is complete after the gateway was killed and restarted", [], async (gateway, user) => {
  const page = await user.open();
  const turn = await sendMessage(page, "slow 12");
  await turn.getByText(/word3/).waitFor();
  await gateway.kill();
  await page.locator(".top .connection").waitFor();
  await gateway.start();
  assert.equal(await waitForOutcome(turn), "completed");
  assert.equal(await answerText(turn), WORDS);
});

browserTest("a permission request stays open over a restart of the gateway, and can be answered after it", [], async (gateway, user) => {
  const page = await user.open();
  const turn = await sendMessage(page, "tool");
  const allow = page.getByRole("button", { name: "Allow once" });
  await allow.waitFor();
  await gateway.kill();
  await page.locator(".dock button.primary:disabled").waitFor();
  await gateway.start();
  await allow.click();
  assert.equal(await waitForOutcome(turn), "completed");
  assert.equal(await turn.locator("[data-tool=Bash]").getAttribute("data-resolution"), "allowed");
});

browserTest("while the gateway is gone, the page does not say that background work runs", [], async (gateway, user) => {
  const page = await user.open();
  await waitForOutcome(await sendMessage(page, "background 60"));
  await page.locator(".tasks").getByText("Runs in the background").waitFor();
  await gateway.kill();
  await page.locator(".tasks").getByText("Ran in the background when the connection was lost").waitFor();
  await gateway.start();
  await page.locator(".tasks").getByText("Runs in the background").waitFor();
});

browserTest("the model of the last turn is named after a restart of the gateway and a reload of the page", [], async (gateway, user) => {
  const page = await user.open();
  await waitForOutcome(await sendMessage(page, "echo hello"));
  const model = page.locator(".top .model:not(.agent-sign)");
  assert.equal(await model.innerText(), "switchboard-demo");
  await gateway.kill("SIGINT");
  await gateway.start();
  await page.reload();
  await page.locator(".turn[data-phase=done]").waitFor();
  assert.equal(await model.innerText(), "switchboard-demo");
});

browserTest("without authentication the page asks for no token", ["--no-auth"], async (gateway, user) => {
  const page = await user.open();
  assert.equal(await waitForOutcome(await sendMessage(page, "echo hello")), "completed");
  const again = await user.context.newPage();
  await again.goto(`${gateway.base}#chat=${await chatOf(page)}`);
  await again.locator(".turn[data-phase=done]").waitFor();
  assert.deepEqual(user.recorded.console, []);
});
