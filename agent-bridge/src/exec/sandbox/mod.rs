//! The sandbox of an agent's process, made with bubblewrap (`bwrap`).
//!
//! It hides everything by which an agent could act as the gateway's user: the gateway's own files and sockets, and
//! sockets of programs that can be made to act for that user. Files that run at the user's next login are read-only.
//! The agent has its own PID namespace, so that all its processes end with it. It shares the machine's network.
//!
//! [`Sandbox::new`] reads the environment and collects the names to hide, once. At each start of an agent, the real
//! paths behind these names are looked up again.

mod command;
mod names;
mod plan;

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fmt, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use self::{names::Names, plan::Plan};

/// How much a sandbox restricts an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SandboxLevel {
    /// No sandbox.
    Off,
    /// Hides or protects everything by which the agent could act as the gateway's user.
    Shield,
    /// [`Shield`](Self::Shield), and no writing outside the workspace.
    Workspace,
}

impl SandboxLevel {
    /// The level's name in the configuration and on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Shield => "shield",
            Self::Workspace => "workspace",
        }
    }
}

impl fmt::Display for SandboxLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The settings for a sandbox.
#[derive(Debug, Clone, Default)]
pub struct SandboxOptions {
    /// Whether the agent may write only to the workspace, to its own folders and to `writable`.
    pub confine_writes: bool,
    /// Absolute path of the `bwrap` program.
    pub bwrap: PathBuf,
    /// Directories of the gateway; hidden as a whole.
    pub own_dirs: Vec<PathBuf>,
    /// Files of the gateway; hidden together with their directory if its name begins with `switchboard` or if it
    /// contains nothing else.
    pub own_files: Vec<PathBuf>,
    /// Sockets of the gateway; hidden together with their directory if other users cannot enter the directory.
    pub own_sockets: Vec<PathBuf>,
    /// Programs of the gateway; read-only.
    pub programs: Vec<PathBuf>,
    /// Exceptions: groups and paths that the agent may use although they are hidden or read-only by default.
    pub allow: Vec<SandboxAllow>,
    /// Further directories to which the agent may write.
    pub writable: Vec<PathBuf>,
}

/// An exception to the sandbox: something that is hidden or read-only by default, but not for this agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SandboxAllow {
    /// A group of paths and variables, one of [`SandboxAllow::NAMES`].
    Group(&'static str),
    /// An absolute path.
    Path(PathBuf),
}

impl SandboxAllow {
    /// The names of the groups that can be allowed.
    pub const NAMES: &'static [&'static str] = names::NAMES;
}

impl FromStr for SandboxAllow {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if let Some(name) = Self::NAMES.iter().find(|name| **name == text) {
            return Ok(Self::Group(name));
        }
        Some(PathBuf::from(text)).filter(|path| path.is_absolute()).map(Self::Path).ok_or(())
    }
}

/// A configured sandbox. Serializable, because the gateway passes it to the agent's host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    level: SandboxLevel,
    bwrap: PathBuf,
    own_dirs: Vec<PathBuf>,
    own_files: Vec<PathBuf>,
    own_sockets: Vec<PathBuf>,
    programs: Vec<PathBuf>,
    writable: Vec<PathBuf>,
    names: Names,
}

/// Why no sandbox can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxFailure {
    /// The reason, as part of a sentence.
    pub reason: String,
    /// Advice: the beginning of a sentence that the caller continues with "or".
    pub remedy: &'static str,
}

impl SandboxFailure {
    /// Makes a failure with this reason and advice.
    pub fn new(reason: impl fmt::Display, remedy: &'static str) -> Self {
        Self { reason: reason.to_string(), remedy }
    }
}

impl Sandbox {
    /// Makes a sandbox with these options, for the user and the environment of this process.
    pub fn new(options: SandboxOptions) -> Self {
        let names = Names::collect(&options.allow, |name| std::env::var_os(name));
        let level = if options.confine_writes { SandboxLevel::Workspace } else { SandboxLevel::Shield };
        let SandboxOptions { bwrap, own_dirs, own_files, own_sockets, programs, writable, .. } = options;
        Self { level, bwrap, own_dirs, own_files, own_sockets, programs, writable, names }
    }

    /// How much the sandbox restricts an agent.
    pub fn level(&self) -> SandboxLevel {
        self.level
    }

    /// Symbolic links in the home directory that are part of the path to a protected file. Only the file itself is
    /// read-only: the agent can replace the link.
    pub fn unprotected_links(&self) -> Vec<PathBuf> {
        let names = &self.names;
        let made = names.start_files_made.iter().map(|(file, _)| file);
        let files = names.start_files.iter().chain(made).chain(&names.start_dirs_made);
        let files = files.chain(&self.own_files).chain(&self.programs);
        let in_home =
            |path: &&Path| names.home.as_ref().is_some_and(|home| path.starts_with(home) && path != home);
        let links =
            files.flat_map(|path| path.ancestors().take_while(in_home).filter(|path| path.is_symlink()));
        links.map(Path::to_owned).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Start files, such as shell profiles, that programs on this machine would run and that do not exist. The agent
    /// can create them.
    pub fn missing_start_files(&self) -> impl Iterator<Item = &Path> {
        self.names
            .start_files_run
            .iter()
            .map(PathBuf::as_path)
            .filter(|path| path.symlink_metadata().is_err())
    }

    /// Files of the gateway that are hidden alone, because their directory contains other files. If such a file is
    /// replaced while an agent runs, the agent can read the new file.
    pub fn hidden_alone(&self, workspace: &Path) -> Vec<PathBuf> {
        Plan::hidden_alone(self, workspace).into_iter().collect()
    }

    /// Runs a test program in the sandbox, which tries to reach what the sandbox hides. Blocks for milliseconds.
    ///
    /// # Errors
    /// If the sandbox cannot be made or does not hide everything.
    pub fn probe(&self, workspace: &Path) -> Result<(), SandboxFailure> {
        command::probe(self, workspace)
    }

    /// Environment variables that belong to the allowed groups.
    pub(crate) fn env(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.names.env.iter().map(|(name, value)| (OsStr::new(name), OsStr::new(value)))
    }

    /// The command line that runs `program` in this sandbox, with the workspace as its directory.
    pub(crate) fn wrap(&self, workspace: &Path, program: &Path) -> io::Result<Vec<OsString>> {
        let plan = Plan::make(self, workspace, program)?;
        Ok(command::arguments(self, &plan, workspace, program))
    }
}

pub(crate) use command::locate;
pub use command::locate as locate_program;
