//! Which paths a socket may have, its mode, and when an existing socket is replaced or removed.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileTypeExt as _, PermissionsExt as _, symlink},
        net::UnixListener as StdUnixListener,
    },
    path::{Path, PathBuf},
};

use switchboard_transport_unix::Listener;
use tempfile::TempDir;

/// Makes a directory with mode 0700 in a temporary directory.
fn private() -> (TempDir, PathBuf) {
    let outer = tempfile::tempdir().unwrap();
    let inner = outer.path().join("private");
    fs::create_dir(&inner).unwrap();
    set_mode(&inner, 0o700);
    (outer, inner)
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Returns the error of a bind at this path, which must fail.
fn refusal(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    let refused = Listener::bind(path).expect_err("it must be refused").to_string();
    assert!(refused.contains(&*path.display().to_string()), "{refused}");
    refused
}

#[tokio::test]
async fn directory_and_socket_are_their_owners_alone() {
    let outer = tempfile::tempdir().unwrap();
    let path = outer.path().join("made").join("socket");
    let listener = Listener::bind(&path).unwrap();
    assert_eq!(listener.path(), path);
    assert_eq!(mode(&outer.path().join("made")), 0o700);
    assert_eq!(mode(&path), 0o600);
    assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
}

/// If the mode were set after the bind, other users could connect in between.
#[tokio::test]
async fn the_socket_is_private_from_its_first_moment() {
    let (_outer, directory) = private();
    let path = directory.join("socket");
    let watched = path.clone();
    let watcher = std::thread::spawn(move || {
        let mut modes = Vec::new();
        while modes.len() < 200 {
            if let Ok(meta) = fs::symlink_metadata(&watched) {
                modes.push(meta.permissions().mode() & 0o777);
            }
        }
        modes
    });
    while !watcher.is_finished() {
        Listener::bind(&path).unwrap().remove();
        let kept = Listener::bind(&path).unwrap();
        std::thread::yield_now();
        kept.remove();
    }
    assert!(watcher.join().unwrap().iter().all(|mode| *mode == 0o600));
}

#[tokio::test]
async fn a_directory_that_is_open_to_others_is_refused() {
    let (_outer, directory) = private();
    for open in [0o701, 0o710, 0o750, 0o755, 0o777, 0o1777] {
        set_mode(&directory, open);
        assert!(refusal(directory.join("socket")).contains("open to other users"), "{open:o}");
        assert_eq!(mode(&directory), open, "it is not changed behind its owner's back");
    }
    set_mode(&directory, 0o700);
    Listener::bind(directory.join("socket")).unwrap();
}

#[tokio::test]
async fn paths_that_cannot_be_are_refused() {
    let (_outer, directory) = private();
    for relative in ["socket", "./socket", "../socket", ""] {
        assert!(refusal(relative).contains("not absolute"), "{relative}");
    }
    let nul = [directory.as_os_str().as_bytes(), b"/so\0cket"].concat();
    let refused = Listener::bind(OsStr::from_bytes(&nul)).unwrap_err().to_string();
    assert!(refused.contains("NUL"), "{refused}");
    assert!(refusal("/").contains("names no file"));
    let at = |length: usize| {
        let rest = length - directory.as_os_str().len() - 1;
        directory.join("s".repeat(rest))
    };
    assert!(refusal(at(108)).contains("107 bytes"));
    let longest = Listener::bind(at(107)).unwrap();
    assert_eq!(mode(longest.path()), 0o600);
    assert!(refusal(directory.join("not").join("there").join("socket")).contains("No such file"));
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let (_outer, directory) = private();
    let file = directory.join("file");
    fs::write(&file, "precious").unwrap();
    assert!(refusal(&file).contains("not a socket"));
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    let inner = directory.join("directory");
    fs::create_dir(&inner).unwrap();
    assert!(refusal(&inner).contains("not a socket"));
    assert!(refusal(file.join("socket")).contains("not a directory"));
}

#[tokio::test]
async fn no_symbolic_link_is_followed() {
    let (_outer, directory) = private();
    let (link, target) = (directory.join("link"), directory.join("target"));
    // A link to nothing, to a file, and to a socket without a server.
    symlink(&target, &link).unwrap();
    assert!(refusal(&link).contains("not a socket"));
    assert!(!target.exists());
    fs::write(&target, "precious").unwrap();
    assert!(refusal(&link).contains("not a socket"));
    fs::remove_file(&target).unwrap();
    drop(StdUnixListener::bind(&target).unwrap());
    assert!(refusal(&link).contains("not a socket"));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::symlink_metadata(&target).unwrap().file_type().is_socket());
}

#[tokio::test]
async fn a_socket_that_nobody_serves_is_taken_over_and_another_is_not() {
    let (_outer, directory) = private();
    let path = directory.join("socket");
    drop(StdUnixListener::bind(&path).unwrap());
    let first = Listener::bind(&path).unwrap();
    assert_eq!(mode(&path), 0o600);
    assert!(refusal(&path).contains("in use") || refusal(&path).contains("serve"), "{}", refusal(&path));
    // A socket without a server, as after a crash, is replaced.
    drop(first);
    Listener::bind(&path).unwrap().remove();
    assert!(!path.exists());
}

#[tokio::test]
async fn only_what_was_bound_is_removed() {
    let (_outer, directory) = private();
    let path = directory.join("socket");
    let ours = Listener::bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    ours.remove();
    let ours = Listener::bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let theirs = StdUnixListener::bind(&path).unwrap();
    ours.remove();
    assert!(path.exists());
    drop(theirs);
    let ours = Listener::bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    ours.remove();
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}
