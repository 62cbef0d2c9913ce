import { useState } from "preact/hooks";
import type { Answer, Question, QuestionItem } from "../client/index.ts";
import { SeenBox } from "./consent/seen-box.tsx";
import { Revealed } from "./revealed.tsx";
import { answersTo, NO_ANSWER, optionsOf, placeholder, rangeOf, takesText, textError, countError, type DraftAnswer } from "./text/answers.ts";
import { reveal } from "./text/reveal.ts";

interface QuestionsProps {
  question: Question;
  disabled: boolean;
  /** Whether all questions were on the screen. */
  seen: boolean;
  /** Identifies one presentation of the questions; after a change they have to be seen again to the end. */
  reviewId: string;
  onSeen: () => void;
  onAnswer: (answer: Answer) => void;
}

/** The drafts of the answers by the question's index. The question's text would be no safe key: it may be `__proto__`. */
type Draft = Readonly<Record<number, DraftAnswer>>;

export function Questions({ question, disabled, seen, reviewId, onSeen, onAnswer }: QuestionsProps) {
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
      <SeenBox characters={questions.reduce((sum, item) => sum + size(item), 0)} contentKey={reviewId} onSeen={onSeen}>
        {questions.map((item, index) => (
          <Choice key={index} name={`question-${index}`} item={item} draft={draft[index] ?? NO_ANSWER} onChange={(next) => setDraft((all) => ({ ...all, [index]: next }))} />
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
  draft: DraftAnswer;
  onChange: (draft: DraftAnswer) => void;
}

function Choice({ name, item, draft: { chosen, own }, onChange }: ChoiceProps) {
  const isMulti = item.multi_select ?? false;
  const options = optionsOf(item);
  const range = rangeOf(item);
  const error = textError(item, own);
  const countProblem = countError(item, { chosen, own });
  const toggle = (label: string, on: boolean) => {
    if (isMulti) onChange({ chosen: on ? [...chosen, label] : chosen.filter((each) => each !== label), own });
    else onChange({ chosen: [label], own: "" });
  };
  return (
    <fieldset class="choice">
      <legend>{item.header && <span class="tag"><Revealed text={item.header} style="prose" /></span>}<span class="asked"><Revealed text={item.question} style="prose" /></span>{isMulti && <span class="muted"> Choose {range ?? "any"}.</span>}{!isMulti && range && <span class="muted"> ({range})</span>}{item.optional && <span class="muted"> (optional)</span>}</legend>
      {options.map(({ label, description }) => (
        <label key={label} class="option">
          <input type={isMulti ? "checkbox" : "radio"} name={name} checked={chosen.includes(label)} onChange={(event) => toggle(label, event.currentTarget.checked)} />
          <span><Revealed text={label} style="label" />{description && <span class="muted"> <Revealed text={description} style="prose" /></span>}</span>
        </label>
      ))}
      {item.optional && !isMulti && options.length > 0 && (
        // A radio button cannot be unchecked, so an optional question has an option for no answer.
        <label class="option">
          <input type="radio" name={name} checked={chosen.length === 0 && own === ""} onChange={() => onChange(NO_ANSWER)} />
          <span class="muted">No answer</span>
        </label>
      )}
      {takesText(item) && <label class="option own">
        <span class="visually-hidden">Your own answer to: {reveal(item.question)}</span>
        <input type="text" value={own} placeholder={placeholder(item)} inputMode={item.format === "integer" || item.format === "number" ? "decimal" : undefined} aria-invalid={error !== undefined}
          onInput={({ currentTarget: { value } }) => onChange({ chosen: isMulti ? chosen : value ? [] : chosen, own: value })} />
        {error && <span class="muted" role="status">{error}</span>}
      </label>}
      {countProblem && <span class="muted" role="status">{countProblem}</span>}
    </fieldset>
  );
}
