//! What the suite does not ask: records of other programs, refusals, and several instances of a group.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use commute_conformance::patience;
use commute_core::foreign::{Mapping, field};
use commute_core::{
    Address, Code, Delivery, Envelope, Outgoing, Result, Settlement, Settler, SharedBroker, Subscription,
    SubscriptionSpec, Timestamp, Topic,
};
use commute_kafka::DRIVER;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::{ClientConfig, Message};

mod gaps;
mod growing;
mod instances;
mod late;
mod overflow;
mod rejoining;
mod replicated;
mod returning;
mod settings;

const PATIENCE: Duration = Duration::from_secs(60);

fn server() -> String {
    std::env::var("COMMUTE_TEST_KAFKA").expect("COMMUTE_TEST_KAFKA names a server")
}

async fn try_connect(url: &str) -> Result<SharedBroker> {
    (DRIVER.connect)(Address::parse(url)?).await
}

async fn connect(options: &str) -> SharedBroker {
    try_connect(&format!("{}?session_timeout_ms=6000&{options}", server())).await.expect("the server answers")
}

fn topic(name: &str) -> Topic {
    Topic::new(format!("kafka.{:x}.{name}", fastrand::u64(..))).expect("a valid name")
}

fn event(topic: &Topic, key: u64, number: u64) -> Outgoing {
    let mut envelope = Envelope::new("test", "test.event", Timestamp(1_000_000), Bytes::from(number.to_string()));
    envelope.extensions.set("partitionkey", key.to_string()).expect("a valid name");
    Outgoing { topic: topic.clone(), envelope, not_before: None }
}

fn number(delivery: &Delivery) -> u64 {
    std::str::from_utf8(&delivery.envelope.data).ok().and_then(|text| text.parse().ok()).expect("a number")
}

fn acks(deliveries: &[Delivery]) -> Vec<Settlement> {
    deliveries.iter().map(|d| Settlement::Ack { tag: d.tag, publish: Vec::new(), mark: false }).collect()
}

fn park(deliveries: &[Delivery]) -> Vec<Settlement> {
    let park = |d: &Delivery| Settlement::Park { tag: d.tag, attempts: 1, lanes: Vec::new(), reason: None };
    deliveries.iter().map(park).collect()
}

async fn open(broker: &SharedBroker, spec: SubscriptionSpec) -> Subscription {
    within("a subscription", broker.subscribe(spec)).await.expect("subscribing works")
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(patience(PATIENCE), future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

async fn take(subscription: &mut Subscription, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let more = within("a delivery", subscription.receiver.receive(count - taken.len())).await;
        taken.extend(more.expect("receiving works"));
    }
    taken
}

/// What a client of the library itself is told.
fn client() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", server().strip_prefix("kafka://").expect("a kafka: URL"));
    config
}

/// The commit of the only partition of a topic, for the group `group`: its offset, and its metadata.
fn committed(topic: &Topic) -> (i64, String) {
    let asker: BaseConsumer = client().set("group.id", format!("group@{topic}")).create().expect("a client");
    let mut list = TopicPartitionList::new();
    list.add_partition(topic.as_str(), 0);
    let found = asker.committed_offsets(list, PATIENCE).expect("the server answers");
    let element = &found.elements()[0];
    (element.offset().to_raw().unwrap_or(-1), element.metadata().to_owned())
}

/// Reads the topic beside the source from its beginning until somebody has enough.
fn read_aside(topic: &Topic, mut is_enough: impl FnMut(&str, &BorrowedMessage<'_>) -> bool) {
    let reader: BaseConsumer = client().set("group.id", "nobody").create().expect("a client");
    let mut places = TopicPartitionList::new();
    let place = places.add_partition_offset(&format!("group.{topic}.aside"), 0, Offset::Beginning);
    place.expect("a place");
    reader.assign(&places).expect("it is free");
    loop {
        let record = reader.poll(patience(PATIENCE)).expect("more comes").expect("the server answers");
        let key = std::str::from_utf8(record.key().expect("a key")).expect("text");
        if is_enough(key, &record) {
            return;
        }
    }
}

/// A record of another program.
fn produce(topic: &Topic, key: Option<&str>, value: &str, headers: &[(&str, &[u8])]) {
    let producer: BaseProducer = client().create().expect("a producer");
    let mut record: BaseRecord<'_, str, str> = BaseRecord::to(topic.as_str()).payload(value);
    record.key = key;
    let mut all = OwnedHeaders::new();
    for (key, value) in headers {
        all = all.insert(Header { key, value: Some(*value) });
    }
    producer.send(record.headers(all)).map_err(|(cause, _)| cause).expect("there is room");
    producer.flush(PATIENCE).expect("the server answers");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_another_program_comes_through_a_mapping() {
    let (broker, topic) = (connect("").await, topic("foreign"));
    broker.publish(vec![event(&topic, 0, 0)]).await.expect("publishing creates the topic");
    produce(&topic, Some("k"), "{\"name\": \"order.placed\", \"data\": {\"order\": 7}}", &[]);
    let mut spec = SubscriptionSpec::new(topic.clone(), "group");
    spec.mapping = Some(Arc::new(Mapping::of(field("name")).key(field("data.order")).data(field("data"))));
    let mut subscription = open(&broker, spec).await;
    let taken = take(&mut subscription, 2).await;
    assert_eq!((&taken[0].malformed, number(&taken[0])), (&None, 0));
    let event = &taken[1].envelope;
    assert_eq!(taken[1].malformed, None);
    assert_eq!(
        (&*event.event_type, event.partition_key(), &event.data[..]),
        ("order.placed", Some("7"), &b"{\"order\":7}"[..])
    );
    assert_eq!(event.id.as_str(), format!("{topic}/0/1"), "the coordinates");
    assert!(taken[1].published > taken[0].envelope.time, "the record's own time");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_read_is_delivered_with_a_reason() {
    let (broker, topic) = (connect("").await, topic("malformed"));
    broker.publish(vec![event(&topic, 0, 0)]).await.expect("publishing creates the topic");
    let structured = [("content-type", &b"application/cloudevents+json"[..])];
    produce(&topic, None, "{\"specversion\": \"1.0\", \"id\":", &structured);
    produce(&topic, None, "no event", &[("ce_specversion", b"1.0"), ("odd", b"\xff\xfe")]);
    produce(&topic, Some("k"), "anything", &[]);
    let mut subscription = open(&broker, SubscriptionSpec::new(topic.clone(), "group")).await;
    let taken = take(&mut subscription, 4).await;
    let reasons: Vec<_> = taken.iter().map(|taken| taken.malformed.as_deref().unwrap_or_default()).collect();
    assert_eq!(reasons[0], "");
    assert!(
        reasons[1].contains("no JSON") && reasons[2].contains("\"id\"") && reasons[3].contains("mapping"),
        "{reasons:?}"
    );
    assert_eq!(&taken[1].envelope.data[..], b"{\"specversion\": \"1.0\", \"id\":");
    // It can be parked and is the same afterwards.
    let park = Settlement::Park { tag: taken[1].tag, attempts: 0, lanes: Vec::new(), reason: Some("why".into()) };
    subscription.settler.settle(vec![park]).await.expect("settling works");
    subscription.settler.settle(acks(&taken[2..])).await.expect("settling works");
    drop(subscription);
    let mut subscription = open(&broker, SubscriptionSpec::new(topic, "group")).await;
    let parked = subscription.settler.parked().await.expect("listing works");
    let back = subscription.settler.unpark(vec![parked[0].tag]).await.expect("unparking works");
    assert_eq!((&back[0].envelope, &back[0].malformed), (&taken[1].envelope, &taken[1].malformed));
    assert_eq!(number(&take(&mut subscription, 1).await[0]), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_is_named_when_it_may_not_be_created() {
    let (broker, topic) = (connect("declare=false").await, topic("missing"));
    let refused = broker.publish(vec![event(&topic, 0, 0)]).await.expect_err("there is no such topic");
    assert_eq!(refused.code(), Code::TopologyMissing);
    assert!(refused.detail().contains(topic.as_str()), "{refused}");
    let refused = broker.subscribe(SubscriptionSpec::new(topic.clone(), "group")).await.expect_err("nor for reading");
    assert_eq!(refused.code(), Code::TopologyMissing);
    connect("").await.publish(vec![event(&topic, 0, 1)]).await.expect("somebody else creates it");
    let mut subscription = open(&broker, SubscriptionSpec::new(topic, "group")).await;
    assert_eq!(number(&take(&mut subscription, 1).await[0]), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_address_is_said_soon_and_secrets_are_not() {
    let Err(refused) = try_connect("kafka://127.0.0.1:9").await else { panic!("nobody is there") };
    assert_eq!(refused.code(), Code::BrokerUnavailable);
    assert!(refused.detail().contains("127.0.0.1:9"), "{refused}");
    // This listener wants no credentials, so it cannot take any.
    let url = server().replace("kafka://", "kafka://me:geheim@");
    let Err(refused) = try_connect(&url).await else { panic!("the server has no users") };
    let shown = format!("{refused} {refused:?} {}", refused.report());
    assert!(!shown.contains("geheim"), "{shown}");
    assert!(!connect("").await.address().contains('@'));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kafka_cannot_do_is_refused() {
    let (broker, topic) = (connect("").await, topic("refused"));
    let later = Outgoing { not_before: Some(Timestamp(i64::MAX)), ..event(&topic, 0, 0) };
    assert_eq!(broker.publish(vec![later]).await.expect_err("nothing is delayed").code(), Code::NeedNotMet);
    let mut spec = SubscriptionSpec::new(topic, "group");
    spec.queue = Some("queue".into());
    assert_eq!(broker.subscribe(spec).await.expect_err("there are no queues").code(), Code::NeedNotMet);
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_that_no_commit_has_room_for_is_kept_aside() {
    const EVENTS: u64 = 1_000;
    let topic = topic("aside");
    let mut broker = connect("").await;
    for round in 0..3 {
        if round == 0 {
            broker.publish((0..EVENTS).map(|n| event(&topic, n, n)).collect()).await.expect("publishing works");
        }
        let spec = SubscriptionSpec::new(topic.clone(), "group").credit(10_000);
        let mut subscription = open(&broker, spec).await;
        let open: Vec<u64> = (0..EVENTS).filter(|n| round == 0 || !n.is_multiple_of(3)).collect();
        let taken = take(&mut subscription, open.len()).await;
        assert_eq!(taken.iter().map(number).collect::<Vec<_>>(), open);
        if round > 0 {
            let attempt = |n: u64| n as u32 + 1;
            assert!(taken.iter().all(|taken| taken.attempt == attempt(number(taken))), "attempts are remembered");
        } else {
            let done: Vec<_> = taken.iter().filter(|taken| number(taken).is_multiple_of(3)).cloned().collect();
            subscription.settler.settle(acks(&done)).await.expect("settling works");
            let not_before = Timestamp(1);
            let later = taken.iter().filter(|taken| !number(taken).is_multiple_of(3)).map(|taken| Settlement::Defer {
                tag: taken.tag,
                attempts: number(taken) as u32,
                not_before,
            });
            subscription.settler.settle(later.collect()).await.expect("settling works");
        }
        drop((subscription, broker));
        broker = connect("").await;
    }
}

async fn settle(settler: &Arc<dyn Settler>, settlements: Vec<Settlement>) {
    within("settling", settler.settle(settlements)).await.expect("settling works");
}
