//! The tool `AskUserQuestion`: its questions in whatever shape a model writes them, and the answers as the tool takes
//! them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use switchboard_core::wire::{QuestionItem, QuestionOption};

/// The tool's name.
pub(super) const TOOL: &str = "AskUserQuestion";

/// The questions of the tool's input, never none: input that holds no question is one as a whole, so that nobody
/// answers what was not shown.
pub(super) fn read(input: &Value) -> Vec<QuestionItem> {
    let mut texts = BTreeSet::new();
    let mut items: Vec<QuestionItem> = asked(input).iter().filter_map(item).collect();
    items.retain(|item| texts.insert(item.question.clone()));
    if items.is_empty() {
        items.push(plain(input.as_str().map_or_else(|| input.to_string(), str::to_owned)));
    }
    items
}

/// The tool's input with the answers of a person in it. Questions that the tool's schema would refuse are written as
/// they were asked.
pub(super) fn with_answers(input: &str, answers: &BTreeMap<String, Vec<String>>) -> Value {
    let input: Value = serde_json::from_str(input).unwrap_or_else(|_| input.into());
    let items = read(&input);
    let well_formed = input.get("questions").and_then(Value::as_array).is_some_and(|questions| {
        // What was not shown must not be answered along with what was.
        questions.len() == items.len()
            && questions.iter().all(|asked| {
                asked["question"].is_string()
                    && asked["options"]
                        .as_array()
                        .is_some_and(|all| all.iter().all(|one| one["label"].is_string()))
            })
    });
    let mut fields: Map<String, Value> = input.as_object().cloned().unwrap_or_default();
    if !well_formed {
        fields.insert("questions".into(), items.iter().map(as_the_tool_has_it).collect());
    }
    // Several choices for one question go as one text: the tool's schema knows strings only.
    let answers = answers.iter().map(|(question, chosen)| (question.clone(), chosen.join(", ").into()));
    fields.insert("answers".into(), Value::Object(answers.collect()));
    Value::Object(fields)
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

/// The values that may be questions.
fn asked(input: &Value) -> Vec<Value> {
    let input = unquoted(input);
    match input.get("questions").map(unquoted) {
        Some(Value::Array(questions)) => questions,
        Some(Value::Null) | None => input.as_array().cloned().unwrap_or_else(|| vec![input]),
        Some(one) => vec![one],
    }
}

/// JSON that was written as a string, read.
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
    fn what_holds_no_question_is_asked_as_it_is() {
        for input in
            [json!({"delete": "everything"}), json!({"questions": []}), json!(7), json!({"question": " "})]
        {
            assert_eq!(shown(&input), [(input.to_string(), vec![], false)]);
        }
        assert_eq!(shown(&json!("Really?")), [("Really?".to_owned(), vec![], false)]);
    }

    #[test]
    fn answers_reach_the_tool_in_its_own_shape() {
        let answers = [("Which?".to_owned(), vec!["red".to_owned(), "blue".to_owned()])].into();
        let well_formed =
            json!({"questions": [{"question": "Which?", "options": [{"label": "red"}]}], "more": 1});
        let given = with_answers(&well_formed.to_string(), &answers);
        assert_eq!(given["questions"], well_formed["questions"]);
        assert_eq!((&given["answers"]["Which?"], &given["more"]), (&json!("red, blue"), &json!(1)));
        let odd = json!({"questions": "[{\"question\":\"Which?\",\"options\":[\"red\"]}]"});
        let given = with_answers(&odd.to_string(), &answers);
        let expected = json!([{"question": "Which?", "header": "", "multiSelect": false,
            "options": [{"label": "red", "description": ""}]}]);
        assert_eq!(given["questions"], expected);
        assert_eq!(given["answers"]["Which?"], json!("red, blue"));
    }
}
