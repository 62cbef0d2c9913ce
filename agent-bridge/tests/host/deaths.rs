//! Agents and hosts that die, and hosts that misbehave.

use std::{
    collections::BTreeSet,
    fs::{DirBuilder, File},
    io::{Read, Write},
    os::unix::{fs::DirBuilderExt, net::UnixListener},
    path::Path,
};

use libtest_mimic::Trial;
use switchboard_agent_bridge::{end_orphans, list_hosts};
use switchboard_core::agent::{AgentEvent, AgentExit, AgentInstanceId};

use crate::{
    adoption::spool_holds,
    gateway::{TestGateway, exit_error},
    kill,
    support::{alive, eventually},
    trial,
};

/// The lock and the socket of a running host, without a host.
pub(crate) fn impostor(dir: &Path) -> (File, UnixListener) {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).unwrap();
    let lock = File::create(dir.join("lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    (lock, UnixListener::bind(dir.join("socket")).unwrap())
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("kill_9_of_the_agent_is_noticed", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.demo());
            gateway.prompt("slow 1000");
            gateway.until_text().await;
            fixture.agents().into_iter().for_each(kill);
            let (exit, _) = gateway.exit().await;
            assert_eq!(exit_error(&exit), ("agent_exited", "The agent was ended by signal 9."));
        }),
        trial("kill_9_of_the_agent_without_a_gateway_is_noticed_by_the_next", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.demo());
            gateway.prompt("slow 1000");
            gateway.until_text().await;
            let crashed = gateway.crash().await;
            fixture.agents().into_iter().for_each(kill);
            let (exit, _) = TestGateway::adopt(crashed).exit().await;
            assert_eq!(exit_error(&exit), ("agent_exited", "The agent was ended by signal 9."));
        }),
        trial("kill_9_of_the_host_ends_the_agent", |fixture| async move {
            let script = "setsid sleep 1011 & read -r prompt; echo '{\"type\":\"system\",\"subtype\":\"init\",\"session_id\":\"s\"}'; sleep 1000";
            let mut gateway = TestGateway::start(fixture.stub(script));
            gateway.prompt("x");
            gateway.until(|event| matches!(event, AgentEvent::Session { .. })).await;
            kill(fixture.host_pid());
            let (exit, _) = gateway.exit().await;
            assert_eq!(exit_error(&exit).0, "agent_exited");
            assert!(alive(&fixture.mark).is_empty());
        }),
        trial("orphans_of_helpers_are_reaped", |fixture| async move {
            let script = r#"while read -r prompt; do
                for n in 1 2 3 4 5; do sh -c 'setsid true & exit'; done
                echo '{"type":"result","is_error":false,"result":"done"}'; done"#;
            let mut gateway = TestGateway::start(fixture.stub(script));
            let host = fixture.clone();
            let zombies = move || {
                let children = format!("/proc/{0}/task/{0}/children", host.host_pid());
                let children = std::fs::read_to_string(children).unwrap();
                let stats = children
                    .split_whitespace()
                    .filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok());
                stats.filter(|stat| stat.contains(") Z ")).count()
            };
            for _ in 0..5 {
                gateway.run_turn("x").await;
            }
            // The orphans of the last turn may exit after its end.
            eventually("they are reaped", || zombies() <= 5).await;
            gateway.stop().await;
        }),
        trial("a_dead_hosts_spool_is_decoded_to_its_end", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.demo());
            gateway.prompt("fast 3000");
            gateway.until_text().await;
            let crashed = gateway.crash().await;
            eventually("the answer is complete", || spool_holds(&fixture, br#""type":"result""#)).await;
            kill(fixture.host_pid());
            eventually("the host has exited", || !list_hosts(&fixture.hosts).unwrap()[0].live).await;
            let mut gateway = TestGateway::adopt(crashed);
            gateway.turn().await;
            gateway.read_again_from(0);
            let expected: String = (1..=3000).map(|n| format!("{n} ")).collect();
            assert_eq!(gateway.turn().await.text(), expected);
            let (exit, rest) = gateway.exit().await;
            assert_eq!(exit_error(&exit).0, "agent_exited");
            assert!(rest.is_empty(), "{rest:?}");
        }),
        trial("a_spool_that_ends_in_the_middle_is_read_up_to_there", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.demo());
            gateway.prompt("slow 1000");
            gateway.until_text().await;
            let crashed = gateway.crash().await;
            kill(fixture.host_pid());
            eventually("the host has exited", || !list_hosts(&fixture.hosts).unwrap()[0].live).await;
            let files = std::fs::read_dir(fixture.run_dir()).unwrap().map(|file| file.unwrap().path());
            let is_spool = |path: &std::path::PathBuf| {
                let name = path.file_name().unwrap().to_str().unwrap();
                name.starts_with("notes.") || name.starts_with("output.")
            };
            let spool: Vec<_> = files.filter(is_spool).collect();
            assert_eq!(spool.len(), 2, "{spool:?}");
            for file in spool {
                let mut file = std::fs::OpenOptions::new().append(true).open(file).unwrap();
                file.write_all(&[200, 0, 0, 0, 3, 9]).unwrap();
            }
            let (exit, _) = TestGateway::adopt(crashed).exit().await;
            assert_eq!(exit_error(&exit).0, "agent_exited");
            assert!(alive(&fixture.mark).is_empty());
        }),
        trial("an_instance_without_a_host_directory_has_exited", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.demo());
            gateway.prompt("slow 1000");
            gateway.until_text().await;
            let crashed = gateway.crash().await;
            assert_eq!(end_orphans(&fixture.hosts, &BTreeSet::new()).unwrap(), 1);
            assert!(!fixture.run_dir().exists());
            let (exit, events) = TestGateway::adopt(crashed).exit().await;
            assert_eq!(exit_error(&exit).0, "gateway_restarted");
            assert!(events.is_empty());
        }),
        trial("pending_commands_count_as_sent_where_spools_may_be_lost", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.demo());
            gateway.prompt("slow 1000");
            eventually("the prompt was sent", || {
                fixture.run_dir().exists() && spool_holds(&fixture, b"turn-")
            })
            .await;
            // The log has no event yet.
            let (mut config, log, read) = gateway.crash().await;
            assert_eq!(end_orphans(&fixture.hosts, &BTreeSet::new()).unwrap(), 1);
            config.spools_lost = true;
            let (exit, events) = TestGateway::adopt((config, log, read)).exit().await;
            assert_eq!(exit_error(&exit).0, "gateway_restarted");
            assert!(events.is_empty() && !fixture.run_dir().exists(), "{events:?}");
        }),
        trial("orphans_are_ended_and_retained_hosts_run_on", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.demo());
            gateway.prompt("long 2");
            gateway.until_text().await;
            let crashed = gateway.crash().await;
            let hosts = list_hosts(&fixture.hosts).unwrap();
            assert_eq!((hosts.len(), hosts[0].instance, hosts[0].live), (1, AgentInstanceId(1), true));
            assert_eq!(hosts[0].chat.as_deref(), Some("owner/c"));
            assert_eq!(end_orphans(&fixture.hosts, &BTreeSet::from([AgentInstanceId(1)])).unwrap(), 0);
            let mut gateway = TestGateway::adopt(crashed);
            gateway.turn().await;
            drop(gateway.crash().await);
            assert_eq!(end_orphans(&fixture.hosts, &BTreeSet::new()).unwrap(), 1);
            assert!(alive(&fixture.mark).is_empty(), "{:?}", alive(&fixture.mark));
            assert!(!fixture.run_dir().exists());
        }),
        trial("a_host_that_exits_before_its_first_command_is_started_again", |fixture| async move {
            let (lock, listener) = impostor(&fixture.run_dir());
            let host = std::thread::spawn(move || {
                let (mut socket, _) = listener.accept().unwrap();
                socket.read_exact(&mut [0; 17]).unwrap();
                // The lock is released first, as at the exit of a process.
                drop(lock);
            });
            let mut gateway = TestGateway::adopt((fixture.demo(), Default::default(), 0));
            assert_eq!(gateway.run_turn("echo x").await.text(), "x");
            host.join().unwrap();
            gateway.stop().await;
        }),
        trial("a_host_whose_gateway_has_gone_does_not_listen", |fixture| async move {
            let mut config = fixture.demo();
            // Every write fails.
            let script = "exec \"$0\" \"$@\" >/dev/full";
            config.host.splice(0..0, ["sh", "-c", script].map(Into::into));
            let mut gateway = TestGateway::start(config);
            gateway.prompt("x");
            let (exit, _) = gateway.exit().await;
            assert!(matches!(exit, AgentExit::StartFailed(_)), "{exit:?}");
            let card = fixture.run_dir().join("host.json");
            eventually("the host has run", || card.exists() && alive(&fixture.mark).is_empty()).await;
            assert!(!fixture.run_dir().join("socket").exists());
        }),
        trial("a_host_that_listens_survives_its_gateway", |fixture| async move {
            let mut config = fixture.demo();
            // Only the first byte of its output is read.
            let script = "exec 3<&0; \"$0\" \"$@\" <&3 | head -c 1 & exec >/dev/null 3<&-; wait";
            config.host.splice(0..0, ["sh", "-c", script].map(Into::into));
            let mut gateway = TestGateway::start(config);
            assert_eq!(gateway.run_turn("echo x").await.text(), "x");
            gateway.stop().await;
        }),
        trial("a_host_that_receives_garbage_goes_on", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.demo());
            gateway.run_turn("echo x").await;
            for nonsense in [&[0xff; 64][..], &[0; 64], b"GET / HTTP/1.1\r\n\r\n"] {
                let mut socket =
                    std::os::unix::net::UnixStream::connect(fixture.run_dir().join("socket")).unwrap();
                socket.write_all(nonsense).unwrap();
                let mut answer = Vec::new();
                let _ = socket.read_to_end(&mut answer);
                assert!(answer.is_empty());
            }
            assert_eq!(gateway.run_turn("echo y").await.text(), "y");
            gateway.stop().await;
        }),
        trial("a_host_that_fails_to_start_leaves_a_reason", |fixture| async move {
            let mut config = fixture.demo();
            config.host = ["sh", "-c", "echo 'the dog ate it' >&2; exit 3"].map(Into::into).into();
            let mut gateway = TestGateway::start(config);
            gateway.prompt("x");
            let (exit, _) = gateway.exit().await;
            assert!(matches!(exit, AgentExit::StartFailed(_)), "{exit:?}");
            assert_eq!(
                std::fs::read_to_string(fixture.run_dir().join("errors")).unwrap(),
                "the dog ate it\n"
            );
        }),
        trial("a_host_that_cannot_be_started", |fixture| async move {
            let mut config = fixture.demo();
            config.host = vec!["/nowhere/host".into()];
            let mut gateway = TestGateway::start(config);
            gateway.prompt("x");
            let (exit, _) = gateway.exit().await;
            assert!(matches!(exit, AgentExit::StartFailed(_)), "{exit:?}");
        }),
    ]
}
