//! One question of a request: how it is drawn, and which lines answer it.

use serde::Deserialize;
use switchboard_core::wire::QuestionOption;

use crate::chat::sheet::Sheet;

/// The values of a question for yes or no.
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
    /// `option`, `boolean`, `integer` or `number`; anything else is text.
    #[serde(default)]
    format: Option<String>,
    #[serde(default)]
    options: Vec<QuestionOption>,
}

impl Item {
    pub(super) fn sheet(&self) -> Sheet {
        let mut sheet = Sheet::default();
        sheet.say("The agent asks:");
        if let Some(header) = &self.header {
            sheet.quote("", header);
        }
        sheet.quote("", &self.question);
        for (number, option) in (1..).zip(&self.options) {
            sheet.quote(&number.to_string(), &option.label);
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

    /// What to choose from: its options, or both values of yes or no.
    fn labels(&self) -> Vec<&str> {
        if self.format.as_deref() == Some("boolean") && self.options.is_empty() {
            return EITHER.to_vec();
        }
        self.options.iter().map(|option| &*option.label).collect()
    }

    /// Whether there is no answer but those to choose from.
    fn is_closed(&self) -> bool {
        matches!(self.format.as_deref(), Some("option" | "boolean"))
    }

    pub(super) fn prompt(&self) -> String {
        let what = match (self.format.as_deref(), self.options.is_empty(), self.multi_select) {
            (Some("option" | "boolean"), _, true) => "Numbers with commas",
            (Some("option" | "boolean"), _, false) => "A number",
            (Some("integer"), ..) => "A whole number",
            (Some("number"), ..) => "A number",
            (_, true, _) => "Your answer",
            (_, false, true) => "Numbers with commas, or an answer of your own",
            (_, false, false) => "A number, or an answer of your own",
        };
        format!("{what}{}: ", if self.optional { " (Enter leaves it out)" } else { "" })
    }

    /// Numbers stand for options; anything else is an answer of its own. `None`: left out.
    pub(super) fn choice(&self, line: &str) -> Result<Option<Vec<String>>, String> {
        if line.is_empty() {
            return if self.optional {
                Ok(None)
            } else {
                Err("It has to be answered; /stop ends the turn.".into())
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
        let parts: Vec<&str> = if self.multi_select { line.split(',').collect() } else { vec![line] };
        let chosen: Option<Vec<String>> = parts.into_iter().map(|part| self.chosen(part.trim())).collect();
        match chosen {
            None if self.is_closed() => {
                Err(format!("Write the number of an answer, from 1 to {}.", self.labels().len()))
            }
            None => Ok(Some(vec![line.to_owned()])),
            chosen => Ok(chosen),
        }
    }

    /// The label with this number; where nothing else can be an answer, also the one that is written here.
    fn chosen(&self, part: &str) -> Option<String> {
        let labels = self.labels();
        let numbered = part.parse::<usize>().ok().and_then(|number| labels.get(number.checked_sub(1)?));
        let word = match &*part.to_ascii_lowercase() {
            "y" | "yes" if self.format.as_deref() == Some("boolean") => "true",
            "n" | "no" if self.format.as_deref() == Some("boolean") => "false",
            _ => part,
        };
        let named = || labels.iter().find(|label| self.is_closed() && label.eq_ignore_ascii_case(word));
        numbered.or_else(named).map(|label| (*label).to_owned())
    }
}
