//! Consuming: deliveries are taken under credit, decoded, given their footprint, and admitted in order.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use commute_core::{
    Change, Code, Context, Delivery, Envelope, Error, Outgoing, Receiver, Result, Settlement, Timestamp, extension,
};
use futures_util::FutureExt;
use tokio::time::Instant;

use crate::engine::{Admitted, Engine};
use crate::outcome::{dead_letter, given_up, ignored};
use crate::pause::PausedBecause;
use crate::stats::Counters;
use crate::{parking, reply};

/// One receive asks for at most this many: enough to share the cost of a wake-up, few enough to keep a batch short.
const BATCH: usize = 512;

/// Consumes until it is told to stop, and gives the receiver back, which must outlive the last settlement.
pub(crate) async fn consume(engine: Arc<Engine>, n: usize, mut receiver: Box<dyn Receiver>) -> Box<dyn Receiver> {
    let settler = engine.subscriptions[n].settler.clone();
    let mut turn = 0;
    loop {
        let taken = tokio::select! {
            biased;
            () = engine.stop.receiving.cancelled() => {
                engine.subscriptions[n].counters.pause.begin(PausedBecause::Draining);
                return receiver;
            }
            change = settler.changed() => {
                hear(&engine, n, change).await;
                continue;
            }
            taken = take(&engine, n, &mut *receiver, &mut turn) => taken,
        };
        // A change that came together with deliveries is heard before they are admitted.
        while let Some(change) = settler.changed().now_or_never() {
            hear(&engine, n, change).await;
        }
        match taken {
            Ok(deliveries) if deliveries.is_empty() => return receiver,
            Ok(deliveries) => {
                let count = deliveries.len();
                engine.in_hand.fetch_add(count, Ordering::AcqRel);
                let open = engine.admission.read().await;
                admit(&engine, n, deliveries, turn);
                drop(open);
                engine.in_hand.fetch_sub(count, Ordering::AcqRel);
            }
            Err(error) => {
                engine.fail(error);
                return receiver;
            }
        }
    }
}

async fn hear(engine: &Engine, n: usize, change: Change) {
    match change {
        Change::Assigned(incarnation) => {
            if let Err(error) = parking::assigned(engine, n, incarnation).await {
                engine.fail(error);
            }
        }
        Change::Revoked(incarnation) => parking::revoked(engine, n, incarnation),
    }
}

/// Waits while the subscription is paused, then for room, then for deliveries. Cancel safe, because `receive` is.
async fn take(engine: &Engine, n: usize, receiver: &mut dyn Receiver, turn: &mut u64) -> Result<Vec<Delivery>> {
    let gate = &engine.subscriptions[n].gate;
    let Counters { pause, retrying, .. } = &engine.subscriptions[n].counters;
    loop {
        if gate.is_shut() {
            pause.begin(PausedBecause::Operator);
        }
        if gate.turns() != *turn {
            // Others may have it, and whoever gives up what is stored must find it there.
            receiver.give_back();
        }
        gate.opened(turn, &engine.settle).await;
        let room = engine.room.notified();
        tokio::pin!(room);
        // Registered before looking, so that room made in between is noticed.
        room.as_mut().enable();
        let max = {
            let dispatch = engine.dispatch();
            let ahead = engine.limits.look_ahead.saturating_sub(dispatch.in_flight[n]);
            let ready = engine.limits.window.saturating_sub(dispatch.scheduler.ready());
            let max = BATCH.min(ahead).min(ready).min(dispatch.payload_room(engine));
            if max == 0 {
                pause.begin(PausedBecause::of(ahead, retrying.load(Ordering::Relaxed), dispatch.in_flight[n]));
            }
            max
        };
        if max > 0 {
            pause.end();
        }
        tokio::select! {
            biased;
            () = gate.turned(*turn) => {}
            taken = receiver.receive(max), if max > 0 => return taken,
            () = room, if max == 0 => {}
        }
    }
}

/// Decodes outside the lock, admits a batch inside it. What was received before the subscription was paused goes back, even
/// if it goes on already: something earlier may be on its way back, too.
pub(crate) fn admit(engine: &Engine, n: usize, deliveries: Vec<Delivery>, turn: u64) {
    let counters = &engine.subscriptions[n].counters;
    counters.received.fetch_add(deliveries.len() as u64, Ordering::Relaxed);
    let mut refused = Vec::new();
    let events: Vec<_> = deliveries
        .into_iter()
        .filter_map(|delivery| match prepare(engine, n, delivery) {
            Ok(event) => Some(event),
            Err(settlement) => {
                refused.push((n, *settlement));
                None
            }
        })
        .collect();
    given_up(engine, refused);
    let mut ready = 0;
    let mut dispatch = engine.dispatch();
    if engine.subscriptions[n].gate.turns() != turn {
        engine.settle.push(events.iter().map(|(event, _)| (n, Settlement::Return { tag: event.tag })));
        return;
    }
    for (event, not_before) in events {
        ready += usize::from(dispatch.admit(event, not_before, engine));
    }
    drop(dispatch);
    // One is enough: a worker that leaves something behind wakes the next.
    if ready > 0 {
        engine.work.notify_one();
    }
}

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

fn decode(parts: &crate::handler::Parts, envelope: &commute_core::Envelope) -> Result<crate::handler::Decoded> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| parts.run.decode(envelope)))
        .unwrap_or_else(|_| Err(Error::new(Code::Panicked, "decoding the event panicked")))
}

/// When a time of the wall clock comes on the runtime's clock; `None` when it has passed.
fn wait_until(now: Timestamp, time: Timestamp) -> Option<Instant> {
    let left = time.since(now);
    (!left.is_zero()).then(|| Instant::now() + left)
}
