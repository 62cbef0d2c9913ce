//! Processes that an agent under a host starts.

use std::collections::BTreeSet;

use libtest_mimic::Trial;
use switchboard_agent_bridge::{end_orphans, kill_all_hosts};

use crate::{
    Fixture,
    gateway::{TestGateway, exit_error},
    kill, pause,
    support::{daemons, eventually},
    trial,
};

/// Starts an agent with daemons of this name.
async fn with_daemons(fixture: &Fixture, name: usize) -> TestGateway {
    let mut gateway = TestGateway::start(fixture.stub(&daemons::script(name)));
    gateway.prompt("x");
    daemons::all_run(name).await;
    gateway
}

/// Starts an agent with a chain of daemons.
async fn with_chain(fixture: &Fixture, name: &str) -> TestGateway {
    let mut gateway = TestGateway::start(fixture.stub(&daemons::chain(name)));
    gateway.prompt("x");
    eventually("it has the prompt", || fixture.workspace().join("received").exists()).await;
    gateway
}

/// Removes what an ended instance has left, so that another one can begin.
fn forget_instance(fixture: &Fixture) {
    std::fs::remove_dir_all(fixture.run_dir()).unwrap();
    std::fs::remove_file(fixture.workspace().join("received")).unwrap();
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("daemons_end_with_a_stopped_agent", |fixture| async move {
            with_daemons(&fixture, 1051).await.stop().await;
            assert_eq!(daemons::running(1051), 0);
        }),
        trial("daemons_end_with_an_agent_that_died", |fixture| async move {
            let gateway = with_daemons(&fixture, 1052).await;
            fixture.agents().into_iter().for_each(kill);
            assert_eq!(exit_error(&gateway.exit().await.0).0, "agent_exited");
            assert_eq!(daemons::running(1052), 0);
        }),
        trial("daemons_end_after_their_host_was_killed", |fixture| async move {
            let gateway = with_daemons(&fixture, 1053).await;
            kill(fixture.host_pid());
            assert_eq!(exit_error(&gateway.exit().await.0).0, "agent_exited");
            assert_eq!(daemons::running(1053), 0);
        }),
        trial("daemons_end_with_an_orphaned_host", |fixture| async move {
            drop(with_daemons(&fixture, 1054).await.crash().await);
            assert_eq!(end_orphans(&fixture.hosts, &BTreeSet::new()).unwrap(), 1);
            assert_eq!(daemons::running(1054), 0);
        }),
        trial("daemons_end_with_a_host_that_does_not_react", |fixture| async move {
            drop(with_daemons(&fixture, 1055).await.crash().await);
            pause(fixture.host_pid());
            assert_eq!(kill_all_hosts(&fixture.hosts).unwrap(), 1);
            assert_eq!(daemons::running(1055), 0);
        }),
        trial("a_chain_of_daemons_that_start_the_next_one_and_exit_ends", |fixture| async move {
            for _ in 0..daemons::chains() {
                with_chain(&fixture, "chain-link").await.stop().await;
                assert_eq!(daemons::links("chain-link"), 0);
                forget_instance(&fixture);
            }
        }),
    ]
}
