//! `serve` and `doctor` agree about a data directory, whatever is wrong with it.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    io::{BufRead as _, BufReader, Read as _},
    os::unix::{
        fs::{PermissionsExt as _, chown, symlink},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, geteuid, kill_process};

use switchboard_test_support::{
    Client, ECHO_AGENT, Gateway, report_skipped, run, switchboard, wait_for_exit,
};

/// Root may access everything, so under root the programs run as this user.
const NOBODY: u32 = 65534;

/// The name of a case, a change of a data directory that was left in order, and whether a gateway starts on it then.
type Case = (&'static str, fn(&Path), bool);

const CASES: &[Case] = &[
    ("as it was left", |_| (), true),
    ("missing", |data| fs::remove_dir_all(data).unwrap(), true),
    ("empty", |data| anew(data, |data| fs::create_dir(data).unwrap()), true),
    ("empty and open to others", |data| anew(data, |data| make(data, 0o755)), true),
    ("a file in its place", |data| anew(data, |data| fs::write(data, "").unwrap()), false),
    (
        "a file in its parent's place",
        |data| {
            let parent = data.parent().unwrap();
            fs::remove_dir_all(parent).unwrap();
            fs::write(parent, "").unwrap();
        },
        false,
    ),
    ("unreadable", |data| set_mode(data, 0o000), false),
    ("read-only", |data| set_mode(data, 0o500), false),
    ("open to others", |data| set_mode(data, 0o755), false),
    ("somebody else's", |data| own(data, 1), false),
    (
        "a link",
        |data| {
            let real = data.with_file_name("real");
            fs::rename(data, &real).unwrap();
            symlink(real, data).unwrap();
        },
        true,
    ),
    ("a link to nowhere", |data| anew(data, |data| symlink("nowhere", data).unwrap()), false),
    ("a newer journal", |data| patch(&data.join("journal.db"), 60, &99_u32.to_be_bytes()), false),
    ("no journal", |data| fs::write(data.join("journal.db"), "a diary").unwrap(), false),
    ("a damaged journal", |data| patch(&data.join("journal.db"), 4096, &[0xaa; 4096]), false),
    (
        "a cut journal",
        |data| {
            let file = fs::File::options().write(true).open(data.join("journal.db")).unwrap();
            file.set_len(file.metadata().unwrap().len() / 2).unwrap();
        },
        false,
    ),
    ("an empty journal", |data| fs::write(data.join("journal.db"), "").unwrap(), false),
    ("a missing journal", |data| fs::remove_file(data.join("journal.db")).unwrap(), false),
    (
        "a journal whose count is missing",
        |data| fs::remove_file(data.join("journal.db.commits")).unwrap(),
        true,
    ),
    (
        "a journal whose count is damaged",
        |data| fs::write(data.join("journal.db.commits"), "?").unwrap(),
        false,
    ),
    ("a journal whose count is empty", |data| fs::write(data.join("journal.db.commits"), "").unwrap(), false),
    (
        "a log alone",
        |data| {
            fs::rename(data.join("journal.db"), data.join("journal.db-wal")).unwrap();
            fs::remove_file(data.join("journal.db.commits")).unwrap();
        },
        false,
    ),
    (
        "an empty journal alone",
        |data| {
            fs::write(data.join("journal.db"), "").unwrap();
            fs::remove_file(data.join("journal.db.commits")).unwrap();
        },
        false,
    ),
    (
        "a journal that is gone with its count",
        |data| {
            fs::remove_file(data.join("journal.db")).unwrap();
            fs::remove_file(data.join("journal.db.commits")).unwrap();
        },
        true,
    ),
    ("an unreadable journal", |data| set_mode(&data.join("journal.db"), 0o000), false),
    ("a read-only journal", |data| set_mode(&data.join("journal.db"), 0o400), false),
    ("an unreadable count", |data| set_mode(&data.join("journal.db.commits"), 0o000), false),
    ("a directory in the journal's place", |data| in_place_of(&data.join("journal.db")), false),
    ("a directory in the log's place", |data| make(&data.join("journal.db-wal"), 0o700), false),
    ("a directory in the journal's lock's place", |data| in_place_of(&data.join("journal.db.lock")), false),
    ("an unreadable lock of the journal", |data| set_mode(&data.join("journal.db.lock"), 0o000), false),
    ("a directory in the lock's place", |data| in_place_of(&data.join("lock")), false),
    (
        "a link in the lock's place",
        |data| {
            fs::remove_file(data.join("lock")).unwrap();
            symlink("elsewhere", data.join("lock")).unwrap();
        },
        false,
    ),
    ("an unreadable lock", |data| set_mode(&data.join("lock"), 0o000), false),
    ("hosts that are open to others", |data| set_mode(&data.join("hosts"), 0o755), false),
    ("hosts of somebody else", |data| own(&data.join("hosts"), 1), false),
    (
        "a file in the place of the hosts",
        |data| {
            fs::remove_dir_all(data.join("hosts")).unwrap();
            fs::write(data.join("hosts"), "").unwrap();
        },
        false,
    ),
    ("hosts that cannot be written", |data| set_mode(&data.join("hosts"), 0o500), false),
    ("a token that is open to others", |data| set_mode(&data.join("token"), 0o644), false),
    ("no token in its file", |data| fs::write(data.join("token"), "short").unwrap(), false),
    ("a directory in the token's place", |data| in_place_of(&data.join("token")), false),
];

fn anew(data: &Path, make: impl FnOnce(&Path)) {
    fs::remove_dir_all(data).unwrap();
    make(data);
}

fn make(dir: &Path, mode: u32) {
    fs::create_dir(dir).unwrap();
    set_mode(dir, mode);
}

fn in_place_of(file: &Path) {
    let _ = fs::remove_file(file);
    make(file, 0o700);
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Changes the owner. Only root can do that, so otherwise these cases are skipped.
fn own(path: &Path, user: u32) {
    chown(path, Some(user), Some(user)).unwrap();
}

fn patch(file: &Path, at: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt as _;
    fs::File::options().write(true).open(file).unwrap().write_all_at(bytes, at).unwrap();
}

/// Makes the user that runs the programs the owner of everything in a directory.
fn give(path: &Path) {
    if !geteuid().is_root() {
        return;
    }
    std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path()));
    }
}

fn command(verb: &str, dir: &Path) -> Command {
    let mut command = switchboard();
    command.args([verb, "--listen", "127.0.0.1:0", "--sandbox", "off"]).args(ECHO_AGENT);
    command.arg("--data-dir").arg(dir.join("in/data")).arg("--workspace").arg(dir.join("work"));
    command.env("HOME", dir.join("home"));
    if geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// Starts the gateway and stops it again. Returns the error if it does not start.
fn serve(dir: &Path) -> Result<(), String> {
    let mut serve: Child =
        command("serve", dir).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(serve.stdout.take().unwrap());
    let mut said = String::new();
    while !said.contains("Ctrl-C") && stdout.read_line(&mut said).unwrap() > 0 {}
    if said.contains("Ctrl-C") {
        let pid = Pid::from_raw(serve.id().cast_signed()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        assert!(wait_for_exit(&mut serve).success());
        return Ok(());
    }
    let mut why = String::new();
    serve.stderr.take().unwrap().read_to_string(&mut why).unwrap();
    assert!(!wait_for_exit(&mut serve).success());
    Err(why)
}

fn doctor(dir: &Path) -> Result<(), String> {
    let output = run(command("doctor", dir), "");
    let said = String::from_utf8(output.stdout).unwrap();
    if output.status.success() { Ok(()) } else { Err(said) }
}

/// A directory with the data of a gateway that was ended by this signal.
fn left(by: Signal) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["in", "work", "home"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    let mut gateway = Gateway::start(&[]);
    let mut client = gateway.unix();
    let chat = client.new_chat();
    client.message(&chat, "t1", "words");
    client.wait_for("turn_end");
    gateway.signal(by);
    gateway.wait_for_exit();
    fs::create_dir_all(gateway.path("data/hosts")).unwrap();
    set_mode(&gateway.path("data/hosts"), 0o700);
    let copied = Command::new("cp").arg("-a").arg(gateway.path("data")).arg(dir.path().join("in")).status();
    assert!(copied.unwrap().success());
    dir
}

fn files(data: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    let ours = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("journal.db");
    paths.filter(ours).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Compares `doctor` and `serve`. Returns the difference, if there is one.
fn agree(name: &str, dir: &Path, good: bool) -> Option<String> {
    let (doctor, serve) = (doctor(dir), serve(dir));
    let differ = |what: &str| Some(format!("{name}: {what}\n  doctor: {doctor:?}\n  serve: {serve:?}"));
    match (&doctor, &serve) {
        (Ok(()), Ok(())) if good => None,
        (Err(said), Err(why)) if !good => {
            let sentence = why.lines().find_map(|line| line.strip_prefix("switchboard: ")).unwrap_or(why);
            // About damage, `doctor` says more.
            let both_damaged = said.contains("The journal is damaged: ") && sentence.contains("is damaged (");
            if said.contains(sentence) || both_damaged { None } else { differ("other words") }
        }
        _ => differ(if doctor.is_ok() == serve.is_ok() { "not what is expected" } else { "they differ" }),
    }
}

#[test]
fn serve_and_doctor_say_the_same_of_a_data_directory() {
    let (mut differences, left) = (Vec::new(), left(Signal::INT));
    for (name, change, good) in CASES {
        if !geteuid().is_root() && name.contains("somebody else") {
            report_skipped(&format!("a data directory with {name}: only root can give something away"));
            continue;
        }
        let copy = tempfile::tempdir().unwrap();
        let dir = copy.path();
        let copied = Command::new("cp").arg("-a").arg(left.path().join(".")).arg(dir).status();
        assert!(copied.unwrap().success());
        set_mode(dir, 0o755);
        give(dir);
        let change = *change;
        change(&dir.join("in/data"));
        // Files that the change made get the right owner, except where a wrong owner is the case.
        if !name.contains("somebody else") {
            give(&dir.join("in"));
        }
        differences.extend(agree(name, dir, *good));
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn serve_and_doctor_say_the_same_after_a_kill_and_beside_another_gateway() {
    let killed = left(Signal::KILL);
    set_mode(killed.path(), 0o755);
    give(killed.path());
    let data = killed.path().join("in/data");
    fs::remove_file(data.join("journal.db-wal")).unwrap();
    fs::remove_file(data.join("journal.db-shm")).unwrap();
    let before = files(&data);
    assert_eq!(agree("a lost log", killed.path(), false), None);
    let after = files(&data);
    let changed = |(path, bytes): &(&PathBuf, &Vec<u8>)| before.get(*path) != Some(*bytes);
    assert_eq!(
        after.iter().filter(changed).map(|(path, _)| path).collect::<Vec<_>>(),
        Vec::<&PathBuf>::new()
    );
    assert_eq!(after.len(), before.len());

    let running = left(Signal::INT);
    set_mode(running.path(), 0o755);
    give(running.path());
    let mut first =
        command("serve", running.path()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdout = BufReader::new(first.stdout.take().unwrap());
    let mut said = String::new();
    while !said.contains("Ctrl-C") && stdout.read_line(&mut said).unwrap() > 0 {}
    let verdict = agree("in use", running.path(), false);
    kill_process(Pid::from_raw(first.id().cast_signed()).unwrap(), Signal::INT).unwrap();
    assert!(wait_for_exit(&mut first).success());
    assert_eq!(verdict, None);
}

#[test]
fn serve_and_doctor_say_the_same_of_a_full_disk() {
    let left = left(Signal::INT);
    let disk = left.path().join("in");
    let full = |command: &mut Command| command.arg(&disk).status().is_ok_and(|status| status.success());
    fs::rename(&disk, left.path().join("whole")).unwrap();
    fs::create_dir(&disk).unwrap();
    if !full(Command::new("mount").args(["-n", "-t", "tmpfs", "-o", "size=2m,mode=0755", "tmpfs"])) {
        return report_skipped("serve and doctor on a full disk: only root can mount one");
    }
    let copied = Command::new("cp").arg("-a").arg(left.path().join("whole/data")).arg(&disk).status();
    let filled = fs::write(disk.join("filler"), vec![1; 4 << 20]).is_err();
    set_mode(left.path(), 0o755);
    give(left.path());
    let verdict = agree("a full disk", left.path(), false);
    assert!(full(Command::new("umount").arg("--lazy")));
    assert!(copied.unwrap().success() && filled);
    assert_eq!(verdict, None);
}
