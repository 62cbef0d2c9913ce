//! Everything that an agent under `shield` can connect to or write in the home directory, the runtime directory, `/tmp`
//! and `/run`, compared with the list here. The test makes its own `/tmp` and `/run`.

use std::{
    fs::{self, DirBuilder},
    os::unix::{fs::DirBuilderExt as _, net::UnixListener},
    path::Path,
    process::Command,
};

use serde_json::{Value, json};
use switchboard_test_support::report_skipped;

use crate::site::{Site, hostile};

/// A directory, a kind of access, and every path with it. `~` is the home directory; the directory of the test itself is
/// left out.
const REACHED: &[(&str, &str, &[&str])] = &[
    ("~", "sockets", &[]),
    ("/run/user/UID", "sockets", &[]),
    ("/tmp", "sockets", &["/tmp/app.sock"]),
    ("/run", "sockets", &["/run/app/app.sock", "/run/systemd/journal/socket"]),
    (
        "~",
        "writable",
        &["~/.config/app/settings", "~/.gitconfig", "~/.ssh/known_hosts", "~/dotfiles", "~/notes"],
    ),
    ("/run/user/UID", "writable", &[]),
    ("/tmp", "writable", &["/tmp/notes"]),
    ("/run", "writable", &["/run/app/state", "/run/utmp"]),
    (
        "~",
        "places",
        &[
            "~",
            "~/.config",
            "~/.config/app",
            "~/.docker",
            "~/.local",
            "~/.local/bin",
            "~/.local/share",
            "~/mine",
        ],
    ),
    ("/run/user/UID", "places", &[]),
    ("/tmp", "places", &["/tmp", "/tmp/ssh-x"]),
    ("/run", "places", &["/run/app", "/run/systemd", "/run/systemd/journal", "/run/user"]),
];

/// Sockets in `/tmp` and `/run`, of programs that would act for the agent and of others.
const SOCKETS: &[&str] = &[
    "tmp/.X11-unix/X0",
    "tmp/app.sock",
    "tmp/emacsUID/server",
    "tmp/screens/S-u/1.pts-0",
    "tmp/ssh-x/agent.1",
    "tmp/tmux-UID/default",
    "run/app/app.sock",
    "run/containerd/containerd.sock",
    "run/daemon.sock",
    "run/dbus/system_bus_socket",
    "run/docker.sock",
    "run/systemd/journal/socket",
    "run/systemd/private",
    "run/user/UID/bus",
    "run/user/UID/pulse/native",
    "run/user/UID/systemd/private",
];
const FILES: &[&str] = &["tmp/notes", "run/app/state", "run/user/UID/app/state", "run/utmp"];

/// Puts directories of a test in the place of `/tmp` and `/run`, and leaves the test's own where it is.
const PLACE: &str = r#"dir=$1; shift
mount -n --bind "$dir" /mnt && mount -n --bind "$dir/run" /run && mount -n --bind "$dir/tmp" /tmp &&
mkdir -p "$dir" && mount -n --move /mnt "$dir" && exec "$@""#;

pub(crate) fn only_this() {
    if !rustix::process::geteuid().is_root() {
        return report_skipped("all that an agent reaches in /tmp and /run: only root can make others");
    }
    let uid = rustix::process::getuid().as_raw().to_string();
    let mut sockets = Vec::new();
    let mut site = Site::start_with(|command, dir| {
        let path = |name: &str| {
            let path = dir.join(name.replace("UID", &uid));
            DirBuilder::new().recursive(true).mode(0o700).create(path.parent().unwrap()).unwrap();
            path
        };
        sockets.extend(SOCKETS.iter().map(|name| UnixListener::bind(path(name)).unwrap()));
        FILES.iter().for_each(|name| fs::write(path(name), "mine\n").unwrap());
        command.args(hostile()).env("XDG_RUNTIME_DIR", format!("/run/user/{uid}"));
        command.env("SSH_AUTH_SOCK", "/tmp/ssh-x/agent.1").env_remove("TMUX_TMPDIR");
        within(command, dir);
    });
    let (home, dir) = (site.path("home"), site.path(""));
    let there = |name: &str| name.replace("UID", &uid).replacen('~', &home, 1);
    let attempts: Vec<(String, &str, String)> =
        REACHED.iter().map(|(root, verb, _)| (format!("{verb} in {root}"), *verb, there(root))).collect();
    let attempts: Vec<_> = attempts.iter().map(|(name, verb, path)| (&**name, *verb, path.clone())).collect();
    let results = site.attempt(&attempts);
    let mut reached = serde_json::Map::new();
    for ((name, ..), (root, ..)) in attempts.iter().zip(REACHED) {
        let found = results[*name].as_array().unwrap().iter().map(|path| path.as_str().unwrap());
        let found = found.filter(|path| *root == "~" || !path.starts_with(dir.trim_end_matches('/')));
        let found = found.map(|path| path.replacen(&home, "~", 1));
        reached.insert((*name).into(), json!(found.collect::<Vec<_>>()));
    }
    let listed: serde_json::Map<String, Value> = REACHED
        .iter()
        .map(|(root, verb, all)| {
            (
                format!("{verb} in {root}"),
                json!(all.iter().map(|name| name.replace("UID", &uid)).collect::<Vec<_>>()),
            )
        })
        .collect();
    assert!(reached == listed, "{:#}\nis not\n{:#}", Value::Object(reached), Value::Object(listed));
}

/// Runs a command on that machine.
fn within(command: &mut Command, dir: &Path) {
    let mut new = Command::new("unshare");
    new.args(["--mount", "--propagation", "private", "--", "sh", "-c", PLACE, "sh"]).arg(dir);
    new.arg(command.get_program()).args(command.get_args()).stdin(std::process::Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => new.env(name, value),
            None => new.env_remove(name),
        };
    }
    *command = new;
}
