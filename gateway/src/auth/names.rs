//! Hosts and origins, parsed and then compared exactly.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// A host, as a name or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A name, in lower case.
    Name(String),
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address.
    V6(Ipv6Addr),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::V4(address) => address.fmt(f),
            Self::V6(address) => write!(f, "[{address}]"),
        }
    }
}

/// A host and its port, as in a `Host` header (RFC 9110, section 7.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The host.
    pub host: Host,
    /// The port; `None` if the text names none, which means the scheme's default port.
    pub port: Option<u16>,
}

impl Authority {
    /// Parses `host` or `host:port`. Returns `None` for anything else that a URL's authority may contain, such as user
    /// information, and for unusual spellings of IP addresses.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(rest) = text.strip_prefix('[') {
            let (address, port) = rest.split_once(']')?;
            return Some(Self { host: Host::V6(address.parse().ok()?), port: port_after(port)? });
        }
        let end = text.find(':').unwrap_or(text.len());
        let (name, port) = text.split_at(end);
        Some(Self { host: name_or_v4(name)?, port: port_after(port)? })
    }

    fn of(address: SocketAddr) -> Self {
        let host = match address {
            SocketAddr::V4(address) => Host::V4(*address.ip()),
            SocketAddr::V6(address) => Host::V6(*address.ip()),
        };
        Self { host, port: Some(address.port()) }
    }
}

fn port_after(text: &str) -> Option<Option<u16>> {
    if text.is_empty() {
        return Some(None);
    }
    let digits = text.strip_prefix(':')?;
    let plain = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    if plain { digits.parse().ok().map(Some) } else { None }
}

fn name_or_v4(text: &str) -> Option<Host> {
    if let Ok(address) = text.parse() {
        return Some(Host::V4(address));
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // Browsers take a host whose last label is a number for an IPv4 address (`127.1`, `0x7f000001`).
    let last = text.rsplit('.').next().unwrap_or_default();
    let numeric =
        last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x") || last.starts_with("0X");
    let valid = text.len() <= 253 && text.split('.').all(label) && !numeric;
    valid.then(|| Host::Name(text.to_ascii_lowercase()))
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => self.host.fmt(f),
        }
    }
}

/// The origin of a page: scheme, host and port (RFC 6454).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    tls: bool,
    host: Host,
    port: u16,
}

impl Origin {
    /// Parses `http://host[:port]` or `https://host[:port]`; returns `None` for other texts, such as one with a path.
    pub fn parse(text: &str) -> Option<Self> {
        let (tls, rest) = match text.strip_prefix("https://") {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix("http://")?),
        };
        let Authority { host, port } = Authority::parse(rest)?;
        Some(Self { tls, host, port: port.unwrap_or(if tls { 443 } else { 80 }) })
    }
}

/// The host names that the gateway answers to, and the origins whose pages may use the gateway.
#[derive(Debug, Clone)]
pub struct Names {
    hosts: Vec<(Host, u16)>,
    /// Hosts that are accepted without a port too, or with port 80 or 443.
    portless: Vec<Host>,
    origins: Vec<Origin>,
    /// The part of `origins` that `--allow-origin` names.
    elsewhere: Vec<Origin>,
}

impl Names {
    /// The names of a gateway that is bound to the addresses `bound`, with `--allow-host` and `--allow-origin`.
    ///
    /// A host without a port is accepted on every bound port, and without a port, as behind a reverse proxy. Its
    /// allowed origins are `http` on the bound ports and `https` on port 443.
    pub fn new(bound: &[SocketAddr], hosts: &[Authority], origins: &[Origin]) -> Self {
        let mut names = Self {
            hosts: Vec::new(),
            portless: Vec::new(),
            origins: origins.to_vec(),
            elsewhere: origins.to_vec(),
        };
        for address in bound {
            let port = address.port();
            if !address.ip().is_unspecified() {
                names.add(Authority::of(*address).host, port);
            }
            if address.ip().is_loopback() || address.ip().is_unspecified() {
                names.add(Host::Name("localhost".into()), port);
                names.add(Host::V4(Ipv4Addr::LOCALHOST), port);
                names.add(Host::V6(Ipv6Addr::LOCALHOST), port);
            }
        }
        for Authority { host, port } in hosts {
            match port {
                Some(port) => {
                    names.add(host.clone(), *port);
                    names.origins.push(Origin { tls: true, host: host.clone(), port: *port });
                }
                None => {
                    for address in bound {
                        names.add(host.clone(), address.port());
                    }
                    names.portless.push(host.clone());
                    names.origins.push(Origin { tls: true, host: host.clone(), port: 443 });
                }
            }
        }
        names
    }

    fn add(&mut self, host: Host, port: u16) {
        self.origins.push(Origin { tls: false, host: host.clone(), port });
        self.hosts.push((host, port));
    }

    /// Whether `text`, the value of a `Host` header, names this gateway.
    pub fn is_own(&self, text: &str) -> bool {
        let Some(Authority { host, port }) = Authority::parse(text) else { return false };
        let implied = matches!(port, None | Some(80 | 443)) && self.portless.contains(&host);
        implied || self.hosts.contains(&(host, port.unwrap_or(80)))
    }

    /// Whether `text`, the value of an `Origin` header, is an origin whose pages may use the gateway.
    pub fn is_welcome(&self, text: &str) -> bool {
        Origin::parse(text).is_some_and(|origin| self.origins.contains(&origin))
    }

    /// Whether `text`, the value of an `Origin` header, is an origin that `--allow-origin` names.
    pub fn is_allowed_elsewhere(&self, text: &str) -> bool {
        Origin::parse(text).is_some_and(|origin| self.elsewhere.contains(&origin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let bound = ["127.0.0.1:8765".parse().unwrap(), "[::1]:9000".parse().unwrap()];
        let hosts = ["app.example.com", "lan.example:8080"].map(|host| Authority::parse(host).unwrap());
        Names::new(&bound, &hosts, &[Origin::parse("https://other.example").unwrap()])
    }

    #[test]
    fn own_names_are_known_in_every_usual_spelling() {
        let own = [
            "127.0.0.1:8765",
            "localhost:8765",
            "LOCALHOST:8765",
            "[::1]:8765",
            "[0:0:0:0:0:0:0:1]:9000",
            "app.example.com",
            "App.Example.Com:443",
            "app.example.com:80",
            "app.example.com:8765",
            "app.example.com:9000",
            "lan.example:8080",
        ];
        for host in own {
            assert!(names().is_own(host), "{host}");
        }
    }

    #[test]
    fn own_and_allowed_origins_are_welcome() {
        let welcome = [
            "http://127.0.0.1:8765",
            "http://localhost:9000",
            "http://[::1]:8765",
            "https://app.example.com",
            "https://app.example.com:443",
            "http://app.example.com:8765",
            "https://other.example",
            "https://lan.example:8080",
        ];
        for origin in welcome {
            assert!(names().is_welcome(origin), "{origin}");
        }
    }

    #[test]
    fn a_name_that_is_bound_on_the_usual_port_needs_no_port() {
        let names = Names::new(&["127.0.0.1:80".parse().unwrap()], &[], &[]);
        assert!(names.is_own("localhost") && names.is_own("localhost:80"));
        assert!(names.is_welcome("http://localhost"));
        assert!(!names.is_own("localhost:443") && !names.is_welcome("https://localhost"));
    }

    #[test]
    fn displayed_authorities_parse_again() {
        for text in ["a.example", "a.example:1", "10.0.0.1:80", "[::1]", "[fe80::1]:8080"] {
            assert_eq!(Authority::parse(text).unwrap().to_string(), text);
        }
    }
}
