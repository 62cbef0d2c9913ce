//! What is hidden and what is read-only, by name.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::SandboxAllow;

/// What can be given back by name.
pub(super) const NAMES: &[&str] = &[
    "session-bus",
    "system-bus",
    "containers",
    "tmux",
    "screen",
    "zellij",
    "editors",
    "display",
    "ssh-agent",
    "gpg-agent",
    "start-files",
];

/// The sockets of other programs that would act for an agent. What is directly below the user's runtime directory is
/// hidden with it, and listed here to be given back.
struct Group {
    name: &'static str,
    /// Below the runtime directory of the user.
    runtime: &'static [&'static str],
    /// Below `/run`.
    run: &'static [&'static str],
    /// Below the home directory.
    home: &'static [&'static str],
    /// Anywhere.
    paths: &'static [&'static str],
    /// Variables that lead to the sockets: what they name is hidden, and they go with it.
    env: &'static [&'static str],
}

const GROUPS: &[Group] = &[
    Group {
        name: "session-bus",
        runtime: &["bus", "dbus-1"],
        run: &[],
        home: &[],
        paths: &[],
        env: &["DBUS_SESSION_BUS_ADDRESS"],
    },
    Group { name: "system-bus", runtime: &[], run: &["dbus"], home: &[], paths: &[], env: &[] },
    Group {
        name: "containers",
        runtime: &["docker.sock", "docker", "podman", "containerd", "containerd-rootless", "buildkit"],
        run: &[
            "docker.sock",
            "docker",
            "containerd",
            "podman",
            "crio",
            "buildkit",
            "incus",
            "lxd",
            "libvirt",
            "nerdctl",
        ],
        home: &[".docker/run", ".docker/desktop", ".colima", ".lima", ".rd", ".orbstack/run"],
        paths: &["/var/lib/lxd", "/var/lib/incus", "/var/snap/lxd/common/lxd"],
        env: &["DOCKER_HOST", "CONTAINER_HOST"],
    },
    Group {
        name: "tmux",
        runtime: &[],
        run: &["tmux"],
        home: &[],
        paths: &["/tmp/tmux-UID"],
        env: &["TMUX", "TMUX_TMPDIR"],
    },
    Group {
        name: "screen",
        runtime: &[],
        run: &["screen", "screens"],
        home: &[".screen"],
        paths: &["/tmp/screens", "/tmp/uscreens"],
        env: &["SCREENDIR"],
    },
    Group {
        name: "zellij",
        runtime: &["zellij"],
        run: &[],
        home: &[],
        paths: &["/tmp/zellij-UID"],
        env: &["ZELLIJ_SOCKET_DIR"],
    },
    Group {
        name: "editors",
        runtime: &["emacs"],
        run: &[],
        home: &[],
        paths: &["/tmp/emacsUID", "/tmp/nvim.USER"],
        env: &["NVIM"],
    },
    Group {
        name: "display",
        runtime: &["wayland-0", "wayland-1", "gdm", ".mutter-Xwaylandauth"],
        run: &["gdm", "gdm3", "lightdm", "sddm", "xauth"],
        home: &[".Xauthority"],
        paths: &["/tmp/.X11-unix"],
        env: &["DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY"],
    },
    Group {
        name: "ssh-agent",
        runtime: &["keyring", "gcr", "ssh-agent.socket", "openssh_agent"],
        run: &[],
        home: &[],
        paths: &[],
        env: &["SSH_AUTH_SOCK"],
    },
    Group { name: "gpg-agent", runtime: &["gnupg"], run: &[], home: &[], paths: &[], env: &[] },
];

/// Never in a sandbox's `/run`: other users' runtime directories, and ways into the system outside of a container.
const RUN_NEVER: &[&str] = &["user", "host", "WSL"];

/// What shows that a start file is run on this machine.
enum Runs {
    /// One of these programs on `PATH`, or of these files.
    Programs(&'static [&'static str]),
    /// A text in a file, or in one of a directory's: an absolute path, or one below the home directory.
    Text(&'static str, &'static str),
    /// Nothing: it is not run, because of another that is made.
    Never,
}

const CSH: Runs = Runs::Programs(&["csh", "tcsh"]);
const X: Runs = Runs::Programs(&["/etc/X11/Xsession", "Xorg", "startx", "gdm3", "gdm", "lightdm", "sddm"]);
const PLASMA: Runs = Runs::Programs(&["plasmashell", "startplasma-x11", "startplasma-wayland"]);

/// What a login, a desktop or a new terminal runs: files and directories of the home directory. Those that are missing
/// are not made, since some would change something as empty files, and few are run on one machine.
const START_FILES: &[(&str, Runs)] = &[
    (".bash_login", Runs::Never),
    (".kshrc", Runs::Programs(&["ksh", "ksh93"])),
    (".cshrc", CSH),
    (".tcshrc", CSH),
    (".login", CSH),
    (".logout", CSH),
    (".xprofile", X),
    (".xsession", X),
    (".xsessionrc", X),
    (".xinitrc", X),
    (".pam_environment", Runs::Text("/etc/pam.d", "user_readenv=1")),
    (".bashrc.d", Runs::Text(".bashrc", ".bashrc.d")),
    (".config/plasma-workspace", PLASMA),
    (".config/autostart-scripts", PLASMA),
];
/// An empty file changes nothing for these, which are made where they are missing.
const START_FILES_OF_SHELLS: &[(&str, &[&str])] = &[
    ("bash", &[".bashrc", ".profile", ".bash_aliases", ".bash_logout"]),
    ("zsh", &[".zshenv", ".zprofile", ".zshrc", ".zlogin", ".zlogout"]),
];
const START_DIRS: &[&str] = &[
    "systemd",
    "autostart",
    "environment.d",
    "fish",
    "../.local/share/systemd",
    "../.local/share/dbus-1",
    "../.ssh",
];
/// In a directory that is read-only, what programs write as they are used.
const START_FILES_WRITTEN: &[&str] = &[".ssh/known_hosts"];

/// All that is hidden or read-only because of its name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Names {
    pub(super) home: Option<PathBuf>,
    /// The user's runtime directory, hidden but for what is given back.
    pub(super) runtime: Option<PathBuf>,
    /// Hidden where they are there.
    pub(super) hidden: Vec<PathBuf>,
    /// Directories that are hidden, and made where they are missing so that they can be.
    pub(super) hidden_made: Vec<PathBuf>,
    /// Names below `/run` that are hidden.
    pub(super) run: Vec<String>,
    /// Read-only where they are there.
    pub(super) start_files: Vec<PathBuf>,
    /// Those of them that are run on this machine.
    pub(super) start_files_run: Vec<PathBuf>,
    /// Writable all the same.
    pub(super) start_files_written: Vec<PathBuf>,
    /// Read-only, and made where they are missing, so that the agent cannot make them: files with this text.
    pub(super) start_files_made: Vec<(PathBuf, String)>,
    /// The same, directories.
    pub(super) start_dirs_made: Vec<PathBuf>,
    /// Visible and writable again.
    pub(super) given: Vec<PathBuf>,
    /// Variables that come with what is given.
    pub(super) env: Vec<(String, String)>,
}

const PLACEHOLDER: &str =
    "# Made by Switchboard, so that an agent in its sandbox cannot make it. Yours to change.\n";
/// Bash reads the first that it finds of `.bash_profile`, `.bash_login` and `.profile`.
const BASH_PROFILE: &str =
    "[ -r ~/.bash_login ] && . ~/.bash_login || { [ -r ~/.profile ] && . ~/.profile; }\n";

impl Names {
    /// What is hidden and read-only for this user and in this environment.
    pub(super) fn collect(allow: &[SandboxAllow], env: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name: &str| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let text = |name: &str| env(name).and_then(|value| value.into_string().ok());
        let uid = rustix::process::getuid().as_raw();
        let user = text("USER").or_else(|| text("LOGNAME"));
        let is_allowed = |name: &str| allow.contains(&SandboxAllow::Group(name_of(name)));
        let mut names = Self {
            home: path("HOME"),
            runtime: path("XDG_RUNTIME_DIR").or_else(|| Some(format!("/run/user/{uid}").into())),
            run: RUN_NEVER.iter().map(|&name| name.into()).collect(),
            ..Self::default()
        };
        for group in GROUPS {
            let mut dirs: Vec<PathBuf> = group
                .paths
                .iter()
                .filter(|path| user.is_some() || !path.contains("USER"))
                .map(|path| {
                    path.replace("UID", &uid.to_string()).replace("USER", user.as_deref().unwrap_or(""))
                })
                .map(PathBuf::from)
                .collect();
            dirs.extend(names.home.iter().flat_map(|home| group.home.iter().map(|name| home.join(name))));
            for name in group.env {
                dirs.extend(text(name).iter().flat_map(|value| sockets_of(name, value, uid)));
            }
            if is_allowed(group.name) {
                names.given.extend(dirs);
                names.given.extend(group.run.iter().map(|name| Path::new("/run").join(name)));
                names.given.extend(
                    names.runtime.iter().flat_map(|dir| group.runtime.iter().map(|name| dir.join(name))),
                );
                names.env.extend(group.env.iter().filter_map(|&name| Some((name.into(), text(name)?))));
                continue;
            }
            names.run.extend(group.run.iter().map(|&name| name.into()));
            names.hidden.extend(dirs);
        }
        names.hidden_made = made_directories(&names.hidden, text("TMUX_TMPDIR"), uid);
        if is_allowed("tmux") {
            names.hidden_made.clear();
        }
        if !is_allowed("start-files") {
            names.collect_start_files(path("XDG_CONFIG_HOME"), &text("PATH").unwrap_or_default());
        }
        names.given.extend(allow.iter().filter_map(|allow| match allow {
            SandboxAllow::Path(path) => Some(path.clone()),
            SandboxAllow::Group(_) => None,
        }));
        names
    }

    fn collect_start_files(&mut self, config: Option<PathBuf>, path: &str) {
        let Some(home) = self.home.clone() else { return };
        let config = config.unwrap_or_else(|| home.join(".config"));
        let is_there = |program: &str| std::env::split_paths(path).any(|dir| dir.join(program).is_file());
        for (name, runs) in START_FILES {
            let file = home.join(name);
            let is_run = match runs {
                Runs::Programs(programs) => programs.iter().any(|program| is_there(program)),
                Runs::Text(path, text) => holds_text(&home.join(path), text),
                Runs::Never => false,
            };
            self.start_files_run.extend(is_run.then(|| file.clone()));
            self.start_files.push(file);
        }
        self.start_files_written = START_FILES_WRITTEN.iter().map(|name| home.join(name)).collect();
        for (shell, files) in START_FILES_OF_SHELLS {
            let files = files.iter().map(|name| home.join(name));
            if is_there(shell) {
                self.start_files_made.extend(files.map(|file| (file, PLACEHOLDER.into())));
            } else {
                self.start_files.extend(files);
            }
        }
        if is_there("bash") {
            self.start_files_made.push((home.join(".bash_profile"), format!("{PLACEHOLDER}{BASH_PROFILE}")));
        }
        self.start_dirs_made = START_DIRS
            .iter()
            .map(|name| match name.strip_prefix("../") {
                Some(below_home) => home.join(below_home),
                None => config.join(name),
            })
            .collect();
    }
}

/// Whether a file, or one in a directory, holds this text.
fn holds_text(path: &Path, text: &str) -> bool {
    let files = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    files.chain([path.to_owned()]).any(|file| fs::read_to_string(file).is_ok_and(|all| all.contains(text)))
}

fn name_of(name: &str) -> &'static str {
    NAMES.iter().find(|known| **known == name).copied().unwrap_or_default()
}

/// Directories that a multiplexer makes when it begins, closed to others, as it would make them.
fn made_directories(hidden: &[PathBuf], tmux: Option<String>, uid: u32) -> Vec<PathBuf> {
    let own = [format!("tmux-{uid}"), format!("zellij-{uid}")];
    let below_tmp = hidden.iter().filter(|path| own.iter().any(|name| path.ends_with(name))).cloned();
    let configured =
        tmux.map(|dir| Path::new(&dir).join(format!("tmux-{uid}"))).filter(|dir| dir.is_absolute());
    below_tmp.chain(configured).collect()
}

/// Where a variable says that sockets are.
fn sockets_of(variable: &str, value: &str, uid: u32) -> Vec<PathBuf> {
    let paths: Vec<PathBuf> = match variable {
        "DBUS_SESSION_BUS_ADDRESS" => {
            let parts = value.split(';').filter_map(|address| address.strip_prefix("unix:"));
            let keys = parts.flat_map(|address| address.split(','));
            keys.filter_map(|key| key.strip_prefix("path=")).map(PathBuf::from).collect()
        }
        "DOCKER_HOST" | "CONTAINER_HOST" => {
            value.strip_prefix("unix://").map(PathBuf::from).into_iter().collect()
        }
        // The socket, a process and a session; all sockets of a user are in one directory.
        "TMUX" => {
            let socket = value.split(',').next().map(Path::new);
            socket.and_then(Path::parent).map(Path::to_owned).into_iter().collect()
        }
        "TMUX_TMPDIR" => vec![Path::new(value).join(format!("tmux-{uid}"))],
        "DISPLAY" | "WAYLAND_DISPLAY" => Vec::new(),
        _ => vec![value.into()],
    };
    paths.into_iter().filter(|path| path.is_absolute()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(allow: &[SandboxAllow]) -> Names {
        let env = |name: &str| {
            let value = match name {
                "HOME" => "/x/home",
                "PATH" => "/nowhere",
                "USER" => "u",
                "DBUS_SESSION_BUS_ADDRESS" => "unix:path=/x/bus,guid=1;unix:abstract=/y;tcp:host=a",
                "DOCKER_HOST" => "unix:///x/docker.sock",
                "TMUX" => "/x/tmux-1/default,17,0",
                "XDG_RUNTIME_DIR" => "/x/runtime",
                _ => return None,
            };
            Some(value.into())
        };
        Names::collect(allow, env)
    }

    #[test]
    fn what_variables_name_is_hidden() {
        let names = collect(&[]);
        let hidden: Vec<&str> = names.hidden.iter().filter_map(|path| path.to_str()).collect();
        for path in
            ["/x/bus", "/x/docker.sock", "/x/tmux-1", "/x/home/.colima", "/tmp/nvim.u", "/tmp/.X11-unix"]
        {
            assert!(hidden.contains(&path), "{path} in {hidden:?}");
        }
        assert_eq!(names.runtime.as_deref(), Some(Path::new("/x/runtime")));
        assert!(names.env.is_empty() && names.given.is_empty());
    }

    #[test]
    fn what_is_given_back_brings_its_variables() {
        let names = collect(&[SandboxAllow::Group("containers"), SandboxAllow::Path("/run/x".into())]);
        assert_eq!(names.env, [("DOCKER_HOST".to_owned(), "unix:///x/docker.sock".to_owned())]);
        assert!(!names.run.contains(&"docker.sock".to_owned()) && names.run.contains(&"screen".to_owned()));
        for path in ["/x/docker.sock", "/run/docker.sock", "/x/runtime/podman", "/run/x"] {
            assert!(names.given.contains(&path.into()), "{path}");
            assert!(!names.hidden.contains(&path.into()), "{path}");
        }
    }

    #[test]
    fn every_group_can_be_given_back() {
        for group in GROUPS {
            assert_eq!(group.name.parse(), Ok(SandboxAllow::Group(group.name)));
        }
        assert!("start-files".parse::<SandboxAllow>().is_ok());
        assert!("docker".parse::<SandboxAllow>().is_err());
        assert!("run/x".parse::<SandboxAllow>().is_err());
    }
}
