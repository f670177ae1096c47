//! Aside: what a subscription has parked or deferred, as notes in a queue of its own.
//!
//! The queue is a small log that only the active instance reads. A note is a message; the state is what the notes say in their
//! order, the last word on an event counting. A note that says nothing any more is acknowledged, which removes it.
//!
//! | Note | Says |
//! |---|---|
//! | parked | the event with everything that is known about it; it is no longer in the subscription's queue |
//! | unparked | these events are in flight again; one note for a whole release, so that it happens wholly or not at all |
//! | deferred | attempts and back-off of an event that still is in the subscription's queue |
//! | owner | who has been active last; whoever finds another name than its own begins anew |
//! | knock | an instance came and would like to know whether it is the active one; of no meaning afterwards |

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use commute_core::{Code, Envelope, Error, EventId, Lane, Mode, Result, Timestamp};
use lapin::BasicProperties;
use serde::{Deserialize, Serialize};

use crate::wire::{self, Message};

/// The content type of notes, so that nobody takes one for an event.
const KIND: &str = "application/vnd.commute.note";

/// What a note says, beside the event that it may carry.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "snake_case")]
pub(crate) enum Note {
    Parked {
        position: u64,
        attempts: u32,
        /// With the class of shared access, or nothing for exclusive access.
        lanes: Vec<(u64, Option<u32>)>,
        content_type: Option<String>,
        reason: Option<String>,
        since: i64,
        published: i64,
        malformed: Option<String>,
    },
    Unparked {
        events: Vec<EventId>,
    },
    Deferred {
        event: EventId,
        attempts: u32,
        not_before: i64,
    },
    Owner {
        name: String,
    },
    Knock,
}

/// An event that is parked.
#[derive(Debug, Clone)]
pub(crate) struct ParkedEvent {
    pub(crate) note: NoteId,
    pub(crate) envelope: Envelope,
    pub(crate) position: u64,
    pub(crate) attempts: u32,
    pub(crate) lanes: Vec<(Lane, Mode)>,
    pub(crate) reason: Option<String>,
    pub(crate) since: Timestamp,
    pub(crate) published: Timestamp,
    pub(crate) malformed: Option<String>,
}

/// The name of a note: the message id that it was published with.
pub(crate) type NoteId = String;

/// A note on its way to the queue, or back from it.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) id: NoteId,
    pub(crate) note: Note,
    /// The event that a parked note carries.
    pub(crate) envelope: Option<Envelope>,
    /// The opening that wrote it.
    by: Option<String>,
}

impl Written {
    /// By the opening of this name.
    pub(crate) fn new(by: &str, note: Note, envelope: Option<Envelope>) -> Self {
        Written { id: uuid::Uuid::now_v7().to_string(), note, envelope, by: Some(by.to_owned()) }
    }

    /// Whether it was written by somebody who was not the active instance any more: it was sent before, and again after a cut.
    pub(crate) fn is_stale(&self, owner: Option<&str>) -> bool {
        let says = !matches!(self.note, Note::Owner { .. } | Note::Knock);
        says && self.by.as_deref().zip(owner).is_some_and(|(by, owner)| by != owner)
    }

    /// The message: a length, what the note says as JSON, and the event's payload; its attributes are headers.
    pub(crate) fn message(&self, queue: &str, now: Timestamp) -> Result<Message> {
        let said = serde_json::to_vec(&self.note)
            .map_err(|cause| Error::new(Code::InvalidEvent, "a note cannot be written").caused_by(cause))?;
        let data = self.envelope.as_ref().map(|envelope| envelope.data.clone()).unwrap_or_default();
        let mut body = Vec::with_capacity(4 + said.len() + data.len());
        body.extend(u32::try_from(said.len()).unwrap_or(u32::MAX).to_be_bytes());
        body.extend(said);
        body.extend_from_slice(&data);
        let properties = match &self.envelope {
            Some(envelope) => wire::properties(envelope, now),
            None => BasicProperties::default().with_delivery_mode(2),
        };
        let properties = match &self.by {
            Some(by) => properties.with_app_id(wire::short(by)),
            None => properties,
        };
        Ok(Message {
            exchange: String::new(),
            routing_key: queue.to_owned(),
            properties: properties.with_message_id(wire::short(&self.id)).with_content_type(KIND.into()),
            body: body.into(),
        })
    }

    /// Reads a note. `None` when the message is no note of ours.
    pub(crate) fn read(properties: &BasicProperties, body: &Bytes) -> Option<Written> {
        let id = properties.message_id().as_ref()?.to_string();
        let by = properties.app_id().as_ref().map(ToString::to_string);
        if properties.content_type().as_ref()?.as_str() != KIND {
            return None;
        }
        let length = u32::from_be_bytes(body.get(..4)?.try_into().ok()?) as usize;
        let note: Note = serde_json::from_slice(body.get(4..4 + length)?).ok()?;
        let envelope = match &note {
            Note::Parked { content_type, .. } => {
                let read = wire::read(properties, "", body.slice(4 + length..), None).0;
                let mut envelope = Some(read.envelope).filter(|_| read.malformed.is_none())?;
                envelope.data_content_type = content_type.as_deref().map(Into::into);
                Some(envelope)
            }
            _ => None,
        };
        Some(Written { id, note, envelope, by })
    }
}

/// A note in the queue.
#[derive(Debug, Default)]
struct Stored {
    /// Its delivery tag on the connection of now, once it has been delivered there.
    tag: Option<u64>,
    /// It says nothing any more; it is acknowledged as soon as its tag is known.
    over: bool,
    /// How many events it still speaks of.
    speaks_of: usize,
}

/// The state that the notes say.
#[derive(Debug, Default)]
pub(crate) struct Aside {
    notes: HashMap<NoteId, Stored>,
    /// In the order of parking.
    order: u64,
    parked: BTreeMap<u64, ParkedEvent>,
    by_event: HashMap<EventId, u64>,
    deferred: HashMap<EventId, (NoteId, u32, Timestamp)>,
    /// Events in flight again, with the notes that say so.
    unparked: HashMap<EventId, (ParkedEvent, NoteId)>,
    owner: Option<(NoteId, String)>,
    /// Tags of notes that came back before their publishing was concluded.
    early: HashMap<NoteId, u64>,
}

impl Aside {
    /// A note of ours is stored. Answers delivery tags to acknowledge.
    pub(crate) fn noted(&mut self, written: Written) -> Vec<u64> {
        let tag = self.early.remove(&written.id);
        match self.notes.contains_key(&written.id) {
            true => Vec::new(),
            false => self.apply(written, tag),
        }
    }

    /// A note was published, or was found when the queue was read. Answers delivery tags to acknowledge.
    pub(crate) fn apply(&mut self, written: Written, tag: Option<u64>) -> Vec<u64> {
        let Written { id, note, envelope, by: _ } = written;
        if self.notes.contains_key(&id) {
            // A copy, sent again because the first confirm was lost.
            return tag.into_iter().collect();
        }
        self.notes.insert(id.clone(), Stored { tag, over: false, speaks_of: 1 });
        match note {
            Note::Parked { position, attempts, lanes, reason, since, published, malformed, content_type: _ } => {
                let Some(envelope) = envelope else { return self.end(&id) };
                let event = envelope.id.clone();
                let over = self.forget(&event);
                let lanes =
                    lanes.into_iter().map(|(lane, class)| (Lane(lane), class.map_or(Mode::Exclusive, Mode::Shared)));
                self.order += 1;
                self.by_event.insert(event, self.order);
                let parked = ParkedEvent {
                    note: id,
                    envelope,
                    position,
                    attempts,
                    lanes: lanes.collect(),
                    reason,
                    since: Timestamp(since),
                    published: Timestamp(published),
                    malformed,
                };
                self.parked.insert(self.order, parked);
                over
            }
            Note::Unparked { events } => {
                let mut speaks_of = 0;
                for event in events {
                    let Some(parked) = self.by_event.remove(&event).and_then(|order| self.parked.remove(&order)) else {
                        continue;
                    };
                    speaks_of += 1;
                    self.unparked.insert(event, (parked, id.clone()));
                }
                match self.notes.get_mut(&id) {
                    Some(stored) if speaks_of > 0 => {
                        stored.speaks_of = speaks_of;
                        Vec::new()
                    }
                    _ => self.end(&id),
                }
            }
            Note::Deferred { event, attempts, not_before } => {
                match self.deferred.insert(event, (id, attempts, Timestamp(not_before))) {
                    Some((before, ..)) => self.end(&before),
                    None => Vec::new(),
                }
            }
            Note::Knock => self.end(&id),
            Note::Owner { name } => match self.owner.replace((id, name)) {
                Some((before, _)) => self.end(&before),
                None => Vec::new(),
            },
        }
    }

    /// A note came back from the queue on the connection of now.
    pub(crate) fn seen(&mut self, id: &NoteId, tag: u64) -> Seen {
        match self.notes.get_mut(id) {
            // A copy, sent again because the first confirm was lost.
            None if self.early.contains_key(id) => Seen::Over(tag),
            None => {
                self.early.insert(id.clone(), tag);
                Seen::Kept
            }
            Some(stored) if stored.over => {
                self.notes.remove(id);
                Seen::Over(tag)
            }
            Some(stored) if stored.tag.is_some() => Seen::Over(tag),
            Some(stored) => {
                stored.tag = Some(tag);
                Seen::Kept
            }
        }
    }

    /// The connection is gone, and every tag with it.
    pub(crate) fn disconnected(&mut self) {
        self.early.clear();
        for stored in self.notes.values_mut() {
            stored.tag = None;
        }
    }

    /// An event is over, or says something new: whatever notes said of it is over. A parked note goes before the note that
    /// says it is in flight again, so that a crash in between cannot park it again. Answers tags to acknowledge.
    pub(crate) fn forget(&mut self, event: &EventId) -> Vec<u64> {
        let mut over = Vec::new();
        if let Some(parked) = self.by_event.remove(event).and_then(|order| self.parked.remove(&order)) {
            over.extend(self.end(&parked.note));
        }
        if let Some((parked, note)) = self.unparked.remove(event) {
            over.extend(self.end(&parked.note));
            over.extend(self.end(&note));
        }
        over.extend(self.no_longer_deferred(event));
        over
    }

    /// Whatever was deferred is over. Answers tags to acknowledge.
    pub(crate) fn no_longer_deferred(&mut self, event: &EventId) -> Vec<u64> {
        match self.deferred.remove(event) {
            Some((note, ..)) => self.end(&note),
            None => Vec::new(),
        }
    }

    /// Deferrals of events that the queue does not hold any more: their acknowledgement reached the server, the note's did
    /// not. Answers tags to acknowledge.
    pub(crate) fn sweep(&mut self, held: impl Fn(&EventId) -> bool) -> Vec<u64> {
        let stale: Vec<_> =
            self.deferred.keys().filter(|event| !held(event) && !self.unparked.contains_key(event)).cloned().collect();
        stale.iter().flat_map(|event| self.no_longer_deferred(event)).collect()
    }

    /// One event less that a note speaks of.
    fn end(&mut self, id: &NoteId) -> Vec<u64> {
        let Some(stored) = self.notes.get_mut(id) else { return Vec::new() };
        stored.speaks_of = stored.speaks_of.saturating_sub(1);
        if stored.speaks_of > 0 {
            return Vec::new();
        }
        match stored.tag {
            Some(tag) => {
                self.notes.remove(id);
                vec![tag]
            }
            None => {
                stored.over = true;
                Vec::new()
            }
        }
    }

    pub(crate) fn deferral(&self, event: &EventId) -> Option<(u32, Timestamp)> {
        self.deferred.get(event).map(|(_, attempts, not_before)| (*attempts, *not_before))
    }

    /// Whether an event is kept here and not in the subscription's queue.
    pub(crate) fn holds(&self, event: &EventId) -> bool {
        self.by_event.contains_key(event) || self.unparked.contains_key(event)
    }

    pub(crate) fn parked(&self) -> impl Iterator<Item = &ParkedEvent> {
        self.parked.values()
    }

    pub(crate) fn parked_at(&self, position: u64) -> Option<&ParkedEvent> {
        self.parked.values().find(|parked| parked.position == position)
    }

    /// What is in flight again.
    pub(crate) fn unparked(&self) -> impl Iterator<Item = &ParkedEvent> {
        self.unparked.values().map(|(parked, _)| parked)
    }

    /// Numbers everything anew, in the order of sending: positions of different openings say nothing about each other. Answers
    /// the position behind the last.
    pub(crate) fn renumber(&mut self, space: u64) -> u64 {
        let parked = self.parked.values_mut();
        let mut all: Vec<_> = parked.chain(self.unparked.values_mut().map(|(parked, _)| parked)).collect();
        all.sort_by_key(|parked| (parked.published, parked.position));
        let mut next = 0;
        for parked in all {
            parked.position = next;
            next += space;
        }
        next
    }
}

/// What a note from the queue is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It says something, or will in a moment.
    Kept,
    /// It says nothing any more and is to be acknowledged.
    Over(u64),
}
