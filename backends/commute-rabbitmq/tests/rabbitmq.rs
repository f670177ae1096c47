//! What only RabbitMQ has: queues and producers of others, refusals, lost connections, instances that stand by.

mod server;

use std::time::Duration;

use bytes::Bytes;
use commute_conformance::patience;
use commute_conformance::proxy::Proxy;
use commute_core::foreign::{MALFORMED, Mapping, field};
use commute_core::{
    Broker, Code, Delivery, Envelope, Error, Outgoing, Settlement, Subscription, SubscriptionSpec, Timestamp, Topic,
};
use commute_rabbitmq::{Options, RabbitMq};
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};

const PATIENCE: Duration = Duration::from_secs(40);

/// A name that no other test and no earlier run has used.
fn name(what: &str) -> String {
    format!("{what}.{:08x}", fastrand::u32(..))
}

async fn connect(options: &str) -> RabbitMq {
    let url = format!("{}?{options}", server::url());
    RabbitMq::connect(Options::new(&url).unwrap()).await.unwrap()
}

/// What somebody else uses, who knows nothing of commute.
async fn somebody() -> (Connection, Channel) {
    let connection = Connection::connect(&server::url(), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    // So that what was told is there before anything that is told elsewhere.
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    (connection, channel)
}

async fn tell(channel: &Channel, queue: &str, properties: BasicProperties, body: &str) {
    let options = BasicPublishOptions::default();
    let sent = channel.basic_publish("".into(), queue.into(), options, body.as_bytes(), properties).await;
    sent.unwrap().await.unwrap();
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(patience(PATIENCE), what).await.expect("in time")
}

async fn take(subscription: &mut Subscription, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.extend(within(subscription.receiver.receive(count - taken.len())).await.unwrap());
    }
    taken
}

fn event(topic: &str, id: u64) -> Outgoing {
    let mut envelope = Envelope::new("test", "test.event", Timestamp(1), Bytes::from(id.to_string()));
    envelope.id = commute_core::EventId::new(format!("{topic}/{id}")).unwrap();
    Outgoing { topic: Topic::new(topic).unwrap(), envelope, not_before: None }
}

fn spec(topic: &str) -> SubscriptionSpec {
    SubscriptionSpec::new(Topic::new(topic).unwrap(), "group")
}

fn numbers(taken: &[Delivery]) -> Vec<String> {
    taken.iter().map(|taken| String::from_utf8(taken.envelope.data.to_vec()).unwrap()).collect()
}

fn acks(taken: &[Delivery]) -> Vec<Settlement> {
    taken.iter().map(|taken| Settlement::Ack { tag: taken.tag, publish: Vec::new(), mark: true }).collect()
}

fn refused<T>(result: Result<T, Error>, code: Code) {
    let Err(error) = result else { panic!("{code:?} was expected") };
    assert_eq!(error.code(), code, "{}", error.report());
    assert!(!error.report().contains("s3cret"), "{}", error.report());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_of_somebody_else_is_consumed_as_it_is_through_a_mapping() {
    let (_connection, channel) = somebody().await;
    let queue = name("theirs");
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(1000));
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(queue.as_str().into(), options, arguments).await.unwrap();
    for (n, event) in ["greeting", "farewell"].into_iter().enumerate() {
        let body = format!("{{\"name\": \"{event}\", \"data\": {{\"to\": \"world\", \"n\": {n}}}}}");
        tell(&channel, &queue, BasicProperties::default(), &body).await;
    }
    let broker = connect("").await;
    let mut spec = spec(&name("foreign"));
    spec.queue = Some(queue.as_str().into());
    spec.mapping = Some(Mapping::of(field("name")).key(field("data.to")).data(field("data")).into());
    let mut subscription = broker.subscribe(spec).await.unwrap();
    let taken = take(&mut subscription, 2).await;
    let said: Vec<_> =
        taken.iter().map(|taken| (&*taken.envelope.event_type, taken.envelope.partition_key())).collect();
    assert_eq!(said, [("greeting", Some("world")), ("farewell", Some("world"))]);
    assert_eq!(taken[0].envelope.data, Bytes::from_static(b"{\"n\":0,\"to\":\"world\"}"));
    subscription.settler.settle(acks(&taken)).await.unwrap();
    broker.close().await.unwrap();
    let left = channel.basic_get(queue.as_str().into(), BasicGetOptions::default()).await.unwrap();
    assert!(left.is_none(), "both were acknowledged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_consumer_reads_our_events() {
    let topic = name("ours");
    let (_connection, channel) = somebody().await;
    let broker = connect("").await;
    let queue = name("reader");
    drop(broker.subscribe(spec(&topic)).await.unwrap());
    let (options, bind) = (QueueDeclareOptions::default(), QueueBindOptions::default());
    channel.queue_declare(queue.as_str().into(), options, FieldTable::default()).await.unwrap();
    channel
        .queue_bind(queue.as_str().into(), topic.as_str().into(), "#".into(), bind, FieldTable::default())
        .await
        .unwrap();
    let mut ours = event(&topic, 7);
    ours.envelope.data_content_type = Some("application/json".into());
    broker.publish(vec![ours.clone()]).await.unwrap();
    let read = channel.basic_get(queue.as_str().into(), BasicGetOptions { no_ack: true }).await.unwrap().unwrap();
    assert_eq!(read.delivery.data, b"7");
    let properties = &read.delivery.properties;
    assert_eq!(properties.message_id().as_ref().unwrap().as_str(), ours.envelope.id.as_str());
    assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "application/json");
    let headers = properties.headers().as_ref().unwrap().inner();
    for (name, value) in
        [("cloudEvents:type", "test.event"), ("cloudEvents:source", "test"), ("cloudEvents:specversion", "1.0")]
    {
        assert_eq!(headers.get(name), Some(&AMQPValue::LongString(value.into())), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_read_is_delivered_as_malformed_and_the_next_event_comes() {
    let (_connection, channel) = somebody().await;
    let topic = name("malformed");
    let broker = connect("").await;
    let mut subscription = broker.subscribe(spec(&topic)).await.unwrap();
    let queue = format!("group@{topic}");
    let structured = BasicProperties::default().with_content_type("application/cloudevents+json".into());
    tell(&channel, &queue, structured, "{\"specversion\": \"1.0\", \"id\":").await;
    tell(&channel, &queue, BasicProperties::default(), "{\"name\": \"plain\"}").await;
    broker.publish(vec![event(&topic, 1)]).await.unwrap();
    let taken = take(&mut subscription, 3).await;
    let reasons: Vec<_> = taken.iter().map(|taken| taken.malformed.as_deref().unwrap_or_default()).collect();
    assert!(
        reasons[0].contains("no JSON") && reasons[1].contains("no mapping") && reasons[2].is_empty(),
        "{reasons:?}"
    );
    assert_eq!(
        (&*taken[1].envelope.event_type, &taken[1].envelope.data[..]),
        (MALFORMED, &b"{\"name\": \"plain\"}"[..])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_or_refuses_is_said_with_its_code_and_without_the_password() {
    let url = server::url();
    let (_, place) = url.split_once('@').unwrap();
    let (host, _) = place.split_once('/').unwrap();
    let connecting = |url: String| async move { RabbitMq::connect(Options::new(&url).unwrap()).await };
    refused(connecting(format!("amqp://guest:s3cret@{host}/%2f")).await, Code::AccessRefused);
    refused(connecting(format!("amqp://guest:guest@{host}/no-such-host")).await, Code::TopologyMissing);
    // Nothing listens on a port that was just given back.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    refused(connecting(format!("amqp://guest:s3cret@{free}/%2f")).await, Code::BrokerUnavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_refused_where_declaring_is_forbidden() {
    let broker = connect("declare=false").await;
    let topic = name("missing");
    refused(broker.publish(vec![event(&topic, 1)]).await, Code::TopologyMissing);
    refused(broker.subscribe(spec(&topic)).await, Code::TopologyMissing);
    // The connection goes on: an exchange without a queue is another reason.
    let (_connection, channel) = somebody().await;
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel.exchange_declare(topic.as_str().into(), ExchangeKind::Topic, options, FieldTable::default()).await.unwrap();
    refused(broker.publish(vec![event(&topic, 1)]).await, Code::TopologyMissing);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_of_the_wrong_kind_is_refused_and_one_with_other_arguments_is_used() {
    let (_connection, channel) = somebody().await;
    let broker = connect("").await;
    for (kind, usable) in [("stream", false), ("classic", true)] {
        let topic = name(kind);
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        let queue = format!("group@{topic}");
        channel.queue_declare(queue.as_str().into(), options, arguments).await.unwrap();
        let opened = broker.subscribe(spec(&topic)).await;
        if !usable {
            refused(opened, Code::TopologyDiffers);
            continue;
        }
        let mut subscription = opened.unwrap();
        broker.publish(vec![event(&topic, 1)]).await.unwrap();
        assert_eq!(numbers(&take(&mut subscription, 1).await), ["1"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_exchange_of_another_type_is_used_as_it_is() {
    let (_connection, channel) = somebody().await;
    let topic = name("fanout");
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel
        .exchange_declare(topic.as_str().into(), ExchangeKind::Fanout, options, FieldTable::default())
        .await
        .unwrap();
    let theirs = name("theirs");
    channel.queue_declare(theirs.as_str().into(), QueueDeclareOptions::default(), FieldTable::default()).await.unwrap();
    let bind = QueueBindOptions::default();
    channel
        .queue_bind(theirs.as_str().into(), topic.as_str().into(), "".into(), bind, FieldTable::default())
        .await
        .unwrap();
    let broker = connect("").await;
    let mut subscription = broker.subscribe(spec(&topic)).await.unwrap();
    broker.publish(vec![event(&topic, 1)]).await.unwrap();
    assert_eq!(numbers(&take(&mut subscription, 1).await), ["1"]);
    assert!(channel.basic_get(theirs.as_str().into(), BasicGetOptions::default()).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_survives_a_cut_and_is_settled_on_the_next_connection() {
    let network = Proxy::before(server::address()).await.unwrap();
    let url = server::url_at(network.address());
    let broker = RabbitMq::connect(Options::new(&url).unwrap()).await.unwrap();
    let topic = name("cut");
    let mut subscription = broker.subscribe(spec(&topic)).await.unwrap();
    broker.publish((0..6).map(|n| event(&topic, n)).collect()).await.unwrap();
    let taken = take(&mut subscription, 4).await;
    subscription.settler.settle(acks(&taken[..1])).await.unwrap();
    network.cut();
    // Settled while there is no connection: it is done when the server delivers it again.
    subscription.settler.settle(acks(&taken[1..2])).await.unwrap();
    network.heal();
    // Published across the loss, and confirmed on the next connection.
    within(broker.publish(vec![event(&topic, 6)])).await.unwrap();
    let rest = take(&mut subscription, 3).await;
    assert_eq!(numbers(&rest), ["4", "5", "6"], "what is held comes no second time");
    subscription.settler.settle(acks(&taken[2..])).await.unwrap();
    subscription.settler.settle(acks(&rest)).await.unwrap();
    broker.close().await.unwrap();
    let broker = connect("").await;
    let mut subscription = broker.subscribe(spec(&topic)).await.unwrap();
    broker.publish(vec![event(&topic, 99)]).await.unwrap();
    assert_eq!(numbers(&take(&mut subscription, 1).await), ["99"], "everything else was acknowledged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_what_is_held_or_was_handled_is_absorbed() {
    let broker = connect("").await;
    let topic = name("copies");
    let mut subscription = broker.subscribe(spec(&topic)).await.unwrap();
    broker.publish(vec![event(&topic, 1), event(&topic, 1)]).await.unwrap();
    let taken = take(&mut subscription, 1).await;
    subscription.settler.settle(acks(&taken)).await.unwrap();
    broker.publish(vec![event(&topic, 1), event(&topic, 2)]).await.unwrap();
    assert_eq!(numbers(&take(&mut subscription, 1).await), ["2"]);
    assert_eq!(subscription.settler.absorbed(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_stands_by_takes_over_with_what_was_parked() {
    let (first, second) = (connect("").await, connect("").await);
    let topic = name("standby");
    let mut active = first.subscribe(spec(&topic)).await.unwrap();
    first.publish((0..4).map(|n| event(&topic, n)).collect()).await.unwrap();
    let taken = take(&mut active, 4).await;
    let mut standby = second.subscribe(spec(&topic)).await.unwrap();
    let park = Settlement::Park { tag: taken[1].tag, attempts: 3, lanes: Vec::new(), reason: Some("no".into()) };
    active.settler.settle(vec![park]).await.unwrap();
    active.settler.settle(acks(&taken[..1])).await.unwrap();
    assert!(standby.settler.parked().await.unwrap().is_empty());
    drop(active);
    assert_eq!(numbers(&take(&mut standby, 2).await), ["2", "3"]);
    let parked = standby.settler.parked().await.unwrap();
    assert_eq!(
        parked.iter().map(|parked| (parked.attempts, parked.reason.as_deref())).collect::<Vec<_>>(),
        [(3, Some("no"))]
    );
    let back = standby.settler.unpark(vec![parked[0].tag]).await.unwrap();
    assert_eq!(numbers(&back), ["1"]);
    first.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_instances_share_a_queue_where_that_is_wanted() {
    let (first, second) =
        (connect("instances=many&instance=a&prefetch=1").await, connect("instances=many&instance=b&prefetch=1").await);
    let topic = name("many");
    let mut a = first.subscribe(spec(&topic)).await.unwrap();
    let mut b = second.subscribe(spec(&topic)).await.unwrap();
    first.publish((0..2).map(|n| event(&topic, n)).collect()).await.unwrap();
    // Each holds one and has no room for the other.
    let (of_a, of_b) = tokio::join!(take(&mut a, 1), take(&mut b, 1));
    let mut all = [numbers(&of_a), numbers(&of_b)].concat();
    all.sort();
    assert_eq!(all, ["0", "1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_opens_however_often_its_connection_is_cut_meanwhile() {
    let network = Proxy::before(server::address()).await.unwrap();
    let broker = RabbitMq::connect(Options::new(&server::url_at(network.address())).unwrap()).await.unwrap();
    for _ in 0..20 {
        let topic = name("cuts");
        let mut opening = std::pin::pin!(broker.subscribe(spec(&topic)));
        let mut subscription = loop {
            // A cut every few milliseconds would never let anything through.
            let pause = Duration::from_millis(fastrand::u64(1..150));
            match tokio::time::timeout(pause, &mut opening).await {
                Ok(opened) => break opened.unwrap(),
                Err(_) => network.heal(),
            }
        };
        within(broker.publish(vec![event(&topic, 1)])).await.unwrap();
        network.heal();
        assert_eq!(numbers(&take(&mut subscription, 1).await), ["1"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn publishing_goes_on_when_somebody_deletes_an_exchange() {
    let (broker, strict) = (connect("").await, connect("declare=false").await);
    let (topic, other) = (name("deleted"), name("other"));
    for topic in [&topic, &other] {
        broker.publish(vec![event(topic, 1)]).await.unwrap();
        strict.publish(vec![event(topic, 2)]).await.unwrap();
    }
    let (_connection, channel) = somebody().await;
    channel.exchange_delete(topic.as_str().into(), Default::default()).await.unwrap();
    // Who may not declare says so, and is not held up by it.
    refused(within(strict.publish(vec![event(&topic, 3)])).await, Code::TopologyMissing);
    within(strict.publish(vec![event(&other, 3)])).await.unwrap();
    // Who may makes it again.
    within(broker.publish(vec![event(&topic, 4)])).await.unwrap();
    let mut subscription = broker.subscribe(spec(&topic)).await.unwrap();
    assert_eq!(numbers(&take(&mut subscription, 3).await), ["1", "2", "4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_released_comes_back_while_the_backlog_is_asked_again_and_again() {
    let topic = name("asked");
    let broker = connect("").await;
    let mut subscription = broker.subscribe(spec(&topic)).await.unwrap();
    broker.publish(vec![event(&topic, 1)]).await.unwrap();
    let taken = take(&mut subscription, 1).await;
    let park = Settlement::Park { tag: taken[0].tag, attempts: 3, lanes: Vec::new(), reason: None };
    subscription.settler.settle(vec![park]).await.unwrap();
    subscription.settler.unpark(vec![taken[0].tag]).await.unwrap();
    drop(subscription);
    broker.close().await.unwrap();
    let broker = connect("").await;
    let mut subscription = broker.subscribe(spec(&topic)).await.unwrap();
    let settler = subscription.settler.clone();
    let asking = async {
        loop {
            settler.backlog().await.unwrap();
        }
    };
    tokio::select! {
        taken = take(&mut subscription, 1) => assert_eq!(numbers(&taken), ["1"]),
        () = asking => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_does_not_wait_for_what_another_group_has_not_handled() {
    let broker = connect("").await;
    let topic = name("backlog");
    broker.publish((0..10).map(|n| event(&topic, n)).collect()).await.unwrap();
    // It has two of them in hand, and the others wait for it.
    let mut first = broker.subscribe(spec(&topic).credit(2)).await.unwrap();
    assert_eq!(numbers(&take(&mut first, 2).await), ["0", "1"]);
    let other = SubscriptionSpec::new(Topic::new(&topic).unwrap(), "other");
    let mut second = broker.subscribe(other).await.unwrap();
    broker.publish(vec![event(&topic, 10)]).await.unwrap();
    assert_eq!(numbers(&take(&mut second, 1).await), ["10"]);
}
