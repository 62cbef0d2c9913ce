//! Whole conversations of a scripted agent, through the real program. Each folder here is one:
//!
//! - `agent.script`: what the agent prints, and on what it waits (`agent.rs`);
//! - `client.jsonl`: what a client sends, and for which events it waits (`client.rs`);
//! - `expect.jsonl`: what the client and the agent must receive, and what they must not (`expect.rs`).
//!
//! What holds in every conversation needs no line of its own: what began has ended, and the chat's history says what the
//! client was sent. This binary is also the agent: it has a main of its own, and the first argument says which of the two
//! it is.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod agent;
mod client;
mod expect;

use std::{
    fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
    process::ExitCode,
};

use libtest_mimic::{Arguments, Trial};

use switchboard_test_support::{Gateway, config_file};

use self::client::{Over, Step};

/// The conversations that still go wrong, and how.
const NOT_YET: &[(&str, &str)] = &[];

/// The file in which the agent writes down what it received.
const RECEIVED: &str = "received";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).map(String::as_str) == Some(agent::AS_AGENT) {
        agent::run(&arguments[2..]);
        return ExitCode::SUCCESS;
    }
    let trials = folders().into_iter().flat_map(|folder| {
        let steps = client::read(&folder.join("client.jsonl"));
        let over = client::transports(&steps);
        over.into_iter().map(move |over| trial(&folder, &steps, over)).collect::<Vec<_>>()
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

fn folders() -> Vec<PathBuf> {
    let all = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conversations")).unwrap();
    let mut folders: Vec<PathBuf> =
        all.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

fn trial(folder: &Path, steps: &[Step], over: Over) -> Trial {
    let name = format!("{}_over_{}", folder.file_name().unwrap().to_str().unwrap(), over.name());
    let (folder, steps) = (folder.to_owned(), steps.to_vec());
    let not_yet = NOT_YET.iter().find(|(conversation, _)| folder.ends_with(conversation));
    Trial::test(name, move || match not_yet {
        None => {
            play(&folder, &steps, over);
            Ok(())
        }
        Some((_, reason)) => match catch_unwind(|| play(&folder, &steps, over)) {
            Ok(()) => Err(format!("this is right now, so it is none of NOT_YET: {reason}").into()),
            Err(_) => Ok(()),
        },
    })
}

/// One conversation over one transport, with a gateway of its own.
fn play(folder: &Path, steps: &[Step], over: Over) {
    let exe = std::env::current_exe().unwrap();
    let gateway = Gateway::start_with(|command| {
        let data = command.get_args().skip_while(|arg| *arg != "--data-dir").nth(1).unwrap();
        let dir = Path::new(data).parent().unwrap().to_owned();
        let received = dir.join(RECEIVED);
        let script = folder.join("agent.script");
        let agent =
            format!("{} {} {} {}", exe.display(), agent::AS_AGENT, script.display(), received.display());
        command.args(["--agent-command", &agent, "--dialect", "claude"]);
        command.arg("--config").arg(config_file(&dir, &client::settings(steps)));
    });
    let played = client::play(&gateway, over, steps);
    let received = fs::read_to_string(gateway.path(RECEIVED)).unwrap_or_default();
    let lines: Vec<&str> = received.lines().collect();
    expect::check(&folder.join("expect.jsonl"), &gateway.path("work"), &played, &lines, &gateway.log());
}
