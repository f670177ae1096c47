//! What the cases are made of: events, subscriptions, and waits that fail instead of hanging.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use commute_core::{
    Delivery, DeliveryTag, Envelope, EventId, Outgoing, Receipt, Settlement, SharedBroker, Subscription,
    SubscriptionSpec, Timestamp, Topic, extension,
};

/// Longer than any broker takes for anything; a case that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough to see something that should not come, on a broker whose time is real.
const SILENCE: Duration = Duration::from_millis(50);

pub(crate) fn topic(name: &str) -> Topic {
    Topic::new(name).expect("a valid name")
}

/// An event whose payload and id say its number.
pub(crate) fn event(topic_name: &str, n: u64) -> Outgoing {
    let mut envelope = Envelope::new("suite", "suite.event", Timestamp(1), Bytes::from(n.to_string()));
    envelope.id = EventId::new(format!("{topic_name}-{n}")).expect("a valid id");
    Outgoing { topic: topic(topic_name), envelope, not_before: None }
}

/// An event with a key.
pub(crate) fn keyed(topic_name: &str, key: &str, n: u64) -> Outgoing {
    let mut event = event(topic_name, n);
    event.envelope.extensions.set(extension::PARTITION_KEY, key).expect("a valid name");
    event
}

/// The number that an event's payload says.
pub(crate) fn number(envelope: &Envelope) -> u64 {
    std::str::from_utf8(&envelope.data).ok().and_then(|text| text.parse().ok()).expect("a number")
}

pub(crate) fn numbers(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(|delivery| number(&delivery.envelope)).collect()
}

/// Waits, and fails the case when it takes too long.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} in vain for {what}"),
    }
}

pub(crate) async fn publish(broker: &SharedBroker, batch: impl IntoIterator<Item = Outgoing>) -> Vec<Receipt> {
    soon("a receipt", broker.publish(batch.into_iter().collect())).await.expect("published")
}

pub(crate) async fn subscribe(broker: &SharedBroker, topic_name: &str, group: &str) -> Subscription {
    with_credit(broker, topic_name, group, 1000).await
}

pub(crate) async fn with_credit(broker: &SharedBroker, topic_name: &str, group: &str, credit: usize) -> Subscription {
    let spec =
        SubscriptionSpec { topic: topic(topic_name), group: group.into(), credit, lease: Duration::from_secs(60) };
    soon("a subscription", broker.subscribe(spec)).await.expect("subscribed")
}

/// Receives exactly `count` deliveries.
pub(crate) async fn receive(subscription: &mut Subscription, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let what = format!("delivery {} of {count}", taken.len() + 1);
        let more = soon(&what, subscription.receiver.receive(count - taken.len())).await.expect("received");
        assert!(!more.is_empty(), "the subscription was closed");
        taken.extend(more);
    }
    taken
}

/// Nothing more is delivered.
pub(crate) async fn silence(subscription: &mut Subscription) {
    let more = tokio::time::timeout(SILENCE, subscription.receiver.receive(10)).await;
    if let Ok(more) = more {
        let more = more.expect("received");
        assert!(more.is_empty(), "an unexpected delivery of {:?}", numbers(&more));
    }
}

pub(crate) async fn settle(subscription: &Subscription, settlements: impl IntoIterator<Item = Settlement>) {
    let settled = subscription.settler.settle(settlements.into_iter().collect());
    soon("a settlement", settled).await.expect("settled");
}

pub(crate) fn ack(delivery: &Delivery) -> Settlement {
    Settlement::Ack { tag: delivery.tag, publish: Vec::new(), mark: false }
}

pub(crate) fn tags(deliveries: &[Delivery]) -> Vec<DeliveryTag> {
    deliveries.iter().map(|delivery| delivery.tag).collect()
}

pub(crate) async fn ack_all(subscription: &Subscription, deliveries: &[Delivery]) {
    settle(subscription, deliveries.iter().map(ack)).await;
}
