//! Starts a host, and connects to a host.

use std::{io, os::unix::net::UnixStream, process::Stdio, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use switchboard_core::{agent::AgentInstanceId, ids::ChatKey};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

use super::{
    ending::has_gone,
    starter::{HostStarter, chat_name},
};
use crate::{
    exec::{environment, process::Owned},
    host::{
        READY, SETUP_VERSION, Setup,
        directory::HostDirectory,
        protocol::{Frame, HostHello, Kind, OLDEST_VERSION, ToHost, VERSION},
        socket::{self, ReadHalf, WriteHalf},
    },
};

/// The environment variable that marks a host; its value is the mark of the host's agent.
const HOST_MARK: &str = "SWITCHBOARD_HOST";
/// Delay between attempts to connect to a host that does not listen yet.
const LOOK: Duration = Duration::from_millis(5);
/// Longest answer to a hello, in bytes.
const HELLO_BYTES: usize = 4096;

/// A connection to a host that has answered the hello.
pub(super) struct Link {
    pub(super) read: ReadHalf,
    /// Bytes that were received after the answer to the hello.
    pub(super) buffer: BytesMut,
    pub(super) messages: mpsc::UnboundedSender<Bytes>,
    pub(super) writer: Owned<()>,
    /// The write half; the host reads the end of the connection when nobody has it any more.
    pub(super) connection: Arc<WriteHalf>,
    pub(super) hello: HostHello,
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum NoLink {
    /// No host is running.
    Dead,
    /// The host speaks this version of the protocol, which is unknown here, and was asked to kill its agent.
    Version(u32),
    Io(io::Error),
}

impl From<io::Error> for NoLink {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Starts a host and waits until it listens. `first` is the position of its first record.
///
/// # Errors
/// If the host cannot be started, exits, or does not listen in time.
pub(super) async fn start(agent: &HostStarter, instance: u64, chat: &ChatKey, first: u64) -> io::Result<()> {
    let config = agent.agent.config();
    let mark = agent.agent.mark();
    let setup = Setup {
        version: SETUP_VERSION,
        hosts: agent.hosts.clone(),
        run: instance,
        chat: chat_name(chat),
        first,
        mark: mark.clone(),
        command: config.command.clone(),
        framing: config.dialect.framing(),
        workspace: config.workspace.clone(),
        env: config.environment(&chat.chat),
        sandbox: config.sandbox.clone(),
        limits: config.limits.clone(),
    };
    let (program, arguments) = agent
        .host
        .split_first()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the host's command is empty"))?;
    environment::close_descriptors_on_exec();
    let directory = HostDirectory::new(&agent.hosts, AgentInstanceId(instance));
    let errors = match directory.errors() {
        // Without space on the disk, the host runs without a file for its standard error.
        Err(error) if error.kind() == io::ErrorKind::StorageFull => Stdio::null(),
        errors => Stdio::from(errors?),
    };
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir("/")
        .env_clear()
        .envs(environment::inherited())
        .env(HOST_MARK, mark)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()?;
    let (Some(mut stdin), Some(mut stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::Error::other("the host has no pipes"));
    };
    // Reaps the host if it exits while this gateway runs.
    tokio::spawn(async move { child.wait().await });
    let setup = serde_json::to_vec(&setup)?;
    let ready = async {
        stdin.write_all(&setup).await?;
        drop(stdin);
        let mut said = [0; READY.len()];
        stdout.read_exact(&mut said).await?;
        Ok::<_, io::Error>(said)
    };
    match timeout(config.limits.host.start, ready).await {
        Ok(Ok(said)) if said == READY.as_bytes() => Ok(()),
        Ok(Ok(_)) => Err(io::Error::other("the host did not begin")),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Connects to the running host of a directory, and asks for notes (in version 2: records) from position `from`. A host of an earlier version
/// that this gateway understands is greeted in that version; [`HostHello::version`] of the link says so.
pub(super) async fn connect(
    directory: &HostDirectory,
    from: u64,
    longest_wait: Duration,
) -> Result<Link, NoLink> {
    let deadline = Instant::now() + longest_wait;
    let socket = loop {
        match directory.connect() {
            Ok(socket) => break socket,
            Err(_) if !directory.is_live() => return Err(NoLink::Dead),
            Err(error) if Instant::now() >= deadline => return Err(error.into()),
            // The host was just started and does not listen yet.
            Err(_) => sleep(LOOK).await,
        }
    };
    let greeted = timeout(longest_wait, async {
        let greeted = greet(socket, VERSION, from).await?;
        match greeted.hello.version {
            earlier @ OLDEST_VERSION..VERSION => greet(directory.connect()?, earlier, from).await,
            _ => Ok(greeted),
        }
    });
    let Greeted { read, write, buffer, hello, version } = match greeted.await {
        Ok(Ok(greeted)) => greeted,
        Ok(Err(_)) if has_gone(directory).await => return Err(NoLink::Dead),
        Ok(Err(error)) => return Err(error.into()),
        Err(_) => return Err(NoLink::Io(io::ErrorKind::TimedOut.into())),
    };
    if hello.version != version {
        let _ = write.write_all(&ToHost::Kill.encode()).await;
        return Err(NoLink::Version(hello.version));
    }
    let (messages, mut queue) = mpsc::unbounded_channel::<Bytes>();
    let connection = Arc::new(write);
    let write = Arc::clone(&connection);
    let writer = Owned(tokio::spawn(async move {
        while let Some(message) = queue.recv().await {
            if write.write_all(&message).await.is_err() {
                break;
            }
        }
        // The task ends with the instance, not before.
        std::future::pending::<()>().await;
    }));
    Ok(Link { read, buffer, messages, writer, connection, hello })
}

/// A connection whose hello the host has answered.
struct Greeted {
    read: ReadHalf,
    write: WriteHalf,
    buffer: BytesMut,
    hello: HostHello,
    /// The version of the gateway's hello.
    version: u32,
}

async fn greet(socket: UnixStream, version: u32, from: u64) -> io::Result<Greeted> {
    socket::must_be_own(&socket)?;
    let (mut read, write) = socket::split(socket)?;
    write.write_all(&ToHost::Hello { version, from }.encode()).await?;
    let mut buffer = BytesMut::new();
    // Records may follow directly: only the answer is parsed here.
    loop {
        match Frame::next(&mut buffer, HELLO_BYTES) {
            Ok(Some(frame)) if frame.kind == Kind::Hello => {
                let hello = serde_json::from_slice(&frame.payload)?;
                return Ok(Greeted { read, write, buffer, hello, version });
            }
            Ok(None) => {}
            Ok(Some(_)) | Err(_) => return Err(io::ErrorKind::InvalidData.into()),
        }
        if read.read_buf(&mut buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
