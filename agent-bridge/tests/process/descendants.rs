//! Processes that agents start.

use std::sync::Arc;

use libtest_mimic::Trial;
use switchboard_agent_bridge::{ProcessAgent, sweep_leftovers};
use switchboard_core::agent::AgentExit;
use switchboard_runtime::AgentControl;

use crate::{
    support::{TestAgent, alive, daemons, eventually},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("daemons_are_killed_with_their_agent_and_no_others", |fixture| async move {
            let mut agent = TestAgent::start(fixture.stub(&daemons::script(1005)), None);
            agent.prompt("x");
            daemons::all_run(1005).await;
            let mut config = fixture.stub_config(&daemons::script(1006));
            // Another seed, and so another mark.
            config.seed = [8; 16];
            let mut other = TestAgent::start(Arc::new(ProcessAgent::new(config)), None);
            other.prompt("x");
            daemons::all_run(1006).await;
            agent.stop().await;
            assert_eq!((daemons::running(1005), daemons::running(1006)), (0, daemons::COUNT));
            // As at the start of a gateway after one that was killed.
            let mark = fixture.mark.clone();
            let killed = tokio::task::spawn_blocking(move || sweep_leftovers(&mark)).await.unwrap();
            assert_eq!((killed, daemons::running(1006)), (daemons::COUNT + 1, 0));
            other.exit().await;
        }),
        trial("daemons_of_an_agent_that_died_are_killed", |fixture| async move {
            let script = daemons::script(1007).replace("while read -r line; do :; done", "kill -9 $$");
            let mut agent = TestAgent::start(fixture.stub(&script), None);
            agent.prompt("x");
            agent.exit().await;
            assert_eq!(daemons::running(1007), 0);
        }),
        trial("stops_at_the_same_moment_leave_nothing", |fixture| async move {
            const AGENTS: usize = 20;
            let script = "setsid sleep 1041 & read -r line; read -r prompt; exec sleep 1042";
            let mut agents: Vec<_> =
                (0..AGENTS).map(|_| TestAgent::start(fixture.stub(script), None)).collect();
            agents.iter_mut().for_each(|agent| agent.prompt("x"));
            eventually("all of them run", || alive(&fixture.mark).len() == 2 * AGENTS).await;
            agents.iter().for_each(|agent| agent.control(AgentControl::Stop));
            for agent in agents {
                assert_eq!(agent.exit().await.0, AgentExit::Stopped);
            }
            assert!(alive(&fixture.mark).is_empty());
        }),
    ]
}
