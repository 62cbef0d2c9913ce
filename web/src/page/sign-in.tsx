import { useState } from "preact/hooks";
import { Mark } from "./icons.tsx";

/** Asks for an access token. Shown only after the gateway refused the stored one or asked for one. */
export function SignIn({ refused, onToken }: { refused: boolean; onToken: (token: string) => void }) {
  const [token, setToken] = useState("");
  const submit = (event: Event) => {
    event.preventDefault();
    if (token.trim()) onToken(token.trim());
  };
  return (
    <main class="sign-in">
      <form onSubmit={submit}>
        <Mark />
        <h1>Switchboard</h1>
        {/* Password managers need a user name field to store a password. */}
        <input type="text" autocomplete="username" value="switchboard" readOnly hidden />
        <label for="token">Access token</label>
        <input id="token" type="password" autocomplete="current-password" autofocus value={token} aria-describedby="token-help"
          aria-invalid={refused} onInput={(event) => setToken(event.currentTarget.value)} />
        {refused && <p class="refused-token" role="alert">The gateway did not accept this token. It may have been renewed or revoked.</p>}
        <button type="submit" class="primary" disabled={!token.trim()}>Sign in</button>
        <p id="token-help" class="muted">
          The gateway prints a link that signs you in when it starts, and says which file holds the token.
        </p>
      </form>
    </main>
  );
}
