//! The gate: deliveries wait here until it is their turn, in an order that the seed decides.

use std::collections::HashMap;
use std::sync::Mutex;

use commute_core::Delivery;
use tokio::sync::Notify;

use crate::lock::lock;

/// As many as may be let through at once, so that some of them meet in the app.
const TOGETHER: usize = 8;

/// Where the deliveries of one subscription wait.
#[derive(Default)]
pub(super) struct Gate {
    queues: Mutex<Queues>,
    pub(super) opened: Notify,
}

#[derive(Default)]
struct Queues {
    waiting: Vec<Delivery>,
    through: Vec<Delivery>,
}

impl Gate {
    pub(super) fn wait(&self, deliveries: Vec<Delivery>) {
        lock(&self.queues).waiting.extend(deliveries);
    }

    pub(super) fn waiting(&self) -> usize {
        lock(&self.queues).waiting.len()
    }

    /// Whether something was let through and is not taken yet.
    pub(super) fn is_open(&self) -> bool {
        !lock(&self.queues).through.is_empty()
    }

    /// Takes what was let through.
    pub(super) fn take(&self, max: usize) -> Vec<Delivery> {
        let through = &mut lock(&self.queues).through;
        let count = max.min(through.len());
        through.drain(..count).collect()
    }

    /// Lets some of what waits through, in an order that the broker may choose.
    pub(super) fn open(&self, chance: &mut fastrand::Rng) {
        let mut queues = lock(&self.queues);
        let mut waiting = std::mem::take(&mut queues.waiting);
        shuffle(&mut waiting, chance);
        let count = chance.usize(1..=TOGETHER).min(waiting.len());
        queues.through.extend(waiting.drain(..count));
        queues.waiting = waiting;
        drop(queues);
        self.opened.notify_one();
    }
}

/// Any order that keeps the order within each partition key.
fn shuffle(deliveries: &mut Vec<Delivery>, chance: &mut fastrand::Rng) {
    let mut before: Vec<_> = std::mem::take(deliveries);
    // What was shuffled before is put back in the broker's order first.
    before.sort_by_key(|delivery| delivery.tag);
    let key = |delivery: &Delivery| delivery.envelope.partition_key().map(str::to_owned);
    let mut places: Vec<usize> = (0..before.len()).collect();
    chance.shuffle(&mut places);
    // Each key keeps the places that chance gave it, and fills them in order.
    let mut of_key: HashMap<String, Vec<usize>> = HashMap::new();
    for (n, delivery) in before.iter().enumerate() {
        if let (Some(key), Some(place)) = (key(delivery), places.get(n)) {
            of_key.entry(key).or_default().push(*place);
        }
    }
    for places in of_key.values_mut() {
        places.sort_unstable_by(|a, b| b.cmp(a));
    }
    let mut placed: Vec<(usize, Delivery)> = Vec::with_capacity(before.len());
    for (delivery, place) in before.into_iter().zip(places) {
        let own = key(&delivery).and_then(|key| of_key.get_mut(&key)?.pop());
        placed.push((own.unwrap_or(place), delivery));
    }
    placed.sort_by_key(|(place, _)| *place);
    deliveries.extend(placed.into_iter().map(|(_, delivery)| delivery));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use commute_core::{DeliveryTag, Envelope, Timestamp, extension};

    use super::*;

    fn delivery(position: u64, key: &str) -> Delivery {
        let mut envelope = Envelope::new("s", "t", Timestamp(0), Default::default());
        envelope.extensions.set(extension::PARTITION_KEY, Arc::<str>::from(key)).unwrap();
        Delivery {
            envelope: envelope.into(),
            tag: DeliveryTag { position, incarnation: 1 },
            attempt: 1,
            not_before: None,
            published: Timestamp(0),
            malformed: None,
        }
    }

    fn shuffled(seed: u64) -> Vec<u64> {
        let mut deliveries: Vec<_> = (0..30).map(|n| delivery(n, ["a", "b", "c"][n as usize % 3])).collect();
        shuffle(&mut deliveries, &mut fastrand::Rng::with_seed(seed));
        deliveries.iter().map(|delivery| delivery.tag.position).collect()
    }

    #[test]
    fn keys_are_mixed_and_each_keeps_its_order() {
        for seed in 0..50 {
            let order = shuffled(seed);
            assert_ne!(order, (0..30).collect::<Vec<_>>());
            for key in 0..3 {
                let of_key: Vec<_> = order.iter().copied().filter(|n| n % 3 == key).collect();
                assert_eq!(of_key, (0..10).map(|n| n * 3 + key).collect::<Vec<_>>(), "seed {seed}");
            }
        }
        assert_eq!(shuffled(7), shuffled(7));
        assert_ne!(shuffled(7), shuffled(8));
    }
}
