//! Ordering: events arrive in the order of their topic, and calls take effect in the order of their first poll.

use std::pin::Pin;

use crate::trial::{Trial, event, keyed, numbers, park, poll_once, to};

pub(super) async fn one_receiver_gets_the_topic_in_order(trial: Trial) {
    let topic = trial.topic("order");
    let mut random = trial.random();
    let mut published = 0;
    while published < 500 {
        let batch = random.u64(1..=20);
        trial.publish_numbers(&topic, published..published + batch).await;
        published += batch;
    }
    let mut reader = trial.open(&topic, "group").await;
    let mut taken = Vec::new();
    while (taken.len() as u64) < published {
        let deliveries = reader.receive(random.usize(1..=50)).await;
        // Settling some on the way changes nothing for the others.
        reader.ack(&deliveries[..random.usize(..=deliveries.len())]).await;
        taken.extend(numbers(&deliveries));
    }
    assert_eq!(taken, (0..published).collect::<Vec<_>>());
}

pub(super) async fn what_came_before_the_first_group_comes_first_however_slowly_it_is_taken(trial: Trial) {
    let topic = trial.topic("before");
    trial.publish_numbers(&topic, 0..20).await;
    let mut reader = trial.open_with_credit(&topic, "group", 4).await;
    let mut held = reader.take(4).await;
    trial.publish_numbers(&topic, 20..30).await;
    // Long enough for a broker to take the silence for the end of what was there.
    trial.pass(trial.while_()).await;
    assert!(reader.quietly(10).await.is_empty(), "there is no credit left");
    let mut seen = numbers(&held);
    while seen.len() < 30 {
        reader.ack(&held).await;
        held = reader.receive(10).await;
        seen.extend(numbers(&held));
    }
    assert_eq!(seen, (0..30).collect::<Vec<_>>());
}

pub(super) async fn concurrent_publishers_each_keep_their_order(trial: Trial) {
    const PUBLISHERS: u64 = 16;
    const EVENTS: u64 = 500;
    let topic = trial.topic("publishers");
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            let (broker, topic) = (trial.broker().clone(), topic.clone());
            tokio::spawn(async move {
                for n in 0..EVENTS {
                    let envelope = keyed(&publisher.to_string(), publisher * EVENTS + n);
                    broker.publish(vec![to(&topic, envelope)]).await.expect("publishing works");
                }
            })
        })
        .collect();
    let mut reader = trial.open(&topic, "group").await;
    let mut next = vec![0; PUBLISHERS as usize];
    for _ in 0..PUBLISHERS * EVENTS {
        // One at a time would be slow, several at a time are counted one by one.
        if next.iter().sum::<u64>() == PUBLISHERS * EVENTS {
            break;
        }
        let deliveries = reader.receive(200).await;
        for number in numbers(&deliveries) {
            let (publisher, n) = ((number / EVENTS) as usize, number % EVENTS);
            assert_eq!(n, next[publisher], "the next event of publisher {publisher}");
            next[publisher] += 1;
        }
        reader.ack(&deliveries).await;
    }
    assert_eq!(next, vec![EVENTS; PUBLISHERS as usize], "every event of every publisher");
    for publisher in publishers {
        trial.within("a publisher", publisher).await.expect("it ends");
    }
}

pub(super) async fn every_group_sees_the_same_order(trial: Trial) {
    let topic = trial.topic("same");
    trial.groups(&topic, &["first", "second"]).await;
    let publishers: Vec<_> = (0..4)
        .map(|publisher| {
            let (broker, topic) = (trial.broker().clone(), topic.clone());
            tokio::spawn(async move {
                for n in 0..50 {
                    let publish = broker.publish(vec![to(&topic, event(publisher * 50 + n))]);
                    publish.await.expect("publishing works");
                }
            })
        })
        .collect();
    let (mut first, mut second) = (trial.open(&topic, "first").await, trial.open(&topic, "second").await);
    let taken = numbers(&first.take(200).await);
    assert_eq!(numbers(&second.take(200).await), taken);
    for publisher in publishers {
        trial.within("a publisher", publisher).await.expect("it ends");
    }
}

/// Polls futures once, in the order of `order`; answers what was ready at once.
async fn poll_in_order<F: Future + ?Sized>(futures: &mut [Pin<Box<F>>], order: &[usize]) -> Vec<Option<F::Output>> {
    let mut ready: Vec<_> = futures.iter().map(|_| None).collect();
    for n in order {
        ready[*n] = poll_once(&mut futures[*n]).await;
    }
    ready
}

fn shuffled(random: &mut fastrand::Rng, count: usize) -> Vec<usize> {
    let mut order: Vec<_> = (0..count).collect();
    random.shuffle(&mut order);
    order
}

pub(super) async fn publishes_take_effect_in_the_order_of_their_first_poll(trial: Trial) {
    let topic = trial.topic("poll");
    let order = shuffled(&mut trial.random(), 20);
    let broker = trial.broker().clone();
    let mut futures: Vec<_> = (0..20).map(|n| broker.publish(vec![to(&topic, event(n))])).collect();
    let ready = poll_in_order(&mut futures, &order).await;
    // They are waited for in yet another order.
    for (future, ready) in futures.into_iter().zip(ready) {
        if ready.is_none() {
            trial.within("a receipt", future).await.expect("publishing works");
        }
    }
    let mut reader = trial.open(&topic, "group").await;
    let expected: Vec<_> = order.iter().map(|n| *n as u64).collect();
    trial.expect_rest(&topic, &mut reader, &expected).await;
}

pub(super) async fn publishes_take_effect_in_the_order_of_their_first_poll_even_when_one_is_dropped(trial: Trial) {
    let topic = trial.topic("poll");
    let broker = trial.broker().clone();
    let mut futures: Vec<_> = (0..3).map(|n| broker.publish(vec![to(&topic, event(n))])).collect();
    poll_in_order(&mut futures, &[0, 1, 2]).await;
    drop(futures);
    trial.publish_numbers(&topic, [3]).await;
    let mut reader = trial.open(&topic, "group").await;
    let rest = numbers(&trial.rest(&topic, &mut reader).await);
    assert!(rest.is_sorted(), "{rest:?} are in order");
    assert_eq!(rest.last(), Some(&3), "what was not dropped is there, behind what was");
}

pub(super) async fn settlements_take_effect_in_the_order_of_their_first_poll(trial: Trial) {
    let topic = trial.topic("poll");
    let order = shuffled(&mut trial.random(), 20);
    trial.publish_numbers(&topic, 0..20).await;
    let mut reader = trial.open(&topic, "group").await;
    let taken = reader.take(20).await;
    let settler = reader.settler.clone();
    let mut futures: Vec<_> = taken.iter().map(|delivery| settler.settle(vec![park(delivery.tag)])).collect();
    let ready = poll_in_order(&mut futures, &order).await;
    for (future, ready) in futures.into_iter().zip(ready) {
        if ready.is_none() {
            trial.within("settling", future).await.expect("settling works");
        }
    }
    let parked = trial.within("what is parked", settler.parked()).await.expect("listing works");
    let parked: Vec<_> = parked.iter().map(|parked| parked.tag.position).collect();
    let expected: Vec<_> = order.iter().map(|n| taken[*n].tag.position).collect();
    assert_eq!(parked, expected, "positions in the order of parking");
}
