//! Runs the trace files over a transport.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use crate::{
    play::play,
    trace::{Line, Step, parse},
    transport::{Need, Transport},
};

/// The transports of this project. `traces/cannot.txt` has to list exactly the traces that each of them cannot run.
/// Tests of other transports check that themselves.
const OURS: [&str; 5] = ["memory", "websocket", "websocket-older", "sse", "unix"];

/// The result of a run over all traces.
#[derive(Debug, Default)]
pub struct Report {
    /// Number of traces that ran and agree.
    pub agree: usize,
    /// Traces that cannot run over this transport, with the reason.
    pub cannot: Vec<String>,
    /// Traces that ran and do not agree, or are listed wrongly, with the difference.
    pub failed: Vec<String>,
}

/// Runs every trace that the transport can run; with `only`, those whose file name contains this text.
///
/// # Panics
///
/// A trace file or `traces/cannot.txt` cannot be read or parsed.
pub async fn check(transport: &dyn Transport, only: Option<&str>) -> Report {
    let mut report = Report::default();
    let is_ours = OURS.contains(&transport.name());
    let listed = listed(transport.name());
    let mut names = BTreeSet::new();
    for path in files() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if only.is_some_and(|only| !name.contains(only)) {
            continue;
        }
        names.insert(name.clone());
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        let lines = parse(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        let missing: BTreeMap<Need, &str> = needs(&lines)
            .into_iter()
            .filter_map(|need| Some((need, need.beyond_a_gateway().or_else(|| transport.cannot(need))?)))
            .collect();
        let words = |needs: &BTreeSet<Need>| needs.iter().map(|n| n.word()).collect::<Vec<_>>().join(" ");
        let missing_words = words(&missing.keys().copied().collect());
        let mut listed = listed.get(&name).cloned().unwrap_or_default();
        let by_name = listed.remove(&Need::Names).then(|| transport.cannot(Need::Names)).flatten();
        let listed_words = words(&listed);
        if is_ours && missing_words != listed_words {
            report.failed.push(format!(
                "{name}: traces/cannot.txt says that {} cannot do [{listed_words}], really it is [{missing_words}]",
                transport.name()
            ));
        }
        if !missing.is_empty() {
            let why: Vec<&str> = missing.into_values().collect();
            report.cannot.push(format!("{name}: {}", why.join("; ")));
            continue;
        }
        match (play(transport, &lines).await, by_name) {
            (Ok(()), why_not) if why_not.is_none() || !is_ours => report.agree += 1,
            (Err(why), None) => report.failed.push(format!("{name}: {why}")),
            (Ok(()), _) => report.failed.push(format!("{name} agrees; traces/cannot.txt says it cannot")),
            (Err(_), Some(why)) => report.cannot.push(format!("{name}: {why}")),
        }
    }
    if only.is_none() {
        let gone = listed.keys().filter(|name| !names.contains(*name));
        report
            .failed
            .extend(gone.map(|name| format!("{name} is listed in traces/cannot.txt and does not exist")));
    }
    report
}

fn directory() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "traces"].iter().collect()
}

fn files() -> Vec<PathBuf> {
    let dir = directory();
    let entries = fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "trace"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no traces");
    files
}

/// The needs of a trace beyond clients that connect, send, receive and close. [`Need::Names`] shows only when the trace
/// is played.
fn needs(lines: &[Line]) -> BTreeSet<Need> {
    let of = |step: &Step| match step {
        Step::Tick { ms } if *ms > 0 => Some(Need::Clock),
        Step::Full { .. } | Step::Drain { .. } | Step::Stalled { .. } => Some(Need::Outbox),
        Step::JournalGrants => Some(Need::Ownership),
        Step::Open { principal: Some(_), .. } => Some(Need::Principals),
        Step::Send { frame, .. } if is_legacy(frame) => Some(Need::Legacy),
        Step::SendBytes { bytes, .. } if std::str::from_utf8(bytes).is_ok_and(is_legacy) => {
            Some(Need::Strict)
        }
        Step::Limit { .. }
        | Step::Described { .. }
        | Step::Open { .. }
        | Step::Send { .. }
        | Step::SendBytes { .. }
        | Step::StopReading { .. }
        | Step::ReadAgain { .. }
        | Step::Gone { .. }
        | Step::Agent { .. }
        | Step::Exit { .. }
        | Step::Tick { .. }
        | Step::JournalHold
        | Step::JournalRelease
        | Step::JournalRefuse { .. }
        | Step::JournalLose { .. }
        | Step::JournalCrash { .. }
        | Step::JournalFail { .. }
        | Step::JournalTrim { .. }
        | Step::JournalDamage { .. }
        | Step::JournalGrant { .. }
        | Step::JournalRenew { .. }
        | Step::JournalFence { .. }
        | Step::JournalRevoke { .. }
        | Step::Degraded { .. }
        | Step::Recover { .. }
        | Step::Restart
        | Step::Shutdown => None,
    };
    lines.iter().filter_map(|line| if let Line::Input(_, step) = line { of(step) } else { None }).collect()
}

/// Whether a gateway that accepts the older vocabulary would parse this frame as a message: text that is no JSON, or an
/// object without a type.
fn is_legacy(frame: &str) -> bool {
    let frame = frame.trim_matches([' ', '\t', '\r', '\n']);
    if frame.is_empty() || frame.starts_with('\u{feff}') {
        return false;
    }
    if !frame.starts_with(['{', '[']) {
        return true;
    }
    serde_json::from_str(frame)
        .is_ok_and(|value: serde_json::Value| value.is_object() && value.get("type").is_none())
}

/// The needs in `traces/cannot.txt` for this transport, by trace. A line is `TRACE TRANSPORT|all NEED...`. [`Need::Names`]
/// applies to all transports, whichever transport the line names.
fn listed(transport: &str) -> BTreeMap<String, BTreeSet<Need>> {
    let path = directory().join("cannot.txt");
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut listed = BTreeMap::<String, BTreeSet<Need>>::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let (Some(trace), Some(who)) = (words.next(), words.next()) else { panic!("not understood: {line}") };
        let needs = words.map(|word| {
            let known = Need::ALL.into_iter().find(|need| need.word() == word);
            known.unwrap_or_else(|| panic!("no such need: {line}"))
        });
        let needs = needs.filter(|need| who == transport || who == "all" || *need == Need::Names);
        listed.entry(trace.to_owned()).or_default().extend(needs);
    }
    listed
}
