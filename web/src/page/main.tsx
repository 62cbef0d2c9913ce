import { render } from "preact";
import { Client, defaultEnvironment } from "../client/index.ts";
import { App } from "./app.tsx";
import { storagePrefix, streamBase, takeToken, webSocketUrl } from "./location.ts";
import { Credentials, unsentStore } from "./storage.ts";
import "./styles/base.css";
import "./styles/layout.css";
import "./styles/thread.css";
import "./styles/prompts.css";
import "./styles/code.css";

const credentials = new Credentials(takeToken());
const client = new Client({
  url: webSocketUrl,
  fallback: streamBase,
  token: () => credentials.token,
  environment: defaultEnvironment(),
  store: unsentStore,
  storePrefix: storagePrefix(),
});
render(<App client={client} credentials={credentials} />, document.querySelector("#app")!);
client.start();

// A sign-in link that is opened in a tab which already shows the page changes only the fragment.
addEventListener("hashchange", () => {
  const token = takeToken();
  if (token === undefined) return;
  credentials.try(token);
  client.start();
});
