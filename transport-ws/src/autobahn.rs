//! Runs Autobahn's fuzzing client against this crate's handshake, reading and closing. Autobahn expects an echo of
//! its messages, so an echo loop replaces the gateway; the limits are the ones that its cases need.
//!
//! Runs if `SWITCHBOARD_TEST_AUTOBAHN` names Autobahn's program: `cargo xtask test --only autobahn`.
#![allow(clippy::print_stdout, reason = "what was tested is said")]

use std::{
    convert::Infallible, env, io, io::Write as _, path::Path, process::Stdio, sync::Arc, time::Duration,
};

use axum::{body::Body, http::Request, response::Response};
use bytes::Bytes;
use futures::StreamExt as _;
use hyper::{body::Incoming, server::conn::http1, service::service_fn, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use switchboard_core::{Limits, ids::Principal};
use switchboard_runtime::Admission;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    process::Command,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

use crate::{
    Options,
    handshake::check,
    read::{ReadSide, Shared},
    session::{Ending, close, config, ending_of},
    write::{close_frame, put_header},
};

/// Cases in which the answer is correct but later than Autobahn prefers: a text frame that is not UTF-8 is refused
/// when it is complete, not at its first wrong byte (RFC 6455 section 8.1 does not say when).
const NON_STRICT: [&str; 2] = ["6.4.3", "6.4.4"];

/// All cases but those on compression, which is not negotiated (12 and 13). There is no group 8 or 11.
const CASES: [&str; 9] = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*"];

/// Group 9 has messages of 16 MiB, and one of 4 MiB in pieces of 64 bytes.
const MESSAGE_BYTES: usize = 16 << 20;
const FRAGMENTS: u32 = 1 << 17;

/// Limits the run if Autobahn hangs.
const LONGEST: Duration = Duration::from_secs(600);

#[tokio::test]
async fn autobahn_finds_nothing() {
    let Some(program) = env::var_os("SWITCHBOARD_TEST_AUTOBAHN") else {
        // Written directly to the terminal, because the output of a passing test is hidden.
        let skipped =
            "SKIPPED: SWITCHBOARD_TEST_AUTOBAHN is not set; `cargo xtask test` installs Autobahn and sets it";
        writeln!(io::stderr(), "{skipped}").unwrap();
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let echoing = tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(socket));
        }
    });
    let spec = json!({
        "outdir": directory.path().join("reports"),
        "servers": [{ "agent": "switchboard", "url": format!("ws://{address}/") }],
        "cases": CASES,
    });
    let spec_file = directory.path().join("spec.json");
    std::fs::write(&spec_file, spec.to_string()).unwrap();
    let fuzzing = Command::new(program)
        .args(["--mode", "fuzzingclient", "--spec"])
        .arg(&spec_file)
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .status();
    assert!(timeout(LONGEST, fuzzing).await.expect("it ends").unwrap().success());
    echoing.abort();
    judge(&directory.path().join("reports/index.json"));
}

/// Checks that no case failed, and that only the expected cases are not strict.
fn judge(report: &Path) {
    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let results: &Map<String, Value> = report["switchboard"].as_object().unwrap();
    let (mut non_strict, mut failed) = (Vec::new(), Vec::new());
    for (case, result) in results {
        match (result["behavior"].as_str().unwrap(), result["behaviorClose"].as_str().unwrap()) {
            ("OK" | "INFORMATIONAL", "OK" | "INFORMATIONAL") => {}
            ("NON-STRICT", "OK" | "INFORMATIONAL") => non_strict.push(case.as_str()),
            _ => failed.push(format!("{case}: {result}")),
        }
    }
    println!("{} cases, not strict: {}", results.len(), non_strict.join(" "));
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert_eq!(results.len(), 301);
    non_strict.sort_unstable();
    assert_eq!(non_strict, NON_STRICT);
}

/// Serves one connection, from its request on.
async fn serve(socket: TcpStream) {
    socket.set_nodelay(true).unwrap();
    let service = service_fn(|mut request: Request<Incoming>| {
        let upgrade = hyper::upgrade::on(&mut request);
        let (head, _) = request.into_parts();
        let admission = Some(Admission::Verified(Principal::owner()));
        let response: Response = match check(&Request::from_parts(head, Body::empty()), admission) {
            Ok(accepted) => {
                tokio::spawn(echo(upgrade));
                accepted.response()
            }
            Err(refusal) => refusal.into_response(),
        };
        async move { Ok::<_, Infallible>(response) }
    });
    let served = http1::Builder::new().serve_connection(TokioIo::new(socket), service).with_upgrades();
    if let Err(error) = served.await {
        println!("no upgrade: {error}");
    }
}

/// Sends every message back.
async fn echo(upgrade: OnUpgrade) {
    let parts = upgrade.await.unwrap().downcast::<TokioIo<TcpStream>>().unwrap();
    let (reader, mut writer) = parts.io.into_inner().into_split();
    let shared = Arc::new(Shared::default());
    let mut side = ReadSide::new(reader, parts.read_buf, FRAGMENTS, u64::MAX, Arc::clone(&shared));
    side.lift_allowance();
    let limits = Limits { frame_bytes: MESSAGE_BYTES, ..Limits::default() };
    let mut socket = WebSocketStream::from_raw_socket(side, Role::Server, Some(config(&limits))).await;
    let ending = loop {
        let message = tokio::select! {
            biased;
            replies = shared.replies.take() => {
                if writer.write_all(&replies).await.is_err() {
                    break Ending::Gone;
                }
                continue;
            }
            message = socket.next() => message,
        };
        let sent = match message {
            Some(Ok(Message::Text(text))) => send(&mut writer, &shared, 0x81, text.as_bytes()).await,
            Some(Ok(Message::Binary(bytes))) => send(&mut writer, &shared, 0x82, &bytes).await,
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(()),
            Some(Ok(Message::Close(_))) => {
                let _ = socket.next().await;
                break Ending::Gone;
            }
            None => break Ending::Gone,
            Some(Err(error)) => break ending_of(&error),
        };
        if sent.is_err() {
            break Ending::Gone;
        }
    };
    let last: Bytes = match ending {
        Ending::Close(code, reason) => close_frame(code, &reason),
        Ending::Gone => shared.replies.try_take(),
        Ending::Unread => Bytes::new(),
    };
    close(&mut writer, &mut socket, last, &Options::default()).await;
}

/// Sends tungstenite's replies first, as a session does, then a frame.
async fn send<W: AsyncWrite + Unpin>(
    writer: &mut W,
    shared: &Shared,
    first: u8,
    payload: &[u8],
) -> io::Result<()> {
    let mut bytes = shared.replies.try_take().to_vec();
    put_header(&mut bytes, first, payload.len());
    bytes.extend_from_slice(payload);
    writer.write_all(&bytes).await
}
