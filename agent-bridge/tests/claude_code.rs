//! Claude Code itself, against a scripted model on loopback.
//!
//! `SWITCHBOARD_TEST_CLAUDE` names its executable; `cargo xtask test` installs one and sets it. Without it,
//! there is nothing to test, and the test says so.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test says what it expects, and no more"
)]

mod support;

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::process::{Pid, Signal, kill_process};
use switchboard_agent_bridge::{AgentPreset, ProcessAgent, ProcessConfig, Sandbox, SandboxOptions};
use switchboard_core::{
    agent::{AgentEvent, AgentExit},
    wire::{Answer, Outcome},
};

use switchboard_test_support::scripted_model;

use self::support::{TestAgent, alive, config, eventually};

struct Fixture {
    agent: Arc<ProcessAgent>,
    mark: String,
    /// Contains the workspace and the agent's home.
    dir: tempfile::TempDir,
}

impl Fixture {
    fn begin(&self, session: Option<&str>) -> TestAgent {
        TestAgent::start(Arc::clone(&self.agent), session)
    }

    fn workspace(&self) -> PathBuf {
        self.dir.path().join("workspace")
    }
}

fn fixture(executable: &Path, name: &str) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let (workspace, temp) = (dir.path().join("workspace"), dir.path().join("tmp"));
    for dir in [&home, &workspace, &temp] {
        std::fs::create_dir(dir).unwrap();
    }
    let preset = AgentPreset::by_name("claude").unwrap();
    let mut command = preset.command();
    command[0] = executable.to_str().unwrap().into();
    let mut config = config(command, preset.dialect, &workspace);
    config.mark_prefix = format!("test-claude-{}-{name}", std::process::id());
    let model = scripted_model();
    for (name, value) in [
        ("HOME", home.to_str().unwrap()),
        ("TMPDIR", temp.to_str().unwrap()),
        ("ANTHROPIC_API_KEY", "test-key"),
        ("ANTHROPIC_BASE_URL", &format!("http://{model}")),
        ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
        ("DISABLE_AUTOUPDATER", "1"),
        ("DISABLE_TELEMETRY", "1"),
        ("DISABLE_ERROR_REPORTING", "1"),
        ("CLAUDE_CODE_MAX_RETRIES", "1"),
    ] {
        config.env.push((name.into(), value.into()));
    }
    let mark = config.mark_prefix.clone();
    Fixture { agent: Arc::new(ProcessAgent::new(config)), mark, dir }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claude_code() {
    let Some(executable) = std::env::var_os("SWITCHBOARD_TEST_CLAUDE") else {
        // Written to standard error directly: the test harness hides the output of a passing test.
        let skipped = "SKIPPED: SWITCHBOARD_TEST_CLAUDE is not set, so Claude Code is not tested; `cargo xtask test` does it";
        writeln!(std::io::stderr(), "{skipped}").unwrap();
        return;
    };
    let executable = Path::new(&executable);
    answers(&fixture(executable, "answers")).await;
    tools(&fixture(executable, "tools")).await;
    cancels(&fixture(executable, "cancels")).await;
    killed(&fixture(executable, "killed")).await;
    unknown_session(&fixture(executable, "unknown")).await;

    let Some(bwrap) = bwrap() else {
        writeln!(std::io::stderr(), "SKIPPED: Claude Code in the sandbox: bwrap does not work here").unwrap();
        return;
    };
    answers(&sandboxed(executable, "shield-answers", &bwrap)).await;
    tools(&sandboxed(executable, "shield-tools", &bwrap)).await;
    cancels(&sandboxed(executable, "shield-cancels", &bwrap)).await;
    killed(&sandboxed(executable, "shield-killed", &bwrap)).await;
    if on_path("socat").is_none() {
        writeln!(std::io::stderr(), "SKIPPED: Claude Code's own sandbox: it needs socat").unwrap();
        return;
    }
    own_sandbox(&sandboxed(executable, "shield-own", &bwrap)).await;
}

/// Where bubblewrap is, if it works.
fn bwrap() -> Option<PathBuf> {
    let found = on_path("bwrap")?;
    let options =
        ["--unshare-user", "--unshare-pid", "--dev-bind", "/", "/", "--proc", "/proc", "--", "true"];
    std::process::Command::new(&found).args(options).status().ok()?.success().then_some(found)
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// A fixture with a sandbox that hides a directory.
fn sandboxed(executable: &Path, name: &str, bwrap: &Path) -> Fixture {
    let fixture = fixture(executable, name);
    let hidden = fixture.dir.path().join("hidden");
    std::fs::create_dir(&hidden).unwrap();
    let options = SandboxOptions {
        bwrap: bwrap.into(),
        own_dirs: vec![hidden],
        // The home directory of the person who runs the test is not changed.
        allow: vec!["start-files".parse().unwrap()],
        ..SandboxOptions::default()
    };
    let config = ProcessConfig { sandbox: Some(Sandbox::new(options)), ..fixture.agent.config().clone() };
    Fixture { agent: Arc::new(ProcessAgent::new(config)), ..fixture }
}

async fn answers(fixture: &Fixture) {
    let mut agent = fixture.begin(None);
    let turn = agent.run_turn("say:hello from the model").await;
    assert_eq!(turn.text(), "hello from the model");
    assert_eq!(turn.end(), (Outcome::Completed, None));
    assert_eq!(turn.count(|event| matches!(event, AgentEvent::Session { .. })), 1);
    match turn.0.last() {
        Some(AgentEvent::TurnEnded { usage: Some(usage), cost: Some(cost), .. }) => {
            assert!(
                usage.input_tokens >= 100 && usage.output_tokens > 0 && cost.usd > 0.0,
                "{usage:?} {cost:?}"
            );
        }
        other => panic!("{other:?}"),
    }
    let turn = agent.run_turn("think:let me see").await;
    assert_eq!((turn.thought().as_str(), turn.text().as_str()), ("let me see", "thought about it"));

    // A prompt that looks like options is text.
    assert_eq!(agent.run_turn("say:--help -p").await.text(), "--help -p");

    let turn = agent.run_turn("fail").await;
    let (outcome, error) = turn.end();
    assert_eq!((outcome, error.unwrap().code.as_str()), (Outcome::Failed, "agent_api_error"));
    assert!(turn.count(|event| matches!(event, AgentEvent::Progress { .. })) > 0);
    assert_eq!(agent.run_turn("say:recovered").await.text(), "recovered");
    assert_eq!(agent.checkpoints, 5);
    agent.stop().await;
    eventually("no process is left", || alive(&fixture.mark).is_empty()).await;
}

async fn tools(fixture: &Fixture) {
    let mut agent = fixture.begin(None);
    agent.prompt("tool:touch made-by-agent && echo did-it");
    let request = agent.next_request().await;
    assert!(!fixture.workspace().join("made-by-agent").exists(), "nothing is done before it is allowed");
    agent.answer(request, Answer::Allow { input_sha256: None });
    let turn = agent.turn().await;
    assert!(turn.text().ends_with("tool said: did-it"), "{}", turn.text());
    assert!(fixture.workspace().join("made-by-agent").exists());

    agent.prompt("tool:touch never");
    let request = agent.next_request().await;
    agent.answer(request, Answer::Deny { message: Some("not this one".into()) });
    let turn = agent.turn().await;
    assert!(turn.text().contains("not this one"), "{}", turn.text());
    assert!(!fixture.workspace().join("never").exists());

    let file = fixture.workspace().join("notes.txt");
    agent.prompt(&format!("write:{}", file.display()));
    let request = agent.next_request().await;
    agent.answer(request, Answer::Allow { input_sha256: None });
    let turn = agent.turn().await;
    let edits = turn.0.iter().find_map(|event| match event {
        AgentEvent::FileEdit { edits } => Some(edits[0].clone()),
        _ => None,
    });
    let edit = edits.expect("an edit is shown");
    assert_eq!((edit.path.as_str(), edit.added, edit.deleted), ("notes.txt", 2, 0));
    assert_eq!(std::fs::read_to_string(file).unwrap(), "one\ntwo\n");

    agent.prompt("ask");
    let request = agent.next_request().await;
    let answers = BTreeMap::from([("Which colour?".to_owned(), vec!["Blue".to_owned()])]);
    agent.answer(request, Answer::Answer { answers });
    let turn = agent.turn().await;
    assert!(turn.text().contains("Blue"), "{}", turn.text());
    agent.stop().await;
    eventually("no process is left", || alive(&fixture.mark).is_empty()).await;
}

async fn cancels(fixture: &Fixture) {
    let mut agent = fixture.begin(None);
    agent.prompt("slow:600");
    agent.until(|event| matches!(event, AgentEvent::Text { .. })).await;
    agent.cancel();
    assert_eq!(agent.turn().await.end(), (Outcome::Cancelled, None));

    agent.prompt("tool:touch never");
    let asked = agent.next_request().await;
    agent.cancel();
    let turn = agent.turn().await;
    assert_eq!(turn.end().0, Outcome::Cancelled);
    let withdrawn =
        |event: &AgentEvent| matches!(event, AgentEvent::Withdrawn { request_id } if *request_id == asked);
    assert_eq!(turn.count(withdrawn), 1);

    // Right after the prompt, before the turn can have begun.
    agent.prompt("slow:600");
    agent.cancel();
    assert_eq!(agent.turn().await.end().0, Outcome::Cancelled);

    agent.prompt("tool:touch begun; until [ -e gate ]; do sleep 2; done");
    let request = agent.next_request().await;
    agent.answer(request, Answer::Allow { input_sha256: None });
    eventually("the tool runs", || sleeping(&fixture.mark)).await;
    agent.cancel();
    assert_eq!(agent.turn().await.end().0, Outcome::Cancelled);
    assert_eq!(agent.run_turn("say:still here").await.text(), "still here");

    agent.prompt("tool:touch begun; until [ -e gate ]; do sleep 2; done");
    let request = agent.next_request().await;
    agent.answer(request, Answer::Allow { input_sha256: None });
    eventually("the tool runs", || sleeping(&fixture.mark)).await;
    agent.stop().await;
    assert!(alive(&fixture.mark).is_empty(), "the tool has ended, too");
}

fn sleeping(mark: &str) -> bool {
    alive(mark).iter().any(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with("sleep\0"))
    })
}

async fn killed(fixture: &Fixture) {
    let mut agent = fixture.begin(None);
    let turn = agent.run_turn("say:the first turn").await;
    let session = turn.0.iter().find_map(|event| match event {
        AgentEvent::Session { token } => Some(token.clone()),
        _ => None,
    });
    agent.prompt("slow:600");
    agent.until(|event| matches!(event, AgentEvent::Text { .. })).await;
    for pid in alive(&fixture.mark) {
        let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
    }
    let (exit, _) = agent.exit().await;
    assert!(matches!(exit, AgentExit::Gone(error) if error.code == "agent_exited"));

    let mut agent = fixture.begin(session.as_deref());
    assert_eq!(agent.run_turn("say:resumed").await.text(), "resumed");
    agent.stop().await;
}

/// Claude Code's own sandbox within ours. Commands in it need no permission, and can write in the workspace only.
async fn own_sandbox(fixture: &Fixture) {
    let config = fixture.dir.path().join("home/.claude");
    std::fs::create_dir_all(&config).unwrap();
    let settings =
        r#"{"sandbox": {"enabled": true, "autoAllowBashIfSandboxed": true, "failIfUnavailable": true}}"#;
    std::fs::write(config.join("settings.json"), settings).unwrap();
    let mut agent = fixture.begin(None);
    let command = "tool:touch inside; touch $HOME/outside 2>/dev/null || echo refused";
    let turn = agent.run_turn(command).await;
    assert!(turn.text().contains("refused"), "{}", turn.text());
    assert!(fixture.workspace().join("inside").exists());
    assert!(!fixture.dir.path().join("home/outside").exists());
    agent.stop().await;
    eventually("no process is left", || alive(&fixture.mark).is_empty()).await;
}

async fn unknown_session(fixture: &Fixture) {
    let mut agent = fixture.begin(Some("00000000-0000-4000-8000-00000000beef"));
    let turn = agent.run_turn("say:afresh").await;
    assert_eq!(turn.text(), "afresh");
    assert_eq!(turn.count(|event| matches!(event, AgentEvent::Session { .. })), 1);
    agent.stop().await;
}
