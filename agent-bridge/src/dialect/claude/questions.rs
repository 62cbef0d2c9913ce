//! The tool `AskUserQuestion`: reads its questions in any shape that a model writes, and writes the answers in the
//! shape that the tool accepts.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use switchboard_core::wire::{QuestionItem, QuestionOption};

use super::records;

/// The tool with which the agent asks a person questions. Other tools ask for permission at most.
pub(super) const TOOL: &str = "AskUserQuestion";

/// The questions in the tool's input, at least one. Input without a recognisable question becomes one question as a
/// whole, so that a person never answers something that was not displayed.
pub(super) fn read(input: &Value) -> Vec<QuestionItem> {
    let mut items: Vec<QuestionItem> = Vec::new();
    for item in asked(input).iter().filter_map(item) {
        if !items.contains(&item) {
            items.push(item);
        }
    }
    if items.is_empty() {
        items.push(plain(input.as_str().map_or_else(|| input.to_string(), str::to_owned)));
    }
    items
}

/// Whether two different questions have the same text. The tool matches answers to questions by text alone.
pub(super) fn are_ambiguous(items: &[QuestionItem]) -> bool {
    let texts: BTreeSet<&str> = items.iter().map(|item| item.question.as_str()).collect();
    texts.len() < items.len()
}

/// Whether the answers fit the questions in the tool's input.
pub(super) fn are_answered(input: &str, answers: &BTreeMap<String, Vec<String>>) -> bool {
    fit(read(&records::value(input)).iter(), answers)
}

/// Whether each required question has valid answers, and no answer is to an unknown question.
pub(super) fn fit<'a>(
    items: impl Iterator<Item = &'a QuestionItem> + Clone,
    answers: &BTreeMap<String, Vec<String>>,
) -> bool {
    let is_asked = |text: &String| items.clone().any(|item| item.question == *text);
    let is_answered = |item: &QuestionItem| match answers.get(&item.question) {
        Some(texts) if !texts.is_empty() => texts.iter().all(|text| item.accepts(text)),
        _ => item.optional,
    };
    answers.keys().all(is_asked) && items.clone().all(is_answered)
}

/// The tool's input with a person's answers. Of what the agent wrote, it contains only what the person has seen: the
/// tool would present the agent's notes and previews to the model as if the person had written them.
pub(super) fn with_answers(input: &str, answers: &BTreeMap<String, Vec<String>>) -> Value {
    let items = read(&records::value(input));
    let questions: Vec<Value> = items.iter().map(as_the_tool_has_it).collect();
    let multi_select =
        |question: &String| items.iter().any(|item| item.multi_select && item.question == *question);
    let answers: Map<String, Value> = answers
        .iter()
        .map(|(question, chosen)| (question.clone(), as_one_text(chosen, multi_select(question)).into()))
        .collect();
    json!({"questions": questions, "answers": answers})
}

/// The answer to one question as one text, the only type in the tool's schema. Several choices are joined like Claude
/// Code joins them, or written as a JSON array if the joined text could be read as other choices.
fn as_one_text(chosen: &[String], multi_select: bool) -> String {
    let ambiguous = |text: &String| text.contains(',') || text.starts_with('[');
    if multi_select && chosen.iter().any(ambiguous) {
        return json!(chosen).to_string();
    }
    chosen.join(", ")
}

fn as_the_tool_has_it(item: &QuestionItem) -> Value {
    let options = item.options.iter().map(|option| {
        json!({"label": option.label, "description": option.description.as_deref().unwrap_or_default()})
    });
    json!({
        "question": item.question,
        "header": item.header.as_deref().unwrap_or_default(),
        "options": options.collect::<Vec<_>>(),
        "multiSelect": item.multi_select,
    })
}

/// The JSON values in the tool's input that may be questions.
fn asked(input: &Value) -> Vec<Value> {
    let input = unquoted(input);
    match input.get("questions").map(unquoted) {
        Some(Value::Array(questions)) => questions,
        Some(Value::Null) | None => input.as_array().cloned().unwrap_or_else(|| vec![input]),
        Some(one) => vec![one],
    }
}

/// Parses a JSON object or array that was written as a string.
fn unquoted(value: &Value) -> Value {
    let inner = value.as_str().and_then(|text| serde_json::from_str(text).ok());
    inner.filter(|inner: &Value| inner.is_object() || inner.is_array()).unwrap_or_else(|| value.clone())
}

fn item(asked: &Value) -> Option<QuestionItem> {
    let asked = unquoted(asked);
    if let Value::String(question) = &asked {
        return (!question.trim().is_empty()).then(|| plain(question.clone()));
    }
    let question = text_of(&asked, &["question", "text", "prompt", "title"])?;
    let options = ["options", "choices"].iter().find_map(|name| asked.get(name)).map(unquoted);
    let multi_select = ["multiSelect", "multi_select", "multiple"].iter().any(|name| {
        asked.get(name).is_some_and(|value| *value == Value::Bool(true) || value.as_str() == Some("true"))
    });
    Some(QuestionItem {
        header: text_of(&asked, &["header"]),
        multi_select,
        options: options.map(|options| self::options(&options)).unwrap_or_default(),
        ..plain(question)
    })
}

fn options(value: &Value) -> Vec<QuestionOption> {
    let read = |option: &Value| {
        let bare = option.as_str().map(str::to_owned).or_else(|| option.as_number().map(ToString::to_string));
        let label = bare.or_else(|| text_of(option, &["label", "value", "name", "title", "text"]))?;
        Some(QuestionOption { label, description: text_of(option, &["description"]) })
    };
    if let Some(options) = value.as_object() {
        let described = |(label, description): (&String, &Value)| QuestionOption {
            label: label.clone(),
            description: description.as_str().map(str::to_owned),
        };
        return options.iter().map(described).collect();
    }
    value.as_array().into_iter().flatten().filter_map(read).collect()
}

fn text_of(value: &Value, names: &[&str]) -> Option<String> {
    let text = |name: &&str| value.get(name).and_then(Value::as_str).filter(|text| !text.trim().is_empty());
    names.iter().find_map(text).map(str::to_owned)
}

/// A question that any text answers.
pub(super) fn plain(question: String) -> QuestionItem {
    QuestionItem {
        question,
        header: None,
        multi_select: false,
        options: Vec::new(),
        optional: false,
        format: None,
        min: None,
        max: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(input: &Value) -> Vec<(String, Vec<String>, bool)> {
        let labels = |item: &QuestionItem| item.options.iter().map(|option| option.label.clone()).collect();
        read(input).iter().map(|item| (item.question.clone(), labels(item), item.multi_select)).collect()
    }

    #[test]
    fn a_question_is_read_in_every_shape() {
        let strict = json!([{"question": "Which?", "header": "H", "options": [{"label": "red"}, {"label": "blue"}],
            "multiSelect": true}]);
        let expected = vec![("Which?".to_owned(), vec!["red".to_owned(), "blue".to_owned()], true)];
        for input in [
            json!({"questions": strict}),
            json!({"questions": strict.to_string()}),
            json!({"questions": strict[0]}),
            json!({"questions": strict[0].to_string()}),
            json!({"questions": [strict[0].to_string()]}),
            json!({"questions": strict}).to_string().into(),
            strict.clone(),
            strict[0].clone(),
            json!({"question": "Which?", "options": ["red", "blue"], "multiSelect": "true"}),
            json!({"questions": [{"question": "Which?", "options": "[\"red\",\"blue\"]", "multi_select": true}]}),
            json!({"questions": [{"text": "Which?", "choices": [{"value": "red"}, {"name": "blue"}],
                "multiple": true, "header": 7}]}),
            json!({"questions": [strict[0], strict[0]]}),
        ] {
            assert_eq!(shown(&input), expected, "{input}");
        }
        assert_eq!(shown(&json!({"questions": ["One?", "Two?"]})).len(), 2);
        let described = read(&json!({"question": "Which?", "options": {"red": "warm"}}));
        assert_eq!(described[0].options[0].description.as_deref(), Some("warm"));
    }

    #[test]
    fn an_input_without_questions_is_asked_as_it_is() {
        for input in
            [json!({"delete": "everything"}), json!({"questions": []}), json!(7), json!({"question": " "})]
        {
            assert_eq!(shown(&input), [(input.to_string(), vec![], false)]);
        }
        assert_eq!(shown(&json!("Really?")), [("Really?".to_owned(), vec![], false)]);
    }

    #[test]
    fn answers_reach_the_tool_in_its_own_shape() {
        let answers = [("Which?".to_owned(), vec!["red".to_owned()])].into();
        let expected = json!({
            "questions": [{"question": "Which?", "header": "", "multiSelect": false,
                "options": [{"label": "red", "description": ""}]}],
            "answers": {"Which?": "red"},
        });
        for input in [
            json!({"questions": [{"question": "Which?", "options": [{"label": "red"}]}]}),
            json!({"questions": "[{\"question\":\"Which?\",\"options\":[\"red\"]}]"}),
        ] {
            assert_eq!(with_answers(&input.to_string(), &answers), expected, "{input}");
        }
    }

    #[test]
    fn only_the_parts_of_the_input_that_were_shown_go_back() {
        let input = json!({
            "questions": [
                {"question": "Which?", "header": "H", "multiSelect": false, "note": "n",
                    "options": [{"label": "red", "description": "warm", "preview": "p"}]},
                {"note": "no question"},
            ],
            "answers": {"Which?": "blue", "More?": "yes"},
            "annotations": {"Which?": {"notes": "and delete everything"}},
            "metadata": {"source": "s"},
        });
        let answers = [("Which?".to_owned(), vec!["red".to_owned()])].into();
        let expected = json!({
            "questions": [{"question": "Which?", "header": "H", "multiSelect": false,
                "options": [{"label": "red", "description": "warm"}]}],
            "answers": {"Which?": "red"},
        });
        assert_eq!(with_answers(&input.to_string(), &answers), expected);
    }

    #[test]
    fn several_choices_are_one_text_that_no_other_choices_give() {
        let choose = |multi_select: bool, chosen: &[&str]| {
            let input = json!({"questions": [{"question": "Q", "multiSelect": multi_select}]});
            let chosen = chosen.iter().map(|&text| text.to_owned()).collect();
            with_answers(&input.to_string(), &[("Q".to_owned(), chosen)].into())["answers"]["Q"].clone()
        };
        assert_eq!(choose(true, &["red", "blue"]), "red, blue");
        assert_eq!(choose(true, &["red, dark", "blue"]), r#"["red, dark","blue"]"#);
        assert_eq!(choose(true, &["red, blue"]), r#"["red, blue"]"#);
        assert_eq!(choose(true, &[r#"["red"]"#]), r#"["[\"red\"]"]"#);
        assert_eq!(choose(false, &["in my own words, and [more]"]), "in my own words, and [more]");
    }
}
