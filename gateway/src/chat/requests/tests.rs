use std::time::Duration;

use super::*;

fn id(text: &str) -> RequestId {
    RequestId::parse(text).unwrap()
}

fn permission(name: &str, input: &str) -> Request {
    let text = format!(r#"{{"request_id":"{name}","tool":"Bash","input":{input}}}"#);
    Request::Permission(serde_json::from_str(&text).unwrap())
}

fn question(items: &str) -> Request {
    Request::Question(
        serde_json::from_str(&format!(r#"{{"request_id":"q","questions":[{items}]}}"#)).unwrap(),
    )
}

/// The steps in short.
fn steps(requests: &mut Requests) -> Vec<String> {
    std::iter::from_fn(|| requests.poll_step())
        .map(|step| match step {
            Step::Draw(rows) => format!("draw {}", rows.len()),
            Step::Prompt(prompt) => format!("prompt {prompt}"),
            Step::Say(text) => format!("say {text}"),
            Step::Fetch(id, offset) => format!("fetch {id} {offset}"),
            Step::Send(id, reply) => format!("send {id} {}", serde_json::to_string(&reply).unwrap()),
        })
        .collect()
}

/// Answers after the prompt was drawn.
fn answer(requests: &mut Requests, line: &str) -> Vec<String> {
    let now = Instant::now();
    requests.prompted(now);
    requests.answer(line, now + Duration::from_secs(1));
    steps(requests)
}

#[test]
fn permissions_take_yes_no_and_reasons() {
    let cases = [
        ("y", r#"{"decision":"allow"}"#),
        ("YES", r#"{"decision":"allow"}"#),
        (" n ", r#"{"decision":"deny"}"#),
        ("use the other file", r#"{"decision":"deny","message":"use the other file"}"#),
        ("1", r#"{"decision":"deny","message":"1"}"#),
    ];
    for (line, expected) in cases {
        let mut requests = Requests::default();
        requests.opened(permission("r", "{}"));
        assert_eq!(steps(&mut requests), ["draw 4"]);
        assert_eq!(answer(&mut requests, line), [format!("send r {expected}")], "{line}");
        assert!(!requests.is_open());
    }
    let mut requests = Requests::default();
    requests.opened(permission("r", "{}"));
    steps(&mut requests);
    assert_eq!(answer(&mut requests, "  "), ["prompt Allow it this once? y, n, or why not: "], "asked again");
}

#[test]
fn nothing_is_allowed_before_its_last_page() {
    let mut requests = Requests::default();
    let lines: Vec<String> = (0..40).map(|n| format!("echo {n}")).collect();
    requests.opened(permission("r", &serde_json::json!({ "command": lines.join("\n") }).to_string()));
    let mut hidden = 40 + 3;
    for (page, next) in [(18, "them"), (25, "")] {
        hidden -= page;
        assert_eq!(steps(&mut requests), [format!("draw {page}")]);
        if hidden == 0 {
            break;
        }
        let prompt = requests.prompt().unwrap();
        assert!(
            prompt.starts_with(&format!("{hidden} more lines ("))
                && prompt.contains(&format!("s shows {next}")),
            "{prompt}"
        );
        let said = answer(&mut requests, "y");
        assert!(
            said.len() == 2 && said[0].starts_with("say Not yet: ") && said[0].contains("Write s"),
            "{said:?}"
        );
        requests.prompted(Instant::now());
        requests.answer("show", Instant::now());
    }
    requests.answer("y", Instant::now());
    assert_eq!(steps(&mut requests), [format!("say {TOO_EARLY}")], "the last page has to be armed, too");
    assert_eq!(answer(&mut requests, "y"), [r#"send r {"decision":"allow"}"#]);
}

#[test]
fn requests_are_asked_one_after_the_other() {
    let mut requests = Requests::default();
    requests.opened(permission("a", "{}"));
    assert_eq!(steps(&mut requests), ["draw 4"]);
    requests.opened(permission("b", "{}"));
    requests.opened(permission("a", r#"{"command":"rm"}"#));
    assert_eq!(steps(&mut requests), [""; 0]);
    requests.resolved(&id("a"));
    assert_eq!(steps(&mut requests), ["draw 4"], "answered elsewhere");
    requests.answer("y", Instant::now());
    assert_eq!(steps(&mut requests), [format!("say {TOO_EARLY}")], "meant for the one before");
    requests.resolved(&id("b"));
    assert_eq!(steps(&mut requests), [""; 0]);
}

#[test]
fn a_cancelled_turn_is_forgotten_when_it_ends() {
    let turn = TurnId::parse("t").unwrap();
    let request = r#"{"request_id":"a","turn_id":"t","tool":"Bash","input":{}}"#;
    let mut requests = Requests::default();
    requests.turn_stopped(&turn);
    requests.opened(Request::Permission(Box::new(serde_json::from_str(request).unwrap())));
    assert_eq!((requests.stopping.len(), requests.stopped.len()), (1, 1));
    requests.turn_ended(Some(&turn));
    assert_eq!((requests.stopping.len(), requests.stopped.len()), (0, 0));
    assert_eq!(steps(&mut requests), [""; 0]);
}

#[test]
fn questions_take_numbers_or_words() {
    let options = r#""options":[{"label":"Red"},{"label":"Blue"}]"#;
    let items = [
        format!(r#"{{"question":"one",{options}}}"#),
        format!(r#"{{"question":"many","multi_select":true,{options}}}"#),
        format!(r#"{{"question":"free",{options}}}"#),
        r#"{"question":"left out","optional":true,"format":"integer"}"#.to_owned(),
    ];
    let mut requests = Requests::default();
    requests.opened(question(&items.join(",")));
    assert_eq!(steps(&mut requests), ["draw 5"]);
    let said = answer(&mut requests, "");
    assert!(said[0].starts_with("say It has to be answered; /decline"), "{said:?}");
    assert_eq!(answer(&mut requests, "2"), ["say Chosen: \"Blue\"", "draw 5"]);
    let said = answer(&mut requests, "1, red");
    assert!(said[0].starts_with("say Write numbers of the list alone"), "{said:?}");
    assert_eq!(answer(&mut requests, "1, #2"), ["say Chosen: \"Red\", \"Blue\"", "draw 5"]);
    let said = answer(&mut requests, "3");
    assert!(said[0].ends_with("there is no 3. For an answer that is this number write \"3\"."), "{said:?}");
    assert_eq!(answer(&mut requests, "\"3\""), ["say Chosen: \"3\"", "draw 3"]);
    assert_eq!(requests.prompt().unwrap(), "A whole number (Enter leaves it out): ");
    let answers = r#"{"decision":"answer","answers":{"free":["3"],"many":["Red","Blue"],"one":["Blue"]}}"#;
    assert_eq!(answer(&mut requests, ""), [format!("send q {answers}")]);
}

#[test]
fn a_label_that_is_a_number_is_not_taken_for_one_of_the_list() {
    let asked =
        r#"{"question":"How many?","options":[{"label":"2"},{"label":"1"},{"label":"7"},{"label":"3"}]}"#;
    let begin = || {
        let mut requests = Requests::default();
        requests.opened(question(asked));
        let Some(Step::Draw(rows)) = requests.poll_step() else { panic!("not drawn") };
        assert_eq!(rows[2..], ["  | 1: \"2\"", "  | 2: \"1\"", "  | 3: \"7\"", "  | 4: \"3\""]);
        requests
    };
    for line in ["1", "2", "3"] {
        let said = answer(&mut begin(), line);
        let expected = format!(
            "say Write #{line} for the answer with that number in the list, or \"{line}\" for the one"
        );
        assert!(said[0].starts_with(&expected), "{said:?}");
    }
    for (line, label) in
        [("#1", "2"), ("\"2\"", "2"), ("#2", "1"), ("7", "7"), ("4", "3"), ("\"9\"", "9"), ("a 1", "a 1")]
    {
        let sent = format!(r#"send q {{"decision":"answer","answers":{{"How many?":["{label}"]}}}}"#);
        assert_eq!(answer(&mut begin(), line).last(), Some(&sent), "{line}");
    }
}

#[test]
fn what_is_asked_can_be_declined_without_an_answer() {
    let asked = |request| {
        let mut requests = Requests::default();
        requests.opened(request);
        steps(&mut requests);
        requests
    };
    let early = &mut asked(question(r#"{"question":"one"},{"question":"two"}"#));
    early.decline(None, Instant::now());
    assert_eq!(steps(early), [format!("say {TOO_EARLY}")]);
    let now = Instant::now();
    early.prompted(now);
    early.decline(None, now + Duration::from_secs(1));
    assert_eq!(steps(early), [r#"send q {"decision":"deny"}"#]);
    early.decline(None, now);
    assert_eq!(steps(early), ["say Nothing is asked."]);
    // A request can be declined before its last page was drawn.
    let long =
        &mut asked(permission("r", &serde_json::json!({ "command": "x\n".repeat(90) + "y" }).to_string()));
    long.prompted(now);
    long.decline(Some("not here".into()), now + Duration::from_secs(1));
    assert_eq!(steps(long), [r#"send r {"decision":"deny","message":"not here"}"#]);
}

#[test]
fn everything_that_is_asked_is_revealed() {
    let hostile = r"\u001b[2J\u202e\u200b";
    let asked = [format!(
        r#"{{"request_id":"r","tool":"T{hostile}","description":"D{hostile}","input":{{"K{hostile}":"V{hostile}","n":["N{hostile}"]}}}}"#
    )];
    for text in &asked {
        let mut requests = Requests::default();
        requests.opened(Request::Permission(serde_json::from_str(text).unwrap()));
        let Some(Step::Draw(rows)) = requests.poll_step() else { panic!("not drawn") };
        let shown = rows.join("\n");
        for field in ["T", "D", "K", "V"] {
            assert!(shown.contains(&format!("{field}<U+001B>[2J<U+202E><U+200B>")), "{field}: {shown}");
        }
        assert!(shown.contains(r"N\u001b[2J\u202e"), "inside of JSON as JSON: {shown}");
    }
    let mut requests = Requests::default();
    requests.opened(question(&format!(
        r#"{{"question":"Q{hostile}","header":"H{hostile}","options":[{{"label":"L{hostile}","description":"D{hostile}"}}]}}"#
    )));
    let Some(Step::Draw(rows)) = requests.poll_step() else { panic!("not drawn") };
    let shown = rows.join("\n");
    for field in ["Q", "H", "L", "D"] {
        assert!(shown.contains(&format!("{field}<U+001B>[2J<U+202E><U+200B>")), "{field}: {shown}");
    }
}

fn reasked(why: &str) -> String {
    format!("say Not taken: {why} It is asked again.")
}

#[test]
fn a_refused_answer_asks_again_and_what_was_asked_meanwhile_waits() {
    let mut requests = Requests::default();
    requests.opened(permission("a", "{}"));
    requests.opened(permission("b", "{}"));
    steps(&mut requests);
    assert_eq!(answer(&mut requests, "y"), [r#"send a {"decision":"allow"}"#, "draw 4"]);
    requests.refused(&id("a"), "No.");
    assert_eq!(steps(&mut requests), [reasked("No."), "draw 4".into()]);
    requests.answer("y", Instant::now());
    assert_eq!(steps(&mut requests), [format!("say {TOO_EARLY}")], "it has to be armed again");
    assert_eq!(answer(&mut requests, "n"), [r#"send a {"decision":"deny"}"#, "draw 4"]);
    requests.resolved(&id("a"));
    requests.refused(&id("a"), "Late.");
    assert_eq!(steps(&mut requests), ["say Late."], "it is closed");
    assert_eq!(answer(&mut requests, "n"), [r#"send b {"decision":"deny"}"#]);
}

#[test]
fn a_refused_answer_to_questions_begins_with_the_first() {
    let mut requests = Requests::default();
    requests.opened(question(r#"{"question":"one"},{"question":"two"}"#));
    steps(&mut requests);
    answer(&mut requests, "x");
    let sent = r#"send q {"decision":"answer","answers":{"one":["x"],"two":["y"]}}"#;
    assert_eq!(answer(&mut requests, "y"), [sent]);
    requests.refused(&id("q"), "Not that.");
    assert_eq!(steps(&mut requests), [reasked("Not that."), "draw 3".into()]);
    answer(&mut requests, "1");
    let sent = r#"send q {"decision":"answer","answers":{"one":["1"],"two":["2"]}}"#;
    assert_eq!(answer(&mut requests, "2"), [sent], "nothing is left of the first answer");
}

#[test]
fn an_answer_that_was_lost_is_asked_for_again_once_the_log_does_not_have_it() {
    let mut requests = Requests::default();
    for name in ["a", "b", "c"] {
        requests.opened(permission(name, "{}"));
    }
    steps(&mut requests);
    answer(&mut requests, "y");
    answer(&mut requests, "y");
    requests.reconnected();
    requests.opened(permission("a", "{}"));
    requests.resolved(&id("a"));
    assert_eq!(steps(&mut requests), [""; 0], "the third is being asked");
    requests.replayed();
    let said = steps(&mut requests);
    assert!(said.len() == 2 && said[0].contains("was lost") && said[1] == "draw 4", "{said:?}");
    assert_eq!(answer(&mut requests, "n"), [r#"send b {"decision":"deny"}"#, "draw 4"]);
    requests.replayed();
    assert_eq!(steps(&mut requests), [""; 0], "what was sent on this connection is not in doubt");
}

#[test]
fn an_input_that_was_refused_as_unseen_is_read_again() {
    let text = r#"{"a":1,"a":2}"#;
    let asked = format!(
        r#"{{"request_id":"r","tool":"T","input":{text:?},"raw":true,"input_sha256":"{}"}}"#,
        sha256(text)
    );
    let page = |text: &str| serde_json::json!({"chat_id": "c", "request_id": "r", "offset": 0, "text": text});
    let mut requests = Requests::default();
    requests.opened(Request::Permission(serde_json::from_str(&asked).unwrap()));
    for _ in 0..2 {
        assert_eq!(steps(&mut requests).last().unwrap(), "fetch r 0");
        requests.page(&serde_json::from_value(page(text)).unwrap());
        assert_eq!(steps(&mut requests), ["draw 5"]);
        let allow = format!(r#"send r {{"decision":"allow","input_sha256":"{}"}}"#, sha256(text));
        assert_eq!(answer(&mut requests, "y"), [allow]);
        requests.refused(&id("r"), "Unseen.");
    }
    steps(&mut requests);
    requests.page(&serde_json::from_value(page(r#"{"a":1,"a":3}"#)).unwrap());
    assert_eq!(steps(&mut requests).len(), 1);
    let said = answer(&mut requests, "y");
    assert_eq!(said[0], format!("say {UNSEEN}"), "another text than the request is about");
}

#[test]
fn a_notice_below_a_prompt_is_followed_by_the_prompt() {
    let mut requests = Requests::default();
    requests.opened(permission("r", "{}"));
    steps(&mut requests);
    requests.interrupted();
    assert_eq!(steps(&mut requests), [""; 0], "there is none yet");
    requests.prompted(Instant::now());
    requests.interrupted();
    assert_eq!(steps(&mut requests), ["prompt Allow it this once? y, n, or why not: "]);
}

#[test]
fn formats_are_asked_for_and_held_to() {
    let labels = r#"boolean","options":[{"label":"true"},{"label":"false"}],"header":""#;
    let options = r#"option","options":[{"label":"Red"},{"label":"3"}],"header":""#;
    let cases = [
        ("boolean", "y, n, or a number of the list: ", "0,3,maybe,1 2", "1=true,2=false,True=true,no=false"),
        (labels, "y, n, or a number of the list: ", "0,3,maybe", "1=true,2=false,FALSE=false,y=true"),
        (options, "A number of the list: ", "0,4,Blue,yes", "1=Red,2=3,red=Red,3=3"),
        ("integer", "A whole number: ", "x,1.5,1e3,0x10,3 4,9223372036854775808", "-3=-3,42=42"),
        ("number", "A number: ", "x,inf,0x1,NaN", "0.5=0.5,-1e3=-1e3"),
    ];
    for (format, prompt, wrong, right) in cases {
        let asked = format!(r#"{{"question":"Q","format":"{format}"}}"#);
        for (line, value) in right.split(',').filter_map(|pair| pair.split_once('=')) {
            let mut requests = Requests::default();
            requests.opened(question(&asked));
            steps(&mut requests);
            assert_eq!(requests.prompt().unwrap(), prompt);
            for line in wrong.split(',') {
                let said = answer(&mut requests, line);
                assert!(said[0].starts_with("say Write ") && said.len() == 2, "{line}: {said:?}");
            }
            let sent = format!(r#"send q {{"decision":"answer","answers":{{"Q":["{value}"]}}}}"#);
            assert_eq!(answer(&mut requests, line).last(), Some(&sent));
        }
    }
}

#[test]
fn an_answer_out_of_bounds_asks_its_question_again_and_no_other() {
    let options = r#""multi_select":true,"options":[{"label":"a"},{"label":"b"},{"label":"c"}]"#;
    let cases = [
        (
            r#""format":"integer","min":1,"max":9"#,
            "A whole number, from 1 to 9: ",
            "0,10,-3",
            "9",
            "from 1 to 9.",
        ),
        (r#""format":"number","min":0.5"#, "A number, at least 0.5: ", "0.4,-1e9", "0.5", "at least 0.5."),
        (r#""max":3"#, "Your answer, at most 3 characters: ", "four,ööööö", "äöü", "at most 3 characters."),
        (r#""min":2,"max":2"#, "Your answer, exactly 2 characters: ", "x", "xy", "exactly 2 characters."),
    ];
    for (bounds, prompt, wrong, right, said) in cases {
        let mut requests = Requests::default();
        requests.opened(question(&format!(r#"{{"question":"one"}},{{"question":"two",{bounds}}}"#)));
        steps(&mut requests);
        answer(&mut requests, "first");
        assert_eq!(requests.prompt().unwrap(), prompt);
        for line in wrong.split(',') {
            let expected = [format!("say The answer has to be {said}"), format!("prompt {prompt}")];
            assert_eq!(answer(&mut requests, line), expected, "{line}");
        }
        let sent =
            format!(r#"send q {{"decision":"answer","answers":{{"one":["first"],"two":["{right}"]}}}}"#);
        assert_eq!(answer(&mut requests, right).last(), Some(&sent));
    }
    let mut requests = Requests::default();
    requests.opened(question(&format!(r#"{{"question":"some","min":2,"max":2,{options}}}"#)));
    steps(&mut requests);
    for line in ["1", "1, 1", "1, 2, 3"] {
        assert_eq!(answer(&mut requests, line)[0], "say Choose exactly 2 of them.", "{line}");
    }
    assert!(answer(&mut requests, "1, 3").last().unwrap().starts_with("send "));
}
