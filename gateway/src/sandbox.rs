//! The sandbox of agents: tries whether the configured sandbox works on this machine.

use std::{
    env,
    path::{Path, PathBuf},
};

use switchboard_agent_bridge::{Sandbox, SandboxFailure, SandboxOptions};

use crate::{
    config::{Config, SandboxChoice},
    failure::{Failure, Result},
};

/// The path of bubblewrap if it is not on `PATH`.
const USUAL: &str = "/usr/bin/bwrap";

/// The sandbox of all agents, or the reason why there is none.
#[derive(Debug)]
pub(crate) enum Found {
    /// The sandbox was tried and works.
    Works(Box<Sandbox>),
    /// The configuration switches the sandbox off.
    NotWanted,
    /// The sandbox would be used by default, but does not work on this machine.
    Missing(SandboxFailure),
}

impl Found {
    /// Tries the configured sandbox. Blocks for milliseconds.
    ///
    /// # Errors
    /// The configuration requires a sandbox that does not work on this machine.
    pub(crate) fn probe(config: &Config, data_dir: &Path) -> Result<Self> {
        let confine_writes = match config.sandbox {
            SandboxChoice::Off => return Ok(Self::NotWanted),
            SandboxChoice::Auto | SandboxChoice::Shield => false,
            SandboxChoice::Workspace => true,
        };
        match make(config, data_dir, confine_writes) {
            Ok(sandbox) => Ok(Self::Works(Box::new(sandbox))),
            Err(why) if config.sandbox == SandboxChoice::Auto => Ok(Self::Missing(why)),
            Err(why) => Err(Failure::new(
                format!("Agents cannot be run in the configured sandbox: {}.", why.reason),
                format!("{}, or do without: --sandbox off.", why.remedy),
            )),
        }
    }

    /// The level of the sandbox for the start-up text, with the reason if there is none.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Works(sandbox) => sandbox.level().name().into(),
            Self::NotWanted => "off: agents can do all that you can".into(),
            Self::Missing(why) => format!("off, agents can do all that you can: {}", why.reason),
        }
    }

    /// The gaps in the sandbox's protection on this machine, as sentences.
    pub(crate) fn gaps(&self, config: &Config) -> Vec<String> {
        let Self::Works(sandbox) = self else { return Vec::new() };
        let links = sandbox.unprotected_links().into_iter().map(|link| {
            format!(
                "{} is a symbolic link, which an agent in the sandbox can replace; what it leads to is protected.",
                link.display()
            )
        });
        let alone = sandbox.hidden_alone(&config.workspace).into_iter().map(|file| {
            format!(
                "{} is hidden as a file, since other things are beside it: if it is replaced while an agent runs, that \
                 agent can read it. Keep it in a directory of its own, such as ~/.config/switchboard.",
                file.display()
            )
        });
        let missing: Vec<String> =
            sandbox.missing_start_files().map(|path| path.display().to_string()).collect();
        let missing = (!missing.is_empty()).then(|| {
            format!(
                "An agent in the sandbox can make these start files, which do not exist and would run at a login: {}. \
                 Those that exist are read-only for it.",
                missing.join(", ")
            )
        });
        links.chain(alone).chain(missing).collect()
    }

    /// Logs the level of the sandbox and its gaps.
    pub(crate) fn log(&self, config: &Config) {
        match self {
            Self::Works(sandbox) => {
                tracing::info!(sandbox = sandbox.level().name(), "agents run in a sandbox");
                self.gaps(config).into_iter().for_each(|gap| tracing::warn!("{gap}"));
            }
            Self::NotWanted => tracing::info!(sandbox = "off", "agents run without a sandbox, as configured"),
            Self::Missing(why) => {
                tracing::warn!(
                    sandbox = "off",
                    why = why.reason,
                    "agents run without a sandbox; --sandbox require would not start"
                );
            }
        }
    }

    pub(crate) fn into_sandbox(self) -> Option<Sandbox> {
        match self {
            Self::Works(sandbox) => Some(*sandbox),
            Self::NotWanted | Self::Missing(_) => None,
        }
    }
}

fn make(config: &Config, data_dir: &Path, confine_writes: bool) -> Result<Sandbox, SandboxFailure> {
    if !cfg!(target_os = "linux") {
        return Err(SandboxFailure::new("there is one on Linux only", "Run the gateway on Linux"));
    }
    let bwrap = bubblewrap(&env::var_os("PATH").unwrap_or_default()).ok_or_else(|| {
        SandboxFailure::new("bubblewrap (the program bwrap) is not installed", "Install bubblewrap")
    })?;
    let sockets = config.listen_unix.iter().chain(&config.unix);
    let sandbox = Sandbox::new(SandboxOptions {
        confine_writes,
        bwrap,
        own_dirs: vec![data_dir.to_owned()],
        own_files: config.config_file.iter().chain([&config.token_file]).cloned().collect(),
        own_sockets: sockets.cloned().collect(),
        programs: env::current_exe().into_iter().collect(),
        allow: config.sandbox_allow.clone(),
        writable: config.sandbox_write.clone(),
    });
    sandbox.probe(&config.workspace)?;
    Ok(sandbox)
}

fn bubblewrap(path: &std::ffi::OsStr) -> Option<PathBuf> {
    let dirs = env::split_paths(path).filter(|dir| dir.is_absolute()).map(|dir| dir.join("bwrap"));
    dirs.chain([USUAL.into()]).find(|program| program.is_file())
}
