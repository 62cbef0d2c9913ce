//! A text that comes in pieces, as a whole and in a result, in every order: it is sent once, in its turn.

use serde_json::{Value, json};
use switchboard_core::{agent::AgentEvent, ids::TurnId};

use super::{
    checker,
    lines::{
        assistant, block_start, block_stop, check, message_start, message_stop, result, shown, system, text,
        text_delta, tool_result, tool_use, with,
    },
    recordings::Step,
};
use crate::{
    dialect::{Codec as _, Decoded, Delivered, claude::ClaudeCodec},
    limits::TEXTS,
};

const TEXT: &str = "Once only.";

/// A line, by what it has of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The line of the stream with this number.
    Stream(usize),
    Whole,
    Result,
}

use Part::{Result, Stream, Whole};

/// Lines of the stream; the text is on those with the numbers 2 and 3.
const STREAM: usize = 6;

fn stream(id: &str) -> [Value; STREAM] {
    [
        message_start(id),
        block_start(0, text("")),
        text_delta(0, "Once "),
        text_delta(0, "only."),
        block_stop(0),
        message_stop(),
    ]
}

/// How the agent writes the lines, and what the gateway does.
#[derive(Debug, Clone, Copy)]
struct Form {
    /// The id of the whole message. That of the stream is `m1`.
    whole: &'static str,
    /// The id of the line with the whole message, if it has one.
    uuid: Option<&'static str>,
    /// The text in the result.
    result: &'static str,
    /// Whether the agent reports the beginnings of turns.
    init: bool,
    /// Whether another prompt is written as soon as the turn has ended.
    prompts: bool,
}

/// All orders of these parts, in which the stream's lines keep theirs.
fn orders(streams: usize, wholes: usize) -> Vec<Vec<Part>> {
    let mut orders = vec![(0..streams).map(Stream).collect::<Vec<_>>()];
    for part in std::iter::repeat_n(Whole, wholes).chain([Result]) {
        let insert = |order: &Vec<Part>| {
            let places = (0..=order.len()).map(|at| [&order[..at], &[part], &order[at..]].concat());
            places.collect::<Vec<_>>()
        };
        orders = orders.iter().flat_map(insert).collect();
        orders.dedup();
    }
    orders
}

/// Whether an agent may write the parts in this order.
fn is_permitted(order: &[Part], form: Form) -> bool {
    let at = |part| order.iter().position(|other| *other == part);
    // While a text is streamed, from its first piece on to the last one.
    let cuts = |at: usize| order[..at].contains(&Stream(2)) && order[at..].contains(&Stream(3));
    let wholes = order.iter().enumerate().filter(|(_, part)| **part == Whole);
    // The rest of a message that a result has ended has no id.
    let headless =
        at(Result).is_some_and(|at| order[..at].contains(&Stream(0)) && order[at..].contains(&Stream(1)));
    // A message without the id of its stream is whole only once all pieces have come.
    let named = form.whole == "m1" && !headless || !wholes.map(|(at, _)| at).any(cuts);
    // A result that ends a block before its last piece has the block's text: later pieces have no block.
    let ends_block = |at: usize| order[..at].contains(&Stream(1)) && order[at..].contains(&Stream(3));
    named && (form.result == TEXT || !at(Result).is_some_and(ends_block))
}

/// What the codec gives for these parts, if it is restored from its checkpoint before each.
fn decoded(order: &[Part], form: Form) -> Vec<Step> {
    let prompted = |codec: &mut ClaudeCodec, turn_id: &str| {
        codec.delivered(Delivered::Prompt(&TurnId::parse(turn_id).unwrap()));
        Step::Prompted
    };
    let mut codec = super::codec();
    let mut steps = vec![prompted(&mut codec, "t-1")];
    let stream = stream("m1");
    let init = form.init.then(|| system("init", json!({})));
    let parts = order.iter().map(|part| match part {
        Stream(number) => stream[*number].clone(),
        Whole => with(assistant(form.whole, text(TEXT)), json!({"uuid": form.uuid})),
        Result => result(form.result, json!({})),
    });
    for (position, line) in init.into_iter().chain(parts).enumerate() {
        codec = ClaudeCodec::restore("/workspace".as_ref(), &codec.checkpoint()).unwrap();
        let mut out = Decoded::default();
        codec.decode(position as u64 + 1, line.to_string().as_bytes(), &mut out);
        let ended = out.turn_ended;
        steps.push(Step::Decoded(position, out));
        if ended && form.prompts {
            steps.push(prompted(&mut codec, "t-2"));
        }
    }
    steps
}

fn forms() -> Vec<Form> {
    let mut forms = Vec::new();
    for whole in ["m1", "other"] {
        for uuid in [None, Some("u1")] {
            for result in [TEXT, ""] {
                for (init, prompts) in [(true, false), (true, true), (false, false), (false, true)] {
                    forms.push(Form { whole, uuid, result, init, prompts });
                }
            }
        }
    }
    forms
}

#[test]
fn a_text_is_sent_once_in_every_order() {
    let mut checked = 0;
    for form in forms() {
        let of_kinds = [(STREAM, 1), (STREAM, 2), (STREAM, 0), (0, 1), (0, 2)];
        for order in of_kinds.into_iter().flat_map(|(streams, wholes)| orders(streams, wholes)) {
            if !is_permitted(&order, form) {
                continue;
            }
            checked += 1;
            let mut steps = decoded(&order, form);
            checker::open_at_end(&steps);
            let over = order.iter().position(|part| *part == Result).unwrap() + usize::from(form.init);
            let has_text = |part: &Part| matches!(part, Stream(2 | 3) | Whole);
            let in_turn = form.result == TEXT || order[..over - usize::from(form.init)].iter().any(has_text);
            let is_later = |step: &Step| matches!(step, Step::Decoded(at, _) if *at > over);
            let later = steps.split_off(steps.iter().position(is_later).unwrap_or(steps.len()));
            let expected = [in_turn, !in_turn].map(|sent| if sent { TEXT } else { "" });
            assert_eq!(
                [&steps, &later].map(|steps| checker::by_turn(steps).concat()),
                expected,
                "{form:?} {order:?}\n{steps:?}\n{later:?}"
            );
            assert!(!in_turn || later.iter().all(begins_no_turn), "{form:?} {order:?}");
        }
    }
    assert!(checked > 5_000, "{checked}");
}

fn begins_no_turn(step: &Step) -> bool {
    let Step::Decoded(_, out) = step else { return true };
    !out.events.iter().any(|event| matches!(event, AgentEvent::AgentTurnStarted { .. }))
}

/// The same text as a new one, where no record repeats another.
#[test]
fn the_same_text_of_another_message_is_sent_again() {
    let said = |id: &str| [&stream(id)[..], &[assistant(id, text(TEXT))]].concat();
    let whole = |uuid: &str| with(assistant("m1", text(TEXT)), json!({"uuid": uuid}));
    let used = [assistant("m1", tool_use("t1", "Bash", json!({}))), tool_result("t1", json!("ok"))];
    for lines in [
        [said("m1"), said("m2")].concat(),
        vec![assistant("m1", text(TEXT)), assistant("m2", text(TEXT))],
        // Two blocks of a message that was not streamed.
        vec![whole("u1"), whole("u2")],
        [&[whole("u1")], &used[..], &said("m2")].concat(),
        [&said("m1"), &used[..], &[assistant("m2", text(TEXT))]].concat(),
        [&said("m1"), &[result(TEXT, json!({})), system("init", json!({}))][..], &said("m1")].concat(),
    ] {
        let shown = shown(&lines).join(" ");
        let count = shown.matches(r#""only.""#).count() + shown.matches("message \"Once only.\"").count();
        assert_eq!(count, 2, "{shown}");
    }
}

#[test]
fn text_that_only_begins_like_a_text_that_was_sent_is_sent() {
    let streams = |pieces: &[&str], ends: &[Value]| {
        let pieces = pieces.iter().map(|piece| text_delta(0, piece));
        let begin = [assistant("m0", text(TEXT)), message_start("m1"), block_start(0, text(""))];
        begin.into_iter().chain(pieces).chain(ends.iter().cloned()).collect::<Vec<_>>()
    };
    let ends = [block_stop(0), message_stop()];
    let sent = r#"message "Once only.""#;
    check(
        &streams(&["Once ", "upon ", "a time"], &ends),
        &[sent, r#"text 1-3 "Once upon ""#, r#"text 1-3 "a time""#, "text_end 1-3"],
    );
    check(
        &streams(&["Once ", "only.", " Or not."], &ends),
        &[sent, r#"text 1-3 "Once only. Or not.""#, "text_end 1-3"],
    );
    check(&streams(&["Once "], &ends), &[sent, r#"text 1-3 "Once ""#, "text_end 1-3"]);
    // A stream that begins again, or is void, had nothing to revoke.
    check(&streams(&["Once "], &[message_start("m2")]), &[sent]);
    let void = with(message_stop(), json!({"abandoned_blocks": {"from_block_index": 0}}));
    check(&streams(&["Once "], &[void]), &[sent]);
}

/// A retry streams an answer that is void again.
#[test]
fn a_void_text_is_sent_again() {
    for confirmed in [false, true] {
        let void = with(message_stop(), json!({"abandoned_blocks": {"from_block_index": 0}}));
        let whole = confirmed.then(|| assistant("m1", text(TEXT)));
        let first = [&stream("m1")[..4], whole.as_slice(), &[block_stop(0), void]].concat();
        for again in [stream("m1").to_vec(), stream("m2").to_vec(), vec![assistant("m2", text(TEXT))]] {
            let lines = [&first[..], &again].concat();
            let steps = [Decoded::default()].map(|mut out| {
                let mut codec = super::codec();
                codec.delivered(Delivered::Prompt(&TurnId::parse("t-1").unwrap()));
                for (at, line) in lines.iter().enumerate() {
                    codec.decode(at as u64, line.to_string().as_bytes(), &mut out);
                }
                Step::Decoded(0, out)
            });
            assert_eq!(checker::by_turn(&steps).concat(), TEXT, "{again:?}");
        }
    }
}

#[test]
fn a_codec_remembers_so_many_texts_and_no_more() {
    let mut codec = super::codec();
    let mut out = Decoded::default();
    let sizes = [1, 3].map(|rounds| {
        for at in 0..rounds * TEXTS {
            let line = assistant(&format!("m{at}"), text(&format!("{at} {}", "x".repeat(1000))));
            codec.decode(at as u64, line.to_string().as_bytes(), &mut out);
        }
        codec.checkpoint().len()
    });
    assert!(sizes[1] < sizes[0] + 1024 && sizes[0] < TEXTS * 256, "{sizes:?}");
}
