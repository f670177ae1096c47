//! What was parked, taken back and given back.

use std::collections::BTreeMap;

use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::*;

fn park(delivery: &Delivery) -> Vec<Settlement> {
    vec![Settlement::Park { tag: delivery.tag, attempts: 1, lanes: Vec::new(), reason: None }]
}

/// What compaction leaves of the topic beside the source, up to a key: the keys, and whether each has a value.
fn compacted(topic: &Topic, until: &str) -> BTreeMap<String, bool> {
    let server = server();
    let reader: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", server.strip_prefix("kafka://").expect("a kafka: URL"))
        .set("group.id", "nobody")
        .create()
        .expect("a client");
    let mut places = TopicPartitionList::new();
    let place = places.add_partition_offset(&format!("group.{topic}.aside"), 0, Offset::Beginning);
    place.expect("a place");
    reader.assign(&places).expect("it is free");
    let mut left = BTreeMap::new();
    while !left.contains_key(until) {
        let record = reader.poll(patience(PATIENCE)).expect("the key comes").expect("the server answers");
        let key = std::str::from_utf8(record.key().expect("a key")).expect("text");
        left.insert(key.to_owned(), record.payload().is_some_and(|value| !value.is_empty()));
    }
    left
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_back_and_given_back_stays_taken_back_until_it_is_settled() {
    let (broker, topic) = (connect("partitions=1").await, topic("returning"));
    broker.publish((0..3).map(|n| event(&topic, 0, n)).collect()).await.expect("publishing works");
    let spec = || SubscriptionSpec::new(topic.clone(), "group");
    let mut subscription = open(&broker, spec()).await;
    let taken = take(&mut subscription, 3).await;
    settle(&subscription.settler, park(&taken[0])).await;
    let back = within("taking back", subscription.settler.unpark(vec![taken[0].tag])).await.expect("it is parked");
    settle(&subscription.settler, vec![Settlement::Return { tag: back[0].tag }]).await;
    settle(&subscription.settler, park(&taken[1])).await;
    let notes = |left: BTreeMap<String, bool>| -> Vec<bool> {
        left.into_iter().filter(|(key, _)| key.starts_with("0/back/")).map(|(_, has_value)| has_value).collect()
    };
    assert_eq!(notes(compacted(&topic, "0/event/1")), [true], "the note is still there");
    drop(subscription);
    let mut subscription = open(&broker, spec()).await;
    assert_eq!(subscription.settler.parked().await.expect("listing works").len(), 1);
    let again = take(&mut subscription, 2).await;
    assert_eq!(again.iter().map(number).collect::<Vec<_>>(), [0, 2]);
    // Settled, it is over, and so is the note.
    settle(&subscription.settler, acks(&again[..1])).await;
    settle(&subscription.settler, park(&again[1])).await;
    let left = compacted(&topic, "0/event/2");
    assert_eq!((left["0/event/0"], notes(left)), (false, vec![false]));
}
