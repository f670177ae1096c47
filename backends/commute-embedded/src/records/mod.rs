//! Records: the facts that the log remembers, and their bytes.
//!
//! The numbers of the kinds are part of the stored format and never change. `docs/format.md` has the bytes.

pub(crate) mod bytes;
mod event;
mod parking;

use std::sync::Arc;

use ::bytes::{Buf, BufMut};
use commute_core::Timestamp;

use bytes::{id, optional, put_optional, put_text, put_time, text, time};
pub(crate) use event::{Event, Head};
pub(crate) use parking::Aside;

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    /// A topic has a number.
    Topic { topic: u32, name: Arc<str> },
    /// An event was published.
    Event(Arc<Event>),
    /// A subscription was created; it begins at a position.
    Subscription { subscription: u32, topic: u32, group: Arc<str>, first: u64 },
    /// A subscription was opened by a receiver.
    Opened { subscription: u32, incarnation: u32 },
    /// An event was handled; the inbox remembers its id if there is a mark.
    Ack { subscription: u32, position: u64, at: Timestamp, mark: Option<[u8; 16]> },
    /// An event failed and will be tried again.
    Defer { subscription: u32, position: u64, attempts: u32, not_before: Timestamp },
    /// An event was set aside.
    Park { subscription: u32, position: u64, aside: Aside },
    /// An event that was set aside is in flight again.
    Unpark { subscription: u32, position: u64 },
    /// Everything from a position on is to be handled once more.
    Replay { subscription: u32, position: u64 },
}

// 0 is the head of a group.
const TOPIC: u8 = 1;
const EVENT: u8 = 2;
const SUBSCRIPTION: u8 = 3;
const OPENED: u8 = 4;
const ACK: u8 = 5;
const DEFER: u8 = 6;
const PARK: u8 = 7;
const UNPARK: u8 = 8;
const REPLAY: u8 = 9;

impl Record {
    /// Appends kind and body.
    pub(crate) fn encode(&self, to: &mut Vec<u8>) {
        let mut begin = |kind: u8, number: u32| {
            to.put_u8(kind);
            to.put_u32_le(number);
        };
        match self {
            Record::Event(event) => event.encode(to),
            Record::Topic { topic, name } => {
                begin(TOPIC, *topic);
                put_text(to, name);
            }
            Record::Subscription { subscription, topic, group, first } => {
                begin(SUBSCRIPTION, *subscription);
                to.put_u32_le(*topic);
                put_text(to, group);
                to.put_u64_le(*first);
            }
            Record::Opened { subscription, incarnation } => {
                begin(OPENED, *subscription);
                to.put_u32_le(*incarnation);
            }
            Record::Ack { subscription, position, at, mark } => {
                begin(ACK, *subscription);
                to.put_u64_le(*position);
                put_time(to, *at);
                put_optional(to, mark.as_ref(), |to, mark| to.put_slice(mark));
            }
            Record::Defer { subscription, position, attempts, not_before } => {
                begin(DEFER, *subscription);
                to.put_u64_le(*position);
                to.put_u32_le(*attempts);
                put_time(to, *not_before);
            }
            Record::Park { subscription, position, aside } => {
                begin(PARK, *subscription);
                to.put_u64_le(*position);
                aside.encode(to);
            }
            Record::Unpark { subscription, position } => {
                begin(UNPARK, *subscription);
                to.put_u64_le(*position);
            }
            Record::Replay { subscription, position } => {
                begin(REPLAY, *subscription);
                to.put_u64_le(*position);
            }
        }
    }

    /// Whether the body of a record says what a subscription did with an event: both come first in it.
    pub(crate) fn is_about_an_event(body: &[u8]) -> bool {
        body.first().is_some_and(|kind| (ACK..=UNPARK).contains(kind))
    }

    /// Reads kind and body; `None` when the bytes are no record, or more than one.
    pub(crate) fn decode(body: &[u8]) -> Option<Record> {
        let from = &mut &*body;
        let kind = from.try_get_u8().ok()?;
        if kind == EVENT {
            return Event::decode(body).map(|event| Record::Event(Arc::new(event)));
        }
        let number = from.try_get_u32_le().ok()?;
        let record = match kind {
            TOPIC => Record::Topic { topic: number, name: text(from)? },
            SUBSCRIPTION => Record::Subscription {
                subscription: number,
                topic: from.try_get_u32_le().ok()?,
                group: text(from)?,
                first: from.try_get_u64_le().ok()?,
            },
            OPENED => Record::Opened { subscription: number, incarnation: from.try_get_u32_le().ok()? },
            ACK => Record::Ack {
                subscription: number,
                position: from.try_get_u64_le().ok()?,
                at: time(from)?,
                mark: optional(from, id)?,
            },
            DEFER => Record::Defer {
                subscription: number,
                position: from.try_get_u64_le().ok()?,
                attempts: from.try_get_u32_le().ok()?,
                not_before: time(from)?,
            },
            PARK => Record::Park {
                subscription: number,
                position: from.try_get_u64_le().ok()?,
                aside: Aside::decode(from)?,
            },
            UNPARK => Record::Unpark { subscription: number, position: from.try_get_u64_le().ok()? },
            REPLAY => Record::Replay { subscription: number, position: from.try_get_u64_le().ok()? },
            _ => return None,
        };
        from.is_empty().then_some(record)
    }
}

#[cfg(test)]
mod tests {
    use ::bytes::Bytes;
    use commute_core::{Envelope, Lane, Mode};

    use super::*;

    fn all() -> Vec<Record> {
        let mut full = Envelope::new("shop", "shop.order.placed", Timestamp(-5), Bytes::from_static(&[0, 255, 7]));
        full.subject = Some("536365".into());
        full.data_content_type = Some("application/octet-stream".into());
        full.data_schema = Some("urn:x".into());
        full.extensions.set("partitionkey", "ä").unwrap();
        let bare = Envelope::new("s", "t", Timestamp(0), Bytes::new());
        let event = |position, not_before, envelope: Envelope| {
            let id = envelope.id.fingerprint();
            Record::Event(Arc::new(Event {
                topic: 1,
                position,
                published: Timestamp(3),
                not_before,
                envelope: envelope.into(),
                id,
            }))
        };
        let aside = |reason: Option<&str>| Aside {
            attempts: 3,
            since: Timestamp(9),
            reason: reason.map(Into::into),
            lanes: vec![(Lane(7), Mode::Exclusive), (Lane(u64::MAX), Mode::READ), (Lane(1), Mode::Shared(u32::MAX))],
        };
        vec![
            Record::Topic { topic: 1, name: "shop.orders".into() },
            event(2, None, full),
            event(u64::MAX, Some(Timestamp(0)), bare),
            Record::Subscription { subscription: 4, topic: 1, group: "inventory".into(), first: 6 },
            Record::Opened { subscription: 4, incarnation: 2 },
            Record::Ack { subscription: 4, position: 2, at: Timestamp(8), mark: None },
            Record::Ack { subscription: 4, position: 2, at: Timestamp(8), mark: Some([9; 16]) },
            Record::Defer { subscription: 4, position: 2, attempts: 5, not_before: Timestamp(6) },
            Record::Park { subscription: 4, position: 2, aside: aside(None) },
            Record::Park { subscription: 4, position: 2, aside: aside(Some("broken")) },
            Record::Unpark { subscription: 4, position: 2 },
            Record::Replay { subscription: 4, position: 2 },
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
