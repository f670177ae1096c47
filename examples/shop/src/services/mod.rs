//! The five services. Each is an app of its own with a database of its own; they share topics and nothing else.

pub mod inventory;
pub mod orders;
pub mod payment;
pub mod shipping;
pub mod users;

use std::path::{Path, PathBuf};
use std::time::Duration;

use commute::{App, Backoff, Config, SharedBroker};
use commute_sqlite::Sqlite;

use crate::trouble::{Trouble, trouble};

/// What all services are started with.
#[derive(Clone)]
pub struct Setting {
    /// The broker they share.
    pub broker: SharedBroker,
    /// What the names of their topics begin with, so that several shops can share a server.
    pub namespace: Option<String>,
    /// Where their databases are.
    pub data: PathBuf,
    /// Workers of each service.
    pub workers: usize,
    /// What an operator says of each of them.
    pub config: Config,
    /// What is made difficult for them.
    pub trouble: Trouble,
}

impl Setting {
    /// The topic's name in this shop.
    pub fn topic(&self, name: &str) -> String {
        self.namespace.as_ref().map_or_else(|| name.to_owned(), |namespace| format!("{namespace}.{name}"))
    }

    /// An app named after its service, with its own database.
    pub(crate) fn app(&self, service: &'static str, tables: &'static str) -> commute::Result<(App, Sqlite)> {
        let db = Sqlite::builder(database(&self.data, service)).setup(move |db| db.execute_batch(tables)).open()?;
        let app = App::new(service)
            .broker(self.broker.clone())
            .store(db.clone())
            .workers(self.workers)
            .measure_parallelism()
            .configure(self.config.clone())
            .layer(trouble(service, self.trouble));
        Ok((app, db))
    }
}

/// The database of a service.
pub fn database(data: &Path, service: &str) -> PathBuf {
    data.join(format!("{service}.db"))
}

/// Injected failures are over after three attempts, so two more than that never lose an order. The delays are short,
/// because nothing outside this process has to recover.
pub(crate) fn backoff() -> Backoff {
    Backoff::exponential().first(Duration::from_millis(2)).longest(Duration::from_millis(50)).attempts(5).budget(1.0)
}
