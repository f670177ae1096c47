//! Files: looking at a log without owning it. Nothing is locked, created or written.
//!
//! What is read is one moment of the log. An owner may start meanwhile: it only appends, and removes segments that were read
//! already, or that are missing then, in which case looking begins anew.

use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use commute_core::admin::{
    Admin, Begin, Ended, GroupInfo, Page, ParkedEvent, StoredEvent, SubscriptionName, TopicInfo, Traced,
};
use commute_core::driver::Files;
use commute_core::{Address, BoxFuture, Code, Error, EventId, Result, SharedAdmin, Topic};

use super::Look;
use crate::broker::SOCKET;
use crate::journal::tail::follow;
use crate::options::Options;
use crate::records::{Event, Record};
use crate::state::ids::Window;
use crate::state::snapshot::{self, Part};
use crate::storage::ReadOnly;
use crate::stored::blocking;
use crate::writer::Shared;

/// How often looking begins anew while somebody changes the files.
const ATTEMPTS: usize = 3;

/// How an operator reaches the files.
pub(crate) const FILES: Files = Files { socket, read };

fn directory(address: Address) -> Result<(PathBuf, Options)> {
    if address.scheme == "memory" {
        return Err(Error::new(
            Code::NeedNotMet,
            "what is in the memory of a process cannot be looked at from outside",
        ));
    }
    let (directory, options) = Options::from_address(address)?;
    if directory.as_os_str().is_empty() {
        return Err(Error::new(Code::InvalidOption, "an embedded: URL names a directory, as in embedded:data"));
    }
    Ok((directory, options))
}

fn socket(address: &Address) -> Result<PathBuf> {
    directory(address.clone()).map(|(directory, _)| directory.join(SOCKET))
}

fn read(address: Address) -> BoxFuture<'static, Result<SharedAdmin>> {
    Box::pin(async move {
        let (directory, options) = directory(address)?;
        blocking(move || {
            let storage = ReadOnly::open(&directory)?;
            Ok(Arc::new(Opened::at(&storage, options)?) as SharedAdmin)
        })
        .await
    })
}

/// A log that was opened to look at it.
struct Opened {
    look: Look,
}

impl Opened {
    fn at(storage: &ReadOnly, options: Options) -> Result<Self> {
        // Ids are needed for publishing only, and nobody reads the tail again and again.
        let none = Window { time: Duration::ZERO, count: 0 };
        let options = Options { dedup_window: none, inbox_window: none, tail_bytes: 0, ..options };
        let trace = |when: &str| {
            storage.trace().map_err(|cause| crate::error::failed(&format!("cannot list the files {when}"), cause))
        };
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let before = trace("before looking")?;
            match load(storage, &options) {
                Ok(look) => return Ok(Opened { look }),
                Err(error) if trace("after looking")? == before => return Err(error),
                Err(error) => last = Some(error),
            }
        }
        let detail = "the owner of the directory changed it while it was looked at; try again";
        let error = Error::new(Code::DirectoryOwned, detail);
        Err(match last {
            Some(last) => error.caused_by(last),
            None => error,
        })
    }
}

fn load(storage: &ReadOnly, options: &Options) -> Result<Look> {
    let (state, covered) = snapshot::load(storage, options, Part::WithoutIds)?.unzip();
    let mut state = state.unwrap_or_default();
    let segments = follow(storage, covered, |body, place| match Event::head(body) {
        Some(head) => state.index(&head, place),
        None => Record::decode(body).is_some_and(|record| state.apply(record, place, options)),
    })?;
    let shared = Arc::new(Shared::new(state, options.clone()));
    Ok(Look { shared, segments: Arc::new(RwLock::new(segments)), owner: false })
}

fn refused<T: Send + 'static>() -> BoxFuture<'static, Result<T>> {
    let detail = "the files were opened to look at them; only a process that owns them can change something";
    Box::pin(std::future::ready(Err(Error::new(Code::NeedNotMet, detail))))
}

impl Admin for Opened {
    fn topics(&self, after: Option<Topic>, max: usize) -> BoxFuture<'_, Result<Vec<TopicInfo>>> {
        Box::pin(async move { self.look.topics(after, max) })
    }

    fn groups(&self, topic: Option<Topic>) -> BoxFuture<'_, Result<Vec<GroupInfo>>> {
        Box::pin(async move { self.look.groups(topic) })
    }

    fn read(&self, topic: Topic, from: Begin, max: usize) -> BoxFuture<'_, Result<Page>> {
        Box::pin(self.look.read(topic, from, max))
    }

    fn unsettled(
        &self,
        name: SubscriptionName,
        after: Option<u64>,
        max: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>>> {
        Box::pin(self.look.unsettled(name, after, max))
    }

    fn parked(
        &self,
        name: SubscriptionName,
        after: Option<u64>,
        max: usize,
    ) -> BoxFuture<'_, Result<Vec<ParkedEvent>>> {
        Box::pin(self.look.parked(name, after, max))
    }

    fn journey(&self, id: EventId, max: usize) -> BoxFuture<'_, Result<Vec<Traced>>> {
        Box::pin(self.look.journey(id, max))
    }

    fn keep(&self, _name: SubscriptionName) -> BoxFuture<'_, Result<()>> {
        refused()
    }

    fn end(&self, _name: SubscriptionName, _ended: Vec<Ended>) -> BoxFuture<'_, Result<Vec<bool>>> {
        refused()
    }

    fn unpark(&self, _name: SubscriptionName, _positions: Vec<u64>) -> BoxFuture<'_, Result<()>> {
        refused()
    }

    fn replay(&self, _name: SubscriptionName, _from: Begin) -> BoxFuture<'_, Result<u64>> {
        refused()
    }
}
