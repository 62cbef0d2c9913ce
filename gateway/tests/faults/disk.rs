//! Disks that are full, and disks that fail.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use libtest_mimic::Trial;
use rustix::process::Signal;
use serde_json::{Value, json};
use switchboard_test_support::{Rng, becomes_true, eventually, report_skipped};

use crate::{
    client::{Client, Over, message, whole_log},
    crowd::{Behavior, Crowd},
    installation::{Gateway, Installation, report, signal},
    kills::{nothing_is_left, pause},
    number,
    pauses::Shim,
    recorder::Agents,
    scenes::{Scenario, is, words},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a_full_disk_pauses_everything_and_loses_nothing", || full_disk(3000, 0)),
        // Longer than the free rest of a file's last block, so that the host notices the full disk first.
        trial("a_full_disk_pauses_an_agent_that_says_much_at_once", || full_disk(100, 30_000)),
        trial("syncs_that_fail_lose_nothing", || failing("syncs", "normal", FAILING_SYNCS)),
        trial("syncs_that_fail_lose_nothing_where_all_is_synced", || {
            failing("strict syncs", "strict", FAILING_SYNCS);
        }),
        trial("what_cannot_be_read_is_damage_of_one_chat_or_said_of_the_disk", unreadable),
        trial("writes_that_fail_lose_nothing", || failing("writes", "normal", FAILING_WRITES)),
    ]
}

/// A small file system in memory, unmounted at the end.
struct Small(PathBuf);

impl Small {
    fn mount(at: PathBuf) -> Option<Self> {
        fs::create_dir(&at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=40m,mode=0700", "tmpfs"]).arg(&at);
        if !mount.output().is_ok_and(|output| output.status.success()) {
            report_skipped("a gateway on a full disk: no file system can be mounted (this needs root)");
            return None;
        }
        Some(Self(at))
    }

    /// Fills the file system.
    fn fill(&self) {
        assert!(fs::write(self.0.join("filler"), vec![1; 64 << 20]).is_err(), "it is larger than the disk");
    }

    fn free(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: after a failure, processes may have files open there until their installation ends them.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn full_disk(count: usize, size: usize) {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Small::mount(folder.path().join("disk")) else { return };
    // The disk is full for far longer than this: a paused turn does not count as silent.
    let limits = "stalled_after_ms = 500\nsilent_turn_ms = 1500\njournal_retry_ms = 50\n";
    let (mut scenario, gateway) = Scenario::on(Installation::at(folder, disk.0.clone(), limits));
    scenario.say("read", "t0", "words=5");
    scenario.until_end("read", "t0");
    let pace = 5_000_000 / count;
    scenario.say("busy", "t1", &format!("words={count} pace={pace} size={size}"));
    scenario.client.until("some words", |event| is(event, "delta", "t1"));
    assert!(scenario.installation.readyz().starts_with("HTTP/1.1 200 "));
    disk.fill();
    // New messages are refused with a retryable error.
    let late = "turn=t2 words=5";
    let refused = |scenario: &mut Scenario| {
        scenario.client.send(&message("late", "t2", late));
        let answer = scenario.client.until("an answer", |event| event["turn_id"] == *"t2");
        answer["event"] == "error" && answer["code"] == "unavailable" && answer["retryable"] == true
    };
    scenario.recorder.sent("late", "t2", late);
    scenario.client.view("late");
    eventually("new messages are refused", || refused(&mut scenario));
    let ready = scenario.installation.readyz();
    assert!(ready.starts_with("HTTP/1.1 503 ") && ready.contains("not ready: the disk is full, "), "{ready}");
    // The journal can still be read.
    let (log, _) = whole_log(&scenario.installation, "read").expect("it can be read");
    assert_eq!(log.answer("t0"), words("t0", 5));
    let mut other = Client::connect(&scenario.installation, Over::WebSocket);
    let notice = other.until_kind("notice");
    assert!(notice["code"] == "degraded" && notice["level"] == "error", "{notice}");
    other.attach("busy");
    let shown = other.until_kind("replay_end");
    // For longer than the limit of a silent turn.
    let full_until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < full_until {
        assert!(refused(&mut scenario), "nothing is acknowledged that cannot be kept");
    }
    let written = scenario.truth("t1").matches("wrote").count();
    let (log, _) = whole_log(&scenario.installation, "busy").expect("it can be read");
    assert!(log.open_turns() == ["t1"], "the turn is paused: {:?}", log.ends("t1"));
    assert!(log.cursor >= shown["seq"].as_u64().unwrap(), "what was shown is kept");
    assert!(written < count, "the agent is paused: it has written {written} words");
    disk.free();
    // The gateway recovers by itself, and sends a notice.
    eventually("it is ready", || scenario.installation.readyz().starts_with("HTTP/1.1 200 "));
    other.until("the good news", |event| event["event"] == "notice" && event["level"] == "info");
    scenario.client.send(&message("late", "t2", late));
    eventually("it is acknowledged", || {
        let answer = scenario.client.until("an answer", |event| event["turn_id"] == *"t2");
        if answer["event"] == "error" {
            scenario.client.send(&message("late", "t2", late));
        }
        answer["event"] == "message_accepted"
    });
    for (chat, turn) in [("busy", "t1"), ("late", "t2")] {
        scenario.until_end(chat, turn);
        assert_eq!(scenario.end_of(chat, turn), ("completed".into(), None));
    }
    drop(other);
    scenario.end(gateway, Agents::AllShown);
}

/// The history of a chat, newest first, as far as it can be read; the error that ended it; and the notices that came
/// meanwhile.
fn read_back(scenario: &mut Scenario, chat: &str) -> (String, Option<Value>, Vec<Value>) {
    let (mut read, mut notices) = (String::new(), Vec::new());
    let mut frame = json!({"type": "history", "chat_id": chat});
    scenario.client.send(&frame);
    loop {
        let kinds = ["history", "error", "notice"];
        let event =
            scenario.client.until("an answer", |event| kinds.iter().any(|kind| event["event"] == *kind));
        match event["event"].as_str() {
            Some("notice") => notices.push(event),
            Some("error") => return (read, Some(event), notices),
            _ => {
                read += &event["events"].to_string();
                let Some(before) = event.get("before") else { return (read, None, notices) };
                frame["before"] = before.clone();
                scenario.client.send(&frame);
            }
        }
    }
}

fn unreadable() {
    let mut installation = Installation::new("journal_retry_ms = 50\n");
    let Some(disk) = Shim::make(&mut installation, "reads", "FAILING_READS") else { return };
    let (mut scenario, gateway) = Scenario::on(installation);
    for chat in ["harmed", "whole"] {
        scenario.say(chat, chat, "words=3000");
        scenario.until_end(chat, chat);
    }
    let gateway = scenario.restart(gateway, Signal::TERM);
    let bytes = fs::read(scenario.installation.data("journal.db")).unwrap();
    let word = b"harmed:1500 ";
    let at = bytes.windows(word.len()).position(|window| window == word).unwrap();
    let page = i64::try_from(at / 4096 * 4096).unwrap();
    disk.set(&[page, page + 4096, 0]);
    for _ in 0..2 {
        let (_, error, _) = read_back(&mut scenario, "harmed");
        let error = error.expect("a part cannot be read");
        assert!(error["code"] == "damaged" && error["retryable"] == false, "{error}");
    }
    scenario.say("whole", "t2", "words=5");
    scenario.until_end("whole", "t2");
    assert!(scenario.installation.readyz().starts_with("HTTP/1.1 200 "));
    // Every read of the disk fails.
    disk.set(&[0, 0, 1]);
    let (_, error, mut notices) = read_back(&mut scenario, "whole");
    let error = error.expect("nothing can be read");
    assert!(error["code"] == "unavailable" && error["retryable"] == true, "{error}");
    let is_notice = |event: &Value, level: &str| event["event"] == "notice" && event["level"] == level;
    // The notice and the answer come in either order.
    let notice =
        notices.pop().unwrap_or_else(|| scenario.client.until("a notice", |event| is_notice(event, "error")));
    let text = notice["text"].as_str().unwrap();
    assert!(notice["code"] == "degraded" && text.contains("cannot be read"), "{notice}");
    let ready = scenario.installation.readyz();
    assert!(ready.starts_with("HTTP/1.1 503 ") && ready.contains("the journal cannot be read ("), "{ready}");
    // The gateway recovers by itself, and sends a notice.
    disk.set(&[0; 3]);
    scenario.client.until("the good news", |event| is_notice(event, "info"));
    assert!(scenario.installation.readyz().starts_with("HTTP/1.1 200 "));
    let (read, error, _) = read_back(&mut scenario, "whole");
    assert!(error.is_none() && read.contains("whole:0 "), "{error:?}");
    scenario.end(gateway, Agents::AllShown);
}

/// A system call that fails instead of being carried out.
#[derive(Clone, Copy)]
struct Failing {
    /// The system call.
    call: &'static str,
    /// Which of the calls fail and how, as strace wants it.
    inject: &'static str,
    /// The files of the journal on which the calls fail.
    files: &'static [&'static str],
}

const FAILING_SYNCS: Failing = Failing {
    call: "fdatasync",
    inject: "fdatasync:error=EIO:when=2+2",
    files: &["journal.db", "journal.db-wal"],
};
const FAILING_WRITES: Failing = Failing {
    call: "pwrite64",
    inject: "pwrite64:error=EIO:when=5+7",
    files: &["journal.db", "journal.db-wal"],
};

/// strace, which lets system calls of a gateway fail for as long as it is attached.
struct Strace(Child);

impl Strace {
    fn attach(installation: &Installation, gateway: &Gateway, what: Failing) -> Self {
        let mut strace = Command::new("strace");
        strace.args(["-qq", "-o"]).arg(installation.path("strace"));
        strace.args(["-e", &format!("trace={}", what.call), "-e", &format!("inject={}", what.inject)]);
        for file in what.files {
            strace.arg("-P").arg(installation.data(file));
        }
        // Only the threads of the journal: strace would follow the processes that other threads start.
        let threads = fs::read_dir(format!("/proc/{}/task", gateway.pid())).into_iter().flatten().flatten();
        for thread in threads {
            let name = fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
            if name.starts_with("journal-") {
                strace.arg("-p").arg(thread.file_name());
            }
        }
        strace.stdin(Stdio::null());
        let child = strace.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self(child)
    }

    /// How many calls have failed.
    fn failed(installation: &Installation) -> usize {
        fs::read_to_string(installation.path("strace")).map_or(0, |said| said.matches("(INJECTED)").count())
    }
}

/// Detaches from the gateway.
impl Drop for Strace {
    fn drop(&mut self) {
        let pid = self.0.id().cast_signed();
        let mut ended = || !self.0.try_wait().is_ok_and(|status| status.is_none());
        if ended() {
            return;
        }
        signal(pid, Signal::INT);
        if !becomes_true(ended) {
            // The traced threads continue without strace.
            signal(pid, Signal::KILL);
            let _ = self.0.wait();
        }
    }
}

fn can_inject() -> bool {
    let mut strace = Command::new("strace");
    strace.args(["-qq", "-o", "/dev/null", "-e", "inject=fdatasync:error=EIO", "true"]);
    let can = strace.stdin(Stdio::null()).output().is_ok_and(|output| output.status.success());
    if !can {
        report_skipped("disks that fail: there is no strace that may inject failures");
    }
    can
}

/// A crowd on a disk that fails from time to time; now and then the gateway is killed as well.
fn failing(name: &str, durability: &str, what: Failing) {
    if !can_inject() {
        return;
    }
    let mut rng = Rng::for_test(name);
    let until = Instant::now() + Duration::from_secs(number("SWITCHBOARD_CRASH_SECONDS").unwrap_or(10));
    let mut installation = Installation::new("journal_retry_ms = 50\n");
    installation.flags.extend(["--durability".into(), durability.into()]);
    let installation = Arc::new(installation);
    let mut gateway = installation.start();
    let crowd = Crowd::start(&installation, &mut rng, Behavior { cancel: true, words: 100, pace: 2_000 });
    let (mut failures, mut kills) = (0, 0);
    while Instant::now() < until && !crowd.recorder.has_failed() {
        let strace = Strace::attach(&installation, &gateway, what);
        pause(&mut rng, 1_500);
        if rng.below(3) == 0 {
            gateway.kill();
            drop(strace);
            gateway = installation.start();
            kills += 1;
        } else {
            drop(strace);
            pause(&mut rng, 500);
        }
        failures += Strace::failed(&installation);
    }
    let acknowledged = crowd.finish(Agents::AllShown, name);
    report(&format!("{name}: {failures} failures, {kills} kills, {acknowledged} messages"));
    assert!(
        failures > 0 && acknowledged > 0,
        "something failed, and something was said: {}",
        installation.log_end()
    );
    nothing_is_left(&installation, gateway);
}
