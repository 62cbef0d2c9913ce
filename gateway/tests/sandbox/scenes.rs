//! The attempts of the hostile agent, and the results that they must have.

use std::{fs, os::unix::fs::symlink, path::Path};

use rustix::process::Signal;
use serde_json::{Value, json};

use switchboard_test_support::{Client, ECHO_AGENT, Gateway, eventually, run, switchboard, wait_for_exit};

use crate::site::{Site, answer, host_sockets, hostile, others};

pub(crate) type Scene = (&'static str, fn());

pub(crate) const WITH_BWRAP: &[Scene] = &[
    ("what_is_hidden_cannot_be_had_under_shield_and_can_without", nothing_can_be_had),
    ("what_an_agent_reaches_is_what_this_test_lists", crate::reach::only_this),
    ("the_data_directory_is_hidden_wherever_it_and_the_workspace_are", crate::places::everywhere),
    ("why_paths_can_have_no_sandbox_is_said", crate::places::reasons),
    ("the_settings_of_the_system_cannot_be_written", system),
    ("links_are_protected_where_they_lead", links),
    ("ssh_keeps_what_it_needs_and_gets_nothing_that_runs", crate::places::ssh),
    ("start_files_that_an_agent_can_make_are_named", crate::places::missing_start_files),
    ("what_is_replaced_while_an_agent_runs_stays_hidden", replaced),
    ("under_workspace_writing_elsewhere_fails", workspace_confines_writes),
    ("what_is_given_back_can_be_had", given_back),
    ("a_turn_outlives_a_killed_gateway_in_its_sandbox", outlives_the_gateway),
    ("a_sandbox_works_in_the_sandbox", nested),
    ("everything_that_an_agent_started_ends_with_it", all_of_it_ends),
    ("an_agent_in_its_sandbox_is_asked_to_go_before_it_is_killed", asked_to_go),
    ("the_level_is_said_at_the_start_and_by_doctor", level_is_said),
];

pub(crate) const ALWAYS: &[Scene] = &[("without_bwrap_require_refuses_and_the_default_warns", without_bwrap)];

/// Everything with which the agent could act as its user.
fn attempts(site: &Site) -> Vec<(&'static str, &'static str, String)> {
    let path = |name: &str| site.path(name);
    let uid = rustix::process::getuid().as_raw();
    let pid = site.gateway.pid();
    let host = host_sockets(&site.gateway.path("data"));
    vec![
        ("the token", "read", path("data/token")),
        ("the token by its real path", "read", path("real/token")),
        ("the journal", "read", path("data/journal.db")),
        ("the journal, to write", "append", path("real/journal.db")),
        ("a new file in the data directory", "create", path("real/hosts/new")),
        ("the data directory, to put another there", "move", path("real")),
        ("the configuration", "read", path("home/.config/switchboard/config.toml")),
        ("the configuration, to write", "append", path("home/.config/switchboard/config.toml")),
        ("its directory, to put another there", "move", path("home/.config/switchboard")),
        ("the gateway's socket", "connect", path("data/socket")),
        ("the gateway's socket for proxies", "connect", path("http/socket")),
        ("another chat's host", "connect", host[0].to_str().unwrap().to_owned()),
        ("the gateway's memory", "open", format!("/proc/{pid}/mem")),
        ("the gateway's environment", "read", format!("/proc/{pid}/environ")),
        ("the gateway's command line", "read", format!("/proc/{pid}/cmdline")),
        ("the session bus", "connect", path("dbus")),
        ("the session bus where it usually is", "connect", path("runtime/bus")),
        ("the user's systemd", "connect", path("runtime/systemd/private")),
        ("a container engine", "connect", path("engine/docker.sock")),
        ("a container engine of the user's", "connect", path("runtime/podman/podman.sock")),
        ("a container engine in the home directory", "connect", path("home/.docker/run/docker.sock")),
        ("tmux", "connect", path(&format!("tmux/tmux-{uid}/default"))),
        ("screen", "connect", path("screens/1.pts-0")),
        (".bashrc", "append", path("home/.bashrc")),
        (".bashrc, to put another there", "replace", path("home/.bashrc")),
        (".profile, which was not there", "create", path("home/.profile")),
        (".bash_profile, which was not there", "create", path("home/.bash_profile")),
        ("authorized_keys", "append", path("home/.ssh/authorized_keys")),
        ("authorized_keys, to put another there", "replace", path("home/.ssh/authorized_keys")),
        ("authorized_keys2, which was not there", "create", path("home/.ssh/authorized_keys2")),
        ("ssh's rc, which was not there", "create", path("home/.ssh/rc")),
        ("ssh's configuration, which was not there", "create", path("home/.ssh/config")),
        (".ssh, to put another there", "move", path("home/.ssh")),
        ("a user unit", "create", path("home/.config/systemd/evil.service")),
        ("autostart", "create", path("home/.config/autostart/evil.desktop")),
        (".config, to put another there", "move", path("home/.config")),
        ("the program", "replace", path("home/.local/bin/switchboard")),
        ("the directory of the program, to put another there", "move", path("home/.local/bin")),
    ]
}

fn nothing_can_be_had() {
    let mut site = Site::start(&[]);
    // Another chat, whose agent has a host.
    site.attempt(&[]);
    let attempts = attempts(&site);
    let results = site.attempt(&attempts);
    assert_eq!(results.as_object().unwrap().len(), attempts.len());
    assert_eq!(others(&results, |_, result| result.is_string()), [""; 0], "{}", site.gateway.log());
    assert_eq!(fs::read(site.path("home/.bashrc")).unwrap(), b"# mine\n");

    let mut site = Site::start(&["--sandbox", "off"]);
    site.attempt(&[]);
    fs::create_dir_all(site.path("home/.config/systemd")).unwrap();
    fs::create_dir_all(site.path("home/.config/autostart")).unwrap();
    let attempts = self::attempts(&site);
    let results = site.attempt(&attempts);
    // Only a privileged process could read the memory of a gateway.
    let is_root = rustix::process::geteuid().is_root();
    let kept = |name: &std::ffi::OsStr| {
        !is_root && (name == "the gateway's memory" || name == "the gateway's environment")
    };
    assert_eq!(others(&results, |name, result| result.is_null() || kept(name)), [""; 0]);
}

fn links() {
    let mut site = Site::start_with(|command, dir| {
        command.args(hostile());
        fs::rename(dir.join("home/.bashrc"), dir.join("home/mine/bashrc")).unwrap();
        symlink("mine/bashrc", dir.join("home/.bashrc")).unwrap();
        symlink("mine/profile", dir.join("home/.profile")).unwrap();
    });
    let results = site.attempt(&[
        (".bashrc", "append", site.path("home/.bashrc")),
        ("where it leads", "append", site.path("home/mine/bashrc")),
        ("where it leads, to put another there", "replace", site.path("home/mine/bashrc")),
        ("where .profile leads, which was not there", "replace", site.path("home/mine/profile")),
        ("the directory, to put another there", "move", site.path("home/mine")),
    ]);
    assert_eq!(others(&results, |_, result| result.is_string()), [""; 0]);
    let log = site.gateway.log();
    for name in ["home/.bashrc", "home/.profile"] {
        assert!(log.contains(&format!("{} is a symbolic link", site.path(name))), "{log}");
    }
}

fn replaced() {
    let mut site = Site::start_with(|command, dir| {
        command.args(hostile()).arg("--token-file").arg(dir.join("home/keys/token"));
        fs::create_dir(dir.join("home/keys")).unwrap();
    });
    assert!(!site.gateway.log().contains("is hidden as a file"), "{}", site.gateway.log());
    let files = ["home/keys/token", "home/.config/switchboard/config.toml", "data/journal.db.commits"];
    let paths = files.map(|file| site.path(file));
    let (begun, done) = (site.path("work/begun"), site.path("work/done"));
    let owner = {
        let (paths, begun, done) = (paths.clone(), begun.clone(), done.clone());
        std::thread::spawn(move || {
            eventually("the agent has begun", || Path::new(&begun).exists());
            for path in paths {
                let draft = format!("{path}.new");
                fs::copy(&path, &draft).unwrap();
                fs::rename(&draft, &path).unwrap();
            }
            fs::write(done, "").unwrap();
        })
    };
    let mut attempts = vec![("begin", "create", begun), ("wait", "wait", done)];
    attempts.extend(files.into_iter().zip(paths).map(|(name, path)| (name, "read", path)));
    let results = site.attempt(&attempts);
    owner.join().unwrap();
    let expected = |name: &std::ffi::OsStr, result: &Value| {
        if name == "begin" || name == "wait" { result.is_null() } else { result.is_string() }
    };
    assert_eq!(others(&results, expected), [""; 0]);

    // A file in a directory with other contents is hidden alone, and the log warns of that.
    let site = Site::start_with(|command, dir| {
        command.args(hostile()).arg("--token-file").arg(dir.join("home/token"));
    });
    let said = format!("{} is hidden as a file, since other things are beside it", site.path("home/token"));
    assert!(site.gateway.log().contains(&said), "{}", site.gateway.log());
}

fn workspace_confines_writes() {
    // A name that is unique in the machine's own `/tmp`.
    let temporary = format!("/tmp/switchboard-test-{}", std::process::id());
    let mut site = Site::start_with(|command, dir| {
        command.args(hostile()).args(["--sandbox", "workspace", "--sandbox-write"]).arg(dir.join("more"));
        fs::create_dir(dir.join("more")).unwrap();
        fs::create_dir(dir.join("home/.claude")).unwrap();
    });
    let results = site.attempt(&[
        ("workspace", "create", site.path("work/new")),
        ("more", "create", site.path("more/new")),
        ("its own", "create", site.path("home/.claude/new")),
        ("temporary", "create", temporary.clone()),
        ("null", "append", "/dev/null".into()),
    ]);
    assert_eq!(others(&results, |_, result| result.is_null()), [""; 0]);
    assert!(Path::new(&site.path("work/new")).exists());
    assert!(!Path::new(&temporary).exists(), "its temporary files are its own");
    let mut attempts = attempts_without_host(&site);
    attempts.extend([
        ("notes", "append", site.path("home/notes")),
        ("home", "create", site.path("home/new")),
        ("beside", "create", site.path("new")),
        ("aside", "move", site.path("home/.local")),
    ]);
    let results = site.attempt(&attempts);
    // All of this lies below `/tmp`, where an agent has directories of these names that are its own.
    let own = |verb: &str| verb == "create" || verb == "move";
    let own: Vec<&str> = attempts.iter().filter(|(_, verb, _)| own(verb)).map(|(name, ..)| *name).collect();
    let failed =
        |name: &std::ffi::OsStr, result: &Value| result.is_string() || own.iter().any(|own| name == *own);
    assert_eq!(others(&results, failed), [""; 0]);
    for name in ["home/new", "new", "home/.config/systemd/evil.service", "home/.local.aside"] {
        assert!(!Path::new(&site.path(name)).exists(), "{name}");
    }
    assert!(Path::new(&site.path("home/.local/bin/switchboard")).exists());
}

fn attempts_without_host(site: &Site) -> Vec<(&'static str, &'static str, String)> {
    fs::create_dir_all(site.path("data/hosts/1")).unwrap();
    fs::write(site.path("data/hosts/1/socket"), "").unwrap();
    let attempts = attempts(site);
    fs::remove_dir_all(site.path("data/hosts/1")).unwrap();
    attempts
}

fn given_back() {
    let mut site = Site::start_with(|command, dir| {
        command.args(hostile()).args(["--sandbox-allow", "containers", "--sandbox-allow", "session-bus"]);
        command.arg("--sandbox-allow").arg(dir.join("home/.ssh/authorized_keys"));
    });
    let uid = rustix::process::getuid().as_raw();
    let results = site.attempt(&[
        ("engine", "connect", site.path("engine/docker.sock")),
        ("podman", "connect", site.path("runtime/podman/podman.sock")),
        ("bus", "connect", site.path("runtime/bus")),
        ("dbus", "connect", site.path("dbus")),
        ("a start file", "to write", site.path("home/.ssh/authorized_keys")),
        ("variables", "run", "printenv DOCKER_HOST DBUS_SESSION_BUS_ADDRESS".into()),
    ]);
    assert_eq!(others(&results, |_, result| result.is_null()), [""; 0]);
    let results = site.attempt(&[
        ("tmux", "connect", site.path(&format!("tmux/tmux-{uid}/default"))),
        ("systemd", "connect", site.path("runtime/systemd/private")),
        ("screen's variable", "run", "printenv SCREENDIR".into()),
        ("token", "read", site.path("data/token")),
    ]);
    assert_eq!(others(&results, |_, result| result.is_string()), [""; 0]);
}

/// An agent whose answer waits until a file exists.
const WAITS: &str = "sh -c 'cat >/dev/null; echo begun; until [ -e go ]; do sleep 0.02; done; ls /proc | grep -c ^[0-9]; echo over'";

fn outlives_the_gateway() {
    let text = |agent: &'static str| ["--agent-command", agent, "--dialect", "text", "--sandbox", "require"];
    let mut gateway = Gateway::start_with(|command| {
        command.args(text(WAITS));
    });
    let mut client = gateway.unix();
    let chat = client.new_chat();
    client.message(&chat, "turn-1", "go");
    client.wait_for("delta");
    gateway.signal(Signal::KILL);
    gateway.wait_for_exit();
    fs::write(gateway.path("work/go"), "").unwrap();
    let mut next = switchboard();
    next.args(["serve", "--listen", "127.0.0.1:0"]).args(text(WAITS));
    next.arg("--data-dir").arg(gateway.path("data")).arg("--unix").arg(gateway.path("data/socket"));
    let port = gateway.path("port.next");
    next.arg("--port-file").arg(&port).arg("--workspace").arg(gateway.path("work"));
    let mut next =
        next.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    eventually("the next gateway is ready", || port.exists());
    let mut client = gateway.unix();
    client.send(&json!({"type": "attach", "chat_id": chat}));
    // The end comes with the snapshot, or live after it.
    let mut log = String::new();
    while !log.contains("turn_end") {
        log += &client.next().expect("the turn ends").to_string();
    }
    assert!(log.contains("over") && log.contains("completed"), "{log}");
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(next.id().cast_signed()).unwrap(),
        Signal::INT,
    )
    .unwrap();
    assert!(wait_for_exit(&mut next).success());
}

/// For root, what may be opened there is also written: nothing is written here.
fn system() {
    for level in ["shield", "workspace"] {
        let mut site = Site::start(&["--sandbox", level]);
        let dirs = ["/proc/sys", "/sys/fs/cgroup", "/sys/kernel"];
        let results = site.attempt(&dirs.map(|dir| (dir, "writable", dir.to_owned())));
        // Every process may open this file.
        let for_all = "/proc/sys/kernel/ns_last_pid";
        let open = |result: &Value| result.as_array().unwrap().iter().any(|path| path != for_all);
        assert_eq!(others(&results, |_, result| !open(result)), [""; 0], "{level}");
    }
}

fn nested() {
    let mut site = Site::start(&[]);
    // As Claude Code's own sandbox starts it.
    let inner = "bwrap --new-session --die-with-parent --unshare-net --unshare-pid --ro-bind / / --dev /dev --proc /proc";
    let pid = site.gateway.pid();
    let results = site.attempt(&[
        ("inner", "run", format!("{inner} -- true")),
        ("inner with a user namespace", "run", format!("{inner} --unshare-user -- true")),
        // Root's sandbox has another `/proc`, for sandboxes within, which cannot be reached.
        ("memory", "open", format!("/run/.proc/{pid}/mem")),
        ("memory in it", "open", format!("/run/.proc/proc/{pid}/mem")),
        ("its settings", "to write", "/run/.proc/proc/sys/kernel/core_pattern".into()),
        ("its cover", "run", "umount /run/.proc".into()),
        ("its cover, from within", "run", "unshare -Urm umount /run/.proc".into()),
        // What can be unmounted, and what can be mounted elsewhere.
        ("umount", "run", format!("umount {}", site.path("real"))),
        ("remount", "run", format!("mount -o remount,bind,rw {}", site.path("home/.bashrc"))),
        ("again", "run", format!("unshare -Urm sh -c 'umount {}'", site.path("real"))),
        ("elsewhere", "run", format!("unshare -Urm mount --bind / {}", site.path("work"))),
    ]);
    let inner = |name: &std::ffi::OsStr| name.to_str().unwrap().starts_with("inner");
    assert_eq!(others(&results, |name, result| inner(name) == result.is_null()), [""; 0]);
}

fn all_of_it_ends() {
    let helper =
        "sh -c 'cat >/dev/null; setsid env -i sleep 987654 >/dev/null 2>&1 & echo begun; sleep 987653'";
    let gateway = Gateway::start_with(|command| {
        command.args(["--agent-command", helper, "--dialect", "text", "--sandbox", "require"]);
    });
    let mut client = gateway.unix();
    let chat = client.new_chat();
    client.message(&chat, "turn-1", "go");
    client.wait_for("delta");
    let mark = gateway.path("work");
    eventually("both run", || sleepers(&mark) == 2);
    client.send(&json!({"type": "cancel", "chat_id": chat, "turn_id": "turn-1"}));
    assert_eq!(client.wait_for("turn_end")["outcome"], "cancelled");
    eventually("nothing runs", || sleepers(&mark) == 0);
}

/// Processes that sleep in this directory.
fn sleepers(dir: &Path) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let here = entries.filter(|entry| fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == dir));
    here.filter(|entry| fs::read_to_string(entry.path().join("comm")).is_ok_and(|name| name == "sleep\n"))
        .count()
}

fn asked_to_go() {
    let orderly = "sh -c 'cat >/dev/null; trap \"echo left > left; exit 3\" TERM; echo begun; while :; do sleep 0.02; done'";
    let gateway = Gateway::start_with(|command| {
        command.args(["--agent-command", orderly, "--dialect", "text", "--sandbox", "require"]);
    });
    let mut client = gateway.unix();
    let chat = client.new_chat();
    client.message(&chat, "turn-1", "go");
    client.wait_for("delta");
    client.send(&json!({"type": "cancel", "chat_id": chat, "turn_id": "turn-1"}));
    assert_eq!(client.wait_for("turn_end")["outcome"], "cancelled");
    assert_eq!(fs::read(gateway.path("work/left")).unwrap(), b"left\n");
}

fn level_is_said() {
    for (arguments, level) in
        [(&[][..], "shield"), (&["--sandbox", "workspace"], "workspace"), (&["--sandbox", "off"], "off")]
    {
        let gateway = Gateway::start(arguments);
        assert!(gateway.announced.contains(&format!("Sandbox {level}")), "{}", gateway.announced);
        assert!(gateway.log().contains(&format!("sandbox=\"{level}\"")), "{}", gateway.log());
        let (good, said) = doctor(&gateway.path("other"), arguments, |_| ());
        assert!(
            good && said.contains(match level {
                "off" => "without a sandbox",
                level => level,
            }),
            "{said}"
        );
    }
}

pub(crate) fn doctor(
    data: &Path,
    arguments: &[&str],
    change: impl FnOnce(&mut std::process::Command),
) -> (bool, String) {
    let mut command = switchboard();
    command
        .args(["doctor", "--listen", "127.0.0.1:0", "--agent", "demo", "--data-dir"])
        .arg(data)
        .args(arguments);
    change(&mut command);
    let output = run(command, "");
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

fn without_bwrap() {
    let dir = tempfile::tempdir().unwrap();
    // The first one on `PATH` is used.
    let broken = dir.path().join("bwrap");
    fs::write(&broken, "#!/bin/sh\necho 'bwrap: this is why' >&2\nexit 1\n").unwrap();
    fs::set_permissions(&broken, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    for level in ["require", "shield", "workspace"] {
        let mut command = switchboard();
        command.args(["serve", "--listen", "127.0.0.1:0", "--agent", "demo", "--sandbox", level]);
        let output = run(command_with(command, &path, &dir.path().join("data")), "");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && said.contains("this is why") && said.contains("--sandbox off"),
            "{said}"
        );
        let (good, said) = doctor(&dir.path().join("data"), &["--sandbox", level], |command| {
            command.env("PATH", &path);
        });
        assert!(!good && said.contains("FAIL") && said.contains("this is why"), "{said}");
    }
    let gateway = Gateway::start_with(|command| {
        command.args(ECHO_AGENT).env("PATH", &path);
    });
    assert!(gateway.announced.contains("Sandbox off") && gateway.announced.contains("this is why"));
    let warned = gateway.log();
    assert!(warned.lines().any(|line| line.contains("WARN") && line.contains("this is why")), "{warned}");
    let mut client = gateway.unix();
    let chat = client.new_chat();
    assert_eq!(answer(&mut client, &chat, "turn-1", "hello"), "hello");
    let (good, said) = doctor(&dir.path().join("data"), &[], |command| {
        command.env("PATH", &path);
    });
    assert!(good && said.contains("warn  Agents run without a sandbox: bwrap: this is why"), "{said}");
}

fn command_with(mut command: std::process::Command, path: &str, data: &Path) -> std::process::Command {
    command.env("PATH", path).arg("--data-dir").arg(data);
    command
}
