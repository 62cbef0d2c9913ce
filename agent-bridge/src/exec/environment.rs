//! What an agent process inherits: the environment variables of an allow-list, and no descriptors.

use std::ffi::OsString;

use crate::dialect::vendors::VARIABLE_PREFIXES;

/// Names of environment variables that an agent inherits. No other variable is passed on, above all no gateway token.
/// Variables that an agent needs besides are configured ([`ProcessConfig::env`](crate::ProcessConfig::env)).
const ALLOWED: &[&str] = &[
    "PATH",
    "HOME",
    "LANG",
    "LANGUAGE",
    "TERM",
    "COLORTERM",
    "TMPDIR",
    "TZ",
    "USER",
    "LOGNAME",
    "SHELL",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "NODE_EXTRA_CA_CERTS",
];

/// Prefixes of further inherited names, besides those of the agents' own settings: locales, desktop directories,
/// certificates, and switches that turn telemetry off.
const ALLOWED_PREFIXES: &[&str] = &["LC_", "XDG_", "SSL_CERT_", "DISABLE_"];

/// The variables of this process's environment that an agent inherits.
pub(crate) fn inherited() -> Vec<(OsString, OsString)> {
    std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(allowed)).collect()
}

fn allowed(name: &str) -> bool {
    let mut prefixes = ALLOWED_PREFIXES.iter().chain(VARIABLE_PREFIXES);
    ALLOWED.contains(&name) || prefixes.any(|prefix| name.starts_with(prefix))
}

/// Sets close-on-exec on every descriptor above 2, including descriptors that this process itself inherited.
pub(crate) fn close_descriptors_on_exec() {
    close_fds::set_fds_cloexec_threadsafe(3, &[]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_listed_is_inherited() {
        for name in ["PATH", "LC_ALL", "https_proxy", "SSL_CERT_FILE"] {
            assert!(allowed(name), "{name}");
        }
        for prefix in VARIABLE_PREFIXES {
            assert!(allowed(&format!("{prefix}API_KEY")), "{prefix}");
        }
        for name in
            ["SWITCHBOARD_TOKEN", "SWITCHBOARD_MARK", "LD_PRELOAD", "PATHX", "GITHUB_TOKEN", "", "path"]
        {
            assert!(!allowed(name), "{name}");
        }
    }
}
