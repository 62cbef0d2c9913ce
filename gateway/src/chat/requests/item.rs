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
    /// `boolean`, `integer` or `number`; anything else is text.
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
        if self.is_either() {
            for (number, value) in (1..).zip(EITHER) {
                sheet.quote(&number.to_string(), value);
            }
        }
        sheet
    }

    /// Whether its two values are all there is to choose from.
    fn is_either(&self) -> bool {
        self.format.as_deref() == Some("boolean") && self.options.is_empty()
    }

    pub(super) fn prompt(&self) -> String {
        let what = match (self.format.as_deref(), self.options.is_empty(), self.multi_select) {
            (Some("boolean"), true, _) => "1 or 2",
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
        let numbered = |part: &str| {
            let number: usize = part.trim().parse().ok()?;
            Some(self.options.get(number.checked_sub(1)?)?.label.clone())
        };
        if self.is_either() {
            let number =
                line.parse::<usize>().ok().and_then(|number| EITHER.get(number.checked_sub(1)?).copied());
            let value = number.or(match &*line.to_ascii_lowercase() {
                "true" | "yes" | "y" => Some(EITHER[0]),
                "false" | "no" | "n" => Some(EITHER[1]),
                _ => None,
            });
            return value.map(|value| Some(vec![value.to_owned()])).ok_or_else(|| "Write 1 or 2.".into());
        }
        let number = serde_json::from_str::<serde_json::Number>(line);
        match self.format.as_deref().filter(|_| self.options.is_empty()) {
            Some("integer") if !number.as_ref().is_ok_and(|number| number.is_i64() || number.is_u64()) => {
                return Err("Write a whole number, such as 3.".into());
            }
            Some("number") if number.is_err() => return Err("Write a number, such as 3 or 0.5.".into()),
            _ => {}
        }
        let parts: Vec<&str> = if self.multi_select { line.split(',').collect() } else { vec![line] };
        let chosen: Option<Vec<String>> = parts.into_iter().map(numbered).collect();
        Ok(Some(chosen.unwrap_or_else(|| vec![line.to_owned()])))
    }
}
