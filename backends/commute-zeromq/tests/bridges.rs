//! Plain ZeroMQ programs send into a node, and get what a group has.
#![cfg(feature = "bridges")]

mod peer;

use commute_core::admin::GroupInfo;
use commute_core::{Settlement, SharedBroker, SubscriptionSpec};
use commute_zeromq::NodeOptions;
use peer::{connect, event, node, topic, within};
use zeromq::{PubSocket, PullSocket, PushSocket, Socket, SocketRecv, SocketSend, SubSocket, ZmqMessage};

/// The host and port of an endpoint.
fn place(endpoint: &zeromq::Endpoint) -> String {
    endpoint.to_string().trim_start_matches("tcp://").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_push_socket_sends_is_durable_and_in_order() {
    let node = node(NodeOptions::default()).await;
    let mut push = PushSocket::new();
    let at = place(&push.bind("tcp://127.0.0.1:0").await.expect("a port"));
    node.bridge(&format!("zmq+pull://{at}?topic=tests&type=legacy.job")).expect("a bridge");
    let mut sent = 0;
    while sent < 20 {
        // Until the bridge has connected there is nobody to send to.
        match push.send(format!("job {sent}").into()).await {
            Ok(()) => sent += 1,
            Err(_) => tokio::task::yield_now().await,
        }
    }
    let broker = connect(&node.url()).await;
    let mut subscription = within(broker.subscribe(SubscriptionSpec::new(topic(), "g"))).await.expect("it opens");
    let mut seen = Vec::new();
    while seen.len() < 20 {
        for one in within(subscription.receiver.receive(100)).await.expect("they come") {
            assert_eq!(&*one.envelope.event_type, "legacy.job");
            seen.push(String::from_utf8(one.envelope.data.to_vec()).expect("text"));
        }
    }
    assert_eq!(seen, (0..20).map(|n| format!("job {n}")).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pub_socket_says_comes_in_with_its_first_frame_as_the_key() {
    let node = node(NodeOptions::default()).await;
    let mut publisher = PubSocket::new();
    let at = place(&publisher.bind("tcp://127.0.0.1:0").await.expect("a port"));
    node.bridge(&format!("zmq+sub://{at}?topic=tests&prefix=paris")).expect("a bridge");
    let broker = connect(&node.url()).await;
    let mut subscription = within(broker.subscribe(SubscriptionSpec::new(topic(), "g"))).await.expect("it opens");
    let saying = tokio::spawn(async move {
        loop {
            // Who subscribes late misses what was said: so it is said until somebody has heard it.
            for city in ["london", "paris"] {
                let mut message = ZmqMessage::from(city);
                message.push_back("12".into());
                publisher.send(message).await.expect("it is said");
            }
            tokio::task::yield_now().await;
        }
    });
    let taken = within(subscription.receiver.receive(1)).await.expect("it comes");
    saying.abort();
    assert_eq!((taken[0].envelope.partition_key(), &taken[0].envelope.data[..]), (Some("paris"), b"12".as_slice()));
}

/// What is known of the group `out`.
async fn group(broker: &SharedBroker) -> Option<GroupInfo> {
    let admin = broker.admin().expect("a node has administration");
    let groups = within(admin.groups(Some(topic()))).await.expect("it says");
    groups.into_iter().find(|known| &*known.subscription.group == "out")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_out_waits_for_a_peer_and_is_acknowledged_then() {
    let node = node(NodeOptions::default()).await;
    let broker = connect(&node.url()).await;
    within(broker.publish((0..5).map(event).collect())).await.expect("they are stored");
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let contract = node.bridge(&format!("zmq+push://{free}?topic=tests&group=out&bind=true")).expect("a bridge");
    assert!(
        contract.starts_with(&format!("tests out to tcp://{free} for the group out: waits while nobody is there;")),
        "{contract}"
    );
    within(async { while group(&broker).await.is_none_or(|known| known.in_flight != Some(5)) {} }).await;
    let mut pull = PullSocket::new();
    within(async { while pull.connect(&format!("tcp://{free}")).await.is_err() {} }).await;
    for n in 0..5 {
        let message = within(pull.recv()).await.expect("it comes").into_vec();
        assert_eq!(&message[0][..], n.to_string().as_bytes());
    }
    within(async { while group(&broker).await.is_none_or(|known| known.settled_below != Some(5)) {} }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_groups_events_go_to_pull_and_to_sub_sockets() {
    let node = node(NodeOptions::default()).await;
    let broker = connect(&node.url()).await;
    within(broker.publish((0..5).map(event).collect())).await.expect("they are stored");
    let mut pull = PullSocket::new();
    let at = place(&pull.bind("tcp://127.0.0.1:0").await.expect("a port"));
    node.bridge(&format!("zmq+push://{at}?topic=tests&group=out")).expect("a bridge");
    for n in 0..5 {
        let message = within(pull.recv()).await.expect("it comes").into_vec();
        assert_eq!(&message[0][..], n.to_string().as_bytes());
    }
    // Acknowledged: the group has nothing left.
    let mut subscription = within(broker.subscribe(SubscriptionSpec::new(topic(), "other"))).await.expect("it opens");
    let taken = within(subscription.receiver.receive(1)).await.expect("it comes");
    within(subscription.settler.settle(vec![Settlement::Return { tag: taken[0].tag }])).await.expect("it goes back");
    let mut heard = SubSocket::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    node.bridge(&format!("zmq+pub://{free}?topic=tests&group=shout&bind=true")).expect("a bridge");
    within(async { while heard.connect(&format!("tcp://{free}")).await.is_err() {} }).await;
    heard.subscribe("tests.event").await.expect("it subscribes");
    let hearing = tokio::spawn(async move { heard.recv().await.expect("it is heard").into_vec() });
    // What was said before somebody listened is gone, so it is said until somebody has.
    within(async {
        let mut n = 5;
        while !hearing.is_finished() {
            broker.publish(vec![event(n)]).await.expect("it is stored");
            n += 1;
        }
    })
    .await;
    assert_eq!(&within(hearing).await.expect("it ends")[0][..], b"tests.event");
}
