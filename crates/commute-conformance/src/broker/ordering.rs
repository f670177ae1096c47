//! In which order events come, and how many at once.

use std::time::Duration;

use futures::poll_once;

use crate::Harness;
use crate::kit::{ack_all, event, numbers, publish, receive, silence, soon, subscribe, with_credit};

mod futures {
    //! Polling by hand, to be sure of the order of first polls.
    use std::future::Future;
    use std::pin::Pin;
    use std::task::Poll;

    pub(super) async fn poll_once<F: Future + ?Sized>(mut future: Pin<&mut F>) -> Option<F::Output> {
        std::future::poll_fn(move |cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }
}

/// Over batches of any size.
pub async fn one_receiver_gets_the_order_of_the_topic(harness: &impl Harness) {
    let broker = harness.connect().await;
    let mut subscription = subscribe(&broker, "a", "g").await;
    let mut next = 0;
    for size in [1, 7, 64, 200, 3] {
        publish(&broker, (next..next + size).map(|n| event("a", n))).await;
        next += size;
    }
    let taken = receive(&mut subscription, 275).await;
    assert_eq!(numbers(&taken), (0..275).collect::<Vec<_>>());
}

/// Not in the order in which the futures are finished.
pub async fn effects_come_in_the_order_of_first_polls(harness: &impl Harness) {
    let broker = harness.connect().await;
    let mut publishing: Vec<_> = (0..20).map(|n| broker.publish(vec![event("a", n)])).collect();
    let mut ready = Vec::new();
    for future in &mut publishing {
        ready.push(poll_once(future.as_mut()).await.is_some());
    }
    // Finished backwards.
    for (future, ready) in publishing.into_iter().zip(ready).rev() {
        if !ready {
            soon("a receipt", future).await.expect("published");
        }
    }
    let taken = receive(&mut subscribe(&broker, "a", "g").await, 20).await;
    assert_eq!(numbers(&taken), (0..20).collect::<Vec<_>>());
}

/// Each publisher waits for its receipts.
pub async fn concurrent_publishers_keep_their_own_order(harness: &impl Harness) {
    let broker = harness.connect().await;
    let publishers: Vec<_> = (0..8_u64)
        .map(|publisher| {
            let broker = broker.clone();
            tokio::spawn(async move {
                for n in 0..50 {
                    publish(&broker, [event("a", publisher * 1000 + n)]).await;
                }
            })
        })
        .collect();
    for publisher in publishers {
        publisher.await.expect("published");
    }
    let taken = numbers(&receive(&mut subscribe(&broker, "a", "g").await, 400).await);
    for publisher in 0..8 {
        let own: Vec<_> = taken.iter().filter(|n| **n / 1000 == publisher).map(|n| n % 1000).collect();
        assert_eq!(own, (0..50).collect::<Vec<_>>(), "publisher {publisher}");
    }
}

/// Unsettled deliveries count until they are settled.
pub async fn never_more_than_asked_for_and_never_more_than_the_credit(harness: &impl Harness) {
    let broker = harness.connect().await;
    publish(&broker, (0..10).map(|n| event("a", n))).await;
    let mut subscription = with_credit(&broker, "a", "g", 4).await;
    let first = soon("deliveries", subscription.receiver.receive(3)).await.expect("received");
    assert!((1..=3).contains(&first.len()));
    let rest = receive(&mut subscription, 4 - first.len()).await;
    silence(&mut subscription).await;
    ack_all(&subscription, &rest[..1]).await;
    assert_eq!(receive(&mut subscription, 1).await.len(), 1);
    silence(&mut subscription).await;
}

/// Whenever the future is dropped.
pub async fn a_dropped_receive_takes_nothing_with_it(harness: &impl Harness) {
    let broker = harness.connect().await;
    let mut subscription = subscribe(&broker, "a", "g").await;
    for _ in 0..20 {
        let waiting = subscription.receiver.receive(10);
        assert!(tokio::time::timeout(Duration::from_micros(200), waiting).await.is_err());
    }
    publish(&broker, (0..100).map(|n| event("a", n))).await;
    let mut taken = Vec::new();
    while taken.len() < 100 {
        let mut receiving = subscription.receiver.receive(7);
        // Polled once and dropped, unless it has something.
        if let Some(more) = poll_once(receiving.as_mut()).await {
            taken.extend(more.expect("received"));
            continue;
        }
        drop(receiving);
        tokio::task::yield_now().await;
    }
    assert_eq!(numbers(&taken), (0..100).collect::<Vec<_>>());
}
