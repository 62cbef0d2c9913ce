/** The background work of an agent: what runs, and what has ended. */
import type { Task, TaskItem } from "../client/index.ts";
import { memo } from "./hooks.ts";
import { IconStop } from "./icons.tsx";
import { Revealed } from "./revealed.tsx";
import { taskEndText, taskKindText } from "./text/turns.ts";

interface RunningTasksProps {
  tasks: readonly Task[];
  /** Whether the list is up to date. */
  online: boolean;
  /** Stops all tasks; undefined while a turn is open, which has to be stopped first. */
  onStop: (() => void) | undefined;
  stopDisabled: boolean;
}

/** Lists the tasks that run. */
export const RunningTasks = memo<RunningTasksProps>(({ tasks, online, onStop, stopDisabled }) => {
  if (tasks.length === 0) return null;
  const [verb, lamp, when] = online ? ["run", "running", ""] : ["ran", "waiting", " when the connection was lost"];
  return (
    <section class="tasks" aria-labelledby="tasks-title">
      <header>
        <h2 id="tasks-title"><span class="lamp" data-lamp={lamp} /> {tasks.length === 1 ? `${online ? "Runs" : "Ran"} in the background` : `${tasks.length} tasks ${verb} in the background`}{when}</h2>
        {onStop && <button type="button" class="quiet stop-turn" disabled={stopDisabled} onClick={onStop} title="Stop the background work" aria-label="Stop the background work"><IconStop /> Stop</button>}
      </header>
      <ul tabIndex={0} aria-labelledby="tasks-title">
        {tasks.map((task) => (
          <li key={task.task_id} data-task={task.task_id} data-kind={task.kind}>
            <span class="tag">{taskKindText(task.kind)}</span>
            <span class="task-title"><Revealed text={task.title} style="code" /></span>
          </li>
        ))}
      </ul>
    </section>
  );
});

const LAMPS = { running: "running", completed: "done", failed: "failed", stopped: "off" };

/** A line that says how a task ended. */
export function EndedTask({ item: { task } }: { item: TaskItem }) {
  return (
    <p class="trace" data-task={task.task_id} data-status={task.status}>
      <span class="lamp" data-lamp={LAMPS[task.status] ?? "off"} />
      <span>Background work {taskEndText(task.status)}:</span>
      <span class="step-argument"><Revealed text={task.title} style="code" /></span>
    </p>
  );
}
