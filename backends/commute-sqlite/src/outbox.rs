//! Staged events: in the table since their commit, and in memory until they are confirmed.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use commute_core::{BoxFuture, Code, Envelope, Error, EventId, Extensions, Outbox, Outgoing, Result, Timestamp, Topic};
use rusqlite::{Connection, Row};
use serde_json::{Map, Value};
use tokio::sync::Notify;

/// When so many wait to be published, the writer waits for the relay: pressure goes back to whoever stages.
const MOST: usize = 16_384;

#[derive(Default)]
pub(crate) struct Staged {
    state: Mutex<State>,
    more: Notify,
    room: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(u64, Outgoing)>,
    /// The last sequence number given out.
    last: u64,
    /// Confirmed and still in the table.
    confirmed: Option<u64>,
}

impl Staged {
    /// What an earlier run has left.
    pub(crate) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let mut select = connection.prepare("SELECT * FROM commute_outbox ORDER BY seq")?;
        let waiting: VecDeque<_> = select.query_map([], read)?.collect::<rusqlite::Result<_>>()?;
        let last = waiting.back().map_or(0, |(seq, _)| *seq);
        let staged = Staged::default();
        *staged.lock() = State { waiting, last, confirmed: None };
        Ok(staged)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn last(&self) -> u64 {
        self.lock().last
    }

    /// These are committed.
    pub(crate) fn add(&self, events: Vec<(u64, Outgoing)>) {
        let Some((last, _)) = events.last() else { return };
        let mut state = self.lock();
        state.last = *last;
        state.waiting.extend(events);
        drop(state);
        self.more.notify_waiters();
    }

    /// Adds what another look at the table has found.
    pub(crate) fn merge(&self, found: Staged) {
        let found = std::mem::take(&mut *found.lock());
        let last = self.last();
        self.add(found.waiting.into_iter().filter(|(seq, _)| *seq > last).collect());
    }

    /// What is confirmed, to be deleted with the next commit.
    pub(crate) fn take_confirmed(&self) -> Option<u64> {
        self.lock().confirmed.take()
    }

    /// Waits while too much is staged; gives up when `stop` says so, because then nobody relays.
    pub(crate) fn wait_for_room(&self, stop: impl Fn() -> bool) {
        let mut state = self.lock();
        while state.waiting.len() >= MOST && !stop() {
            // A stop is not announced here, so it is looked for now and then.
            let waited = self.room.wait_timeout(state, Duration::from_millis(50));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Outbox for Staged {
    fn next(&self, after: u64, max: usize) -> BoxFuture<'_, Result<Vec<(u64, Outgoing)>>> {
        Box::pin(async move {
            loop {
                let more = self.more.notified();
                tokio::pin!(more);
                more.as_mut().enable();
                {
                    let state = self.lock();
                    let begin = state.waiting.partition_point(|(seq, _)| *seq <= after);
                    let next: Vec<_> = state.waiting.iter().skip(begin).take(max).cloned().collect();
                    if !next.is_empty() {
                        return Ok(next);
                    }
                }
                more.await;
            }
        })
    }

    fn confirm(&self, upto: u64) -> BoxFuture<'_, Result<()>> {
        let mut state = self.lock();
        let done = state.waiting.partition_point(|(seq, _)| *seq <= upto);
        state.waiting.drain(..done);
        state.confirmed = Some(upto.max(state.confirmed.unwrap_or(0)));
        drop(state);
        self.room.notify_all();
        Box::pin(std::future::ready(Ok(())))
    }

    fn len(&self) -> usize {
        self.lock().waiting.len()
    }
}

/// Writes a staged event.
pub(crate) fn insert(connection: &Connection, seq: u64, event: &Outgoing) -> rusqlite::Result<()> {
    let envelope = &event.envelope;
    let extensions = envelope.extensions.iter().map(|(name, value)| (name.to_owned(), Value::String(value.to_owned())));
    let sql = "INSERT INTO commute_outbox VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    connection.prepare_cached(sql)?.execute((
        seq as i64,
        event.topic.as_str(),
        envelope.id.as_str(),
        &*envelope.source,
        &*envelope.event_type,
        envelope.subject.as_deref(),
        envelope.time.0,
        envelope.data_content_type.as_deref(),
        envelope.data_schema.as_deref(),
        Value::Object(extensions.collect::<Map<_, _>>()).to_string(),
        event.not_before.map(|time| time.0),
        &*envelope.data,
    ))?;
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<(u64, Outgoing)> {
    let optional = |n| row.get::<_, Option<String>>(n).map(|text| text.map(Into::into));
    let mut extensions = Extensions::default();
    let stored: Map<String, Value> = serde_json::from_str(&row.get::<_, String>(9)?).map_err(unreadable)?;
    for (name, value) in stored {
        extensions.set(&name, value.as_str().unwrap_or_default()).map_err(unreadable)?;
    }
    let envelope = Envelope {
        id: EventId::new(row.get::<_, String>(2)?).map_err(unreadable)?,
        source: row.get::<_, String>(3)?.into(),
        event_type: row.get::<_, String>(4)?.into(),
        subject: optional(5)?,
        time: Timestamp(row.get(6)?),
        data_content_type: optional(7)?,
        data_schema: optional(8)?,
        extensions,
        data: Bytes::from(row.get::<_, Vec<u8>>(11)?),
    };
    let topic = Topic::new(row.get::<_, String>(1)?).map_err(unreadable)?;
    let not_before = row.get::<_, Option<i64>>(10)?.map(Timestamp);
    Ok((row.get::<_, i64>(0)? as u64, Outgoing { topic, envelope, not_before }))
}

fn unreadable(cause: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    let detail = Error::new(Code::Damaged, "a staged event cannot be read").caused_by(cause);
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(detail))
}
