//! One question of a request: its rows on the screen, and the lines that answer it.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Number;
use switchboard_core::wire::QuestionOption;

use super::Asker;
use crate::chat::sheet::Sheet;

/// The values of a yes-or-no question.
const EITHER: [&str; 2] = ["true", "false"];

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Item {
    pub(super) question: String,
    #[serde(default)]
    header: Option<String>,
    #[serde(default)]
    multi_select: bool,
    #[serde(default)]
    optional: bool,
    /// The type of the answer: `option`, `boolean`, `integer` or `number`; any other value means text.
    #[serde(default)]
    format: Option<String>,
    #[serde(default)]
    options: Vec<QuestionOption>,
    /// Lower bound of a number, of a text's length in characters, or of the number of chosen options; `max` is the
    /// upper.
    #[serde(default)]
    min: Option<Number>,
    #[serde(default)]
    max: Option<Number>,
}

/// How a part of an answer line was written.
enum Written<'a> {
    /// `2`: an option's number, or a label that looks like one.
    Digits(&'a str),
    /// `#2`: an option's number.
    Number(&'a str),
    /// `"2"`: the characters between the quotation marks.
    Quoted(&'a str),
    Words(&'a str),
}

impl<'a> Written<'a> {
    fn of(part: &'a str) -> Self {
        let quoted = part.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let number = part.strip_prefix('#').filter(|rest| is_number(rest));
        match (quoted, number) {
            (Some(text), _) => Self::Quoted(text),
            (None, Some(number)) => Self::Number(number),
            (None, None) if is_number(part) => Self::Digits(part),
            (None, None) => Self::Words(part),
        }
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

impl Item {
    /// The rows of this question, which is number `place` of the request's `count` questions.
    pub(super) fn sheet(&self, asker: &Asker, place: usize, count: usize) -> Sheet {
        let mut sheet = Sheet::default();
        asker.introduce(&mut sheet);
        if count == 1 {
            sheet.say("The agent asks. An answer accepts what is asked; /decline gives none.");
        } else {
            sheet
                .say(&format!("The agent asks, {place} of {count}. All answers are sent with the last one."));
            sheet.say("They accept what is asked; /decline gives none of them.");
        }
        if let Some(header) = &self.header {
            sheet.quote("", header);
        }
        sheet.quote("", &self.question);
        for (number, option) in (1..).zip(&self.options) {
            // A label that is a number could be taken for an option's number.
            let quoted = is_number(option.label.trim()).then(|| format!("\"{}\"", option.label));
            sheet.code(&number.to_string(), quoted.as_ref().unwrap_or(&option.label));
            if let Some(description) = &option.description {
                sheet.quote(" ", description);
            }
        }
        if self.options.is_empty() {
            for (number, label) in (1..).zip(self.labels()) {
                sheet.quote(&number.to_string(), label);
            }
        }
        sheet
    }

    /// The labels to choose from: the options, or `true` and `false` for a yes-or-no question.
    fn labels(&self) -> Vec<&str> {
        if self.format.as_deref() == Some("boolean") && self.options.is_empty() {
            return EITHER.to_vec();
        }
        self.options.iter().map(|option| &*option.label).collect()
    }

    /// Whether only the labels are valid answers.
    fn is_closed(&self) -> bool {
        matches!(self.format.as_deref(), Some("option" | "boolean"))
    }

    pub(super) fn prompt(&self) -> String {
        let what = match (self.format.as_deref(), self.options.is_empty(), self.multi_select) {
            (Some("option" | "boolean"), _, true) => "Numbers of the list, with commas",
            (Some("boolean"), _, false) => "y, n, or a number of the list",
            (Some("option"), _, false) => "A number of the list",
            (Some("integer"), ..) => "A whole number",
            (Some("number"), ..) => "A number",
            (_, true, _) => "Your answer",
            (_, false, true) => "Numbers of the list, with commas, or an answer of your own",
            (_, false, false) => "A number of the list, or an answer of your own",
        };
        let bounds = self.range().map(|range| format!(", {range}")).unwrap_or_default();
        format!("{what}{bounds}{}: ", if self.optional { " (Enter leaves it out)" } else { "" })
    }

    /// The range of `min` and `max` in words; `None` without bounds.
    fn range(&self) -> Option<String> {
        let unit = match self.format.as_deref() {
            _ if self.multi_select => " of them",
            Some("integer" | "number") => "",
            Some("option" | "boolean") => return None,
            _ => " characters",
        };
        Some(match (&self.min, &self.max) {
            (None, None) => return None,
            (Some(min), None) => format!("at least {min}{unit}"),
            (None, Some(max)) => format!("at most {max}{unit}"),
            (Some(min), Some(max)) if min == max => format!("exactly {min}{unit}"),
            (Some(min), Some(max)) => format!("from {min} to {max}{unit}"),
        })
    }

    /// Whether an answer is within `min` and `max`, counted as the gateway counts.
    fn is_within(&self, answers: &[String]) -> bool {
        let [min, max] = [&self.min, &self.max].map(|bound| bound.as_ref().and_then(Number::as_f64));
        let within = |size: f64| min.is_none_or(|min| size >= min) && max.is_none_or(|max| size <= max);
        #[allow(clippy::cast_precision_loss, reason = "a line is far shorter than 2^53")]
        let count = |many: usize| within(many as f64);
        if self.multi_select {
            return count(answers.iter().collect::<BTreeSet<_>>().len());
        }
        answers.iter().all(|text| match self.format.as_deref() {
            Some("integer" | "number") => text.parse().is_ok_and(within),
            Some("option" | "boolean") => true,
            _ => count(text.chars().count()),
        })
    }

    /// The answer that a line gives; `None` if an optional question is left out.
    ///
    /// # Errors
    ///
    /// The gateway would refuse the answer; the text says what to write instead.
    pub(super) fn choice(&self, line: &str) -> Result<Option<Vec<String>>, String> {
        let chosen = self.chosen_by(line)?;
        match (chosen.as_ref().is_some_and(|chosen| !self.is_within(chosen)), self.range()) {
            (true, Some(range)) if self.multi_select => Err(format!("Choose {range}.")),
            (true, Some(range)) => Err(format!("The answer has to be {range}.")),
            _ => Ok(chosen),
        }
    }

    /// The answer that a line gives, before `min` and `max` are checked. Numbers stand for options; other text is an
    /// answer in the person's own words.
    fn chosen_by(&self, line: &str) -> Result<Option<Vec<String>>, String> {
        if line.is_empty() {
            return if self.optional {
                Ok(None)
            } else {
                Err("It has to be answered; /decline gives no answer, /stop ends the turn.".into())
            };
        }
        match self.format.as_deref() {
            Some("integer") if line.parse::<i64>().is_err() => {
                return Err("Write a whole number, such as 3.".into());
            }
            Some("number") if !line.parse::<f64>().is_ok_and(f64::is_finite) => {
                return Err("Write a number, such as 3 or 0.5.".into());
            }
            Some("integer" | "number") => return Ok(Some(vec![line.to_owned()])),
            _ => {}
        }
        let labels = self.labels();
        if labels.is_empty() {
            return Ok(Some(vec![line.to_owned()]));
        }
        let whole = [line];
        let is_list = self.multi_select && !matches!(Written::of(line), Written::Quoted(_));
        let parts: Vec<&str> =
            if is_list { line.split(',').map(str::trim).collect() } else { whole.to_vec() };
        let chosen = parts.iter().map(|part| self.chosen(&labels, part)).collect::<Result<Vec<_>, _>>()?;
        let count = chosen.iter().flatten().count();
        if count == chosen.len() {
            return Ok(Some(chosen.into_iter().flatten().collect()));
        }
        if self.is_closed() {
            let words = if self.format.as_deref() == Some("boolean") { "y, n, or " } else { "" };
            return Err(format!("Write {words}the number of an answer, from 1 to {}.", labels.len()));
        }
        if count > 0 {
            return Err("Write numbers of the list alone, or an answer of your own in quotes: \"...\"".into());
        }
        Ok(Some(vec![line.to_owned()]))
    }

    /// The label or quoted text that a part of a line chooses; `None` if the part is in the person's own words.
    fn chosen(&self, labels: &[&str], part: &str) -> Result<Option<String>, String> {
        let numbered = |number: &str| {
            number.parse::<usize>().ok().and_then(|number| labels.get(number.checked_sub(1)?)).copied()
        };
        let missing = |number: &str| {
            let own = if self.is_closed() {
                String::new()
            } else {
                format!(" For an answer that is this number write \"{number}\".")
            };
            format!("Write the number of an answer, from 1 to {}: there is no {number}.{own}", labels.len())
        };
        let named = |text: &str| labels.iter().copied().find(|label| label.trim() == text);
        match Written::of(part) {
            Written::Number(number) => {
                numbered(number).map(|label| Some(label.to_owned())).ok_or_else(|| missing(number))
            }
            Written::Quoted(text) => match named(text) {
                Some(label) => Ok(Some(label.to_owned())),
                None if self.is_closed() => Ok(None),
                None => Ok(Some(text.to_owned())),
            },
            Written::Digits(number) => match (numbered(number), named(number)) {
                (Some(by_number), Some(by_name)) if by_number != by_name => Err(format!(
                    "Write #{number} for the answer with that number in the list, or \"{number}\" for the one that is called so."
                )),
                (Some(label), _) | (None, Some(label)) => Ok(Some(label.to_owned())),
                (None, None) => Err(missing(number)),
            },
            Written::Words(words) => {
                let word = match &*words.to_ascii_lowercase() {
                    "y" | "yes" if self.format.as_deref() == Some("boolean") => "true",
                    "n" | "no" if self.format.as_deref() == Some("boolean") => "false",
                    _ => words,
                };
                let label = labels.iter().find(|label| self.is_closed() && label.eq_ignore_ascii_case(word));
                Ok(label.map(|label| (*label).to_owned()))
            }
        }
    }
}
