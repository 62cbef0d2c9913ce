//! Checks that no modules of a crate use each other in a circle, so that each can be read, tested and moved without
//! the others.
//!
//! A module is a file; a module in braces belongs to its file. A file uses another if one of its paths leads to an item
//! that is defined there. What a file only passes on (`pub use`) is not used by it, and whoever takes an item from a
//! re-export uses the file that defines the item: so a `mod.rs` that declares its children and re-exports their items
//! is in no circle with them, and one that defines what its children use and calls them is. Tests (`#[cfg(test)]`) and
//! documentation do not count. Methods and fields are not followed: whoever calls a method has its type from somewhere.

mod circles;
mod resolve;
mod scan;

use crate::git::Tree;

use resolve::Crate;

/// Finds circles of modules, as messages.
pub(crate) fn circles(tree: &Tree) -> Vec<String> {
    let is_root = |path: &str| path.ends_with("/src/lib.rs") || path.ends_with("/src/main.rs");
    let roots = tree.files.iter().filter(|file| is_root(&file.path));
    roots
        .flat_map(|root| circles::find(&Crate::read(tree, &root.path).uses()))
        .map(|circle| describe(&circle))
        .collect()
}

fn describe(circle: &[resolve::Use]) -> String {
    let steps: Vec<String> = circle
        .iter()
        .map(|edge| format!("  {}:{} uses {} of {}", edge.from, edge.line, edge.item, edge.to))
        .collect();
    format!("modules use each other in a circle:\n{}", steps.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(files: &[(&str, &str)]) -> Vec<String> {
        circles(&Tree::new(files.iter().copied()))
    }

    #[test]
    fn a_circle_is_named_with_the_lines_that_close_it() {
        let files = [
            ("a/src/lib.rs", "mod one;\nmod two;\n"),
            ("a/src/one.rs", "use crate::two::Two;\npub struct One(Two);\n"),
            ("a/src/two.rs", "pub struct Two;\n\nfn f() -> super::one::One { todo() }\n"),
        ];
        let expected = "modules use each other in a circle:\n  a/src/one.rs:1 uses Two of a/src/two.rs\n  \
                        a/src/two.rs:3 uses One of a/src/one.rs";
        assert_eq!(messages(&files), [expected]);
        assert!(messages(&files[..2]).is_empty());
    }

    #[test]
    fn re_exports_of_a_folder_make_no_circle() {
        let files = [
            ("a/src/lib.rs", "mod folder;\npub use folder::{One, Two};\n"),
            ("a/src/folder/mod.rs", "mod one;\nmod two;\npub use one::One;\npub use self::two::Two;\n"),
            ("a/src/folder/one.rs", "pub struct One;\n"),
            ("a/src/folder/two.rs", "use super::One;\npub struct Two(One, crate::One);\n"),
        ];
        assert!(messages(&files).is_empty());
    }

    #[test]
    fn a_parent_that_defines_what_its_child_uses_and_uses_the_child_is_in_a_circle() {
        let child = ("a/src/child.rs", "use crate::Options;\npub fn run(_: Options) {}\n");
        let calls = "mod child;\npub struct Options;\npub fn serve() { child::run(Options) }\n";
        assert_eq!(messages(&[("a/src/lib.rs", calls), child]).len(), 1);
        let declares = "mod child;\npub use child::run;\npub struct Options;\n";
        assert!(messages(&[("a/src/lib.rs", declares), child]).is_empty());
        let passes_on_and_calls =
            "mod child;\npub use child::run;\npub struct Options;\nfn f() { run(Options) }\n";
        assert_eq!(messages(&[("a/src/lib.rs", passes_on_and_calls), child]).len(), 1);
    }

    #[test]
    fn tests_comments_and_strings_do_not_count() {
        let one = "//! [`crate::two::Two`]\nconst S: &str = \"crate::two::Two\";\npub struct One;\n\
                   #[cfg(test)]\nmod tests { use crate::two::Two; }\n#[cfg(test)]\nuse crate::two::Two;\n";
        let files = [
            ("a/src/lib.rs", "mod one;\nmod two;\n#[cfg(test)]\nmod fuzz;\n"),
            ("a/src/one.rs", one),
            ("a/src/two.rs", "use crate::one::One;\npub struct Two(One);\n"),
            ("a/src/fuzz.rs", "use crate::two::Two;\n"),
        ];
        assert!(messages(&files).is_empty());
    }
}
