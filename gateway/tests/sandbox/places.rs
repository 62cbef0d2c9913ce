//! Data directories inside the workspace, and workspaces such as `/` and the home directory.

use std::{
    ffi::OsString,
    fs,
    os::unix::{fs::symlink, net::UnixListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use switchboard_test_support::{run, switchboard};

use crate::{
    scenes::doctor,
    site::{Site, host_sockets, hostile, others},
};

/// Where the data directory is, and the workspace: below the directory of the test, or anywhere.
const PLACES: &[(&str, &str)] = &[
    ("work/data", "work"),
    ("work/deep/er/data", "work"),
    ("home/data", "home"),
    ("home/work/.data", "home/work"),
    ("real", "TEMPORARY"),
    ("real", "/"),
];

pub(crate) fn everywhere() {
    for level in ["shield", "workspace"] {
        for (data, workspace) in PLACES {
            let place = format!("{level}: data in {data}, workspace {workspace}");
            let mut chosen = PathBuf::new();
            let mut site = Site::start_with(|command, dir| {
                fs::remove_file(dir.join("data")).unwrap();
                fs::create_dir_all(dir.join(data)).unwrap();
                symlink(dir.join(data), dir.join("data")).unwrap();
                let workspace = match *workspace {
                    "TEMPORARY" => std::env::temp_dir(),
                    name => dir.join(name),
                };
                fs::create_dir_all(&workspace).unwrap();
                set_workspace(command, &workspace);
                command.args(hostile()).args(["--sandbox", level]);
                chosen = workspace;
            });
            assert!(site.gateway.announced.contains(&format!("Sandbox {level}")), "{place}");
            // Another chat, whose agent has a host.
            site.attempt(&[]);
            let host = host_sockets(&site.gateway.path("data"));
            let path = |name: &str| site.path(&format!("{data}/{name}"));
            let attempts = [
                ("the token", "read", path("token")),
                ("the token by another path", "read", site.path("data/token")),
                ("the journal", "read", path("journal.db")),
                ("the journal, to write", "append", path("journal.db")),
                ("a new file", "create", path("hosts/new")),
                ("a new file at its top", "create", path("new")),
                ("the gateway's socket", "connect", site.path("data/socket")),
                ("another chat's host", "connect", host[0].to_str().unwrap().to_owned()),
                ("the data directory, to put another there", "move", site.path(data)),
                ("the configuration", "read", site.path("home/.config/switchboard/config.toml")),
                (".bashrc", "append", site.path("home/.bashrc")),
            ];
            let results = site.attempt(&attempts);
            assert_eq!(others(&results, |_, result| result.is_string()), [""; 0], "{place}");
            let parent = Path::new(data).parent().and_then(Path::to_str).filter(|dir| !dir.is_empty());
            let around = parent.map(|dir| ("the directory around it", "move", site.path(dir)));
            let results = site.attempt(&around.into_iter().collect::<Vec<_>>());
            assert_eq!(others(&results, |_, result| result.is_string()), [""; 0], "{place}");
            // Agents can still work in this sandbox.
            let dir = if chosen.parent().is_none() { site.gateway.path("work") } else { chosen };
            let file = dir.join(format!("switchboard-test-{}", std::process::id()));
            let results = site.attempt(&[("a file", "create", file.to_str().unwrap().to_owned())]);
            assert_eq!(others(&results, |_, result| result.is_null()), [""; 0], "{place}");
            fs::remove_file(file).unwrap();
        }
    }
}

pub(crate) fn ssh() {
    let mut site = Site::start_with(|command, dir| {
        fs::write(dir.join("home/.ssh/id_test"), "mine\n").unwrap();
        let agent = UnixListener::bind(dir.join("home/.ssh/agent")).unwrap();
        command.args(hostile()).env("SSH_AUTH_SOCK", dir.join("home/.ssh/agent"));
        std::mem::forget(agent);
    });
    let results = site.attempt(&[
        ("a key", "read", site.path("home/.ssh/id_test")),
        ("known hosts", "to write", site.path("home/.ssh/known_hosts")),
    ]);
    assert_eq!(others(&results, |_, result| result.is_null()), [""; 0]);
    let results = site.attempt(&[("the agent of keys", "connect", site.path("home/.ssh/agent"))]);
    assert_eq!(others(&results, |_, result| result.is_string()), [""; 0]);

    // Without `~/.ssh`, an agent can create none.
    let mut site = Site::start_with(|command, dir| {
        fs::remove_dir_all(dir.join("home/.ssh")).unwrap();
        command.args(hostile());
    });
    let results = site.attempt(&[("authorized_keys", "create", site.path("home/.ssh/authorized_keys"))]);
    assert_eq!(others(&results, |_, result| result.is_string()), [""; 0]);

    // A path that `--sandbox-allow` names is visible, unless it contains the gateway's own files.
    let mut site = Site::start_with(|command, dir| {
        fs::create_dir(dir.join("home/.ssh/control")).unwrap();
        command.args(hostile()).arg("--sandbox-allow").arg(dir.join("home/.ssh/control"));
        command.arg("--sandbox-allow").arg(dir);
    });
    let results = site.attempt(&[("control", "create", site.path("home/.ssh/control/new"))]);
    assert_eq!(others(&results, |_, result| result.is_null()), [""; 0]);
    let results = site.attempt(&[
        ("rc", "create", site.path("home/.ssh/rc")),
        ("the token", "read", site.path("real/token")),
    ]);
    assert_eq!(others(&results, |_, result| result.is_string()), [""; 0]);
}

pub(crate) fn missing_start_files() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("tcsh"), "").unwrap();
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    let site = Site::start_with(|command, dir| {
        fs::write(dir.join("home/.login"), "# mine\n").unwrap();
        command.args(hostile()).env("PATH", &path);
    });
    let log = site.gateway.log();
    let said = log.lines().find(|line| line.contains("can make these start files")).unwrap();
    assert!(said.contains(&site.path("home/.cshrc")) && said.contains(&site.path("home/.tcshrc")), "{said}");
    assert!(!said.contains(&site.path("home/.login")) && !said.contains(".zshenv"), "{said}");
    let (good, said) = doctor(&site.gateway.path("other"), &[], |command| {
        command.env("PATH", &path).env("HOME", site.path("home"));
    });
    assert!(good && said.contains(&site.path("home/.cshrc")), "{said}");
}

pub(crate) fn reasons() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    for name in ["data", "runtime", "work"] {
        fs::create_dir(path(name)).unwrap();
    }
    let data = path("data");
    let given = format!("--sandbox-allow {data} would give agents what is the gateway's");
    let hidden = format!("the sandbox hides {}, which is the workspace", path("runtime"));
    for (workspace, allow, reason, remedy) in [
        ("work", &*data, &*given, "Leave that out, or do without: --sandbox off."),
        ("runtime", "/nowhere", &*hidden, "Choose another workspace, or do without: --sandbox off."),
    ] {
        let mut command = switchboard();
        command.args(["serve", "--listen", "127.0.0.1:0", "--agent", "demo", "--sandbox", "shield"]);
        command.args(["--data-dir", &data, "--workspace", &path(workspace), "--sandbox-allow", allow]);
        let output = {
            command.env("XDG_RUNTIME_DIR", path("runtime"));
            run(command, "")
        };
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(reason) && said.contains(remedy), "{said}");
    }
}

/// The same command with another workspace.
fn set_workspace(command: &mut Command, workspace: &Path) {
    let mut arguments: Vec<OsString> = command.get_args().map(ToOwned::to_owned).collect();
    let at = arguments.iter().position(|argument| argument == "--workspace").unwrap();
    arguments[at + 1] = workspace.into();
    let mut new = Command::new(command.get_program());
    new.args(arguments).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => new.env(name, value),
            None => new.env_remove(name),
        };
    }
    *command = new;
}
