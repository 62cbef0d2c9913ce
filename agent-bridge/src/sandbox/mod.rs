//! The sandbox of an agent's process, made by bubblewrap (`bwrap`).
//!
//! It hides what lets an agent act as its owner: the gateway's own files and sockets, and sockets through which other
//! programs are made to act. It keeps what runs at the owner's next login read-only. The agent has a PID namespace of
//! its own, which ends with it. The network is the machine's.
//!
//! What there is to hide is collected once ([`Sandbox::new`], which reads the environment); where it lies is looked up
//! at each start, by its real path.

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

/// How much an agent is kept from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SandboxLevel {
    /// From nothing.
    Off,
    /// From what lets it act as its owner.
    Shield,
    /// And from writing outside the workspace.
    Workspace,
}

impl SandboxLevel {
    /// Its name in the configuration and on the wire.
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

/// What a sandbox is made of.
#[derive(Debug, Clone, Default)]
pub struct SandboxOptions {
    /// Whether writing is confined to the workspace, the agent's own folders and `writable`.
    pub confine_writes: bool,
    /// The `bwrap` program; absolute.
    pub bwrap: PathBuf,
    /// Directories of ours, hidden whole.
    pub own_dirs: Vec<PathBuf>,
    /// Files of ours, hidden with their directory where that is named `switchboard`.
    pub own_files: Vec<PathBuf>,
    /// Sockets of ours, hidden with their directory where that is closed to others.
    pub own_sockets: Vec<PathBuf>,
    /// Programs of ours, read-only.
    pub programs: Vec<PathBuf>,
    /// What the agent gets back.
    pub allow: Vec<SandboxAllow>,
    /// Further directories that may be written to.
    pub writable: Vec<PathBuf>,
}

/// Something that is hidden or read-only by default and that an agent is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SandboxAllow {
    /// A group of [`SandboxAllow::NAMES`].
    Group(&'static str),
    /// An absolute path.
    Path(PathBuf),
}

impl SandboxAllow {
    /// The groups that can be given back by name.
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

/// A sandbox, as an agent's host is given it.
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

/// Why there can be no sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxFailure {
    /// The reason, as part of a sentence.
    pub reason: String,
    /// What to do about it: the beginning of a sentence that goes on with "or".
    pub remedy: &'static str,
}

impl SandboxFailure {
    /// A failure for this reason.
    pub fn new(reason: impl fmt::Display, remedy: &'static str) -> Self {
        Self { reason: reason.to_string(), remedy }
    }
}

impl Sandbox {
    /// The sandbox of these options, for the user and the environment of this process.
    pub fn new(options: SandboxOptions) -> Self {
        let names = Names::collect(&options.allow, |name| std::env::var_os(name));
        let level = if options.confine_writes { SandboxLevel::Workspace } else { SandboxLevel::Shield };
        let SandboxOptions { bwrap, own_dirs, own_files, own_sockets, programs, writable, .. } = options;
        Self { level, bwrap, own_dirs, own_files, own_sockets, programs, writable, names }
    }

    /// What it keeps an agent from.
    pub fn level(&self) -> SandboxLevel {
        self.level
    }

    /// Symbolic links in the home directory on the way to what is protected: the agent can put something else in their
    /// place, and only what they lead to is read-only.
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

    /// Start files that are run on this machine and do not exist: the agent can make them.
    pub fn missing_start_files(&self) -> impl Iterator<Item = &Path> {
        self.names
            .start_files_run
            .iter()
            .map(PathBuf::as_path)
            .filter(|path| path.symlink_metadata().is_err())
    }

    /// Files of ours that are hidden by themselves, because their directory holds other things: replaced while an agent
    /// runs, they can be read by it.
    pub fn hidden_alone(&self, workspace: &Path) -> Vec<PathBuf> {
        Plan::hidden_alone(self, workspace).into_iter().collect()
    }

    /// Runs a program in such a sandbox that looks for what it hides. Blocks for milliseconds.
    ///
    /// # Errors
    /// Why there can be no sandbox.
    pub fn probe(&self, workspace: &Path) -> Result<(), SandboxFailure> {
        command::probe(self, workspace)
    }

    /// The variables that come with what was given back.
    pub(crate) fn env(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.names.env.iter().map(|(name, value)| (OsStr::new(name), OsStr::new(value)))
    }

    /// The command that runs a program in this sandbox, in the workspace.
    pub(crate) fn wrap(&self, workspace: &Path, program: &Path) -> io::Result<Vec<OsString>> {
        let plan = Plan::make(self, workspace, program)?;
        Ok(command::arguments(self, &plan, workspace, program))
    }
}

pub(crate) use command::locate;
pub use command::locate as locate_program;
