//! Open permission requests and questions, asked one after the other.

use std::collections::{BTreeMap, VecDeque};

use switchboard_core::{
    ids::RequestId,
    wire::{Answer, PermissionRequest, Question, QuestionItem},
};

/// A request that waits for the person.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Request {
    Permission(Box<PermissionRequest>),
    /// The first of its questions is the one to be asked.
    Question(Question),
}

impl Request {
    fn id(&self) -> &RequestId {
        match self {
            Self::Permission(request) => &request.request_id,
            Self::Question(question) => &question.request_id,
        }
    }
}

/// The requests that are open; the first one is being asked.
#[derive(Debug, Default)]
pub(super) struct Requests {
    open: VecDeque<Request>,
    /// What was answered of the first one's questions.
    answers: BTreeMap<String, Vec<String>>,
}

/// An answer for the gateway.
type Answered = (RequestId, Answer);

impl Requests {
    pub(super) fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// A request was opened. Gives it back if it is to be asked now.
    pub(super) fn opened(&mut self, request: Request) -> Option<Request> {
        if self.open.iter().any(|open| open.id() == request.id()) {
            return None;
        }
        self.open.push_back(request);
        if self.open.len() == 1 { self.open.front().cloned() } else { None }
    }

    /// A request is closed, by whoever. Gives the next one if it is to be asked now.
    pub(super) fn resolved(&mut self, id: &RequestId) -> Option<Request> {
        let index = self.open.iter().position(|open| open.id() == id)?;
        self.open.remove(index);
        if index > 0 {
            return None;
        }
        self.answers.clear();
        self.open.front().cloned()
    }

    /// A line was written in answer to the first one. Gives the answer if it is complete, and what is to be
    /// asked next.
    pub(super) fn answer(&mut self, line: &str) -> (Option<Answered>, Option<Request>) {
        let line = line.trim();
        let Some(first) = self.open.front_mut() else { return (None, None) };
        let answer = match first {
            _ if line.is_empty() => return (None, Some(first.clone())),
            Request::Permission(_) => match line.to_ascii_lowercase().as_str() {
                "y" | "yes" => Answer::Allow,
                "n" | "no" => Answer::Deny { message: None },
                _ => Answer::Deny { message: Some(line.to_owned()) },
            },
            Request::Question(question) => {
                if !question.questions.is_empty() {
                    let item = question.questions.remove(0);
                    let chosen = choice(&item, line);
                    self.answers.insert(item.question, chosen);
                }
                if !question.questions.is_empty() {
                    return (None, Some(first.clone()));
                }
                Answer::Answer { answers: std::mem::take(&mut self.answers) }
            }
        };
        let id = first.id().clone();
        let next = self.resolved(&id);
        (Some((id, answer)), next)
    }
}

/// Numbers stand for options; anything else is an answer of its own.
fn choice(item: &QuestionItem, line: &str) -> Vec<String> {
    let numbered = |part: &str| {
        let number: usize = part.trim().parse().ok()?;
        Some(item.options.get(number.checked_sub(1)?)?.label.clone())
    };
    let parts: Vec<&str> = if item.multi_select { line.split(',').collect() } else { vec![line] };
    let chosen: Option<Vec<String>> = parts.into_iter().map(numbered).collect();
    chosen.unwrap_or_else(|| vec![line.to_owned()])
}

#[cfg(test)]
mod tests {
    use switchboard_core::wire::QuestionOption;

    use super::*;

    fn id(text: &str) -> RequestId {
        RequestId::parse(text).unwrap()
    }

    fn permission(name: &str) -> Request {
        Request::Permission(Box::new(PermissionRequest {
            request_id: id(name),
            tool: "Bash".into(),
            input: serde_json::Value::Null,
            description: None,
            call_id: None,
            truncated: false,
        }))
    }

    #[test]
    fn leave_is_given_by_a_clear_yes_only() {
        let cases = [
            ("y", Answer::Allow),
            (" YES ", Answer::Allow),
            ("n", Answer::Deny { message: None }),
            ("yes but not there", Answer::Deny { message: Some("yes but not there".into()) }),
            ("1", Answer::Deny { message: Some("1".into()) }),
        ];
        for (line, expected) in cases {
            let mut requests = Requests::default();
            requests.opened(permission("r"));
            assert_eq!(requests.answer(line), (Some((id("r"), expected)), None), "{line}");
            assert!(!requests.is_open());
        }
        let mut requests = Requests::default();
        requests.opened(permission("r"));
        assert_eq!(requests.answer("  "), (None, Some(permission("r"))), "asked again");
    }

    #[test]
    fn requests_are_asked_one_after_the_other() {
        let mut requests = Requests::default();
        assert!(requests.opened(permission("a")).is_some());
        assert_eq!(requests.opened(permission("b")), None);
        assert_eq!(requests.opened(permission("a")), None);
        assert_eq!(requests.resolved(&id("a")), Some(permission("b")), "answered elsewhere");
        assert_eq!(requests.resolved(&id("b")), None);
    }

    #[test]
    fn questions_take_numbers_or_words() {
        let item = |question: &str, multi_select| QuestionItem {
            question: question.into(),
            header: None,
            multi_select,
            options: ["Red", "Blue"]
                .map(|label| QuestionOption { label: label.into(), description: None })
                .to_vec(),
        };
        let questions = vec![item("one", false), item("many", true), item("free", false)];
        let mut requests = Requests::default();
        requests.opened(Request::Question(Question { request_id: id("q"), questions }));
        assert!(
            matches!(requests.answer("2"), (None, Some(Request::Question(rest))) if rest.questions.len() == 2)
        );
        assert!(requests.answer("1, 2").0.is_none());
        let (answered, next) = requests.answer("3");
        let answers = [("one", vec!["Blue"]), ("many", vec!["Red", "Blue"]), ("free", vec!["3"])];
        let answers =
            answers.map(|(key, values)| (key.to_owned(), values.into_iter().map(String::from).collect()));
        assert_eq!(answered, Some((id("q"), Answer::Answer { answers: answers.into() })));
        assert_eq!(next, None);
    }
}
