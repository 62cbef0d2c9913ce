//! Who may connect, and what is left of connections that end.

use std::{
    fs, io::Read as _, os::unix::fs::PermissionsExt as _, os::unix::net::UnixStream as StdUnixStream, thread,
};

use rustix::{
    process::{Uid, geteuid},
    thread::set_thread_res_uid,
};
use switchboard_conformance::WAIT;
use switchboard_transport_unix::Options;
use tokio::{runtime::Handle, time::timeout};

use crate::site::{Raw, Site, generous};

/// The directory keeps other users out. Should somebody open it, the check of the peer still does.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_of_another_user_is_refused() {
    if !geteuid().is_root() {
        println!("not tested: only root can be another user");
        return;
    }
    let site = Site::new().await;
    let directory = site.path.parent().unwrap();
    for (path, mode) in [(directory.parent().unwrap(), 0o755), (directory, 0o755), (&site.path, 0o666)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let path = site.path.clone();
    let heard = thread::spawn(move || {
        // This thread only, and only to connect: the kernel notes who that was.
        let nobody = Uid::from_raw(65534);
        set_thread_res_uid(None, Some(nobody), None).unwrap();
        let mut socket = StdUnixStream::connect(path).unwrap();
        socket.set_read_timeout(Some(WAIT)).unwrap();
        let mut heard = Vec::new();
        // Closed, or reset.
        let _ = socket.read_to_end(&mut heard);
        heard
    });
    let heard = timeout(WAIT, tokio::task::spawn_blocking(move || heard.join().unwrap())).await;
    assert_eq!(heard.unwrap().unwrap(), b"", "it is told nothing");
    assert_eq!(site.world.gateway().counts().await.unwrap().connections, 0);
    Raw::open(&site.path).await.works().await;
}

#[tokio::test]
async fn a_stop_reaches_the_peers() {
    let mut site = Site::new().await;
    let mut raw = Raw::open(&site.path).await;
    site.world.gateway().shut_down();
    assert_eq!(raw.closed().await, 1012);
    site.world.finished().await.unwrap();
    // Who comes after the end is told the same.
    assert_eq!(Raw::connect(&site.path).await.closed().await, 1012);
}

#[tokio::test]
async fn who_is_one_too_many_waits_for_a_place() {
    let site = Site::with(generous(), Options { connections: 2, ..Options::default() }).await;
    let (first, mut second) = (Raw::open(&site.path).await, Raw::open(&site.path).await);
    let mut third = Raw::connect(&site.path).await;
    second.works().await;
    assert_eq!(site.world.gateway().counts().await.unwrap().connections, 2);
    drop(first);
    assert_eq!(third.event().await["event"], "ready");
}

#[tokio::test]
async fn many_connections_leave_nothing_behind() {
    let site = Site::new().await;
    let mut good = Raw::open(&site.path).await;
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for round in 0..200 {
        match round % 4 {
            0 => drop(Raw::connect(&site.path).await),
            1 => Raw::connect(&site.path).await.write(b"{\"type\":").await,
            2 => Raw::open(&site.path).await.line(r#"{"type":"attach","chat_id":"c1"}"#).await,
            _ => drop(Raw::open(&site.path).await),
        }
    }
    site.world.until(|counts| counts.connections == 1).await.unwrap();
    let ended = async {
        while tasks() > before {
            tokio::task::yield_now().await;
        }
    };
    timeout(WAIT, ended).await.expect("all tasks have ended");
    good.works().await;
}

/// Who speaks at once is heard, however busy the gateway is with others who come and go.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_first_line_and_the_last_are_never_lost() {
    let site = Site::new().await;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let path = site.path.clone();
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
    site.world.until(|counts| counts.connections == 0).await.unwrap();
}
