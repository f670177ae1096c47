//! Real broker servers for tests: started on loopback, killed, started again, and gone when the test is.
//!
//! ```no_run
//! use servers::{Kind, Options, Server};
//!
//! # fn main() -> anyhow::Result<()> {
//! servers::install(Kind::Kafka)?;
//! let mut server = Server::start(Kind::Kafka, Options::default())?;
//! println!("{}", server.url());
//! server.kill();
//! server.start_again()?;
//! # Ok(())
//! # }
//! ```
//!
//! A server belongs to the process that started it and ends with it, however that ends; [`Server::detach`] lets it live
//! on, and [`Server::find`] finds it again by the state file in its folder.

#[cfg(feature = "certificates")]
mod certificates;
pub mod docker;
mod install;
mod kafka;
mod node;
mod ports;
mod process;
mod rabbitmq;
mod ready;
mod server;
mod zeromq;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

#[cfg(feature = "certificates")]
pub use certificates::Authority;
pub use install::{install, is_installed};
pub use ports::is_free;
pub use server::Server;

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One RabbitMQ node.
    Rabbitmq,
    /// One Kafka node, broker and controller in one.
    Kafka,
    /// Three of them: replication factor 3, at least two replicas in sync.
    Kafka3,
    /// One commute node, built from this repository.
    Zeromq,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 4] = [Kind::Rabbitmq, Kind::Kafka, Kind::Kafka3, Kind::Zeromq];

    /// Its name, which is also the name of its folder.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Rabbitmq => "rabbitmq",
            Kind::Kafka => "kafka",
            Kind::Kafka3 => "kafka3",
            Kind::Zeromq => "zeromq",
        }
    }

    /// How many nodes it has.
    #[must_use]
    pub fn nodes(self) -> usize {
        if self == Kind::Kafka3 { 3 } else { 1 }
    }

    /// The port of a server that people start by hand: unusual, so that it meets no server of theirs.
    #[must_use]
    pub fn usual_port(self) -> u16 {
        match self {
            Kind::Rabbitmq => 27_672,
            Kind::Kafka => 27_092,
            Kind::Kafka3 => 27_192,
            Kind::Zeromq => 27_599,
        }
    }
}

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let named = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        named.ok_or_else(|| format!("there is no server called {name}; there are rabbitmq, kafka, kafka3 and zeromq"))
    }
}

/// How to start a server. The default is right for a test of its own.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where its data, configuration and logs go; they must not be there yet. None: a new folder, removed with the
    /// server.
    pub dir: Option<PathBuf>,
    /// Where clients connect: to the first node, if there are three. 0 for a free port.
    pub port: u16,
    /// For a Kafka node behind a proxy: the port on which the proxy listens. The node then has a second listener at
    /// [`Server::proxied_port`], which tells clients to come back to the proxy's port.
    pub proxied: Option<u16>,
    /// For a single node: listeners that speak TLS, beside the usual one.
    pub tls: Option<Tls>,
    /// How much memory each node may take for itself, in MiB; 0 for 512, which is enough for one test at a time.
    /// RabbitMQ takes no events beyond it, Kafka ends.
    pub memory_mib: u32,
    /// More lines for the server's own configuration file, where the last line for a key counts.
    pub settings: Vec<String>,
}

/// What a server needs to speak TLS, and who may log in there. `Debug` shows neither key nor password.
#[derive(Clone)]
pub struct Tls {
    /// The server's certificate, in PEM.
    pub certificate: String,
    /// Its key, in PEM (PKCS #8).
    pub key: String,
    /// RabbitMQ's only user; for Kafka, the only user of the listener at [`Server::sasl_port`].
    pub user: String,
    /// The user's password, which needs no escapes in a URL or a configuration file.
    pub password: String,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Where servers keep what they need: `brokers` in cargo's target folder.
#[must_use]
pub fn cache() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |named| root.join(named));
    target.join("brokers")
}
