//! The plan of a sandbox: the real paths, at this moment, of everything that it hides or protects.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{Access, access};

use super::{configured::Sandbox, options::SandboxLevel};
use crate::dialect::vendors;

const RUN: &str = "/run";
/// The names below `/run/systemd` that a sandbox has: for name resolution and logging, but not for starting units.
const RUN_SYSTEMD: &[&str] = &["resolve", "journal", "userdb", "netif", "system"];
/// Directories that an agent with confined writes gets as its own, empty ones.
const TEMPORARY: &[&str] = &["/tmp", "/var/tmp", "/dev/shm"];

/// What is mounted, by real paths, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Whether writing is confined to `writable`.
    pub(super) confined: bool,
    /// Empty directories for the agent's own temporary files.
    pub(super) temporary: Vec<PathBuf>,
    pub(super) writable: BTreeSet<PathBuf>,
    /// The paths below `/run` that the sandbox has.
    pub(super) run: BTreeSet<PathBuf>,
    /// Symbolic links below `/run`: target and path.
    pub(super) run_links: BTreeSet<(PathBuf, PathBuf)>,
    /// Directories that are mounted on themselves. A mount point cannot be renamed; without that, the agent could
    /// rename a parent directory and create a protected path anew.
    pub(super) pinned: BTreeSet<PathBuf>,
    /// Directories that are replaced by empty ones.
    pub(super) empty: BTreeSet<PathBuf>,
    /// Directories of the gateway, which are replaced by empty, read-only ones.
    pub(super) empty_own: BTreeSet<PathBuf>,
    /// Files and sockets that cannot be opened.
    pub(super) masked: BTreeSet<PathBuf>,
    pub(super) read_only: BTreeSet<PathBuf>,
    /// The workspace, if a directory around it is hidden.
    pub(super) workspace: Option<PathBuf>,
    /// Paths that are mounted unchanged, although they or a directory around them would be hidden or protected.
    pub(super) given: BTreeSet<PathBuf>,
}

impl Sandbox {
    /// Files of the gateway that are hidden alone, because their directory contains other files. If such a file is
    /// replaced while an agent runs, the agent can read the new file.
    pub fn hidden_alone(&self, workspace: &Path) -> Vec<PathBuf> {
        Plan::hidden_alone(self, workspace).into_iter().collect()
    }
}

impl Plan {
    pub(super) fn make(sandbox: &Sandbox, workspace: &Path, program: &Path) -> io::Result<Self> {
        let workspace = fs::canonicalize(workspace)?;
        let mut plan = Self { confined: sandbox.level == SandboxLevel::Workspace, ..Self::default() };
        let names = &sandbox.names;
        names.hidden_made.iter().for_each(|dir| make_dir(dir));
        names.start_dirs_made.iter().for_each(|dir| make_dir(dir));
        names.start_files_made.iter().for_each(|(file, text)| make_file(file, text));
        plan.confine(sandbox, &workspace, program);
        plan.list_run(&names.run);
        plan.hide_own(sandbox, &workspace);
        let own = plan.masked.clone();
        for path in names.runtime.iter().chain(&names.hidden).chain(&names.hidden_made) {
            plan.hide(path);
        }
        let made = names.start_files_made.iter().map(|(file, _)| file);
        let start = names.start_files.iter().chain(&names.start_dirs_made).chain(made);
        plan.read_only.extend(start.chain(&sandbox.programs).filter_map(|path| real(path)));
        plan.given.extend(names.given.iter().filter_map(|path| real(path)));
        // Everything inside of an allowed path is allowed, except for files of the gateway.
        let given = |path: &PathBuf| plan.given.iter().any(|given| path.starts_with(given));
        plan.empty.retain(|path| !given(path));
        plan.masked.retain(|path| own.contains(path) || !given(path));
        if !plan.confined {
            plan.given.extend(names.start_files_written.iter().filter_map(|path| real(path)));
        }
        plan.check_workspace(&workspace)?;
        plan.drop_unseen(&workspace);
        plan.pin();
        Ok(plan)
    }

    fn confine(&mut self, sandbox: &Sandbox, workspace: &Path, program: &Path) {
        if !self.confined {
            return;
        }
        let env = |name: &&str| std::env::var_os(name).map(PathBuf::from);
        let temporary = TEMPORARY.iter().map(PathBuf::from).chain(env(&"TMPDIR"));
        self.temporary = temporary.filter(|dir| dir.is_dir()).filter_map(|dir| real(&dir)).collect();
        self.temporary.dedup();
        let home = sandbox.names.home.as_deref();
        for (name, folder) in vendors::PROGRAM_FOLDERS {
            if let Some(home) = home.filter(|_| program.ends_with(name)) {
                make_dir(&home.join(folder));
            }
        }
        let folders =
            home.into_iter().flat_map(|home| vendors::DATA_FOLDERS.iter().map(|name| home.join(name)));
        let configured =
            vendors::FOLDER_VARIABLES.iter().filter_map(env).chain(sandbox.writable.iter().cloned());
        self.writable = folders.chain(configured).filter_map(|path| real(&path)).collect();
        self.writable.insert(workspace.to_owned());
    }

    /// Lists the visible paths in `/run`. Paths that are created later are not visible. Sockets directly in `/run`
    /// belong to daemons and are left out.
    fn list_run(&mut self, hidden: &[String]) {
        let mut dirs = vec![(PathBuf::from(RUN), None)];
        dirs.push((Path::new(RUN).join("systemd"), Some(RUN_SYSTEMD)));
        for (dir, only) in dirs {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                let (name, path) = (entry.file_name(), entry.path());
                let is_listed = |listed: &str| name == listed;
                let seen = match only {
                    Some(only) => only.iter().any(|listed| is_listed(listed)),
                    None => !is_listed("systemd") && !hidden.iter().any(|hidden| is_listed(hidden)),
                };
                let Ok(kind) = entry.file_type() else { continue };
                if seen && kind.is_symlink() {
                    self.run_links.extend(fs::read_link(&path).map(|target| (target, path)));
                } else if seen && !kind.is_socket() && !kind.is_fifo() && path.symlink_metadata().is_ok() {
                    self.run.insert(path);
                }
            }
        }
    }

    fn hide_own(&mut self, sandbox: &Sandbox, workspace: &Path) {
        self.empty_own.extend(sandbox.own_dirs.iter().filter_map(|dir| real(dir)));
        let home = sandbox.names.home.as_deref().and_then(real);
        let holds_more = |dir: &Path| {
            dir.parent().is_none()
                || workspace.starts_with(dir)
                || home.as_ref().is_some_and(|home| home.starts_with(dir))
        };
        let own = |path: &Path, is_ours: &dyn Fn(&Path) -> bool| {
            let dir = path.parent().filter(|dir| is_ours(dir) && !holds_more(dir));
            dir.map(Path::to_owned).ok_or_else(|| path.to_owned())
        };
        let all: BTreeSet<PathBuf> = sandbox.own_files.iter().filter_map(|path| real(path)).collect();
        let holds_files = |dir: &Path| is_named_so(dir) || holds_only(dir, &all);
        let files = sandbox.own_files.iter().map(|path| (path, &holds_files as &dyn Fn(&Path) -> bool));
        let sockets = sandbox.own_sockets.iter().map(|path| (path, &is_private as &dyn Fn(&Path) -> bool));
        for (path, is_ours) in files.chain(sockets) {
            // A file that is created or replaced later can only be hidden together with its directory.
            let dir = path.parent().and_then(real);
            let Some(path) = real(path).or_else(|| Some(dir?.join(path.file_name()?))) else { continue };
            match own(&path, is_ours) {
                Ok(dir) => drop(self.empty_own.insert(dir)),
                Err(path) if path.exists() => drop(self.masked.insert(path)),
                Err(_) => {}
            }
        }
    }

    /// Files of the gateway that are hidden without their directory.
    pub(super) fn hidden_alone(sandbox: &Sandbox, workspace: &Path) -> BTreeSet<PathBuf> {
        let mut plan = Self::default();
        plan.hide_own(sandbox, &real(workspace).unwrap_or_else(|| workspace.to_owned()));
        let dirs = plan.empty_own;
        plan.masked.into_iter().filter(|file| !dirs.iter().any(|dir| file.starts_with(dir))).collect()
    }

    fn hide(&mut self, path: &Path) {
        let Some(path) = real(path) else { return };
        if path.parent().is_none() {
            return;
        }
        if path.is_dir() {
            self.empty.insert(path)
        } else {
            self.masked.insert(path)
        };
    }

    fn check_workspace(&mut self, workspace: &Path) -> io::Result<()> {
        if self.hidden_dirs().any(|dir| dir == workspace) {
            let why = format!("the sandbox hides {}, which is the workspace", workspace.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        if self.hidden_dirs().any(|dir| workspace.starts_with(dir)) {
            self.workspace = Some(workspace.to_owned());
        }
        Ok(())
    }

    fn hidden_dirs(&self) -> impl Iterator<Item = &PathBuf> {
        self.empty.iter().chain(&self.empty_own)
    }

    /// Removes paths inside of hidden directories, which need no mount of their own, unless they are in a visible
    /// workspace.
    fn drop_unseen(&mut self, workspace: &Path) {
        let hidden: Vec<PathBuf> = self.hidden_dirs().cloned().collect();
        let run = std::mem::take(&mut self.run);
        let covers = |dir: &Path, path: &Path| {
            let is_in_workspace = workspace.starts_with(dir) && path.starts_with(workspace);
            path != dir && path.starts_with(dir) && !is_in_workspace
        };
        let inside = |path: &PathBuf| hidden.iter().any(|dir| covers(dir, path));
        let in_run =
            |path: &PathBuf| covers(Path::new(RUN), path) && !run.iter().any(|seen| path.starts_with(seen));
        self.masked.retain(|path| !inside(path) && !in_run(path));
        self.read_only.retain(|path| !inside(path));
        // A directory such as the runtime directory exists in `/run`, but empty, so it is retained.
        self.empty.retain(|path| !inside(path));
        self.empty_own.retain(|path| !inside(path));
        self.run = run;
    }

    /// Hidden paths whose absence a test run can check: the present content of the gateway's directories, and hidden
    /// files.
    pub(super) fn hidden_now(&self) -> Vec<PathBuf> {
        let entries = self.empty_own.iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten().flatten();
        let paths = entries.map(|entry| entry.path()).chain(self.masked.iter().cloned());
        let seen = |path: &PathBuf| {
            let leads_to_workspace = self.workspace.as_ref().is_some_and(|dir| dir.starts_with(path));
            leads_to_workspace || self.given.iter().any(|given| given.starts_with(path))
        };
        paths.filter(|path| !seen(path)).collect()
    }

    fn pin(&mut self) {
        let protected: Vec<&PathBuf> =
            self.hidden_dirs().chain(&self.masked).chain(&self.read_only).collect();
        let mut pinned = BTreeSet::new();
        for path in &protected {
            for dir in path.ancestors().skip(1) {
                let Some(parent) = dir.parent() else { continue };
                let seen = self.workspace.as_ref().is_some_and(|workspace| dir.starts_with(workspace));
                let hidden = self.hidden_dirs().any(|hidden| dir.starts_with(hidden)) || dir.starts_with(RUN);
                let hidden = hidden && !seen;
                let writable = !self.confined || self.writable.iter().any(|root| dir.starts_with(root));
                if !hidden && writable && access(parent, Access::WRITE_OK).is_ok() {
                    pinned.insert(dir.to_owned());
                }
            }
        }
        pinned.retain(|dir| !protected.contains(&dir));
        self.pinned = pinned;
    }
}

/// The path without symbolic links; `None` if this user cannot see it.
fn real(path: &Path) -> Option<PathBuf> {
    fs::canonicalize(path).ok()
}

fn is_named_so(dir: &Path) -> bool {
    dir.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("switchboard"))
}

fn is_private(dir: &Path) -> bool {
    fs::metadata(dir)
        .is_ok_and(|dir| dir.mode() & 0o077 == 0 && dir.uid() == rustix::process::geteuid().as_raw())
}

/// Whether a directory contains only these files.
fn holds_only(dir: &Path, files: &BTreeSet<PathBuf>) -> bool {
    let Ok(entries) = fs::read_dir(dir) else { return false };
    let mut entries = entries.peekable();
    entries.peek().is_some() && entries.all(|entry| entry.is_ok_and(|entry| files.contains(&entry.path())))
}

/// Creates a directory, also as the target of a dangling symbolic link, as an agent could do. Errors are ignored: where
/// this process fails, the agent would fail, too.
fn make_dir(dir: &Path) {
    let led = fs::read_link(dir).ok().zip(dir.parent()).map(|(target, parent)| parent.join(target));
    let _ = DirBuilder::new().recursive(true).mode(0o700).create(led.as_deref().unwrap_or(dir));
}

fn make_file(path: &Path, text: &str) {
    if path.exists() {
        return;
    }
    let made = OpenOptions::new().append(true).create(true).mode(0o644).open(path);
    let _ = made.and_then(|mut file| file.write_all(text.as_bytes()));
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, path::PathBuf};

    use super::{super::names::Names, *};

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new() -> Self {
            let tree = Self(tempfile::tempdir().unwrap());
            for dir in ["home/.config", "home/.local/bin", "work", "real"] {
                fs::create_dir_all(tree.path(dir)).unwrap();
            }
            fs::write(tree.path("home/.local/bin/switchboard"), "").unwrap();
            tree
        }

        fn path(&self, name: &str) -> PathBuf {
            fs::canonicalize(self.0.path()).unwrap().join(name)
        }

        fn sandbox(&self) -> Sandbox {
            Sandbox {
                level: SandboxLevel::Shield,
                bwrap: "/usr/bin/bwrap".into(),
                own_dirs: vec![self.path("real")],
                own_files: Vec::new(),
                own_sockets: Vec::new(),
                programs: vec![self.path("home/.local/bin/switchboard")],
                writable: Vec::new(),
                names: Names { home: Some(self.path("home")), ..Names::default() },
            }
        }

        fn plan(&self, sandbox: &Sandbox) -> io::Result<Plan> {
            Plan::make(sandbox, &self.path("work"), Path::new("/bin/sh"))
        }

        fn set<const N: usize>(&self, names: [&str; N]) -> BTreeSet<PathBuf> {
            names.map(|name| self.path(name)).into()
        }
    }

    #[test]
    fn a_link_is_hidden_by_its_real_path() {
        let tree = Tree::new();
        symlink(tree.path("real"), tree.path("link")).unwrap();
        symlink(tree.path("home"), tree.path("other")).unwrap();
        let mut sandbox = tree.sandbox();
        sandbox.own_dirs = vec![tree.path("link")];
        sandbox.names.start_files = vec![tree.path("other/.local/bin/switchboard")];
        let plan = tree.plan(&sandbox).unwrap();
        assert_eq!(plan.empty_own, tree.set(["real"]));
        assert_eq!(plan.read_only, tree.set(["home/.local/bin/switchboard"]));
    }

    #[test]
    fn directories_around_a_protected_one_cannot_be_moved_away() {
        let tree = Tree::new();
        let plan = tree.plan(&tree.sandbox()).unwrap();
        for dir in ["", "home", "home/.local", "home/.local/bin"] {
            let dir: PathBuf = tree.path(dir).components().collect();
            assert!(plan.pinned.contains(&dir), "{} in {:?}", dir.display(), plan.pinned);
        }
        assert!(!plan.pinned.contains(&tree.path("real")), "it is mounted anyway");
        assert!(!plan.pinned.contains(&tree.path("home/.config")));
    }

    #[test]
    fn a_file_is_hidden_with_a_directory_that_is_ours_and_alone_elsewhere() {
        let tree = Tree::new();
        for (dir, file) in [
            ("home/.config/switchboard", "config.toml"),
            ("work", "switchboard.toml"),
            ("home/keys", "token"),
            ("home/keys", "other"),
        ] {
            fs::create_dir_all(tree.path(dir)).unwrap();
            fs::write(tree.path(dir).join(file), "").unwrap();
        }
        fs::create_dir(tree.path("http")).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(tree.path("http"), private).unwrap();
        let mut sandbox = tree.sandbox();
        sandbox.own_files =
            ["home/.config/switchboard/config.toml", "work/switchboard.toml", "home/keys/token"]
                .map(|name| tree.path(name))
                .into();
        // The socket is bound later.
        sandbox.own_sockets = vec![tree.path("http/socket")];
        let plan = tree.plan(&sandbox).unwrap();
        assert_eq!(plan.empty_own, tree.set(["home/.config/switchboard", "http", "real"]));
        assert_eq!(plan.masked, tree.set(["home/keys/token", "work/switchboard.toml"]));
    }

    #[test]
    fn a_directory_that_holds_nothing_else_is_hidden_with_its_file() {
        let tree = Tree::new();
        for name in ["keys/token", "mixed/token", "mixed/other"] {
            fs::create_dir_all(tree.path(name).parent().unwrap()).unwrap();
            fs::write(tree.path(name), "").unwrap();
        }
        let mut sandbox = tree.sandbox();
        sandbox.own_files = vec![tree.path("keys/token"), tree.path("mixed/token")];
        let plan = tree.plan(&sandbox).unwrap();
        assert_eq!(plan.empty_own, tree.set(["keys", "real"]));
        assert_eq!(plan.masked, tree.set(["mixed/token"]));
        assert_eq!(sandbox.hidden_alone(&tree.path("work")), [tree.path("mixed/token")]);
    }

    #[test]
    fn links_are_protected_where_they_lead_and_named() {
        let tree = Tree::new();
        fs::create_dir_all(tree.path("dotfiles/systemd")).unwrap();
        fs::write(tree.path("dotfiles/bashrc"), "mine").unwrap();
        symlink("../dotfiles/bashrc", tree.path("home/.bashrc")).unwrap();
        symlink("../dotfiles/profile", tree.path("home/.profile")).unwrap();
        symlink("../../dotfiles/autostart", tree.path("home/.config/autostart")).unwrap();
        symlink(tree.path("dotfiles"), tree.path("home/.local/share")).unwrap();
        let mut sandbox = tree.sandbox();
        sandbox.names.start_files_made =
            [".bashrc", ".profile"].map(|name| (tree.path("home").join(name), "# made\n".into())).into();
        sandbox.names.start_dirs_made =
            [".config/autostart", ".local/share/systemd"].map(|name| tree.path("home").join(name)).into();
        let plan = tree.plan(&sandbox).unwrap();
        assert_eq!(fs::read(tree.path("dotfiles/bashrc")).unwrap(), b"mine");
        assert_eq!(fs::read(tree.path("dotfiles/profile")).unwrap(), b"# made\n");
        let names = ["dotfiles/autostart", "dotfiles/bashrc", "dotfiles/profile", "dotfiles/systemd"];
        assert!(tree.set(names).is_subset(&plan.read_only), "{:?}", plan.read_only);
        assert!(plan.pinned.contains(&tree.path("dotfiles")), "or another could be put there");
        let links = ["home/.bashrc", "home/.config/autostart", "home/.local/share", "home/.profile"];
        assert_eq!(sandbox.unprotected_links(), links.map(|name| tree.path(name)));
    }

    #[test]
    fn a_workspace_that_would_be_hidden_is_refused_and_one_inside_is_seen() {
        let tree = Tree::new();
        let mut sandbox = tree.sandbox();
        sandbox.own_dirs = vec![tree.path("work")];
        assert_eq!(tree.plan(&sandbox).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        sandbox.own_dirs = vec![tree.path("")];
        let plan = tree.plan(&sandbox).unwrap();
        assert_eq!(plan.workspace, Some(tree.path("work")));
    }

    #[test]
    fn a_file_of_ours_needs_nothing_more_where_its_directory_is_hidden() {
        let tree = Tree::new();
        for name in ["work/data/token", "work/data/journal.db", "work/keys/token", "work/keys/other"] {
            fs::create_dir_all(tree.path(name).parent().unwrap()).unwrap();
            fs::write(tree.path(name), "").unwrap();
        }
        let mut sandbox = tree.sandbox();
        sandbox.own_dirs = vec![tree.path("work/data")];
        sandbox.own_files = vec![tree.path("work/data/token"), tree.path("work/keys/token")];
        // Also if the visible workspace is inside of a hidden tree.
        for hidden in [None, Some(tree.path(""))] {
            sandbox.names.hidden = hidden.into_iter().collect();
            let plan = tree.plan(&sandbox).unwrap();
            assert_eq!(plan.empty_own, tree.set(["work/data"]));
            assert_eq!(plan.masked, tree.set(["work/keys/token"]));
            assert!(plan.pinned.contains(&tree.path("work/keys")));
            let hidden = BTreeSet::from_iter(plan.hidden_now());
            let names = ["work/data/token", "work/data/journal.db", "work/keys/token"];
            assert_eq!(hidden, tree.set(names));
        }
    }

    #[test]
    fn missing_files_that_an_agent_could_make_are_made_and_existing_ones_stay() {
        let tree = Tree::new();
        fs::write(tree.path("home/.bashrc"), "mine").unwrap();
        let mut sandbox = tree.sandbox();
        sandbox.names.start_files_made =
            [".bashrc", ".profile"].map(|name| (tree.path("home").join(name), "# made\n".into())).into();
        sandbox.names.start_dirs_made = vec![tree.path("home/.config/autostart")];
        sandbox.names.hidden_made = vec![tree.path("tmux-1")];
        let plan = tree.plan(&sandbox).unwrap();
        assert_eq!(fs::read(tree.path("home/.bashrc")).unwrap(), b"mine");
        assert_eq!(fs::read(tree.path("home/.profile")).unwrap(), b"# made\n");
        let made = ["home/.bashrc", "home/.config/autostart", "home/.local/bin/switchboard", "home/.profile"];
        assert_eq!(plan.read_only, tree.set(made));
        assert_eq!(plan.empty, tree.set(["tmux-1"]));
        assert_eq!(fs::metadata(tree.path("tmux-1")).unwrap().mode() & 0o777, 0o700, "or tmux refuses it");
    }

    #[test]
    fn under_workspace_only_what_can_be_written_needs_to_be_held_in_place() {
        let tree = Tree::new();
        let sandbox = Sandbox {
            level: SandboxLevel::Workspace,
            writable: vec![tree.path("home/.local")],
            ..tree.sandbox()
        };
        let plan = tree.plan(&sandbox).unwrap();
        assert_eq!(plan.writable, tree.set(["home/.local", "work"]));
        assert_eq!(plan.pinned, tree.set(["home/.local", "home/.local/bin"]));
    }
}
