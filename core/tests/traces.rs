//! Conversations as text: each trace states the inputs and all outputs. `TRACES=overwrite` writes the actual outputs
//! into the files. Read them before you commit them.

use std::{collections::BTreeSet, env, fs, path::PathBuf};

use switchboard_conformance::trace;

mod support;

use support::script;

/// The files with this ending in a folder, given relative to this crate.
fn files(folder: &[&str], ending: &str) -> Vec<PathBuf> {
    let dir: PathBuf = [env!("CARGO_MANIFEST_DIR")].iter().chain(folder).collect();
    let mut files: Vec<PathBuf> = fs::read_dir(&dir)
        .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
        .map(|entry| entry.expect("it can be listed").path())
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "nothing in {}", dir.display());
    files
}

fn trace_files() -> Vec<PathBuf> {
    files(&["..", "conformance", "traces"], "trace")
}

/// The kinds are those of the fixtures. Another test checks that each kind has a fixture.
#[test]
fn every_kind_on_the_wire_is_in_a_trace() {
    let traces: String = trace_files().iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    for (side, field) in [("client", "type"), ("server", "event")] {
        let fixtures = files(&["fixtures", side], "json");
        let kinds: BTreeSet<&str> = fixtures
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap().split('.').next().unwrap())
            .collect();
        let untraced: Vec<&str> =
            kinds.into_iter().filter(|kind| !traces.contains(&format!("\"{field}\":\"{kind}\""))).collect();
        assert!(untraced.is_empty(), "no trace has {side} frames of these kinds: {untraced:?}");
    }
}

#[test]
fn traces() {
    let overwrite = env::var_os("TRACES").is_some_and(|how| how == "overwrite");
    let mut failed = Vec::new();
    for path in trace_files() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let stated = fs::read_to_string(&path).unwrap();
        let lines = trace::parse(&stated).unwrap_or_else(|e| panic!("{name}: {e}"));
        let real = script::run(&lines).unwrap_or_else(|e| panic!("{name}: {e}"));
        if real == stated {
            continue;
        }
        if overwrite {
            fs::write(&path, real).unwrap();
        } else {
            failed.push(format!("{name}\n{}", difference(&stated, &real)));
        }
    }
    assert!(failed.is_empty(), "what came out is not what is stated:\n{}", failed.join("\n"));
}

/// The first lines that differ, and the lines before them.
fn difference(stated: &str, real: &str) -> String {
    let (stated, real): (Vec<&str>, Vec<&str>) = (stated.lines().collect(), real.lines().collect());
    let same = stated.iter().zip(&real).take_while(|(a, b)| a == b).count();
    let before = stated[same.saturating_sub(3)..same].join("\n");
    let show = |lines: &[&str]| lines[same..lines.len().min(same + 6)].join("\n    ");
    format!("line {}:\n{before}\n  stated:\n    {}\n  real:\n    {}", same + 1, show(&stated), show(&real))
}
