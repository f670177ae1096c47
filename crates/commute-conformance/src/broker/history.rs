//! Random histories of one subscription against an obvious model: a list of what must still come, in order.

use std::collections::{BTreeMap, BTreeSet};

use commute_core::{Delivery, Lane, Mode, Settlement, SharedBroker, Subscription, Timestamp};
use fastrand::Rng;

use crate::Harness;
use crate::kit::{ack, event, number, publish, receive, settle, silence, subscribe};

/// What the model knows.
#[derive(Default)]
struct Model {
    next: u64,
    /// To come, with the attempt that it will be.
    to_come: BTreeMap<u64, u32>,
    held: BTreeMap<u64, (Delivery, u32)>,
    parked: Vec<u64>,
    done: BTreeSet<u64>,
}

impl Model {
    /// A crash forgets who holds what.
    fn crash(&mut self) {
        for (number, (_, attempt)) in std::mem::take(&mut self.held) {
            self.to_come.insert(number, attempt);
        }
    }
}

/// Publish, receive, acknowledge, defer, return, park, unpark, crash, close: in any order.
pub async fn random_histories_lose_and_reorder_nothing(harness: &impl Harness) {
    for seed in 0..8 {
        history(harness, seed).await;
    }
}

async fn history(harness: &impl Harness, seed: u64) {
    let name = format!("history-{seed}");
    let mut rng = Rng::with_seed(seed);
    let mut model = Model::default();
    let mut broker = harness.connect().await;
    let parks = broker.capabilities().durable_parking;
    let mut subscription = subscribe(&broker, &name, "g").await;
    for step in 0..400 {
        match rng.u8(0..100) {
            0..30 => {
                let count = rng.u64(1..6);
                publish(&broker, (model.next..model.next + count).map(|n| event(&name, n))).await;
                model.to_come.extend((model.next..model.next + count).map(|n| (n, 1)));
                model.next += count;
            }
            30..60 => take(&mut model, &mut subscription, rng.usize(1..6), seed, step).await,
            60..90 => end_one(&mut model, &subscription, &mut rng, parks).await,
            90..95 if parks => unpark(&mut model, &subscription).await,
            _ => {
                (broker, subscription) = again(harness, broker, subscription, &name, rng.bool()).await;
                model.crash();
                let parked = subscription.settler.parked().await.expect("parked");
                let numbers: Vec<u64> = parked.iter().map(|parked| parked.lanes[0].0.0).collect();
                assert_eq!(numbers, model.parked, "seed {seed}, step {step}: parked after a restart");
            }
        }
    }
    let rest = model.to_come.len();
    take(&mut model, &mut subscription, rest, seed, 400).await;
    silence(&mut subscription).await;
    let known = model.done.len() + model.held.len() + model.parked.len();
    assert_eq!(known as u64, model.next, "seed {seed}: something is lost");
}

async fn take(model: &mut Model, subscription: &mut Subscription, max: usize, seed: u64, step: usize) {
    let count = max.min(model.to_come.len());
    for delivery in receive(subscription, count).await {
        let found = (number(&delivery.envelope), delivery.attempt);
        let expected = model.to_come.pop_first();
        assert_eq!(Some(found), expected, "seed {seed}, step {step}: number and attempt");
        model.held.insert(found.0, (delivery, found.1));
    }
}

async fn end_one(model: &mut Model, subscription: &Subscription, rng: &mut Rng, parks: bool) {
    let numbers: Vec<u64> = model.held.keys().copied().collect();
    let Some(number) = rng.choice(numbers) else { return };
    let Some((delivery, attempt)) = model.held.get(&number).cloned() else { return };
    let tag = delivery.tag;
    match rng.u8(0..10) {
        0..5 => {
            settle(subscription, [ack(&delivery)]).await;
            model.held.remove(&number);
            model.done.insert(number);
        }
        5..7 => {
            settle(subscription, [Settlement::Defer { tag, attempts: attempt, not_before: Timestamp(0) }]).await;
            model.held.insert(number, (delivery, attempt + 1));
        }
        7..9 => {
            settle(subscription, [Settlement::Return { tag }]).await;
            model.held.remove(&number);
            model.to_come.insert(number, attempt);
        }
        _ if parks => {
            let lanes = vec![(Lane(number), Mode::Exclusive)];
            settle(subscription, [Settlement::Park { tag, attempts: attempt, lanes, reason: None }]).await;
            model.held.remove(&number);
            model.parked.push(number);
        }
        _ => {}
    }
}

async fn unpark(model: &mut Model, subscription: &Subscription) {
    let parked = subscription.settler.parked().await.expect("parked");
    let lanes: Vec<u64> = parked.iter().map(|parked| parked.lanes[0].0.0).collect();
    assert_eq!(lanes, model.parked);
    let Some(first) = parked.first() else { return };
    let back = subscription.settler.unpark(vec![first.tag]).await.expect("unparked");
    let number = model.parked.remove(0);
    assert_eq!(number, crate::kit::number(&back[0].envelope));
    model.held.insert(number, (back[0].clone(), 1));
}

async fn again(
    harness: &impl Harness,
    broker: SharedBroker,
    subscription: Subscription,
    name: &str,
    clean: bool,
) -> (SharedBroker, Subscription) {
    drop(subscription);
    if clean {
        broker.close().await.expect("closed");
        drop(broker);
    } else {
        harness.crash(broker).await;
    }
    let broker = harness.connect().await;
    let subscription = subscribe(&broker, name, "g").await;
    (broker, subscription)
}
