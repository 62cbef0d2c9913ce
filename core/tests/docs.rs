//! Documents are tied to the code: the examples of `docs/protocol.md` are the fixtures, every kind and every error
//! code has its place in there, the limits that `docs/operations.md` lists are those of the core, and the program in
//! `README.md` is the one that the runtime's documentation compiles.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use switchboard_core::{
    Limits,
    wire::{ChatEvent, CloseCode, ErrorCode},
};

/// The headings under which kinds stand.
const CLIENT: &str = "## Client frames";
const CHAT: &str = "## Chat events";
const CONTROL: &str = "## Control events";

/// What stands in every chat event, and is explained once.
const PLACE: [&str; 5] = ["chat_id", "epoch", "seq", "first_seq", "turn_id"];

macro_rules! codes {
    ($($variant:ident),* $(,)?) => {
        const CODES: &[ErrorCode] = &[$(ErrorCode::$variant),*];

        /// A code that is not in the list does not compile.
        fn is_listed(code: ErrorCode) -> bool {
            match code {
                $(ErrorCode::$variant => CODES.contains(&code),)*
            }
        }
    };
}

codes! {
    Malformed, UnknownType, Unsupported, MissingField, InvalidField, TooLarge, UnknownChat, UnknownTurn,
    UnknownRequest, AlreadyResolved, InputUnseen, TurnConflict, QueueFull, RateLimited, LimitReached, Unauthorized, Unavailable, Damaged,
    TooSlow, ShuttingDown, Internal,
}

#[test]
fn examples_are_the_fixtures() {
    let protocol = document("protocol.md");
    let examples = examples(&protocol);
    assert!(!examples.is_empty(), "no examples");
    for (name, example) in examples {
        assert_eq!(json(&name, &example), fixture(&name), "the example {name} is not the fixture");
    }
}

#[test]
fn every_kind_has_its_section_with_an_example_and_all_its_fields() {
    let protocol = document("protocol.md");
    for (name, value) in fixtures() {
        let heading = heading_of(&name, &value);
        let kind = kind_of(&name);
        let section = section(&protocol, heading, kind)
            .unwrap_or_else(|| panic!("{name}: no section \"### `{kind}`\" under \"{heading}\""));
        let is_shown = |other: &str| section.contains(&format!("```json {other}\n"));
        let side = name.split('/').next().unwrap_or_default();
        let mut alike = fixtures().into_iter().filter(|(other, value)| {
            kind_of(other) == kind && other.starts_with(side) && heading_of(other, value) == heading
        });
        assert!(alike.any(|(other, _)| is_shown(&other)), "{name}: no example in its section");
        for field in value.as_object().expect("a frame is an object").keys() {
            let is_general =
                field == "type" || field == "event" || (heading == CHAT && PLACE.contains(&field.as_str()));
            assert!(
                is_general || section.contains(&format!("`{field}`")),
                "{name}: {field} is not explained"
            );
        }
    }
}

#[test]
fn no_section_is_about_a_kind_that_is_gone() {
    let protocol = document("protocol.md");
    let known: BTreeSet<(&str, String)> =
        fixtures().iter().map(|(name, value)| (heading_of(name, value), kind_of(name).to_owned())).collect();
    for heading in [CLIENT, CHAT, CONTROL] {
        let chapter = chapter(&protocol, heading);
        for kind in chapter.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`')) {
            assert!(known.contains(&(heading, kind.to_owned())), "{heading}: {kind}");
        }
    }
}

/// Also of fields that no fixture has, and of kinds that were only half removed.
#[test]
fn every_kind_and_field_of_the_schema_is_explained() {
    let protocol = document("protocol.md");
    let client = document("schema/client.json");
    let server = document("schema/server.json");
    let (client, server) = (json("client.json", &client), json("server.json", &server));
    let kinds = [
        (CLIENT, "type", &client, &client),
        (CHAT, "event", &server, &server["$defs"]["ChatEvent"]),
        (CONTROL, "event", &server, &server["$defs"]["ControlEvent"]),
    ];
    for (heading, tag, root, kinds) in kinds {
        let kinds = kinds["oneOf"].as_array().expect("a choice of kinds");
        let mut explained = BTreeSet::new();
        for schema in kinds {
            let kind = schema["properties"][tag]["const"].as_str().expect("a kind has a name");
            let section = section(&protocol, heading, kind)
                .unwrap_or_else(|| panic!("no section \"### `{kind}`\" under \"{heading}\""));
            for field in fields(root, schema).into_iter().filter(|field| field != tag) {
                assert!(
                    section.contains(&format!("`{field}`")),
                    "{heading}, {kind}: {field} is not explained"
                );
            }
            explained.insert(kind.to_owned());
        }
        let sections = chapter(&protocol, heading).lines();
        let sections = sections.filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'));
        assert_eq!(sections.map(str::to_owned).collect::<BTreeSet<_>>(), explained, "{heading}");
    }
}

/// The names of an object's fields, those included that it has from others.
fn fields(root: &Value, schema: &Value) -> BTreeSet<String> {
    let own = schema["properties"].as_object().into_iter().flat_map(|fields| fields.keys().cloned());
    let referred = schema["$ref"].as_str().and_then(|name| root.pointer(name.trim_start_matches('#')));
    let choices = schema["oneOf"].as_array().into_iter().flatten();
    own.chain(referred.into_iter().chain(choices).flat_map(|inner| fields(root, inner))).collect()
}

#[test]
fn every_error_code_is_explained() {
    let chapter = document("protocol.md");
    let chapter = chapter_rows(&chapter, "## Error codes");
    for code in CODES {
        assert!(is_listed(*code));
        let name = serde_json::to_value(code).expect("a code encodes");
        let name = name.as_str().expect("a code is text");
        assert!(chapter.contains_key(name), "{name} is not in the table");
    }
    assert_eq!(chapter.len(), CODES.len(), "the table has a code that does not exist");
}

#[test]
fn every_close_code_is_explained() {
    let protocol = document("protocol.md");
    let rows = chapter(&protocol, "## Close codes").lines().filter_map(|line| line.strip_prefix("| "));
    let cells = rows.filter_map(|row| row.split(" | ").next());
    let explained: Vec<u16> =
        cells.flat_map(|cell| cell.split(", ")).filter_map(|code| code.parse().ok()).collect();
    assert_eq!(explained, CloseCode::ALL.map(CloseCode::number));
}

#[test]
fn every_turn_error_code_is_explained() {
    let rows = chapter_rows(&document("protocol.md"), "## Turn error codes");
    let sources: String = ["core", "runtime", "agent-bridge"]
        .iter()
        .flat_map(|crate_dir| rust_files(&here().join("..").join(crate_dir).join("src")))
        .map(|file| read(&file))
        .collect();
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

/// All sources below a directory but tests.
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

/// What follows a heading, up to the next of its rank.
fn chapter<'a>(document: &'a str, heading: &str) -> &'a str {
    let start = document.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    let rest = &document[start + 1 + heading.len()..];
    &rest[..rest.find("\n## ").unwrap_or(rest.len())]
}

fn section<'a>(document: &'a str, heading: &str, kind: &str) -> Option<&'a str> {
    let chapter = chapter(document, heading);
    let start = chapter.find(&format!("\n### `{kind}`\n"))?;
    let rest = &chapter[start + 1..];
    Some(&rest[..rest.find("\n### ").unwrap_or(rest.len())])
}

/// The rows of a chapter's tables whose first cell is code: that, and the second cell.
fn chapter_rows(document: &str, heading: &str) -> BTreeMap<String, String> {
    let rows = chapter(document, heading).lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.filter_map(|row| {
        let (name, rest) = row.split_once("` |")?;
        Some((name.to_owned(), rest.split('|').next()?.trim().to_owned()))
    });
    cells.collect()
}

/// A number as people write it: `1 MiB`, `10 s`, `10,240`.
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

/// The blocks that name a fixture, with that name. A block of JSON without one is a mistake.
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

fn heading_of(name: &str, value: &Value) -> &'static str {
    if name.starts_with("client/") {
        CLIENT
    } else if serde_json::from_value::<ChatEvent>(value.clone()).is_ok() {
        CHAT
    } else {
        CONTROL
    }
}

fn kind_of(name: &str) -> &str {
    let file = name.rsplit('/').next().unwrap_or(name);
    file.split('.').next().unwrap_or(file)
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

/// All of them, as `client/attach.after`.
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
