//! What the fuzz target calls: everything that the bytes of a stranger reach before a session does.

use bytes::{Bytes, BytesMut};
use tokio_util::codec::Decoder;

use crate::wire::{FRAMES, Hello, Message, Proof, Publish, Rest, Settle, Subscribe, Take};
use crate::zmtp::{Item, Limits, Zmtp};

const LIMITS: Limits = Limits { message_bytes: 1000, frames: FRAMES };

/// Reads bytes in pieces, as a connection does; the first byte says how large these are.
///
/// # Panics
/// When a limit does not hold.
pub fn frames(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let (mut codec, mut buffer) = (Zmtp::new(LIMITS), BytesMut::new());
    for piece in bytes.chunks(usize::from(*size).max(1)) {
        buffer.extend_from_slice(piece);
        loop {
            match codec.decode(&mut buffer) {
                Ok(None) => break,
                Err(_) => return,
                Ok(Some(Item::Command(..))) => {}
                Ok(Some(Item::Message(parts))) => {
                    let size: usize = parts.iter().map(Bytes::len).sum();
                    assert!(parts.len() <= LIMITS.frames && size <= LIMITS.message_bytes, "a limit does not hold");
                    if let Ok(message) = Message::from_frames(parts) {
                        headers(&message);
                    }
                }
            }
        }
        assert!(buffer.len() <= bytes.len() && buffer.capacity() <= (128 << 10) + 2 * bytes.len(), "too much is kept");
    }
}

fn headers(message: &Message) {
    let mut rest = Rest::of(message);
    if let Ok(publish) = message.header::<Publish<'_>>() {
        publish.events.into_iter().for_each(|event| drop(rest.outgoing(event)));
    }
    if let Ok(settle) = message.header::<Settle<'_>>() {
        settle.settlements.into_iter().for_each(|ending| drop(rest.settlement(ending)));
    }
    let _ = (message.header::<Hello>(), message.header::<Proof>());
    let _ = (message.header::<Subscribe>(), message.header::<Take>());
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
            let mut bytes = [vec![size], crate::zmtp::written([Item::Message(parts.into())])].concat();
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
