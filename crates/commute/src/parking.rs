//! Parking: what was set aside before is recalled, and a released lane goes on with everything set aside on it, in order.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::Ordering;

use commute_core::footprint::Mode;
use commute_core::{Code, Delivery, DeliveryTag, Error, Lane, Parked, Result, Settlement};
use tokio::sync::RwLockWriteGuard;

use crate::counters::Counters;
use crate::engine::{Dispatch, Engine, SetAside};
use crate::outcome::given_up;
use crate::prepare::prepare;

/// Marks the lanes that were parked when the last process stopped, before anything is received.
///
/// Within a subscription the order is that of the topic; between subscriptions nobody knows any more who arrived first, so
/// the one that was parked first goes first.
pub(crate) async fn recall(engine: &Engine) -> Result<()> {
    let mut queues = Vec::new();
    for (n, subscription) in engine.subscriptions.iter().enumerate() {
        let mut parked = subscription.settler.parked().await?;
        parked.sort_by_key(|parked| std::cmp::Reverse(parked.tag.position));
        queues.push((n, parked));
    }
    loop {
        let first = |queue: &&mut (usize, Vec<Parked>)| queue.1.last().map(|parked| parked.since);
        let next = queues.iter_mut().filter(|queue| !queue.1.is_empty()).min_by_key(first);
        let Some((subscription, Some(parked))) = next.map(|(n, parked)| (*n, parked.pop())) else { return Ok(()) };
        remember(engine, subscription, parked);
    }
}

/// Marks the lanes of what became ours with an incarnation.
pub(crate) async fn assigned(engine: &Engine, n: usize, incarnation: u32) -> Result<()> {
    let mut parked = engine.subscriptions[n].settler.parked().await?;
    parked.retain(|parked| parked.tag.incarnation == incarnation);
    parked.sort_by_key(|parked| parked.tag.position);
    for parked in parked {
        remember(engine, n, parked);
    }
    Ok(())
}

fn remember(engine: &Engine, subscription: usize, parked: Parked) {
    let mut dispatch = engine.dispatch();
    let known = |known: &SetAside| known.subscription == subscription && known.tag == parked.tag;
    if dispatch.parked.iter().any(known) {
        return;
    }
    Counters::add(&engine.subscriptions[subscription].counters.parked);
    for (lane, mode) in &parked.lanes {
        dispatch.scheduler.mark_parked(*lane, *mode);
    }
    dispatch.arrivals += 1;
    let Parked { tag, attempts, lanes, reason, .. } = parked;
    let (arrival, reason) = (dispatch.arrivals, reason.map(Into::into));
    dispatch.parked.push(SetAside { subscription, tag, lanes, arrival, attempts, reason, published: None });
}

/// Another instance takes over an incarnation: what is not begun goes back, what is parked is no longer ours to release.
/// What is running keeps its lanes until it is over, so that the same event, should it come back, does not overlap with it.
pub(crate) fn revoked(engine: &Engine, n: usize, incarnation: u32) {
    engine.subscriptions[n].revoked.insert(incarnation);
    let mut dispatch = engine.dispatch();
    let back = dispatch.withdraw(n, Some(incarnation), engine);
    let gone = |event: &SetAside| event.subscription == n && event.tag.incarnation == incarnation;
    let aside: Vec<_> = dispatch.parked.iter().filter(|event| gone(event)).cloned().collect();
    forget(&mut dispatch, engine, &aside);
    drop(dispatch);
    tracing::info!(app = %engine.name, incarnation, returned = back, parked = aside.len(), "deliveries go to another instance");
    engine.work.notify_one();
    engine.room.notify_waiters();
}

/// Takes events off the list, and the marks off their lanes that nobody else needs.
pub(crate) fn forget(dispatch: &mut Dispatch, engine: &Engine, events: &[SetAside]) {
    let gone: HashSet<(usize, DeliveryTag)> = events.iter().map(|event| (event.subscription, event.tag)).collect();
    let Dispatch { parked, scheduler, .. } = dispatch;
    parked.retain(|event| !gone.contains(&(event.subscription, event.tag)));
    scheduler.unpark(events.iter().flat_map(|event| event.lanes.iter().map(|(lane, _)| *lane)));
    // Others may be set aside on a shared lane; their mark must stay.
    for (lane, mode) in parked.iter().flat_map(|event| &event.lanes) {
        scheduler.mark_parked(*lane, *mode);
    }
    for event in events {
        engine.subscriptions[event.subscription].counters.parked.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Releases a lane, with every other lane that events on it hold: they cannot come back before those do. Answers how
/// many events came back.
pub(crate) async fn release(engine: &Engine, lane: Lane) -> Result<usize> {
    let (_closed, parked) = close(engine).await;
    let together = connected(&parked, |event| event.lanes.iter().any(|(held, _)| *held == lane));
    if together.is_empty() {
        return Err(Error::new(Code::NotParked, format!("lane {lane} is not parked")));
    }
    take_back(engine, &together).await
}

/// Admits no delivery until the guard is dropped, so that what comes back stands before everything that arrives. Answers what
/// is parked durably by now: else it could not be taken back.
pub(crate) async fn close(engine: &Engine) -> (RwLockWriteGuard<'_, ()>, Vec<SetAside>) {
    let closed = engine.admission.write().await;
    let parked = engine.dispatch().parked.clone();
    engine.settle.flushed().await;
    (closed, parked)
}

/// Takes parked events back and admits them in order, while admission is closed. Answers how many came back; after an
/// error, those are back that the broker gave before.
pub(crate) async fn take_back(engine: &Engine, together: &[SetAside]) -> Result<usize> {
    let (mut back, mut failed) = (BTreeMap::new(), None);
    for (n, subscription) in engine.subscriptions.iter().enumerate() {
        let tags: Vec<_> = together.iter().filter(|event| event.subscription == n).map(|event| event.tag).collect();
        if tags.is_empty() {
            continue;
        }
        let unparked = match subscription.settler.unpark(tags).await {
            Err(error) if error.code() == Code::NotParked => unpark_the_rest(engine, n, together).await,
            unparked => unparked,
        };
        match unparked {
            Ok(deliveries) => {
                back.extend(deliveries.into_iter().map(|delivery| ((n, delivery.tag.position), delivery)))
            }
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    let count = back.len();
    readmit(engine, together, back);
    engine.work.notify_one();
    failed.map_or(Ok(count), Err)
}

/// Another instance that knew of them, too, has brought some back or given them up: those are forgotten here.
async fn unpark_the_rest(engine: &Engine, n: usize, together: &[SetAside]) -> Result<Vec<Delivery>> {
    let settler = &engine.subscriptions[n].settler;
    let there: HashSet<DeliveryTag> = settler.parked().await?.into_iter().map(|parked| parked.tag).collect();
    let ours = together.iter().filter(|event| event.subscription == n).cloned();
    let (left, gone): (Vec<_>, Vec<_>) = ours.partition(|event| there.contains(&event.tag));
    forget(&mut engine.dispatch(), engine, &gone);
    match left.is_empty() {
        true => Ok(Vec::new()),
        false => settler.unpark(left.iter().map(|event| event.tag).collect()).await,
    }
}

fn readmit(engine: &Engine, together: &[SetAside], mut back: BTreeMap<(usize, u64), Delivery>) {
    let (mut events, mut refused, mut came) = (Vec::new(), Vec::new(), Vec::new());
    for event in together {
        let Some(delivery) = back.remove(&(event.subscription, event.tag.position)) else { continue };
        came.push(event.clone());
        match prepare(engine, event.subscription, delivery) {
            Ok(prepared) => events.push(prepared),
            Err(settlement) => refused.push((event.subscription, *settlement)),
        }
    }
    let mut dispatch = engine.dispatch();
    // A running event may have parked on a shared lane meanwhile.
    forget(&mut dispatch, engine, &came);
    let mut around = BTreeSet::new();
    for (event, not_before) in events {
        // Of a subscription that was paused, earlier events may be with the broker: it puts them in order.
        if engine.subscriptions[event.subscription].gate.turns() > 0 {
            around.insert(event.subscription);
            engine.settle.push([(event.subscription, Settlement::Return { tag: event.tag })]);
        } else {
            dispatch.admit(event, not_before, engine);
        }
    }
    around.into_iter().for_each(|n| engine.subscriptions[n].gate.blink());
    drop(dispatch);
    given_up(engine, refused);
}

/// Everything set aside that hangs together with some of it, in the order in which it must come back: what conflicts with it,
/// and what conflicts with that. Events that share a lane hold it for others, not for each other.
pub(crate) fn connected(parked: &[SetAside], some: impl Fn(&SetAside) -> bool) -> Vec<SetAside> {
    let (mut together, mut rest): (Vec<_>, Vec<_>) = parked.iter().cloned().partition(some);
    let mut held: HashMap<Lane, Mode> = HashMap::new();
    let mut looked = 0;
    while looked < together.len() {
        for (lane, mode) in together.iter().skip(looked).flat_map(|event| &event.lanes) {
            let mark = held.entry(*lane).or_insert(*mode);
            *mark = if mark.conflicts_with(*mode) { Mode::Exclusive } else { *mode };
        }
        looked = together.len();
        let waits = |(lane, mode): &(Lane, Mode)| held.get(lane).is_some_and(|held| held.conflicts_with(*mode));
        let found = rest.extract_if(.., |event| event.lanes.iter().any(waits));
        together.extend(found);
    }
    put_in_order(&mut together);
    together
}

/// Within a subscription in the order of its topic, between subscriptions in the order of arrival. An earlier event can be set
/// aside after a later one: it was still running then, or with the broker, because the subscription was paused or the
/// process started anew.
pub(crate) fn put_in_order(events: &mut [SetAside]) {
    events.sort_by_key(|event| (event.subscription, Reverse(event.tag.position)));
    let (mut n, mut first) = (usize::MAX, u64::MAX);
    for event in events.iter_mut() {
        first = if event.subscription == n { first.min(event.arrival) } else { event.arrival };
        (n, event.arrival) = (event.subscription, first);
    }
    events.sort_by_key(|event| (event.arrival, event.tag.position));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_back_is_in_the_order_of_its_topic_and_else_of_arrival() {
        let event = |(subscription, position, arrival)| SetAside {
            subscription,
            tag: DeliveryTag { position, incarnation: 0 },
            lanes: Vec::new(),
            arrival,
            attempts: 0,
            reason: None,
            published: None,
        };
        let mut events: Vec<_> = [(0, 7, 2), (1, 9, 3), (0, 8, 5), (0, 3, 6), (1, 1, 1)].map(event).into();
        put_in_order(&mut events);
        let order: Vec<_> = events.iter().map(|event| (event.subscription, event.tag.position)).collect();
        assert_eq!(order, [(1, 1), (0, 3), (0, 7), (1, 9), (0, 8)]);
    }
}
