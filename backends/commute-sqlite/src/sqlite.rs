//! The handle: what an application holds of an open database.

use std::path::Path;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use commute_core::{BoxFuture, Code, Done, Error, Outbox, Result, Store, Unit, UnitError};
use rusqlite::Connection;

use crate::error::closed;
use crate::job::{Job, Message};
use crate::outbox::{RelayEnd, Staged};
use crate::reader::Reader;
use crate::tx::Work;
use crate::writer::Writer;

/// What can wait for the writer. The engine has a few hundred events in transactions; whoever submits so much more that
/// this is full hears that the event is lost, and may submit it again.
const QUEUE: usize = 8192;

/// An open SQLite database: a [`Store`] for the engine, and the way in for handlers and queries. Cheap to clone.
///
/// One `Sqlite` owns a file at a time. It is closed by [`Store::close`], which the engine calls, or with its last clone,
/// which waits until what was submitted is committed.
#[derive(Clone)]
pub struct Sqlite {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    inbox_retention: Duration,
    messages: SyncSender<Message>,
    writer: Mutex<Option<JoinHandle<Result<()>>>>,
    staged: Arc<Staged>,
    reader: Arc<Reader>,
}

impl Sqlite {
    pub(crate) fn start(
        path: &Path,
        inbox_retention: Duration,
        writer: Writer,
        staged: Arc<Staged>,
        reader: Arc<Reader>,
    ) -> Result<Self> {
        let (messages, inbox) = sync_channel(QUEUE);
        let writer = std::thread::Builder::new()
            .name("commute-sqlite".to_owned())
            .spawn(move || writer.run(inbox))
            .map_err(|cause| Error::new(Code::StoreFailed, "cannot start the writer's thread").caused_by(cause))?;
        let name = format!("sqlite:{}", path.display());
        let writer = Mutex::new(Some(writer));
        Ok(Sqlite { inner: Arc::new(Inner { name, inbox_retention, messages, writer, staged, reader }) })
    }

    /// Reads what is committed, on a connection of its own that can change nothing. Queries run one at a time, and not
    /// on the caller's thread.
    ///
    /// # Errors
    /// [`Code::StoreFailed`] with what SQLite says, or [`Code::Closed`].
    ///
    /// # Panics
    /// When the query does.
    pub async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let reader = self.inner.reader.clone();
        match tokio::task::spawn_blocking(move || reader.read(query)).await {
            Ok(result) => result,
            Err(stopped) => match stopped.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(cause) => Err(Error::new(Code::Closed, "a query was not run any more").caused_by(cause)),
            },
        }
    }

    /// As [`Sqlite::read`], on the caller's thread.
    ///
    /// # Errors
    /// As [`Sqlite::read`].
    pub fn read_blocking<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        self.inner.reader.read(query)
    }

    pub(crate) fn submit(&self, work: Work, unit: Unit, done: Done) {
        // What cannot be queued comes back.
        let refused = match self.inner.messages.try_send(Message::Job(Job::new(work, unit, done))) {
            Ok(()) => return,
            Err(TrySendError::Full(refused)) => (refused, full()),
            Err(TrySendError::Disconnected(refused)) => (refused, closed()),
        };
        if let (Message::Job(job), why) = refused {
            job.reply.send(Err(UnitError::Lost(why)));
        }
    }
}

fn full() -> Error {
    Error::new(Code::StoreFailed, format!("{QUEUE} events wait for the database already"))
}

impl Inner {
    /// Ends the writer and waits for it; later calls wait for the first.
    fn stop(&self) -> Result<()> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        // The last connection tidies the file up, and should be the one that can write.
        self.reader.close();
        let _ended_already = self.messages.send(Message::Close);
        match writer.take() {
            // Somebody dropped the last handle in the writer's own thread, which will end by itself.
            Some(writer) if writer.thread().id() == std::thread::current().id() => Ok(()),
            Some(writer) => writer.join().unwrap_or_else(|_| Err(closed())),
            None => Ok(()),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Nobody is left to hear of an error; what was not committed was not confirmed either.
        let _unheard = self.stop();
    }
}

impl Store for Sqlite {
    fn name(&self) -> &str {
        &self.inner.name
    }

    fn inbox_retention(&self) -> Duration {
        self.inner.inbox_retention
    }

    fn outbox(&self) -> Arc<dyn Outbox> {
        let messages = self.inner.messages.clone();
        // When the queue is full, the writer is about to look anyway; when it has ended, it has looked.
        let tell = Box::new(move || messages.try_send(Message::Confirmed).is_ok());
        Arc::new(RelayEnd { staged: self.inner.staged.clone(), tell })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        let inner = self.inner.clone();
        Box::pin(async move {
            let stopped = tokio::task::spawn_blocking(move || inner.stop()).await;
            stopped.unwrap_or_else(|cause| Err(closed().caused_by(cause)))
        })
    }
}

impl std::fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Sqlite").field(&self.inner.name).finish()
    }
}
