//! `kill -9` at random moments: of gateways, of agents, of hosts, in every order, while twenty clients stream.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use libtest_mimic::Trial;
use rustix::process::Signal;
use switchboard_test_support::{Rng, becomes_true};

use crate::{
    crowd::{Behavior, Crowd},
    installation::{Gateway, Installation, Role, report, signal},
    number,
    recorder::Agents,
    trial,
};

/// Longest use of one data directory; then everything is checked.
const ROUND: Duration = Duration::from_secs(10);
/// With `--nightly`, so many gateways are killed, half as many agents, and a fifth as many hosts.
const NIGHTLY: &str = "SWITCHBOARD_CRASH_KILLS";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("gateways_that_are_killed_lose_nothing", || {
            kill_repeatedly("gateways", 1, Agents::AllShown, |round, rng| round.restart(rng));
        }),
        trial("agents_that_are_killed_end_their_turns_and_nothing_else", || {
            kill_repeatedly("agents", 2, Agents::AllShown, |round, rng| round.kill_one(rng, &[Role::Agent]));
        }),
        trial("hosts_that_are_killed_end_their_turns_and_nothing_else", || {
            kill_repeatedly("hosts", 5, Agents::BeginningShown, |round, rng| {
                round.kill_one(rng, &[Role::Host])
            });
        }),
        trial("whoever_is_killed_in_whatever_order_nothing_is_lost", || {
            kill_repeatedly("everybody", 5, Agents::BeginningShown, |round, rng| match rng.below(8) {
                0 | 1 => round.restart(rng),
                2 => round.kill_one(rng, &[Role::Agent]),
                3 => round.kill_one(rng, &[Role::Host]),
                4 => round.kill_one(rng, &[Role::Agent, Role::Host]),
                5 => round.kill_one(rng, &[Role::Host, Role::Agent]),
                6 => round.kill_with_gateway(rng),
                _ => round.service_restart(rng),
            });
        }),
    ]
}

/// A data directory with a crowd on it.
struct Round {
    installation: Arc<Installation>,
    gateway: Gateway,
    crowd: Crowd,
    kills: u64,
}

/// Kills processes for the configured time or, with `--nightly`, until enough were killed.
fn kill_repeatedly(name: &str, share: u64, agents: Agents, mut act: impl FnMut(&mut Round, &mut Rng)) {
    let mut rng = Rng::for_test(name);
    let time = Duration::from_secs(number("SWITCHBOARD_CRASH_SECONDS").unwrap_or(10));
    let until = Instant::now() + time;
    let wanted = number(NIGHTLY).unwrap_or(0) / share;
    let (mut kills, mut acknowledged, mut rounds) = (0, 0, 0);
    while Instant::now() < until || kills < wanted {
        let mut round = Round::begin(&mut rng);
        let end = Instant::now() + time.min(ROUND);
        while Instant::now() < end && !round.crowd.recorder.has_failed() {
            act(&mut round, &mut rng);
        }
        kills += round.kills;
        rounds += 1;
        acknowledged += round.end(agents, name);
    }
    report(&format!("{name}: {kills} kills, {rounds} data directories, {acknowledged} messages"));
    assert!(kills > 0 && acknowledged > 0, "something was killed, and something was said");
}

impl Round {
    fn begin(rng: &mut Rng) -> Self {
        let installation = Arc::new(Installation::new(""));
        let gateway = installation.start();
        let crowd = Crowd::start(&installation, rng, Behavior { cancel: true, words: 200, pace: 2_000 });
        Self { installation, gateway, crowd, kills: 0 }
    }

    fn end(mut self, agents: Agents, name: &str) -> usize {
        self.installation.ready(&mut self.gateway);
        let acknowledged = self.crowd.finish(agents, name);
        assert!(self.gateway.is_alive(), "the gateway ended by itself: {}", self.installation.log_end());
        nothing_is_left(&self.installation, self.gateway);
        acknowledged
    }

    /// Kills the gateway at a random moment after its start, and starts the next one.
    fn restart(&mut self, rng: &mut Rng) {
        if rng.below(5) > 0 {
            self.installation.ready(&mut self.gateway);
            pause(rng, 300);
        } else {
            pause(rng, 60);
        }
        self.gateway.kill();
        self.kills += 1;
        self.gateway = self.installation.spawn();
    }

    /// Kills the processes of one agent, in this order.
    fn kill_one(&mut self, rng: &mut Rng, roles: &[Role]) {
        pause(rng, 200);
        for pid in self.family(rng, roles) {
            signal(pid, Signal::KILL);
            self.kills += 1;
        }
    }

    /// Kills the gateway, an agent and its host, in any order.
    fn kill_with_gateway(&mut self, rng: &mut Rng) {
        self.installation.ready(&mut self.gateway);
        pause(rng, 200);
        let control = [[Role::Agent, Role::Host], [Role::Host, Role::Agent]];
        let order = control[rng.below(2) as usize];
        let victims = self.family(rng, &order);
        let when = rng.below(victims.len() as u64 + 1) as usize;
        for (n, pid) in victims.iter().enumerate() {
            if n == when {
                self.gateway.kill();
            }
            signal(*pid, Signal::KILL);
            self.kills += 1;
        }
        if when >= victims.len() {
            self.gateway.kill();
        }
        self.kills += 1;
        self.gateway = self.installation.spawn();
    }

    /// The processes of one host and its agent that are to be killed.
    fn family(&self, rng: &mut Rng, roles: &[Role]) -> Vec<i32> {
        let processes: BTreeMap<i32, Role> = self.installation.processes().into_iter().collect();
        let hosts: Vec<i32> =
            processes.iter().filter(|(_, role)| **role == Role::Host).map(|(pid, _)| *pid).collect();
        let Some(host) = rng.pick(&hosts) else { return Vec::new() };
        let of_host = |role: Role| match role {
            Role::Host => Some(*host),
            Role::Agent | Role::Gateway | Role::Helper => {
                processes.iter().find(|(pid, is)| **is == role && is_below(**pid, *host)).map(|(pid, _)| *pid)
            }
        };
        roles.iter().filter_map(|role| of_host(*role)).collect()
    }

    /// Restarts as a service manager does: SIGTERM at any moment, then the next gateway.
    fn service_restart(&mut self, rng: &mut Rng) {
        self.installation.ready(&mut self.gateway);
        pause(rng, 200);
        self.gateway.signal(Signal::TERM);
        let status = self.gateway.wait();
        assert!(status.success(), "{status}: {}", self.installation.log_end());
        self.gateway = self.installation.spawn();
    }
}

/// Sleeps for a random time, so that the next kill comes at a random moment.
pub(crate) fn pause(rng: &mut Rng, most_ms: u64) {
    std::thread::sleep(Duration::from_micros(rng.below(most_ms * 1_000)));
}

/// Whether a process descends from another, directly or through its sandbox.
fn is_below(pid: i32, ancestor: i32) -> bool {
    std::iter::successors(parent(pid), |pid| parent(*pid)).any(|parent| parent == ancestor)
}

fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Stops a gateway without clients, and checks that no descriptor, process or file remains.
pub(crate) fn nothing_is_left(installation: &Installation, mut gateway: Gateway) {
    // Two listeners, three for signals, and for each host two of one connection; those that end take a moment.
    let mut open = Vec::new();
    let closed = || {
        open = gateway.descriptors();
        open.iter().filter(|to| to.starts_with("socket:")).count()
            <= 5 + 2 * installation.of_role(Role::Host).len()
    };
    if !becomes_true(closed) {
        panic!("{} hosts, and descriptors are left open: {open:?}", installation.of_role(Role::Host).len());
    }
    gateway.signal(Signal::INT);
    let status = gateway.wait();
    assert!(status.success(), "{status}: {}", installation.log_end());
    assert_eq!(installation.processes(), [], "processes are left: {}", installation.log_end());
    let known = installation.log().len();
    // The next gateway has no agents to take over, and removes the files of their hosts.
    let mut next = installation.start();
    assert_eq!(installation.hosts(), Vec::<std::path::PathBuf>::new());
    assert!(installation.of_role(Role::Host).is_empty());
    next.signal(Signal::INT);
    assert!(next.wait().success(), "{}", installation.log_end());
    assert_eq!(installation.processes(), []);
    let since = installation.log().split_off(known);
    assert!(!since.contains("not closed in good order"), "{since}");
    let mut files: Vec<String> = std::fs::read_dir(installation.data(""))
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    files.sort();
    assert_eq!(files, ["hosts", "journal.db", "journal.db.commits", "journal.db.lock", "lock", "token"]);
    assert!(!installation.data("socket").exists() && !installation.path("port").exists());
}
