//! A sandbox with its options and the names that it hides.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    names::Names,
    options::{SandboxLevel, SandboxOptions},
};

/// A configured sandbox. Serializable, because the gateway passes it to the agent's host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    pub(super) level: SandboxLevel,
    pub(super) bwrap: PathBuf,
    pub(super) own_dirs: Vec<PathBuf>,
    pub(super) own_files: Vec<PathBuf>,
    pub(super) own_sockets: Vec<PathBuf>,
    pub(super) programs: Vec<PathBuf>,
    pub(super) writable: Vec<PathBuf>,
    pub(super) names: Names,
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

    /// Environment variables that belong to the allowed groups.
    pub(crate) fn env(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.names.env.iter().map(|(name, value)| (OsStr::new(name), OsStr::new(value)))
    }
}
