//! Standard output and standard error that are full, closed or not read by anybody.

use std::{
    fs::File,
    io::{PipeReader, Write},
    process::{Child, Stdio},
    time::Instant,
};

use rustix::process::Signal;

use switchboard_test_support::{Client, ECHO_AGENT, Gateway, TIMEOUT, connect, switchboard, wait_for_exit};

/// The number of requests whose log lines exceed the buffer for log lines.
const MANY: usize = 600;
const FEW: usize = 10;

/// A client is served and `refused` requests are refused, and then the gateway stops as usual.
fn serves_and_stops(mut gateway: Gateway, refused: usize, signal: Signal) {
    let mut client = gateway.websocket();
    let chat = client.new_chat();
    // At the log level of these tests, each request logs several lines.
    for _ in 0..refused {
        assert_eq!(gateway.get("/healthz", &["Authorization: Bearer wrong"]).status() / 100, 4);
    }
    client.message(&chat, "turn-1", "hello");
    assert_eq!(client.wait_for("turn_end")["outcome"], "completed");
    assert_eq!(gateway.get("/healthz", &[&gateway.bearer()]).status(), 200);
    gateway.signal(signal);
    while client.next().is_some() {}
    assert_eq!(gateway.wait_for_exit().code(), Some(0));
}

fn start(stderr: impl Into<Stdio>) -> Gateway {
    Gateway::start_logging_to(
        |_| stderr.into(),
        |command| {
            command.args(ECHO_AGENT).args(["--log", "trace"]);
        },
    )
}

fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

fn closed() -> Stdio {
    std::io::pipe().unwrap().1.into()
}

/// A full pipe, and its other end, which the test does not read.
fn undrained() -> (PipeReader, Stdio) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let room = rustix::pipe::fcntl_getpipe_size(&writer).unwrap();
    writer.write_all(&vec![b'x'; room]).unwrap();
    (reader, writer.into())
}

#[test]
fn a_log_on_a_full_disk_ends_nothing() {
    serves_and_stops(start(full()), MANY, Signal::TERM);
    serves_and_stops(start(full()), FEW, Signal::INT);
}

#[test]
fn a_log_that_is_closed_ends_nothing() {
    serves_and_stops(start(closed()), MANY, Signal::TERM);
    serves_and_stops(start(closed()), FEW, Signal::INT);
}

#[test]
fn a_log_that_nobody_reads_holds_nothing_up() {
    for (refused, signal) in [(MANY, Signal::TERM), (FEW, Signal::INT)] {
        let (reader, stderr) = undrained();
        serves_and_stops(start(stderr), refused, signal);
        drop(reader);
    }
}

#[test]
fn a_log_that_is_read_no_more_holds_nothing_up() {
    let (reader, stderr) = std::io::pipe().unwrap();
    serves_and_stops(start(stderr), MANY, Signal::TERM);
    drop(reader);
}

#[test]
fn an_announcement_that_nobody_takes_holds_nothing_up() {
    let (reader, nobody_reads) = undrained();
    for stdout in [full().into(), closed(), nobody_reads] {
        let dir = tempfile::tempdir().unwrap();
        let port = dir.path().join("port");
        let mut command = switchboard();
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(ECHO_AGENT).arg("--port-file").arg(&port);
        command.arg("--data-dir").arg(dir.path().join("data"));
        let mut gateway = command.stdout(stdout).stderr(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        let address = loop {
            if let Ok(text) = std::fs::read_to_string(&port) {
                break text.trim().parse().unwrap();
            }
            assert!(begun.elapsed() < TIMEOUT && gateway.try_wait().unwrap().is_none());
            std::thread::sleep(std::time::Duration::from_millis(5));
        };
        // The gateway answers once it serves.
        let mut stream = connect(address);
        write!(stream, "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
        let answer = std::io::read_to_string(stream).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        terminate(&gateway);
        assert_eq!(wait_for_exit(&mut gateway).code(), Some(0));
    }
    drop(reader);
}

#[test]
fn a_start_that_fails_ends_though_nobody_reads_why() {
    let (reader, nobody_reads) = undrained();
    for stderr in [full().into(), closed(), nobody_reads] {
        let mut command = switchboard();
        command.args(["serve", "--data-dir", "/dev/null/data"]).stdout(Stdio::null()).stderr(stderr);
        assert_eq!(wait_for_exit(&mut command.spawn().unwrap()).code(), Some(1));
    }
    drop(reader);
}

fn terminate(child: &Child) {
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
}
