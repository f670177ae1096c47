//! What the fuzz targets call: everything that the bytes of a stranger reach before a session does, and what a session makes of it.

use bytes::{Bytes, BytesMut};
use commute_core::{Outgoing, Result, Settlement};
use futures_util::FutureExt;
use tokio_util::codec::Decoder;

use crate::wire::{
    Answer, Aside, Ask, Attach, Challenge, Control, Controlled, Count, Deliveries, Events, FRAMES, Hello, Kind,
    Message, OfSubscription, Opened, Payloads, Proof, Publish, Rest, Settle, Settled, Stored, Subscribe, Tagged, Take,
    Unsubscribe, Welcome,
};
use crate::zmtp::{Item, Limits, Role, Zmtp, greet, written};

const LIMITS: Limits = Limits { message_bytes: 1000, frames: FRAMES };

/// Reads bytes in pieces, as a connection does; the first byte says how large these are. What can be read is written again, and
/// says the same then.
///
/// # Panics
/// When a limit does not hold, or something says another thing when it is written again.
pub fn frames(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let (mut codec, mut buffer) = (Zmtp::new(LIMITS), BytesMut::new());
    for piece in bytes.chunks(usize::from(*size).max(1)) {
        buffer.extend_from_slice(piece);
        loop {
            let item = match codec.decode(&mut buffer) {
                Ok(None) => break,
                Err(_) => return,
                Ok(Some(item)) => item,
            };
            assert_eq!(Some(&item), again(&item).as_ref());
            if let Item::Message(parts) = item {
                let size: usize = parts.iter().map(Bytes::len).sum();
                assert!(parts.len() <= LIMITS.frames && size <= LIMITS.message_bytes, "a limit does not hold");
                if let Ok(message) = Message::from_frames(parts) {
                    understood(&message);
                }
            }
        }
        assert!(buffer.len() <= bytes.len() && buffer.capacity() <= (128 << 10) + 2 * bytes.len(), "too much is kept");
    }
}

/// Greets a peer that says these bytes, as a node does and as a client does.
///
/// # Panics
/// When greeting waits for more than there is.
pub fn greeting(bytes: &[u8]) {
    for role in [Role::Node, Role::Client] {
        let read = Box::new(std::io::Cursor::new(bytes.to_vec()));
        let greeted = greet(read, Box::new(tokio::io::sink()), role, LIMITS).now_or_never();
        assert!(greeted.is_some(), "neither end ever waits");
    }
}

fn again(item: &Item) -> Option<Item> {
    let mut bytes = BytesMut::from(&*written([item.clone()]));
    Zmtp::new(LIMITS).decode(&mut bytes).ok().flatten().filter(|_| bytes.is_empty())
}

/// Reads a header, and writes and reads it again. Headers with events in them are read into these, and not written.
macro_rules! header {
    ($message:ident, $type:ty) => {{
        let read = $message.header::<$type>();
        if let Ok(read) = &read {
            let written = Message::new($message.kind, $message.number, read);
            let as_json = |header: &$type| serde_json::to_value(header).ok();
            let again = written.as_ref().ok().and_then(|written| written.header::<$type>().ok());
            assert!(as_json(read).is_some() && as_json(read) == again.as_ref().and_then(as_json), "it is another now");
        }
        read
    }};
}

/// Takes a message apart as the node does, or the client.
fn understood(message: &Message) {
    let mut rest = Rest::of(message);
    match message.kind {
        Kind::Hello => drop(header!(message, Hello)),
        Kind::Challenge => drop(header!(message, Challenge)),
        Kind::Proof => drop(header!(message, Proof)),
        Kind::Welcome => drop(header!(message, Welcome)),
        Kind::Publish => {
            if let Ok(publish) = message.header::<Publish<'_>>() {
                publish.events.into_iter().filter_map(|event| rest.outgoing(event).ok()).for_each(published);
            }
        }
        Kind::Stored => drop(header!(message, Stored)),
        Kind::Subscribe => drop(header!(message, Subscribe)),
        Kind::Subscribed => drop(header!(message, Opened)),
        Kind::Unsubscribe => drop(header!(message, Unsubscribe)),
        Kind::Take => drop(header!(message, Take)),
        Kind::Deliveries => {
            if let Ok(given) = message.header::<Deliveries<'_>>() {
                given.deliveries.into_iter().for_each(|delivered| drop(rest.delivery(delivered)));
            }
        }
        Kind::Settle => {
            if let Ok(settle) = message.header::<Settle<'_>>() {
                settle.settlements.into_iter().filter_map(|ending| rest.settlement(ending).ok()).for_each(settled);
            }
        }
        Kind::Settled => drop(header!(message, Settled)),
        Kind::Read | Kind::Unpark => drop(header!(message, Tagged)),
        Kind::Events => {
            if let Ok(read) = message.header::<Events<'_>>() {
                read.events.into_iter().for_each(|event| drop(rest.envelope(event)));
            }
        }
        Kind::Parked | Kind::Backlog => drop(header!(message, OfSubscription)),
        Kind::Aside => {
            if let Ok(aside) = header!(message, Aside) {
                aside.parked.into_iter().for_each(|one| drop(one.parked()));
            }
        }
        Kind::Count => drop(header!(message, Count)),
        Kind::Control => drop(header!(message, Control)),
        Kind::Controlled => drop(header!(message, Controlled)),
        Kind::Attach => drop(header!(message, Attach)),
        Kind::Ask => drop(header!(message, Ask)),
        Kind::Answer => drop(header!(message, Answer)),
        Kind::Refused => drop(message.error()),
        Kind::Done | Kind::Ping | Kind::Pong | Kind::Bye => {}
    }
}

/// What the node has understood, a client could have said.
fn published(event: Outgoing) {
    let mut payloads = Payloads::default();
    let events = vec![payloads.sent(&event)];
    let written = Message::with(Kind::Publish, 1, &Publish { events }, payloads.finish());
    let again = |message: &Message| -> Result<_> {
        let events = message.header::<Publish<'_>>()?.events;
        let mut rest = Rest::of(message);
        events.into_iter().map(|event| rest.outgoing(event)).collect::<Result<Vec<_>>>()
    };
    assert_eq!(written.and_then(|message| again(&message)).ok(), Some(vec![event]));
}

fn settled(settlement: Settlement) {
    let mut payloads = Payloads::default();
    let settlements = vec![payloads.ending(&settlement)];
    let written = Message::with(Kind::Settle, 1, &Settle { subscription: 1, settlements }, payloads.finish());
    let again = |message: &Message| -> Result<_> {
        let settlements = message.header::<Settle<'_>>()?.settlements;
        let mut rest = Rest::of(message);
        settlements.into_iter().map(|ending| rest.settlement(ending)).collect::<Result<Vec<_>>>()
    };
    // Settlements are not compared with `==`.
    let again = written.and_then(|message| again(&message)).ok();
    assert_eq!(format!("{again:?}"), format!("{:?}", Some(vec![settlement])));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Frames that are nearly right come further than noise does.
    fn nearly() -> impl Strategy<Value = Vec<u8>> {
        let kinds = ["HELLO", "PUBLISH", "SETTLE", "TAKE", "SUBSCRIBE", "PROOF"];
        let headers = [
            r#"{"client":"c"}"#,
            r#"{"events":[{"topic":"t","size":3,"event":{"specversion":"1.0","id":"a","source":"s","type":"t"}}]}"#,
            r#"{"subscription":1,"settlements":[{"do":"park","position":1,"incarnation":1,"attempts":1,"lanes":[["ff",null]]}]}"#,
            r#"{"subscription":1,"max":1,"wait_ms":1}"#,
        ];
        let message = (
            prop::sample::select(kinds.to_vec()),
            prop::sample::select(headers.to_vec()),
            any::<u8>(),
            any::<(u16, u8)>(),
        );
        message.prop_map(|(kind, header, size, (at, instead))| {
            let parts = ["CM1", kind, "1", header, "abc"].map(|part| Bytes::copy_from_slice(part.as_bytes()));
            let mut bytes = [vec![size], written([Item::Message(parts.into())])].concat();
            let at = usize::from(at) % bytes.len();
            bytes[at] = instead;
            bytes
        })
    }

    proptest! {
        #[test]
        fn no_noise_breaks_a_limit(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            frames(&bytes);
        }

        #[test]
        fn nothing_that_is_nearly_right_breaks_a_limit(bytes in nearly()) {
            frames(&bytes);
        }
    }
}
