//! What connections cost: idle ones, and new ones.

use std::{
    io,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tokio::{task::JoinSet, time::sleep};

use crate::{
    durable::all,
    peer::Peer,
    server::{Durability, Server},
    stats::{Samples, ratio},
    table::{Bar, Row},
    wire,
};

/// Clients that connect at once.
const AT_ONCE: u32 = 16;
/// Handshakes of each of these clients, one after the other.
const EACH: u32 = 250;
/// Handshakes of a round.
const HANDSHAKES: f64 = (AT_ONCE * EACH) as f64;

/// The CPU time and memory of many idle WebSocket connections, whose clients answer pings.
#[expect(clippy::cast_precision_loss, reason = "counts of a bench are far below 2^52")]
pub(crate) async fn idle() -> io::Result<Vec<Row>> {
    const CONNECTIONS: usize = 10_000;
    // The first connections are not counted, since they also allocate shared state.
    const FIRST: usize = 16;
    // The gateway pings every 20 s. All connections are made within less, so that two pings of each are measured.
    const AFTER_CONNECTING: Duration = Duration::from_secs(2);
    const MEASURED: Duration = Duration::from_secs(40);
    let server = Server::gateway(true, Durability::Everything).await?;
    let mut clients = JoinSet::new();
    let mut before = 0;
    for number in 0..FIRST + CONNECTIONS {
        if number == FIRST {
            before = server.resident()?;
        }
        let mut peer = Peer::connect(server.kind, &server.at).await?;
        clients.spawn(async move {
            loop {
                if let Err(error) = peer.next().await {
                    return error;
                }
            }
        });
    }
    sleep(AFTER_CONNECTING).await;
    let cpu = server.cpu_time()?;
    sleep(MEASURED).await;
    let cpu = server.cpu_time()?.since(&cpu);
    let grown = server.resident()?.saturating_sub(before) as f64;
    if let Some(ended) = clients.try_join_next() {
        return Err(ended?);
    }
    drop(clients);
    server.stop().await?;
    let name = format!("{CONNECTIONS} idle WebSocket connections{}", Durability::Everything.suffix());
    Ok(vec![
        Row {
            name: format!("{name}: µs of CPU a second each"),
            ratio: Samples::one(cpu.as_secs_f64() * 1e6 / MEASURED.as_secs_f64() / CONNECTIONS as f64),
            bar: Bar::AtMost(3.0),
            detail: format!("{:.1} % of a core", 100.0 * cpu.as_secs_f64() / MEASURED.as_secs_f64()),
        },
        Row {
            name: "the same: KiB of resident memory each".into(),
            ratio: Samples::one(grown / 1024.0 / CONNECTIONS as f64),
            bar: Bar::AtMost(6.0),
            detail: format!("{:.0} MiB more in all", grown / 1024.0 / 1024.0),
        },
    ])
}

/// WebSocket handshakes for each second of CPU time, relative to a server that does nothing else. The clients cannot
/// connect as fast as either server could accept, so that the time that passes says little.
pub(crate) async fn handshakes(rounds: usize) -> io::Result<Vec<Row>> {
    let servers = [Server::handshakes().await?, Server::gateway(true, Durability::Everything).await?];
    let mut rates = [Samples::none(), Samples::none()];
    let mut of_cpu = [Samples::none(), Samples::none()];
    for _ in 0..rounds {
        for ((server, rates), of_cpu) in servers.iter().zip(&mut rates).zip(&mut of_cpu) {
            let (took, cpu) = connect(server).await?;
            rates.push(HANDSHAKES / took.as_secs_f64());
            of_cpu.push(HANDSHAKES / cpu.as_secs_f64());
        }
    }
    for server in servers {
        server.stop().await?;
    }
    let ([bare, ours], [bare_rate, our_rate]) = (of_cpu, rates);
    Ok(vec![Row {
        name: format!(
            "WebSocket handshakes per second of CPU{}: of a bare tungstenite server",
            Durability::Everything.suffix()
        ),
        ratio: ratio(&ours, &bare),
        bar: Bar::AtLeast(0.8),
        detail: format!(
            "{:.0} µs each, bare {:.0} µs; the clients made {:.0} and {:.0} a second",
            1e6 / ours.median(),
            1e6 / bare.median(),
            our_rate.median(),
            bare_rate.median()
        ),
    }])
}

/// Makes [`HANDSHAKES`] connections, and leaves after each handshake. Returns the time that passed, and the server's CPU
/// time.
async fn connect(server: &Server) -> io::Result<(Duration, Duration)> {
    let address = server.at.tcp;
    let cpu = server.cpu_time()?;
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..AT_ONCE {
        tasks.spawn(async move {
            for _ in 0..EACH {
                let mut socket = wire::tcp(address).await?;
                wire::upgrade(&mut *socket, &mut BytesMut::new(), address).await?;
            }
            Ok(())
        });
    }
    all(tasks).await?;
    Ok((begun.elapsed(), server.cpu_time()?.since(&cpu)))
}
