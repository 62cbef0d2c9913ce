const STARTS: readonly (readonly [string, string])[] = [
  ["Look around", "Explain what this workspace contains and how it is built."],
  ["Find a fault", "Run the tests, and explain the first failure you find."],
  ["Second opinion", "Review the latest changes and point out what could break."],
];
const DEMO = ["help", "tool", "question", "edit", "slow", "long"];

/** Shown in a chat without messages: suggestions for the first one. */
export function Empty({ online, demo, onWrite, onSend }: { online: boolean; demo: boolean; onWrite: (text: string) => void; onSend: (text: string) => void }) {
  if (!online) {
    return (
      <div class="empty">
        <h1>Not connected.</h1>
        <p class="muted">What you write below is sent once the connection is there.</p>
      </div>
    );
  }
  return (
    <div class="empty">
      <h1>The line is open.</h1>
      <p class="muted">Your agent is listening. Write to it below, or begin with one of these.</p>
      <div class="starts">
        {STARTS.map(([title, text]) => (
          <button key={title} type="button" class="start" onClick={() => onWrite(text)}><strong>{title}</strong><span>{text}</span></button>
        ))}
      </div>
      {demo && (
        <p class="demo-words"><span class="muted">With the built-in demo agent, try</span>
          {DEMO.map((word) => <button key={word} type="button" class="chip" onClick={() => onSend(word)}>{word}</button>)}
        </p>
      )}
    </div>
  );
}
