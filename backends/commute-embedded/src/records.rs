//! Records: what the log remembers, and its bytes.
//!
//! The numbers of the kinds are part of the stored format and never change. `docs/format.md` has the bytes.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use commute_core::{Envelope, EventId, Extensions, Lane, Mode, Timestamp};

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    Topic { topic: u32, name: Arc<str> },
    Event { topic: u32, position: u64, published: Timestamp, not_before: Option<Timestamp>, envelope: Envelope },
    Subscription { subscription: u32, topic: u32, group: Arc<str> },
    Ack { subscription: u32, position: u64, at: Timestamp, mark: Option<[u8; 16]> },
    Defer { subscription: u32, position: u64, attempts: u32, not_before: Timestamp },
    Park { subscription: u32, position: u64, aside: Aside },
    Unpark { subscription: u32, position: u64 },
}

/// How an event is set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Aside {
    pub(crate) attempts: u32,
    pub(crate) since: Timestamp,
    pub(crate) reason: Option<Arc<str>>,
    pub(crate) lanes: Vec<(Lane, Mode)>,
}

const TOPIC: u8 = 1;
const EVENT: u8 = 2;
const SUBSCRIPTION: u8 = 3;
const ACK: u8 = 4;
const DEFER: u8 = 5;
const PARK: u8 = 6;
const UNPARK: u8 = 7;

impl Record {
    /// Appends kind and body.
    pub(crate) fn encode(&self, to: &mut Vec<u8>) {
        match self {
            Record::Topic { topic, name } => {
                to.put_u8(TOPIC);
                to.put_u32_le(*topic);
                put_text(to, name);
            }
            Record::Event { topic, position, published, not_before, envelope } => {
                to.put_u8(EVENT);
                to.put_u32_le(*topic);
                to.put_u64_le(*position);
                to.put_i64_le(published.0);
                put_time(to, *not_before);
                put_envelope(to, envelope);
            }
            Record::Subscription { subscription, topic, group } => {
                to.put_u8(SUBSCRIPTION);
                to.put_u32_le(*subscription);
                to.put_u32_le(*topic);
                put_text(to, group);
            }
            Record::Ack { subscription, position, at, mark } => {
                to.put_u8(ACK);
                to.put_u32_le(*subscription);
                to.put_u64_le(*position);
                to.put_i64_le(at.0);
                to.put_u8(u8::from(mark.is_some()));
                to.put_slice(mark.as_ref().map_or(&[], |mark| mark.as_slice()));
            }
            Record::Defer { subscription, position, attempts, not_before } => {
                to.put_u8(DEFER);
                to.put_u32_le(*subscription);
                to.put_u64_le(*position);
                to.put_u32_le(*attempts);
                to.put_i64_le(not_before.0);
            }
            Record::Park { subscription, position, aside } => {
                to.put_u8(PARK);
                to.put_u32_le(*subscription);
                to.put_u64_le(*position);
                aside.encode(to);
            }
            Record::Unpark { subscription, position } => {
                to.put_u8(UNPARK);
                to.put_u32_le(*subscription);
                to.put_u64_le(*position);
            }
        }
    }

    /// Reads kind and body; `None` when the bytes are no record, or more than one.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Record> {
        let from = &mut &*bytes;
        let kind = from.try_get_u8().ok()?;
        let first = from.try_get_u32_le().ok()?;
        let record = match kind {
            TOPIC => Record::Topic { topic: first, name: text(from)? },
            EVENT => Record::Event {
                topic: first,
                position: from.try_get_u64_le().ok()?,
                published: Timestamp(from.try_get_i64_le().ok()?),
                not_before: time(from)?,
                envelope: envelope(from)?,
            },
            SUBSCRIPTION => {
                Record::Subscription { subscription: first, topic: from.try_get_u32_le().ok()?, group: text(from)? }
            }
            ACK => Record::Ack {
                subscription: first,
                position: from.try_get_u64_le().ok()?,
                at: Timestamp(from.try_get_i64_le().ok()?),
                mark: match from.try_get_u8().ok()? {
                    0 => None,
                    _ => Some(fingerprint(from)?),
                },
            },
            DEFER => Record::Defer {
                subscription: first,
                position: from.try_get_u64_le().ok()?,
                attempts: from.try_get_u32_le().ok()?,
                not_before: Timestamp(from.try_get_i64_le().ok()?),
            },
            PARK => {
                Record::Park { subscription: first, position: from.try_get_u64_le().ok()?, aside: Aside::decode(from)? }
            }
            UNPARK => Record::Unpark { subscription: first, position: from.try_get_u64_le().ok()? },
            _ => return None,
        };
        from.is_empty().then_some(record)
    }
}

impl Aside {
    pub(crate) fn encode(&self, to: &mut Vec<u8>) {
        to.put_u32_le(self.attempts);
        to.put_i64_le(self.since.0);
        put_optional(to, self.reason.as_ref());
        to.put_u32_le(self.lanes.len() as u32);
        for (lane, mode) in &self.lanes {
            to.put_u64_le(lane.0);
            // Exclusive is written as a class that no shared access can have: classes are 32 bits.
            to.put_u64_le(match mode {
                Mode::Exclusive => u64::MAX,
                Mode::Shared(class) => u64::from(*class),
            });
        }
    }

    pub(crate) fn decode(from: &mut &[u8]) -> Option<Aside> {
        let attempts = from.try_get_u32_le().ok()?;
        let since = Timestamp(from.try_get_i64_le().ok()?);
        let reason = optional(from)?;
        let count = from.try_get_u32_le().ok()?;
        let mut lanes = Vec::new();
        for _ in 0..count {
            let lane = Lane(from.try_get_u64_le().ok()?);
            let mode = match from.try_get_u64_le().ok()? {
                u64::MAX => Mode::Exclusive,
                class => Mode::Shared(u32::try_from(class).ok()?),
            };
            lanes.push((lane, mode));
        }
        Some(Aside { attempts, since, reason, lanes })
    }
}

fn put_envelope(to: &mut Vec<u8>, envelope: &Envelope) {
    put_text(to, envelope.id.as_str());
    put_text(to, &envelope.source);
    put_text(to, &envelope.event_type);
    put_optional(to, envelope.subject.as_ref());
    to.put_i64_le(envelope.time.0);
    put_optional(to, envelope.data_content_type.as_ref());
    put_optional(to, envelope.data_schema.as_ref());
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
    let (source, event_type, subject) = (text(from)?, text(from)?, optional(from)?);
    let time = Timestamp(from.try_get_i64_le().ok()?);
    let (data_content_type, data_schema) = (optional(from)?, optional(from)?);
    let mut extensions = Extensions::default();
    for _ in 0..from.try_get_u32_le().ok()? {
        extensions.set(str(from)?, str(from)?).ok()?;
    }
    let length = from.try_get_u32_le().ok()? as usize;
    let data = Bytes::copy_from_slice(from.get(..length)?);
    from.advance(length);
    Some(Envelope { id, source, event_type, subject, time, data_content_type, data_schema, extensions, data })
}

pub(crate) fn put_text(to: &mut Vec<u8>, text: &str) {
    to.put_u32_le(text.len() as u32);
    to.put_slice(text.as_bytes());
}

fn str<'a>(from: &mut &'a [u8]) -> Option<&'a str> {
    let length = from.try_get_u32_le().ok()? as usize;
    let (text, rest) = from.split_at_checked(length)?;
    *from = rest;
    std::str::from_utf8(text).ok()
}

pub(crate) fn text(from: &mut &[u8]) -> Option<Arc<str>> {
    str(from).map(Into::into)
}

fn put_optional(to: &mut Vec<u8>, text: Option<&Arc<str>>) {
    to.put_u8(u8::from(text.is_some()));
    if let Some(text) = text {
        put_text(to, text);
    }
}

fn optional(from: &mut &[u8]) -> Option<Option<Arc<str>>> {
    match from.try_get_u8().ok()? {
        0 => Some(None),
        _ => text(from).map(Some),
    }
}

pub(crate) fn put_time(to: &mut Vec<u8>, time: Option<Timestamp>) {
    to.put_u8(u8::from(time.is_some()));
    to.put_i64_le(time.unwrap_or_default().0);
}

pub(crate) fn time(from: &mut &[u8]) -> Option<Option<Timestamp>> {
    let some = from.try_get_u8().ok()? != 0;
    let time = Timestamp(from.try_get_i64_le().ok()?);
    Some(some.then_some(time))
}

pub(crate) fn fingerprint(from: &mut &[u8]) -> Option<[u8; 16]> {
    let (id, rest) = from.split_first_chunk::<16>()?;
    *from = rest;
    Some(*id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Record> {
        let mut full = Envelope::new("shop", "shop.order.placed", Timestamp(-5), Bytes::from_static(&[0, 255, 7]));
        full.subject = Some("536365".into());
        full.data_content_type = Some("application/octet-stream".into());
        full.data_schema = Some("urn:x".into());
        full.extensions.set("partitionkey", "ä").unwrap();
        let bare = Envelope::new("s", "t", Timestamp(0), Bytes::new());
        let aside = |reason: Option<&str>| Aside {
            attempts: 3,
            since: Timestamp(9),
            reason: reason.map(Into::into),
            lanes: vec![(Lane(7), Mode::Exclusive), (Lane(u64::MAX), Mode::READ), (Lane(1), Mode::Shared(u32::MAX))],
        };
        vec![
            Record::Topic { topic: 1, name: "shop.orders".into() },
            Record::Event { topic: 1, position: 2, published: Timestamp(3), not_before: None, envelope: full },
            Record::Event {
                topic: 1,
                position: u64::MAX,
                published: Timestamp(3),
                not_before: Some(Timestamp(0)),
                envelope: bare,
            },
            Record::Subscription { subscription: 4, topic: 1, group: "inventory".into() },
            Record::Ack { subscription: 4, position: 2, at: Timestamp(8), mark: None },
            Record::Ack { subscription: 4, position: 2, at: Timestamp(8), mark: Some([9; 16]) },
            Record::Defer { subscription: 4, position: 2, attempts: 5, not_before: Timestamp(6) },
            Record::Park { subscription: 4, position: 2, aside: aside(None) },
            Record::Park { subscription: 4, position: 2, aside: aside(Some("broken")) },
            Record::Unpark { subscription: 4, position: 2 },
        ]
    }

    #[test]
    fn every_record_survives_its_bytes() {
        for record in all() {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            assert_eq!(Record::decode(&bytes), Some(record));
        }
    }

    #[test]
    fn cut_or_lengthened_bytes_are_no_record() {
        for record in all() {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            for length in 0..bytes.len() {
                assert_eq!(Record::decode(&bytes[..length]), None, "{record:?} cut to {length}");
            }
            bytes.push(0);
            assert_eq!(Record::decode(&bytes), None);
        }
    }
}
