//! Three nodes: the contract says so, and what was confirmed outlives the node that took it.

use commute_core::Durability;
use rdkafka::consumer::{BaseConsumer, Consumer};
use servers::{Kind, Options, Server};

use super::*;

/// The nodes of the server under test. Its topics have as many replicas, if it is one of `servers`.
fn nodes() -> usize {
    server().split(',').count()
}

/// Leader and replicas of a topic's only partition.
fn placed(url: &str, topic: &Topic) -> (i32, usize) {
    let addresses = url.strip_prefix("kafka://").expect("a kafka: URL");
    let asker: BaseConsumer = ClientConfig::new().set("bootstrap.servers", addresses).create().expect("a client");
    let found = asker.fetch_metadata(Some(topic.as_str()), PATIENCE).expect("the server answers");
    let partition = &found.topics()[0].partitions()[0];
    (partition.leader(), partition.replicas().len())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_says_replicated_where_events_are_and_nowhere_else() {
    let (broker, all) = (connect("").await, topic("replicated"));
    broker.publish(vec![event(&all, 0, 0)]).await.expect("publishing creates the topic");
    let (_, replicas) = placed(&server(), &all);
    assert_eq!(replicas, nodes());
    let expected = if nodes() > 1 { Durability::Replicated } else { Durability::Written };
    assert_eq!(broker.capabilities().durability, expected);
    let (broker, one) = (connect("replication=1").await, topic("single"));
    broker.publish(vec![event(&one, 0, 0)]).await.expect("publishing creates the topic");
    assert_eq!((placed(&server(), &one).1, broker.capabilities().durability), (1, Durability::Written));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_confirmed_outlives_the_node_that_took_it() {
    const EVENTS: u64 = 200;
    if nodes() < 3 {
        println!("not asked: needs three nodes, as `cargo xtask brokers test kafka3` has them");
        return;
    }
    // One of its own: the others would not like to lose a node.
    let mut server = Server::start(Kind::Kafka3, Options::default()).expect("it starts");
    let url = format!("{}?session_timeout_ms=6000", server.url());
    let (broker, topic) = (try_connect(&url).await.expect("the server answers"), topic("outlives"));
    let events = |from: u64| (from..from + EVENTS).map(|n| event(&topic, 0, n)).collect::<Vec<_>>();
    broker.publish(events(0)).await.expect("publishing works");
    let (leader, replicas) = placed(server.url(), &topic);
    assert_eq!(replicas, 3);
    server.kill_node(usize::try_from(leader - 1).expect("nodes are counted from 1"));
    within("the next leader", broker.publish(events(EVENTS))).await.expect("two nodes are enough");
    let mut subscription = open(&broker, SubscriptionSpec::new(topic.clone(), "group").credit(1_000)).await;
    let taken = take(&mut subscription, 2 * EVENTS as usize).await;
    assert_eq!(taken.iter().map(number).collect::<Vec<_>>(), (0..2 * EVENTS).collect::<Vec<_>>());
}
