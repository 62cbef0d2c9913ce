//! Circles in a graph of files.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::resolve::Use;

/// The shortest circle through some file of each group of files that use each other, directly or through others.
pub(super) fn find(uses: &[Use]) -> Vec<Vec<Use>> {
    let mut from: BTreeMap<&str, Vec<&Use>> = BTreeMap::new();
    for edge in uses {
        from.entry(&edge.from).or_default().push(edge);
    }
    let mut seen = BTreeSet::new();
    let mut circles = Vec::new();
    for file in from.keys() {
        if seen.contains(*file) {
            continue;
        }
        if let Some(circle) = shortest(&from, file) {
            // Every file that reaches this one and is reached by it is in the same group.
            seen.extend(
                reached(&from, file).into_iter().filter(|other| reached(&from, other).contains(file)),
            );
            circles.push(circle);
        }
    }
    circles
}

/// All files that a file uses, directly or through others.
fn reached<'a>(from: &BTreeMap<&'a str, Vec<&'a Use>>, file: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut waiting: Vec<&str> = vec![file];
    while let Some(file) = waiting.pop() {
        for edge in from.get(file).into_iter().flatten() {
            if reached.insert(edge.to.as_str()) {
                waiting.push(&edge.to);
            }
        }
    }
    reached
}

/// The shortest circle through a file.
fn shortest(from: &BTreeMap<&str, Vec<&Use>>, file: &str) -> Option<Vec<Use>> {
    let mut came_by: BTreeMap<&str, &Use> = BTreeMap::new();
    let mut waiting = VecDeque::from([file]);
    while let Some(here) = waiting.pop_front() {
        for edge in from.get(here).into_iter().flatten() {
            if came_by.contains_key(edge.to.as_str()) {
                continue;
            }
            came_by.insert(&edge.to, edge);
            if edge.to == file {
                return Some(walk_back(&came_by, file));
            }
            waiting.push_back(&edge.to);
        }
    }
    None
}

fn walk_back(came_by: &BTreeMap<&str, &Use>, file: &str) -> Vec<Use> {
    let mut circle = Vec::new();
    let mut at = file;
    while let Some(edge) = came_by.get(at) {
        circle.push((*edge).clone());
        at = &edge.from;
        if at == file {
            break;
        }
    }
    circle.reverse();
    circle
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(edges: &[(&str, &str)]) -> Vec<Vec<String>> {
        let edge = |(from, to): &(&str, &str)| Use {
            from: (*from).to_owned(),
            to: (*to).to_owned(),
            item: "X".to_owned(),
            line: 1,
        };
        let uses: Vec<Use> = edges.iter().map(edge).collect();
        find(&uses).into_iter().map(|circle| circle.into_iter().map(|edge| edge.from).collect()).collect()
    }

    #[test]
    fn each_group_has_one_circle() {
        assert!(circles(&[("a", "b"), ("b", "c"), ("a", "c")]).is_empty());
        let two =
            circles(&[("a", "b"), ("b", "c"), ("c", "a"), ("b", "a"), ("x", "y"), ("y", "x"), ("a", "x")]);
        assert_eq!(two, [vec!["a", "b"], vec!["x", "y"]]);
    }
}
