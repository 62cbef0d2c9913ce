//! Processes that are stopped for a while, as on a machine that sleeps or swaps, and a wall clock that jumps.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use libtest_mimic::Trial;
use rustix::process::Signal;
use serde_json::json;
use switchboard_test_support::{Rng, eventually, report_skipped};

use crate::{
    crowd::{Behavior, Crowd},
    installation::{Installation, Role, report, signal},
    kills::{nothing_is_left, pause},
    number,
    recorder::Agents,
    scenes::{Scenario, is, words},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a_gateway_that_stood_still_blames_no_agent_for_it", gateway_stands_still),
        trial("an_agent_that_stands_still_is_reported_and_cancelled", agent_stands_still),
        trial("whoever_stands_still_for_a_while_nothing_is_lost", everybody_stands_still),
        trial("a_clock_that_jumps_changes_no_turn", clock_jumps),
    ]
}

/// For how long processes are stopped: half a minute with `--nightly`.
fn longest_pause() -> Duration {
    Duration::from_secs(if number("SWITCHBOARD_CRASH_KILLS").is_some() { 30 } else { 3 })
}

/// Stops processes for this time. The pause is the fault that is tested.
fn pause_processes(pids: &[i32], time: Duration) {
    pids.iter().for_each(|pid| signal(*pid, Signal::STOP));
    std::thread::sleep(time);
    pids.iter().for_each(|pid| signal(*pid, Signal::CONT));
}

fn gateway_stands_still() {
    let (mut scenario, gateway) =
        Scenario::begin("stalled_after_ms = 500\nsilent_turn_ms = 1000\ncancel_grace_ms = 1000\n");
    scenario.say("c", "t1", "words=2000 pace=2000");
    scenario.client.until("some words", |event| is(event, "delta", "t1"));
    // Far longer than the limit of a silent turn, but the agent writes all the time.
    pause_processes(&[gateway.pid()], longest_pause());
    scenario.until_end("c", "t1");
    assert_eq!(scenario.end_of("c", "t1"), ("completed".into(), None));
    assert!(scenario.client.view("c").answer("t1") == words("t1", 2000), "each word once");
    scenario.end(gateway, Agents::AllShown);
}

fn agent_stands_still() {
    let (mut scenario, gateway) =
        Scenario::begin("stalled_after_ms = 300\nsilent_turn_ms = 1000\ncancel_grace_ms = 500\n");
    scenario.say("c", "t1", "words=5 wait=1");
    scenario.until_word(":4 ");
    let agents = scenario.installation.of_role(Role::Agent);
    agents.iter().for_each(|pid| signal(*pid, Signal::STOP));
    scenario.client.until_kind("turn_stalled");
    scenario.until_end("c", "t1");
    assert_eq!(scenario.end_of("c", "t1"), ("cancelled".into(), Some("agent_silent".into())));
    eventually("it is ended although it stands still", || {
        scenario.installation.processes().iter().all(|(pid, _)| !agents.contains(pid))
    });
    scenario.say("c", "t2", "words=5");
    scenario.until_end("c", "t2");
    assert_eq!(scenario.end_of("c", "t2").0, "completed");
    assert!(scenario.truth("t2").contains("resumed"), "{}", scenario.truth("t2"));
    scenario.end(gateway, Agents::AllShown);
}

fn everybody_stands_still() {
    let mut rng = Rng::for_test("pauses");
    let until = Instant::now() + Duration::from_secs(number("SWITCHBOARD_CRASH_SECONDS").unwrap_or(10));
    let installation = Arc::new(Installation::new(""));
    let gateway = installation.start();
    let crowd = Crowd::start(&installation, &mut rng, Behavior { cancel: true, words: 200, pace: 2_000 });
    let mut stops = 0;
    while Instant::now() < until && !crowd.recorder.has_failed() {
        let processes = installation.processes();
        let of = |role: Role| -> Vec<i32> {
            processes.iter().filter(|(_, is)| *is == role).map(|(pid, _)| *pid).collect()
        };
        let victims = match rng.below(5) {
            0 => vec![gateway.pid()],
            1 => rng.pick(&of(Role::Host)).copied().into_iter().collect(),
            2 => rng.pick(&of(Role::Agent)).copied().into_iter().collect(),
            3 => of(Role::Host),
            _ => processes.iter().map(|(pid, _)| *pid).collect(),
        };
        let most = longest_pause().as_millis().try_into().unwrap_or(u64::MAX);
        pause_processes(&victims, Duration::from_millis(rng.below(most)));
        stops += 1;
        pause(&mut rng, 300);
    }
    let acknowledged = crowd.finish(Agents::AllShown, "pauses");
    report(&format!("pauses: {stops} of them, {acknowledged} messages"));
    nothing_is_left(&installation, gateway);
}

/// The settings of a library that is preloaded into the gateways of an installation: numbers in a file.
pub(crate) struct Shim(File);

impl Shim {
    /// Compiles one of the C files here to a library, which reads its numbers from the file that a variable names.
    pub(crate) fn make(installation: &mut Installation, name: &str, variable: &str) -> Option<Self> {
        let source = format!("{}/tests/faults/{name}.c", env!("CARGO_MANIFEST_DIR"));
        let (library, numbers) = (installation.path(&format!("{name}.so")), installation.path(name));
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl");
        if !compiler.output().is_ok_and(|output| output.status.success()) {
            report_skipped(&format!("tests with {name}.c: there is no C compiler"));
            return None;
        }
        let file = File::create(&numbers).unwrap();
        for (variable, path) in [("LD_PRELOAD", library), (variable, numbers)] {
            installation.environment.push((variable.to_owned(), path.to_str().unwrap().to_owned()));
        }
        let shim = Self(file);
        shim.set(&[0; 3]);
        Some(shim)
    }

    pub(crate) fn set(&self, numbers: &[i64]) {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_ne_bytes()).collect();
        self.0.write_all_at(&bytes, 0).unwrap();
    }
}

fn clock_jumps() {
    const YEAR: i64 = 365 * 24 * 3600;
    let mut installation = Installation::new("stalled_after_ms = 2000\nsilent_turn_ms = 5000\n");
    let Some(clock) = Shim::make(&mut installation, "clock", "SHIFTED_CLOCK") else { return };
    let (mut scenario, mut gateway) = Scenario::on(installation);
    for (n, seconds) in [0, 10 * YEAR, -10 * YEAR, 3600, -YEAR].into_iter().enumerate() {
        let turn = format!("t{n}");
        scenario.say("c", &turn, "words=200 pace=1000 ask=1");
        scenario.client.until("some words", |event| is(event, "delta", &turn));
        // In the middle of a turn, and before a restart.
        clock.set(&[seconds]);
        let request = scenario.client.until_kind("permission_request");
        if n % 2 == 1 {
            gateway = scenario.restart(gateway, Signal::KILL);
            scenario.client.until_kind("replay_end");
        }
        scenario.client.send(&json!({"type": "respond", "chat_id": "c", "request_id": request["request_id"], "decision": "allow"}));
        scenario.until_end("c", &turn);
        assert_eq!(scenario.end_of("c", &turn), ("completed".into(), None));
        assert!(scenario.client.view("c").answer(&turn) == words(&turn, 200), "each word once");
        let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let after = scenario.say("d", &format!("after-{n}"), "words=1");
        scenario.until_end("d", &format!("after-{n}"));
        let at = after["started_at"].as_f64().unwrap_or_default();
        let expected = i64::try_from(unix).unwrap() + seconds;
        assert!((at - expected as f64).abs() < 60.0, "its clock was shifted by {seconds} s: {after}");
    }
    scenario.end(gateway, Agents::AllShown);
}
