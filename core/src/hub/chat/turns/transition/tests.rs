//! Every state of a turn with every input.

use std::{string::ToString as _, vec::Vec};

use super::*;

const AGENT_ENDS: [Outcome; 4] =
    [Outcome::Completed, Outcome::Cancelled, Outcome::Failed, Outcome::Interrupted];

fn turn_id() -> TurnId {
    TurnId::parse("t").expect("a turn id")
}

fn prompt() -> AgentCommand {
    AgentCommand::Prompt { id: CommandId(1), turn_id: turn_id(), text: "hello".into() }
}

fn reason() -> Option<TurnError> {
    Some(TurnError { code: "agent_silent".into(), detail: "it was silent".into() })
}

fn states() -> [(&'static str, TurnState); 6] {
    [
        ("queued", TurnState::Queued),
        ("starting", TurnState::Starting { undelivered: None }),
        ("deferred", TurnState::Starting { undelivered: Some(prompt()) }),
        ("running", TurnState::Running { prompt: Some(CommandId(1)) }),
        ("adopted", TurnState::Running { prompt: None }),
        ("cancelling", TurnState::Cancelling { kill_at_ms: 5, reason: reason() }),
    ]
}

fn inputs() -> [TurnInput; 6] {
    [
        TurnInput::Start,
        TurnInput::PromptDeferred(prompt()),
        TurnInput::PromptSent(CommandId(1)),
        TurnInput::Answered,
        TurnInput::PromptReturned { turn_id: turn_id(), text: "hello".into() },
        TurnInput::Cancel { kill_at_ms: 5, reason: reason() },
    ]
}

fn name(state: &TurnState) -> &'static str {
    match state {
        TurnState::Queued => "queued",
        TurnState::Starting { undelivered: None } => "starting",
        TurnState::Starting { undelivered: Some(_) } => "deferred",
        TurnState::Running { prompt: Some(_) } => "running",
        TurnState::Running { prompt: None } => "adopted",
        TurnState::Cancelling { .. } => "cancelling",
    }
}

#[test]
fn each_input_takes_each_state_where_the_table_says() {
    // One row for each state, one column for each of `inputs`; "-" is no change.
    let table = [
        ["starting", "-", "-", "-", "-", "ended"],
        ["-", "deferred", "running", "adopted", "-", "ended"],
        ["-", "deferred", "running", "adopted", "-", "ended"],
        ["-", "-", "running", "-", "deferred", "cancelling"],
        ["-", "-", "running", "-", "-", "cancelling"],
        ["-", "-", "-", "-", "-", "-"],
    ];
    for (row, expected) in table.iter().enumerate() {
        let real: Vec<&str> = inputs()
            .into_iter()
            .map(|input| {
                let (was, state) = states().into_iter().nth(row).expect("a row for each state");
                match transition(state, input) {
                    Transition::To(state) => name(&state),
                    Transition::Unchanged(state) => {
                        assert_eq!(name(&state), was);
                        "-"
                    }
                    Transition::Ended(ending) => {
                        assert_eq!((ending.outcome, ending.error), (Outcome::Cancelled, None));
                        "ended"
                    }
                }
            })
            .collect();
        assert_eq!(real, expected, "{}", states()[row].0);
    }
}

#[test]
fn a_turn_that_is_cancelled_ends_cancelled_unless_it_was_completed() {
    for (was, _) in states() {
        for outcome in AGENT_ENDS {
            let (_, state) = states().into_iter().find(|(name, _)| *name == was).expect("a state");
            let error = Some(TurnError { code: "of the agent".into(), detail: "why".to_string() });
            let Transition::Ended(ending) =
                transition(state, TurnInput::End(Ending::new(outcome, error.clone())))
            else {
                panic!("{was} does not end");
            };
            let expected = match (was, outcome) {
                ("cancelling", Outcome::Cancelled | Outcome::Failed | Outcome::Interrupted) => {
                    (Outcome::Cancelled, reason())
                }
                _ => (outcome, error),
            };
            assert_eq!((ending.outcome, ending.error), expected, "{was}");
        }
    }
}
