//! Consuming: deliveries are taken under credit, decoded, given their footprint, and admitted in order.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use commute_core::{Change, Delivery, Receiver, Result, Settlement};
use futures_util::FutureExt;

use crate::counters::Counters;
use crate::engine::Engine;
use crate::outcome::given_up;
use crate::parking;
use crate::pause::PausedBecause;
use crate::prepare::prepare;

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
        let count = taken.as_ref().map_or(0, Vec::len);
        engine.in_hand.fetch_add(count, Ordering::AcqRel);
        // A change that came together with deliveries is heard before they are admitted.
        while let Some(change) = settler.changed().now_or_never() {
            hear(&engine, n, change).await;
        }
        match taken {
            Ok(deliveries) if deliveries.is_empty() => return receiver,
            Ok(deliveries) => {
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
    let (mut events, mut refused) = (Vec::with_capacity(deliveries.len()), Vec::new());
    for delivery in deliveries {
        match prepare(engine, n, delivery) {
            Ok(event) => events.push(event),
            Err(settlement) => refused.push((n, *settlement)),
        }
    }
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
