//! Documents are tied to the code: examples are the fixtures, codes and refused fields are listed, the architecture
//! page names what exists, the limits in `docs/operations.md` are those of the core, and the programs in
//! `docs/protocol.md` and `README.md` are tested ones. `docs/reference.md` is generated; `cargo xtask test --only
//! generated` compares it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use switchboard_core::{Limits, wire::CloseCode};

/// The documents that show frames.
const DOCUMENTS: [&str; 4] = ["protocol.md", "transports.md", "compat.md", "reference.md"];

#[test]
fn examples_are_the_fixtures() {
    let mut shown = BTreeSet::new();
    for name in DOCUMENTS {
        for (fixture_name, example) in examples(&document(name)) {
            let example = json(&fixture_name, &example);
            assert_eq!(
                example,
                fixture(&fixture_name),
                "{name}: the example {fixture_name} is not the fixture"
            );
            shown.insert(fixture_name);
        }
    }
    let all: BTreeSet<String> = fixtures().into_keys().collect();
    assert_eq!(shown, all, "every fixture is an example");
}

#[test]
fn the_clients_in_the_protocol_are_the_ones_that_are_tested() {
    let protocol = document("protocol.md");
    for (fence, client) in [("```js", "chat.mjs"), ("```python", "chat.py")] {
        let source = read(&here().join("../examples/clients").join(client));
        assert_eq!(block(protocol.lines(), fence), source.lines().collect::<Vec<_>>(), "{client}");
    }
}

/// The types and fields that are refused have no public list: their source is compared.
#[test]
fn every_refused_type_and_field_is_listed() {
    let compat = document("compat.md");
    let source = read(&here().join("src/wire/unserved.rs"));
    let lists = source.split("];").filter_map(|before| before.rsplit_once("] = ["));
    let names: BTreeSet<&str> = lists.flat_map(|(_, list)| list.split('"').skip(1).step_by(2)).collect();
    assert!(names.len() > 40, "{names:?}");
    for name in names {
        assert!(compat.contains(&format!("`{name}`")), "{name} is not listed");
    }
}

#[test]
fn every_close_code_is_explained() {
    let rows = document("transports.md");
    let rows = chapter(&rows, "## Close codes").lines().filter_map(|line| line.strip_prefix("| "));
    let numbers = rows.flat_map(|row| row.split(" |").next().unwrap_or_default().split(", "));
    let explained: Vec<u16> = numbers.filter_map(|number| number.parse().ok()).collect();
    assert_eq!(explained, CloseCode::ALL.map(CloseCode::number));
}

#[test]
fn every_turn_error_code_is_explained() {
    let rows = chapter_rows(&document("reference.md"), "## Turn error codes");
    let sources = sources(&["core", "runtime", "agent-bridge"]);
    let is_code = |text: &str| {
        let begins = text.starts_with("agent_") || text.starts_with("gateway_");
        begins && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    };
    for text in sources.split('"').filter(|text| is_code(text)) {
        assert!(rows.contains_key(text), "{text} is not in the table");
    }
    for code in rows.keys() {
        assert!(sources.contains(&format!("\"{code}\"")), "{code} is given by nobody");
    }
}

#[test]
fn the_architecture_names_nothing_that_is_gone() {
    let sources = sources(&["core", "runtime", "agent-bridge", "gateway"]);
    let words: BTreeSet<&str> = sources.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    let architecture = document("architecture.md");
    let prose = architecture.lines().filter(|line| !line.starts_with("```"));
    let spans = prose.flat_map(|line| line.split('`').skip(1).step_by(2));
    // A plain word without capitals and underscores may be the name of a crate or folder.
    let is_name = |span: &&str| {
        span.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':'))
            && span.chars().any(|c| c.is_ascii_uppercase() || c == '_')
    };
    let names: Vec<&str> = spans.filter(is_name).collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        for word in name.split("::") {
            assert!(words.contains(word), "{name}: no {word} in the sources");
        }
    }
}

/// In tables headed "File below `folder`" or "Folder below `folder`", each name in the first column exists there.
#[test]
fn the_tables_of_the_architecture_list_what_is_there() {
    let mut folder = None;
    let mut listed = 0;
    for line in document("architecture.md").lines() {
        let mut names = line.split('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2);
        if line.starts_with("| File below `") || line.starts_with("| Folder below `") {
            folder = names.next().map(|name| here().join("..").join(name));
        } else if !line.starts_with('|') {
            folder = None;
        } else if let Some(folder) = &folder {
            for name in names {
                assert!(folder.join(name).exists(), "{} has no {name}", folder.display());
                listed += 1;
            }
        }
    }
    assert!(listed > 20, "{listed}");
}

/// A file that is named without its folder is in each folder that its paragraph or table row names.
#[test]
fn the_architecture_says_where_each_file_is() {
    let root = here().join("..");
    let is_file_name = |span: &&&str| span.ends_with(".rs") && !span.contains('/');
    // Rows of "File below" tables, which another test compares, have their folder in the head.
    let architecture = document("architecture.md");
    let (mut below, mut in_files, mut named) = (root.clone(), false, 0);
    for paragraph in architecture.replace("\n|", "\n\n|").split("\n\n").map(str::trim) {
        let spans: Vec<&str> = paragraph.split('`').skip(1).step_by(2).collect();
        if paragraph.starts_with("| File below `") {
            (below, in_files) = (root.join(spans[0]), true);
        }
        in_files &= paragraph.starts_with('|');
        if in_files {
            continue;
        }
        let folders = spans.iter().flat_map(|span| [root.join(span), below.join(span)]);
        let folders: Vec<PathBuf> = folders.filter(|folder| folder.is_dir()).collect();
        for name in spans.iter().filter(is_file_name) {
            assert!(!folders.is_empty(), "{name}: in which folder?");
            let without: Vec<_> = folders.iter().filter(|folder| !folder.join(name).exists()).collect();
            assert!(without.is_empty(), "{without:?} have no {name}");
            named += 1;
        }
    }
    assert!(named > 2, "{named}");
}

/// The text of all sources of these crates, without tests.
fn sources(crates: &[&str]) -> String {
    let folders = crates.iter().map(|name| here().join("..").join(name).join("src"));
    folders.flat_map(|folder| rust_files(&folder)).map(|file| read(&file)).collect()
}

/// All source files below a directory, except in folders named `tests`.
fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() && path.file_name().is_some_and(|name| name != "tests") {
            found.append(&mut rust_files(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found
}

#[test]
fn the_limits_of_the_core_are_listed_with_their_defaults() {
    let operations = document("operations.md");
    let rows = chapter_rows(&operations, "## Limits");
    let shown = format!("{:?}", Limits::default());
    for field in shown.trim_start_matches("Limits {").trim_end_matches('}').split(", ") {
        let (name, value) = field.trim().split_once(": ").expect("a field has a value");
        // The gateway has a setting of its own under this name.
        if name == "shutdown_ms" {
            continue;
        }
        let value: u64 =
            value.trim_start_matches("Some(").trim_end_matches(')').parse().expect("a limit is a number");
        let default = rows.get(name).unwrap_or_else(|| panic!("{name} is not in the table"));
        assert_eq!(number(default), Some(value), "{name}: {default}");
    }
}

#[test]
fn the_program_in_the_readme_is_one_that_compiles() {
    let readme = read(&here().join("../README.md"));
    let source = read(&here().join("../runtime/src/lib.rs"));
    let documentation: Vec<&str> = source.lines().filter_map(|line| line.strip_prefix("//!")).collect();
    let shown = block(readme.lines(), "```rust");
    let compiled = block(documentation.iter().map(|line| line.strip_prefix(' ').unwrap_or(line)), "```");
    let visible: Vec<&str> =
        compiled.into_iter().filter(|line| *line != "#" && !line.starts_with("# ")).collect();
    assert_eq!(shown, visible);
}

/// The first fenced block that begins with this line.
fn block<'a>(lines: impl Iterator<Item = &'a str>, fence: &str) -> Vec<&'a str> {
    lines.skip_while(|line| *line != fence).skip(1).take_while(|line| *line != "```").collect()
}

/// The text below a heading of the second rank, up to the next one.
fn chapter<'a>(document: &'a str, heading: &str) -> &'a str {
    let start = document.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    let rest = &document[start + 1 + heading.len()..];
    &rest[..rest.find("\n## ").unwrap_or(rest.len())]
}

/// The rows of a chapter's tables whose first cell is code: the first and the second cell.
fn chapter_rows(document: &str, heading: &str) -> BTreeMap<String, String> {
    let rows = chapter(document, heading).lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.filter_map(|row| {
        let (name, rest) = row.split_once("` |")?;
        Some((name.to_owned(), rest.split('|').next()?.trim().to_owned()))
    });
    cells.collect()
}

/// Parses a number as documents write it: `1 MiB`, `10 s`, `10,240`.
fn number(text: &str) -> Option<u64> {
    let (digits, unit) = text.split_once(' ').unwrap_or((text, ""));
    let factor = match unit {
        "" | "ms" | "bytes" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "s" => 1000,
        "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    Some(digits.replace(',', "").parse::<u64>().ok()? * factor)
}

/// The code blocks that name a fixture: the name and the block. A block of JSON must name one.
fn examples(document: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        let Some(language) = line.strip_prefix("```") else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        if let Some(name) = language.strip_prefix("json") {
            assert!(!name.trim().is_empty(), "an example that names no fixture: {}", block.join(" "));
            found.push((name.trim().to_owned(), block.join("\n")));
        }
    }
    found
}

fn here() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

fn document(name: &str) -> String {
    read(&here().join("../docs").join(name))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn json(name: &str, text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn fixture(name: &str) -> Value {
    json(name, &read(&here().join("fixtures").join(format!("{name}.json"))))
}

/// All fixtures by names such as `client/attach.after`.
fn fixtures() -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for side in ["client", "server"] {
        let dir = here().join("fixtures").join(side);
        for entry in fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let file = entry.expect("an entry").file_name().into_string().expect("a UTF-8 name");
            let name = format!("{side}/{}", file.trim_end_matches(".json"));
            let value = fixture(&name);
            found.insert(name, value);
        }
    }
    found
}
