//! Very many turns in one chat.

use std::time::{Duration, Instant};

use serde_json::json;

use switchboard_test_support::{Client, Gateway, config_file};

use crate::{
    log::Log,
    measure::{Sample, cpu_seconds},
    number, report, run_time,
    scenes::{Over, connect},
};

/// After this many turns, rings and caches are full.
const WARM: usize = 10_000;
/// Turns that are compared with those of a new chat.
const COMPARED: u32 = 100;
/// What the gateway and the chat's host may grow by from then on, in MiB each.
const MOST_GROWTH: f64 = 2.0;

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
    let mut cpu = vec![cpu_seconds(&gateway)];
    while wanted.map_or(begun.elapsed() < run_time(), |wanted| times.len() < wanted) {
        times.push(take_turn(&mut *client, &mut log));
        cpu.push(cpu_seconds(&gateway));
        if times.len() == WARM {
            warm = Some(Sample::take(&gateway));
        }
        if reported.elapsed() > Duration::from_secs(60) {
            reported = Instant::now();
            report_progress(&gateway, times.len());
        }
    }
    report_progress(&gateway, times.len());
    let cpu: Vec<f64> = cpu.windows(2).map(|pair| pair[1] - pair[0]).collect();
    report_tenths("time", &times);
    report_tenths("CPU time of gateway and host", &cpu);
    let end = Sample::take(&gateway);
    if let Some(warm) = warm {
        let (gateway, hosts) = (end.gateway - warm.gateway, end.hosts - warm.hosts);
        report(&format!("memory since turn {WARM}: gateway {gateway:+.1} MiB, host {hosts:+.1} MiB"));
        assert!(gateway < MOST_GROWTH, "the gateway grew by {gateway:.1} MiB");
        assert!(hosts < MOST_GROWTH, "the host grew by {hosts:.1} MiB");
    }
    assert_eq!(log.turns.len(), times.len());
    compare_with_a_new_chat(&mut *client, &mut log);
    reads_all_of_it(&gateway, &log);
    let read = Sample::take(&gateway);
    report(&format!("memory after it was read: gateway {:.1} MiB, host {:.1} MiB", read.gateway, read.hosts));
}

/// Runs the next turn of a chat, and returns how long it took, in seconds.
fn take_turn(client: &mut dyn Client, log: &mut Log) -> f64 {
    let (turn, asked) = (format!("turn-{}", log.turns.len()), Instant::now());
    client.message(&log.chat, &turn, "fast 1");
    assert_eq!(log.until_end(client, &turn), ("completed".to_owned(), "1 ".to_owned()));
    asked.elapsed().as_secs_f64()
}

/// Runs turns in both chats alternately, so that other load of the machine affects both alike.
fn compare_with_a_new_chat(client: &mut dyn Client, log: &mut Log) {
    client.send(&json!({"type": "new_chat"}));
    let mut new = Log::begin(&client.wait_for("attached"));
    take_turn(client, &mut new);
    let (mut in_old, mut in_new) = (0.0, 0.0);
    for _ in 0..COMPARED {
        in_old += take_turn(client, log);
        in_new += take_turn(client, &mut new);
    }
    let each = |seconds: f64| 1000.0 * seconds / f64::from(COMPARED);
    report(&format!(
        "a turn takes {:.2} ms here and {:.2} ms in a new chat: {:.2} times that",
        each(in_old),
        each(in_new),
        in_old / in_new
    ));
}

/// A long chat can be attached to, without a cursor and from its beginning, and paged through, with the same contents.
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

fn report_progress(gateway: &Gateway, turns: usize) {
    let now = Sample::take(gateway);
    report(&format!("{turns} turns: gateway {:.1} MiB, host {:.1} MiB", now.gateway, now.hosts));
}

fn report_tenths(what: &str, seconds: &[f64]) {
    let mean = |of: &[f64]| 1000.0 * of.iter().sum::<f64>() / of.len() as f64;
    let means: Vec<f64> = seconds.chunks(seconds.len().div_ceil(10)).map(mean).collect();
    let list: Vec<String> = means.iter().map(|mean| format!("{mean:.2}")).collect();
    let ratio = means[means.len() - 1] / means[0];
    report(&format!("{what} of a turn by tenths, in ms: {}; last to first: {ratio:.2}", list.join(" ")));
}
