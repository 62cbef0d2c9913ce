//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// A gateway between chat clients and coding agents.
#[derive(Debug, Parser)]
#[command(name = "switchboard", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the gateway.
    Serve(Box<ServeArgs>),
    /// Talks to a gateway from the terminal.
    Chat(ChatArgs),
    /// Copies all chats to a file, also while the gateway runs.
    Backup(BackupArgs),
    /// Puts a backup into a data directory that has no chats.
    Restore(RestoreArgs),
    /// Checks the configuration, the data directory and the agents found.
    Doctor(Box<ServeArgs>),
    /// The built-in agent: speaks the dialect of Claude Code on standard input and output.
    DemoAgent {
        /// Options of a real agent are accepted and ignored.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        ignored: Vec<String>,
    },
    /// Keeps an agent alive over restarts of the gateway, which starts it.
    #[command(hide = true)]
    AgentHost,
}

/// The options of `serve`. All but `--config` and `--accept-loss` can stand in the configuration file under the same names; the
/// command line wins.
#[derive(Debug, Clone, Default, Args)]
pub struct ServeArgs {
    /// Address to listen on, or a Unix socket for a reverse proxy; may be repeated. Port 0 picks a free one. [default:
    /// 127.0.0.1:8765]
    #[arg(long, value_name = "IP:PORT | unix:PATH")]
    pub listen: Vec<String>,
    /// Also listen on this Unix socket, for one JSON object per line.
    #[arg(long, value_name = "PATH")]
    pub unix: Option<PathBuf>,
    /// Where the gateway keeps its token and its data. [default: $XDG_STATE_HOME/switchboard]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// What survives: `normal` (answers the end of the process, messages the loss of power), `strict` (both the
    /// loss of power) or `none` (nothing is kept). [default: normal]
    #[arg(long, value_name = "LEVEL")]
    pub durability: Option<String>,
    /// Go on once with what is left of the chats where some that were kept are missing. Their files are copied aside.
    #[arg(long)]
    pub accept_loss: bool,
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory that agents work in. [default: the current directory]
    #[arg(long, value_name = "DIR")]
    pub workspace: Option<PathBuf>,
    /// A known agent by name, or `demo`. [default: the first one found]
    #[arg(long, value_name = "NAME", conflicts_with = "agent_command")]
    pub agent: Option<String>,
    /// The command of any other agent. Needs --dialect.
    #[arg(long, value_name = "CMD ARGS", requires = "dialect")]
    pub agent_command: Option<String>,
    /// What the agent of --agent-command speaks: `claude`, `text` or `text-raw`.
    #[arg(long, value_name = "NAME")]
    pub dialect: Option<String>,
    /// What agents are kept from: `shield` (acting as you), `workspace` (writing elsewhere, too) or `off`; `require`
    /// is `shield`. By default `shield` where it works; one that is named and does not work is an error.
    #[arg(long, value_name = "LEVEL")]
    pub sandbox: Option<String>,
    /// Give agents back what the sandbox takes: a name, such as `containers`, or a path; may be repeated.
    #[arg(long, value_name = "NAME | PATH")]
    pub sandbox_allow: Vec<String>,
    /// Directory that agents may write to under `--sandbox workspace`; may be repeated.
    #[arg(long, value_name = "DIR")]
    pub sandbox_write: Vec<PathBuf>,
    /// Most agents alive at once. [default: 32]
    #[arg(long, value_name = "N")]
    pub max_agents: Option<u64>,
    /// File that holds the token. [default: `token` in the data directory, made at the first run]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Let everybody in who reaches the port. Only on loopback.
    #[arg(long, conflicts_with = "token_file")]
    pub no_auth: bool,
    /// Also accept pages of this origin: scheme, host and port, as browsers send it; may be repeated.
    #[arg(long, value_name = "URL")]
    pub allow_origin: Vec<String>,
    /// Also answer to this host name, such as chat.example.com; may be repeated.
    #[arg(long, value_name = "HOST")]
    pub allow_host: Vec<String>,
    /// Path under which a reverse proxy shows the gateway, such as /switchboard.
    #[arg(long, value_name = "PATH")]
    pub base_path: Option<String>,
    /// Write the bound addresses to this file, one per line, once the gateway is ready.
    #[arg(long, value_name = "FILE")]
    pub port_file: Option<PathBuf>,
    /// Open the page in the browser.
    #[arg(long)]
    pub open: bool,
    /// What to log, such as `info` or `switchboard=debug`. [default: $RUST_LOG, else info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// How to log: `human` or `json`. [default: human]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
}

/// The options of `backup`.
#[derive(Debug, Clone, Args)]
pub struct BackupArgs {
    /// The file to be made. One that exists is not overwritten.
    pub file: PathBuf,
    /// Whose chats.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// The options of `restore`.
#[derive(Debug, Clone, Args)]
pub struct RestoreArgs {
    /// The file that `switchboard backup` made.
    pub file: PathBuf,
    /// Where to put them.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Which data directory is meant.
#[derive(Debug, Clone, Args)]
pub struct PlaceArgs {
    /// Where the gateway keeps its data. [default: $XDG_STATE_HOME/switchboard]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Configuration file (TOML), which may name the data directory.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// The options of `chat`.
#[derive(Debug, Clone, Args)]
pub struct ChatArgs {
    /// The gateway: http://HOST:PORT, ws://HOST:PORT or unix:PATH.
    #[arg(default_value = "http://127.0.0.1:8765")]
    pub gateway: String,
    /// Go on with this chat; one that does not exist is begun. [default: a new chat]
    #[arg(long, value_name = "ID")]
    pub chat: Option<String>,
    /// File that holds the token. [default: `token` in the data directory]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Where the gateway keeps its token. [default: $XDG_STATE_HOME/switchboard]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}
