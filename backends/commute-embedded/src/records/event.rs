//! Event records: an envelope in its place in a topic.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use commute_core::{Envelope, EventId, Extensions, Timestamp, extension};

use super::EVENT;
use super::bytes::{optional, put_optional, put_text, put_time, slice, str, text, time};

/// A stored event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) topic: u32,
    pub(crate) position: u64,
    pub(crate) published: Timestamp,
    pub(crate) not_before: Option<Timestamp>,
    pub(crate) envelope: Arc<Envelope>,
    /// Sixteen bytes that stand for the envelope's id. Not stored.
    pub(crate) id: [u8; 16],
}

/// An event whose envelope is not looked into.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) topic: u32,
    pub(crate) position: u64,
    pub(crate) published: Timestamp,
    pub(crate) not_before: Option<Timestamp>,
    envelope: &'a [u8],
}

impl<'a> Head<'a> {
    /// The id of the event, and of the one that caused it. Takes no memory, because whole logs are searched with it.
    pub(crate) fn relations(&self) -> Option<(&'a str, Option<&'a str>)> {
        let from = &mut &*self.envelope;
        let id = str(from)?;
        let (_source, _event_type, _subject) = (str(from)?, str(from)?, optional(from, str)?);
        let (_time, _content_type, _schema) = (time(from)?, optional(from, str)?, optional(from, str)?);
        let mut cause = None;
        for _ in 0..from.try_get_u32_le().ok()? {
            let (name, value) = (str(from)?, str(from)?);
            cause = cause.or((name == extension::CAUSATION_ID).then_some(value));
        }
        Some((id, cause))
    }
}

impl Event {
    pub(crate) fn encode(&self, to: &mut Vec<u8>) {
        to.put_u8(EVENT);
        to.put_u32_le(self.topic);
        to.put_u64_le(self.position);
        put_time(to, self.published);
        put_optional(to, self.not_before, put_time);
        put_envelope(to, &self.envelope);
    }

    /// Whether the body of a record is that of a certain event.
    pub(crate) fn is(body: &[u8], topic: u32, position: u64) -> bool {
        body.len() > 13
            && body[0] == EVENT
            && body[1..5] == topic.to_le_bytes()
            && body[5..13] == position.to_le_bytes()
    }

    /// Reads kind and body; `None` when the bytes are no event.
    pub(crate) fn decode(mut body: &[u8]) -> Option<Event> {
        let from = &mut body;
        if from.try_get_u8().ok()? != EVENT {
            return None;
        }
        let (topic, position) = (from.try_get_u32_le().ok()?, from.try_get_u64_le().ok()?);
        let (published, not_before, envelope) = (time(from)?, optional(from, time)?, Arc::new(envelope(from)?));
        let id = envelope.id.fingerprint();
        from.is_empty().then_some(Event { topic, position, published, not_before, envelope, id })
    }

    /// Reads what comes before the envelope; `None` when the bytes are no event.
    pub(crate) fn head(mut body: &[u8]) -> Option<Head<'_>> {
        let from = &mut body;
        if from.try_get_u8().ok()? != EVENT {
            return None;
        }
        let (topic, position) = (from.try_get_u32_le().ok()?, from.try_get_u64_le().ok()?);
        let (published, not_before) = (time(from)?, optional(from, time)?);
        Some(Head { topic, position, published, not_before, envelope: from })
    }

    /// A hash of the partition key. It only decides which receiver of a group gets the event, so it need not be the same
    /// in another process.
    pub(crate) fn key(&self) -> Option<u64> {
        let fnv = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        self.envelope.partition_key().map(|key| key.bytes().fold(0xcbf2_9ce4_8422_2325, fnv))
    }
}

fn put_envelope(to: &mut Vec<u8>, envelope: &Envelope) {
    put_text(to, envelope.id.as_str());
    put_text(to, &envelope.source);
    put_text(to, &envelope.event_type);
    put_optional(to, envelope.subject.as_deref(), put_text);
    put_time(to, envelope.time);
    put_optional(to, envelope.data_content_type.as_deref(), put_text);
    put_optional(to, envelope.data_schema.as_deref(), put_text);
    to.put_u32_le(envelope.extensions.len() as u32);
    for (name, value) in envelope.extensions.iter() {
        put_text(to, name);
        put_text(to, value);
    }
    to.put_u32_le(envelope.data.len() as u32);
    to.put_slice(&envelope.data);
}

fn envelope(from: &mut &[u8]) -> Option<Envelope> {
    let id = EventId::new(str(from)?).ok()?;
    let (source, event_type, subject) = (text(from)?, text(from)?, optional(from, text)?);
    let time = time(from)?;
    let (data_content_type, data_schema) = (optional(from, text)?, optional(from, text)?);
    let mut extensions = Extensions::default();
    for _ in 0..from.try_get_u32_le().ok()? {
        extensions.set(str(from)?, str(from)?).ok()?;
    }
    let length = from.try_get_u32_le().ok()? as usize;
    let data = Bytes::copy_from_slice(slice(from, length)?);
    Some(Envelope { id, source, event_type, subject, time, data_content_type, data_schema, extensions, data })
}
