//! The embedded broker: a directory, no server.
//!
//! One segmented log holds events, acknowledgements, inbox marks, retries and parked events of all topics. Whatever waits
//! is written as one group with one sync, and confirmed after it. What is needed to deliver is in memory, rebuilt from a
//! snapshot and the log.
//!
//! | It gives | |
//! |---|---|
//! | a receipt means | written and synced (in memory: nothing) |
//! | order | the topic's; several receivers of a group keep the order per event key |
//! | settling and publishing | one atomic step |
//! | retries, parking, inbox, delayed events | survive a restart |
//! | replay | a group reads again from any place that is retained |
//!
//! ```text
//! publish, settle ─► queue ─► writer ─► journal ─► storage        one thread owns the log
//!                               │          ▲
//!                               ▼          │ what is not in memory
//!                             state ─► receiver                   visible when it is durable
//!                               │
//!                               ▼
//!                             keeper                              snapshots, next segment, removal
//!
//! admin ─► state, journal: looking        admin ─► queue: orders, one group each
//! ```
//!
//! A directory has one owner; looking needs none. A damaged or foreign directory is refused and left alone; a tail that was
//! being written when the machine stopped is cut, because nothing in it was confirmed.

mod admin;
mod ask;
mod broker;
mod error;
mod journal;
mod keeper;
mod options;
mod receiver;
mod records;
mod retention;
mod settler;
mod state;
pub mod storage;
mod stored;
mod writer;

use commute_core::{Address, BoxFuture, Code, Driver, Error, Result, SharedBroker};

pub use broker::Embedded;
pub use options::Options;
pub use state::ids::Window;

/// `embedded:DIRECTORY` and `memory:`.
pub const DRIVER: Driver =
    Driver { name: "embedded", schemes: &["embedded", "memory"], connect, files: Some(admin::files::FILES) };

fn connect(address: Address) -> BoxFuture<'static, Result<SharedBroker>> {
    Box::pin(async move {
        let memory = address.scheme == "memory";
        let (directory, options) = Options::from_address(address)?;
        if !memory && directory.as_os_str().is_empty() {
            return Err(Error::new(Code::InvalidOption, "an embedded: URL names a directory, as in embedded:data"));
        }
        // Reading back a large log takes a while, and files block.
        let opened = tokio::task::spawn_blocking(move || match memory {
            true => Embedded::in_memory(&storage::Memory::new(), Options { prepare: false, ..options }),
            false => Embedded::open(&directory, options),
        });
        let opened = opened.await.map_err(|cause| Error::new(Code::Io, "opening was given up").caused_by(cause))?;
        opened.map(|broker| broker as SharedBroker)
    })
}
