//! Gateways, hosts and agents that die at random moments, again and again.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use switchboard_core::{agent::AgentEvent, wire::Answer};
use switchboard_test_support::Rng;

use crate::{
    gateway::{TestGateway, exit_error, shape},
    support::{alive, eventually},
    trial,
};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[allow(clippy::print_stderr, reason = "a seed is of use only where it can be read")]
pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("gateways_that_die_at_random_lose_and_repeat_nothing", |fixture| async move {
            let seed = number("SWITCHBOARD_CRASH_SEED", u64::from(std::process::id()));
            let until = Instant::now() + Duration::from_secs(number("SWITCHBOARD_CRASH_SECONDS", 5));
            eprintln!("SWITCHBOARD_CRASH_SEED={seed}");
            let mut random = Rng(seed);
            let mut config = fixture.demo();
            // Many files and many checkpoints.
            config.process.limits.host.spool_bytes = 1024 * 1024;
            let mut gateway = TestGateway::start(config);
            let (mut turns, mut crashes) = (0, 0);
            while Instant::now() < until {
                let from = gateway.log.events.len();
                let (prompt, expected): (_, Option<String>) = match random.below(4) {
                    0 => ("fast 8000", Some((1..=8000).map(|n| format!("{n} ")).collect())),
                    1 => ("echo one two three", Some("one two three".into())),
                    2 => ("permission", None),
                    _ => ("long 1", None),
                };
                gateway.prompt(prompt);
                let mut answered = false;
                loop {
                    match random.below(8) {
                        0 => {
                            tokio::time::sleep(Duration::from_micros(random.below(3000))).await;
                            if random.below(2) == 0 {
                                gateway.receive_available();
                            }
                            crashes += 1;
                            gateway = gateway.crash_and_adopt().await;
                        }
                        _ if gateway.receive().await => {}
                        _ => panic!("the agent instances: {:?}", gateway.exit_and_log().await.0),
                    }
                    let new = &gateway.log.events[from..];
                    let request = new.iter().find_map(|event| match event {
                        AgentEvent::Permission(request) => Some(request.request_id.clone()),
                        _ => None,
                    });
                    if let Some(request) = request.filter(|_| !answered) {
                        answered = true;
                        gateway.answer(request, Answer::Allow { input_sha256: None });
                    }
                    if matches!(gateway.log.events[from..].last(), Some(AgentEvent::TurnEnded { .. })) {
                        break;
                    }
                }
                turns += 1;
                let new = &gateway.log.events[from..];
                let ends = new.iter().filter(|event| matches!(event, AgentEvent::TurnEnded { .. })).count();
                assert_eq!(ends, 1, "{:?}", shape(new));
                gateway.read_again_from(from);
                let turn = gateway.turn().await;
                match expected {
                    Some(expected) => {
                        assert!(turn.text() == expected, "seed {seed}, turn {turns}: {}", turn.text())
                    }
                    None if prompt == "permission" => {
                        assert!(turn.text().ends_with("it pretended to work."), "{}", turn.text());
                        let asked = turn.count(|event| matches!(event, AgentEvent::Permission(_)));
                        assert_eq!(asked, 1);
                    }
                    None => assert!(turn.text().starts_with("**1.** A log"), "{}", turn.text()),
                }
            }
            eprintln!("{turns} turns, {crashes} gateways");
            gateway.stop().await;
        }),
        trial("hosts_and_agents_that_die_at_random_leave_a_clear_exit", |fixture| async move {
            let seed = number("SWITCHBOARD_CRASH_SEED", u64::from(std::process::id()));
            let until = Instant::now() + Duration::from_secs(number("SWITCHBOARD_CRASH_SECONDS", 5));
            let mut random = Rng(seed);
            let mut instances = 0;
            let expected: String = (1..=20_000).map(|n| format!("{n} ")).collect();
            while Instant::now() < until {
                let mut gateway = TestGateway::start(fixture.demo());
                gateway.prompt("fast 20000");
                gateway.until_text().await;
                let mut victims = vec![vec![fixture.host_pid()], fixture.agents()];
                if random.below(2) == 0 {
                    victims.reverse();
                }
                victims.truncate(1 + usize::try_from(random.below(2)).unwrap());
                for _ in 0..random.below(8) {
                    if random.below(4) == 0 {
                        gateway = gateway.crash_and_adopt().await;
                    } else {
                        gateway.receive_available();
                        tokio::time::sleep(Duration::from_micros(random.below(2000))).await;
                    }
                }
                // Half of them die without a gateway.
                let (mut watched, mut crashed) = (Some(gateway), None);
                if random.below(2) == 0
                    && let Some(gateway) = watched.take()
                {
                    crashed = Some(gateway.crash().await);
                }
                for victim in victims.into_iter().flatten() {
                    // It may have exited together with the other victim.
                    let _ = rustix::process::kill_process(
                        rustix::process::Pid::from_raw(victim).unwrap(),
                        rustix::process::Signal::KILL,
                    );
                }
                let gateway = watched.or_else(|| crashed.map(TestGateway::adopt)).unwrap();
                let (exit, log) = gateway.exit_and_log().await;
                assert_eq!(exit_error(&exit).0, "agent_exited", "seed {seed}");
                let pieces = log.events.iter().filter_map(|event| match event {
                    AgentEvent::Text { text, .. } => Some(text.as_str()),
                    _ => None,
                });
                let said: String = pieces.collect();
                assert!(expected.starts_with(&said), "seed {seed}, instance {instances}");
                let ends =
                    log.events.iter().filter(|event| matches!(event, AgentEvent::TurnEnded { .. })).count();
                assert!(ends == 0 || (ends == 1 && said == expected), "seed {seed}, instance {instances}");
                eventually("no process is left", || alive(&fixture.mark).is_empty()).await;
                switchboard_agent_bridge::end_orphans(&fixture.hosts, &Default::default()).unwrap();
                instances += 1;
            }
            eprintln!("{instances} instances");
        }),
    ]
}
