//! The clients in `docs/protocol.md`, and a relay that cuts their connections to the gateway.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::command::Task;
use crate::workspace::{Context as _, Result, find_program, root};

/// A client of `examples/clients`: its script, the program that runs it with its arguments, and the gateway's URL
/// without the address.
pub(crate) struct Client {
    pub(crate) script: &'static str,
    program: &'static str,
    args: &'static [&'static str],
    url: (&'static str, &'static str),
}

pub(crate) const CLIENTS: [Client; 2] = [
    // Node 22 and later need no flag.
    Client { script: "chat.mjs", program: "node", args: &["--experimental-websocket"], url: ("ws", "/ws") },
    Client { script: "chat.py", program: "python3", args: &[], url: ("http", "") },
];

impl Client {
    /// The command that sends `prompt` to the gateway at `address`, or the reason why the client cannot run.
    pub(crate) fn task(&self, address: &str, token: &str, prompt: &str) -> std::result::Result<Task, String> {
        let program = find_program(self.program).ok_or_else(|| format!("{} is not on PATH", self.program))?;
        let (scheme, path) = self.url;
        let script = root().join("examples/clients").join(self.script);
        let task = Task::new(program).args(self.args).arg(script).arg(format!("{scheme}://{address}{path}"));
        Ok(task.arg(token).arg(prompt))
    }
}

/// A connection is cut after this many bytes from the gateway: in the middle of the answer, and within an event.
const CUT_AFTER: usize = 5_000;

/// A TCP relay to the gateway that cuts connections.
pub(crate) struct Relay {
    listener: TcpListener,
    /// The address that clients connect to.
    pub(crate) address: String,
    /// How many connections are still to be cut.
    cuts: Arc<AtomicUsize>,
}

impl Relay {
    pub(crate) fn bind() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("opening a relay")?;
        let address = listener.local_addr().context("opening a relay")?.to_string();
        Ok(Self { listener, address, cuts: Arc::default() })
    }

    /// Relays connections to this address, until the process ends.
    pub(crate) fn forward_to(&self, gateway: &str) -> Result {
        let listener = self.listener.try_clone().context("sharing the relay's socket")?;
        let (gateway, cuts) = (gateway.to_owned(), Arc::clone(&self.cuts));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // Without the gateway, the client's connection is closed.
                if let Ok(server) = TcpStream::connect(&gateway) {
                    relay(client, server, &cuts);
                }
            }
        });
        Ok(())
    }

    /// Cuts this many of the connections that get long enough.
    pub(crate) fn cut(&self, connections: usize) {
        self.cuts.store(connections, Ordering::Relaxed);
    }

    /// How many connections are still to be cut.
    pub(crate) fn cuts_left(&self) -> usize {
        self.cuts.load(Ordering::Relaxed)
    }
}

fn relay(client: TcpStream, server: TcpStream, cuts: &Arc<AtomicUsize>) {
    let (Ok(client_again), Ok(server_again)) = (client.try_clone(), server.try_clone()) else { return };
    thread::spawn(move || copy(&client, &server, || false));
    let cuts = Arc::clone(cuts);
    let mut copied = 0;
    let is_cut = move || {
        copied += 1;
        copied == CUT_AFTER
            && cuts.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    };
    thread::spawn(move || copy(&server_again, &client_again, is_cut));
}

/// Copies bytes until one side closes, or until `is_cut`, which is asked after each byte. Then closes both.
fn copy(mut from: &TcpStream, mut to: &TcpStream, mut is_cut: impl FnMut() -> bool) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let cut = buffer[..length].iter().position(|_| is_cut());
        let end = cut.map_or(length, |last| last + 1);
        if to.write_all(&buffer[..end]).is_err() || cut.is_some() {
            break;
        }
    }
    for stream in [from, to] {
        // It may be closed already.
        let _ = stream.shutdown(Shutdown::Both);
    }
}
