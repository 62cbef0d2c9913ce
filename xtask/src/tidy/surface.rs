//! Checks that each library lists its public items by name in its `lib.rs`.

use super::finding::{Finding, numbered};
use crate::git::Tree;
use crate::rust::LIBRARIES;

/// Public modules, by crate. All other modules are private, and their public items are re-exported by name.
const MODULES: [(&str, &[&str]); 2] = [
    ("core", &["accounts", "agent", "ids", "journal", "wire"]),
    ("agent-bridge", &["demo", "dialect", "host"]),
];

/// Finds glob re-exports, and public modules that [`MODULES`] does not list.
pub(super) fn unlisted(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (library, _) in LIBRARIES {
        let path = format!("{library}/src/lib.rs");
        let modules =
            MODULES.iter().find(|(name, _)| *name == library).map_or(&[][..], |(_, modules)| modules);
        let Some(file) = tree.files.iter().find(|file| file.path == path) else {
            findings.push(Finding::new(&path, 0, "there is no such file"));
            continue;
        };
        let mut shown = Vec::new();
        for (line, text) in numbered(&file.text) {
            if text.starts_with("pub use") && text.contains('*') {
                findings.push(Finding::new(&path, line, "a library lists what it re-exports"));
            }
            if let Some(module) = text.strip_prefix("pub mod ").and_then(|rest| rest.strip_suffix(';')) {
                shown.push(module);
            }
        }
        if shown != modules {
            let what = format!("public modules {shown:?}; xtask/src/tidy/surface.rs lists {modules:?}");
            findings.push(Finding::new(&path, 0, what));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(core: &str) -> usize {
        let bridge = "pub mod demo;\npub mod dialect;\npub mod host;\n";
        let texts = LIBRARIES.map(|(library, _)| {
            let text = match library {
                "core" => core,
                "agent-bridge" => bridge,
                _ => "",
            };
            (format!("{library}/src/lib.rs"), text)
        });
        let files: Vec<(&str, &str)> = texts.iter().map(|(path, text)| (path.as_str(), *text)).collect();
        unlisted(&Tree::new(files)).len()
    }

    #[test]
    fn a_public_module_or_glob_that_is_not_listed_is_found() {
        let listed = "pub mod accounts;\npub mod agent;\nmod hub;\npub mod ids;\npub mod journal;\npub mod wire;\npub use hub::{Hub, Input};\n";
        assert_eq!(findings(listed), 0);
        assert_eq!(findings(&format!("{listed}pub use hub::*;\n")), 1);
        assert_eq!(findings(&format!("{listed}pub mod hub;\n")), 1);
    }
}
