//! The steps that CI runs, cheapest first, so that common failures show soon.

use std::time::Duration;

use crate::runner::Step;
use crate::{
    agents, autobahn, browser, edges, generated, nginx, package, peers, readme, rust, sandbox, secrets, tidy,
    tools, web,
};

/// All steps in the order in which they run.
pub(crate) const STEPS: &[Step] = &[
    Step { name: "fmt", about: "Rust sources are formatted", limit: seconds(60), run: rust::format },
    Step {
        name: "tidy",
        about: "no debris, oversized files, machine paths or links to nowhere",
        limit: seconds(60),
        run: tidy::step,
    },
    Step {
        name: "secrets",
        about: "no key, token or other secret in a tracked file",
        limit: seconds(60),
        run: secrets::step,
    },
    Step { name: "spelling", about: "typos finds none", limit: seconds(300), run: tools::spelling },
    Step {
        name: "edges",
        about: "the dependencies that must not exist do not, and no modules use each other in a circle",
        limit: seconds(180),
        run: edges::step,
    },
    Step {
        name: "no_std",
        about: "the core builds where there is no operating system, and for browsers",
        limit: seconds(300),
        run: rust::no_std,
    },
    Step {
        name: "features",
        about: "each library builds alone, with none of its features and with each",
        limit: seconds(600),
        run: rust::features,
    },
    Step {
        name: "clippy",
        about: "clippy has nothing to say, over all targets and features",
        limit: seconds(900),
        run: rust::clippy,
    },
    Step {
        name: "build",
        about: "programs, tests and examples compile",
        limit: seconds(1200),
        run: rust::build,
    },
    Step {
        name: "package",
        about: "the crate conformance can be packaged for others, with its traces",
        limit: seconds(300),
        run: package::step,
    },
    Step {
        name: "sandbox",
        about: "a hostile agent in its sandbox gets at nothing that is hidden",
        limit: seconds(300),
        run: sandbox::step,
    },
    Step {
        name: "tests",
        about: "all tests pass, and no snapshot is stale or left over",
        limit: seconds(1200),
        run: rust::tests,
    },
    Step {
        name: "doctests",
        about: "the examples in the documentation work",
        limit: seconds(600),
        run: rust::doctests,
    },
    Step {
        name: "doc",
        about: "the documentation builds without a warning",
        limit: seconds(600),
        run: rust::documentation,
    },
    Step {
        name: "web",
        about: "the page's sources type-check and its unit tests pass",
        limit: seconds(300),
        run: web::step,
    },
    Step {
        name: "generated",
        about: "generated files are what their sources generate",
        limit: seconds(600),
        run: generated::step,
    },
    Step {
        name: "claude",
        about: "Claude Code itself, against a scripted model on loopback",
        limit: seconds(600),
        run: agents::claude,
    },
    Step {
        name: "browser",
        about: "Chromium drives the page of a running gateway, also with Claude Code",
        limit: seconds(600),
        run: browser::step,
    },
    Step {
        name: "peers",
        about: "client libraries, curl and socat talk to a running gateway, also through nginx",
        limit: seconds(600),
        run: peers::step,
    },
    Step {
        name: "readme",
        about: "the commands of README.md do what it says",
        limit: seconds(300),
        run: readme::step,
    },
    Step {
        name: "nginx",
        about: "page, WebSocket and streams behind nginx, with the lines of the documentation",
        limit: seconds(600),
        run: nginx::step,
    },
    Step {
        name: "autobahn",
        about: "Autobahn's fuzzing client finds nothing wrong with the WebSocket transport",
        limit: seconds(600),
        run: autobahn::step,
    },
    Step {
        name: "deny",
        about: "licences, bans and sources of all dependencies",
        limit: seconds(600),
        run: tools::deny,
    },
    Step {
        name: "advisories",
        about: "no dependency has a known vulnerability",
        limit: seconds(300),
        run: tools::advisories,
    },
];

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
