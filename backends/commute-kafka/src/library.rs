//! The library: reads records again, from the source or from aside, at any place.

use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use commute_core::{Code, Error, Result};
use hashbrown::HashMap;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::{ClientConfig, Message};

use crate::client::{ANSWER, Ear};
use crate::error::failed;

/// How long reading may go on without anything coming.
const PATIENCE: Duration = Duration::from_secs(30);
/// A next place that is farther away than this is looked up, instead of reading everything up to it.
const FAR: u64 = 500;

/// A part of a partition.
pub(crate) struct Part {
    pub(crate) partition: i32,
    pub(crate) from: u64,
    /// Behind the last one.
    pub(crate) end: u64,
}

/// How far reading a part has come.
struct Place {
    next: u64,
    end: u64,
    /// The server has said since that its log is as long as that.
    is_there: bool,
}

/// Reads, one request at a time. It belongs to no group's assignment.
pub(crate) struct Library {
    config: ClientConfig,
    reader: Mutex<Option<BaseConsumer<Ear>>>,
}

impl Library {
    pub(crate) fn new(mut config: ClientConfig, group_id: &str) -> Self {
        config
            .set("group.id", group_id)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "earliest")
            .set("max.poll.interval.ms", "86400000")
            .set("session.timeout.ms", "60000")
            .set("fetch.wait.max.ms", "50")
            .set("queued.max.messages.kbytes", "8192");
        Library { config, reader: Mutex::new(None) }
    }

    /// Reads parts of a topic until each has come to its end, or to the end of the log, or `each` has enough. Blocks.
    pub(crate) fn read(
        &self,
        topic: &str,
        parts: &[Part],
        mut each: impl FnMut(&BorrowedMessage<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let place = |part: &Part| (part.partition, Place { next: part.from, end: part.end, is_there: false });
        let mut open: HashMap<i32, Place> = parts.iter().filter(|part| part.from < part.end).map(place).collect();
        if open.is_empty() {
            return Ok(());
        }
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let reader = match &mut *reader {
            Some(reader) => reader,
            none => {
                let made = self.config.create_with_context(Ear::default());
                none.insert(made.map_err(|cause| failed("cannot make a reader", cause))?)
            }
        };
        let what = || format!("cannot read {topic} again");
        let mut places = TopicPartitionList::new();
        for part in parts.iter().filter(|part| part.from < part.end) {
            let at = Offset::Offset(i64::try_from(part.from).unwrap_or(i64::MAX));
            places.add_partition_offset(topic, part.partition, at).map_err(|cause| failed(what(), cause))?;
        }
        reader.assign(&places).map_err(|cause| failed(what(), cause))?;
        let mut until = Instant::now() + PATIENCE;
        let outcome = loop {
            match reader.poll(Duration::from_millis(200)) {
                // Others are left over from the reading before.
                Some(Ok(message)) if message.topic() == topic && open.contains_key(&message.partition()) => {
                    until = Instant::now() + PATIENCE;
                    if each(&message).is_break() {
                        break Ok(());
                    }
                    let next = message.offset().unsigned_abs() + 1;
                    if let Some(place) = open.get_mut(&message.partition()) {
                        place.next = next;
                        if next >= place.end {
                            open.remove(&message.partition());
                        }
                    }
                }
                Some(Err(KafkaError::PartitionEOF(ended))) => {
                    if open.get(&ended).is_some_and(|place| place.is_there) {
                        open.remove(&ended);
                    } else if let Some(place) = open.get_mut(&ended) {
                        // A new leader may say so before it knows of all that is stored. Only what it says after it has
                        // come so far holds: then what is missing before the end is no record.
                        let log = reader.fetch_watermarks(topic, ended, ANSWER);
                        place.is_there = log.is_ok_and(|(_, end)| end.unsigned_abs() >= place.end);
                        if !place.is_there && Instant::now() > until {
                            break Err(Error::new(Code::BrokerUnavailable, what()));
                        }
                        let next = Offset::Offset(i64::try_from(place.next).unwrap_or(i64::MAX));
                        if let Err(cause) = reader.seek(topic, ended, next, ANSWER) {
                            break Err(Error::new(Code::BrokerUnavailable, what()).caused_by(cause));
                        }
                    }
                }
                Some(Err(cause)) if Instant::now() > until => break Err(failed(what(), cause)),
                None if Instant::now() > until => break Err(Error::new(Code::BrokerUnavailable, what())),
                Some(Err(cause)) => tracing::debug!(%cause, topic, "reading again meets an error"),
                Some(Ok(_)) | None => {}
            }
            if open.is_empty() {
                break Ok(());
            }
        };
        // So that nothing more is fetched.
        if let Err(cause) = reader.unassign() {
            tracing::debug!(%cause, "the reader keeps its place");
        }
        outcome
    }

    /// Reads single records, by ascending offsets; `each` gets those that are there. Blocks.
    pub(crate) fn pick(
        &self,
        topic: &str,
        partition: i32,
        offsets: &[u64],
        mut each: impl FnMut(&BorrowedMessage<'_>),
    ) -> Result<()> {
        let mut left = offsets.iter().copied().peekable();
        let end = offsets.last().map_or(0, |last| last + 1);
        while let Some(from) = left.peek().copied() {
            let mut enough = false;
            let part = Part { partition, from, end };
            self.read(topic, &[part], |message| {
                let at = message.offset().unsigned_abs();
                // What is not there any more is passed over.
                while left.next_if(|next| *next < at).is_some() {}
                if left.next_if_eq(&at).is_some() {
                    each(message);
                }
                match left.peek() {
                    Some(next) if next.saturating_sub(at) <= FAR => ControlFlow::Continue(()),
                    _ => {
                        enough = true;
                        ControlFlow::Break(())
                    }
                }
            })?;
            if !enough {
                // The log ends before them.
                break;
            }
        }
        Ok(())
    }
}
