//! The rows with the gateway's defaults: the journal on disk, agents below hosts, deltas merged.

use std::{
    io,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{task::JoinSet, time::timeout_at};

use crate::{
    bare, history,
    peer::{Kind, Peer},
    rows::{self, Throughput, message, short, subscribe},
    server::{Durability, Server, data_of},
    stats::{Samples, ratio},
    table::{Bar, Row},
    wire::Wire,
};

/// Throughput with the journal and hosts relative to throughput without them: once with the hosts on the gateway's
/// core, and once with the hosts on their agents' core.
pub(crate) async fn throughput(row: &Throughput, rounds: usize) -> io::Result<Vec<Row>> {
    let servers = [
        Server::gateway(true, Durability::Nothing).await?,
        Server::gateway(true, Durability::Everything).await?,
        Server::gateway(true, Durability::Everything).await?.with_hosts_apart(),
    ];
    let [memory, disk, apart] = rows::rates(row, rounds, servers).await?;
    let line = |hosts: &str, rates: &Samples| Row {
        name: format!("{}, merging on, journal and hosts on{hosts}: of the same without", row.name),
        ratio: ratio(rates, &memory),
        bar: Bar::AtLeast(0.8),
        detail: format!("{} of {} deltas/s", short(rates.median()), short(memory.median())),
    };
    Ok(vec![line("", &disk), line(" (hosts on their agents' core)", &apart)])
}

/// Throughput rows that are measured beside the limit, with their least shares of the limit's rate.
pub(crate) const UNPACED: [(Throughput, f64); 2] = [
    (
        Throughput {
            name: "50 chats unpaced",
            wire: Wire::WebSocket,
            chats: 50,
            subscribers: 1,
            deltas: 10_000,
        },
        0.8,
    ),
    (
        Throughput {
            name: "200 chats unpaced",
            wire: Wire::WebSocket,
            chats: 200,
            subscribers: 1,
            deltas: 2_500,
        },
        0.6,
    ),
];

/// Throughput with the journal and hosts, relative to the limit.
pub(crate) async fn of_limit(row: &Throughput, rounds: usize, bar: f64) -> io::Result<Vec<Row>> {
    let [limit, ours] = rows::rates(row, rounds, limit_and_gateway(row).await?).await?;
    Ok(vec![Row {
        name: format!("{}{}: of the limit", row.name, Durability::Everything.suffix()),
        ratio: ratio(&ours, &limit),
        bar: Bar::AtLeast(bar),
        detail: format!("{} of {} deltas/s", short(ours.median()), short(limit.median())),
    }])
}

/// One chat with one subscriber, whose agent writes as fast as it can, each time with a gateway that was just started.
pub(crate) async fn fresh_starts() -> io::Result<Vec<Row>> {
    const STARTS: usize = 9;
    const ROW: Throughput = Throughput {
        name: "one chat unpaced",
        wire: Wire::WebSocket,
        chats: 1,
        subscribers: 1,
        deltas: 300_000,
    };
    let (mut limit, mut ours) = (Samples::none(), Samples::none());
    for _ in 0..STARTS {
        let [of_limit, of_ours] = rows::rates(&ROW, 1, limit_and_gateway(&ROW).await?).await?;
        limit.append(of_limit);
        ours.append(of_ours);
    }
    let line = |name: &str, bar: Bar| Row {
        name: format!(
            "{}{}, {STARTS} fresh starts, {name}: of the limit",
            ROW.name,
            Durability::Everything.suffix()
        ),
        ratio: ratio(&ours, &limit),
        bar,
        detail: format!("{} of {} deltas/s", short(ours.median()), short(limit.median())),
    };
    Ok(vec![line("median", Bar::AtLeast(0.6)), line("each", Bar::EachAtLeast(0.4))])
}

async fn limit_and_gateway(row: &Throughput) -> io::Result<[Server; 2]> {
    Ok([
        Server::limit(row.wire, row.chats, row.subscribers).await?,
        Server::gateway(true, Durability::Everything).await?,
    ])
}

/// The time from a short message to the first delta. It includes two syncs: the message, and the command to the agent,
/// are on disk before the agent receives them.
pub(crate) async fn first_delta(rounds: usize) -> io::Result<Vec<Row>> {
    let directory = tempfile::tempdir()?;
    let mut syncs = Samples::none();
    // Measured between the messages, because the time of a sync changes from minute to minute.
    let sync = || bare::sync_us(directory.path()).map(|took| syncs.push(took));
    let [relay, ours] = rows::first_deltas(rounds, Wire::WebSocket, Durability::Everything, sync).await?;
    let allowed = 2.0 * relay.median() + 2.0 * syncs.median();
    Ok(vec![Row {
        name:
            "first delta after a short message, p50, journal and hosts on: of twice the relay and two syncs"
                .into(),
        ratio: ratio(&ours, &Samples::same(allowed, rounds)),
        bar: Bar::AtMost(1.0),
        detail: format!(
            "{:.0} µs, relay {:.0} µs, sync {:.0} µs",
            ours.median(),
            relay.median(),
            syncs.median()
        ),
    }])
}

/// Acknowledged messages per second, of many chats at once; each chat sends one message after the other.
pub(crate) async fn acknowledged(rounds: usize) -> io::Result<Vec<Row>> {
    const CHATS: usize = 50;
    const EACH: usize = 60;
    let directory = tempfile::tempdir()?;
    let server = Server::gateway_on(directory.path(), true, Durability::Everything).await?;
    let mut peers = Vec::new();
    for chat in 0..CHATS {
        peers.push(subscribe(&server, chat, true).await?);
    }
    let (mut ours, mut bare) = (Samples::none(), Samples::none());
    for _ in 0..rounds {
        bare.push(bare::commits_per_second(directory.path(), CHATS, EACH).await?);
        // A long turn runs first, so that the messages only queue behind it: only acknowledgements are measured.
        for (chat, peer) in peers.iter_mut().enumerate() {
            peer.send(&message(Kind::Gateway(Wire::WebSocket), chat, 1, 5_000_000)).await?;
            peer.until("message_accepted").await?;
        }
        let begun = Instant::now();
        let mut tasks = JoinSet::new();
        for (chat, mut peer) in peers.drain(..).enumerate() {
            tasks.spawn(async move {
                for _ in 0..EACH {
                    peer.send(&message(Kind::Gateway(Wire::WebSocket), chat, 1, 0)).await?;
                    peer.until("message_accepted").await?;
                }
                Ok::<_, io::Error>((chat, peer))
            });
        }
        let mut done = all(tasks).await?;
        #[expect(clippy::cast_precision_loss, reason = "counts of a bench are far below 2^52")]
        ours.push((CHATS * EACH) as f64 / begun.elapsed().as_secs_f64());
        done.sort_by_key(|(chat, _)| *chat);
        for (_, mut peer) in done {
            for _ in 0..=EACH {
                peer.end_of_turn().await?;
            }
            peers.push(peer);
        }
    }
    drop(peers);
    server.stop().await?;
    Ok(vec![Row {
        name: "acknowledged messages, 50 chats at once: of a bare loop on SQLite".into(),
        ratio: ratio(&ours, &bare),
        bar: Bar::AtLeast(0.7),
        detail: format!("{} of {} a second", short(ours.median()), short(bare.median())),
    }])
}

/// The rate of a replay of a long answer from the journal to one client.
pub(crate) async fn replay(rounds: usize) -> io::Result<Vec<Row>> {
    const DELTAS: u64 = 100_000;
    let directory = tempfile::tempdir()?;
    history::fill(&data_of(directory.path()), 1, DELTAS + 3).await?;
    let limit = Server::limit(Wire::WebSocket, 1, 1).await?;
    let mut listener = subscribe(&limit, 0, true).await?;
    let server = Server::gateway_on(directory.path(), true, Durability::Everything).await?;
    let (mut ours, mut bare) = (Samples::none(), Samples::none());
    for _ in 0..rounds {
        listener.send(&message(Kind::Limit(Wire::WebSocket), 0, DELTAS, 0)).await?;
        bare.push(listener.answer(DELTAS, |_| ()).await?.rate());
        listener.end_of_turn().await?;
        let mut peer = Peer::connect(Kind::Gateway(Wire::WebSocket), &server.at).await?;
        peer.send(&attach(0, Some((history::EPOCH, 0))).to_string()).await?;
        ours.push(peer.answer(DELTAS, |_| ()).await?.rate());
        peer.until("replay_end").await?;
    }
    drop(listener);
    limit.stop().await?;
    server.stop().await?;
    Ok(vec![Row {
        name: "replay of 100,000 events to one client: of the limit".into(),
        ratio: ratio(&ours, &bare),
        bar: Bar::AtLeast(0.5),
        detail: format!("{} of {} deltas/s", short(ours.median()), short(bare.median())),
    }])
}

/// The time and memory of a start with a long history, compared with a start on an empty directory.
pub(crate) async fn start(rounds: usize) -> io::Result<Vec<Row>> {
    let (empty, full) = (tempfile::tempdir()?, tempfile::tempdir()?);
    history::fill(&data_of(full.path()), 10_000, 100).await?;
    let (mut longer, mut larger) = (Samples::none(), Samples::none());
    for _ in 0..rounds {
        let (on_empty, small) = started(empty.path()).await?;
        let (on_full, large) = started(full.path()).await?;
        longer.push(on_full - on_empty);
        larger.push(large - small);
    }
    Ok(vec![
        Row {
            name: "start with 10,000 chats and 1,000,000 events: seconds more than with none".into(),
            detail: String::new(),
            ratio: longer,
            bar: Bar::AtMost(1.0),
        },
        Row {
            name: "the same: MiB more of resident memory, a page of chats listed".into(),
            detail: String::new(),
            ratio: larger,
            bar: Bar::AtMost(8.0),
        },
    ])
}

/// The time of a start with a very long history, until a client is served.
pub(crate) async fn long_start(rounds: usize) -> io::Result<Vec<Row>> {
    let data = history::prepared(100_000, 100).await?;
    let (mut ready, mut listed) = (Samples::none(), Samples::none());
    // The first start is not counted, because it may also migrate the journal.
    for round in 0..=rounds {
        let begun = Instant::now();
        let server = Server::gateway_with_data(&data).await?;
        let mut peer = Peer::connect(Kind::Gateway(Wire::WebSocket), &server.at).await?;
        let until_ready = begun.elapsed().as_secs_f64();
        peer.send(&json!({"type": "list_chats"}).to_string()).await?;
        peer.until("chats").await?;
        if round > 0 {
            ready.push(until_ready);
            listed.push(begun.elapsed().as_secs_f64());
        }
        drop(peer);
        server.stop().await?;
    }
    Ok(vec![Row {
        name: "start with 100,000 chats and 10,000,000 events: seconds until a client is ready".into(),
        ratio: ready,
        bar: Bar::AtMost(2.0),
        detail: format!("{:.2} s until the chats are listed", listed.median()),
    }])
}

/// The seconds from the start until a client has received the list of chats, and the MiB of resident memory then.
async fn started(directory: &Path) -> io::Result<(f64, f64)> {
    let begun = Instant::now();
    let server = Server::gateway_on(directory, true, Durability::Everything).await?;
    let mut peer = Peer::connect(Kind::Gateway(Wire::WebSocket), &server.at).await?;
    peer.send(&json!({"type": "list_chats"}).to_string()).await?;
    peer.until("chats").await?;
    let took = begun.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "bytes of a bench are far below 2^52")]
    let resident = server.resident()? as f64 / f64::from(1 << 20);
    drop(peer);
    server.stop().await?;
    Ok((took, resident))
}

/// The time until many clients have resumed after all their connections were cut during running answers.
pub(crate) async fn cut() -> io::Result<Vec<Row>> {
    const CHATS: usize = 10;
    const EACH: usize = 100;
    let server = Server::gateway(true, Durability::Everything).await?;
    let mut peers = Vec::new();
    for chat in 0..CHATS {
        for number in 0..EACH {
            peers.push((chat, number == 0, subscribe(&server, chat, number == 0).await?));
        }
    }
    // Answers of 15 s, cut after 3 s.
    for (chat, _, peer) in peers.iter_mut().filter(|(_, first, _)| *first) {
        peer.send(&message(Kind::Gateway(Wire::WebSocket), *chat, 300, 50_000)).await?;
    }
    let cut_at = Instant::now() + Duration::from_secs(3);
    let at = server.at.clone();
    let mut tasks = JoinSet::new();
    for (chat, _, mut peer) in peers {
        let at = at.clone();
        tasks.spawn(async move {
            let mut cursor = None;
            while let Ok(frame) = timeout_at(cut_at.into(), peer.next()).await {
                cursor = advance(cursor, &frame?)?;
            }
            drop(peer);
            let (epoch, seq) = cursor.ok_or_else(|| io::Error::other("nothing came before the cut"))?;
            let mut peer = Peer::connect(Kind::Gateway(Wire::WebSocket), &at).await?;
            peer.send(&attach(chat, Some((&epoch, seq))).to_string()).await?;
            let mut cursor = Some((epoch, seq));
            let mut back = None;
            loop {
                let frame = peer.next().await?;
                cursor = advance(cursor, &frame)?;
                if frame.starts_with(br#"{"event":"replay_end""#) {
                    back.get_or_insert_with(|| cut_at.elapsed().as_secs_f64());
                } else if frame.starts_with(br#"{"event":"turn_end""#) {
                    return back.ok_or_else(|| io::Error::other("the turn ended before the client was back"));
                }
            }
        });
    }
    let mut slowest: f64 = 0.0;
    for back in all(tasks).await? {
        slowest = slowest.max(back);
    }
    server.stop().await?;
    Ok(vec![Row {
        name: "1,000 clients cut at once, none refused, no hole: seconds until all are back".into(),
        ratio: Samples::one(slowest),
        bar: Bar::AtMost(10.0),
        detail: String::new(),
    }])
}

fn attach(chat: usize, after: Option<(&str, u64)>) -> Value {
    let after = after.map(|(epoch, seq)| json!({"epoch": epoch, "seq": seq}));
    json!({"type": "attach", "chat_id": format!("bench-{chat}"), "after": after})
}

/// The cursor after a frame; an error if events are missing between `cursor`, the cursor before, and the frame.
fn advance(cursor: Option<(String, u64)>, frame: &[u8]) -> io::Result<Option<(String, u64)>> {
    let Some((epoch, seq)) = rows::cursor_of(frame) else { return Ok(cursor) };
    let value: Value = serde_json::from_slice(frame)?;
    let first = value["first_seq"].as_u64().unwrap_or(seq);
    match &cursor {
        // The acknowledgement of a message counts as an event, too.
        Some((_, last)) if first != last + 1 => Err(io::Error::other(format!("{first} came after {last}"))),
        _ => Ok(Some((epoch, seq))),
    }
}

/// Waits for all tasks.
pub(crate) async fn all<T: 'static>(mut tasks: JoinSet<io::Result<T>>) -> io::Result<Vec<T>> {
    let mut done = Vec::new();
    while let Some(one) = tasks.join_next().await {
        done.push(one??);
    }
    Ok(done)
}
