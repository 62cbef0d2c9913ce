//! The configuration file (TOML): settings with the names of the flags, and a `[limits]` table.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::{
    cli::ServeArgs,
    failure::{Failure, Result},
};

/// The settings that the file may contain. Unknown names are errors.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct File {
    listen: Texts,
    unix: Option<PathBuf>,
    data_dir: Option<PathBuf>,
    durability: Option<String>,
    workspace: Option<PathBuf>,
    agent: Option<String>,
    pub(super) agent_command: Option<Words>,
    dialect: Option<String>,
    sandbox: Option<String>,
    sandbox_allow: Texts,
    sandbox_write: Texts,
    max_agents: Option<u64>,
    token_file: Option<PathBuf>,
    no_auth: bool,
    allow_origin: Texts,
    allow_host: Texts,
    base_path: Option<String>,
    port_file: Option<PathBuf>,
    open: bool,
    log: Option<String>,
    log_format: Option<String>,
    pub(super) limits: toml::Table,
}

/// A string or a list of strings.
#[derive(Debug, Default, Deserialize)]
#[serde(from = "OneOrMany")]
struct Texts(Vec<String>);

#[derive(Deserialize)]
#[serde(untagged, expecting = "a text or a list of texts")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl From<OneOrMany> for Texts {
    fn from(value: OneOrMany) -> Self {
        match value {
            OneOrMany::One(text) => Self(vec![text]),
            OneOrMany::Many(texts) => Self(texts),
        }
    }
}

/// A command: a string that is split as a shell splits it, or a list of arguments that is used unchanged.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a text or a list of texts")]
pub(super) enum Words {
    /// A command line that is still to be split.
    Line(String),
    /// Program and arguments.
    List(Vec<String>),
}

impl File {
    /// Reads and parses the file at `path`.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is not valid TOML, or contains an unknown name or a value of the wrong type.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::new(
                format!("The configuration file {shown} cannot be read: {error}."),
                "Correct --config, or leave it out to run with the defaults.",
            )
        })?;
        Self::parse(&text).map_err(|why| {
            Failure::new(
                format!("The configuration file {shown} is not valid: {why}"),
                "The names are those of the flags in `switchboard serve --help`; limits stand under [limits].",
            )
        })
    }

    fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())
    }

    /// Fills in the arguments that the command line does not give. Paths in the file are relative to `dir`, the
    /// directory of the file.
    pub(super) fn complete(&self, args: &mut ServeArgs, dir: &Path) {
        let path = |path: &Option<PathBuf>| {
            path.as_ref().map(|path| if path.starts_with("~") { path.clone() } else { dir.join(path) })
        };
        let texts = |own: &mut Vec<String>, texts: &Texts| {
            if own.is_empty() {
                own.clone_from(&texts.0);
            }
        };
        let is_given = !args.listen.is_empty();
        texts(&mut args.listen, &self.listen);
        for text in args.listen.iter_mut().filter(|_| !is_given) {
            if let Some(path) = text.strip_prefix("unix:").map(PathBuf::from).and_then(|p| path(&Some(p))) {
                *text = format!("unix:{}", path.display());
            }
        }
        texts(&mut args.sandbox_allow, &self.sandbox_allow);
        if args.sandbox_write.is_empty() {
            args.sandbox_write =
                self.sandbox_write.0.iter().filter_map(|dir| path(&Some(dir.into()))).collect();
        }
        texts(&mut args.allow_origin, &self.allow_origin);
        texts(&mut args.allow_host, &self.allow_host);
        // An agent on the command line, by name or command, replaces the file's agent, by name or command.
        if args.agent.is_none() && args.agent_command.is_none() {
            args.agent.clone_from(&self.agent);
            args.dialect = args.dialect.take().or_else(|| self.dialect.clone());
        }
        // --no-auth and --token-file exclude each other, so either of them overrides both settings of the file.
        if !args.no_auth && args.token_file.is_none() {
            args.token_file = path(&self.token_file);
            args.no_auth = self.no_auth;
        }
        args.unix = args.unix.take().or_else(|| path(&self.unix));
        args.data_dir = args.data_dir.take().or_else(|| path(&self.data_dir));
        args.durability = args.durability.take().or_else(|| self.durability.clone());
        args.workspace = args.workspace.take().or_else(|| path(&self.workspace));
        args.port_file = args.port_file.take().or_else(|| path(&self.port_file));
        args.sandbox = args.sandbox.take().or_else(|| self.sandbox.clone());
        args.max_agents = args.max_agents.or(self.max_agents);
        args.base_path = args.base_path.take().or_else(|| self.base_path.clone());
        args.log = args.log.take().or_else(|| self.log.clone());
        args.log_format = args.log_format.take().or_else(|| self.log_format.clone());
        args.open |= self.open;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_flags() {
        let file = File::parse(
            "listen = \"127.0.0.1:0\"\nallow-host = [\"a.example\", \"b.example\"]\ntoken-file = \"t\"\n\
             [limits]\nagents = 3\n",
        )
        .unwrap();
        let mut args = ServeArgs { allow_host: vec!["c.example".into()], ..ServeArgs::default() };
        file.complete(&mut args, Path::new("/etc/switchboard"));
        assert_eq!(args.listen, ["127.0.0.1:0"]);
        assert_eq!(args.allow_host, ["c.example"], "the command line wins");
        assert_eq!(args.token_file.as_deref(), Some(Path::new("/etc/switchboard/t")));
    }

    #[test]
    fn an_unknown_name_is_an_error_that_names_it() {
        let error = File::parse("listens = \"127.0.0.1:0\"\n").unwrap_err();
        assert!(error.contains("listens"), "{error}");
        let error = File::parse("listen = 3\n").unwrap_err();
        assert!(error.contains("a text or a list of texts"), "{error}");
    }
}
