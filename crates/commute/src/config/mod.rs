//! Configuration: everything that the builder sets, from a file and from the environment.
//!
//! ```text
//! file ─► document ─┐
//!                   ├─► read (against schema) ─► settings that wait ─► apply, to an app
//! variables ─► environment ─┘
//! ```

mod apply;
mod check;
mod document;
mod environment;
mod fault;
mod keys;
mod read;
mod schema;
#[cfg(test)]
mod tests;
mod time;

use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use commute_core::{Code, Error, Result, SharedBroker};
use serde::Serialize;
use tokio::sync::OnceCell;

pub use check::{Checked, CheckedBroker};
pub use keys::ConfigKey;

use crate::app::App;
use read::{BrokerFrom, HandlerTable, Leaf, Reader};

/// What an operator says of an app: read from a file and from the environment, with the builder's names.
///
/// A variable goes before the file, and both go before the builder. The guide's page about configuration has every key. Neither
/// `Debug` nor any error shows more of the broker's URL than its scheme.
///
/// ```
/// use commute::Config;
///
/// # #[tokio::main]
/// # async fn main() -> commute::Result<()> {
/// let config = Config::from_toml("commute.toml", "broker = 'memory:'\nworkers = 8")?
///     .with_variables([("COMMUTE_WORKERS", "16")])?;
/// let settings: Vec<_> = config.settings().map(|setting| setting.to_string()).collect();
/// assert_eq!(settings, ["broker = \"memory:…\" (commute.toml:1:10)", "workers = 16 (COMMUTE_WORKERS)"]);
/// let broker = config.connect().await?;
/// # broker.close().await?;
///
/// let wrong = Config::from_toml("commute.toml", "wokers = 8").unwrap_err();
/// assert_eq!(wrong.detail(), r#"commute.toml:1:1: unknown key "wokers"; did you mean "workers"?"#);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Config {
    settings: Vec<Leaf<App>>,
    handlers: Vec<HandlerTable>,
    /// Shared by clones, so that several apps of one configuration share a connection: a directory has one owner.
    connection: Arc<OnceCell<SharedBroker>>,
}

/// One thing that a configuration says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// The key from the root, as TOML writes it.
    pub key: String,
    /// The value, without secrets.
    pub value: String,
    /// The file with line and column, or the variable.
    pub source: String,
}

impl Config {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// `InvalidConfig` when it cannot be read, or with everything that is wrong in it.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let name = path.as_ref().display().to_string();
        let text = std::fs::read_to_string(path.as_ref()).map_err(|cause| {
            Error::new(Code::InvalidConfig, format!("cannot read the configuration file {name}")).caused_by(cause)
        })?;
        Config::from_toml(&name, &text)
    }

    /// Reads TOML text. Errors name it `name`.
    ///
    /// # Errors
    /// `InvalidConfig` with everything that is wrong in it.
    pub fn from_toml(name: &str, text: &str) -> Result<Self> {
        let table = document::parse(name, text)?;
        Config::read(&table, Reader::default())
    }

    /// Adds what the variables of this process say, those that begin with `COMMUTE_`. They go before the file.
    ///
    /// # Errors
    /// `InvalidConfig` with everything that is wrong in them; a variable with that beginning that no key has is an error.
    pub fn environment(self) -> Result<Self> {
        self.with_variables(std::env::vars_os())
    }

    /// As [`Config::environment`], with these variables.
    ///
    /// # Errors
    /// The same.
    pub fn with_variables<N: Into<OsString>, V: Into<OsString>>(
        self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self> {
        let mut reader = Reader::default();
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        let table = environment::parse(variables, &mut reader.faults);
        Ok(self.then(Config::read(&table, reader)?))
    }

    fn read(table: &[document::Entry], mut reader: Reader) -> Result<Self> {
        let settings = reader.read(schema::APP, table, "");
        reader.faults.or(Config { settings, handlers: reader.handlers, connection: Arc::default() })
    }

    /// This and a later configuration, which goes before it.
    pub(crate) fn then(mut self, later: Config) -> Config {
        self.settings.retain(|old| later.settings.iter().all(|new| !replaces(&new.path, &old.path)));
        for table in &mut self.handlers {
            let same = |new: &&HandlerTable| {
                (&new.topic.1, &new.name, &new.event_type.1) == (&table.topic.1, &table.name, &table.event_type.1)
            };
            let new: Vec<_> = later.handlers.iter().filter(same).flat_map(|new| &new.leaves).collect();
            table.leaves.retain(|old| new.iter().all(|new| !replaces(&new.path, &old.path)));
        }
        let connection = if later.has_broker() { later.connection } else { self.connection };
        self.settings.extend(later.settings);
        self.handlers.extend(later.handlers);
        Config { connection, ..self }
    }

    /// Every key that there is, for documentation and completion.
    pub fn keys() -> Vec<ConfigKey> {
        keys::all()
    }

    /// Everything that it says, with where it says so.
    pub fn settings(&self) -> impl Iterator<Item = Setting> {
        let of_app = self.settings.iter().map(Setting::of);
        of_app.chain(self.handlers.iter().flat_map(|table| table.leaves.iter().map(Setting::of)))
    }

    /// Connects to the broker that it names. There is one connection: every later call, and every app that this
    /// configuration or a clone of it is given to, has the same.
    ///
    /// # Errors
    /// `InvalidConfig` when it names none, or a file that cannot be read; those of [`crate::connect`] otherwise. All of them
    /// name the key, and none repeats the URL.
    pub async fn connect(&self) -> Result<SharedBroker> {
        self.connection.get_or_try_init(|| self.connect_anew()).await.cloned()
    }

    async fn connect_anew(&self) -> Result<SharedBroker> {
        let Some((leaf, from)) = self.broker() else {
            let detail =
                "the configuration names no broker; say broker, broker_file, COMMUTE_BROKER or COMMUTE_BROKER_FILE";
            return Err(Error::new(Code::InvalidConfig, detail));
        };
        let place = format!("{}: {}", leaf.place, leaf.path);
        let url = match from {
            BrokerFrom::Url(url) => url.clone(),
            BrokerFrom::File(file) => {
                let read = std::fs::read_to_string(file).map_err(|cause| {
                    let detail = format!("cannot read {}", file.display());
                    Error::new(Code::InvalidConfig, detail).caused_by(cause).at(&place)
                });
                let url = read?.trim().to_owned();
                if url.contains(char::is_control) {
                    let detail = format!("{} holds more than a URL", file.display());
                    return Err(Error::new(Code::InvalidConfig, detail).at(place));
                }
                url
            }
        };
        crate::connect(&url).await.map_err(|error| error.at(place))
    }

    /// The connection, if there is one by now.
    pub(crate) fn connected(&self) -> Option<SharedBroker> {
        self.connection.get().cloned()
    }

    /// Whether it names a broker.
    pub fn has_broker(&self) -> bool {
        self.broker().is_some()
    }

    fn broker(&self) -> Option<(&Leaf<App>, &BrokerFrom)> {
        self.settings.iter().find_map(|leaf| leaf.broker.as_ref().map(|broker| (leaf, broker)))
    }
}

/// Whether a later key speaks of the same thing as an earlier one.
fn replaces(new: &str, old: &str) -> bool {
    let swaps =
        |one: &str, other: &str| new.strip_suffix(one).is_some_and(|rest| old.strip_suffix(other) == Some(rest));
    new == old || schema::EITHER_OR.iter().any(|(one, other)| swaps(one, other) || swaps(other, one))
}

impl Setting {
    fn of<T>(leaf: &Leaf<T>) -> Setting {
        Setting { key: leaf.path.clone(), value: leaf.shown.clone(), source: leaf.place.to_string() }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} ({})", self.key, self.value, self.source)
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.settings().map(|setting| setting.to_string())).finish()
    }
}

/// The code blocks of the guide's page are compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../../docs/guide/configuration.md")]
struct Page;
