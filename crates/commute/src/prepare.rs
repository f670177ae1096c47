//! Preparing: a delivery is decoded and given its footprint, or what becomes of it is decided at once.

use std::sync::Arc;

use commute_core::{Code, Context, Delivery, Envelope, Error, Outgoing, Result, Settlement, Timestamp, extension};
use tokio::time::Instant;

use crate::engine::{Admitted, Engine};
use crate::handler::{Decoded, Parts};
use crate::outcome::{dead_letter, ignored};
use crate::reply;

/// Decodes a delivery and says what it touches. What cannot be decoded touches nothing and waits for nobody: it is a
/// dead letter at once.
pub(crate) fn prepare(
    engine: &Engine,
    n: usize,
    delivery: Delivery,
) -> Result<(Admitted, Option<Instant>), Box<Settlement>> {
    let sub = &engine.subscriptions[n];
    let Delivery { envelope, tag, attempt, not_before, published, malformed } = delivery;
    if sub.revoked.contains(tag.incarnation) {
        return Err(Box::new(Settlement::Return { tag }));
    }
    let refuse = |envelope, topic, code: Code, reason: String| {
        let context = Context { envelope, route: sub.planned.route.clone(), attempt, published };
        Box::new(dead_letter(engine, n, tag, topic, &context, attempt, code, reason))
    };
    // A redriven event is for the group that gave it up; the others have had it.
    if envelope.extensions.get(extension::REDRIVE_FOR).is_some_and(|group| *group != *sub.planned.route.subscription) {
        return Err(Box::new(ignored(engine, n, tag, Vec::new())));
    }
    if let Some(reason) = malformed {
        return Err(refuse(envelope, &sub.planned.dead_letters, Code::InvalidEvent, reason.to_string()));
    }
    let Some(handler) = sub.handler_of(&envelope.event_type) else {
        if sub.planned.ignore_unknown {
            return Err(Box::new(ignored(engine, n, tag, told_ignored(engine, n, envelope, attempt, published))));
        }
        let reason = format!("no handler of the subscription takes {}", envelope.event_type);
        return Err(refuse(envelope, &sub.planned.dead_letters, Code::UnknownType, reason));
    };
    let parts = &sub.handler(handler).parts;
    let touched = decode(parts, &envelope).and_then(|event| {
        // The footprint function is the user's: it must not take the consumer with it.
        let footprint = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sub.footprint(handler, &event)));
        let panicked = |_| Error::new(Code::Panicked, "the footprint function panicked");
        Ok((footprint.map_err(panicked)?, event))
    });
    let (footprint, event) = match touched {
        Ok(touched) => touched,
        Err(error) => {
            return Err(refuse(envelope, &sub.handler(handler).dead_letters, error.code(), error.detail().to_owned()));
        }
    };
    let event = Admitted {
        subscription: n,
        handler,
        tag,
        attempt,
        published,
        footprint,
        envelope: Some(envelope),
        event: Some(event),
        backing_off: false,
        ticket: None,
        arrival: 0,
        claimed: false,
    };
    Ok((event, not_before.and_then(|time| wait_until(engine.clock.now(), time))))
}

/// Whoever asked what becomes of an event is told that no handler takes it.
fn told_ignored(
    engine: &Engine,
    n: usize,
    envelope: Arc<Envelope>,
    attempt: u32,
    published: Timestamp,
) -> Vec<Outgoing> {
    if reply::reply_to(&envelope).is_none() {
        return Vec::new();
    }
    let route = engine.subscriptions[n].planned.route.clone();
    let context = Context { envelope, route, attempt, published };
    reply::ignored(&engine.signer(), &context).ok().flatten().into_iter().collect()
}

fn decode(parts: &Parts, envelope: &Envelope) -> Result<Decoded> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| parts.run.decode(envelope)))
        .unwrap_or_else(|_| Err(Error::new(Code::Panicked, "decoding the event panicked")))
}

/// When a time of the wall clock comes on the runtime's clock; `None` when it has passed.
fn wait_until(now: Timestamp, time: Timestamp) -> Option<Instant> {
    let left = time.since(now);
    (!left.is_zero()).then(|| Instant::now() + left)
}
