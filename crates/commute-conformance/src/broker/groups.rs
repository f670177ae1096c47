//! Several receivers of one group.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use commute_core::{Delivery, GroupOrder, Subscription};

use crate::Harness;
use crate::kit::{ack_all, event, keyed, number, numbers, publish, receive, silence, subscribe, with_credit};

/// Takes what comes at once, if anything does.
async fn take(subscription: &mut Subscription, max: usize) -> Vec<Delivery> {
    let taken = tokio::time::timeout(Duration::from_millis(20), subscription.receiver.receive(max)).await;
    taken.map_or_else(|_| Vec::new(), |taken| taken.expect("received"))
}

/// Every event goes to one of them.
pub async fn two_receivers_share_the_work(harness: &impl Harness) {
    let broker = harness.connect().await;
    let (mut one, mut two) = (with_credit(&broker, "a", "g", 30).await, with_credit(&broker, "a", "g", 30).await);
    publish(&broker, (0..60).map(|n| event("a", n))).await;
    let (mine, yours) = (receive(&mut one, 30).await, receive(&mut two, 30).await);
    let all: BTreeSet<_> = numbers(&mine).into_iter().chain(numbers(&yours)).collect();
    assert_eq!(all.len(), 60, "no event goes to both");
    silence(&mut one).await;
    silence(&mut two).await;
}

/// While any of a key is unsettled, the others of it go to the same receiver.
pub async fn events_of_a_key_keep_their_order_over_two_receivers(harness: &impl Harness) {
    let broker = harness.connect().await;
    if broker.capabilities().group_order == GroupOrder::None {
        return;
    }
    let (mut one, mut two) = (with_credit(&broker, "a", "g", 16).await, with_credit(&broker, "a", "g", 16).await);
    publish(&broker, (0..200).map(|n| keyed("a", &format!("key-{}", n % 7), n))).await;
    let mut last = BTreeMap::<u64, u64>::new();
    let mut held: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
    let (mut count, mut waiting): (usize, [Vec<Delivery>; 2]) = (0, Default::default());
    for round in 0..2000 {
        if count == 200 {
            break;
        }
        for (n, subscription) in [&mut one, &mut two].into_iter().enumerate() {
            for delivery in take(subscription, 1 + round % 5).await {
                let event = number(&delivery.envelope);
                let (holder, unsettled) = held.entry(event % 7).or_insert((n, 0));
                assert!(*holder == n || *unsettled == 0, "key {} is with two receivers", event % 7);
                (*holder, *unsettled) = (n, *unsettled + 1);
                assert!(
                    last.insert(event % 7, event).is_none_or(|before| before < event),
                    "order of key {}",
                    event % 7
                );
                waiting[n].push(delivery);
                count += 1;
            }
            // Some are settled late.
            if round % 3 == n {
                for delivery in &waiting[n] {
                    if let Some((_, unsettled)) = held.get_mut(&(number(&delivery.envelope) % 7)) {
                        *unsettled -= 1;
                    }
                }
                ack_all(subscription, &std::mem::take(&mut waiting[n])).await;
            }
        }
    }
    assert_eq!(count, 200);
}

/// Its process may have died.
pub async fn what_a_gone_receiver_held_goes_to_the_other(harness: &impl Harness) {
    let broker = harness.connect().await;
    let mut one = subscribe(&broker, "a", "g").await;
    publish(&broker, (0..10).map(|n| keyed("a", "k", n))).await;
    let taken = receive(&mut one, 10).await;
    ack_all(&one, &taken[..3]).await;
    let mut two = subscribe(&broker, "a", "g").await;
    silence(&mut two).await;
    drop(one);
    assert_eq!(numbers(&receive(&mut two, 7).await), (3..10).collect::<Vec<_>>());
}
