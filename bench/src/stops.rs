//! How long it takes to end many idle agents at once. The agents exit as soon as their standard input is closed.

use std::{io, time::Instant};

use tokio::task::JoinSet;

use crate::{
    durable::all,
    peer::{Kind, Peer},
    rows::{message, subscribe},
    server::{Durability, Server},
    stats::Samples,
    table::{Bar, Row},
    wire::Wire,
};

/// Peers wait for a long time without reading, and would miss the pings of other wires.
const WIRE: Wire = Wire::Unix;

/// The seconds until as many chats as there may be agents are answered, while all agents belong to other chats: each
/// idle agent is ended to make room for a new one.
pub(crate) async fn replaced(rounds: usize) -> io::Result<Vec<Row>> {
    const AGENTS: usize = 32;
    let mut took = Samples::none();
    let server = Server::on_all_cores(AGENTS, Durability::Everything).await?.over(WIRE);
    // Two groups of chats take turns: in each round, the agents belong to the other group.
    let mut groups = [idle(&server, 0..AGENTS).await?, idle(&server, AGENTS..2 * AGENTS).await?];
    for round in 0..rounds {
        let began = Instant::now();
        let mut tasks = JoinSet::new();
        let group = round % 2;
        for (number, mut peer) in groups[group].drain(..).enumerate() {
            tasks.spawn(async move {
                let chat = group * AGENTS + number;
                peer.send(&message(Kind::Gateway(WIRE), chat, 1, 0)).await?;
                peer.answer(1, |_| ()).await?;
                peer.end_of_turn().await?;
                Ok((number, peer))
            });
        }
        let mut done = all(tasks).await?;
        took.push(began.elapsed().as_secs_f64());
        done.sort_by_key(|(number, _)| *number);
        groups[group] = done.into_iter().map(|(_, peer)| peer).collect();
    }
    drop(groups);
    server.stop().await?;
    Ok(vec![Row {
        name: format!("{AGENTS} idle agents replaced by {AGENTS} others: seconds until all have answered"),
        ratio: took,
        bar: Bar::AtMost(0.3),
        detail: String::new(),
    }])
}

/// The seconds from a SIGINT to the exit of a gateway with `agents` idle agents: with hosts, and without.
pub(crate) async fn stopped(agents: usize, rounds: usize) -> io::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for durability in [Durability::Everything, Durability::Nothing] {
        let (mut took, mut in_order) = (Samples::none(), true);
        for _ in 0..rounds {
            let server = Server::on_all_cores(agents, durability).await?.over(WIRE);
            let peers = idle(&server, 0..agents).await?;
            let (time, orderly) = server.interrupt().await?;
            took.push(time.as_secs_f64());
            in_order &= orderly;
            drop(peers);
        }
        rows.push(Row {
            name: format!("{agents} idle agents stopped{}: seconds until the exit", durability.suffix()),
            ratio: took,
            bar: Bar::AtMost(if agents <= 32 { 0.5 } else { 3.0 }),
            detail: if in_order { "in order" } else { "by force" }.into(),
        });
    }
    Ok(rows)
}

/// Connects a peer to each of these chats. Each chat has an agent that has answered once, unless a later chat took it.
async fn idle(server: &Server, chats: std::ops::Range<usize>) -> io::Result<Vec<Peer>> {
    let mut peers = Vec::new();
    for chat in chats {
        peers.push(subscribe(server, chat, true).await?);
    }
    Ok(peers)
}
