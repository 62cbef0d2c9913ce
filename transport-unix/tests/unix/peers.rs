//! Which users may connect, and that no task or connection remains of clients that have disconnected.

use std::{
    fs,
    io::{self, Read as _, Write},
    os::unix::{fs::PermissionsExt as _, net::UnixStream as StdUnixStream},
    path::Path,
    sync::{Arc, Mutex},
    thread,
    time::Instant,
};

use rustix::{
    process::{Uid, geteuid},
    thread::set_thread_res_uid,
};
use switchboard_conformance::{WAIT, generous_limits};
use switchboard_core::ids::Principal;
use switchboard_runtime::Tally;
use switchboard_test_support::report_skipped;
use switchboard_transport_unix::{Listener, Options, serve};
use tokio::{runtime::Handle, time::timeout};

use crate::server::{Raw, Server};

/// Connects as another user this many times, waits for the end each time, and returns what was received. The mode of
/// the directory is opened to others first, so that only the check of the peer's user id is tested. Returns `None`
/// without root, which alone can change its user id.
async fn connect_as_another_user(path: &Path, times: usize) -> Option<Vec<u8>> {
    if !geteuid().is_root() {
        report_skipped("peers of another user at a Unix socket: this needs root");
        return None;
    }
    let directory = path.parent().unwrap();
    for (path, mode) in [(directory.parent().unwrap(), 0o755), (directory, 0o755), (path, 0o666)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let path = path.to_owned();
    let received = thread::spawn(move || {
        // Changes the user id of this thread only, which the kernel records at the connect.
        let nobody = Uid::from_raw(65534);
        set_thread_res_uid(None, Some(nobody), None).unwrap();
        let mut received = Vec::new();
        for _ in 0..times {
            let mut socket = StdUnixStream::connect(&path).unwrap();
            socket.set_read_timeout(Some(WAIT)).unwrap();
            // The end may be a reset.
            let _ = socket.read_to_end(&mut received);
        }
        received
    });
    let received = timeout(WAIT, tokio::task::spawn_blocking(move || received.join().unwrap())).await;
    Some(received.unwrap().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_of_another_user_is_refused() {
    let server = Server::new().await;
    let Some(received) = connect_as_another_user(&server.path, 1).await else { return };
    assert_eq!(received, b"", "it is told nothing");
    assert_eq!(server.gateway.handle().counts().await.unwrap().connections, 0);
    Raw::open(&server.path).await.works().await;
}

/// The kernel's user id of a peer admits it, and the options of the socket say as whom it acts: nothing that it sends.
#[tokio::test]
async fn a_peer_acts_as_the_principal_of_its_socket_and_sees_no_chat_of_another() {
    let server = Server::new().await;
    let directory = tempfile::tempdir().unwrap();
    let other = directory.path().join("private").join("socket");
    let listener = Listener::bind(&other).unwrap();
    let options = Options { principal: Principal::parse("another").unwrap(), ..Options::default() };
    let handle = server.gateway.handle().clone();
    let served = tokio::spawn(async move { serve(&listener, handle, options).await });
    let attach = r#"{"type":"attach","chat_id":"c1","principal":"owner","client_id":"owner"}"#;
    let mut owner = Raw::open(&server.path).await;
    owner.line(r#"{"type":"message","chat_id":"c1","turn_id":"t1","content":"mine"}"#).await;
    while owner.event().await["event"] != "message_accepted" {}
    let mut owner_again = Raw::open(&server.path).await;
    owner_again.line(attach).await;
    assert_eq!(owner_again.event().await["event"], "attached");
    let mut another = Raw::open(&other).await;
    another.line(attach).await;
    let refusal = another.event().await;
    assert_eq!((&refusal["event"], &refusal["code"]), (&"error".into(), &"unknown_chat".into()), "{refusal}");
    served.abort();
}

/// Collects the log lines of `tracing`.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_flood_of_refused_peers_is_a_few_lines_whose_counts_add_up() {
    const PEERS: usize = 400;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("private").join("socket");
    let listener = Listener::bind(&path).unwrap();
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let begun = Instant::now();
    tokio::select! {
        accepted = listener.accept() => panic!("{accepted:?} is let in"),
        refused = connect_as_another_user(&path, PEERS) => if refused.is_none() { return },
    }
    drop(listener);
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("a peer was refused")).collect();
    let count = |line: &&str| match line.split_once("count=") {
        Some((_, rest)) => rest.split(' ').next().unwrap().parse().unwrap(),
        None => 1,
    };
    assert_eq!(lines.iter().map(count).sum::<usize>(), PEERS, "{log}");
    assert!(lines.iter().all(|line| line.contains("uid=65534")), "{log}");
    let periods = begun.elapsed().as_secs() / Tally::<()>::PERIOD.as_secs();
    assert!(lines.len() as u64 <= 2 + periods, "{periods} periods: {log}");
}

#[tokio::test]
async fn a_stop_reaches_the_peers() {
    let mut server = Server::new().await;
    let mut raw = Raw::open(&server.path).await;
    server.gateway.handle().shut_down();
    assert_eq!(raw.closed().await, 1012);
    server.gateway.finished().await.unwrap();
    // A client that connects after the shutdown gets the same close code.
    assert_eq!(Raw::connect(&server.path).await.closed().await, 1012);
}

#[tokio::test]
async fn a_client_beyond_the_limit_waits_until_another_goes() {
    let server = Server::with(generous_limits(), Options { connections: 2, ..Options::default() }).await;
    let (first, mut second) = (Raw::open(&server.path).await, Raw::open(&server.path).await);
    let mut third = Raw::connect(&server.path).await;
    second.works().await;
    assert_eq!(server.gateway.handle().counts().await.unwrap().connections, 2);
    drop(first);
    assert_eq!(third.event().await["event"], "ready");
}

#[tokio::test]
async fn many_connections_leave_nothing_behind() {
    let server = Server::new().await;
    let mut good = Raw::open(&server.path).await;
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for round in 0..200 {
        match round % 4 {
            0 => drop(Raw::connect(&server.path).await),
            1 => Raw::connect(&server.path).await.write(b"{\"type\":").await,
            2 => Raw::open(&server.path).await.line(r#"{"type":"attach","chat_id":"c1"}"#).await,
            _ => drop(Raw::open(&server.path).await),
        }
    }
    server.gateway.until(|counts| counts.connections == 1).await.unwrap();
    let ended = async {
        while tasks() > before {
            tokio::task::yield_now().await;
        }
    };
    timeout(WAIT, ended).await.expect("all tasks have ended");
    good.works().await;
}

/// A line that is sent right after the connect is answered, however many other clients connect and disconnect.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_first_line_and_the_last_are_never_lost() {
    let server = Server::new().await;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let path = server.path.clone();
        clients.spawn(async move {
            for _ in 0..100 {
                let mut raw = Raw::connect(&path).await;
                raw.write(b"{\"type\":\"ping\",\"nonce\":\"first\"}\n{\"type\":\"ping\",\"nonce\":\"last\"}")
                    .await;
                tokio::io::AsyncWriteExt::shutdown(&mut raw.io).await.unwrap();
                assert_eq!(raw.event().await["event"], "ready");
                assert_eq!(raw.event().await["nonce"], "first");
                assert_eq!(raw.event().await["nonce"], "last");
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    server.gateway.until(|counts| counts.connections == 0).await.unwrap();
}
