//! The embedded broker: the two ends of the contract, in front of the writer.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering as Atomic};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use commute_core::{
    BoxFuture, Broker, Capabilities, Code, Durability, Error, GroupOrder, Ordering, Outgoing, Receipt, Result,
    Subscription, SubscriptionSpec,
};
use tokio::sync::oneshot;

use crate::error::failed;
use crate::log::{Log, Segments};
use crate::options::Options;
use crate::storage::{Directory, Memory, Storage};
use crate::subscription::{Inlet, Outlet};
use crate::writer::{self, Command, Shared};

/// A broker in this process: a directory, or memory.
pub struct Embedded {
    pub(crate) shared: Arc<Shared>,
    pub(crate) segments: Segments,
    label: String,
    capabilities: Capabilities,
    incarnations: AtomicU32,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Embedded {
    /// Opens a directory, creating it when it does not exist. Blocking: reads what is stored.
    ///
    /// # Errors
    /// `DirectoryUnusable`, `ForeignDirectory`, `DirectoryOwned`, `Damaged`, `UnknownFormat`, `DiskFull`; nothing was
    /// changed then.
    pub fn open(directory: &Path, options: Options) -> Result<Arc<Self>> {
        Self::on(Arc::new(Directory::open(directory)?), Durability::Synced, options)
    }

    /// A broker on storage in memory: everything is as on a directory, but ends with the storage.
    ///
    /// # Errors
    /// `Damaged`, when the storage is.
    pub fn in_memory(storage: &Memory, options: Options) -> Result<Arc<Self>> {
        Self::on(Arc::new(storage.clone()), Durability::Memory, options)
    }

    fn on(storage: Arc<dyn Storage>, durability: Durability, options: Options) -> Result<Arc<Self>> {
        let label = storage.label();
        let capabilities = Capabilities {
            durability,
            ordering: Ordering::Topic,
            group_order: GroupOrder::Key,
            atomic_settle: true,
            durable_retry: true,
            durable_parking: true,
            delayed_publish: true,
            replay: false,
            dedup_window: Some(options.dedup_window.time),
            inbox_retention: Some(options.inbox_window.time),
            max_event_bytes: options.max_event_bytes,
        };
        let (log, state) = Log::open(storage, &options)?;
        let segments = log.segments();
        let shared = Arc::new(Shared::new(state, options));
        let for_thread = shared.clone();
        let thread = std::thread::Builder::new()
            .name("commute-log".to_owned())
            .spawn(move || writer::run(&for_thread, log))
            .map_err(|cause| failed("cannot start the writer", cause))?;
        let thread = Mutex::new(Some(thread));
        Ok(Arc::new(Embedded { shared, segments, label, capabilities, incarnations: AtomicU32::new(1), thread }))
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<Result<T>>) -> Command) -> Result<T> {
        ask(&self.shared, command).await
    }
}

/// Hands a command to the writer, at the first poll, and waits for the answer.
pub(crate) async fn ask<T>(shared: &Shared, command: impl FnOnce(oneshot::Sender<Result<T>>) -> Command) -> Result<T> {
    let (reply, answer) = oneshot::channel();
    shared.send(command(reply))?;
    match answer.await {
        Ok(result) => result,
        // The writer drops what it cannot answer.
        Err(_) => Err(shared.over().unwrap_or_else(|| Error::new(Code::Closed, "the broker is closed"))),
    }
}

impl Broker for Embedded {
    fn driver(&self) -> &'static str {
        "embedded"
    }

    fn address(&self) -> &str {
        &self.label
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn publish(&self, batch: Vec<Outgoing>) -> BoxFuture<'_, Result<Vec<Receipt>>> {
        Box::pin(async move {
            let limit = self.capabilities.max_event_bytes;
            if let Some(large) = batch.iter().find(|event| event.envelope.size() > limit) {
                let (id, size) = (&large.envelope.id, large.envelope.size());
                let detail = format!("event {id} for {} has {size} bytes; the limit is {limit}", large.topic);
                return Err(Error::new(Code::PayloadTooLarge, detail));
            }
            self.ask(|reply| Command::Publish { batch, reply }).await
        })
    }

    fn subscribe(&self, spec: SubscriptionSpec) -> BoxFuture<'_, Result<Subscription>> {
        Box::pin(async move {
            let (topic, group) = (spec.topic.as_str().into(), spec.group.clone());
            let number = self.ask(|reply| Command::Subscribe { topic, group, reply }).await?;
            let incarnation = self.incarnations.fetch_add(1, Atomic::Relaxed);
            let outlet = Arc::new(Outlet {
                shared: self.shared.clone(),
                segments: self.segments.clone(),
                subscription: number,
                incarnation,
            });
            self.shared.state().subscriptions[number as usize].delivering.join(incarnation, spec.credit);
            // Somebody else may hold what is now this one's.
            self.shared.changed.notify_waiters();
            Ok(Subscription { receiver: Box::new(Inlet { outlet: outlet.clone() }), settler: outlet })
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            match self.ask(|reply| Command::Close { reply }).await {
                Err(error) if error.code() == Code::Closed => Ok(()),
                closed => closed,
            }
        })
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // The writer ends and lets go of the directory; without this it would wait for commands for ever.
        let (reply, _) = oneshot::channel();
        let _ = self.shared.send(Command::Close { reply });
        // The directory is free when this returns.
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Embedded({})", self.label)
    }
}
