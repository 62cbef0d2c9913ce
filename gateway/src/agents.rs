//! Which agent answers.

use std::{env, path::PathBuf};

use switchboard_agent_bridge::{AGENT_PRESETS, AgentPreset, Dialect, detect};

use crate::{
    config::AgentChoice,
    failure::{Failure, Result},
};

/// The name of the built-in agent.
pub(crate) const DEMO: &str = "demo";

/// The agent that was chosen, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) name: String,
    pub(crate) command: Vec<String>,
    pub(crate) dialect: Dialect,
    /// For the start-up text.
    pub(crate) why: String,
}

/// Finds the agent of a choice.
pub(crate) fn choose(choice: &AgentChoice) -> Result<Chosen> {
    match choice {
        AgentChoice::Command { command, dialect } => {
            let name = command.first().map(|program| file_name(program)).unwrap_or_default();
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
    // As it was found: what PATH says later changes nothing.
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
        dialect: Dialect::Claude,
        why: why.into(),
    })
}

/// The known agents, as part of a sentence.
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

    #[test]
    fn a_command_is_called_after_its_program() {
        let command = vec!["/opt/tools/agent".to_owned(), "--fast".to_owned()];
        let chosen = choose(&AgentChoice::Command { command, dialect: Dialect::Text }).unwrap();
        assert_eq!((chosen.name.as_str(), chosen.dialect), ("agent", Dialect::Text));
    }

    #[test]
    fn an_unknown_name_is_answered_with_those_that_are_known() {
        let error = choose(&AgentChoice::Named("nobody".into())).unwrap_err();
        assert!(error.remedy().contains("claude") && error.remedy().contains(DEMO), "{error}");
    }

    #[test]
    fn the_demo_is_this_very_program() {
        let chosen = choose(&AgentChoice::Named(DEMO.into())).unwrap();
        assert_eq!(chosen.command[1..], ["demo-agent"]);
    }
}
