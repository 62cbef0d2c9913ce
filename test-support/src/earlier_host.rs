//! A host of version 2 of the protocol of hosts, as far as a gateway sees it.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read as _, Write as _},
    os::unix::{
        fs::DirBuilderExt as _,
        net::{UnixListener, UnixStream},
    },
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
};

use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

const VERSION: u32 = 2;

/// Kinds of messages from a gateway.
const HELLO: u8 = 1;
const COMMAND: u8 = 2;
const STOP: u8 = 5;
const KILL: u8 = 6;
const SHUTDOWN_ACK: u8 = 7;

/// Kinds of frames to a gateway.
const OUTPUT: u8 = 2;
const NOTED: u8 = 3;
const EXITED: u8 = 5;
const ENDED: u8 = 8;

/// What a simulated agent writes when its host gets a command: a function of the command's head and its bytes.
pub type Agent = fn(&Value, &str) -> Option<String>;

/// A host of the version before the present one, without a process. It runs until a gateway ends it, or until this is
/// dropped.
#[derive(Debug)]
pub struct EarlierHost(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    agent: Agent,
}

#[derive(Debug, Default)]
struct State {
    /// The lock of the host's directory, while the host runs.
    lock: Option<File>,
    /// All records: their position, counted from 1, and the frame.
    records: Vec<(u64, Vec<u8>)>,
    /// The position of the next record.
    next: u64,
    ended: bool,
    kinds: Vec<u8>,
}

impl EarlierHost {
    /// Puts a host into a directory, in which none runs.
    pub fn new(dir: &Path, agent: Agent) -> Self {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).unwrap();
        let lock = File::create(dir.join("lock")).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        let _ = fs::remove_file(dir.join("socket"));
        let listener = UnixListener::bind(dir.join("socket")).unwrap();
        let state = State { lock: Some(lock), next: 1, ..State::default() };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), agent });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for gateway in listener.incoming() {
                let shared = Arc::clone(&accepting);
                // An error is the end of a connection.
                thread::spawn(move || shared.serve(gateway?));
            }
        });
        Self(shared)
    }

    /// Writes these lines as the agent.
    pub fn output(&self, lines: &str) {
        self.0.output(lines);
    }

    /// Notes a command without anybody sending it. `told` is its meaning.
    pub fn noted(&self, id: &str, told: &Value) {
        let head = json!({"id": id, "action": "write", "told": told});
        self.0.record(NOTED, 1, head.to_string().as_bytes());
    }

    /// The kinds of the messages that gateways have sent, in order.
    pub fn kinds(&self) -> Vec<u8> {
        self.0.state().kinds.clone()
    }

    /// Whether a gateway has ended it.
    pub fn has_ended(&self) -> bool {
        self.0.state().lock.is_none()
    }
}

impl Drop for EarlierHost {
    fn drop(&mut self) {
        self.0.state().lock = None;
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn output(&self, lines: &str) {
        self.record(OUTPUT, lines.lines().count(), lines.as_bytes());
    }

    fn record(&self, kind: u8, count: usize, payload: &[u8]) {
        let mut state = self.state();
        let position = state.next;
        state.records.push((position, frame(kind, position, count, payload)));
        state.next = position + count as u64;
        self.changed.notify_all();
    }

    fn serve(&self, mut gateway: UnixStream) -> io::Result<()> {
        let (kind, hello) = self.message(&mut gateway)?;
        assert_eq!(kind, HELLO, "a gateway begins with a hello");
        let version = u32::from_le_bytes(hello[..4].try_into().unwrap());
        let from = u64::from_le_bytes(hello[4..12].try_into().unwrap());
        if version != VERSION {
            gateway.write_all(&frame(HELLO, 0, 0, json!({"version": VERSION}).to_string().as_bytes()))?;
            return self.receive(gateway);
        }
        let hello = {
            let state = self.state();
            json!({"version": VERSION, "first": 1, "next": state.next, "lends": false})
        };
        gateway.write_all(&frame(HELLO, 0, 0, hello.to_string().as_bytes()))?;
        let messages = gateway.try_clone()?;
        thread::scope(|scope| {
            scope.spawn(|| self.receive(messages));
            self.send(gateway, from)
        })
    }

    /// Sends the records from a position on, as they come, and that the agent has ended.
    fn send(&self, mut gateway: UnixStream, from: u64) -> io::Result<()> {
        let mut sent = from;
        loop {
            let (records, ended) = {
                let state = self.state();
                let more = |state: &mut State| state.next <= sent && !state.ended;
                let state = self.changed.wait_while(state, more).unwrap();
                let wanted = state.records.iter().filter(|(position, _)| *position >= sent);
                (
                    wanted.map(|(_, frame)| frame.clone()).collect::<Vec<_>>(),
                    state.ended.then_some(state.next),
                )
            };
            sent = self.state().next.max(sent);
            for record in records {
                gateway.write_all(&record)?;
            }
            if ended == Some(sent) {
                return gateway.write_all(&frame(ENDED, 0, 0, b""));
            }
        }
    }

    fn receive(&self, mut gateway: UnixStream) -> io::Result<()> {
        loop {
            let (kind, body) = self.message(&mut gateway)?;
            match kind {
                COMMAND => {
                    let (length, rest) = body.split_at(4);
                    let length = u32::from_le_bytes(length.try_into().unwrap()) as usize;
                    let (head, bytes) = rest.split_at(length);
                    self.record(NOTED, 1, head);
                    let head = serde_json::from_slice(head).unwrap();
                    if let Some(lines) = (self.agent)(&head, std::str::from_utf8(bytes).unwrap()) {
                        self.output(&lines);
                    }
                }
                STOP | KILL => {
                    self.record(EXITED, 1, json!({"code": 0, "signal": null}).to_string().as_bytes());
                    self.state().ended = true;
                    self.changed.notify_all();
                }
                SHUTDOWN_ACK => {
                    self.state().lock = None;
                    return gateway.shutdown(std::net::Shutdown::Both);
                }
                _ => {}
            }
        }
    }

    fn message(&self, gateway: &mut UnixStream) -> io::Result<(u8, Vec<u8>)> {
        let mut length = [0; 4];
        gateway.read_exact(&mut length)?;
        let mut message = vec![0; u32::from_le_bytes(length) as usize];
        gateway.read_exact(&mut message)?;
        self.state().kinds.push(message[0]);
        Ok((message[0], message.split_off(1)))
    }
}

fn frame(kind: u8, position: u64, count: usize, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(13 + payload.len()).unwrap();
    let mut frame = length.to_le_bytes().to_vec();
    frame.push(kind);
    frame.extend(position.to_le_bytes());
    frame.extend(u32::try_from(count).unwrap().to_le_bytes());
    frame.extend(payload);
    frame
}
