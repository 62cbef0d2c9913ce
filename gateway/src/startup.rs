//! The start-up text, the port file and the opening of the page, once the gateway is ready.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::{
    agents::Chosen,
    config::{self, Config},
    console,
    failure::{Failure, Result},
};

/// Capacity for the start-up text, and for each address with its token, in bytes.
const ANNOUNCED: usize = 16 * 1024;

/// Prints the start-up text: the addresses, the agent, the sandbox, the token's file and how to go on.
pub(crate) fn announce(
    config: &Config,
    bound: &[SocketAddr],
    token: Option<&SecretString>,
    agent: &Chosen,
    sandbox: &str,
) {
    // The full capacity from the beginning: a growing buffer would leave copies of the token in memory.
    let room = ANNOUNCED + bound.len() * (ANNOUNCED + config.base_path.len());
    let mut text = Zeroizing::new(String::with_capacity(room));
    text.push_str("Switchboard is ready.\n");
    let mut say = |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    say("");
    for address in bound {
        let url = page_url(*address, &config.base_path, token);
        let mut line = Zeroizing::new(String::with_capacity(url.len() + 16));
        line.push_str("  Page    ");
        line.push_str(&url);
        say(&line);
    }
    for path in &config.listen_unix {
        say(&format!("  HTTP    unix:{}, for a reverse proxy", path.display()));
    }
    for host in &config.allow_hosts {
        say(&format!("          and as {host}, with the same #token=..."));
    }
    if let Some(path) = &config.unix {
        say(&format!("  Socket  unix:{}", path.display()));
    }
    say(&format!("  Agent   {} ({})", agent.name, agent.why));
    say(&format!("  Sandbox {sandbox}"));
    say(&format!("  Works in {}", config.workspace.display()));
    if config.auth {
        say(&format!("  Token   in {}; whoever has it can run the agent", config.token_file.display()));
    } else {
        say("  Token   none: --no-auth lets in every program on this machine that reaches the port");
    }
    say("");
    if let Some(chat) = chat_command(config, bound, config::default_data_dir().ok().as_deref()) {
        say(&format!("In a terminal: {chat}"));
    }
    say("Ctrl-C stops the gateway and ends running turns.");
    console::announce(text);
}

/// The `switchboard chat` command for this gateway, without arguments that are the default. `None` if the gateway is
/// reachable through a proxy only, which the terminal client does not support.
fn chat_command(config: &Config, bound: &[SocketAddr], usual_data_dir: Option<&Path>) -> Option<String> {
    let mut command = String::from("switchboard chat");
    if bound.is_empty() {
        let socket = format!("unix:{}", config.unix.as_ref()?.display());
        let quoted = shlex::try_quote(&socket).map_or(socket.clone(), |quoted| quoted.into_owned());
        return Some(format!("{command} {quoted}"));
    }
    let usual = config::DEFAULT_LISTEN.parse().is_ok_and(|usual| bound.contains(&usual))
        && config.base_path.is_empty();
    if let (false, Some(address)) = (usual, bound.first()) {
        command.push(' ');
        command.push_str(&page_url(*address, &config.base_path, None));
    }
    let usual_token = usual_data_dir.is_some_and(|dir| dir.join("token") == config.token_file);
    if config.auth && !usual_token {
        let file = config.token_file.to_string_lossy();
        command.push_str(" --token-file ");
        command.push_str(&shlex::try_quote(&file).unwrap_or_else(|_| file.as_ref().into()));
    }
    Some(command)
}

/// The URL of the page. An unspecified address becomes loopback, and the token is in the fragment, which browsers do
/// not send to servers.
pub(crate) fn page_url(
    address: SocketAddr,
    base_path: &str,
    token: Option<&SecretString>,
) -> Zeroizing<String> {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    let page = format!("http://{}{base_path}/", SocketAddr::new(ip, address.port()));
    let secret = token.map_or(0, |token| token.expose_secret().len());
    // Each byte of the token may become three when it is escaped.
    let mut url = Zeroizing::new(String::with_capacity(page.len() + 3 * secret + 16));
    url.push_str(&page);
    if let Some(token) = token {
        url.push_str("#token=");
        url.extend(form_urlencoded::byte_serialize(token.expose_secret().as_bytes()));
    }
    url
}

/// Writes the bound addresses to the port file, one per line. The file is renamed into place, so that readers never see
/// a part of it.
///
/// # Errors
///
/// The file cannot be written.
pub(crate) fn write_port_file(path: &Path, bound: &[SocketAddr], sockets: &[PathBuf]) -> Result<()> {
    let addresses = bound.iter().map(|address| format!("{address}\n"));
    let text: String =
        addresses.chain(sockets.iter().map(|path| format!("unix:{}\n", path.display()))).collect();
    let draft = path.with_extension(format!("new-{}", std::process::id()));
    let written = fs::write(&draft, text).and_then(|()| fs::rename(&draft, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&draft);
        no_port_file(path, &error)
    })
}

pub(crate) fn no_port_file(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        format!("The port file {} cannot be written: {error}.", path.display()),
        "Name a file in a directory that this user can write to with --port-file.",
    )
}

/// Opens the page in the browser. A failure is only logged.
pub(crate) fn open_page(data_dir: &Path, url: &str, has_token: bool) {
    // Other users can see the arguments of a process, so a URL with a token is passed in a private file.
    let target = if has_token { redirect_file(data_dir, url) } else { Ok(url.to_owned()) };
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let opened = target.and_then(|target| {
        let mut command = Command::new(program);
        command.arg(target).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn()
    });
    match opened {
        // A thread reaps the child.
        Ok(mut child) => drop(std::thread::spawn(move || child.wait())),
        Err(error) => {
            tracing::warn!(%error, program, "the browser could not be opened; open the printed URL")
        }
    }
}

fn redirect_file(data_dir: &Path, url: &str) -> io::Result<String> {
    let path = data_dir.join("open.html");
    let _ = fs::remove_file(&path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    // Written without a buffer, which would leave a copy of the token in memory.
    for part in ["<!doctype html><meta http-equiv=\"refresh\" content=\"0; url=", url, "\"><a href=\"", url] {
        file.write_all(part.as_bytes())?;
    }
    file.write_all(b"\">Switchboard</a>\n")?;
    Ok(path.display().to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn the_command_for_a_terminal_says_what_is_not_as_usual() {
        let args = |line: &[&str]| {
            let line = ["switchboard", "serve", "--data-dir", "/tmp/a b"].iter().chain(line);
            let crate::cli::Command::Serve(args) = crate::cli::Cli::parse_from(line).command else {
                panic!()
            };
            Config::read(&args).unwrap()
        };
        let chat = |config: &Config, address: &str| {
            chat_command(config, &[address.parse().unwrap()], Some(Path::new("/tmp/a b"))).unwrap()
        };
        let usual = args(&[]);
        assert_eq!(chat(&usual, "127.0.0.1:8765"), "switchboard chat");
        assert_eq!(chat(&usual, "0.0.0.0:1"), "switchboard chat http://127.0.0.1:1/");
        let other = args(&["--token-file", "/tmp/a c"]);
        assert_eq!(chat(&other, "127.0.0.1:8765"), "switchboard chat --token-file '/tmp/a c'");
        let open = chat_command(&args(&["--no-auth"]), &["127.0.0.1:8765".parse().unwrap()], None);
        assert_eq!(open.as_deref(), Some("switchboard chat"));
        let through_a_proxy = args(&["--listen", "unix:/tmp/b/http"]);
        assert_eq!(chat_command(&through_a_proxy, &[], None), None);
        let socket = args(&["--listen", "unix:/tmp/b/http", "--unix", "/tmp/b/lines"]);
        assert_eq!(chat_command(&socket, &[], None).as_deref(), Some("switchboard chat unix:/tmp/b/lines"));
    }

    #[test]
    fn urls_can_be_opened() {
        let token = SecretString::from("a+b");
        let cases = [
            ("127.0.0.1:8765", "", "http://127.0.0.1:8765/#token=a%2Bb"),
            ("0.0.0.0:80", "", "http://127.0.0.1:80/#token=a%2Bb"),
            ("[::]:8765", "/x", "http://[::1]:8765/x/#token=a%2Bb"),
        ];
        for (address, base_path, expected) in cases {
            assert_eq!(*page_url(address.parse().unwrap(), base_path, Some(&token)), expected);
        }
        assert_eq!(*page_url("[::1]:1".parse().unwrap(), "", None), "http://[::1]:1/");
    }
}
