//! The difference between two texts, line by line, within a bounded effort.

use std::{
    collections::HashMap,
    fmt::{self, Write as _},
    ops::Range,
};

use serde::{Deserialize, Serialize};
use similar::{Algorithm, DiffTag};
use switchboard_core::wire::FileEdit;

use crate::limits::{DIFF_BYTES, DIFF_EFFORT};

/// How often the lines between two anchors are searched for further anchors.
const ROUNDS: u32 = 8;
/// Unchanged lines before and after a change in a unified diff.
const CONTEXT: usize = 3;

/// Text of at most [`DIFF_BYTES`] that ends with a whole line.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(in crate::dialect) struct Bounded {
    pub(in crate::dialect) text: String,
    pub(in crate::dialect) truncated: bool,
}

/// Changed lines, counted and as the beginning of a unified diff without file names.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(in crate::dialect) struct Change {
    pub(in crate::dialect) added: u64,
    pub(in crate::dialect) deleted: u64,
    pub(in crate::dialect) diff: Bounded,
}

impl Change {
    /// Adds the difference between two texts.
    pub(in crate::dialect) fn add_difference(&mut self, old: &str, new: &str) {
        let (added, deleted) = compare(old, new, &mut self.diff);
        self.added += added;
        self.deleted += deleted;
    }

    /// The change as clients see it. `path` is the file's path as clients see it.
    pub(in crate::dialect) fn file_edit(self, path: String, call_id: &str, tool: &str) -> FileEdit {
        let Self { added, deleted, diff } = self;
        let shown = (!diff.text.is_empty()).then(|| format!("--- {path}\n+++ {path}\n{}", diff.text));
        FileEdit {
            call_id: call_id.into(),
            tool: tool.into(),
            path,
            added,
            deleted,
            diff: shown,
            diff_truncated: diff.truncated,
        }
    }
}

/// A changed place: a range of old lines, and the range of new lines that replaces it.
type Place = (Range<usize>, Range<usize>);

/// Compares two texts. Appends the beginning of a unified diff without file names to `diff`, and returns the number of
/// added lines and that of deleted lines.
///
/// Large texts are compared around the lines that each has once. Where that leaves too much to compare, the lines
/// between count as replaced, so the difference may be larger than the smallest possible.
pub(in crate::dialect) fn compare(old: &str, new: &str, diff: &mut Bounded) -> (u64, u64) {
    let old: Vec<&str> = old.split_inclusive('\n').collect();
    let new: Vec<&str> = new.split_inclusive('\n').collect();
    let mut search = Search { old: &old, new: &new, places: Vec::new(), effort: DIFF_EFFORT };
    search.between(0..old.len(), 0..new.len(), ROUNDS);
    let places = joined(search.places);
    // A full text refuses the rest.
    let _ = print(&old, &new, &places, diff);
    places
        .iter()
        .fold((0, 0), |(added, deleted), (old, new)| (added + new.len() as u64, deleted + old.len() as u64))
}

struct Search<'a> {
    old: &'a [&'a str],
    new: &'a [&'a str],
    places: Vec<Place>,
    /// Steps that may still be taken.
    effort: usize,
}

impl Search<'_> {
    fn between(&mut self, mut old: Range<usize>, mut new: Range<usize>, rounds: u32) {
        while !old.is_empty() && !new.is_empty() && self.old[old.start] == self.new[new.start] {
            (old.start, new.start) = (old.start + 1, new.start + 1);
        }
        while !old.is_empty() && !new.is_empty() && self.old[old.end - 1] == self.new[new.end - 1] {
            (old.end, new.end) = (old.end - 1, new.end - 1);
        }
        if old.is_empty() || new.is_empty() {
            self.places.push((old, new));
            return;
        }
        // The algorithm's worst case.
        let steps = (old.len() + new.len()).saturating_pow(2);
        if steps <= self.effort.min(DIFF_EFFORT / 16) {
            self.effort -= steps;
            let operations = similar::capture_diff_slices(
                Algorithm::Myers,
                &self.old[old.clone()],
                &self.new[new.clone()],
            );
            let (old_start, new_start) = (old.start, new.start);
            for operation in operations.iter().filter(|operation| operation.tag() == DiffTag::Equal) {
                let (same, new_same) = (operation.old_range(), operation.new_range());
                let place = (old.start..old_start + same.start, new.start..new_start + new_same.start);
                self.places.push(place);
                (old.start, new.start) = (old_start + same.end, new_start + new_same.end);
            }
            self.places.push((old, new));
            return;
        }
        let anchors = if rounds > 0 { self.anchors(old.clone(), new.clone()) } else { Vec::new() };
        if anchors.is_empty() {
            self.places.push((old, new));
            return;
        }
        for (old_anchor, new_anchor) in anchors {
            self.between(old.start..old_anchor, new.start..new_anchor, rounds - 1);
            (old.start, new.start) = (old_anchor + 1, new_anchor + 1);
        }
        self.between(old, new, rounds - 1);
    }

    /// Lines that occur once in each range, as many as are in the same order in both.
    fn anchors(&self, old: Range<usize>, new: Range<usize>) -> Vec<(usize, usize)> {
        let (old, new) = (once(self.old, old), once(self.new, new));
        let mut pairs: Vec<(usize, usize)> =
            old.iter().filter_map(|(line, at)| Some(((*at)?, (*new.get(line)?)?))).collect();
        pairs.sort_unstable();
        longest_ascent(&pairs)
    }
}

/// The lines in a range; with their index if they occur once.
fn once<'a>(lines: &[&'a str], range: Range<usize>) -> HashMap<&'a str, Option<usize>> {
    let mut found = HashMap::with_capacity(range.len());
    for at in range {
        found.entry(lines[at]).and_modify(|at| *at = None).or_insert(Some(at));
    }
    found
}

/// A longest subsequence whose second numbers ascend.
fn longest_ascent(pairs: &[(usize, usize)]) -> Vec<(usize, usize)> {
    // For each length, the pair with the smallest second number that ends an ascent of this length; and for each pair
    // the one before it.
    let (mut ends, mut before): (Vec<usize>, Vec<Option<usize>>) = (Vec::new(), Vec::new());
    for (at, (_, second)) in pairs.iter().enumerate() {
        let length = ends.partition_point(|end| pairs[*end].1 < *second);
        before.push(length.checked_sub(1).map(|shorter| ends[shorter]));
        match ends.get_mut(length) {
            Some(end) => *end = at,
            None => ends.push(at),
        }
    }
    let mut ascent: Vec<(usize, usize)> =
        std::iter::successors(ends.last().copied(), |at| before[*at]).map(|at| pairs[at]).collect();
    ascent.reverse();
    ascent
}

/// The places without empty ones; places that touch are one.
fn joined(places: Vec<Place>) -> Vec<Place> {
    let mut joined: Vec<Place> = Vec::new();
    for (old, new) in places.into_iter().filter(|(old, new)| !old.is_empty() || !new.is_empty()) {
        match joined.last_mut() {
            Some(last) if (last.0.end, last.1.end) == (old.start, new.start) => {
                (last.0.end, last.1.end) = (old.end, new.end);
            }
            _ => joined.push((old, new)),
        }
    }
    joined
}

fn print(old: &[&str], new: &[&str], places: &[Place], diff: &mut Bounded) -> fmt::Result {
    let near = |one: &Place, next: &Place| next.0.start - one.0.end <= 2 * CONTEXT;
    for hunk in places.chunk_by(near) {
        let (Some(first), Some(last)) = (hunk.first(), hunk.last()) else { continue };
        let before = first.0.start.min(CONTEXT);
        let after = (old.len() - last.0.end).min(CONTEXT);
        let (start, end) = (first.0.start - before, last.0.end + after);
        let (new_start, new_end) = (first.1.start - before, last.1.end + after);
        writeln!(diff, "@@ -{} +{} @@", header(start..end), header(new_start..new_end))?;
        let mut at = start;
        for (removed, added) in hunk {
            lines(diff, ' ', &old[at..removed.start])?;
            lines(diff, '-', &old[removed.clone()])?;
            lines(diff, '+', &new[added.clone()])?;
            at = removed.end;
        }
        lines(diff, ' ', &old[at..end])?;
    }
    Ok(())
}

/// A range as the header of a hunk has it: without a length of 1, and with the line before an empty range.
fn header(lines: Range<usize>) -> String {
    match lines.len() {
        0 => format!("{},0", lines.start),
        1 => format!("{}", lines.start + 1),
        many => format!("{},{many}", lines.start + 1),
    }
}

fn lines(diff: &mut Bounded, mark: char, lines: &[&str]) -> fmt::Result {
    lines.iter().try_for_each(|line| writeln!(diff, "{mark}{}", line.strip_suffix('\n').unwrap_or(line)))
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.truncated {
            return Err(fmt::Error);
        }
        let room = DIFF_BYTES - self.text.len();
        self.text.push_str(&text[..text.floor_char_boundary(room)]);
        if text.len() > room {
            self.text.truncate(self.text.rfind('\n').map_or(0, |end| end + 1));
            self.truncated = true;
            return Err(fmt::Error);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn compared(old: &str, new: &str) -> (u64, u64, Bounded) {
        let mut diff = Bounded::default();
        let (added, deleted) = compare(old, new, &mut diff);
        (added, deleted, diff)
    }

    fn numbered(lines: Range<u32>) -> String {
        lines.map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn small_texts_give_the_whole_diff() {
        for (old, new, expected) in [
            ("", "a\nb\n", "@@ -0,0 +1,2 @@\n+a\n+b\n"),
            ("a\n", "a", "@@ -1 +1 @@\n-a\n+a\n"),
            ("a\nb\nc\n", "a\nc\n", "@@ -1,3 +1,2 @@\n a\n-b\n c\n"),
            ("same\n", "same\n", ""),
        ] {
            assert_eq!(compared(old, new).2.text, expected, "{old:?} {new:?}");
        }
        let old = numbered(0..20);
        let new = old.replace("\n2\n", "\ntwo\n").replace("\n15\n", "\n");
        assert_eq!(
            compared(&old, &new).2.text,
            "@@ -1,6 +1,6 @@\n 0\n 1\n-2\n+two\n 3\n 4\n 5\n@@ -13,7 +13,6 @@\n 12\n 13\n 14\n-15\n 16\n 17\n 18\n"
        );
    }

    #[test]
    fn large_texts_are_counted_and_their_diff_is_cut() {
        let old = numbered(0..100_000);
        let (added, deleted, diff) =
            compared(&old, &old.replace("\n3\n", "\nthree\n").replace("\n99000\n", "\n"));
        assert_eq!((added, deleted, diff.truncated), (1, 2, false));
        let moved = numbered(50_000..100_000) + &numbered(0..50_000);
        let (added, deleted, diff) = compared(&old, &moved);
        assert_eq!((added, deleted, diff.truncated), (50_000, 50_000, true));
        let (added, deleted, _) = compared(&old, &numbered(100_000..200_000));
        assert_eq!((added, deleted), (100_000, 100_000));
        let (added, _, diff) = compared("", &old);
        assert_eq!((added, diff.truncated), (100_000, true));
        assert!(diff.text.len() <= DIFF_BYTES && diff.text.ends_with('\n'));
        // Nothing to hold on to: all is replaced.
        let (added, deleted, _) = compared(&"a\nb\n".repeat(50_000), &"b\nc\n".repeat(50_000));
        assert_eq!((added, deleted), (100_000, 100_000));
    }

    fn text() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(0..12_u8, 0..60)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn lines_outside_of_changed_places_are_the_same(
            old in text(), new in text(), effort in 0..20_000_usize, rounds in 0..4_u32,
        ) {
            let lines = |text: &[u8]| text.iter().map(|line| format!("{line}\n")).collect::<Vec<_>>();
            let (old, new) = (lines(&old), lines(&new));
            let old: Vec<&str> = old.iter().map(String::as_str).collect();
            let new: Vec<&str> = new.iter().map(String::as_str).collect();
            let mut search = Search { old: &old, new: &new, places: Vec::new(), effort };
            search.between(0..old.len(), 0..new.len(), rounds);
            let mut rebuilt = Vec::new();
            let mut at = 0;
            for (removed, added) in joined(search.places) {
                rebuilt.extend_from_slice(&old[at..removed.start]);
                prop_assert_eq!(rebuilt.len(), added.start);
                rebuilt.extend_from_slice(&new[added]);
                at = removed.end;
            }
            rebuilt.extend_from_slice(&old[at..]);
            prop_assert_eq!(rebuilt, new);
        }
    }
}
