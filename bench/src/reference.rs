//! The references that the gateway is measured against: minimal programs without a protocol.
//!
//! `limit` reads the same agents, decodes the same dialect and writes one frame per delta to every socket. Frames from
//! one read of the agent's output leave with one write per socket. `relay` starts an agent for each client, and writes
//! each line of the agent to the client's socket as soon as it arrives. Both pass lines from a client to the agent as
//! messages. `handshakes` accepts WebSocket connections, and does nothing with them.

use std::{io, path::Path, process::Stdio};

use bytes::BytesMut;
use serde::Deserialize;
use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
        ReadHalf, WriteHalf, split,
    },
    net::{TcpListener, UnixListener},
    process::{ChildStdin, ChildStdout, Command},
};

use crate::wire::{Socket, Wire, put_frame};

/// Bytes to read from an agent at once.
const CHUNK: usize = 64 * 1024;

/// Starts the agent's command, which is split at spaces and not run by a shell.
fn start_agent(command: &str) -> io::Result<(ChildStdin, ChildStdout)> {
    let mut words = command.split_whitespace();
    let program = words.next().ok_or_else(|| io::Error::other("no agent command"))?;
    let mut child = Command::new(program).args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let ends = (child.stdin.take(), child.stdout.take());
    // The runtime reaps the agent; the agent's stdin is closed when this process ends.
    drop(child);
    match ends {
        (Some(stdin), Some(stdout)) => Ok((stdin, stdout)),
        _ => Err(io::Error::other("the agent has no pipes")),
    }
}

/// Passes a client's lines to the agent, as messages in the agent's dialect.
async fn pass_messages(reader: impl AsyncRead + Unpin, mut agent: ChildStdin) -> io::Result<()> {
    let mut lines = BufReader::new(reader).lines();
    while let Some(text) = lines.next_line().await? {
        agent.write_all(format!("{}\n", user_message(&text)).as_bytes()).await?;
    }
    Ok(())
}

/// A person's message in the agent's dialect.
pub(crate) fn user_message(text: &str) -> serde_json::Value {
    let content = serde_json::json!([{"type": "text", "text": text}]);
    serde_json::json!({"type": "user", "message": {"role": "user", "content": content}})
}

/// The listener for clients of one wire.
enum AnyListener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl AnyListener {
    async fn accept(&self) -> io::Result<(ReadHalf<Box<dyn Socket>>, WriteHalf<Box<dyn Socket>>)> {
        let socket: Box<dyn Socket> = match self {
            Self::Tcp(listener) => {
                let (socket, _) = listener.accept().await?;
                socket.set_nodelay(true)?;
                Box::new(socket)
            }
            Self::Unix(listener) => Box::new(listener.accept().await?.0),
        };
        Ok(split(socket))
    }
}

/// Runs the broadcaster: `chats` agents, each with `sockets` clients, the first of which sends the messages.
pub(crate) async fn limit(
    agent: &str,
    wire: Wire,
    unix: &Path,
    chats: usize,
    sockets: usize,
) -> io::Result<()> {
    // Bound before the addresses are announced.
    let listener = UnixListener::bind(unix)?;
    let door = match (wire, announce().await?) {
        (Wire::Unix, _) => AnyListener::Unix(listener),
        (Wire::WebSocket | Wire::Sse, listener) => AnyListener::Tcp(listener),
    };
    let mut tasks = Vec::new();
    for _ in 0..chats {
        let (stdin, stdout) = start_agent(agent)?;
        let (reader, writer) = door.accept().await?;
        let mut writers = vec![writer];
        let mut readers = Vec::new();
        while writers.len() < sockets {
            let (reader, writer) = door.accept().await?;
            readers.push(reader);
            writers.push(writer);
        }
        tasks.push(tokio::spawn(async move {
            let _readers = readers;
            tokio::select! {
                result = broadcast(wire, stdout, writers) => result,
                result = pass_messages(reader, stdin) => result,
            }
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}

/// The part of the dialect that identifies a delta, deserialized as the gateway does it.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    event: Option<Event<'a>>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    text: Option<&'a str>,
}

async fn broadcast(
    wire: Wire,
    mut agent: ChildStdout,
    mut writers: Vec<impl AsyncWrite + Unpin>,
) -> io::Result<()> {
    let mut input = BytesMut::with_capacity(2 * CHUNK);
    let mut frames = Vec::new();
    loop {
        input.reserve(CHUNK);
        if agent.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        frames.clear();
        while let Some(end) = memchr::memchr(b'\n', &input) {
            let line = input.split_to(end + 1);
            let delta =
                serde_json::from_slice::<Line<'_>>(&line).ok().and_then(|line| line.event?.delta?.text);
            if let Some(text) = delta {
                let json = format!(r#"{{"event":"delta","text":"{text}"}}"#);
                put_frame(wire, &mut frames, json.as_bytes());
            } else if memchr::memmem::find(&line, b"\"result\"").is_some() {
                put_frame(wire, &mut frames, br#"{"event":"turn_end"}"#);
            }
        }
        if !frames.is_empty() {
            for writer in &mut writers {
                writer.write_all(&frames).await?;
            }
        }
    }
}

/// Runs the relay: an agent for each client, and each line of the agent is written to the client's socket as soon as it
/// arrives.
pub(crate) async fn relay(agent: &str) -> io::Result<()> {
    let listener = AnyListener::Tcp(announce().await?);
    loop {
        let (reader, writer) = listener.accept().await?;
        let (stdin, stdout) = start_agent(agent)?;
        tokio::spawn(async move {
            tokio::select! {
                result = forward(stdout, writer) => result,
                result = pass_messages(reader, stdin) => result,
            }
        });
    }
}

async fn forward(agent: ChildStdout, mut client: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut agent = BufReader::new(agent);
    let mut line = Vec::new();
    while agent.read_until(b'\n', &mut line).await? > 0 {
        client.write_all(&line).await?;
        line.clear();
    }
    Ok(())
}

/// Runs a server of bare WebSocket handshakes, which reads nothing from its clients afterwards.
pub(crate) async fn handshakes() -> io::Result<()> {
    let listener = announce().await?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        tokio::spawn(async move {
            let Ok(mut client) = tokio_tungstenite::accept_async(socket).await else { return };
            // Until the client leaves.
            let _ = client.get_mut().read_u8().await;
        });
    }
}

/// Binds a TCP listener and prints its address for the bench.
#[expect(clippy::print_stdout, reason = "the bench reads the address from here")]
async fn announce() -> io::Result<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    Ok(listener)
}
