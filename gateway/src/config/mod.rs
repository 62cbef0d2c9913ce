//! The configuration: read once from the flags and the file, checked, and then passed to the parts that need it.

mod file;
mod limits;
mod path;
mod sandbox;

use std::{
    env,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use switchboard_agent_bridge::{Dialect, SandboxAllow, dialect};
use switchboard_core::Limits;

use crate::{
    auth::{Authority, Origin},
    cli::ServeArgs,
    failure::{Failure, Result},
    logs::LogFormat,
};
use file::{File, Words};
use path::home;

pub use limits::AccessLimits;
pub(crate) use path::absolute;
pub use sandbox::SandboxChoice;

/// The address that the gateway listens on without `--listen`.
pub(crate) const DEFAULT_LISTEN: &str = "127.0.0.1:8765";

/// All settings of `switchboard serve`.
#[derive(Debug, Clone)]
pub struct Config {
    /// TCP addresses to serve HTTP on.
    pub listen: Vec<SocketAddr>,
    /// Unix sockets to serve HTTP on, for reverse proxies.
    pub listen_unix: Vec<PathBuf>,
    /// Unix socket for clients that exchange one JSON object per line.
    pub unix: Option<PathBuf>,
    /// The configuration file, if `--config` names one.
    pub config_file: Option<PathBuf>,
    /// The directory of the journal, the token and the agents' hosts.
    pub data_dir: PathBuf,
    /// Which events survive a crash and a loss of power.
    pub durability: Durability,
    /// Whether to start although chats or parts of chats are lost.
    pub accept_loss: bool,
    /// The directory that agents work in.
    pub workspace: PathBuf,
    /// The agent that answers messages.
    pub agent: AgentChoice,
    /// What the sandbox prevents agents from doing.
    pub sandbox: SandboxChoice,
    /// Exceptions from the sandbox: resources that agents may use all the same.
    pub sandbox_allow: Vec<SandboxAllow>,
    /// Directories that agents may write to beside the workspace, with [`SandboxChoice::Workspace`].
    pub sandbox_write: Vec<PathBuf>,
    /// Whether requests need credentials.
    pub auth: bool,
    /// The file that holds the token.
    pub token_file: PathBuf,
    /// Further origins whose pages may use the gateway.
    pub allow_origins: Vec<Origin>,
    /// Further host names that the gateway answers to.
    pub allow_hosts: Vec<Authority>,
    /// The path under which a reverse proxy serves the gateway: empty, or begins with a slash and does not end with
    /// one.
    pub base_path: String,
    /// The file to write the bound addresses to.
    pub port_file: Option<PathBuf>,
    /// Whether to open the page in a browser.
    pub open: bool,
    /// The log filter; `None` for the filter in `RUST_LOG`.
    pub log: Option<String>,
    /// The format of the log.
    pub log_format: LogFormat,
    /// The core's limits.
    pub limits: Limits,
    /// The limits of the HTTP server, of access control and of the shutdown.
    pub access_control: AccessLimits,
}

/// Which events survive the end of the process, and which a loss of power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing survives: the journal is in memory.
    None,
    /// Published events survive the end of the process; acknowledged messages survive a loss of power.
    Normal,
    /// All published events survive a loss of power.
    Strict,
}

/// The agent that answers messages, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentChoice {
    /// The first preset whose program is found, otherwise the demo agent.
    Detect,
    /// The preset of this name, or `demo`.
    Named(String),
    /// Any other program.
    Command {
        /// Program and arguments.
        command: Vec<String>,
        /// The dialect that the program speaks.
        dialect: &'static dyn Dialect,
    },
}

impl Config {
    /// Reads the configuration from `args` and from the file that they name.
    ///
    /// # Errors
    ///
    /// The file cannot be read or is not valid, a setting is not valid, or settings contradict each other.
    pub fn read(args: &ServeArgs) -> Result<Self> {
        let mut args = args.clone();
        let config_file = args.config.as_deref().map(absolute).transpose()?;
        let file = match &config_file {
            Some(path) => {
                let file = File::read(path)?;
                file.complete(&mut args, path.parent().unwrap_or(Path::new("/")));
                file
            }
            None => File::default(),
        };
        let agent = agent_choice(&args, file.agent_command)?;
        let (mut limits, access_control) = limits::read(&file.limits, !args.no_auth)?;
        if let Some(agents) = args.max_agents {
            limits.agents =
                usize::try_from(agents).ok().filter(|n| (1..=10_000).contains(n)).ok_or_else(|| {
                    Failure::new(
                        format!("--max-agents is {agents}, which it cannot be."),
                        "Give a number from 1 to 10000.",
                    )
                })?;
        }
        let data_dir = match &args.data_dir {
            Some(dir) => absolute(dir)?,
            None => default_data_dir()?,
        };
        let token_file = match &args.token_file {
            Some(path) => absolute(path)?,
            None => data_dir.join("token"),
        };
        let (listen, listen_unix) = listen(&args.listen)?;
        let config = Self {
            listen,
            listen_unix,
            unix: args.unix.as_deref().map(absolute).transpose()?,
            durability: durability(args.durability.as_deref())?,
            accept_loss: args.accept_loss,
            workspace: workspace(args.workspace.as_deref())?,
            agent,
            sandbox: sandbox::level(args.sandbox.as_deref())?,
            sandbox_allow: args
                .sandbox_allow
                .iter()
                .map(|text| sandbox::allow(text))
                .collect::<Result<_>>()?,
            sandbox_write: args.sandbox_write.iter().map(|dir| absolute(dir)).collect::<Result<_>>()?,
            config_file,
            auth: !args.no_auth,
            allow_origins: all(&args.allow_origin, "--allow-origin", Origin::parse, ORIGINS)?,
            allow_hosts: all(&args.allow_host, "--allow-host", Authority::parse, HOSTS)?,
            base_path: base_path(args.base_path.as_deref())?,
            port_file: args.port_file.as_deref().map(absolute).transpose()?,
            open: args.open,
            log: args.log,
            log_format: log_format(args.log_format.as_deref())?,
            data_dir,
            token_file,
            limits,
            access_control,
        };
        config.check_exposure()?;
        Ok(config)
    }

    /// Refuses settings that would open the gateway to the network by accident.
    fn check_exposure(&self) -> Result<()> {
        for address in &self.listen {
            if !self.auth && !address.ip().is_loopback() {
                return Err(Failure::new(
                    format!("--no-auth together with --listen {address} would let the whole network in."),
                    "Remove --no-auth, or listen on 127.0.0.1 or [::1] only.",
                ));
            }
            if address.ip().is_unspecified() && self.allow_hosts.is_empty() {
                return Err(Failure::new(
                    format!("--listen {address} answers on every network, and no name is given under which."),
                    "Add --allow-host NAME with the host name or address that people will type, or listen on \
                     127.0.0.1.",
                ));
            }
        }
        Ok(())
    }
}

const ORIGINS: &str = "Give scheme, host and, where it is not the usual one, port, and nothing else: \
                       https://chat.example.com or http://10.0.0.7:8080.";
const HOSTS: &str = "Give a host name or address, with a port where it is not the one that the gateway listens on: \
                     chat.example.com or 10.0.0.7:8080.";

fn all<T>(texts: &[String], flag: &str, parse: fn(&str) -> Option<T>, remedy: &str) -> Result<Vec<T>> {
    let parsed = |text: &String| {
        parse(text).ok_or_else(|| Failure::new(format!("{flag} is {text:?}, which it cannot be."), remedy))
    };
    texts.iter().map(parsed).collect()
}

fn durability(text: Option<&str>) -> Result<Durability> {
    match text {
        None | Some("normal") => Ok(Durability::Normal),
        Some("strict") => Ok(Durability::Strict),
        Some("none") => Ok(Durability::None),
        Some(text) => Err(Failure::new(
            format!("--durability is {text:?}, which it cannot be."),
            "Give `normal`, `strict` or `none`; or leave it out for `normal`.",
        )),
    }
}

/// The prefix of a Unix socket's path in `--listen`.
const UNIX: &str = "unix:";

fn listen(texts: &[String]) -> Result<(Vec<SocketAddr>, Vec<PathBuf>)> {
    if texts.is_empty() {
        return listen(&[DEFAULT_LISTEN.to_owned()]);
    }
    let (mut addresses, mut paths) = (Vec::new(), Vec::new());
    for text in texts {
        let is_new = match text.strip_prefix(UNIX) {
            Some(path) => {
                let path = absolute(Path::new(path))?;
                let is_new = !paths.contains(&path);
                paths.push(path);
                is_new
            }
            None => {
                let address = address(text)?;
                let is_new = address.port() == 0 || !addresses.contains(&address);
                addresses.push(address);
                is_new
            }
        };
        if !is_new {
            return Err(Failure::new(format!("--listen {text} is given twice."), "Give each address once."));
        }
    }
    Ok((addresses, paths))
}

fn address(text: &str) -> Result<SocketAddr> {
    let address = match text.strip_prefix("localhost:") {
        Some(port) => port.parse().ok().map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)),
        None => text.parse().ok(),
    };
    address.ok_or_else(|| {
        Failure::new(
            format!("--listen is {text:?}, which it cannot be."),
            "Give an IP address and a port from 0 to 65535: 127.0.0.1:8765, [::1]:8765, or port 0 for a free one; or \
             unix:PATH for a socket.",
        )
    })
}

fn agent_choice(args: &ServeArgs, command: Option<Words>) -> Result<AgentChoice> {
    let has_command = args.agent_command.is_some() || (args.agent.is_none() && command.is_some());
    if let Some(dialect) = args.dialect.as_ref().filter(|_| !has_command) {
        return Err(Failure::new(
            format!("--dialect {dialect} is given without a command that speaks it."),
            "Give the command with --agent-command \"CMD ARGS\". A known agent (--agent NAME) has its dialect already.",
        ));
    }
    let command = match (&args.agent, &args.agent_command, command) {
        (Some(name), ..) => return Ok(AgentChoice::Named(name.clone())),
        (None, Some(line), _) => split(line)?,
        (None, None, Some(Words::Line(line))) => split(&line)?,
        (None, None, Some(Words::List(words))) => words,
        (None, None, None) => return Ok(AgentChoice::Detect),
    };
    if command.first().is_none_or(String::is_empty) {
        return Err(Failure::new("--agent-command is empty.", "Give a program and its arguments."));
    }
    let dialect = args.dialect.as_deref().unwrap_or_default();
    match dialect::by_name(dialect) {
        Ok(dialect) => Ok(AgentChoice::Command { command, dialect }),
        Err(_) => {
            let known: Vec<&str> = dialect::ALL.iter().map(|dialect| dialect.name()).collect();
            Err(Failure::new(
                format!("--dialect is {dialect:?}, which no agent speaks here."),
                format!("Together with --agent-command, give one of: {}.", known.join(", ")),
            ))
        }
    }
}

fn split(line: &str) -> Result<Vec<String>> {
    shlex::split(line).ok_or_else(|| {
        Failure::new(
            format!("--agent-command {line:?} has a quotation mark that is not closed."),
            "Quote it as for a shell; it is split into words but not run by one.",
        )
    })
}

fn base_path(text: Option<&str>) -> Result<String> {
    let trimmed = text.unwrap_or_default().trim_end_matches('/');
    let segment = |s: &str| {
        !s.is_empty()
            && !matches!(s, "." | "..")
            && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~".contains(&b))
    };
    let valid =
        trimmed.is_empty() || trimmed.strip_prefix('/').is_some_and(|rest| rest.split('/').all(segment));
    if valid {
        return Ok(trimmed.to_owned());
    }
    Err(Failure::new(
        format!("--base-path is {trimmed:?}, which it cannot be."),
        "Give a path that begins with a slash, of letters, digits and -_.~ such as /switchboard.",
    ))
}

fn log_format(text: Option<&str>) -> Result<LogFormat> {
    match text {
        None | Some("human") => Ok(LogFormat::Human),
        Some("json") => Ok(LogFormat::Json),
        Some(other) => Err(Failure::new(
            format!("--log-format is {other:?}, which it cannot be."),
            "Give human or json.",
        )),
    }
}

fn workspace(dir: Option<&Path>) -> Result<PathBuf> {
    let dir = absolute(dir.unwrap_or(Path::new(".")))?;
    let found = std::fs::canonicalize(&dir).ok().filter(|dir| dir.is_dir());
    found.ok_or_else(|| {
        Failure::new(
            format!("--workspace {} is not a directory.", dir.display()),
            "Give the directory that agents are to work in; make it first if it is new.",
        )
    })
}

/// The data directory without `--data-dir`: `$XDG_STATE_HOME/switchboard`, or `~/.local/state/switchboard` without
/// that variable.
///
/// # Errors
///
/// Neither `XDG_STATE_HOME` nor `HOME` is an absolute path.
pub fn default_data_dir() -> Result<PathBuf> {
    let state = env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    match state.or_else(|| Some(home()?.join(".local/state"))) {
        Some(state) => Ok(state.join("switchboard")),
        None => Err(Failure::new(
            "There is no home directory to keep data in: neither XDG_STATE_HOME nor HOME is set.",
            "Give --data-dir DIR.",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(change: impl FnOnce(&mut ServeArgs)) -> Result<Config> {
        let mut args = ServeArgs { data_dir: Some("/tmp/none".into()), ..ServeArgs::default() };
        change(&mut args);
        Config::read(&args)
    }

    fn set(name: &'static str) -> impl Fn(&mut ServeArgs, &str) {
        move |args, value| {
            let value = value.to_owned();
            match name {
                "listen" => args.listen = vec![value],
                "base-path" => args.base_path = Some(value),
                "allow-origin" => args.allow_origin = vec![value],
                "allow-host" => args.allow_host = vec![value],
                "log-format" => args.log_format = Some(value),
                "sandbox" => args.sandbox = Some(value),
                "sandbox-allow" => args.sandbox_allow = vec![value],
                other => panic!("{other}"),
            }
        }
    }

    #[test]
    fn values_that_cannot_be_name_their_flag() {
        let cases = [
            ("listen", "127.0.0.1"),
            ("listen", "example.com:80"),
            ("listen", "127.0.0.1:99999"),
            ("listen", "::1:80"),
            ("base-path", "switchboard"),
            ("base-path", "/a//b"),
            ("base-path", "/../b"),
            ("base-path", "/a?b"),
            ("allow-origin", "chat.example.com"),
            ("allow-origin", "https://chat.example.com/"),
            ("allow-origin", "*"),
            ("allow-origin", "null"),
            ("allow-host", "https://chat.example.com"),
            ("allow-host", "*.example.com"),
            ("log-format", "xml"),
            ("sandbox", "on"),
            ("sandbox-allow", "docker"),
            ("sandbox-allow", "run/docker.sock"),
        ];
        for (name, value) in cases {
            let error = read(|args| set(name)(args, value)).unwrap_err();
            assert!(error.what().contains(name) && error.what().contains(value), "{error}");
        }
    }

    #[test]
    fn sockets_are_listened_on_beside_addresses_or_alone() {
        let listen =
            |texts: &[&str]| read(|args| args.listen = texts.iter().map(|t| (*t).to_owned()).collect());
        let both = listen(&["unix:/run/a/http", "127.0.0.1:0", "unix:/run/a/other"]).unwrap();
        assert_eq!((both.listen.len(), both.listen_unix.len()), (1, 2));
        let alone = listen(&["unix:/run/a/http"]).unwrap();
        assert_eq!((alone.listen.len(), alone.listen_unix), (0, vec![PathBuf::from("/run/a/http")]));
        assert!(listen(&["unix:/run/a/http", "unix:/run/a/./http"]).unwrap_err().what().contains("twice"));
    }

    #[test]
    fn nobody_is_let_in_from_the_network_by_accident() {
        let wildcard = |args: &mut ServeArgs| args.listen = vec!["0.0.0.0:0".into()];
        assert!(read(wildcard).unwrap_err().remedy().contains("--allow-host"));
        assert!(
            read(|args| {
                wildcard(args);
                args.allow_host = vec!["chat.example.com".into()];
            })
            .is_ok()
        );
        for address in ["0.0.0.0:0", "[::]:0", "10.0.0.1:0"] {
            let error = read(|args| {
                args.listen = vec!["127.0.0.1:0".into(), address.into()];
                args.no_auth = true;
                args.allow_host = vec!["chat.example.com".into()];
            });
            assert!(error.unwrap_err().what().contains("--no-auth"), "{address}");
        }
        assert!(read(|args| args.no_auth = true).is_ok());
    }

    #[test]
    fn a_command_is_split_and_has_a_dialect() {
        let choice = read(|args| {
            args.agent_command = Some("prog 'one word' two".into());
            args.dialect = Some("text".into());
        });
        let command = ["prog", "one word", "two"].map(String::from).to_vec();
        assert_eq!(choice.unwrap().agent, AgentChoice::Command { command, dialect: dialect::TEXT });
        let error = read(|args| {
            args.agent_command = Some("prog".into());
            args.dialect = Some("morse".into());
        });
        assert!(error.unwrap_err().remedy().contains("claude, text"));
    }
}
