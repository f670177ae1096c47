//! The console: the operator's door to a broker, whether its owner runs or not.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use commute_core::control::Remote;
use commute_core::driver::Files;
use commute_core::{
    Address, Admin, BoxFuture, Code, Error, Operate, Outgoing, Receipt, Result, SharedBroker, admin::SharedAdmin,
};

use super::client::Line;
use super::taking::Taking;
use crate::drivers;

/// What an operator wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// Look, and change nothing.
    Look,
    /// Change something in what is there.
    Act,
    /// Change something, and create what is missing.
    Create,
}

/// Who answers at a console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reached {
    /// The process that owns the events, at its socket.
    Owner(PathBuf),
    /// Nobody: files that no process owns are read.
    Files,
    /// Files that no process owned; this console owns them until it is closed.
    Opened,
    /// A server, by the name of its driver.
    Server(&'static str),
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reached::Owner(socket) => write!(f, "the owner, at {}", socket.display()),
            Reached::Files => f.write_str("files that no process owns"),
            Reached::Opened => f.write_str("files that no process owned, opened for as long as this takes"),
            Reached::Server(driver) => write!(f, "a server of {driver}"),
        }
    }
}

/// An operator's connection to a broker.
///
/// A broker of files belongs to one process. Where that process runs, the console asks it through its socket; where none does,
/// the console reads the files, or owns them for as long as it is open when it is to change something.
///
/// ```
/// use commute::{Console, Intent};
///
/// # #[tokio::main]
/// # async fn main() -> commute::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let url = format!("embedded:{}", folder.path().display());
/// let console = Console::open(&url, Intent::Create).await?;
/// assert!(console.apps().await?.is_empty());
/// assert!(console.admin()?.topics(None, 10).await?.is_empty());
/// console.close().await
/// # }
/// ```
pub struct Console {
    way: Way,
    reached: Reached,
}

enum Way {
    Owner(Remote<Line>),
    Files(SharedAdmin),
    Broker(SharedBroker, Taking),
}

impl Way {
    fn broker(broker: SharedBroker) -> Self {
        Way::Broker(broker.clone(), Taking::new(broker))
    }
}

impl Console {
    /// Opens a console to the broker of a URL.
    ///
    /// # Errors
    /// As [`crate::connect`]; `NotFound` when there are no such files, unless it is to create; `AccessRefused` when the owner is
    /// another user's; `DirectoryOwned` when an owner runs and does not answer.
    pub async fn open(url: &str, intent: Intent) -> Result<Self> {
        let address = Address::parse(url)?;
        let driver = drivers::driver(&address)?;
        let Some(files) = &driver.files else {
            let broker = crate::connect(url).await?;
            return Ok(Console { reached: Reached::Server(broker.driver()), way: Way::broker(broker) });
        };
        let socket = (files.socket)(&address)?;
        if let Some(console) = Self::asking(&socket).await? {
            return Ok(console);
        }
        match Self::on_files(url, address, files, &socket, intent).await {
            // Somebody began to own them in between.
            Err(error) if error.code() == Code::DirectoryOwned => Self::asking(&socket).await?.ok_or(error),
            opened => opened,
        }
    }

    /// Opens a console to whoever listens at a socket: the app of `App::control`, or the owner of files.
    ///
    /// # Errors
    /// `NotFound` when nobody does; otherwise as [`Console::open`].
    pub async fn at(socket: impl AsRef<Path>) -> Result<Self> {
        let socket = socket.as_ref();
        let nobody = || Error::new(Code::NotFound, format!("nobody listens at {}", socket.display()));
        Self::asking(socket).await?.ok_or_else(nobody)
    }

    async fn asking(socket: &Path) -> Result<Option<Self>> {
        let Some(line) = Line::connect(socket).await? else { return Ok(None) };
        let way = Way::Owner(Remote(Arc::new(line)));
        Ok(Some(Console { way, reached: Reached::Owner(socket.to_owned()) }))
    }

    async fn on_files(url: &str, address: Address, files: &Files, socket: &Path, intent: Intent) -> Result<Self> {
        let folder = socket.parent().filter(|folder| !folder.as_os_str().is_empty());
        if intent != Intent::Create && folder.is_some_and(|folder| !folder.exists()) {
            return Err(Error::new(Code::NotFound, format!("there is no directory for {url}")));
        }
        if intent == Intent::Look {
            return Ok(Console { way: Way::Files((files.read)(address).await?), reached: Reached::Files });
        }
        Ok(Console { way: Way::broker(crate::connect(url).await?), reached: Reached::Opened })
    }

    /// Who answers.
    pub fn reached(&self) -> &Reached {
        &self.reached
    }

    /// What the broker lets an operator see and do. From a server without an administration dead letters can be taken like
    /// deliveries, by the name of their topic; the rest is refused. What was taken and not ended goes back with [`Console::close`].
    ///
    /// # Errors
    /// None now; a way that has no administration would say `NeedNotMet`.
    pub fn admin(&self) -> Result<&dyn Admin> {
        match &self.way {
            Way::Owner(remote) => Ok(remote),
            Way::Files(admin) => Ok(&**admin),
            Way::Broker(broker, taking) => Ok(broker.admin().unwrap_or(taking)),
        }
    }

    /// The services that can be asked where this console reached: those of the process that owns the events, those of all processes
    /// on a commute node; none where no process runs, and none on other servers.
    ///
    /// # Errors
    /// The owner's.
    pub async fn apps(&self) -> Result<Vec<Arc<dyn Operate>>> {
        match &self.way {
            Way::Owner(remote) => {
                Ok(remote.apps().await?.into_iter().map(|app| Arc::new(app) as Arc<dyn Operate>).collect())
            }
            Way::Files(_) => Ok(Vec::new()),
            Way::Broker(broker, _) => broker.services().await,
        }
    }

    /// Publishes; as [`commute_core::Broker::publish`].
    ///
    /// # Errors
    /// As [`commute_core::Broker::publish`]; `NeedNotMet` when this console only looks.
    pub fn publish(&self, batch: Vec<Outgoing>) -> BoxFuture<'_, Result<Vec<Receipt>>> {
        match &self.way {
            Way::Owner(remote) => remote.publish(batch),
            Way::Files(_) => Box::pin(async { Err(Error::new(Code::NeedNotMet, "this console only looks")) }),
            Way::Broker(broker, _) => broker.publish(batch),
        }
    }

    /// What the broker gives, as JSON of its `Capabilities`; `None` where only files are read.
    ///
    /// # Errors
    /// The owner's.
    pub async fn capabilities(&self) -> Result<Option<serde_json::Value>> {
        match &self.way {
            Way::Owner(remote) => remote.capabilities().await.map(Some),
            Way::Files(_) => Ok(None),
            Way::Broker(broker, _) => Ok(serde_json::to_value(broker.capabilities()).ok()),
        }
    }

    /// Ends it; makes what it published durable and gives back what it owned.
    ///
    /// # Errors
    /// The broker's.
    pub async fn close(self) -> Result<()> {
        match self.way {
            Way::Broker(broker, taking) => {
                taking.give_back().await?;
                broker.close().await
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Console({})", self.reached)
    }
}
