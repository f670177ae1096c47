//! Connections break and nodes end: nothing is lost, nothing takes effect twice, and whoever receives is told.

mod peer;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use commute_conformance::proxy::Proxy;
use commute_core::{Change, Code, Delivery, Outgoing, Settlement, SharedBroker, SubscriptionSpec, Topic};
use commute_embedded::storage::Memory;
use commute_zeromq::{Node, NodeOptions};
use futures_util::FutureExt;
use peer::{address, connect, event, log, node, number, topic, within};

/// A client that reaches a node through a network that can be cut.
async fn proxied(node: &Node) -> (Proxy, SharedBroker) {
    let proxy = Proxy::before(address(node)).await.expect("a port");
    let broker = connect(&format!("zmq://{}", proxy.address())).await;
    (proxy, broker)
}

/// A short lease, where a test waits for its end.
fn short() -> NodeOptions {
    NodeOptions { lease: Duration::from_millis(400), ..NodeOptions::default() }
}

fn ack(delivery: &Delivery) -> Settlement {
    Settlement::Ack { tag: delivery.tag, publish: vec![], mark: false }
}

async fn subscribe(broker: &SharedBroker, group: &str) -> commute_core::Subscription {
    within(broker.subscribe(SubscriptionSpec::new(topic(), group))).await.expect("it opens")
}

/// Numbers of everything that a group has left.
async fn rest(node_url: &str, group: &str, count: usize) -> Vec<usize> {
    let broker = connect(node_url).await;
    let mut subscription = subscribe(&broker, group).await;
    let mut seen = Vec::new();
    while seen.len() < count {
        let taken = within(subscription.receiver.receive(1000)).await.expect("they come");
        seen.extend(taken.iter().map(|taken| number(&taken.envelope)));
        within(subscription.settler.settle(taken.iter().map(ack).collect())).await.expect("they are settled");
    }
    assert_eq!(within(subscription.settler.backlog()).await.expect("it says"), Some(0));
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn publishes_survive_cuts_each_stored_once_and_with_the_receipt_it_had() {
    let node = node(NodeOptions::default()).await;
    let (proxy, broker) = proxied(&node).await;
    let mut publishing = Vec::new();
    for n in 0..300 {
        let (broker, receipt) = (broker.clone(), event(n));
        publishing.push(tokio::spawn(async move { broker.publish(vec![receipt]).await }));
        if n % 30 == 29 {
            proxy.cut();
            tokio::task::yield_now().await;
            proxy.heal();
        }
    }
    let mut positions = BTreeSet::new();
    for publish in publishing {
        let receipts = within(publish).await.expect("it ends").expect("it is stored");
        assert!(!receipts[0].duplicate, "the session is the same, and so is the answer");
        positions.insert(receipts[0].position.expect("a position"));
    }
    assert_eq!(positions.len(), 300);
    let mut all = rest(&node.url(), "g", 300).await;
    all.sort_unstable();
    assert_eq!(all, (0..300).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_whose_answer_is_lost_is_answered_with_what_happened_first() {
    let node = node(NodeOptions::default()).await;
    let (proxy, broker) = proxied(&node).await;
    proxy.mute();
    let publishing = tokio::spawn({
        let broker = broker.clone();
        async move { broker.publish(vec![event(1)]).await }
    });
    // It is stored, and the client is not told.
    assert_eq!(rest(&node.url(), "first", 1).await, [1]);
    proxy.heal();
    let receipts = within(publishing).await.expect("it ends").expect("it is stored");
    assert_eq!((receipts[0].position, receipts[0].duplicate), (Some(0), false));
    assert_eq!(rest(&node.url(), "second", 1).await, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_within_the_lease_changes_nothing_for_whoever_receives() {
    let node = node(NodeOptions::default()).await;
    let (proxy, broker) = proxied(&node).await;
    within(broker.publish((0..10).map(event).collect())).await.expect("they are stored");
    let mut subscription = subscribe(&broker, "g").await;
    let before = within(subscription.receiver.receive(5)).await.expect("they come");
    proxy.cut();
    proxy.heal();
    // Deliveries from before the cut are still ours; each settlement counts once.
    within(subscription.settler.settle(before.iter().map(ack).collect())).await.expect("they are settled");
    let mut after = Vec::new();
    while after.len() < 10 - before.len() {
        after.extend(within(subscription.receiver.receive(100)).await.expect("they come"));
    }
    assert_eq!(
        after.iter().map(|one| number(&one.envelope)).collect::<Vec<_>>(),
        (before.len()..10).collect::<Vec<_>>()
    );
    assert!(after.iter().all(|one| one.attempt == 1 && one.tag.incarnation == before[0].tag.incarnation));
    assert!(subscription.settler.changed().now_or_never().is_none(), "nothing is announced");
    within(subscription.settler.settle(after.iter().map(ack).collect())).await.expect("they are settled");
    assert_eq!(within(subscription.settler.backlog()).await.expect("it says"), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_whose_answer_is_lost_counts_once() {
    let node = node(NodeOptions::default()).await;
    let (proxy, broker) = proxied(&node).await;
    within(broker.publish(vec![event(1), event(2)])).await.expect("they are stored");
    let mut subscription = subscribe(&broker, "g").await;
    let mut taken = Vec::new();
    while taken.len() < 2 {
        taken.extend(within(subscription.receiver.receive(10)).await.expect("they come"));
    }
    proxy.mute();
    let settling = tokio::spawn({
        let (settler, tag) = (subscription.settler.clone(), taken[0].tag);
        // Publishing with the ack makes a second effect visible.
        async move { settler.settle(vec![Settlement::Ack { tag, publish: vec![event(100)], mark: false }]).await }
    });
    assert_eq!(rest(&node.url(), "other", 3).await, [1, 2, 100], "it took effect");
    proxy.heal();
    within(settling).await.expect("it ends").expect("it is settled");
    within(subscription.settler.settle(vec![ack(&taken[1])])).await.expect("it is settled");
    assert_eq!(rest(&node.url(), "third", 3).await, [1, 2, 100], "and once only");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_whose_session_is_lost_before_its_answer_comes_is_not_said_again() {
    let node = node(short()).await;
    let (proxy, broker) = proxied(&node).await;
    within(broker.publish(vec![event(1)])).await.expect("it is stored");
    let mut subscription = subscribe(&broker, "g").await;
    let taken = within(subscription.receiver.receive(10)).await.expect("it comes");
    proxy.mute();
    let settling = tokio::spawn({
        let (settler, tag) = (subscription.settler.clone(), taken[0].tag);
        async move { settler.settle(vec![Settlement::Ack { tag, publish: vec![event(100)], mark: false }]).await }
    });
    assert_eq!(rest(&node.url(), "other", 2).await, [1, 100], "it took effect");
    proxy.cut();
    within(async {
        while node.sessions() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    proxy.heal();
    // It speaks of a delivery of nobody; whoever waits for it can do nothing about that.
    within(settling).await.expect("it ends").expect("it is over");
    assert_eq!(within(subscription.settler.changed()).await, Change::Revoked(taken[0].tag.incarnation));
    let again = within(subscription.receiver.receive(10)).await.expect("the next comes");
    assert_eq!(number(&again[0].envelope), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_swallows_everything_is_noticed_and_left() {
    let node = node(short()).await;
    let (proxy, broker) = proxied(&node).await;
    proxy.freeze();
    let publishing = tokio::spawn({
        let broker = broker.clone();
        async move { broker.publish(vec![event(1)]).await }
    });
    // The node notices by itself, and ends the session after a lease.
    within(async {
        while node.sessions() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    proxy.heal();
    within(publishing).await.expect("it ends").expect("it is stored");
    assert_eq!(rest(&node.url(), "g", 1).await, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_away_for_longer_than_its_lease_is_told_that_others_have_its_events() {
    let node = node(short()).await;
    let (proxy, broker) = proxied(&node).await;
    within(broker.publish(vec![event(1)])).await.expect("it is stored");
    let mut subscription = subscribe(&broker, "g").await;
    let taken = within(subscription.receiver.receive(10)).await.expect("it comes");
    proxy.cut();
    // Another instance gets it as soon as the lease is over.
    let other = connect(&node.url()).await;
    let mut others = subscribe(&other, "g").await;
    let theirs = within(others.receiver.receive(10)).await.expect("it comes");
    assert_eq!(theirs[0].attempt, 1);
    within(others.settler.settle(vec![ack(&theirs[0])])).await.expect("it is settled");
    proxy.heal();
    assert_eq!(within(subscription.settler.changed()).await, Change::Revoked(taken[0].tag.incarnation));
    // Settling what is another's does nothing, and says nothing.
    within(subscription.settler.settle(vec![ack(&taken[0])])).await.expect("it does nothing");
    drop(others);
    within(broker.publish(vec![event(2)])).await.expect("it is stored");
    let again = within(subscription.receiver.receive(10)).await.expect("it comes");
    assert_eq!(number(&again[0].envelope), 2);
    assert_eq!(subscription.settler.changed().now_or_never(), Some(Change::Assigned(again[0].tag.incarnation)));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_client_is_away_others_get_what_comes() {
    let node = node(NodeOptions::default()).await;
    let (proxy, broker) = proxied(&node).await;
    let mut away = subscribe(&broker, "g").await;
    // It waits, so that the node has its request.
    let waiting = tokio::spawn(async move { away.receiver.receive(1).await });
    let near = connect(&node.url()).await;
    let mut subscription = subscribe(&near, "g").await;
    proxy.cut();
    let mut seen = BTreeSet::new();
    let mut n = 0;
    // One that was on its way when the network was cut may be lost until the lease is over; nothing after it.
    while seen.len() < 5 {
        within(near.publish(vec![event(n)])).await.expect("it is stored");
        n += 1;
        if let Ok(taken) = tokio::time::timeout(Duration::from_millis(100), subscription.receiver.receive(10)).await {
            seen.extend(taken.expect("they come").iter().map(|one| number(&one.envelope)));
        }
        assert!(n < 100, "somebody who is away takes everything");
    }
    waiting.abort();
}

/// A node that ends and comes back at the same place, on the same log.
struct Restarts {
    storage: Memory,
    port: u16,
    now: Option<(Node, Arc<commute_embedded::Embedded>)>,
}

impl Restarts {
    async fn new() -> Self {
        let mut node = Restarts { storage: Memory::new(), port: 0, now: None };
        node.start().await;
        node
    }

    async fn start(&mut self) {
        let broker = log(&self.storage);
        let url = format!("zmq://127.0.0.1:{}", self.port);
        let node = Node::serve(broker.clone(), &url, NodeOptions::default()).await.expect("it listens");
        self.port = address(&node).port();
        self.now = Some((node, broker));
    }

    async fn stop(&mut self) {
        if let Some((node, broker)) = self.now.take() {
            node.stop().await;
            drop(broker);
        }
    }

    fn url(&self) -> String {
        format!("zmq://127.0.0.1:{}", self.port)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_comes_back_gets_again_what_it_did_not_answer_and_gives_again_what_it_gave() {
    let mut node = Restarts::new().await;
    let broker = connect(&node.url()).await;
    within(broker.publish((0..3).map(event).collect())).await.expect("they are stored");
    let mut subscription = subscribe(&broker, "g").await;
    let mut taken = Vec::new();
    while taken.len() < 3 {
        taken.extend(within(subscription.receiver.receive(10)).await.expect("they come"));
    }
    within(subscription.settler.settle(vec![ack(&taken[0])])).await.expect("it is settled");
    node.stop().await;
    let publishing = tokio::spawn({
        let broker = broker.clone();
        async move { broker.publish(vec![event(3)]).await }
    });
    node.start().await;
    within(publishing).await.expect("it ends").expect("it is stored");
    assert_eq!(within(subscription.settler.changed()).await, Change::Revoked(taken[0].tag.incarnation));
    // What is settled from before means nothing any more.
    within(subscription.settler.settle(vec![ack(&taken[1])])).await.expect("it does nothing");
    let mut again = Vec::new();
    while again.len() < 3 {
        again.extend(within(subscription.receiver.receive(10)).await.expect("they come again"));
    }
    assert_eq!(again.iter().map(|one| number(&one.envelope)).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(subscription.settler.changed().now_or_never(), Some(Change::Assigned(again[0].tag.incarnation)));
    assert_ne!(again[0].tag.incarnation, taken[0].tag.incarnation);
    within(subscription.settler.settle(again.iter().map(ack).collect())).await.expect("they are settled");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_parked_on_a_node_that_comes_back_is_announced_with_its_incarnation() {
    let mut node = Restarts::new().await;
    let broker = connect(&node.url()).await;
    within(broker.publish(vec![event(1)])).await.expect("it is stored");
    let mut subscription = subscribe(&broker, "g").await;
    let taken = within(subscription.receiver.receive(1)).await.expect("it comes");
    let park = Settlement::Park { tag: taken[0].tag, attempts: 1, lanes: vec![], reason: None };
    within(subscription.settler.settle(vec![park])).await.expect("it is parked");
    node.stop().await;
    node.start().await;
    assert_eq!(within(subscription.settler.changed()).await, Change::Revoked(taken[0].tag.incarnation));
    let Change::Assigned(now) = within(subscription.settler.changed()).await else { panic!("it is assigned") };
    let parked = within(subscription.settler.parked()).await.expect("it says");
    assert_eq!(parked.iter().map(|parked| parked.tag.incarnation).collect::<Vec<_>>(), [now]);
    let back = within(subscription.settler.unpark(vec![parked[0].tag])).await.expect("it comes back");
    within(subscription.settler.settle(vec![ack(&back[0])])).await.expect("it is settled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_gives_up_on_a_node_that_stays_away() {
    let mut node = Restarts::new().await;
    let broker = connect(&format!("{}?patience_seconds=1", node.url())).await;
    node.stop().await;
    let error = within(broker.publish(vec![event(1)])).await.expect_err("nobody is there");
    assert_eq!(error.code(), Code::BrokerUnavailable);
    node.start().await;
    within(async { while broker.publish(vec![event(1)]).await.is_err() {} }).await;
    within(broker.close()).await.expect("closing works");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_for_one_who_does_not_receive_for_a_while_goes_to_others() {
    let node = node(NodeOptions::default()).await;
    let (one, other) = (connect(&node.url()).await, connect(&node.url()).await);
    let mut resting = subscribe(&one, "g").await;
    let mut receiving = subscribe(&other, "g").await;
    for round in 0..3 {
        assert!(resting.receiver.receive(100).now_or_never().is_none(), "the node is asked, and nothing is there");
        resting.receiver.give_back();
        within(one.publish((0..10).map(event).collect())).await.expect("they are stored");
        let mut seen = BTreeSet::new();
        while seen.len() < 10 {
            let taken = within(receiving.receiver.receive(100)).await.expect("they come");
            assert!(taken.iter().all(|taken| taken.attempt == 1), "no attempt is counted");
            seen.extend(taken.iter().map(|taken| number(&taken.envelope)));
            within(receiving.settler.settle(taken.iter().map(ack).collect())).await.expect("they are settled");
        }
        assert_eq!(within(resting.settler.backlog()).await.expect("it says"), Some(0), "round {round}");
    }
    // Whoever receives again is given what comes.
    drop(receiving);
    within(one.publish(vec![event(1)])).await.expect("it is stored");
    assert_eq!(within(resting.receiver.receive(1)).await.expect("it comes").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_events_keeps_nobody_from_publishing_and_no_session_from_going_on() {
    // A take that waits is one request, and everything that is answered behind it is kept.
    let node = node(NodeOptions { max_in_flight: 1, ..NodeOptions::default() }).await;
    let broker = connect(&node.url()).await;
    let idle = SubscriptionSpec::new(Topic::new("idle").expect("a topic"), "g");
    let mut subscription = within(broker.subscribe(idle)).await.expect("it opens");
    let receiving = tokio::spawn(async move { (subscription.receiver.receive(9).await, subscription.settler) });
    for n in 0..50 {
        within(broker.publish(vec![event(n)])).await.expect("it is stored");
    }
    let last = Outgoing { topic: Topic::new("idle").expect("a topic"), ..event(50) };
    within(broker.publish(vec![last])).await.expect("it is stored");
    let (taken, settler) = within(receiving).await.expect("it comes");
    assert_eq!(taken.expect("it comes").len(), 1);
    assert!(futures_util::poll!(settler.changed()).is_pending(), "the session is the one in which it was opened");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_nobody_waited_for_takes_no_keys() {
    let node = node(NodeOptions::default()).await;
    let broker = connect(&node.url()).await;
    let mut opening = broker.subscribe(SubscriptionSpec::new(topic(), "g"));
    assert!(futures_util::poll!(&mut opening).is_pending());
    drop(opening);
    let mut subscription = within(broker.subscribe(SubscriptionSpec::new(topic(), "g"))).await.expect("it opens");
    within(broker.publish((0..100).map(event).collect())).await.expect("they are stored");
    let mut seen = 0;
    while seen < 100 {
        seen += within(subscription.receiver.receive(100)).await.expect("they come").len();
    }
}
