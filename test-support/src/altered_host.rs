//! A host of another version: a proxy before a running host that alters what the host says about itself.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::Value;

/// Kinds of messages from a gateway.
const HELLO: u8 = 1;
const STOP: u8 = 5;
const KILL: u8 = 6;
/// The version of a gateway that no host serves.
const UNKNOWN_VERSION: u32 = u32::MAX;
/// Bytes in the head of a host's frame behind its kind.
const RECORD: usize = 12;

/// How a proxy changes the hello of its host.
pub type Alteration = fn(&mut Value);

/// A running host behind a proxy. As every host, it serves gateways that greet it in the version of its own hello, and
/// only lets itself be stopped by others.
#[derive(Debug)]
pub struct AlteredHost {
    kinds: Arc<Mutex<Vec<u8>>>,
}

impl AlteredHost {
    /// Puts a proxy before the running host of this directory. No gateway may be connected. The proxy runs until the
    /// test process ends.
    pub fn new(dir: &Path, alter: Alteration) -> Self {
        let (socket, behind) = (dir.join("socket"), dir.join("socket.behind"));
        fs::rename(&socket, &behind).unwrap();
        let mut host = greet(&behind, UNKNOWN_VERSION, u64::MAX).unwrap();
        let hello: Value = serde_json::from_slice(&frame(&mut host).unwrap()[1 + RECORD..]).unwrap();
        let present = u32::try_from(hello["version"].as_u64().unwrap()).unwrap();
        let listener = UnixListener::bind(socket).unwrap();
        let kinds = Arc::<Mutex<Vec<u8>>>::default();
        let proxy = Proxy { behind, present, alter, kinds: Arc::clone(&kinds) };
        thread::spawn(move || {
            for gateway in listener.incoming() {
                let proxy = proxy.clone();
                // An error is the end of a connection.
                thread::spawn(move || proxy.serve(gateway?));
            }
        });
        Self { kinds }
    }

    /// The kinds of the messages that gateways have sent, in order.
    pub fn kinds(&self) -> Vec<u8> {
        self.kinds.lock().unwrap().clone()
    }
}

#[derive(Clone)]
struct Proxy {
    /// The socket of the host.
    behind: PathBuf,
    /// The version of the host.
    present: u32,
    alter: Alteration,
    kinds: Arc<Mutex<Vec<u8>>>,
}

impl Proxy {
    fn serve(&self, mut gateway: UnixStream) -> io::Result<()> {
        let hello = self.message(&mut gateway)?;
        if hello[0] != HELLO {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let version = u32::from_le_bytes(hello[1..5].try_into().unwrap());
        let from = u64::from_le_bytes(hello[5..13].try_into().unwrap());
        let mut host = greet(&self.behind, self.present, from)?;
        let mut answer = frame(&mut host)?;
        let mut hello = serde_json::from_slice(&answer[1 + RECORD..])?;
        (self.alter)(&mut hello);
        answer.truncate(1 + RECORD);
        answer.extend(hello.to_string().into_bytes());
        write_frame(&mut gateway, &answer)?;
        if hello["version"] != version {
            return self.end_only(gateway, host);
        }
        let (mut from_host, mut to_gateway) = (host.try_clone()?, gateway.try_clone()?);
        thread::spawn(move || {
            let _ = io::copy(&mut from_host, &mut to_gateway);
            to_gateway.shutdown(Shutdown::Both)
        });
        while let Ok(message) = self.message(&mut gateway) {
            write_frame(&mut host, &message)?;
        }
        host.shutdown(Shutdown::Write)
    }

    /// Passes on nothing but the orders that end a host.
    fn end_only(&self, mut gateway: UnixStream, mut host: UnixStream) -> io::Result<()> {
        while let Ok(message) = self.message(&mut gateway) {
            if matches!(message[0], STOP | KILL) {
                write_frame(&mut host, &message)?;
            }
        }
        Ok(())
    }

    fn message(&self, gateway: &mut UnixStream) -> io::Result<Vec<u8>> {
        let message = frame(gateway)?;
        self.kinds.lock().unwrap().push(message[0]);
        Ok(message)
    }
}

/// Connects to a host and greets it.
fn greet(socket: &Path, version: u32, from: u64) -> io::Result<UnixStream> {
    let mut host = UnixStream::connect(socket)?;
    let mut hello = vec![HELLO];
    hello.extend(version.to_le_bytes());
    hello.extend(from.to_le_bytes());
    write_frame(&mut host, &hello)?;
    Ok(host)
}

/// The next frame without its length: the kind, and all that follows.
fn frame(peer: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    peer.read_exact(&mut length)?;
    let mut frame = vec![0; u32::from_le_bytes(length) as usize];
    peer.read_exact(&mut frame)?;
    Ok(frame)
}

fn write_frame(peer: &mut UnixStream, frame: &[u8]) -> io::Result<()> {
    let length = u32::try_from(frame.len()).unwrap().to_le_bytes();
    peer.write_all(&[&length[..], frame].concat())
}
