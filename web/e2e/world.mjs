// A browser, a gateway and a cable between them that can be cut.
import { connect, createServer } from "node:net";
import { chromium } from "playwright-core";

const ARGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

/** The gateway to test, as SWITCHBOARD_URL names it (with `#token=`); without, the mock. */
export async function startWorld() {
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
    /** Of `--no-auth`: none. */
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

/** One person's browser: a context of its own, of whose pages everything that is said and asked for is kept. */
export async function person(world, options = {}) {
  const context = await world.browser.newContext({ viewport: { width: 1100, height: 800 }, ...options });
  context.setDefaultTimeout(20_000);
  const heard = { console: [], requests: [], frames: [] };
  context.on("console", (message) => heard.console.push(`${message.type()}: ${message.text()}`));
  context.on("weberror", (error) => heard.console.push(String(error.error())));
  context.on("request", (request) => heard.requests.push(request.url()));
  context.on("page", (page) => page.on("websocket", (socket) => {
    heard.requests.push(socket.url());
    const note = (what) => heard.frames.push(`${new Date().toISOString()} ${what}`);
    note("a socket opens");
    socket.on("framesent", ({ payload }) => note(`> ${kind(payload)}`));
    socket.on("framereceived", ({ payload }) => note(`< ${kind(payload)}`));
    socket.on("close", () => note("a socket closes"));
  }));
  return {
    context, heard,
    /** Opens the page, signed in, at a chat if one is named. */
    async open({ chat, base = world.base, query = "" } = {}) {
      const page = await context.newPage();
      const fragment = new URLSearchParams({ ...(world.token && { token: world.token }), ...(chat && { chat }) });
      await page.goto(`${base}${query}#${fragment}`);
      await page.locator(".connection[data-state=online]").first().waitFor({ state: "attached" });
      if (chat) await page.locator(".turn").first().waitFor();
      return page;
    },
  };
}

/** The kind of a frame: what else is in it may be a token. */
function kind(payload) {
  try {
    const { type, event } = JSON.parse(String(payload));
    return type ?? event;
  } catch {
    return "no JSON";
  }
}

/** Acts for a person; says what their pages show if that fails. */
export async function acting(someone, act) {
  try {
    return await act();
  } catch (error) {
    await explain(someone);
    throw error;
  }
}

/** For a test that failed: what its pages show, and what went over their sockets last. */
async function explain(someone) {
  for (const page of someone.context.pages()) {
    const shown = await page.evaluate(() => ({
      connection: [...document.querySelectorAll(".connection")].map((each) => each.dataset.state),
      signedIn: [localStorage, sessionStorage].map((area) => Object.keys(area).some((key) => key.endsWith(":token"))),
      text: document.body.innerText.slice(0, 500),
    })).catch(String);
    console.log("a page shows", JSON.stringify(shown));
  }
  console.log("the last frames:", JSON.stringify(someone.heard.frames.slice(-40), null, 1));
  console.log("the console:", JSON.stringify(someone.heard.console));
}

/** Sends a message; gives its turn, which keeps its id from unsent to ended. */
export async function say(page, text) {
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

/** Waits until a turn has ended; gives its outcome. */
export async function ended(turn) {
  await turn.locator("xpath=self::*[@data-phase='done']").waitFor();
  return turn.getAttribute("data-outcome");
}

/** Reads what a prompt asks for to the end of its last part; gives the text of each. */
export async function readToEnd(dock) {
  const page = dock.page();
  const read = [];
  for (;;) {
    read.push((await dock.locator("pre").allInnerTexts()).join("\n"));
    await dock.locator(".dock-input").press("End");
    // The end is on the screen: either nothing is below, or the next part is offered.
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

/** The chat in a page's address, as the page itself has it: what the browser reports may be a moment late. */
export function chatOf(page) {
  return page.evaluate(() => new URLSearchParams(location.hash.slice(1)).get("chat"));
}

/** The text of an answer without its footer. */
export async function answer(turn) {
  return (await turn.locator(".answer > .markdown").allInnerTexts()).join("\n").trim();
}

/** A reverse proxy under a subpath, whose connections can be cut and refused, and which may let no WebSocket through. */
export async function startProxy(world, prefix, { upgrades = true } = {}) {
  const upstream = new URL(world.base);
  const sockets = new Set();
  let refusing = false;
  const server = createServer((client) => {
    if (refusing) return client.destroy();
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
    const onHead = (data) => {
      head += data.toString("latin1");
      if (!head.includes("\r\n\r\n")) return;
      client.off("data", onHead);
      const upgrade = /^upgrade:/im.test(head);
      if (upgrade && !upgrades) return client.end("HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
      // One request per connection, so that each head is seen; a WebSocket goes on as it is.
      gateway.write(rewritten(head, upgrade), "latin1");
      client.pipe(gateway);
    };
    client.on("data", onHead);
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
    cut() { refusing = true; for (const socket of sockets) socket.destroy(); },
    mend() { refusing = false; },
    admitUpgrades() { upgrades = true; },
    end() { for (const socket of sockets) socket.destroy(); return new Promise((done) => server.close(done)); },
  };
}
