//! A gateway with a home directory, a runtime directory and sockets of other programs that the test makes.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder},
    os::unix::{
        fs::{DirBuilderExt, symlink},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use switchboard_test_support::{Client, Gateway, UnixClient};

use crate::hostile::AS_HOSTILE;

/// The files and sockets around the gateway, in the test's directory.
pub(crate) struct Site {
    pub(crate) gateway: Gateway,
    client: UnixClient,
    turns: usize,
    _sockets: Vec<UnixListener>,
}

/// The hostile agent's command.
pub(crate) fn hostile() -> [String; 4] {
    let exe = std::env::current_exe().unwrap();
    ["--agent-command", &format!("{} {AS_HOSTILE}", exe.display()), "--dialect", "text"].map(str::to_owned)
}

impl Site {
    /// A gateway with the hostile agent and further arguments.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_with(|command, _| {
            command.args(hostile()).args(arguments);
        })
    }

    pub(crate) fn start_with(change: impl FnOnce(&mut Command, &Path)) -> Self {
        let mut sockets = Vec::new();
        let gateway = Gateway::start_with(|command| {
            let data = command.get_args().skip_while(|arg| *arg != "--data-dir").nth(1).unwrap();
            let dir = Path::new(data).parent().unwrap().to_owned();
            sockets = furnish(&dir);
            start_from(command, &dir.join("home/.local/bin/switchboard"));
            command.env("HOME", dir.join("home")).env("XDG_RUNTIME_DIR", dir.join("runtime"));
            command.env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={}/dbus", dir.display()));
            command.env("DOCKER_HOST", format!("unix://{}/engine/docker.sock", dir.display()));
            command.env("TMUX_TMPDIR", dir.join("tmux")).env("SCREENDIR", dir.join("screens"));
            command.arg("--listen").arg(format!("unix:{}/http/socket", dir.display()));
            command.arg("--config").arg(dir.join("home/.config/switchboard/config.toml"));
            change(command, &dir);
        });
        let client = gateway.unix();
        Self { gateway, client, turns: 0, _sockets: sockets }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.gateway.path(name).to_str().unwrap().to_owned()
    }

    /// Lets the agent make these attempts (name, verb and path), and returns the results.
    pub(crate) fn attempt(&mut self, attempts: &[(&str, &str, String)]) -> Value {
        let chat = self.client.new_chat();
        self.turns += 1;
        let answer =
            answer(&mut self.client, &chat, &format!("turn-{}", self.turns), &json!(attempts).to_string());
        serde_json::from_str(&answer)
            .unwrap_or_else(|error| panic!("{error}: {answer}: {}", self.gateway.log()))
    }
}

/// Sends a message and returns the whole answer.
pub(crate) fn answer(client: &mut impl Client, chat: &str, turn: &str, content: &str) -> String {
    client.message(chat, turn, content);
    let events = client.until("turn_end");
    assert_eq!(events.last().unwrap()["outcome"], "completed", "{events:?}");
    let deltas = events.iter().filter(|event| event["event"] == "delta");
    deltas.map(|event| event["text"].as_str().unwrap()).collect()
}

/// Makes a copy of the program, which an agent can replace without harm.
fn start_from(command: &mut Command, program: &Path) {
    let built = Path::new(command.get_program());
    fs::hard_link(built, program).or_else(|_| fs::copy(built, program).map(drop)).unwrap();
    let mut new = Command::new(program);
    new.args(command.get_args()).stdin(std::process::Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => new.env(name, value),
            None => new.env_remove(name),
        };
    }
    *command = new;
}

fn furnish(dir: &Path) -> Vec<UnixListener> {
    let private = |name: &str| DirBuilder::new().recursive(true).mode(0o700).create(dir.join(name)).unwrap();
    for name in [
        "home/.config/switchboard",
        "home/.config/app",
        "home/.ssh",
        "home/.local/bin",
        "home/mine",
        "http",
        "real",
    ] {
        private(name);
    }
    for (name, text) in [
        ("home/.bashrc", "# mine\n"),
        ("home/dotfiles", "# mine\n"),
        ("home/notes", "mine\n"),
        ("home/.gitconfig", "# mine\n"),
        ("home/.config/app/settings", "mine\n"),
        ("home/.config/switchboard/config.toml", "[limits]\nagents = 8\nnew_chats_per_minute = \"off\"\n"),
        ("home/.ssh/known_hosts", "# mine\n"),
        ("home/.ssh/authorized_keys", "# mine\n"),
    ] {
        fs::write(dir.join(name), text).unwrap();
    }
    // `--data-dir` is a symbolic link.
    symlink(dir.join("real"), dir.join("data")).unwrap();
    let uid = rustix::process::getuid().as_raw();
    let socket = |name: &str| {
        let path = dir.join(name);
        DirBuilder::new().recursive(true).mode(0o700).create(path.parent().unwrap()).unwrap();
        UnixListener::bind(path).unwrap()
    };
    let tmux = format!("tmux/tmux-{uid}/default");
    let all = [
        "dbus",
        "runtime/bus",
        "runtime/podman/podman.sock",
        "runtime/systemd/private",
        "engine/docker.sock",
    ];
    let mut sockets: Vec<UnixListener> = all.into_iter().map(socket).collect();
    sockets.extend([&*tmux, "screens/1.pts-0", "home/.docker/run/docker.sock"].map(socket));
    sockets
}

/// The host sockets of a gateway.
pub(crate) fn host_sockets(data: &Path) -> Vec<PathBuf> {
    let hosts = fs::read_dir(data.join("hosts")).into_iter().flatten().flatten();
    hosts.map(|host| host.path().join("socket")).filter(|path| path.exists()).collect()
}

/// The names of the attempts whose results are not the expected ones.
pub(crate) fn others(results: &Value, expected: impl Fn(&OsStr, &Value) -> bool) -> Vec<String> {
    let results = results.as_object().unwrap().iter();
    let others = results.filter(|(name, result)| !expected(OsStr::new(name), result));
    others.map(|(name, result)| format!("{name}: {result}")).collect()
}
