//! A mixed load: visitors that connect and disconnect, and a chat to which some clients stay attached.
//!
//! Visitors play the scenes of `scenes.rs`, each in a chat that it makes and deletes, so that the gateway's data is
//! bounded. The exception is the lobby, a chat that exists during the whole test and whose log grows. Its part in memory
//! is limited to less than the default, so that it is full after a few minutes. No client here has a wrong token or reads
//! nothing, and no process is killed: other tests are about those.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{Scope, ScopedJoinHandle},
    time::{Duration, Instant},
};

use serde_json::json;

use switchboard_test_support::{Gateway, Rng, TIMEOUT, config_file};

use crate::{
    log::{Log, Turn},
    measure::{Handles, Sample, cpu_seconds, slope},
    report, run_time,
    scenes::{Over, SCENES, Visitor, WAYS, connect},
};

const VISITORS: u64 = 5;
/// Each visitor begins a scene as often as this, if the one before is over.
const SCENE_EVERY: Duration = Duration::from_secs(4);
/// The interval of messages in the lobby.
const LOBBY_EVERY: Duration = Duration::from_secs(5);
/// The longest interval between two measurements of memory.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// Growth is checked in runs of at least this length.
const LONG: Duration = Duration::from_secs(3600);
/// The most growth of memory in an hour, in MiB.
const MOST_GROWTH: f64 = 1.0;
/// The turn that ends the lobby.
const LAST: &str = "lobby-last";

/// How often each scene was played.
type Counts = Mutex<BTreeMap<&'static str, u64>>;

#[test]
fn a_mixed_load_is_answered_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let config = config_file(dir.path(), "[limits]\nring_bytes = \"64 KiB\"\n");
    let gateway = Gateway::start_with(|command| {
        command.args(["--agent", "demo", "--config", config.to_str().unwrap()]);
    });
    let mut rng = Rng::for_test("mixed load");
    let lobby = open_lobby(&gateway);
    let counts = Counts::default();
    rehearse(&gateway, &mut rng, &counts);
    // The lobby's host stays.
    let before = wait_for_handles(&gateway, |now, last| now.hosts == 1 && now == last);

    let (begun, cpu) = (Instant::now(), cpu_seconds(&gateway));
    let stop = AtomicBool::new(false);
    let (samples, logs) = std::thread::scope(|scope| {
        let watchers = WAYS.map(|over| {
            let (gateway, log) = (&gateway, lobby.emptied());
            scope.spawn(move || watch(gateway, log, over))
        });
        let mut busy = visitors(scope, &gateway, &mut rng, &counts, &stop);
        busy.push(scope.spawn(|| speak(&gateway, lobby.clone(), &stop)));
        let mut samples = Vec::new();
        // A visitor that finishes before the end has failed.
        while begun.elapsed() < run_time() && !busy.iter().any(|thread| thread.is_finished()) {
            samples.push(Sample::take(&gateway));
            pause(SAMPLE_EVERY.min(run_time() / 50), &stop);
        }
        stop.store(true, Ordering::Relaxed);
        let ends: Vec<_> = busy.into_iter().map(ScopedJoinHandle::join).collect();
        // Ends the clients in the lobby, too, also after a failure.
        let mut client = connect(&gateway, Over::Unix);
        client.message(&lobby.chat, LAST, "echo goodbye");
        let logs = watchers.map(|watcher| watcher.join().unwrap());
        ends.into_iter().for_each(|end| end.unwrap());
        (samples, logs)
    });

    let took = begun.elapsed();
    let turns = agreed(&logs);
    report_load(&counts, turns, took, cpu_seconds(&gateway) - cpu);
    report_memory(&samples, took);
    let after = wait_for_handles(&gateway, |now, _| now.are_within(&before));
    report(&format!("before: {before:?}\nafter:  {after:?}"));
    assert!(after.are_within(&before), "more is left than there was: {before:?}, then {after:?}");
}

/// Makes the lobby, and lets its agent start.
fn open_lobby(gateway: &Gateway) -> Log {
    let mut client = connect(gateway, Over::WebSocket);
    client.send(&json!({"type": "new_chat"}));
    let mut lobby = Log::begin(&client.wait_for("attached"));
    client.message(&lobby.chat, "lobby-first", "echo welcome");
    lobby.until_end(&mut *client, "lobby-first");
    lobby
}

/// Plays each scene over each transport, so that the gateway has allocated everything that it allocates once.
fn rehearse(gateway: &Gateway, rng: &mut Rng, counts: &Counts) {
    std::thread::scope(|scope| {
        for over in WAYS {
            let mut visitor = Visitor::new(gateway, format!("{over:?}"), Rng(rng.next()));
            scope.spawn(move || {
                for (name, scene) in SCENES {
                    scene(&mut visitor, over);
                    *counts.lock().unwrap().entry(name).or_default() += 1;
                }
            });
        }
    });
}

fn visitors<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    gateway: &'env Gateway,
    rng: &mut Rng,
    counts: &'env Counts,
    stop: &'env AtomicBool,
) -> Vec<ScopedJoinHandle<'scope, ()>> {
    let visitors = (0..VISITORS).map(|n| {
        let mut visitor = Visitor::new(gateway, format!("visitor-{n}"), Rng(rng.next()));
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let (name, scene) = *visitor.rng.pick(&SCENES).unwrap();
                let over = *visitor.rng.pick(&WAYS).unwrap();
                scene(&mut visitor, over);
                *counts.lock().unwrap().entry(name).or_default() += 1;
                pause(SCENE_EVERY.saturating_sub(begun.elapsed()), stop);
            }
        })
    });
    visitors.collect()
}

/// Sends messages in the lobby.
fn speak(gateway: &Gateway, mut lobby: Log, stop: &AtomicBool) {
    let mut client = connect(gateway, Over::WebSocket);
    lobby.attach(&mut *client);
    while !stop.load(Ordering::Relaxed) {
        let turn = format!("lobby-{}", lobby.turns.len());
        client.message(&lobby.chat, &turn, "echo all is well");
        let end = lobby.until_end(&mut *client, &turn);
        assert_eq!(end, ("completed".to_owned(), "all is well".to_owned()));
        pause(LOBBY_EVERY, stop);
    }
}

/// Stays attached to the lobby over one connection until its last turn.
fn watch(gateway: &Gateway, mut lobby: Log, over: Over) -> Log {
    let mut client = connect(gateway, over);
    client.send(&json!({"type": "list_chats"}));
    lobby.attach(&mut *client);
    lobby.until_end(&mut *client, LAST);
    lobby
}

/// Checks that all clients received the same log of the lobby, each turn once. Returns the number of its turns.
fn agreed(logs: &[Log]) -> usize {
    for log in logs {
        assert_eq!(log, &logs[0], "clients saw the lobby differently");
    }
    let completed = |turn: &Turn| turn.outcome.as_deref() == Some("completed");
    assert!(logs[0].turns.iter().all(completed), "{:?}", logs[0].turns);
    logs[0].turns.len()
}

fn report_load(counts: &Counts, lobby_turns: usize, took: Duration, cpu: f64) {
    let counts = counts.lock().unwrap();
    let scenes: u64 = counts.values().sum();
    report(&format!("mixed load: {} s, {scenes} scenes, {lobby_turns} turns in the lobby", took.as_secs()));
    counts.iter().for_each(|(name, count)| report(&format!("  {count:>6} {name}")));
    report(&format!(
        "CPU of the gateway and the lobby's host: {:.1} % of a core",
        100.0 * cpu / took.as_secs_f64()
    ));
}

/// Prints how memory grew once the gateway was warm, and checks the growth if the run was long enough.
fn report_memory(samples: &[Sample], took: Duration) {
    let gateway = growth("the gateway", samples, |sample| sample.gateway);
    let host = growth("a host", samples, |sample| sample.hosts / sample.host_count.max(1) as f64);
    // All together go up and down with the number of chats: what counts is what one of them takes.
    growth("all hosts", samples, |sample| sample.hosts);
    if took >= LONG {
        assert!(gateway < MOST_GROWTH, "the gateway grows by {gateway:.3} MiB an hour");
        assert!(host < MOST_GROWTH, "a host grows by {host:.3} MiB an hour");
    }
}

/// The growth in MiB per hour, without the first sixth of the time.
fn growth(name: &str, samples: &[Sample], mib: impl Fn(&Sample) -> f64) -> f64 {
    let hours = |sample: &Sample| (sample.at - samples[0].at).as_secs_f64() / 3600.0;
    let warm = &samples[samples.len() / 6..];
    let points: Vec<(f64, f64)> = warm.iter().map(|sample| (hours(sample), mib(sample))).collect();
    let (least, most) =
        warm.iter().map(&mib).fold((f64::MAX, 0.0_f64), |(least, most), mib| (least.min(mib), most.max(mib)));
    let growth = slope(&points);
    report(&format!(
        "memory of {name}: {growth:+.3} MiB an hour; {:.1} MiB first, {least:.1} to {most:.1} since it is warm, {:.1} at \
         the end ({} samples)",
        mib(&samples[0]),
        mib(&samples[samples.len() - 1]),
        points.len()
    ));
    growth
}

/// Reads the gateway's resources ten times a second, until they satisfy the condition or the time is over.
fn wait_for_handles(gateway: &Gateway, wanted: impl Fn(&Handles, &Handles) -> bool) -> Handles {
    let deadline = Instant::now() + TIMEOUT;
    let mut last = Handles::count(gateway);
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let now = Handles::count(gateway);
        if wanted(&now, &last) || Instant::now() > deadline {
            return now;
        }
        last = now;
    }
}

/// Waits, but at most until the end of the test.
fn pause(time: Duration, stop: &AtomicBool) {
    let until = Instant::now() + time;
    while Instant::now() < until && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(50).min(until.saturating_duration_since(Instant::now())));
    }
}
