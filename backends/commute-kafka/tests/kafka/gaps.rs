//! Offsets that the log skips: they are no events, and nobody settles them.

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::*;

/// Publishes events, each in a transaction of its own: a mark of the log stands behind every one.
fn produce_with_marks(topic: &Topic, count: u64) {
    let server = server();
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", server.strip_prefix("kafka://").expect("a kafka: URL"))
        .set("transactional.id", topic.as_str())
        .create()
        .expect("a producer");
    producer.init_transactions(PATIENCE).expect("the server answers");
    for number in 0..count {
        producer.begin_transaction().expect("the last one is over");
        let value = number.to_string();
        let record: BaseRecord<'_, str, str> = BaseRecord::to(topic.as_str()).payload(value.as_str()).key("key");
        producer.send(record).map_err(|(cause, _)| cause).expect("there is room");
        producer.commit_transaction(PATIENCE).expect("the server answers");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_skips_is_committed_although_nobody_settles_anything() {
    let (broker, topic) = (connect("partitions=1").await, topic("gaps"));
    broker.publish(vec![event(&topic, 0, 0)]).await.expect("publishing creates the topic");
    produce_with_marks(&topic, 2);
    let subscription = open(&broker, SubscriptionSpec::new(topic.clone(), "group")).await;
    let asked = topic.clone();
    let asking = tokio::task::spawn_blocking(move || {
        let server = server();
        let asker: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", server.strip_prefix("kafka://").expect("a kafka: URL"))
            .set("group.id", format!("group@{asked}"))
            .create()
            .expect("a client");
        for _ in 0..50_000 {
            let mut list = TopicPartitionList::new();
            list.add_partition(asked.as_str(), 0);
            let found = asker.committed_offsets(list, PATIENCE).expect("the server answers");
            if found.elements()[0].offset().to_raw() == Some(0) {
                return;
            }
        }
        panic!("nothing was committed");
    });
    within("a commit", asking).await.expect("the first event is not settled, and the mark behind the second is");
    drop(subscription);
}
