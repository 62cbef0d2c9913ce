// What the browser tests share: the browser, users and their pages, and a proxy that can cut connections.
import { connect, createServer } from "node:net";
import { chromium } from "playwright-core";

const ARGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

/** Starts a browser, and the mock gateway unless SWITCHBOARD_URL (with `#token=`) names a gateway to test. */
export async function startHarness() {
  let url = process.env.SWITCHBOARD_URL;
  let mock;
  if (!url) {
    const { startMock } = await import("../test/mock/gateway.mjs");
    mock = await startMock();
    url = mock.url;
  }
  const { origin, pathname, hash } = new URL(url);
  const browser = await launch();
  return {
    base: origin + pathname,
    /** The access token; null for a gateway with `--no-auth`. */
    token: new URLSearchParams(hash.slice(1)).get("token"),
    browser,
    async end() {
      await browser.close();
      await mock?.close();
    },
  };
}

export function launch() {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ARGS });
}

/** A browser context with its own storage. `recorded` has the console messages, requests and frames of all its pages. */
export async function newUser(harness, options = {}) {
  const context = await harness.browser.newContext({ viewport: { width: 1100, height: 800 }, ...options });
  context.setDefaultTimeout(20_000);
  const recorded = { console: [], requests: [], frames: [] };
  context.on("console", (message) => recorded.console.push(`${message.type()}: ${message.text()}`));
  context.on("weberror", (error) => recorded.console.push(String(error.error())));
  context.on("request", (request) => recorded.requests.push(request.url()));
  context.on("page", (page) => page.on("websocket", (socket) => {
    recorded.requests.push(socket.url());
    const note = (what) => recorded.frames.push(`${new Date().toISOString()} ${what}`);
    note("a socket opens");
    socket.on("framesent", ({ payload }) => note(`> ${kind(payload)}`));
    socket.on("framereceived", ({ payload }) => note(`< ${kind(payload)}`));
    socket.on("close", () => note("a socket closes"));
  }));
  return {
    context, recorded,
    /** Opens the page, signed in, at the given chat or else a new one. */
    async open({ chat, base = harness.base, query = "" } = {}) {
      const page = await context.newPage();
      const fragment = new URLSearchParams({ ...(harness.token && { token: harness.token }), ...(chat && { chat }) });
      await page.goto(`${base}${query}#${fragment}`);
      await page.locator(".connection[data-state=online]").first().waitFor({ state: "attached" });
      if (chat) await page.locator(".turn").first().waitFor();
      return page;
    },
  };
}

/** The kind of a frame. The rest is not recorded, since it may contain a token. */
function kind(payload) {
  try {
    const { type, event } = JSON.parse(String(payload));
    return type ?? event;
  } catch {
    return "no JSON";
  }
}

/** Runs `act`, and prints what the user's pages show if it fails. */
export async function withReport(user, act) {
  try {
    return await act();
  } catch (error) {
    await report(user);
    throw error;
  }
}

/** Prints the state of the user's pages, the last frames and the console. */
async function report(user) {
  for (const page of user.context.pages()) {
    const state = await page.evaluate(() => ({
      connection: [...document.querySelectorAll(".connection")].map((each) => each.dataset.state),
      signedIn: [localStorage, sessionStorage].map((area) => Object.keys(area).some((key) => key.endsWith(":token"))),
      text: document.body.innerText.slice(0, 500),
    })).catch(String);
    console.log("a page shows", JSON.stringify(state));
  }
  console.log("the last frames:", JSON.stringify(user.recorded.frames.slice(-40), null, 1));
  console.log("the console:", JSON.stringify(user.recorded.console));
}

/** Sends a message. Gives its turn's element, which has the same id before and after the gateway accepts the message. */
export async function sendMessage(page, text) {
  const before = await lastTurn(page);
  await page.locator("#composer").fill(text);
  await page.locator("#composer").press("Enter");
  const id = await page.waitForFunction((known) => {
    const newest = [...document.querySelectorAll(".turn")].at(-1)?.dataset.turn;
    return newest !== known && newest;
  }, before);
  return turnOf(page, await id.jsonValue());
}

export function lastTurn(page) {
  return page.evaluate(() => [...document.querySelectorAll(".turn")].at(-1)?.dataset.turn);
}

export function turnOf(page, id) {
  return page.locator(`.turn[data-turn="${id}"]`);
}

/** Waits until a turn has ended. Gives its outcome. */
export async function waitForOutcome(turn) {
  await turn.locator("xpath=self::*[@data-phase='done']").waitFor();
  return turn.getAttribute("data-outcome");
}

/** Scrolls through all pages of a request's input. Gives the text of each page. */
export async function readToEnd(dock) {
  const page = dock.page();
  const read = [];
  for (;;) {
    read.push((await dock.locator("pre").allInnerTexts()).join("\n"));
    await dock.locator(".dock-input").press("End");
    // Wait until the end is visible: then no text is below, or the button for the next page is enabled.
    const more = await page.waitForFunction(() => {
      const next = document.querySelector(".dock-next");
      if (next) return next.disabled ? undefined : "more";
      return document.querySelector(".dock-below") ? undefined : "end";
    });
    if (await more.jsonValue() === "end") return read;
    await dock.locator(".dock-next").click();
    await page.waitForFunction((was) => [...document.querySelectorAll(".dock pre")].map((each) => each.innerText).join("\n") !== was, read.at(-1));
  }
}

/** The chat in a page's address. Read within the page, since Playwright's `page.url()` may lag behind. */
export function chatOf(page) {
  return page.evaluate(() => new URLSearchParams(location.hash.slice(1)).get("chat"));
}

/** The text of a turn's answer without its footer. */
export async function answerText(turn) {
  return (await turn.locator(".answer > .markdown").allInnerTexts()).join("\n").trim();
}

/** A reverse proxy that serves the gateway below a path. Its connections can be cut, and it can refuse WebSockets. */
export async function startProxy(harness, prefix, { upgrades = true } = {}) {
  const upstream = new URL(harness.base);
  const sockets = new Set();
  let isCut = false;
  const server = createServer((client) => {
    if (isCut) return client.destroy();
    const gateway = connect(Number(upstream.port), upstream.hostname);
    for (const socket of [client, gateway]) {
      sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        sockets.delete(socket);
        client.destroy();
        gateway.destroy();
      });
    }
    let head = "";
    const readHead = (data) => {
      head += data.toString("latin1");
      if (!head.includes("\r\n\r\n")) return;
      client.off("data", readHead);
      const upgrade = /^upgrade:/im.test(head);
      if (upgrade && !upgrades) return client.end("HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
      // HTTP connections end after one request, so that the proxy sees the head of each request. WebSockets pass through.
      gateway.write(rewritten(head, upgrade), "latin1");
      client.pipe(gateway);
    };
    client.on("data", readHead);
    gateway.pipe(client);
  });
  const rewritten = (head, upgrade) => head
    .replace(new RegExp(`^(GET|POST) ${prefix}`), "$1 /")
    .replace(/^host:.*$/im, `host: ${upstream.host}`)
    .replace(/^origin:.*$/im, `origin: ${upstream.origin}`)
    .replace(/^connection:.*$/im, upgrade ? "connection: upgrade" : "connection: close");
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return {
    base: `http://127.0.0.1:${server.address().port}${prefix}`,
    cut() { isCut = true; for (const socket of sockets) socket.destroy(); },
    restore() { isCut = false; },
    admitUpgrades() { upgrades = true; },
    end() { for (const socket of sockets) socket.destroy(); return new Promise((done) => server.close(done)); },
  };
}
