//! The pages that an agent cites or that its tools found.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use switchboard_core::wire::Source;

use super::records::{lenient, parse};

/// Most sources of one text or result that are listed.
const SOURCES: usize = 16;
/// Longest address of a source, in bytes. A source with a longer one is left out.
const ADDRESS_BYTES: usize = 2048;

/// Sources in the order in which they were found, each address once.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Sources(Vec<Source>);

/// A citation, or an item of a search's result.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Cited<'a> {
    #[serde(borrow, deserialize_with = "lenient")]
    url: Option<Cow<'a, str>>,
    /// The address in blocks of the type `search_result`.
    #[serde(borrow, deserialize_with = "lenient")]
    source: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "lenient")]
    title: Option<Cow<'a, str>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Found<'a> {
    #[serde(borrow, deserialize_with = "lenient")]
    content: Option<Vec<&'a RawValue>>,
}

impl Sources {
    /// Adds the page that a citation or a search's item names, if it names one.
    pub(super) fn add_json(&mut self, json: &str) {
        let Cited { url, source, title } = serde_json::from_str(json).unwrap_or_default();
        if let Some(url) = url.or(source) {
            let title = title.map(Cow::into_owned).filter(|title| !title.is_empty());
            self.add(Source { url: url.into(), title });
        }
    }

    /// Adds the pages of a JSON list of citations.
    pub(super) fn add_list(&mut self, list: Option<&RawValue>) {
        for cited in parse::<Vec<&RawValue>>(list).unwrap_or_default() {
            self.add_json(cited.get());
        }
    }

    /// The pages as text, one a line.
    pub(super) fn listed(&self) -> String {
        let page = |Source { url, title }: &Source| match title {
            Some(title) => format!("{title} ({url})"),
            None => url.clone(),
        };
        self.0.iter().map(page).collect::<Vec<_>>().join("\n")
    }

    /// Adds the pages in the results of a search, as the agent reports them.
    pub(super) fn add_results(&mut self, results: &[&RawValue]) {
        for found in results {
            let found: Found<'_> = parse(Some(found)).unwrap_or_default();
            for page in found.content.unwrap_or_default() {
                self.add_json(page.get());
            }
        }
    }

    fn add(&mut self, source: Source) {
        let fits = !source.url.is_empty() && source.url.len() <= ADDRESS_BYTES && self.0.len() < SOURCES;
        if fits && self.0.iter().all(|known| known.url != source.url) {
            self.0.push(source);
        }
    }
}

impl From<Sources> for Vec<Source> {
    fn from(sources: Sources) -> Self {
        sources.0
    }
}
