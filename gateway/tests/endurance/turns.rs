//! Very many turns in one chat.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{
    lab::{Gateway, config_file},
    log::Log,
    measure::Sample,
    number, report, run_time,
    scenes::{Over, connect},
};

/// After so many turns, memory is warm: rings and caches are full.
const WARM: usize = 1000;
/// What the gateway and the chat's host may grow by from then on, in MiB each.
const MOST_GROWTH: f64 = 4.0;

#[test]
fn many_turns_in_one_chat_cost_what_the_first_did() {
    let dir = tempfile::tempdir().unwrap();
    let limits = "messages_per_minute = \"off\"\nframes_per_second = 1000000\nframes_burst = 1000000\n";
    let config = config_file(dir.path(), &format!("[limits]\n{limits}"));
    let gateway = Gateway::start_with(|command| {
        command.args(["--agent", "demo", "--config", config.to_str().unwrap()]);
    });
    let mut client = connect(&gateway, Over::Unix);
    client.send(&json!({"type": "new_chat"}));
    let mut log = Log::begin(&client.wait_for("attached"));

    let wanted = number("SWITCHBOARD_ENDURANCE_TURNS").map(|turns| usize::try_from(turns).unwrap());
    let begun = Instant::now();
    let (mut times, mut warm, mut reported) = (Vec::new(), None, begun);
    while wanted.map_or(begun.elapsed() < run_time(), |wanted| times.len() < wanted) {
        let (turn, asked) = (format!("turn-{}", times.len()), Instant::now());
        client.message(&log.chat, &turn, "fast 1");
        assert_eq!(log.until_end(&mut *client, &turn), ("completed".to_owned(), "1 ".to_owned()));
        times.push(asked.elapsed());
        if times.len() == WARM {
            warm = Some(Sample::take(&gateway));
        }
        if reported.elapsed() > Duration::from_secs(60) {
            reported = Instant::now();
            report_progress(&gateway, &times);
        }
    }
    report_progress(&gateway, &times);
    report_times(&times);
    let end = Sample::take(&gateway);
    if let Some(warm) = warm {
        let (gateway, hosts) = (end.gateway - warm.gateway, end.hosts - warm.hosts);
        report(&format!("memory since turn {WARM}: gateway {gateway:+.1} MiB, host {hosts:+.1} MiB"));
        assert!(gateway < MOST_GROWTH, "the gateway grew by {gateway:.1} MiB");
        assert!(hosts < MOST_GROWTH, "the host grew by {hosts:.1} MiB");
    }
    assert_eq!(log.turns.len(), times.len());
    reads_all_of_it(&gateway, &log);
    let read = Sample::take(&gateway);
    report(&format!("memory after it was read: gateway {:.1} MiB, host {:.1} MiB", read.gateway, read.hosts));
}

/// A chat that has grown can be attached to, anew and from its beginning, and paged through; the answers say the same.
fn reads_all_of_it(gateway: &Gateway, log: &Log) {
    let begun = Instant::now();
    let mut client = connect(gateway, Over::WebSocket);
    client.send(&json!({"type": "attach", "chat_id": log.chat}));
    let mut snapshot = client.wait_for("snapshot");
    let older = snapshot["before"].take();
    while snapshot["more"] == true {
        snapshot = client.wait_for("snapshot");
    }
    assert_eq!(json!({"epoch": snapshot["epoch"], "seq": snapshot["seq"]}), log.cursor());
    client.wait_for("replay_end");
    report(&format!("attached anew in {:?}", begun.elapsed()));

    let begun = Instant::now();
    if older.is_string() {
        client.send(&json!({"type": "history", "chat_id": log.chat, "before": older}));
        assert_ne!(client.wait_for("history")["events"], json!([]));
    }
    report(&format!("a page of history in {:?}", begun.elapsed()));

    let begun = Instant::now();
    let mut replayed = log.emptied();
    replayed.attach(&mut *client);
    replayed.until_kind(&mut *client, "replay_end");
    assert_eq!(&replayed, log, "the log that is kept is the one that was shown");
    report(&format!("read from the beginning in {:?}", begun.elapsed()));
}

fn report_progress(gateway: &Gateway, times: &[Duration]) {
    let now = Sample::take(gateway);
    let turns = times.len();
    report(&format!("{turns} turns: gateway {:.1} MiB, host {:.1} MiB", now.gateway, now.hosts));
}

fn report_times(times: &[Duration]) {
    let tenth = times.len().div_ceil(10);
    let mean = |of: &[Duration]| of.iter().sum::<Duration>() / u32::try_from(of.len()).unwrap();
    let means: Vec<Duration> = times.chunks(tenth).map(mean).collect();
    report(&format!("mean time of a turn, by tenths: {means:?}"));
    let ratio = means.last().unwrap().as_secs_f64() / means[0].as_secs_f64();
    report(&format!("last tenth to first tenth: {ratio:.2}"));
}
