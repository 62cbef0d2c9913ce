//! The names of files and directories that a sandbox hides or makes read-only.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::options::{NAMES, SandboxAllow};

/// A group of sockets of other programs that would act for an agent. Sockets in the user's runtime directory are hidden
/// with that directory; they are listed here so that they can be allowed.
struct Group {
    name: &'static str,
    /// Names below the user's runtime directory.
    runtime: &'static [&'static str],
    /// Names below `/run`.
    run: &'static [&'static str],
    /// Names below the home directory.
    home: &'static [&'static str],
    /// Absolute paths.
    paths: &'static [&'static str],
    /// Environment variables that contain the sockets' paths. These paths are hidden; if the group is allowed, the
    /// agent gets the variables.
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

/// Names that no sandbox has in `/run`: other users' runtime directories, and ways from a container to its host.
const RUN_NEVER: &[&str] = &["user", "host", "WSL"];

/// How to recognise that a start file is run on this machine.
enum Runs {
    /// One of these programs is on `PATH`, or one of these files exists.
    Programs(&'static [&'static str]),
    /// This file, or a file in this directory, contains this text. The path is absolute or below the home directory.
    Text(&'static str, &'static str),
    /// Never: another start file, which is created, prevents it.
    Never,
}

const CSH: Runs = Runs::Programs(&["csh", "tcsh"]);
const X: Runs = Runs::Programs(&["/etc/X11/Xsession", "Xorg", "startx", "gdm3", "gdm", "lightdm", "sddm"]);
const PLASMA: Runs = Runs::Programs(&["plasmashell", "startplasma-x11", "startplasma-wayland"]);

/// Files and directories of the home directory that a login, a desktop or a new terminal runs. Missing ones are not
/// created, because some would have an effect even if empty, and most are not run on a given machine.
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
/// Start files of shells that have no effect if empty. Missing ones are created.
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
/// Files that programs write in normal use, inside of read-only directories.
const START_FILES_WRITTEN: &[&str] = &[".ssh/known_hosts"];

/// Everything that is hidden or read-only because of its name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Names {
    pub(super) home: Option<PathBuf>,
    /// The user's runtime directory, hidden except for allowed names.
    pub(super) runtime: Option<PathBuf>,
    /// Paths that are hidden if they exist.
    pub(super) hidden: Vec<PathBuf>,
    /// Directories that are hidden, and created if missing, because only existing directories can be hidden.
    pub(super) hidden_made: Vec<PathBuf>,
    /// Names below `/run` that are hidden.
    pub(super) run: Vec<String>,
    /// Paths that are read-only if they exist.
    pub(super) start_files: Vec<PathBuf>,
    /// The paths of `start_files` that are run on this machine.
    pub(super) start_files_run: Vec<PathBuf>,
    /// Paths in read-only directories that are writable.
    pub(super) start_files_written: Vec<PathBuf>,
    /// Files that are read-only, and created with this text if missing, so that the agent cannot create them.
    pub(super) start_files_made: Vec<(PathBuf, String)>,
    /// Directories that are read-only, and created if missing.
    pub(super) start_dirs_made: Vec<PathBuf>,
    /// Allowed paths, neither hidden nor read-only.
    pub(super) given: Vec<PathBuf>,
    /// Environment variables of the allowed groups.
    pub(super) env: Vec<(String, String)>,
}

const PLACEHOLDER: &str =
    "# Made by Switchboard, so that an agent in its sandbox cannot make it. Yours to change.\n";
/// Bash reads only the first existing file of `.bash_profile`, `.bash_login` and `.profile`; this text reads the
/// others.
const BASH_PROFILE: &str =
    "[ -r ~/.bash_login ] && . ~/.bash_login || { [ -r ~/.profile ] && . ~/.profile; }\n";

impl Names {
    /// Collects the names for this user and this environment.
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

/// Whether a file, or a file in a directory, contains this text.
fn holds_text(path: &Path, text: &str) -> bool {
    let files = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    files.chain([path.to_owned()]).any(|file| fs::read_to_string(file).is_ok_and(|all| all.contains(text)))
}

fn name_of(name: &str) -> &'static str {
    NAMES.iter().find(|known| **known == name).copied().unwrap_or_default()
}

/// Socket directories of terminal multiplexers, which would create them at their first start.
fn made_directories(hidden: &[PathBuf], tmux: Option<String>, uid: u32) -> Vec<PathBuf> {
    let own = [format!("tmux-{uid}"), format!("zellij-{uid}")];
    let below_tmp = hidden.iter().filter(|path| own.iter().any(|name| path.ends_with(name))).cloned();
    let configured =
        tmux.map(|dir| Path::new(&dir).join(format!("tmux-{uid}"))).filter(|dir| dir.is_absolute());
    below_tmp.chain(configured).collect()
}

/// The socket paths in the value of an environment variable.
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
        // Contains the socket, a process id and a session. All sockets of a user are in one directory.
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
    fn paths_in_variables_are_hidden() {
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
    fn an_allowed_group_brings_its_variables() {
        let names = collect(&[SandboxAllow::Group("containers"), SandboxAllow::Path("/run/x".into())]);
        assert_eq!(names.env, [("DOCKER_HOST".to_owned(), "unix:///x/docker.sock".to_owned())]);
        assert!(!names.run.contains(&"docker.sock".to_owned()) && names.run.contains(&"screen".to_owned()));
        for path in ["/x/docker.sock", "/run/docker.sock", "/x/runtime/podman", "/run/x"] {
            assert!(names.given.contains(&path.into()), "{path}");
            assert!(!names.hidden.contains(&path.into()), "{path}");
        }
    }

    #[test]
    fn every_group_can_be_allowed() {
        for group in GROUPS {
            assert_eq!(group.name.parse(), Ok(SandboxAllow::Group(group.name)));
        }
        assert!("start-files".parse::<SandboxAllow>().is_ok());
        assert!("docker".parse::<SandboxAllow>().is_err());
        assert!("run/x".parse::<SandboxAllow>().is_err());
    }
}
