//! What comes too late, or is gone: notes of an instance that was cut off, and logs that end before what is known of them.

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::CommitMode;

use super::*;

/// A note that an event is parked: the key, the value and the header with the rest.
type Note = (String, Vec<u8>, OwnedHeaders);

/// The last note of the event with this offset.
fn noted(topic: &Topic, offset: u64) -> Note {
    let (mut found, prefix) = (None, format!("0/event/{offset}/"));
    read_aside(topic, |key, record| {
        if key.starts_with(&prefix) && record.payload().is_some() {
            let headers = record.headers().expect("it has headers").detach();
            found = Some((key.to_owned(), record.payload().unwrap_or_default().to_vec(), headers));
        }
        found.is_some()
    });
    found.expect("it was found")
}

/// What a cut has held up arrives: the same instance parks an event, after what it has noted before.
fn arrive(topic: &Topic, (key, value, headers): &Note, offset: u64) {
    let parts: Vec<&str> = key.split('/').collect();
    let order = parts[4].parse::<u64>().expect("a number") + 1;
    let key = format!("0/event/{offset}/{}/{order}", parts[3]);
    let producer: BaseProducer = client().create().expect("a producer");
    let aside = format!("group.{topic}.aside");
    let record = BaseRecord::to(&aside).partition(0).key(&key).payload(value).headers(headers.clone());
    producer.send(record).map_err(|(cause, _)| cause).expect("there is room");
    producer.flush(PATIENCE).expect("the server answers");
}

async fn listed(subscription: &Subscription) -> Vec<commute_core::DeliveryTag> {
    let parked = within("a list", subscription.settler.parked()).await.expect("listing works");
    parked.iter().map(|parked| parked.tag).collect()
}

async fn parked(subscription: &Subscription) -> Vec<u64> {
    listed(subscription).await.iter().map(|tag| tag.position).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_instance_parks_after_another_has_taken_over_does_not_count() {
    let (broker, topic) = (connect("partitions=1").await, topic("late"));
    broker.publish((0..5).map(|n| event(&topic, n, n)).collect()).await.expect("publishing works");
    let spec = || SubscriptionSpec::new(topic.clone(), "group");
    let mut first = open(&broker, spec()).await;
    let taken = take(&mut first, 5).await;
    settle(&first.settler, park(&taken[0..=0])).await;
    let of_first = noted(&topic, 0);
    drop(first);
    // Another takes over: it handles one event, parks one, and has the rest in its hands.
    let mut second = open(&broker, spec()).await;
    assert_eq!(parked(&second).await, [0], "what was parked in time");
    let taken = take(&mut second, 4).await;
    settle(&second.settler, acks(&taken[..1])).await;
    settle(&second.settler, park(&taken[1..=1])).await;
    for event in [1, 2, 3] {
        arrive(&topic, &of_first, event);
    }
    drop(second);
    let mut third = open(&broker, spec()).await;
    let tags = listed(&third).await;
    let positions: Vec<_> = tags.iter().map(|tag| tag.position).collect();
    assert_eq!(positions, [0, 2], "what was handled is not parked, and what the second has parked still is");
    let taken = take(&mut third, 2).await;
    assert_eq!(taken.iter().map(number).collect::<Vec<_>>(), [3, 4], "what nobody has settled comes");
    settle(&third.settler, acks(&taken)).await;
    let back = within("taking back", third.settler.unpark(vec![tags[1]])).await.expect("it is parked");
    settle(&third.settler, acks(&back)).await;
    drop(third);
    let fourth = open(&broker, spec()).await;
    assert_eq!(parked(&fourth).await, [0]);
    // The late ones were removed with the first commit: nobody needs to know of them any more.
    let mut late = std::collections::BTreeMap::new();
    let writer = of_first.0.split('/').nth(3).expect("its writer").to_owned();
    read_aside(&topic, |key, record| {
        if key.split('/').nth(3) == Some(&writer) && !key.starts_with("0/event/0/") {
            late.insert(key.to_owned(), record.payload().is_some());
        }
        late.len() == 3 && late.values().all(|has_value| !has_value)
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_released_and_parked_again_too_late_is_handled_once_more() {
    let (broker, topic) = (connect("partitions=1").await, topic("again"));
    broker.publish((0..2).map(|n| event(&topic, n, n)).collect()).await.expect("publishing works");
    let spec = || SubscriptionSpec::new(topic.clone(), "group");
    let mut first = open(&broker, spec()).await;
    let taken = take(&mut first, 2).await;
    settle(&first.settler, park(&taken[0..=0])).await;
    let of_first = noted(&topic, 0);
    within("taking back", first.settler.unpark(vec![taken[0].tag])).await.expect("it is parked");
    drop(first);
    let mut second = open(&broker, spec()).await;
    let taken = take(&mut second, 2).await;
    assert_eq!(taken.iter().map(number).collect::<Vec<_>>(), [0, 1]);
    settle(&second.settler, acks(&taken[1..])).await;
    // Its handler has failed once more where it was, and nobody heard of that in time.
    arrive(&topic, &of_first, 0);
    drop(second);
    for _ in 0..2 {
        let mut next = open(&broker, spec()).await;
        assert!(parked(&next).await.is_empty());
        assert_eq!(take(&mut next, 1).await.iter().map(number).collect::<Vec<_>>(), [0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_instance_parked_before_it_could_commit_comes_again() {
    let (broker, topic) = (connect("partitions=1").await, topic("unsaid"));
    broker.publish((0..3).map(|n| event(&topic, n, n)).collect()).await.expect("publishing works");
    let spec = || SubscriptionSpec::new(topic.clone(), "group");
    let mut first = open(&broker, spec()).await;
    let taken = take(&mut first, 3).await;
    settle(&first.settler, park(&taken[0..=0])).await;
    // Somebody who has never committed anything, and is gone.
    let (_, value, headers) = noted(&topic, 0);
    arrive(&topic, &(String::from("0/event/0/4711/1"), value, headers), 1);
    drop(first);
    let mut second = open(&broker, spec()).await;
    assert_eq!(parked(&second).await, [0]);
    assert_eq!(take(&mut second, 2).await.iter().map(number).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_parked_of_a_topic_says_nothing_of_another_one_with_its_name() {
    let (broker, topic) = (connect("partitions=1").await, topic("anew"));
    broker.publish((0..3).map(|n| event(&topic, n, n)).collect()).await.expect("publishing works");
    let spec = || SubscriptionSpec::new(topic.clone(), "group");
    let mut first = open(&broker, spec()).await;
    let taken = take(&mut first, 3).await;
    settle(&first.settler, park(&taken[2..=2])).await;
    settle(&first.settler, acks(&taken[..2])).await;
    drop(first);
    broker.close().await.expect("closing works");
    let admin: AdminClient<DefaultClientContext> = client().create().expect("a client");
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    within("a deletion", admin.delete_topics(&[topic.as_str()], &options)).await.expect("the server answers");
    let asker: BaseConsumer = client().create().expect("a client");
    let partitions = || {
        let found = asker.fetch_metadata(Some(topic.as_str()), PATIENCE).expect("the server answers");
        found.topics().iter().map(|topic| topic.partitions().len()).sum::<usize>()
    };
    while partitions() > 0 {
        tokio::task::yield_now().await;
    }
    let broker = connect("partitions=1").await;
    broker.publish(vec![event(&topic, 0, 10)]).await.expect("publishing works");
    for n in 10..13 {
        let mut next = open(&broker, spec()).await;
        assert!(parked(&next).await.is_empty());
        let taken = take(&mut next, 1).await;
        assert_eq!(number(&taken[0]), n);
        settle(&next.settler, acks(&taken)).await;
        broker.publish(vec![event(&topic, 0, n + 1)]).await.expect("publishing works");
    }
}

fn numbers(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(number).collect()
}

/// A topic of nine events, of which some are settled as they are told, and another one with as many of these as are left of it: the
/// group has come as far in both, as the server knows.
async fn shortened(left: u64, settle_some: impl Fn(&[Delivery]) -> Vec<Settlement>) -> (SharedBroker, Topic) {
    let (broker, whole, rest) = (connect("partitions=1").await, topic("whole"), topic("rest"));
    publish(&broker, &whole, 0..9).await;
    publish(&broker, &rest, 0..left).await;
    let mut subscription = open(&broker, SubscriptionSpec::new(whole.clone(), "group")).await;
    let taken = take(&mut subscription, 9).await;
    settle(&subscription.settler, settle_some(&taken)).await;
    drop(subscription);
    let (low, metadata) = committed(&whole);
    let member: BaseConsumer = client().set("group.id", format!("group@{rest}")).create().expect("a client");
    let mut list = TopicPartitionList::new();
    let mut place = list.add_partition(rest.as_str(), 0);
    place.set_offset(Offset::Offset(low)).expect("an offset");
    place.set_metadata(&metadata);
    member.commit(&list, CommitMode::Sync).expect("the server answers");
    (broker, rest)
}

async fn publish(broker: &SharedBroker, topic: &Topic, numbers: std::ops::Range<u64>) {
    let events = numbers.map(|n| event(topic, 0, n)).collect();
    within("receipts", broker.publish(events)).await.expect("publishing works");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_settled_of_a_tail_that_is_lost_says_nothing_of_what_comes_in_its_place() {
    let some = |taken: &[Delivery]| acks(&[&taken[..1], &taken[2..3], &taken[5..]].concat());
    let (broker, topic) = shortened(4, some).await;
    let spec = || SubscriptionSpec::new(topic.clone(), "group");
    let mut subscription = open(&broker, spec()).await;
    assert_eq!(numbers(&take(&mut subscription, 2).await), [1, 3]);
    publish(&broker, &topic, 4..9).await;
    drop(subscription);
    let mut subscription = open(&broker, spec()).await;
    assert_eq!(numbers(&take(&mut subscription, 7).await), [1, 3, 4, 5, 6, 7, 8]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_ends_before_everything_that_is_open_is_read_from_its_start() {
    let (broker, topic) = shortened(4, acks).await;
    let spec = || SubscriptionSpec::new(topic.clone(), "group");
    let mut subscription = open(&broker, spec()).await;
    assert_eq!(numbers(&take(&mut subscription, 4).await), [0, 1, 2, 3]);
    // It is known from then on, also when the topic has become as long.
    publish(&broker, &topic, 4..12).await;
    drop(subscription);
    let mut subscription = open(&broker, spec()).await;
    assert_eq!(numbers(&take(&mut subscription, 12).await), (0..12).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_beside_that_is_gone_keeps_nobody_from_what_is_open() {
    let some = |taken: &[Delivery]| [park(&taken[2..=2]), acks(&taken[..1])].concat();
    let (broker, topic) = shortened(9, some).await;
    let mut subscription = open(&broker, SubscriptionSpec::new(topic, "group")).await;
    let taken = take(&mut subscription, 7).await;
    assert_eq!(numbers(&taken), [1, 3, 4, 5, 6, 7, 8], "what was parked is not known any more");
    assert!(parked(&subscription).await.is_empty());
    settle(&subscription.settler, park(&taken[0..=0])).await;
    assert_eq!(parked(&subscription).await, [1]);
}
