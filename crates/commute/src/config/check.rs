//! Checking without an app: what a configuration says, and what its broker gives.

use std::fmt;

use commute_core::{Capabilities, Result, Server};
use serde::Serialize;

use super::{Config, Setting};
use crate::contract::{Given, degradations};

/// What would run, as far as a configuration alone can say. `Display` is for people, `Serialize` for programs; neither has
/// a secret in it.
#[derive(Debug, Clone, Serialize)]
pub struct Checked {
    /// What the configuration says, and where.
    pub settings: Vec<Setting>,
    /// The broker that it names, if it does and the broker could be reached.
    pub broker: Option<CheckedBroker>,
    /// Why not, if it could not.
    pub unreachable: Option<String>,
}

/// A broker that was reached.
#[derive(Debug, Clone, Serialize)]
pub struct CheckedBroker {
    /// The driver.
    pub driver: String,
    /// Where it is, without secrets.
    pub address: String,
    /// What the server says that it is, and what it gives less.
    pub server: Option<Server>,
    /// What it gives.
    pub capabilities: Capabilities,
}

impl Config {
    /// Says what would run: every setting with its source, and what the broker gives. It connects as an app would, which
    /// may create what is missing, and closes a connection that it opened. A broker that cannot be reached is no error
    /// here; the answer says why.
    ///
    /// Topics and handlers need the app: `App::configure(config).contract()` checks them, too.
    ///
    /// # Errors
    /// The broker's, when closing fails.
    pub async fn check(&self) -> Result<Checked> {
        let (mut broker, mut unreachable) = (None, None);
        if self.has_broker() {
            let known = self.connected();
            let connected = match &known {
                Some(broker) => Ok(broker.clone()),
                None => self.connect_anew().await,
            };
            match connected {
                Ok(connected) => {
                    broker = Some(CheckedBroker {
                        driver: connected.driver().to_owned(),
                        address: connected.address().to_owned(),
                        server: connected.server().cloned(),
                        capabilities: connected.capabilities().clone(),
                    });
                    if known.is_none() {
                        connected.close().await?;
                    }
                }
                Err(error) => unreachable = Some(format!("{error:#}")),
            }
        }
        Ok(Checked { settings: self.settings().collect(), broker, unreachable })
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "configuration")?;
        for setting in &self.settings {
            write!(f, "\n  {setting}")?;
        }
        if self.settings.is_empty() {
            write!(f, "\n  nothing is said; the program decides everything")?;
        }
        match (&self.broker, &self.unreachable) {
            (Some(broker), _) => {
                writeln!(f, "\nbroker {} ({})", broker.driver, broker.address)?;
                if let Some(server) = &broker.server {
                    writeln!(f, "  server: {server}")?;
                }
                write!(f, "{}", Given(&broker.capabilities))?;
                for degradation in broker.server.iter().flat_map(degradations) {
                    write!(f, "\n  warning: {degradation}")?;
                }
                Ok(())
            }
            (None, Some(why)) => write!(f, "\nbroker: {why}"),
            (None, None) => write!(f, "\nbroker: the program's"),
        }
    }
}
