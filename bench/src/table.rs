//! The table of results that the bench prints.

use std::fmt;

use crate::stats::Samples;

/// The bound that a row must keep.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bar {
    /// The least median.
    AtLeast(f64),
    /// The greatest median.
    AtMost(f64),
    /// The least value of the worst round.
    EachAtLeast(f64),
    /// The row is only reported.
    None,
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

    /// Whether the row keeps its bar. A row in which no round counted does not.
    pub(crate) fn holds(&self) -> bool {
        let measured = !self.ratio.is_empty();
        match self.bar {
            Bar::AtLeast(bar) => measured && self.ratio.median() >= bar,
            Bar::AtMost(bar) => measured && self.ratio.median() <= bar,
            Bar::EachAtLeast(bar) => measured && self.ratio.range().0 >= bar,
            Bar::None => true,
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match (self.bar, self.holds()) {
            (Bar::None, _) => "    ",
            (_, true) => "ok  ",
            (_, false) => "MISS",
        };
        let (least, greatest) = self.ratio.range();
        let measured = if self.ratio.is_empty() {
            "  none".to_owned()
        } else {
            format!("{:6.2} ({least:.2} to {greatest:.2})", self.ratio.median())
        };
        let bar = match self.bar {
            Bar::AtLeast(bar) => format!(">= {bar}"),
            Bar::AtMost(bar) => format!("<= {bar}"),
            Bar::EachAtLeast(bar) => format!("all >= {bar}"),
            Bar::None => "no bar".to_owned(),
        };
        write!(f, "{verdict} {measured}  {bar:10} {}  [{}]", self.name, self.detail)
    }
}
