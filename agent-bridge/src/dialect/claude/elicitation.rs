//! A form from a tool server (Model Context Protocol, "Elicitation"): each field becomes a question, and the answers
//! become the form's content.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Map, Value, json, value::RawValue};
use switchboard_core::wire::{AnswerFormat, QuestionItem, QuestionOption};

use super::questions::{self, plain};

/// The request's `subtype`.
pub(super) const SUBTYPE: &str = "elicitation";

/// The label of the only option for a form without fields.
const ACCEPT: &str = "Accept";

/// A field of a form.
struct Field {
    name: Option<String>,
    item: QuestionItem,
    /// The label of each option, and the value that it stands for.
    values: Vec<(String, Value)>,
}

/// The questions of a form, in the order of its schema.
pub(super) fn questions(request: &str) -> Vec<QuestionItem> {
    fields(request).into_iter().map(|field| field.item).collect()
}

/// The result of a form with a person's answers. `None` if the answers do not fit the form.
pub(super) fn accepted(request: &str, answers: &BTreeMap<String, Vec<String>>) -> Option<Value> {
    let fields = fields(request);
    if !questions::fit(fields.iter().map(|field| &field.item), answers) {
        return None;
    }
    let mut content = Map::new();
    for field in &fields {
        let Some(name) = &field.name else { continue };
        let Some(texts) = answers.get(&field.item.question).filter(|texts| !texts.is_empty()) else {
            continue;
        };
        let mut values = texts.iter().map(|text| field.value(text));
        let value = if field.item.multi_select {
            Value::Array(values.collect())
        } else {
            values.next().unwrap_or_default()
        };
        content.insert(name.clone(), value);
    }
    Some(json!({"action": "accept", "content": content}))
}

impl Field {
    fn value(&self, text: &str) -> Value {
        if let Some((_, value)) = self.values.iter().find(|(label, _)| label == text) {
            return value.clone();
        }
        match self.item.format {
            Some(AnswerFormat::Boolean) => (text == "true").into(),
            Some(AnswerFormat::Integer) => text.parse::<i64>().map_or_else(|_| text.into(), Into::into),
            Some(AnswerFormat::Number) => text.parse::<f64>().map_or_else(|_| text.into(), Into::into),
            Some(AnswerFormat::Option) | None => text.into(),
        }
    }
}

fn fields(request: &str) -> Vec<Field> {
    let members = Members::read(request);
    let server = members.text("mcp_server_name");
    // A request that cannot be read is displayed as a whole.
    let mut message = members.text("message").unwrap_or_else(|| match members.0.is_empty() {
        true => request.into(),
        false => String::new(),
    });
    if let Some(url) = members.text("url") {
        message = format!("{message}\n{url}");
    }
    let schema = members.get("requested_schema").or_else(|| members.get("requestedSchema"));
    let schema = Members::read(schema.unwrap_or_default());
    let properties = Members::read(schema.get("properties").unwrap_or_default());
    let required: Vec<Value> =
        serde_json::from_str(schema.get("required").unwrap_or_default()).unwrap_or_default();
    let mut fields: Vec<Field> = Vec::new();
    for (name, property) in &properties.0 {
        let mut field = field(name, &serde_json::from_str(property.get()).unwrap_or_default());
        field.item.optional = !required.iter().any(|required| required == name);
        fields.push(field);
    }
    if fields.is_empty() {
        let option = QuestionOption { label: ACCEPT.into(), description: None };
        let item = QuestionItem {
            options: vec![option],
            format: Some(AnswerFormat::Option),
            ..plain(String::new())
        };
        fields.push(Field { name: None, item, values: Vec::new() });
    }
    // The message is about the whole form, so it precedes the first question.
    let first = &mut fields[0].item.question;
    *first = format!("{message}\n{first}").trim().to_owned();
    let mut texts = BTreeSet::new();
    for (at, field) in fields.iter_mut().enumerate() {
        field.item.header.clone_from(&server);
        field.item.question = unlike(&mut texts, at, field.item.question.trim());
    }
    fields
}

/// The members of a JSON object in their order. If a name occurs twice, the last value counts.
#[derive(Default)]
pub(super) struct Members(Vec<(String, Box<RawValue>)>);

impl Members {
    /// Reads an object. Gives no members if `json` is not an object.
    pub(super) fn read(json: &str) -> Self {
        serde_json::from_str(json).unwrap_or_default()
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.get())
    }

    /// The value of a member that is a string and not blank.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        let text: String = serde_json::from_str(self.get(name)?).ok()?;
        Some(text).filter(|text| !text.trim().is_empty())
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self::default())
    }
}

impl<'de> Visitor<'de> for Members {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<Self, A::Error> {
        while let Some((name, value)) = members.next_entry::<String, Box<RawValue>>()? {
            match self.0.iter_mut().find(|(own, _)| *own == name) {
                Some((_, earlier)) => *earlier = value,
                None => self.0.push((name, value)),
            }
        }
        Ok(self)
    }
}

/// Makes a text unique among `others`, by appending its number: answers are matched to questions by text alone.
fn unlike(others: &mut BTreeSet<String>, at: usize, text: &str) -> String {
    let mut unlike = if text.is_empty() { "A tool server asks this.".to_owned() } else { text.to_owned() };
    while !others.insert(unlike.clone()) {
        unlike = format!("{unlike} ({})", at + 1);
    }
    unlike
}

fn field(name: &str, property: &Value) -> Field {
    let label = text(property, "title").unwrap_or_else(|| name.to_owned());
    let mut question = match text(property, "description") {
        Some(description) => format!("{label}: {description}"),
        None => label,
    };
    let multi_select = property["type"] == "array";
    let mut values = choices(if multi_select { &property["items"] } else { property });
    let mut labels = BTreeSet::new();
    for (at, (label, _)) in values.iter_mut().enumerate() {
        *label = unlike(&mut labels, at, label);
    }
    let format = match property["type"].as_str() {
        _ if !values.is_empty() => Some(AnswerFormat::Option),
        Some("boolean") => Some(AnswerFormat::Boolean),
        Some("integer") => Some(AnswerFormat::Integer),
        Some("number") => Some(AnswerFormat::Number),
        _ => None,
    };
    let labels: Vec<&str> = match format {
        Some(AnswerFormat::Boolean) => vec!["true", "false"],
        _ => values.iter().map(|(label, _)| label.as_str()).collect(),
    };
    let options = labels.into_iter().map(|label| QuestionOption { label: label.into(), description: None });
    let bound = |name: &str| property.get(name).and_then(Value::as_number).cloned();
    let (min, max, unit) = match format {
        _ if multi_select => (bound("minItems"), bound("maxItems"), " choices"),
        None => (bound("minLength"), bound("maxLength"), " characters"),
        Some(AnswerFormat::Integer | AnswerFormat::Number) => (bound("minimum"), bound("maximum"), ""),
        Some(AnswerFormat::Boolean | AnswerFormat::Option) => (None, None, ""),
    };
    let size = match (&min, &max) {
        (Some(min), Some(max)) => Some(format!("{min} to {max}{unit}")),
        (Some(min), None) => Some(format!("at least {min}{unit}")),
        (None, Some(max)) => Some(format!("at most {max}{unit}")),
        (None, None) => None,
    };
    // A format that only the server checks, such as an email address, is part of the question.
    let kind = if format.is_none() { text(property, "format") } else { None };
    let hints: Vec<String> = kind.into_iter().chain(size).collect();
    if !hints.is_empty() {
        question = format!("{question} ({})", hints.join(", "));
    }
    let item = QuestionItem { options: options.collect(), multi_select, format, min, max, ..plain(question) };
    Field { name: Some(name.into()), item, values }
}

/// The labels and values of a choice, in each form that versions of the protocol have defined.
fn choices(property: &Value) -> Vec<(String, Value)> {
    let label = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let titled = property.get("oneOf").or_else(|| property.get("anyOf")).and_then(Value::as_array);
    if let Some(titled) = titled {
        let choice = |one: &Value| {
            let value = one.get("const")?;
            Some((text(one, "title").unwrap_or_else(|| label(value)), value.clone()))
        };
        return titled.iter().filter_map(choice).collect();
    }
    let names = property.get("enumNames").and_then(Value::as_array);
    let values = property.get("enum").and_then(Value::as_array).into_iter().flatten().enumerate();
    let name = |at: usize| names.and_then(|names| names.get(at)?.as_str()).map(str::to_owned);
    values.map(|(at, value)| (name(at).unwrap_or_else(|| label(value)), value.clone())).collect()
}

fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name).and_then(Value::as_str).filter(|text| !text.trim().is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: &str = r#"{"mcp_server_name": "tracker", "message": "Delete ticket 12?", "requested_schema": {
        "type": "object", "required": ["copies"], "properties": {
            "copies": {"type": "integer", "description": "how many", "minimum": 1, "maximum": 9},
            "confirm": {"type": "boolean", "title": "Sure"},
            "share": {"type": "number"},
            "colour": {"type": "string", "enum": ["r", "b"], "enumNames": ["red", "blue"]},
            "sizes": {"type": "array", "items": {"anyOf": [{"const": "s", "title": "small"}, {"const": "l"}]},
                "maxItems": 2},
            "note": {"type": "string", "format": "email", "minLength": 3},
            "share": {"type": "number", "title": "Part", "maximum": 0.5}
        }}}"#;

    #[test]
    fn each_field_is_a_question() {
        let shown: Vec<String> = questions(FORM)
            .iter()
            .map(|item| {
                let labels: Vec<&str> = item.options.iter().map(|option| option.label.as_str()).collect();
                let [min, max] = [&item.min, &item.max]
                    .map(|bound| bound.as_ref().map_or("-".into(), ToString::to_string));
                format!(
                    "{:?} {:?} {labels:?} {} {} {min} {max}",
                    item.question, item.format, item.optional, item.multi_select
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                r#""Delete ticket 12?\ncopies: how many (1 to 9)" Some(Integer) [] false false 1 9"#,
                r#""Sure" Some(Boolean) ["true", "false"] true false - -"#,
                r#""Part (at most 0.5)" Some(Number) [] true false - 0.5"#,
                r#""colour" Some(Option) ["red", "blue"] true false - -"#,
                r#""sizes (at most 2 choices)" Some(Option) ["small", "l"] true true - 2"#,
                r#""note (email, at least 3 characters)" None [] true false 3 -"#,
            ]
        );
        assert!(questions(FORM).iter().all(|item| item.header.as_deref() == Some("tracker")));
    }

    #[test]
    fn answers_become_values_of_the_fields() {
        let answer = |question: &str, texts: &[&str]| {
            (question.to_owned(), texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>())
        };
        let answers = [
            answer("Sure", &["true"]),
            answer("Delete ticket 12?\ncopies: how many (1 to 9)", &["3"]),
            answer("Part (at most 0.5)", &["0.25"]),
            answer("colour", &["blue"]),
            answer("sizes (at most 2 choices)", &["small", "l"]),
            answer("note (email, at least 3 characters)", &[]),
        ];
        let expected =
            json!({"confirm": true, "copies": 3, "share": 0.25, "colour": "b", "sizes": ["s", "l"]});
        let result = accepted(FORM, &answers.clone().into());
        assert_eq!(result, Some(json!({"action": "accept", "content": expected})));
        for other in ["Sure", "Delete ticket 12?\ncopies: how many (1 to 9)"] {
            // An empty required field, and an answer to a question of another form.
            let mut incomplete: BTreeMap<_, _> = answers.clone().into();
            let texts = incomplete.remove(other).unwrap();
            if other == "Sure" {
                incomplete.insert("Keep ticket 12?".into(), texts);
            }
            assert_eq!(accepted(FORM, &incomplete), None);
        }
    }

    #[test]
    fn fields_and_options_with_equal_titles_get_different_texts() {
        let colliding = json!({"message": "M", "requested_schema": {"properties": {
            "": {"title": "T"}, "a": {"title": "X (3)"}, "b": {"title": "X"}, "c": {"title": "X"}, "d": {"title": "X "},
            "e": {"oneOf": [{"const": "keep", "title": "Yes"}, {"const": "erase", "title": "Yes"}]},
        }}});
        let items = questions(&colliding.to_string());
        let texts: BTreeSet<&str> = items.iter().map(|item| item.question.as_str()).collect();
        assert_eq!(texts.len(), 6, "{texts:?}");
        let options: Vec<&str> = items[5].options.iter().map(|option| option.label.as_str()).collect();
        assert_eq!(options, ["Yes", "Yes (2)"]);
        let answers = [
            (items[5].question.clone(), vec!["Yes (2)".to_owned()]),
            (items[0].question.clone(), vec!["t".to_owned()]),
        ];
        let expected = json!({"action": "accept", "content": {"": "t", "e": "erase"}});
        assert_eq!(accepted(&colliding.to_string(), &answers.into()), Some(expected));
    }

    #[test]
    fn a_message_without_fields_is_accepted_by_choice() {
        let request = json!({"message": "Sign in", "mode": "url", "url": "https://example.com/a"});
        let items = questions(&request.to_string());
        assert_eq!(items[0].question, "Sign in\nhttps://example.com/a");
        assert_eq!(
            (items[0].format, items[0].options[0].label.as_str()),
            (Some(AnswerFormat::Option), ACCEPT)
        );
        let answers = [(items[0].question.clone(), vec![ACCEPT.to_owned()])].into();
        let expected = json!({"action": "accept", "content": {}});
        assert_eq!(accepted(&request.to_string(), &answers), Some(expected));
        assert_eq!(accepted(&request.to_string(), &BTreeMap::new()), None);
    }

    #[test]
    fn a_request_that_cannot_be_read_is_shown_as_it_is() {
        for request in ["[1]", r#""delete""#] {
            assert_eq!(questions(request)[0].question, request);
        }
    }
}
