//! The shell blocks of `README.md`. They run as they are written, against a running gateway with the demo agent, with
//! these differences: the gateway's address; `switchboard doctor`, which reads the same flags and ends, in place of
//! `switchboard serve`; and streams end after two seconds.

use std::os::unix::fs::symlink;
use std::path::Path;

use crate::browser::{Gateway, build_gateway};
use crate::command::Task;
use crate::report::Verdict;
use crate::runner::Session;
use crate::workspace::{Context as _, Failure, Result, empty_scratch, find_program, read};

/// How one block is checked.
#[derive(Clone, Copy)]
enum Check {
    /// The block runs and prints this text.
    Prints(&'static str),
    /// The block needs this program, and then prints this text.
    With(&'static str, &'static str),
    /// The block is not run, for this reason.
    NotRun(&'static str),
}

use Check::{NotRun, Prints, With};

/// The first line of `switchboard doctor` if the flags and their values are right.
const CONFIGURED: &str = "ok    The configuration is valid.";

/// The beginning of each block, in the order of the page.
const BLOCKS: [(&str, Check); 8] = [
    ("cargo xtask serve", NotRun("it builds a release and runs until it is stopped")),
    ("target/release/switchboard chat", NotRun("a later block has the same command")),
    ("switchboard chat", Prints("Hello! I am the demo agent")),
    ("switchboard serve --unix", Prints(CONFIGURED)),
    ("(echo '{\"type\":\"message\"", With("socat", "\"event\":\"message_accepted\"")),
    ("curl -N", With("curl", "\"event\":\"ready\"")),
    ("switchboard serve --agent claude", Prints(CONFIGURED)),
    ("switchboard serve --agent-command", Prints(CONFIGURED)),
];

/// Runs all blocks that can run here, and prints which cannot.
pub(crate) fn step(session: &Session) -> Result<Verdict> {
    let text = read("README.md")?;
    let blocks: Vec<&str> =
        text.split("```sh\n").skip(1).filter_map(|rest| rest.split("\n```").next()).collect();
    let are_listed = blocks.iter().zip(BLOCKS).all(|(block, (begin, _))| block.starts_with(begin));
    if !are_listed || blocks.len() != BLOCKS.len() {
        return Err(Failure::new(
            "the shell blocks of README.md are not those listed in xtask/src/readme.rs",
        ));
    }

    let program = build_gateway(session)?;
    let mut gateway = Gateway::start(&program, "readme", "", &[])?;
    let home = empty_scratch("readme-home")?;
    furnish(&home, &program, &gateway).context("making a home directory for the commands of README.md")?;
    for (block, (begin, check)) in blocks.iter().zip(BLOCKS) {
        let expected = match check {
            With(tool, _) if find_program(tool).is_none() => {
                println!("not tested: {begin}: {tool} is not on PATH");
                continue;
            }
            NotRun(reason) => {
                println!("not tested: {begin}: {reason}");
                continue;
            }
            Prints(expected) | With(_, expected) => expected,
        };
        // What a command prints is what counts: a stream that is cut, for example, ends with an error.
        let script = format!("{{ {}\n}} 2>&1 || :", adapted(block, &gateway.address));
        let path = std::env::var("PATH").unwrap_or_default();
        let printed = Task::new("sh")
            .args(["-c", &script])
            .dir(&home)
            .env("HOME", &home)
            .env("XDG_STATE_HOME", home.join(".local/state"))
            .env("PATH", format!("{}:{path}", home.join("bin").display()))
            .output(session.deadline())?;
        if !printed.contains(expected) {
            let what = format!("this block of README.md does not print {expected:?}:\n{block}");
            return Err(Failure::new(format!("{what}\nIt prints:\n{printed}")));
        }
    }
    gateway.require_alive()?;
    Ok(Verdict::Passed)
}

/// Makes what the commands expect to find: the program, the gateway's token and socket, and a project.
fn furnish(home: &Path, program: &Path, gateway: &Gateway) -> std::io::Result<()> {
    let (bin, state) = (home.join("bin"), home.join(".local/state/switchboard"));
    for dir in [&bin, &state, &home.join("src/project")] {
        std::fs::create_dir_all(dir)?;
    }
    symlink(program, bin.join("switchboard"))?;
    symlink(&gateway.socket, state.join("socket"))?;
    // The token may not be a link.
    std::fs::copy(&gateway.token_file, state.join("token")).map(drop)
}

/// The block for a gateway at this address.
fn adapted(block: &str, address: &str) -> String {
    block
        .replace("switchboard serve", "switchboard doctor")
        .replace("switchboard chat", &format!("switchboard chat http://{address}"))
        .replace("127.0.0.1:8765", address)
        .replace("curl -N", "curl --silent --max-time 2 -N")
}
