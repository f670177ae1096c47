//! What a client can be told by its URL.

use std::path::PathBuf;
use std::time::Duration;

use commute_core::{Address, Code, Error, Result};

use crate::key::Key;

/// Where the node is, and how to talk to it.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where.
    pub(crate) place: Place,
    /// The shared key, when the node wants one.
    pub(crate) key: Option<Key>,
    /// How long a publish waits for a node that is away: 30 s.
    pub(crate) patience: Duration,
    /// How long a connection and its greeting may take: 10 s.
    pub(crate) connect_timeout: Duration,
}

/// Where a node listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// `zmq://host:port`
    Tcp(String),
    /// `zmq+ipc:///path`
    Ipc(PathBuf),
}

impl Place {
    /// Takes the part behind the scheme.
    ///
    /// # Errors
    /// `InvalidOption` when it names no place.
    pub(crate) fn parse(address: &Address) -> Result<Self> {
        let wrong = |what: &str| Err(Error::new(Code::InvalidOption, what.to_owned()));
        match address.scheme.as_str() {
            "zmq+ipc" if address.rest.is_empty() => {
                wrong("a zmq+ipc: URL names a path, as in zmq+ipc:///run/commute.sock")
            }
            "zmq+ipc" => Ok(Place::Ipc(PathBuf::from(&address.rest))),
            _ => {
                let rest = address.rest.trim_end_matches('/');
                let port = rest.rsplit_once(':').and_then(|(host, port)| (!host.is_empty()).then_some(port));
                match port.and_then(|port| port.parse::<u16>().ok()) {
                    Some(_) => Ok(Place::Tcp(rest.to_owned())),
                    None => wrong("a zmq: URL names host and port, as in zmq://127.0.0.1:5599"),
                }
            }
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Tcp(address) => write!(f, "zmq://{address}"),
            Place::Ipc(path) => write!(f, "zmq+ipc://{}", path.display()),
        }
    }
}

const KNOWN: &[&str] = &["key_file", "patience_seconds", "connect_seconds"];

impl Options {
    /// Takes place and options from a URL.
    ///
    /// # Errors
    /// `InvalidOption`.
    pub fn from_address(mut address: Address) -> Result<Self> {
        let place = Place::parse(&address)?;
        let key = address.take::<PathBuf>("key_file")?.map(|path| Key::read(&path)).transpose()?;
        let patience = address.take("patience_seconds")?.map_or(Duration::from_secs(30), Duration::from_secs);
        let connect_timeout = address.take("connect_seconds")?.map_or(Duration::from_secs(10), Duration::from_secs);
        address.finish(KNOWN)?;
        Ok(Options { place, key, patience, connect_timeout })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Result<Options> {
        Options::from_address(Address::parse(url).unwrap())
    }

    #[test]
    fn a_url_names_a_port_or_a_path() {
        assert_eq!(parsed("zmq://127.0.0.1:5599").unwrap().place, Place::Tcp("127.0.0.1:5599".to_owned()));
        assert_eq!(parsed("zmq+ipc:///run/c.sock").unwrap().place, Place::Ipc("/run/c.sock".into()));
        for wrong in ["zmq://127.0.0.1", "zmq://:1", "zmq://host:port", "zmq+ipc://", "zmq://h:1?speed=1"] {
            assert_eq!(parsed(wrong).unwrap_err().code(), Code::InvalidOption, "{wrong}");
        }
    }
}
