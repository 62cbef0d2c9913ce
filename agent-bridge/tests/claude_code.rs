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

use self::support::{Bench, alive, config, eventually, model};

struct Place {
    agent: Arc<ProcessAgent>,
    mark: String,
    /// Holds the workspace and the agent's home.
    dir: tempfile::TempDir,
}

impl Place {
    fn begin(&self, session: Option<&str>) -> Bench {
        Bench::begin(Arc::clone(&self.agent), session)
    }

    fn workspace(&self) -> PathBuf {
        self.dir.path().join("workspace")
    }
}

async fn place(executable: &Path, name: &str) -> Place {
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
    let model = model::serve().await;
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
    Place { agent: Arc::new(ProcessAgent::new(config)), mark, dir }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claude_code() {
    let Some(executable) = std::env::var_os("SWITCHBOARD_TEST_CLAUDE") else {
        // Straight to the terminal: what a passing test prints is not shown.
        let skipped = "SKIPPED: SWITCHBOARD_TEST_CLAUDE is not set, so Claude Code is not tested; `cargo xtask test` does it";
        writeln!(std::io::stderr(), "{skipped}").unwrap();
        return;
    };
    let executable = Path::new(&executable);
    answers(&place(executable, "answers").await).await;
    tools(&place(executable, "tools").await).await;
    cancels(&place(executable, "cancels").await).await;
    killed(&place(executable, "killed").await).await;
    unknown_session(&place(executable, "unknown").await).await;

    let Some(bwrap) = bwrap() else {
        writeln!(std::io::stderr(), "SKIPPED: Claude Code in the sandbox: bwrap does not work here").unwrap();
        return;
    };
    answers(&sandboxed(executable, "shield-answers", &bwrap).await).await;
    tools(&sandboxed(executable, "shield-tools", &bwrap).await).await;
    cancels(&sandboxed(executable, "shield-cancels", &bwrap).await).await;
    killed(&sandboxed(executable, "shield-killed", &bwrap).await).await;
    if on_path("socat").is_none() {
        writeln!(std::io::stderr(), "SKIPPED: Claude Code's own sandbox: it needs socat").unwrap();
        return;
    }
    own_sandbox(&sandboxed(executable, "shield-own", &bwrap).await).await;
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

/// The same in a sandbox that hides a directory.
async fn sandboxed(executable: &Path, name: &str, bwrap: &Path) -> Place {
    let place = place(executable, name).await;
    let hidden = place.dir.path().join("hidden");
    std::fs::create_dir(&hidden).unwrap();
    let options = SandboxOptions {
        bwrap: bwrap.into(),
        own_dirs: vec![hidden],
        // The home directory of whoever runs this test stays as it is.
        allow: vec!["start-files".parse().unwrap()],
        ..SandboxOptions::default()
    };
    let config = ProcessConfig { sandbox: Some(Sandbox::new(options)), ..place.agent.config().clone() };
    Place { agent: Arc::new(ProcessAgent::new(config)), ..place }
}

async fn answers(place: &Place) {
    let mut bench = place.begin(None);
    let turn = bench.said("say:hello from the model").await;
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
    let turn = bench.said("think:let me see").await;
    assert_eq!((turn.thought().as_str(), turn.text().as_str()), ("let me see", "thought about it"));

    // The person's text is text, however it begins.
    assert_eq!(bench.said("say:--help -p").await.text(), "--help -p");

    let turn = bench.said("fail").await;
    let (outcome, error) = turn.end();
    assert_eq!((outcome, error.unwrap().code.as_str()), (Outcome::Failed, "agent_api_error"));
    assert!(turn.count(|event| matches!(event, AgentEvent::Progress { .. })) > 0);
    assert_eq!(bench.said("say:recovered").await.text(), "recovered");
    assert_eq!(bench.checkpoints, 5);
    bench.stop().await;
    eventually("nothing is left", || alive(&place.mark).is_empty()).await;
}

async fn tools(place: &Place) {
    let mut bench = place.begin(None);
    bench.prompt("tool:touch made-by-agent && echo did-it");
    let request = bench.request().await;
    assert!(!place.workspace().join("made-by-agent").exists(), "nothing is done before it is allowed");
    bench.answer(request, Answer::Allow { input_sha256: None });
    let turn = bench.turn().await;
    assert!(turn.text().ends_with("tool said: did-it"), "{}", turn.text());
    assert!(place.workspace().join("made-by-agent").exists());

    bench.prompt("tool:touch never");
    let request = bench.request().await;
    bench.answer(request, Answer::Deny { message: Some("not this one".into()) });
    let turn = bench.turn().await;
    assert!(turn.text().contains("not this one"), "{}", turn.text());
    assert!(!place.workspace().join("never").exists());

    let file = place.workspace().join("notes.txt");
    bench.prompt(&format!("write:{}", file.display()));
    let request = bench.request().await;
    bench.answer(request, Answer::Allow { input_sha256: None });
    let turn = bench.turn().await;
    let edits = turn.0.iter().find_map(|event| match event {
        AgentEvent::FileEdit { edits } => Some(edits[0].clone()),
        _ => None,
    });
    let edit = edits.expect("an edit is shown");
    assert_eq!((edit.path.as_str(), edit.added, edit.deleted), ("notes.txt", 2, 0));
    assert_eq!(std::fs::read_to_string(file).unwrap(), "one\ntwo\n");

    bench.prompt("ask");
    let request = bench.request().await;
    let answers = BTreeMap::from([("Which colour?".to_owned(), vec!["Blue".to_owned()])]);
    bench.answer(request, Answer::Answer { answers });
    let turn = bench.turn().await;
    assert!(turn.text().contains("Blue"), "{}", turn.text());
    bench.stop().await;
    eventually("nothing is left", || alive(&place.mark).is_empty()).await;
}

async fn cancels(place: &Place) {
    let mut bench = place.begin(None);
    bench.prompt("slow:600");
    bench.until(|event| matches!(event, AgentEvent::Text { .. })).await;
    bench.cancel();
    assert_eq!(bench.turn().await.end(), (Outcome::Cancelled, None));

    bench.prompt("tool:touch never");
    let asked = bench.request().await;
    bench.cancel();
    let turn = bench.turn().await;
    assert_eq!(turn.end().0, Outcome::Cancelled);
    let withdrawn =
        |event: &AgentEvent| matches!(event, AgentEvent::Withdrawn { request_id } if *request_id == asked);
    assert_eq!(turn.count(withdrawn), 1);

    // At once, before the turn can have begun.
    bench.prompt("slow:600");
    bench.cancel();
    assert_eq!(bench.turn().await.end().0, Outcome::Cancelled);

    bench.prompt("tool:touch begun; until [ -e gate ]; do sleep 2; done");
    let request = bench.request().await;
    bench.answer(request, Answer::Allow { input_sha256: None });
    eventually("the tool runs", || sleeping(&place.mark)).await;
    bench.cancel();
    assert_eq!(bench.turn().await.end().0, Outcome::Cancelled);
    assert_eq!(bench.said("say:still here").await.text(), "still here");

    bench.prompt("tool:touch begun; until [ -e gate ]; do sleep 2; done");
    let request = bench.request().await;
    bench.answer(request, Answer::Allow { input_sha256: None });
    eventually("the tool runs", || sleeping(&place.mark)).await;
    bench.stop().await;
    assert!(alive(&place.mark).is_empty(), "the tool is gone, too");
}

fn sleeping(mark: &str) -> bool {
    alive(mark).iter().any(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with("sleep\0"))
    })
}

async fn killed(place: &Place) {
    let mut bench = place.begin(None);
    let turn = bench.said("say:the first turn").await;
    let session = turn.0.iter().find_map(|event| match event {
        AgentEvent::Session { token } => Some(token.clone()),
        _ => None,
    });
    bench.prompt("slow:600");
    bench.until(|event| matches!(event, AgentEvent::Text { .. })).await;
    let killed = std::time::Instant::now();
    for pid in alive(&place.mark) {
        let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
    }
    let (exit, _) = bench.exit().await;
    assert!(matches!(exit, AgentExit::Gone(error) if error.code == "agent_exited"));
    assert!(killed.elapsed() < std::time::Duration::from_secs(2), "{:?}", killed.elapsed());

    let mut bench = place.begin(session.as_deref());
    assert_eq!(bench.said("say:resumed").await.text(), "resumed");
    bench.stop().await;
}

/// Its own sandbox, in ours. What runs in there is not asked for, and writes in the workspace only.
async fn own_sandbox(place: &Place) {
    let config = place.dir.path().join("home/.claude");
    std::fs::create_dir_all(&config).unwrap();
    let settings =
        r#"{"sandbox": {"enabled": true, "autoAllowBashIfSandboxed": true, "failIfUnavailable": true}}"#;
    std::fs::write(config.join("settings.json"), settings).unwrap();
    let mut bench = place.begin(None);
    let command = "tool:touch inside; touch $HOME/outside 2>/dev/null || echo refused";
    let turn = bench.said(command).await;
    assert!(turn.text().contains("refused"), "{}", turn.text());
    assert!(place.workspace().join("inside").exists());
    assert!(!place.dir.path().join("home/outside").exists());
    bench.stop().await;
    eventually("nothing is left", || alive(&place.mark).is_empty()).await;
}

async fn unknown_session(place: &Place) {
    let mut bench = place.begin(Some("00000000-0000-4000-8000-00000000beef"));
    let turn = bench.said("say:afresh").await;
    assert_eq!(turn.text(), "afresh");
    assert_eq!(turn.count(|event| matches!(event, AgentEvent::Session { .. })), 1);
    bench.stop().await;
}
