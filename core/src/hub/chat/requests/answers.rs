//! Whether a person's answers fit the questions.

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use crate::{
    hub::refusals::Refusal,
    wire::{AnswerFormat, ErrorCode, QuestionItem},
};

/// Checks that each question that is not optional is answered, all in the right format, and that no other is.
pub(super) fn check_answers(
    questions: &[QuestionItem],
    answers: &BTreeMap<String, Vec<String>>,
) -> Result<(), Refusal> {
    let refused = |detail| Err(Refusal::new(ErrorCode::InvalidField, detail));
    if answers.keys().any(|question| !questions.iter().any(|item| item.question == *question)) {
        return refused("there is an answer to a question that was not asked");
    }
    if !questions.is_empty() && answers.values().all(Vec::is_empty) {
        return refused("the answer answers nothing; 'deny' declines");
    }
    for item in questions {
        let texts = answers.get(&item.question).map(Vec::as_slice).unwrap_or_default();
        if texts.is_empty() && !item.optional {
            return refused("each question needs an answer, and one has none");
        }
        if texts.iter().any(|text| text.trim().is_empty()) {
            return refused("each question needs an answer, and one is empty");
        }
        if texts.len() > 1 && !item.multi_select {
            return refused("a question that takes one answer has several");
        }
        if texts.iter().any(|text| !item.accepts(text)) {
            return refused(match item.format {
                Some(AnswerFormat::Boolean) => {
                    "a question takes 'true' or 'false', and its answer is another"
                }
                Some(AnswerFormat::Integer) => "a question takes a whole number, and its answer is none",
                Some(AnswerFormat::Number) => "a question takes a number, and its answer is none",
                Some(AnswerFormat::Option) | None => {
                    "a question takes its options only, and its answer is none"
                }
            });
        }
        if !texts.is_empty() && !item.bounds(texts) {
            return refused("an answer is below or above what its question allows");
        }
    }
    Ok(())
}
