//! Many chats at the pace of real answers, with the journal and hosts: what a delta costs, and how late it is.

use std::{
    io, mem,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    durable::all,
    peer::{Kind, Peer},
    rows::{Stage, message, micros},
    server::{Durability, Server},
    stats::{Samples, difference, ratio},
    table::{Bar, Row},
    token,
};

/// Nothing is measured while the answers begin.
const WARM_UP: Duration = Duration::from_secs(1);
/// Reading the CPU time of all threads keeps the clients from reading. Deltas that waited meanwhile are not measured.
const SETTLE: Duration = Duration::from_millis(100);
/// The measured part of a round.
const MEASURED: Duration = Duration::from_secs(4);
/// Where the relay's p99 is longer, other programs disturb the machine, and the round does not count.
const DISTURBED_US: f64 = 3000.0;
/// The most rounds for each that should count.
const ATTEMPTS: usize = 4;

/// A load of answers that all chats give at once.
pub(crate) struct Load {
    pub(crate) chats: usize,
    /// The time between two deltas of a chat.
    pub(crate) pace: Duration,
    /// Whether a person writes a message in one more chat every second. Then only the p99 is reported.
    pub(crate) messages: bool,
}

/// The loads, with the names of their groups of rows.
pub(crate) const LOADS: [(&str, Load); 3] = [
    ("50 chats paced", Load { chats: 50, pace: Duration::from_millis(20), messages: false }),
    ("200 chats paced", Load { chats: 200, pace: Duration::from_millis(50), messages: false }),
    ("paced with messages", Load { chats: 50, pace: Duration::from_millis(20), messages: true }),
];

/// What a server needed in one round.
struct Figures {
    /// The latencies from the agent's write to the client's read, in microseconds.
    p50: f64,
    p99: f64,
    /// The CPU time per delta, in microseconds.
    cpu: f64,
}

/// What a server needed in several rounds.
#[derive(Clone, Default)]
struct Series {
    p50: Samples,
    p99: Samples,
    cpu: Samples,
}

/// What all servers needed: the relay, the gateway and, if it is installed, websocketd.
struct Results {
    counted: Vec<Series>,
    disturbed: Vec<Series>,
}

impl Results {
    fn new(servers: usize) -> Self {
        Self { counted: vec![Series::default(); servers], disturbed: vec![Series::default(); servers] }
    }

    fn add(&mut self, round: Vec<Figures>) {
        let counts = round[0].p99 <= DISTURBED_US;
        let all = if counts { &mut self.counted } else { &mut self.disturbed };
        for (series, Figures { p50, p99, cpu }) in all.iter_mut().zip(round) {
            series.p50.push(p50);
            series.p99.push(p99);
            series.cpu.push(cpu);
        }
    }

    /// How many rounds count, and how many were run.
    fn rounds(&self) -> (usize, usize) {
        let counted = self.counted[0].p99.len();
        (counted, counted + self.disturbed[0].p99.len())
    }

    /// The rounds that count; all others if none does.
    fn best(&self) -> &[Series] {
        if self.rounds().0 > 0 { &self.counted } else { &self.disturbed }
    }

    /// The medians of all servers, and how many rounds they are from.
    fn detail(&self, of: impl Fn(&Series) -> &Samples) -> String {
        let median = |index: usize| self.best().get(index).map(|series| of(series).median());
        let [relay, ours, websocketd] = [0, 1, 2].map(median);
        let websocketd = websocketd.map_or("; websocketd is not installed".to_owned(), |median| {
            format!(", websocketd {median:.0} µs")
        });
        let not_counted = match self.rounds() {
            (counted, all) if counted == all => String::new(),
            (0, all) => format!("; disturbed, as the relay's p99 was above 3 ms in all {all} rounds"),
            (counted, all) => {
                format!("; {} of {all} rounds do not count: the relay's p99 was above 3 ms", all - counted)
            }
        };
        let (ours, relay) = (ours.unwrap_or(0.0), relay.unwrap_or(0.0));
        format!("{ours:.0} µs, relay {relay:.0} µs{websocketd}{not_counted}")
    }
}

/// Measures the relay, the gateway and websocketd under a load, in turn in each round.
pub(crate) async fn rows(load: &Load, rounds: usize) -> io::Result<Vec<Row>> {
    let chats = load.chats + usize::from(load.messages);
    let mut stages = vec![
        Stage::new(Server::relay().await?, chats, 1).await?,
        Stage::new(Server::gateway(true, Durability::Everything).await?, chats, 1).await?,
    ];
    if let Some(websocketd) = Server::websocketd().await? {
        stages.push(Stage::new(websocketd, chats, 1).await?);
    }
    let mut results = Results::new(stages.len());
    while results.rounds().0 < rounds && results.rounds().1 < rounds * ATTEMPTS {
        let mut figures = Vec::new();
        for stage in &mut stages {
            figures.push(round(stage, load).await?);
        }
        results.add(figures);
    }
    for stage in stages {
        drop(stage.chats);
        stage.server.stop().await?;
    }
    Ok(table(load, &results))
}

fn name(load: &Load) -> String {
    let messages = if load.messages { ", a person's message every second" } else { "" };
    format!(
        "{} chats, a delta every {} ms{messages}{}",
        load.chats,
        load.pace.as_millis(),
        Durability::Everything.suffix()
    )
}

fn table(load: &Load, results: &Results) -> Vec<Row> {
    // No bar is kept in disturbed rounds: in them, the gateway is cheaper and later.
    let (relay, ours) = (&results.counted[0], &results.counted[1]);
    let late = results.detail(|series| &series.p99);
    if load.messages {
        return vec![Row {
            name: format!("{}, p99 from write to read: ms", name(load)),
            ratio: results.best()[1].p99.times(1e-3),
            bar: Bar::None,
            detail: late,
        }];
    }
    let cpu = results.detail(|series| &series.cpu);
    let cost = match results.counted.get(2) {
        Some(websocketd) => Row {
            name: format!("{}, CPU per delta: times websocketd", name(load)),
            ratio: ratio(&ours.cpu, &websocketd.cpu),
            bar: Bar::AtMost(1.2),
            detail: cpu,
        },
        None => Row {
            name: format!("{}, µs of CPU per delta: SKIPPED the comparison with websocketd", name(load)),
            ratio: results.best()[1].cpu.clone(),
            bar: Bar::None,
            detail: cpu,
        },
    };
    vec![
        cost,
        Row {
            name: "the same, p50 from write to read: times the relay".into(),
            ratio: ratio(&ours.p50, &relay.p50),
            bar: Bar::AtMost(1.6),
            detail: results.detail(|series| &series.p50),
        },
        Row {
            name: "the same, p99 from write to read: ms more than the relay".into(),
            ratio: difference(&ours.p99, &relay.p99).times(1e-3),
            bar: Bar::AtMost(3.0),
            detail: late,
        },
    ]
}

/// What the clients of one round share.
#[derive(Default)]
struct Meter {
    /// Deltas received.
    received: AtomicU64,
    /// Whether latencies are recorded now.
    is_recording: AtomicBool,
}

/// Runs one answer in every chat at once.
async fn round(stage: &mut Stage, load: &Load) -> io::Result<Figures> {
    let meter = Arc::new(Meter::default());
    let whole = WARM_UP + 2 * SETTLE + MEASURED;
    let deltas = u64::try_from(whole.as_micros() / load.pace.as_micros()).map_err(io::Error::other)?;
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for (chat, mut peers) in mem::take(&mut stage.chats).into_iter().enumerate() {
        let (kind, meter, pace) = (stage.server.kind, Arc::clone(&meter), load.pace);
        let number = u32::try_from(chat).map_err(io::Error::other)?;
        let chats = u32::try_from(load.chats).map_err(io::Error::other)?;
        tasks.spawn(async move {
            let peer = &mut peers[0];
            let latencies = if number < chats {
                // The agents do not write in step with each other.
                sleep_until(begun + pace * number / chats).await;
                answer(peer, &message(kind, chat, deltas, pace_us(pace)), deltas, &meter).await?
            } else {
                converse(peer, kind, chat, begun + whole).await?;
                Samples::none()
            };
            Ok((chat, peers, latencies))
        });
    }
    sleep(WARM_UP).await;
    let (cpu, received) = (stage.server.cpu_time()?, meter.received.load(Relaxed));
    sleep(SETTLE).await;
    meter.is_recording.store(true, Relaxed);
    sleep(MEASURED).await;
    meter.is_recording.store(false, Relaxed);
    let cpu = stage.server.cpu_time()?.since(&cpu);
    let received = meter.received.load(Relaxed) - received;

    let mut done = all(tasks).await?;
    done.sort_by_key(|(chat, ..)| *chat);
    let mut latencies = Samples::none();
    for (_, peers, of_chat) in done {
        stage.chats.push(peers);
        latencies.append(of_chat);
    }
    #[expect(clippy::cast_precision_loss, reason = "counts of a bench are far below 2^52")]
    let cpu = cpu.as_secs_f64() * 1e6 / received.max(1) as f64;
    Ok(Figures { p50: latencies.percentile(50), p99: latencies.percentile(99), cpu })
}

fn pace_us(pace: Duration) -> u64 {
    u64::try_from(pace.as_micros()).unwrap_or(u64::MAX)
}

/// Requests an answer and receives it. Returns the latencies of the deltas that came while the meter recorded.
async fn answer(peer: &mut Peer, message: &str, deltas: u64, meter: &Meter) -> io::Result<Samples> {
    let mut latencies = Samples::none();
    peer.send(message).await?;
    let each = |written_at| {
        meter.received.fetch_add(1, Relaxed);
        if meter.is_recording.load(Relaxed) {
            latencies.push(micros(token::now_ns().saturating_sub(written_at)));
        }
    };
    peer.answer(deltas, each).await?;
    peer.end_of_turn().await?;
    Ok(latencies)
}

/// Sends a message every second, each of which is answered with one delta.
async fn converse(peer: &mut Peer, kind: Kind, chat: usize, until: Instant) -> io::Result<()> {
    let mut next = Instant::now();
    while next < until {
        peer.send(&message(kind, chat, 1, 0)).await?;
        peer.answer(1, |_| ()).await?;
        peer.end_of_turn().await?;
        next += Duration::from_secs(1);
        sleep_until(next).await;
    }
    Ok(())
}
