//! Opening and closing.

use commute_core::Code;

use crate::Harness;
use crate::kit::{event, numbers, publish, receive, soon, subscribe};

/// With an error that says so.
pub async fn a_closed_broker_takes_no_more(harness: &impl Harness) {
    let broker = harness.connect().await;
    publish(&broker, [event("a", 1)]).await;
    broker.close().await.expect("closed");
    let refused = soon("a refusal", broker.publish(vec![event("a", 2)])).await;
    assert_eq!(refused.expect_err("closed").code(), Code::Closed);
}

/// Whoever closes does not have to know whether somebody did.
pub async fn closing_twice_is_closing_once(harness: &impl Harness) {
    let broker = harness.connect().await;
    broker.close().await.expect("closed");
    broker.close().await.expect("closed again");
}

/// Everything is there afterwards.
pub async fn a_backlog_survives_closing(harness: &impl Harness) {
    let broker = harness.connect().await;
    for start in 0..20 {
        publish(&broker, (start * 500..(start + 1) * 500).map(|n| event("a", n))).await;
    }
    broker.close().await.expect("closed");
    drop(broker);
    let broker = harness.connect().await;
    let mut subscription = crate::kit::with_credit(&broker, "a", "g", 20_000).await;
    assert!(subscription.settler.backlog().is_none_or(|backlog| backlog == 10_000));
    assert_eq!(numbers(&receive(&mut subscription, 10_000).await), (0..10_000).collect::<Vec<_>>());
    assert!(subscription.settler.backlog().is_none_or(|backlog| backlog == 0));
}

/// It gets nothing, which is not an error.
pub async fn a_receiver_learns_that_the_broker_was_closed(harness: &impl Harness) {
    let broker = harness.connect().await;
    let mut subscription = subscribe(&broker, "a", "g").await;
    let closing = tokio::spawn(async move { broker.close().await });
    let last = soon("the end", subscription.receiver.receive(10)).await.expect("no error");
    assert!(last.is_empty());
    closing.await.expect("joined").expect("closed");
}
