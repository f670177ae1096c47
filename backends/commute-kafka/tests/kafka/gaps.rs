//! Offsets that the log skips: they are no events, and nobody settles them.

use super::*;

/// Publishes events, each in a transaction of its own: a mark of the log stands behind every one.
fn produce_with_marks(topic: &str, count: u64) {
    let producer: BaseProducer = client().set("transactional.id", topic).create().expect("a producer");
    producer.init_transactions(PATIENCE).expect("the server answers");
    for number in 0..count {
        producer.begin_transaction().expect("the last one is over");
        let value = number.to_string();
        let record: BaseRecord<'_, str, str> = BaseRecord::to(topic).payload(value.as_str()).key("key");
        producer.send(record).map_err(|(cause, _)| cause).expect("there is room");
        producer.commit_transaction(PATIENCE).expect("the server answers");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_skips_is_committed_although_nobody_settles_anything() {
    let (broker, topic) = (connect("partitions=1").await, topic("gaps"));
    broker.publish(vec![event(&topic, 0, 0)]).await.expect("publishing creates the topic");
    produce_with_marks(topic.as_str(), 2);
    let subscription = open(&broker, SubscriptionSpec::new(topic.clone(), "group")).await;
    let asked = topic.clone();
    let asking = tokio::task::spawn_blocking(move || {
        let asker: BaseConsumer = client().set("group.id", format!("group@{asked}")).create().expect("a client");
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

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_beside_the_source_that_ends_with_a_mark_is_read_to_its_end() {
    let (broker, topic) = (connect("partitions=1").await, topic("marked"));
    broker.publish(vec![event(&topic, 0, 0)]).await.expect("publishing creates the topic");
    let spec = || SubscriptionSpec::new(topic.clone(), "group");
    let mut subscription = open(&broker, spec()).await;
    let tag = take(&mut subscription, 1).await[0].tag;
    let park = Settlement::Park { tag, attempts: 1, lanes: Vec::new(), reason: None };
    settle(&subscription.settler, vec![park]).await;
    drop(subscription);
    produce_with_marks(&format!("group.{topic}.aside"), 1);
    let subscription = open(&broker, spec()).await;
    let parked = subscription.settler.parked().await.expect("listing works");
    assert_eq!(parked.len(), 1);
    let back = within("taking back", subscription.settler.unpark(vec![parked[0].tag])).await.expect("it is parked");
    assert_eq!(number(&back[0]), 0);
}
