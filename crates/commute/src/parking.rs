//! Releasing: parked lanes go on, and everything set aside on them comes back in order.

use std::collections::{BTreeMap, HashSet};

use commute_core::{Code, Delivery, DeliveryTag, Error, Lane, Result};

use crate::consumer::prepare;
use crate::engine::{Dispatch, Engine, SetAside};

/// Releases a lane, with every other lane that events on it hold: they cannot come back before those do. Answers how
/// many events came back.
///
/// No delivery is admitted meanwhile, so that what comes back stands before everything that arrives.
pub(crate) async fn release(engine: &Engine, lane: Lane) -> Result<usize> {
    let _closed = engine.admission.write().await;
    // What is being set aside must be durable before it can be taken back.
    engine.settle.flushed().await;
    let together = connected(&engine.dispatch().parked, lane);
    if together.is_empty() {
        return Err(Error::new(Code::NotParked, format!("lane {lane} is not parked")));
    }
    let mut back = BTreeMap::new();
    for (n, subscription) in engine.subscriptions.iter().enumerate() {
        let tags: Vec<_> = together.iter().filter(|event| event.subscription == n).map(|event| event.tag).collect();
        if tags.is_empty() {
            continue;
        }
        for delivery in subscription.settler.unpark(tags).await? {
            back.insert((n, delivery.tag.position), delivery);
        }
    }
    let count = back.len();
    readmit(engine, &together, back);
    engine.work.notify_one();
    Ok(count)
}

fn readmit(engine: &Engine, together: &[SetAside], mut back: BTreeMap<(usize, u64), Delivery>) {
    let mut refused = Vec::new();
    let mut events = Vec::new();
    for event in together {
        let Some(delivery) = back.remove(&(event.subscription, event.tag.position)) else { continue };
        match prepare(engine, event.subscription, delivery) {
            Ok(prepared) => events.push(prepared),
            Err(settlement) => refused.push((event.subscription, *settlement)),
        }
    }
    engine.settle.push(refused);
    let gone: HashSet<(usize, DeliveryTag)> = together.iter().map(|event| (event.subscription, event.tag)).collect();
    let mut dispatch = engine.dispatch();
    let Dispatch { parked, scheduler, .. } = &mut *dispatch;
    parked.retain(|event| !gone.contains(&(event.subscription, event.tag)));
    scheduler.unpark(together.iter().flat_map(|event| event.lanes.iter().map(|(lane, _)| *lane)));
    // A running event may have parked on a shared lane meanwhile; its mark must stay.
    for (lane, mode) in parked.iter().flat_map(|event| &event.lanes) {
        scheduler.mark_parked(*lane, *mode);
    }
    for event in together {
        let counter = &engine.subscriptions[event.subscription].counters.parked;
        counter.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }
    for (event, not_before) in events {
        dispatch.admit(event, not_before, engine);
    }
}

/// Everything set aside that hangs together with a lane, in the order of arrival. An event that was still running can have
/// been parked after events that arrived behind it.
fn connected(parked: &[SetAside], lane: Lane) -> Vec<SetAside> {
    let mut lanes = HashSet::from([lane]);
    loop {
        let before = lanes.len();
        for event in parked {
            if event.lanes.iter().any(|(lane, _)| lanes.contains(lane)) {
                lanes.extend(event.lanes.iter().map(|(lane, _)| *lane));
            }
        }
        if lanes.len() == before {
            break;
        }
    }
    let touches = |event: &&SetAside| event.lanes.iter().any(|(lane, _)| lanes.contains(lane));
    let mut together: Vec<_> = parked.iter().filter(touches).cloned().collect();
    together.sort_by_key(|event| event.arrival);
    together
}
