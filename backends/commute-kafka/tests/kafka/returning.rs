//! What was parked, taken back and given back.

use std::collections::BTreeMap;

use rdkafka::Message;

use super::*;

/// What compaction leaves of the topic beside the source, up to a key that begins so: the keys, and whether each has a value.
fn compacted(topic: &Topic, until: &str) -> BTreeMap<String, bool> {
    let mut left = BTreeMap::new();
    read_aside(topic, |key, record| {
        left.insert(key.to_owned(), record.payload().is_some_and(|value| !value.is_empty()));
        key.starts_with(until)
    });
    left
}

/// Whether each of the keys that begin so has a value.
fn values(left: &BTreeMap<String, bool>, prefix: &str) -> Vec<bool> {
    left.iter().filter(|(key, _)| key.starts_with(prefix)).map(|(_, has_value)| *has_value).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_back_and_given_back_stays_taken_back_until_it_is_settled() {
    let (broker, topic) = (connect("partitions=1").await, topic("returning"));
    broker.publish((0..3).map(|n| event(&topic, 0, n)).collect()).await.expect("publishing works");
    let spec = || SubscriptionSpec::new(topic.clone(), "group");
    let mut subscription = open(&broker, spec()).await;
    let taken = take(&mut subscription, 3).await;
    settle(&subscription.settler, park(&taken[0..=0])).await;
    let back = within("taking back", subscription.settler.unpark(vec![taken[0].tag])).await.expect("it is parked");
    settle(&subscription.settler, vec![Settlement::Return { tag: back[0].tag }]).await;
    settle(&subscription.settler, park(&taken[1..=1])).await;
    assert_eq!(values(&compacted(&topic, "0/event/1/"), "0/back/"), [true], "the note is still there");
    drop(subscription);
    let mut subscription = open(&broker, spec()).await;
    assert_eq!(subscription.settler.parked().await.expect("listing works").len(), 1);
    let again = take(&mut subscription, 2).await;
    assert_eq!(again.iter().map(number).collect::<Vec<_>>(), [0, 2]);
    // Settled, it is over, and so is the note.
    settle(&subscription.settler, acks(&again[..1])).await;
    settle(&subscription.settler, park(&again[1..=1])).await;
    let left = compacted(&topic, "0/event/2/");
    assert_eq!((values(&left, "0/event/0/"), values(&left, "0/back/")), (vec![false], vec![false]));
}
