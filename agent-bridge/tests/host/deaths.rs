//! Agents and hosts that die, and hosts that are not what they should be.

use std::{
    collections::BTreeSet,
    fs::{DirBuilder, File},
    io::{Read, Write},
    os::unix::{fs::DirBuilderExt, net::UnixListener},
    path::Path,
    time::{Duration, Instant},
};

use libtest_mimic::Trial;
use switchboard_agent_bridge::{end_orphans, list_hosts};
use switchboard_core::agent::{AgentEvent, AgentExit, AgentInstanceId};

use crate::{
    adoption::spool_holds,
    bench::{Bench, gone},
    kill,
    support::{alive, eventually},
    trial,
};

/// What a host has that lives and listens, without one: its lock and its socket.
fn impostor(dir: &Path) -> (File, UnixListener) {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).unwrap();
    let lock = File::create(dir.join("lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    (lock, UnixListener::bind(dir.join("socket")).unwrap())
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("kill_9_of_the_agent_is_noticed", |place| async move {
            let mut bench = Bench::begin(place.demo());
            bench.prompt("slow 1000");
            bench.speaks().await;
            let killed = Instant::now();
            place.agents().into_iter().for_each(kill);
            let (exit, _) = bench.exit().await;
            assert_eq!(gone(&exit), ("agent_exited", "The agent was ended by signal 9."));
            assert!(killed.elapsed() < Duration::from_secs(2), "{:?}", killed.elapsed());
        }),
        trial("kill_9_of_the_agent_without_a_gateway_is_noticed_by_the_next", |place| async move {
            let mut bench = Bench::begin(place.demo());
            bench.prompt("slow 1000");
            bench.speaks().await;
            let crashed = bench.crash().await;
            place.agents().into_iter().for_each(kill);
            let (exit, _) = Bench::adopt(crashed).exit().await;
            assert_eq!(gone(&exit), ("agent_exited", "The agent was ended by signal 9."));
        }),
        trial("kill_9_of_the_host_ends_the_agent", |place| async move {
            let script = "setsid sleep 1011 & read -r prompt; echo '{\"type\":\"system\",\"subtype\":\"init\",\"session_id\":\"s\"}'; sleep 1000";
            let mut bench = Bench::begin(place.stub(script));
            bench.prompt("x");
            bench.until(|event| matches!(event, AgentEvent::Session { .. })).await;
            let killed = Instant::now();
            kill(place.host_pid());
            let (exit, _) = bench.exit().await;
            assert_eq!(gone(&exit).0, "agent_exited");
            assert!(killed.elapsed() < Duration::from_secs(2), "{:?}", killed.elapsed());
            assert!(alive(&place.mark).is_empty());
        }),
        trial("what_helpers_leave_behind_is_reaped", |place| async move {
            let script = r#"while read -r prompt; do
                for n in 1 2 3 4 5; do sh -c 'setsid true & exit'; done
                echo '{"type":"result","is_error":false,"result":"done"}'; done"#;
            let mut bench = Bench::begin(place.stub(script));
            let host = place.clone();
            let zombies = move || {
                let children = format!("/proc/{0}/task/{0}/children", host.host_pid());
                let children = std::fs::read_to_string(children).unwrap();
                let stats = children
                    .split_whitespace()
                    .filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok());
                stats.filter(|stat| stat.contains(") Z ")).count()
            };
            for _ in 0..5 {
                bench.said("x").await;
            }
            // Those of the last turn may still be on their way when it ends.
            eventually("they are reaped", || zombies() <= 5).await;
            bench.stop().await;
        }),
        trial("a_dead_hosts_spool_is_decoded_to_its_end", |place| async move {
            let mut bench = Bench::begin(place.demo());
            bench.prompt("fast 3000");
            bench.speaks().await;
            let crashed = bench.crash().await;
            eventually("the answer is complete", || spool_holds(&place, br#""type":"result""#)).await;
            kill(place.host_pid());
            eventually("it is dead", || !list_hosts(&place.hosts).unwrap()[0].live).await;
            let mut bench = Bench::adopt(crashed);
            bench.turn().await;
            bench.reread(0);
            let expected: String = (1..=3000).map(|n| format!("{n} ")).collect();
            assert_eq!(bench.turn().await.text(), expected);
            let (exit, rest) = bench.exit().await;
            assert_eq!(gone(&exit).0, "agent_exited");
            assert!(rest.is_empty(), "{rest:?}");
        }),
        trial("a_spool_that_ends_in_the_middle_is_read_up_to_there", |place| async move {
            let mut bench = Bench::begin(place.demo());
            bench.prompt("slow 1000");
            bench.speaks().await;
            let crashed = bench.crash().await;
            kill(place.host_pid());
            eventually("it is dead", || !list_hosts(&place.hosts).unwrap()[0].live).await;
            let spool = place.run_dir().join("spool.1");
            let mut file = std::fs::OpenOptions::new().append(true).open(spool).unwrap();
            file.write_all(&[200, 0, 0, 0, 2, 9]).unwrap();
            let (exit, _) = Bench::adopt(crashed).exit().await;
            assert_eq!(gone(&exit).0, "agent_exited");
            assert!(alive(&place.mark).is_empty());
        }),
        trial("a_life_of_which_nothing_is_left_is_over", |place| async move {
            let mut bench = Bench::begin(place.demo());
            bench.prompt("slow 1000");
            bench.speaks().await;
            let crashed = bench.crash().await;
            assert_eq!(end_orphans(&place.hosts, &BTreeSet::new()).unwrap(), 1);
            assert!(!place.run_dir().exists());
            let (exit, events) = Bench::adopt(crashed).exit().await;
            assert_eq!(gone(&exit).0, "gateway_restarted");
            assert!(events.is_empty());
        }),
        trial("what_was_to_be_told_counts_as_told_where_spools_may_be_lost", |place| async move {
            let mut bench = Bench::begin(place.demo());
            bench.prompt("slow 1000");
            eventually("it is told", || place.run_dir().exists() && spool_holds(&place, b"turn-")).await;
            // The log knows of nothing yet.
            let (mut config, log, read) = bench.crash().await;
            assert_eq!(end_orphans(&place.hosts, &BTreeSet::new()).unwrap(), 1);
            config.spools_lost = true;
            let (exit, events) = Bench::adopt((config, log, read)).exit().await;
            assert_eq!(gone(&exit).0, "gateway_restarted");
            assert!(events.is_empty() && !place.run_dir().exists(), "{events:?}");
        }),
        trial("orphans_are_ended_and_what_is_kept_lives", |place| async move {
            let mut bench = Bench::begin(place.demo());
            bench.prompt("long 2");
            bench.speaks().await;
            let crashed = bench.crash().await;
            let hosts = list_hosts(&place.hosts).unwrap();
            assert_eq!((hosts.len(), hosts[0].instance, hosts[0].live), (1, AgentInstanceId(1), true));
            assert_eq!(hosts[0].chat.as_deref(), Some("owner/c"));
            assert_eq!(end_orphans(&place.hosts, &BTreeSet::from([AgentInstanceId(1)])).unwrap(), 0);
            let mut bench = Bench::adopt(crashed);
            bench.turn().await;
            drop(bench.crash().await);
            let began = Instant::now();
            assert_eq!(end_orphans(&place.hosts, &BTreeSet::new()).unwrap(), 1);
            assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
            assert!(alive(&place.mark).is_empty() && !place.run_dir().exists());
        }),
        trial("a_host_of_another_version_is_a_clear_error", |place| async move {
            let (lock, listener) = impostor(&place.run_dir());
            let host = std::thread::spawn(move || {
                let (mut socket, _) = listener.accept().unwrap();
                let mut hello = [0; 17];
                socket.read_exact(&mut hello).unwrap();
                let answer = br#"{"version":0}"#;
                let mut frame = (13 + answer.len() as u32).to_le_bytes().to_vec();
                frame.push(1);
                frame.extend_from_slice(&[0; 12]);
                frame.extend_from_slice(answer);
                socket.write_all(&frame).unwrap();
                let mut told = [0; 5];
                socket.read_exact(&mut told).unwrap();
                drop(lock);
                told
            });
            let log = Default::default();
            let (exit, _) = Bench::adopt((place.demo(), log, 0)).exit().await;
            assert_eq!(gone(&exit).0, "agent_host_version");
            assert_eq!(host.join().unwrap(), [1, 0, 0, 0, 6], "it was told to kill");
        }),
        trial("a_host_that_goes_before_anybody_told_it_anything_is_started_anew", |place| async move {
            let (lock, listener) = impostor(&place.run_dir());
            let host = std::thread::spawn(move || {
                let (mut socket, _) = listener.accept().unwrap();
                socket.read_exact(&mut [0; 17]).unwrap();
                // Its lock first, as where a process ends that has it open.
                drop(lock);
            });
            let mut bench = Bench::adopt((place.demo(), Default::default(), 0));
            assert_eq!(bench.said("echo x").await.text(), "x");
            host.join().unwrap();
            bench.stop().await;
        }),
        trial("a_host_whose_gateway_has_gone_does_not_listen", |place| async move {
            let mut config = place.demo();
            // Nothing can be written there.
            let script = "exec \"$0\" \"$@\" >/dev/full";
            config.host.splice(0..0, ["sh", "-c", script].map(Into::into));
            let mut bench = Bench::begin(config);
            bench.prompt("x");
            let (exit, _) = bench.exit().await;
            assert!(matches!(exit, AgentExit::StartFailed(_)), "{exit:?}");
            let card = place.run_dir().join("host.json");
            eventually("it has been there", || card.exists() && alive(&place.mark).is_empty()).await;
            assert!(!place.run_dir().join("socket").exists());
        }),
        trial("a_host_that_listens_lives_although_its_gateway_has_gone", |place| async move {
            let mut config = place.demo();
            // Nobody reads to the end what it says.
            let script = "exec 3<&0; \"$0\" \"$@\" <&3 | head -c 1 & exec >/dev/null 3<&-; wait";
            config.host.splice(0..0, ["sh", "-c", script].map(Into::into));
            let mut bench = Bench::begin(config);
            assert_eq!(bench.said("echo x").await.text(), "x");
            bench.stop().await;
        }),
        trial("a_host_that_hears_nonsense_goes_on", |place| async move {
            let mut bench = Bench::begin(place.demo());
            bench.said("echo x").await;
            for nonsense in [&[0xff; 64][..], &[0; 64], b"GET / HTTP/1.1\r\n\r\n"] {
                let mut socket =
                    std::os::unix::net::UnixStream::connect(place.run_dir().join("socket")).unwrap();
                socket.write_all(nonsense).unwrap();
                let mut answer = Vec::new();
                let _ = socket.read_to_end(&mut answer);
                assert!(answer.is_empty());
            }
            assert_eq!(bench.said("echo y").await.text(), "y");
            bench.stop().await;
        }),
        trial("a_host_that_does_not_come_up_leaves_a_reason", |place| async move {
            let mut config = place.demo();
            config.host = ["sh", "-c", "echo 'the dog ate it' >&2; exit 3"].map(Into::into).into();
            let mut bench = Bench::begin(config);
            bench.prompt("x");
            let (exit, _) = bench.exit().await;
            assert!(matches!(exit, AgentExit::StartFailed(_)), "{exit:?}");
            assert_eq!(std::fs::read_to_string(place.run_dir().join("errors")).unwrap(), "the dog ate it\n");
        }),
        trial("a_host_that_cannot_be_started", |place| async move {
            let mut config = place.demo();
            config.host = vec!["/nowhere/host".into()];
            let mut bench = Bench::begin(config);
            bench.prompt("x");
            let (exit, _) = bench.exit().await;
            assert!(matches!(exit, AgentExit::StartFailed(_)), "{exit:?}");
        }),
    ]
}
