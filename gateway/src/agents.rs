//! Chooses the agent that answers messages.

use std::{
    env,
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
};

use switchboard_agent_bridge::{AGENT_PRESETS, AgentPreset, Dialect, detect, dialect, locate_program};

use crate::{
    config::AgentChoice,
    failure::{Failure, Result},
};

/// The name of the built-in agent.
pub(crate) const DEMO: &str = "demo";

/// The chosen agent, and the reason for the choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) name: String,
    pub(crate) command: Vec<String>,
    pub(crate) dialect: &'static dyn Dialect,
    /// The reason for the choice, for the start-up text.
    pub(crate) why: String,
}

/// Finds the agent that `choice` names or that is installed. Relative paths of programs are relative to `workspace`.
///
/// # Errors
///
/// The agent is not known, or its program is not found or cannot be executed.
pub(crate) fn choose(choice: &AgentChoice, workspace: &Path) -> Result<Chosen> {
    match choice {
        AgentChoice::Command { command, dialect } => {
            let program = command.first().map(String::as_str).unwrap_or_default();
            locate_program(OsStr::new(program), workspace).map_err(|error| unusable(program, &error))?;
            let name = file_name(program);
            Ok(Chosen { name, command: command.clone(), dialect: *dialect, why: "as configured".into() })
        }
        AgentChoice::Named(name) if name == DEMO => demo("as configured"),
        AgentChoice::Named(name) => named(name),
        AgentChoice::Detect => match detect(&env::var_os("PATH").unwrap_or_default()) {
            Some((preset, path)) => {
                Ok(of_preset(preset, path, "found on PATH; --agent NAME chooses another"))
            }
            None => demo(&format!("no other was found on PATH; {}", known())),
        },
    }
}

fn unusable(program: &str, error: &io::Error) -> Failure {
    let remedy = "Correct --agent-command: its first word is a program on PATH, or the path of one.";
    if error.kind() == io::ErrorKind::NotFound {
        Failure::new(format!("The agent's program {program:?} was not found."), remedy)
    } else {
        Failure::new(format!("The agent's program {program:?} may not be executed."), remedy)
    }
}

fn named(name: &str) -> Result<Chosen> {
    let preset = AgentPreset::by_name(name).ok_or_else(|| {
        Failure::new(
            format!("--agent is {name:?}, which is not a known agent."),
            format!("{}; any other is run with --agent-command \"CMD ARGS\" --dialect NAME.", known()),
        )
    })?;
    match preset.find(&env::var_os("PATH").unwrap_or_default()) {
        Some(path) => Ok(of_preset(preset, path, "as configured")),
        None => Err(Failure::new(
            format!("The agent {name} was not found on PATH."),
            format!(
                "Install it, or say where it is with --agent-command \"CMD ARGS\"; --agent {DEMO} needs nothing."
            ),
        )),
    }
}

fn of_preset(preset: &AgentPreset, path: PathBuf, why: &str) -> Chosen {
    let mut command = preset.command();
    // The absolute path, so that later changes of PATH have no effect.
    if let (Some(program), Ok(path)) = (command.first_mut(), path.into_os_string().into_string()) {
        *program = path;
    }
    Chosen { name: preset.name.into(), command, dialect: preset.dialect, why: why.into() }
}

fn demo(why: &str) -> Result<Chosen> {
    let program = env::current_exe().ok().and_then(|path| path.into_os_string().into_string().ok());
    let program = program.ok_or_else(|| {
        Failure::new(
            "The demo agent cannot be started: this program does not know where it lies.",
            "Choose another agent with --agent.",
        )
    })?;
    Ok(Chosen {
        name: DEMO.into(),
        command: vec![program, "demo-agent".into()],
        dialect: dialect::CLAUDE,
        why: why.into(),
    })
}

/// The names of the known agents, as part of a sentence.
fn known() -> String {
    let names: Vec<&str> = AGENT_PRESETS.iter().map(|preset| preset.name).chain([DEMO]).collect();
    format!("--agent knows {}", names.join(", "))
}

fn file_name(program: &str) -> String {
    program.rsplit('/').next().unwrap_or(program).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_command(program: &str) -> Result<Chosen> {
        let command = vec![program.to_owned(), "--fast".to_owned()];
        choose(&AgentChoice::Command { command, dialect: dialect::TEXT }, Path::new("/"))
    }

    #[test]
    fn a_command_is_called_after_its_program() {
        for program in ["/bin/sh", "bin/sh", "sh"] {
            let chosen = of_command(program).unwrap();
            assert_eq!((chosen.name.as_str(), chosen.dialect), ("sh", dialect::TEXT), "{program}");
        }
    }

    #[test]
    fn a_command_whose_program_cannot_be_run_is_refused() {
        for (program, why) in [
            ("/nowhere/agent", "was not found"),
            ("no-such-agent-anywhere", "was not found"),
            ("/etc/passwd", "may not be executed"),
            ("/etc", "may not be executed"),
        ] {
            let error = of_command(program).unwrap_err();
            assert!(error.what().contains(why) && error.what().contains(program), "{error}");
            assert!(error.remedy().contains("--agent-command"), "{error}");
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_those_that_are_known() {
        let error = choose(&AgentChoice::Named("nobody".into()), Path::new("/")).unwrap_err();
        assert!(error.remedy().contains("claude") && error.remedy().contains(DEMO), "{error}");
    }

    #[test]
    fn the_demo_is_this_very_program() {
        let chosen = choose(&AgentChoice::Named(DEMO.into()), Path::new("/")).unwrap();
        assert_eq!(chosen.command[1..], ["demo-agent"]);
    }
}
