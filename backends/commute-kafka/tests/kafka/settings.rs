//! Servers and topics that are set smaller than usual: noticed at start, said, and refused where nothing can be done.

use std::fs;

use commute_core::Broker;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use servers::{Kind, Options, Server};

use super::*;

fn start(settings: &[&str]) -> Server {
    servers::install(Kind::Kafka).expect("Kafka is there or can be had");
    let settings = settings.iter().map(|line| (*line).to_owned()).collect();
    Server::start(Kind::Kafka, Options { settings, ..Options::default() }).expect("it starts")
}

/// Changes the configuration of a server, which it reads when it starts.
fn start_again_with(server: &mut Server, setting: &str) {
    server.stop();
    let file = server.dir().join("server.properties");
    let text = fs::read_to_string(&file).expect("it has a configuration");
    fs::write(&file, format!("{text}{setting}\n")).expect("it can be changed");
    server.start_again().expect("it starts again");
}

async fn at(server: &Server, options: &str) -> Result<SharedBroker> {
    try_connect(&format!("{}?{options}", server.url())).await
}

fn said(broker: &dyn Broker) -> String {
    broker.server().expect("a server").degradations.join("\n")
}

/// Takes all, settles every second one, and checks that exactly the others are left for the next.
async fn every_second_is_kept(server: &Server, topic: &Topic, events: u64) {
    let broker = at(server, "session_timeout_ms=6000").await.expect("it is enough");
    let spec = || SubscriptionSpec::new(topic.clone(), "group").credit(10_000);
    let mut subscription = open(&broker, spec()).await;
    let taken = take(&mut subscription, events as usize).await;
    let (odd, even): (Vec<_>, Vec<_>) = taken.into_iter().partition(|taken| number(taken) % 2 == 1);
    settle(&subscription.settler, acks(&odd)).await;
    drop((subscription, broker));
    let broker = at(server, "session_timeout_ms=6000").await.expect("it is enough");
    let mut subscription = open(&broker, spec()).await;
    let left = take(&mut subscription, even.len()).await;
    assert_eq!(left.iter().map(number).collect::<Vec<_>>(), even.iter().map(number).collect::<Vec<_>>());
    assert_eq!(subscription.settler.backlog().await.expect("asking works"), Some(0));
    settle(&subscription.settler, acks(&left)).await;
    broker.close().await.expect("closing works");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_the_usual_settings_says_its_version_and_nothing_less() {
    let broker = connect("").await;
    let server = broker.server().expect("a server");
    assert_eq!(server.product, "Kafka");
    let version = server.version.as_deref().expect("a version");
    assert!(version == "4.0 or later" || version.starts_with("3."), "{version}");
    assert_eq!(server.degradations, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_set_too_small_is_refused_and_one_that_is_set_small_says_so_and_works() {
    let mut server = start(&["offset.metadata.max.bytes=40", "group.min.session.timeout.ms=6000"]);
    let refused = at(&server, "").await.err().expect("no commit would have room");
    assert_eq!(refused.code(), Code::NeedNotMet);
    assert!(refused.detail().contains("offset.metadata.max.bytes=40"), "{refused}");
    start_again_with(
        &mut server,
        "offset.metadata.max.bytes=100\nmessage.max.bytes=100000\noffsets.retention.minutes=60",
    );
    let refused = at(&server, "session_timeout_ms=5000").await.err().expect("the server would not have it");
    assert_eq!(refused.code(), Code::InvalidOption);
    assert!(refused.detail().contains("6000 to 1800000"), "{refused}");
    let broker = at(&server, "").await.expect("it is enough");
    let said = said(&*broker);
    for words in ["more than 100 bytes", "may have 50848 bytes", "empty for 60 minutes"] {
        assert!(said.contains(words), "{said}");
    }
    assert_eq!(broker.capabilities().max_event_bytes, 50_848);
    let (topic, mut large) = (topic("small"), event(&topic("large"), 0, 0));
    large.envelope.data = vec![b'x'; 60_000].into();
    assert_eq!(broker.publish(vec![large]).await.expect_err("it is too large").code(), Code::PayloadTooLarge);
    // A thousand gaps take a hundred bytes and more.
    broker.publish((0..2_000).map(|n| event(&topic, 0, n)).collect()).await.expect("publishing works");
    broker.close().await.expect("closing works");
    every_second_is_kept(&server, &topic, 2_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_less_metadata_after_a_restart_keeps_what_is_settled_all_the_same() {
    let (mut server, topic) = (start(&[]), topic("shrunk"));
    let broker = at(&server, "session_timeout_ms=30000").await.expect("the server answers");
    broker.publish((0..2_000).map(|n| event(&topic, 0, n)).collect()).await.expect("publishing works");
    let mut subscription = open(&broker, SubscriptionSpec::new(topic.clone(), "group").credit(10_000)).await;
    let taken = take(&mut subscription, 2_000).await;
    let settled = |from: usize| taken[from..].iter().step_by(4).cloned().collect::<Vec<_>>();
    settle(&subscription.settler, acks(&settled(1))).await;
    start_again_with(&mut server, "offset.metadata.max.bytes=100");
    settle(&subscription.settler, acks(&settled(3))).await;
    drop((subscription, broker));
    let broker = at(&server, "").await.expect("the server answers");
    let mut subscription = open(&broker, SubscriptionSpec::new(topic, "group").credit(10_000)).await;
    let left = take(&mut subscription, 1_000).await;
    assert_eq!(left.iter().map(number).collect::<Vec<_>>(), (0..2_000).step_by(2).collect::<Vec<_>>());
    assert_eq!(subscription.settler.backlog().await.expect("asking works"), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_beside_the_source_that_would_forget_what_is_parked_is_refused() {
    let (broker, topic) = (connect("").await, topic("forgetful"));
    broker.publish(vec![event(&topic, 0, 0)]).await.expect("publishing creates the topic");
    let admin: AdminClient<DefaultClientContext> = client().create().expect("a client");
    let name = format!("group.{topic}.aside");
    let made = NewTopic::new(&name, 1, TopicReplication::Fixed(-1)).set("cleanup.policy", "delete");
    let made = admin.create_topics([&made], &AdminOptions::new().operation_timeout(Some(PATIENCE))).await;
    made.expect("the server answers")[0].as_ref().expect("it is created");
    let refused = within("a refusal", broker.subscribe(SubscriptionSpec::new(topic, "group"))).await;
    let refused = refused.expect_err("what is parked would be deleted after a week");
    assert_eq!(refused.code(), Code::TopologyDiffers);
    assert!(refused.detail().contains(&name) && refused.detail().contains("cleanup.policy=delete"), "{refused}");
}
