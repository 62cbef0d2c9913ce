//! The table of results that the bench prints.

use std::fmt;

use crate::stats::Samples;

/// The bound that the median of a row must keep.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bar {
    AtLeast(f64),
    AtMost(f64),
}

/// One line of the table: a measured value, often a ratio, with its bar.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) ratio: Samples,
    pub(crate) bar: Bar,
    pub(crate) detail: String,
}

impl Row {
    /// A row with a yes-or-no result.
    pub(crate) fn yes(name: &str, holds: bool) -> Self {
        let ratio = Samples::one(f64::from(u8::from(holds)));
        Self { name: name.to_owned(), ratio, bar: Bar::AtLeast(1.0), detail: String::new() }
    }

    /// Whether the median is within the bar.
    pub(crate) fn holds(&self) -> bool {
        match self.bar {
            Bar::AtLeast(bar) => self.ratio.median() >= bar,
            Bar::AtMost(bar) => self.ratio.median() <= bar,
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.holds() { "ok  " } else { "MISS" };
        let (least, greatest) = self.ratio.range();
        let bar = match self.bar {
            Bar::AtLeast(bar) => format!(">= {bar}"),
            Bar::AtMost(bar) => format!("<= {bar}"),
        };
        write!(
            f,
            "{verdict} {:6.2} ({least:.2} to {greatest:.2})  {bar:8} {}  [{}]",
            self.ratio.median(),
            self.name,
            self.detail
        )
    }
}
