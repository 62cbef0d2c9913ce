//! The token: created once, stored in a private file, and compared in constant time. The gateway has only its hash in
//! memory; buffers with the clear text are overwritten.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use rustix::fs::OFlags;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use switchboard_core::ids::Principal;
use zeroize::Zeroizing;

use crate::failure::{Failure, Result};

/// Bytes of entropy in a created token.
const ENTROPY: usize = 32;
/// Shortest token that is accepted from a file, in bytes: 128 bits in base64.
const SHORTEST: usize = 22;
/// Longest token that is accepted from a file, in bytes.
const LONGEST: usize = 1024;

/// Reads the token from the file at `path`, or creates the file with a new token if it does not exist.
///
/// # Errors
///
/// The file cannot be read or created, is no plain file, is open to others, or contains no token.
pub fn read_or_make(path: &Path) -> Result<SecretString> {
    match read(path) {
        Err(Unusable::Missing) => make(path),
        other => other.map_err(|why| why.explain(path)),
    }
}

/// Reads the token of a gateway, for a client.
///
/// # Errors
///
/// The file does not exist, cannot be read, is no plain file, is open to others, or contains no token.
pub fn read_existing(path: &Path) -> Result<SecretString> {
    read(path).map_err(|why| why.explain(path))
}

/// Why a token file cannot be used.
#[derive(Debug)]
enum Unusable {
    Missing,
    Unreadable(io::Error),
    NotAFile,
    OpenToOthers(u32),
    Malformed,
}

impl Unusable {
    fn explain(self, path: &Path) -> Failure {
        let path = path.display();
        match self {
            Self::Missing => Failure::new(
                format!("There is no token file at {path}."),
                "Start the gateway once, which makes it, or name another file with --token-file.",
            ),
            Self::Unreadable(error) => Failure::new(
                format!("The token file {path} cannot be read: {error}."),
                "Make it readable for this user, or name another file with --token-file.",
            ),
            Self::NotAFile => Failure::new(
                format!("The token file {path} is not a plain file."),
                "Name a plain file with --token-file; symbolic links are not followed.",
            ),
            Self::OpenToOthers(mode) => Failure::new(
                format!("The token file {path} can be read by others (mode {mode:03o})."),
                format!(
                    "Run `chmod 600 {path}`; if others may have read it, delete it so that a new one is made."
                ),
            ),
            Self::Malformed => Failure::new(
                format!("The token file {path} does not hold a token."),
                format!(
                    "Put {SHORTEST} to {LONGEST} letters, digits or -._~+/= on one line, or delete the file so that \
                     a new one is made."
                ),
            ),
        }
    }
}

fn read(path: &Path) -> Result<SecretString, Unusable> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC).bits().cast_signed();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = opened.map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            Unusable::Missing
        } else if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
            // The error of O_NOFOLLOW for a symbolic link.
            Unusable::NotAFile
        } else {
            Unusable::Unreadable(error)
        }
    })?;
    let metadata = file.metadata().map_err(Unusable::Unreadable)?;
    if !metadata.is_file() {
        return Err(Unusable::NotAFile);
    }
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Unusable::OpenToOthers(mode));
    }
    // The full capacity from the beginning: a growing buffer would leave copies of the token in memory.
    let mut text = Zeroizing::new(String::with_capacity(LONGEST + 64));
    file.take(LONGEST as u64 + 2).read_to_string(&mut text).map_err(|_| Unusable::Malformed)?;
    let token = text.trim_end_matches(['\r', '\n']);
    let valid = (SHORTEST..=LONGEST).contains(&token.len())
        && token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b));
    if valid { Ok(SecretString::from(token)) } else { Err(Unusable::Malformed) }
}

fn make(path: &Path) -> Result<SecretString> {
    let mut entropy = Zeroizing::new([0; ENTROPY]);
    let token = getrandom::fill(&mut *entropy).map_err(io::Error::from).and_then(|()| {
        let line = hex_line(&*entropy);
        // Written to a temporary file and then linked, so that the file is complete. Linking fails if the file exists.
        let draft = path.with_extension(format!("new-{}", std::process::id()));
        let _ = fs::remove_file(&draft);
        let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        let written = file.write_all(line.as_bytes()).and_then(|()| file.sync_all());
        let placed = written.and_then(|()| fs::hard_link(&draft, path));
        let _ = fs::remove_file(&draft);
        placed.map(|()| SecretString::from(line.trim_end()))
    });
    token.map_err(|error| {
        Failure::new(
            format!("The token file {} cannot be made: {error}.", path.display()),
            "Make its directory writable for this user, or name another file with --token-file.",
        )
    })
}

fn hex_line(bytes: &[u8]) -> Zeroizing<String> {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or_default();
    let mut line = Zeroizing::new(String::with_capacity(bytes.len() * 2 + 1));
    line.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
    line.push('\n');
    line
}

/// Verifies tokens against the token file. Reads the file again whenever it has changed, so that a replaced token is
/// refused from the next handshake on.
#[derive(Debug)]
pub struct Tokens {
    path: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    version: Option<Version>,
    hash: Option<[u8; 32]>,
}

/// The metadata by which a change of the file is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Tokens {
    /// A verifier for the token in the file at `path`.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), known: Mutex::new(Known { version: None, hash: None }) }
    }

    /// The principal of a token, or `None` if the token is wrong. The comparison takes the same time for all tokens.
    pub fn verify(&self, token: &str) -> Option<Principal> {
        let offered: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let good = self.current()?;
        bool::from(offered.ct_eq(&good)).then(Principal::owner)
    }

    fn current(&self) -> Option<[u8; 32]> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let version = fs::symlink_metadata(&self.path).ok().map(|metadata| Version {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        });
        if version != known.version || version.is_none() {
            let token = read(&self.path);
            if let Err(why) = &token {
                tracing::error!(?why, "the token file cannot be used; nobody can authenticate until it can");
            }
            let hash = token.ok().map(|token| Sha256::digest(token.expose_secret().as_bytes()).into());
            *known = Known { version, hash };
        }
        known.hash
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn the_first_run_makes_a_token_that_only_its_owner_can_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let made = read_or_make(&path).unwrap();
        assert_eq!(made.expose_secret().len(), 64, "256 bits in hexadecimal");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(read_or_make(&path).unwrap().expose_secret(), made.expose_secret());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn what_is_not_a_private_file_with_a_token_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let write = |text: &str, mode: u32| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            read_or_make(&path)
                .map(|token| token.expose_secret().to_owned())
                .map_err(|error| error.to_string())
        };
        let token = "0123456789abcdef0123456789abcdef";
        assert_eq!(write(&format!("{token}\n"), 0o600).as_deref(), Ok(token));
        assert!(write(token, 0o640).unwrap_err().contains("chmod 600"));
        for text in ["", "short", "0123456789abcdef 0123456789abcdef", "0123456789abcdef\n0123456789abcdef\n"]
        {
            assert!(write(text, 0o600).unwrap_err().contains("does not hold a token"), "{text:?}");
        }
        let target = dir.path().join("target");
        fs::rename(&path, &target).unwrap();
        symlink(&target, &path).unwrap();
        assert!(read_or_make(&path).unwrap_err().to_string().contains("not a plain file"));
        fs::remove_file(&target).unwrap();
        assert!(read_or_make(&path).is_err(), "a dangling link is not followed to make a file");
        assert!(!target.exists());
    }

    #[test]
    fn a_changed_file_counts_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let old = read_or_make(&path).unwrap();
        let tokens = Tokens::new(&path);
        assert_eq!(tokens.verify(old.expose_secret()), Some(Principal::owner()));
        assert_eq!(tokens.verify("wrong"), None);
        assert_eq!(tokens.verify(""), None);
        fs::remove_file(&path).unwrap();
        assert_eq!(tokens.verify(old.expose_secret()), None);
        let new = read_or_make(&path).unwrap();
        assert_eq!(tokens.verify(old.expose_secret()), None);
        assert_eq!(tokens.verify(new.expose_secret()), Some(Principal::owner()));
    }
}
