//! The outbox: staged events on their way to the relay.
//!
//! What this process staged is handed over from memory, as long as the relay keeps up; what is from an earlier run, or
//! more than memory should hold, is read from the table. Numbers grow by one with every staged event, so what memory
//! holds is everything from its first number on.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use commute_core::{BoxFuture, Code, Error, Outbox, Outgoing, Result, Timestamp, Topic, cloudevents};
use rusqlite::{Connection, Row, params};
use tokio::sync::Notify;

use crate::error::closed;
use crate::reader::Reader;

/// What memory holds at most; a relay that is further behind waits for its broker and not for the disk.
const RECENT_EVENTS: usize = 16_384;
const RECENT_BYTES: usize = 16 << 20;

/// Rows read at once at most.
const READ: usize = 1024;

/// The staged events, as the writer and the relay share them.
pub(crate) struct Staged {
    state: Mutex<State>,
    changed: Notify,
    /// Whether the writer knows already that there is something to forget.
    told: AtomicBool,
    reader: Arc<Reader>,
}

struct State {
    recent: VecDeque<(u64, Outgoing)>,
    recent_bytes: usize,
    /// The last number that is committed.
    last: u64,
    confirmed: u64,
    closed: bool,
}

enum Found {
    Here(Vec<(u64, Outgoing)>),
    InTable { after: u64 },
    Nothing,
}

impl Staged {
    /// `stored` is the first and the last number in the table.
    pub(crate) fn new(stored: Option<(u64, u64)>, reader: Arc<Reader>) -> Self {
        let (first, last) = stored.unwrap_or((1, 0));
        let confirmed = first.saturating_sub(1);
        let state = State { recent: VecDeque::new(), recent_bytes: 0, last, confirmed, closed: false };
        Staged { state: Mutex::new(state), changed: Notify::new(), told: AtomicBool::new(false), reader }
    }

    pub(crate) fn last(&self) -> u64 {
        self.state().last
    }

    pub(crate) fn confirmed(&self) -> u64 {
        self.told.store(false, Ordering::Release);
        self.state().confirmed
    }

    /// What a commit made durable.
    pub(crate) fn committed(&self, staged: Vec<(u64, Outgoing)>) {
        if staged.is_empty() {
            return;
        }
        let mut state = self.state();
        for (seq, outgoing) in staged {
            state.last = seq;
            state.recent_bytes += outgoing.envelope.size();
            state.recent.push_back((seq, outgoing));
        }
        while state.recent.len() > RECENT_EVENTS || state.recent_bytes > RECENT_BYTES {
            state.forget_first();
        }
        drop(state);
        self.changed.notify_waiters();
    }

    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_waiters();
    }

    /// Answers whether the writer has to be told.
    fn confirm(&self, upto: u64) -> bool {
        let mut state = self.state();
        let upto = upto.min(state.last);
        if upto <= state.confirmed {
            return false;
        }
        state.confirmed = upto;
        while state.recent.front().is_some_and(|(seq, _)| *seq <= upto) {
            state.forget_first();
        }
        !self.told.swap(true, Ordering::AcqRel)
    }

    async fn next(&self, after: u64, max: usize) -> Result<Vec<(u64, Outgoing)>> {
        let max = max.max(1);
        loop {
            let mut changed = pin!(self.changed.notified());
            // Before looking, so that what is committed in between is not slept through.
            changed.as_mut().enable();
            let found = self.state().find(after, max)?;
            match found {
                Found::Here(events) => return Ok(events),
                Found::Nothing => changed.await,
                Found::InTable { after } => {
                    let reader = self.reader.clone();
                    let read = move || reader.read(|connection| select(connection, after, max.min(READ)));
                    let rows = tokio::task::spawn_blocking(read).await;
                    let rows = rows.map_err(|cause| {
                        Error::new(Code::StoreFailed, "reading staged events ended early").caused_by(cause)
                    })?;
                    let rows = rows?.into_iter().map(Stored::outgoing).collect::<Result<Vec<_>>>()?;
                    if !rows.is_empty() {
                        return Ok(rows);
                    }
                    self.state().missing(after);
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn find(&self, after: u64, max: usize) -> Result<Found> {
        if self.closed {
            return Err(closed());
        }
        let after = after.max(self.confirmed);
        if after >= self.last {
            return Ok(Found::Nothing);
        }
        let Some((first, _)) = self.recent.front().filter(|(first, _)| *first <= after + 1) else {
            return Ok(Found::InTable { after });
        };
        let skip = usize::try_from(after + 1 - first).unwrap_or(usize::MAX);
        Ok(Found::Here(self.recent.iter().skip(skip).take(max).cloned().collect()))
    }

    /// Somebody else deleted what should be in the table.
    fn missing(&mut self, after: u64) {
        let next = self.recent.front().map_or(self.last, |(first, _)| first - 1);
        self.confirmed = self.confirmed.max(next).max(after);
    }

    fn forget_first(&mut self) {
        if let Some((_, outgoing)) = self.recent.pop_front() {
            self.recent_bytes -= outgoing.envelope.size();
        }
    }
}

/// The relay's end.
pub(crate) struct RelayEnd {
    pub(crate) staged: Arc<Staged>,
    /// Tells the writer that there is something to forget; answers whether it heard.
    pub(crate) tell: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Outbox for RelayEnd {
    fn next(&self, after: u64, max: usize) -> BoxFuture<'_, Result<Vec<(u64, Outgoing)>>> {
        Box::pin(self.staged.next(after, max))
    }

    fn confirm(&self, upto: u64) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if self.staged.confirm(upto) && !(self.tell)() {
                self.staged.told.store(false, Ordering::Release);
            }
            Ok(())
        })
    }

    fn len(&self) -> usize {
        let state = self.staged.state();
        usize::try_from(state.last.saturating_sub(state.confirmed)).unwrap_or(usize::MAX)
    }
}

/// Writes one staged event into the table.
pub(crate) fn insert(connection: &Connection, seq: u64, outgoing: &Outgoing) -> rusqlite::Result<()> {
    let mut attributes = outgoing.envelope.clone();
    let data = std::mem::take(&mut attributes.data);
    let attributes = cloudevents::to_json(&attributes).to_string();
    let mut insert = connection.prepare_cached("INSERT INTO commute_outbox VALUES (?1, ?2, ?3, ?4, ?5)")?;
    let not_before = outgoing.not_before.map(|time| time.0);
    insert.execute(params![seq.cast_signed(), outgoing.topic.as_str(), attributes, &*data, not_before])?;
    Ok(())
}

/// Deletes what is published.
pub(crate) fn delete(connection: &Connection, upto: u64) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM commute_outbox WHERE seq <= ?1")?.execute([upto.cast_signed()])?;
    Ok(())
}

fn select(connection: &Connection, after: u64, max: usize) -> rusqlite::Result<Vec<Stored>> {
    let mut rows = connection.prepare_cached(
        "SELECT seq, topic, attributes, data, not_before FROM commute_outbox WHERE seq > ?1 ORDER BY seq LIMIT ?2",
    )?;
    let bound = params![after.cast_signed(), i64::try_from(max).unwrap_or(i64::MAX)];
    rows.query_map(bound, Stored::read)?.collect()
}

struct Stored {
    seq: u64,
    topic: String,
    attributes: String,
    data: Vec<u8>,
    not_before: Option<i64>,
}

impl Stored {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Stored {
            seq: row.get::<_, i64>(0)?.cast_unsigned(),
            topic: row.get(1)?,
            attributes: row.get(2)?,
            data: row.get(3)?,
            not_before: row.get(4)?,
        })
    }

    fn outgoing(self) -> Result<(u64, Outgoing)> {
        let damaged = |cause: Error| {
            Error::new(Code::Damaged, format!("row {} of commute_outbox is not a staged event", self.seq))
                .caused_by(cause)
        };
        let attributes = serde_json::from_str(&self.attributes)
            .map_err(|cause| Error::new(Code::Damaged, "attributes are not JSON").caused_by(cause));
        let mut envelope = attributes.and_then(|json| cloudevents::from_json(&json)).map_err(damaged)?;
        envelope.data = Bytes::from(self.data);
        let topic = Topic::new(&self.topic).map_err(damaged)?;
        Ok((self.seq, Outgoing { topic, envelope, not_before: self.not_before.map(Timestamp) }))
    }
}
