//! The rows of the table: the load of each row, and the ratio computed from it.

use std::{
    io,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use crate::{
    peer::{Kind, Peer, Seen},
    reference,
    server::{Durability, Server},
    stats::{Samples, ratio},
    table::{Bar, Row},
    token,
    wire::Wire,
};

/// A throughput row: several chats with several subscribers each, whose agents write as fast as they can.
pub(crate) struct Throughput {
    pub(crate) name: &'static str,
    pub(crate) wire: Wire,
    pub(crate) chats: usize,
    pub(crate) subscribers: usize,
    pub(crate) deltas: u64,
}

/// The least shares of the limit's rate: with deltas not merged, and merged.
pub(crate) type Bars = [f64; 2];

pub(crate) const THROUGHPUT: [(Throughput, Bars); 3] = [
    (
        Throughput {
            name: "one chat, 100 subscribers",
            wire: Wire::WebSocket,
            chats: 1,
            subscribers: 100,
            deltas: 20_000,
        },
        [0.4, 0.8],
    ),
    (
        Throughput {
            name: "one chat, 1000 subscribers",
            wire: Wire::WebSocket,
            chats: 1,
            subscribers: 1000,
            deltas: 3_000,
        },
        [0.3, 0.8],
    ),
    (
        Throughput {
            name: "50 chats, one subscriber each",
            wire: Wire::WebSocket,
            chats: 50,
            subscribers: 1,
            deltas: 10_000,
        },
        [0.6, 0.8],
    ),
];

/// A server with the subscribers of its chats, ready for rounds.
pub(crate) struct Stage {
    pub(crate) server: Server,
    pub(crate) chats: Vec<Vec<Peer>>,
}

impl Stage {
    pub(crate) async fn new(server: Server, chats: usize, subscribers: usize) -> io::Result<Self> {
        let mut stage = Self { server, chats: Vec::new() };
        for chat in 0..chats {
            let mut peers = Vec::with_capacity(subscribers);
            for number in 0..subscribers {
                let peer = subscribe(&stage.server, chat, number == 0).await?;
                peers.push(peer);
            }
            stage.chats.push(peers);
        }
        stage.server.place_hosts()?;
        Ok(stage)
    }

    /// Runs one answer in every chat at once. Returns the deltas per second, summed over all subscribers.
    pub(crate) async fn round(&mut self, deltas: u64) -> io::Result<f64> {
        let mut tasks = JoinSet::new();
        for (chat, peers) in std::mem::take(&mut self.chats).into_iter().enumerate() {
            for (number, mut peer) in peers.into_iter().enumerate() {
                let kind = self.server.kind;
                tasks.spawn(async move {
                    if number == 0 {
                        peer.send(&message(kind, chat, deltas, 0)).await?;
                    }
                    let seen = peer.answer(deltas, |_| ()).await?;
                    peer.end_of_turn().await?;
                    Ok::<_, io::Error>((chat, number, peer, seen))
                });
            }
        }
        let mut done = Vec::new();
        while let Some(one) = tasks.join_next().await {
            done.push(one??);
        }
        // The order is restored, because the limit accepts messages only from the first peer of a chat.
        done.sort_by_key(|(chat, number, ..)| (*chat, *number));
        let all: Vec<Seen> = done.iter().map(|(.., seen)| *seen).collect();
        for (chat, _, peer, _) in done {
            self.chats.resize_with(self.chats.len().max(chat + 1), Vec::new);
            self.chats[chat].push(peer);
        }
        rate(&all)
    }
}

/// Deltas per second, from the first delta that any subscriber received to the last.
#[expect(clippy::cast_precision_loss, reason = "counts of a bench are far below 2^52")]
fn rate(all: &[Seen]) -> io::Result<f64> {
    let first = all.iter().map(|seen| seen.first).min();
    let last = all.iter().map(|seen| seen.last).max();
    let (Some(first), Some(last)) = (first, last) else { return Err(io::Error::other("nobody saw a delta")) };
    let deltas: u64 = all.iter().map(|seen| seen.deltas).sum();
    Ok(deltas as f64 / last.duration_since(first).as_secs_f64().max(1e-6))
}

/// The message that requests `deltas` deltas from the agent, one every `pace_us` microseconds.
pub(crate) fn message(kind: Kind, chat: usize, deltas: u64, pace_us: u64) -> String {
    let text = format!("go {deltas} {pace_us}");
    match kind {
        Kind::Gateway(_) => {
            serde_json::json!({"type": "message", "chat_id": format!("bench-{chat}"), "content": text})
                .to_string()
        }
        Kind::Limit(_) | Kind::Relay => text,
        Kind::Websocketd => reference::user_message(&text).to_string(),
    }
}

/// Connects to a chat. The first peer of a gateway's chat creates the chat and warms its agent up.
pub(crate) async fn subscribe(server: &Server, chat: usize, first: bool) -> io::Result<Peer> {
    let mut peer = Peer::connect(server.kind, &server.at).await?;
    if let Kind::Gateway(_) = server.kind {
        if first {
            peer.send(&message(server.kind, chat, 1, 0)).await?;
            peer.answer(1, |_| ()).await?;
            peer.end_of_turn().await?;
        } else {
            let attach = serde_json::json!({"type": "attach", "chat_id": format!("bench-{chat}")});
            peer.send(&attach.to_string()).await?;
            peer.until("replay_end").await?;
        }
    }
    Ok(peer)
}

/// Measures a throughput row: the limit, and the gateway without and with merged deltas, in turn in each round.
pub(crate) async fn throughput(row: &Throughput, bars: Bars, rounds: usize) -> io::Result<Vec<Row>> {
    let servers = [
        Server::limit(row.wire, row.chats, row.subscribers).await?,
        Server::gateway(false, Durability::Nothing).await?.over(row.wire),
        Server::gateway(true, Durability::Nothing).await?.over(row.wire),
    ];
    let [limit, off, on] = rates(row, rounds, servers).await?;
    let line = |name: &str, rates: &Samples, bar: f64| Row {
        name: format!("{}, {name}: of the limit", row.name),
        ratio: ratio(rates, &limit),
        bar: Bar::AtLeast(bar),
        detail: format!("{} of {} deltas/s", short(rates.median()), short(limit.median())),
    };
    Ok(vec![line("merging off", &off, bars[0]), line("merging on", &on, bars[1])])
}

/// The rates of several servers, which are measured one after the other in each round.
pub(crate) async fn rates<const N: usize>(
    row: &Throughput,
    rounds: usize,
    servers: [Server; N],
) -> io::Result<[Samples; N]> {
    let mut stages = Vec::with_capacity(N);
    for server in servers {
        stages.push(Stage::new(server, row.chats, row.subscribers).await?);
    }
    let mut rates = [const { Samples::none() }; N];
    for _ in 0..rounds {
        for (stage, rates) in stages.iter_mut().zip(&mut rates) {
            rates.push(stage.round(row.deltas).await?);
        }
    }
    for stage in stages {
        drop(stage.chats);
        stage.server.stop().await?;
    }
    Ok(rates)
}

pub(crate) fn short(rate: f64) -> String {
    if rate >= 1e6 { format!("{:.2} M", rate / 1e6) } else { format!("{:.0} k", rate / 1e3) }
}

/// Starts the relay and a gateway, each with a peer whose agent is warm.
async fn with_relay(wire: Wire, durability: Durability) -> io::Result<[(Server, Peer); 2]> {
    let (relay, ours) = (Server::relay().await?, Server::gateway(true, durability).await?.over(wire));
    let peers = (subscribe(&relay, 0, true).await?, subscribe(&ours, 0, true).await?);
    Ok([(relay, peers.0), (ours, peers.1)])
}

/// The latency from the agent's write to the client's read, with a delta every 2 ms to one subscriber.
pub(crate) async fn paced(rounds: usize, durability: Durability, bar: f64) -> io::Result<Vec<Row>> {
    let mut pair = with_relay(Wire::WebSocket, durability).await?;
    let mut latencies = [Samples::default(), Samples::default()];
    for _ in 0..rounds {
        for ((server, peer), latencies) in pair.iter_mut().zip(&mut latencies) {
            let mut round = Samples::default();
            peer.send(&message(server.kind, 0, 500, 2000)).await?;
            peer.answer(500, |at| round.push(micros(token::now_ns().saturating_sub(at)))).await?;
            peer.end_of_turn().await?;
            latencies.push(round.median());
        }
    }
    stop(pair).await?;
    let [relay, ours] = latencies;
    Ok(vec![Row {
        name: format!("a delta every 2 ms, p50 from write to read{}: times the relay", durability.suffix()),
        ratio: ratio(&ours, &relay),
        bar: Bar::AtMost(bar),
        detail: format!("{:.0} µs, relay {:.0} µs", ours.median(), relay.median()),
    }])
}

/// The times from a short message to the first delta, of the relay and of a gateway, in microseconds. The two are
/// measured alternately, message by message, because a machine's speed changes within a second, and so that both are
/// equally warm. `each_round` runs after each round.
pub(crate) async fn first_deltas(
    rounds: usize,
    wire: Wire,
    durability: Durability,
    mut each_round: impl FnMut() -> io::Result<()>,
) -> io::Result<[Samples; 2]> {
    const MESSAGES: usize = 50;
    let mut pair = with_relay(wire, durability).await?;
    let mut latencies = [Samples::default(), Samples::default()];
    for _ in 0..rounds {
        let mut round = [Samples::default(), Samples::default()];
        for _ in 0..MESSAGES {
            for ((server, peer), round) in pair.iter_mut().zip(&mut round) {
                let sent = Instant::now();
                peer.send(&message(server.kind, 0, 1, 0)).await?;
                let seen = peer.answer(1, |_| ()).await?;
                round.push(seen.first.duration_since(sent).as_secs_f64() * 1e6);
                peer.end_of_turn().await?;
            }
        }
        for (latencies, round) in latencies.iter_mut().zip(&round) {
            latencies.push(round.median());
        }
        each_round()?;
    }
    stop(pair).await?;
    Ok(latencies)
}

/// The time from a short message to the first delta, relative to the relay.
pub(crate) async fn first_delta(rounds: usize, wire: Wire, bar: f64) -> io::Result<Vec<Row>> {
    let [relay, ours] = first_deltas(rounds, wire, Durability::Nothing, || Ok(())).await?;
    Ok(vec![Row {
        name: format!("{wire}: first delta after a short message, p50: times the relay"),
        ratio: ratio(&ours, &relay),
        bar: Bar::AtMost(bar),
        detail: format!("{:.0} µs, relay {:.0} µs", ours.median(), relay.median()),
    }])
}

#[expect(clippy::cast_precision_loss, reason = "latencies of a bench are far below 2^52 ns")]
pub(crate) fn micros(ns: u64) -> f64 {
    ns as f64 / 1000.0
}

async fn stop(pair: [(Server, Peer); 2]) -> io::Result<()> {
    for (server, peer) in pair {
        drop(peer);
        server.stop().await?;
    }
    Ok(())
}

/// The resident memory of idle connections.
#[expect(clippy::cast_precision_loss, reason = "bytes of a bench are far below 2^52")]
pub(crate) async fn idle(wire: Wire, connections: usize, bar: f64) -> io::Result<Vec<Row>> {
    let server = Server::gateway(true, Durability::Nothing).await?.over(wire);
    // The first connections are not counted, since they also allocate shared state.
    let mut peers = Vec::with_capacity(connections);
    for _ in 0..16 {
        peers.push(Peer::connect(server.kind, &server.at).await?);
    }
    let before = server.resident()?;
    for _ in 0..connections {
        peers.push(Peer::connect(server.kind, &server.at).await?);
    }
    let after = server.resident()?;
    drop(peers);
    server.stop().await?;
    let each = after.saturating_sub(before) as f64 / connections as f64 / 1024.0;
    Ok(vec![Row {
        name: format!("{wire}: {connections} idle connections: KiB of resident memory each"),
        ratio: Samples::one(each),
        bar: Bar::AtMost(bar),
        detail: format!("{:.0} MiB more in all", after.saturating_sub(before) as f64 / 1024.0 / 1024.0),
    }])
}

/// The rate of ten readers beside an eleventh subscriber that does not read, relative to the rate without it.
pub(crate) async fn stalled(rounds: usize) -> io::Result<Vec<Row>> {
    const DELTAS: u64 = 60_000;
    let mut with = Stage::new(Server::gateway(false, Durability::Nothing).await?, 1, 10).await?;
    let mut without = Stage::new(Server::gateway(false, Durability::Nothing).await?, 1, 10).await?;
    let (mut with_rate, mut without_rate) = (Samples::default(), Samples::default());
    let mut grown = 0;
    let mut resumed = true;
    for _ in 0..rounds {
        let mut sleeper = subscribe(&with.server, 0, false).await?;
        without_rate.push(without.round(DELTAS).await?);
        let before = with.server.resident()?;
        with_rate.push(with.round(DELTAS).await?);
        grown = grown.max(with.server.resident()?.saturating_sub(before));
        resumed &= too_slow_then_resumed(&with.server, &mut sleeper, DELTAS).await?;
    }
    let slow = slow_reader(&with.server, &mut with.chats[0]).await?;
    for stage in [with, without] {
        drop(stage.chats);
        stage.server.stop().await?;
    }
    let kept = DELTAS * 200;
    Ok(vec![
        Row {
            name: "11 subscribers, one stops reading: rate of the ten others, of that without it".into(),
            ratio: ratio(&with_rate, &without_rate),
            bar: Bar::AtLeast(0.9),
            detail: format!("{} MiB more held, of which the log itself about {}", grown >> 20, kept >> 20),
        },
        Row::yes("the one that stopped is closed with 4408 and resumes without a hole", resumed),
        Row::yes("one that reads slowly gets everything", slow),
    ])
}

/// Whether a peer that has not read for longer than the gateway allows was closed with 4408, and then receives the rest
/// after it resumes.
async fn too_slow_then_resumed(server: &Server, sleeper: &mut Peer, deltas: u64) -> io::Result<bool> {
    tokio::time::sleep(Duration::from_secs(13)).await;
    let mut cursor: Option<(String, u64)> = None;
    let closed = loop {
        match sleeper.next().await {
            Ok(frame) => cursor = cursor_of(&frame).or(cursor),
            Err(error) => break error.to_string(),
        }
    };
    let Some((epoch, seq)) = cursor else { return Ok(false) };
    let mut again = Peer::connect(server.kind, &server.at).await?;
    let after = serde_json::json!({"epoch": epoch, "seq": seq});
    let attach = serde_json::json!({"type": "attach", "chat_id": "bench-0", "after": after});
    again.send(&attach.to_string()).await?;
    let mut expected = seq + 1;
    while expected <= seq + deltas {
        let frame = again.next().await?;
        if frame.starts_with(br#"{"event":"replay_end""#) {
            break;
        }
        if let Some((_, seq)) = cursor_of(&frame) {
            if seq != expected {
                return Ok(false);
            }
            expected += 1;
        }
    }
    Ok(closed.contains("4408"))
}

/// The cursor after a chat event; `None` for other frames.
pub(crate) fn cursor_of(frame: &[u8]) -> Option<(String, u64)> {
    let value: serde_json::Value = serde_json::from_slice(frame).ok()?;
    let is_event = !matches!(value["event"].as_str(), Some("attached" | "snapshot" | "replay_end"));
    let seq = value["seq"].as_u64().filter(|_| is_event)?;
    Some((value["epoch"].as_str()?.to_owned(), seq))
}

async fn slow_reader(server: &Server, peers: &mut [Peer]) -> io::Result<bool> {
    const DELTAS: u64 = 30_000;
    let mut slow = subscribe(server, 0, false).await?;
    let Some(sender) = peers.first_mut() else { return Ok(false) };
    sender.send(&message(server.kind, 0, DELTAS, 0)).await?;
    let reading = async {
        let mut since_pause = 0_u32;
        let mut expected: Option<u64> = None;
        loop {
            let frame = slow.next().await?;
            if frame.starts_with(br#"{"event":"turn_end""#) {
                return Ok::<bool, io::Error>(true);
            }
            if let Some((_, seq)) = cursor_of(&frame) {
                if expected.is_some_and(|expected| expected != seq) {
                    return Ok(false);
                }
                expected = Some(seq + 1);
            }
            since_pause += 1;
            if since_pause == 200 {
                since_pause = 0;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    };
    let (others, slow) = tokio::join!(read_all(peers, DELTAS), reading);
    others?;
    slow
}

async fn read_all(peers: &mut [Peer], deltas: u64) -> io::Result<()> {
    for peer in peers {
        peer.answer(deltas, |_| ()).await?;
        peer.end_of_turn().await?;
    }
    Ok(())
}
