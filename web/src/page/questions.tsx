import { useState } from "preact/hooks";
import type { Answer, Question, QuestionItem } from "../client/index.ts";
import { SeenBox } from "./consent/seen-box.tsx";
import { Revealed } from "./revealed.tsx";
import { answersTo, NOTHING, optionsOf, placeholder, rangeOf, takesOwn, wrong, wrongCount, type Given } from "./text/answers.ts";
import { reveal } from "./text/reveal.ts";

interface QuestionsProps {
  question: Question;
  disabled: boolean;
  /** All of it was on the screen. */
  seen: boolean;
  /** Names this look at it: another one begins at its beginning. */
  look: string;
  onSeen: () => void;
  onAnswer: (answer: Answer) => void;
}

/** What was chosen and written, by the question's place: its text may be anything, also `__proto__`. */
type Draft = Readonly<Record<number, Given>>;

export function Questions({ question, disabled, seen, look, onSeen, onAnswer }: QuestionsProps) {
  const [draft, setDraft] = useState<Draft>({});
  const { questions } = question;
  const answers = answersTo(questions, draft);
  const send = (event: Event) => {
    event.preventDefault();
    if (answers && seen && !disabled) onAnswer({ decision: "answer", answers });
  };
  return (
    <form onSubmit={send}>
      <h2 id="dock-title"><span class="lamp" data-lamp="waiting" />{questions.length === 1 ? "The agent asks" : `The agent asks ${questions.length} things`}</h2>
      <SeenBox characters={questions.reduce((sum, item) => sum + size(item), 0)} part={look} onSeen={onSeen}>
        {questions.map((item, index) => (
          <Choice key={index} name={`question-${index}`} item={item} draft={draft[index] ?? NOTHING} onChange={(next) => setDraft((all) => ({ ...all, [index]: next }))} />
        ))}
      </SeenBox>
      <p class="muted dock-means">An answer is sent to the agent and accepts what is asked. Decline gives none.</p>
      <div class="dock-actions">
        <button type="submit" class="primary" disabled={disabled || !seen || !answers}>Answer</button>
        <button type="button" disabled={disabled} onClick={() => onAnswer({ decision: "deny" })}>Decline</button>
      </div>
    </form>
  );
}

function size(item: QuestionItem): number {
  const { question, header = "" } = item;
  return optionsOf(item).reduce((sum, { label, description = "" }) => sum + label.length + description.length, question.length + header.length);
}

interface ChoiceProps {
  name: string;
  item: QuestionItem;
  draft: Given;
  onChange: (draft: Given) => void;
}

function Choice({ name, item, draft: { chosen, own }, onChange }: ChoiceProps) {
  const many = item.multi_select ?? false;
  const options = optionsOf(item);
  const range = rangeOf(item);
  const why = wrong(item, own);
  const count = wrongCount(item, { chosen, own });
  const toggle = (label: string, on: boolean) => {
    if (many) onChange({ chosen: on ? [...chosen, label] : chosen.filter((each) => each !== label), own });
    else onChange({ chosen: [label], own: "" });
  };
  return (
    <fieldset class="choice">
      <legend>{item.header && <span class="tag"><Revealed text={item.header} style="prose" /></span>}<span class="asked"><Revealed text={item.question} style="prose" /></span>{many && <span class="muted"> Choose {range ?? "any"}.</span>}{!many && range && <span class="muted"> ({range})</span>}{item.optional && <span class="muted"> (optional)</span>}</legend>
      {options.map(({ label, description }) => (
        <label key={label} class="option">
          <input type={many ? "checkbox" : "radio"} name={name} checked={chosen.includes(label)} onChange={(event) => toggle(label, event.currentTarget.checked)} />
          <span><Revealed text={label} style="label" />{description && <span class="muted"> <Revealed text={description} style="prose" /></span>}</span>
        </label>
      ))}
      {item.optional && !many && options.length > 0 && (
        // A radio button cannot be taken back.
        <label class="option">
          <input type="radio" name={name} checked={chosen.length === 0 && own === ""} onChange={() => onChange(NOTHING)} />
          <span class="muted">No answer</span>
        </label>
      )}
      {takesOwn(item) && <label class="option own">
        <span class="visually-hidden">Your own answer to: {reveal(item.question)}</span>
        <input type="text" value={own} placeholder={placeholder(item)} inputMode={item.format === "integer" || item.format === "number" ? "decimal" : undefined} aria-invalid={why !== undefined}
          onInput={({ currentTarget: { value } }) => onChange({ chosen: many ? chosen : value ? [] : chosen, own: value })} />
        {why && <span class="muted" role="status">{why}</span>}
      </label>}
      {count && <span class="muted" role="status">{count}</span>}
    </fieldset>
  );
}
