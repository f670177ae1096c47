//! The session: which broker a command is about, and where its output goes.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use commute::{Console, Intent};

use crate::exit::{Exit, Failure, Result};
use crate::global::Global;
use crate::show::Out;

/// The directory that is taken when none is named.
const DEFAULT: &str = "data";

/// What a command works with.
pub(crate) struct Session {
    broker: Option<String>,
    socket: Option<PathBuf>,
    /// Where output goes.
    pub(crate) out: Out,
}

impl Session {
    pub(crate) fn new(global: Global) -> Self {
        let out = Out::new(global.json, global.color);
        Session { broker: global.broker, socket: global.socket, out }
    }

    /// The URL of the broker.
    pub(crate) fn url(&self) -> Result<String> {
        match &self.broker {
            Some(url) => Ok(url.clone()),
            None if Path::new(DEFAULT).is_dir() => Ok(format!("embedded:{DEFAULT}")),
            None => {
                let message = format!("no broker is named, and there is no directory {DEFAULT:?} here");
                Err(Failure::new(Exit::Usage, message)
                    .remedy("say --broker URL, as in --broker embedded:data, or set COMMUTE_BROKER"))
            }
        }
    }

    /// The socket that was named instead of a broker.
    pub(crate) fn socket(&self) -> Option<&Path> {
        self.socket.as_deref()
    }

    /// Opens a console, without a word.
    pub(crate) async fn reach(&self, intent: Intent) -> Result<Console> {
        Ok(match &self.socket {
            Some(socket) => Console::at(socket).await?,
            None => Console::open(&self.url()?, intent).await?,
        })
    }

    /// Opens a console, and says to a person whom it reached.
    pub(crate) async fn console(&self, intent: Intent) -> Result<Console> {
        let console = self.reach(intent).await?;
        if !self.out.json && std::io::stderr().is_terminal() {
            self.out.note(&format!("asking {}", console.reached()));
        }
        Ok(console)
    }
}
