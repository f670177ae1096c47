//! Reports: what becomes of each record of a batch, counted until the last one is known.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use commute_core::{Code, Error, Receipt, Result};
use hashbrown::HashSet;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;
use rdkafka::{ClientContext, Message};
use tokio::sync::oneshot;

use crate::client::{Ear, told};
use crate::error::{code, failed};
use crate::partition::position;

/// How much may be on its way to the server before publishing waits.
const IN_FLIGHT: usize = 64 << 20;
/// What a record takes in the library beside its bytes.
const RECORD: usize = 512;

/// A batch on its way.
pub(crate) struct Batch(Mutex<Counted>);

struct Counted {
    left: usize,
    receipts: Vec<Receipt>,
    error: Option<Error>,
    reply: Option<oneshot::Sender<Result<Vec<Receipt>>>>,
}

impl Batch {
    /// Of so many records.
    pub(crate) fn new(records: usize, reply: oneshot::Sender<Result<Vec<Receipt>>>) -> Arc<Self> {
        let none = Receipt { position: None, duplicate: false };
        let counted = Counted { left: records, receipts: vec![none; records], error: None, reply: Some(reply) };
        Arc::new(Batch(Mutex::new(counted)))
    }

    /// The fate of one record; the last one answers whoever waits.
    pub(crate) fn count(&self, n: usize, outcome: Result<u64>) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(position) => counted.receipts[n].position = Some(position),
            Err(error) => drop(counted.error.get_or_insert(error)),
        }
        counted.left = counted.left.saturating_sub(1);
        if counted.left > 0 {
            return;
        }
        let (receipts, error) = (std::mem::take(&mut counted.receipts), counted.error.take());
        if let Some(reply) = counted.reply.take() {
            // Nobody may be waiting any more.
            let _ = reply.send(error.map_or(Ok(receipts), Err));
        }
    }
}

/// What a record carries through the library.
pub(crate) struct Ticket {
    pub(crate) batch: Arc<Batch>,
    pub(crate) n: usize,
    pub(crate) bytes: usize,
}

/// How much is on its way.
#[derive(Default)]
pub(crate) struct Flight {
    bytes: AtomicUsize,
    /// Somebody waits for room.
    waiting: Mutex<bool>,
    room: Condvar,
}

impl Flight {
    fn is_full(&self, bytes: usize) -> bool {
        let flying = self.bytes.load(Ordering::SeqCst);
        flying > 0 && flying + bytes + RECORD > IN_FLIGHT
    }

    /// Whether so many bytes can be sent without waiting, and are not more than `most`.
    pub(crate) fn has_room(&self, bytes: usize, most: usize) -> bool {
        bytes <= most && !self.is_full(bytes + most)
    }

    /// Takes room if there is some.
    fn try_enter(&self, bytes: usize) -> bool {
        if self.is_full(bytes) {
            return false;
        }
        self.bytes.fetch_add(bytes + RECORD, Ordering::SeqCst);
        true
    }

    /// Waits for room.
    pub(crate) fn enter(&self, bytes: usize) {
        while !self.try_enter(bytes) {
            let mut waiting = self.waiting();
            *waiting = true;
            if self.is_full(bytes) {
                drop(self.room.wait(waiting).unwrap_or_else(PoisonError::into_inner));
            }
        }
    }

    pub(crate) fn leave(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes + RECORD, Ordering::SeqCst);
        let mut waiting = self.waiting();
        if std::mem::take(&mut *waiting) {
            self.room.notify_all();
        }
    }

    fn waiting(&self) -> MutexGuard<'_, bool> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The topics that were seen; one that turns out to be gone is looked for again.
pub(crate) type Known = Arc<Mutex<HashSet<String>>>;

/// Hears what became of each record.
pub(crate) struct Reports {
    pub(crate) known: Known,
    pub(crate) ear: Ear,
    pub(crate) flight: Arc<Flight>,
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        told(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.ear.hear(&error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, report: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        let outcome = match report {
            Ok(message) if message.offset() >= 0 => Ok(position(message.partition(), message.offset())),
            // The library only concludes that it is stored, from what came behind it.
            Ok(message) => {
                let detail =
                    format!("whether {} has taken an event in is not known; publish it again", message.topic());
                Err(Error::new(Code::BrokerUnavailable, detail))
            }
            Err((cause, message)) => {
                let what = format!("{} did not take an event in", message.topic());
                let error = unstored(what, cause.clone());
                if error.code() == Code::TopologyMissing {
                    self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(message.topic());
                }
                Err(error)
            }
        };
        self.flight.leave(ticket.bytes);
        ticket.batch.count(ticket.n, outcome);
    }
}

/// Why a record was not stored.
pub(crate) fn unstored(what: String, cause: KafkaError) -> Error {
    match cause.rdkafka_error_code() {
        Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight) => {
            Error::new(Code::Closed, "the connection ended before the server answered")
        }
        Some(known) if code(known) == Code::BrokerUnavailable => {
            Error::new(Code::BrokerUnavailable, what).caused_by(cause)
        }
        _ => failed(what, cause),
    }
}
