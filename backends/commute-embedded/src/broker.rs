//! The embedded broker: opens, publishes, subscribes, closes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use commute_core::{
    Admin, Attached, BoxFuture, Broker, Capabilities, Durability, GroupOrder, Ordering, Outgoing, Receipt, Result,
    Subscription, SubscriptionSpec,
};
use tokio::sync::oneshot;

use crate::admin::Look;
use crate::ask::{answered, ask, refuse_large};
use crate::error::failed;
use crate::journal::log::Log;
use crate::journal::recovery::recover;
use crate::journal::segment::Segment;
use crate::keeper::{Keeper, first_capacity};
use crate::options::Options;
use crate::receiver::Inlet;
use crate::settler::Outlet;
use crate::state::snapshot::{self, Part};
use crate::storage::{Directory, Memory, Storage};
use crate::writer::command::{Command, Opened};
use crate::writer::queue::InLine;
use crate::writer::{self, GROUP_BYTES, Shared};

/// The name of the socket on which an owner answers operators of other processes.
pub(crate) const SOCKET: &str = "commute.sock";

/// A broker in this process: a directory, or memory.
pub struct Embedded {
    pub(crate) look: Look,
    label: String,
    capabilities: Capabilities,
    attached: Attached,
    /// Where operators come in; there is no such place in memory.
    socket: Option<PathBuf>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Embedded {
    /// Opens a directory, creating it when it does not exist. Blocking: reads what is stored.
    ///
    /// # Errors
    /// `InvalidOption`, `DirectoryUnusable`, `ForeignDirectory`, `DirectoryOwned`, `Damaged`, `UnknownFormat`, `DiskFull`;
    /// nothing that was stored is changed then.
    pub fn open(directory: &Path, options: Options) -> Result<Arc<Self>> {
        options.check()?;
        let mut opened = Self::on(Arc::new(Directory::open(directory)?), Durability::Synced, options)?;
        opened.socket = Some(directory.join(SOCKET));
        Ok(Arc::new(opened))
    }

    /// A broker on storage in memory: everything is as on a directory, but ends with the storage. One at a time.
    ///
    /// # Errors
    /// `InvalidOption`; `Damaged`, when the storage is.
    pub fn in_memory(storage: &Memory, options: Options) -> Result<Arc<Self>> {
        options.check()?;
        Self::on(Arc::new(storage.clone()), Durability::Memory, options).map(Arc::new)
    }

    fn on(storage: Arc<dyn Storage>, durability: Durability, options: Options) -> Result<Self> {
        let label = storage.label();
        let capabilities = Capabilities {
            durability,
            ordering: Ordering::Topic,
            group_order: GroupOrder::Key,
            shared: false,
            atomic_settle: true,
            confirmed_acks: true,
            durable_retry: true,
            durable_parking: true,
            delayed_publish: true,
            retained: true,
            positions: true,
            replay: true,
            dedup_window: Some(options.dedup_window.time),
            inbox_retention: Some(options.inbox_window.time),
            max_event_bytes: options.max_event_bytes,
        };
        let (mut state, covered) = snapshot::load(&*storage, &options, Part::Whole)?.unzip();
        let state_now = state.get_or_insert_default();
        let mut recovered = recover(&*storage, covered, |record, place| state_now.apply(record, place, &options))?;
        storage.mark().map_err(|cause| failed("cannot write the format of the directory", cause))?;
        if recovered.segments.is_empty() {
            let fill = options.prepare.then(|| first_capacity(&options));
            let created = Segment::create(&*storage, 1, options.nonce(1), fill);
            recovered.segments.push(created.map_err(|cause| failed("cannot create the first segment", cause))?);
        }
        // A process that was killed may have left a segment whose name is not durable yet.
        storage.sync_names().map_err(|cause| failed("cannot make the names in the directory durable", cause))?;
        let keeper = Keeper::start(storage, &options, recovered.spare.take())?;
        keeper.remove(std::mem::take(&mut recovered.leftover));
        let log = Log::new(recovered, first_capacity(&options))?;
        keeper.prepare(log.serial() + 1, log.capacity());
        let segments = log.segments().clone();
        let shared = Arc::new(Shared::new(state.unwrap_or_default(), options));
        let for_thread = shared.clone();
        let thread = std::thread::Builder::new()
            .name("commute-log".to_owned())
            .spawn(move || writer::run(&for_thread, log, keeper))
            .map_err(|cause| failed("cannot start a thread", cause))?;
        Ok(Embedded {
            look: Look { shared, segments, owner: true },
            label,
            capabilities,
            attached: Attached::default(),
            socket: None,
            thread: Mutex::new(Some(thread)),
        })
    }
}

/// Places in the line of the parts of one batch. Who lets go lets go of the last one first: a later part is never taken without those before
/// it.
struct Lines<'a>(Vec<InLine<'a>>);

impl Drop for Lines<'_> {
    fn drop(&mut self) {
        while self.0.pop().is_some() {}
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
            refuse_large(batch.iter(), &self.look.shared.options)?;
            let mut receipts = Vec::with_capacity(batch.len());
            let mut answers = Vec::new();
            // Dropped first.
            let mut lines = Lines(Vec::new());
            let mut rest = batch.into_iter().peekable();
            while rest.peek().is_some() {
                let (mut bytes, mut part) = (0, Vec::new());
                while bytes < GROUP_BYTES
                    && let Some(event) = rest.next()
                {
                    bytes += event.envelope.size();
                    part.push(event.into());
                }
                let (reply, answer) = oneshot::channel();
                let line = self.look.shared.queue.publish(bytes, Command::Publish { batch: part, reply })?;
                lines.0.extend(line);
                answers.push(answer);
            }
            for answer in answers {
                receipts.extend(answered(&self.look.shared, answer).await?);
            }
            Ok(receipts)
        })
    }

    fn subscribe(&self, spec: SubscriptionSpec) -> BoxFuture<'_, Result<Subscription>> {
        Box::pin(async move {
            let (topic, group) = (spec.topic.as_str().into(), spec.group.clone());
            let command = |reply| Command::Subscribe { topic, group, reply };
            let Opened { subscription, incarnation } = ask(&self.look.shared, command).await?;
            // Joins here and not in the writer: nobody can be dropped from here on, so nobody joins who does not receive.
            let mut state = self.look.shared.state();
            let known = &mut state.subscriptions[subscription as usize];
            known.delivering.join(incarnation, spec.credit);
            // Others may have been given what is this one's now.
            known.changed.notify_waiters();
            let outlet = Arc::new(Outlet {
                shared: self.look.shared.clone(),
                segments: self.look.segments.clone(),
                topic: known.topic,
                subscription,
                incarnation,
            });
            let (changed, looking) = (known.changed.clone(), known.looking.clone());
            let receiver = Box::new(Inlet { outlet: outlet.clone(), changed, looking });
            Ok(Subscription { receiver, settler: outlet })
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            self.look.shared.queue.close(reply);
            answered(&self.look.shared, answer).await
        })
    }

    fn admin(&self) -> Option<&dyn Admin> {
        Some(self)
    }

    fn attached(&self) -> Option<&Attached> {
        Some(&self.attached)
    }

    fn socket(&self) -> Option<&Path> {
        self.socket.as_deref()
    }
}

impl Drop for Embedded {
    /// Without a close this ends like a crash, except that the directory is free when it returns.
    fn drop(&mut self) {
        self.look.shared.queue.stop();
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
