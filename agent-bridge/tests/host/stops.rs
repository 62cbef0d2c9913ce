//! Stops of agents whose hosts do not react, come and go, or lose their directories.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use libtest_mimic::Trial;
use switchboard_agent_bridge::HostConfig;
use switchboard_core::agent::AgentExit;
use switchboard_runtime::AgentControl;
use tokio::{io::AsyncReadExt, net::UnixListener, time::timeout};

use crate::{
    Fixture,
    deaths::impostor,
    gateway::{TestGateway, exit_error},
    pause,
    support::{TIMEOUT, alive, eventually},
    trial,
};

const SHORT: Duration = Duration::from_millis(20);
/// Longer than any test may take.
const LONG: Duration = Duration::from_secs(3600);

/// How many hosts come and go before the order or the host that stays. More than the gateway itself starts.
const TIMES: usize = 10;

/// When a gateway gets an order whose hosts come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// It starts a host.
    Starting,
    /// It has greeted a host.
    Greeted,
}

/// The configuration of hosts that come and go: each of the first ones asks with the file `wanted` for another host in
/// its place, and waits until the file is gone.
fn hosts_that_come_and_go(fixture: &Fixture) -> (HostConfig, PathBuf) {
    let mut config = fixture.demo();
    let (count, wanted) = (fixture.workspace().join("count"), fixture.workspace().join("wanted"));
    let script = format!(
        "n=$(cat {count} 2>/dev/null || echo 0); echo $((n + 1)) > {count}
        [ $n -ge {TIMES} ] && exec \"$0\" \"$@\"
        touch {wanted}; while [ -e {wanted} ]; do sleep 0.01; done",
        count = count.display(),
        wanted = wanted.display(),
    );
    config.host.splice(0..0, ["sh".into(), "-c".into(), script]);
    (config, wanted)
}

/// Acts as hosts that exit as soon as a gateway has connected, whenever the file `wanted` asks for one.
async fn come_and_go(dir: &Path, wanted: &Path, times: usize) {
    for _ in 0..times {
        one_comes_and_goes(dir, wanted, |_| ()).await;
    }
}

/// Acts as one of these hosts. `reached` is called at each moment of the gateway.
async fn one_comes_and_goes(dir: &Path, wanted: &Path, reached: impl Fn(Moment)) {
    eventually("a host is wanted", || wanted.exists()).await;
    reached(Moment::Starting);
    let _ = fs::remove_file(dir.join("socket"));
    let (lock, listener) = impostor(dir);
    listener.set_nonblocking(true).unwrap();
    let listener = UnixListener::from_std(listener).unwrap();
    fs::remove_file(wanted).unwrap();
    let hello = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.read_exact(&mut [0; 17]).await.unwrap();
        reached(Moment::Greeted);
        drop(lock);
    };
    timeout(TIMEOUT, hello).await.expect("the gateway connects");
}

/// Sends gateways an order after some hosts have come and gone. The instances end, however many more of them come.
async fn ordered_while_hosts_come_and_go(fixture: Fixture, order: fn() -> AgentControl) {
    let moments = [Moment::Starting, Moment::Greeted].into_iter();
    for (moment, times) in moments.flat_map(|moment| [(moment, 0), (moment, TIMES / 2)]) {
        let (config, wanted) = hosts_that_come_and_go(&fixture);
        let dir = fixture.run_dir();
        let mut gateway = TestGateway::start(config);
        gateway.prompt("echo x");
        come_and_go(&dir, &wanted, times).await;
        let gives_order = |reached| {
            if reached == moment {
                gateway.control(order());
            }
        };
        if order() == AgentControl::Kill && moment == Moment::Starting {
            // The gateway does not wait for that host.
            eventually("a host is wanted", || wanted.exists()).await;
            gives_order(moment);
        } else {
            one_comes_and_goes(&dir, &wanted, gives_order).await;
        }
        // The gateway may have begun to start one more before it receives the order.
        let exit = tokio::select! {
            exit = gateway.exit() => exit,
            () = come_and_go(&dir, &wanted, 2) => panic!("{moment:?} after {times}: it goes on"),
        };
        assert_eq!(exit, (AgentExit::Stopped, vec![]), "{moment:?} after {times}");
        eventually("the last host that was asked for has gone", || {
            let _ = fs::remove_file(&wanted);
            alive(&fixture.mark).is_empty()
        })
        .await;
        fs::remove_file(fixture.workspace().join("count")).unwrap();
        fs::remove_dir_all(dir).unwrap();
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a_kill_ends_a_host_that_does_not_react_to_a_stop", |fixture| async move {
            let mut config = fixture.demo();
            (config.process.limits.stop_eof, config.process.limits.host.shutdown_ack) = (LONG, SHORT);
            let mut gateway = TestGateway::start(config);
            gateway.run_turn("echo x").await;
            pause(fixture.host_pid());
            gateway.control(AgentControl::Stop);
            gateway.control(AgentControl::Kill);
            assert_eq!(gateway.exit().await.0, AgentExit::Stopped);
            assert!(alive(&fixture.mark).is_empty());
        }),
        trial("a_host_that_does_not_react_to_a_stop_is_killed_when_its_time_is_over", |fixture| async move {
            let mut config = fixture.demo();
            config.process.limits.host.shutdown_ack = SHORT;
            let mut gateway = TestGateway::start(config);
            gateway.run_turn("echo x").await;
            pause(fixture.host_pid());
            gateway.stop().await;
            assert!(alive(&fixture.mark).is_empty());
        }),
        trial("a_kill_reaches_a_host_that_does_not_answer_the_next_gateway", |fixture| async move {
            let mut config = fixture.demo();
            config.process.limits.host.start = LONG;
            let mut gateway = TestGateway::start(config);
            gateway.prompt("slow 1000");
            gateway.until_text().await;
            let crashed = gateway.crash().await;
            pause(fixture.host_pid());
            let gateway = TestGateway::adopt(crashed);
            gateway.control(AgentControl::Kill);
            assert_eq!(gateway.exit().await.0, AgentExit::Stopped);
            assert!(alive(&fixture.mark).is_empty());
        }),
        trial("a_stop_reaches_a_host_that_has_not_answered_yet", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.demo());
            gateway.prompt("slow 1000");
            gateway.until_text().await;
            let gateway = TestGateway::adopt(gateway.crash().await);
            gateway.control(AgentControl::Stop);
            assert_eq!(gateway.exit().await.0, AgentExit::Stopped);
            assert!(alive(&fixture.mark).is_empty());
        }),
        trial("a_prompt_reaches_its_agent_however_many_hosts_come_and_go_before", |fixture| async move {
            let (config, wanted) = hosts_that_come_and_go(&fixture);
            let mut gateway = TestGateway::start(config);
            gateway.prompt("echo x");
            come_and_go(&fixture.run_dir(), &wanted, TIMES).await;
            assert_eq!(gateway.turn().await.text(), "x");
            gateway.stop().await;
        }),
        trial("a_stop_is_obeyed_however_many_hosts_come_and_go_before", |fixture| {
            ordered_while_hosts_come_and_go(fixture, || AgentControl::Stop)
        }),
        trial("a_kill_is_obeyed_however_many_hosts_come_and_go_before", |fixture| {
            ordered_while_hosts_come_and_go(fixture, || AgentControl::Kill)
        }),
        trial("a_host_whose_directory_is_removed_ends_in_the_middle_of_a_turn", |fixture| async move {
            let mut config = fixture.demo();
            config.process.limits.host.directory_check = SHORT;
            let mut gateway = TestGateway::start(config);
            gateway.prompt("slow 1000");
            gateway.until_text().await;
            fs::remove_dir_all(fixture.run_dir()).unwrap();
            let (exit, _) = gateway.exit().await;
            assert_eq!(exit_error(&exit).0, "agent_exited");
        }),
        trial("a_host_whose_directory_is_removed_ends_without_a_gateway", |fixture| async move {
            let mut config = fixture.demo();
            let host = &mut config.process.limits.host;
            (host.directory_check, host.grace_idle, host.grace_turn) = (SHORT, LONG, LONG);
            let mut gateway = TestGateway::start(config);
            gateway.prompt("slow 1000");
            gateway.until_text().await;
            gateway.crash().await;
            fs::remove_dir_all(fixture.run_dir()).unwrap();
            eventually("the host has ended", || alive(&fixture.mark).is_empty()).await;
        }),
        trial("a_host_whose_directory_is_moved_goes_on", |fixture| async move {
            let mut config = fixture.demo();
            config.process.limits.host.directory_check = SHORT;
            let mut gateway = TestGateway::start(config);
            gateway.run_turn("echo x").await;
            let (mut config, log, read) = gateway.crash().await;
            config.hosts.set_file_name("moved");
            fs::rename(&fixture.hosts, &config.hosts).unwrap();
            let mut gateway = TestGateway::adopt((config, log, read));
            assert_eq!(gateway.run_turn("echo y").await.text(), "y");
            gateway.stop().await;
        }),
    ]
}
