//! What a client does when the node falls silent, ends its connection, or refuses it: the node's side is said byte by byte.

mod peer;

use std::os::unix::fs::PermissionsExt;

use commute_core::{Broker, SharedBroker};
use commute_embedded::storage::Memory;
use commute_zeromq::{Node, NodeOptions};
use futures_util::poll;
use peer::{Peer, event, log, try_connect, within};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// A node that is a test. It gives a lease that is long, unless a test says another.
struct Fake {
    listener: TcpListener,
    lease_ms: u64,
}

impl Fake {
    async fn new(lease_ms: u64) -> (Fake, Peer, SharedBroker) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("zmq://{}", listener.local_addr().expect("an address"));
        let connecting = tokio::spawn(async move { try_connect(&url).await.expect("it is welcome") });
        let fake = Fake { listener, lease_ms };
        let (mut first, hello) = fake.called().await;
        assert_eq!(hello.get("session"), None);
        fake.welcome(&mut first, false).await;
        (fake, first, within(connecting).await.expect("it connects"))
    }

    /// The next connection, and what it says first.
    async fn called(&self) -> (Peer, Value) {
        let mut peer = Peer::router(&self.listener).await;
        let (kind, hello) = peer.hear().await.expect("it says hello");
        assert_eq!(kind, "HELLO");
        (peer, hello)
    }

    async fn welcome(&self, peer: &mut Peer, resumed: bool) {
        let node = log(&Memory::new());
        let welcome = json!({
            "session": "s", "resumed": resumed, "capabilities": node.capabilities(), "heartbeat_ms": self.lease_ms / 4,
            "lease_ms": self.lease_ms, "max_message_bytes": 1 << 20, "max_in_flight": 64
        });
        peer.ask("WELCOME", 0, &welcome, b"").await;
    }

    /// The same session in the next connection.
    async fn resumed(&self) -> Peer {
        let (mut peer, hello) = self.called().await;
        assert_eq!(hello["session"], "s");
        self.welcome(&mut peer, true).await;
        peer
    }
}

/// The next request, with its number and how many events it has; heartbeats are not requests.
async fn request(peer: &mut Peer) -> (String, Value) {
    loop {
        let (kind, header) = peer.hear().await.expect("a request");
        if kind != "PING" {
            return (kind, header);
        }
    }
}

fn stored(positions: &[u64]) -> Value {
    let receipts: Vec<_> = positions.iter().map(|n| json!({ "position": n, "duplicate": false })).collect();
    json!({ "receipts": receipts })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_answered_is_asked_again_and_each_gets_its_own_answer() {
    let (fake, mut first, broker) = Fake::new(60_000).await;
    let mut one = broker.publish(vec![event(1)]);
    assert!(poll!(&mut one).is_pending());
    assert_eq!(request(&mut first).await.0, "PUBLISH");
    drop(first);
    let (mut next, hello) = fake.called().await;
    assert_eq!(hello["session"], "s");
    // Asked while nobody is connected, so these go together.
    let (mut two, mut three) = (broker.publish(vec![event(2)]), broker.publish(vec![event(3)]));
    assert!(poll!(&mut two).is_pending() && poll!(&mut three).is_pending());
    fake.welcome(&mut next, true).await;
    let (kind, again) = request(&mut next).await;
    assert_eq!((kind.as_str(), again["events"].as_array().map(Vec::len)), ("PUBLISH", Some(1)));
    let (kind, together) = request(&mut next).await;
    assert_eq!((kind.as_str(), together["events"].as_array().map(Vec::len)), ("PUBLISH", Some(2)));
    // Answered in another order than asked.
    next.ask("STORED", 2, &stored(&[12, 13]), b"").await;
    next.ask("STORED", 1, &stored(&[11]), b"").await;
    for (publish, position) in [(one, 11), (two, 12), (three, 13)] {
        assert_eq!(within(publish).await.expect("it is stored")[0].position, Some(position));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_falls_silent_is_left_and_called_again() {
    let (fake, mut first, _broker) = Fake::new(200).await;
    fake.resumed().await;
    first.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_refused_is_over_and_the_session_goes_on_in_the_next() {
    let (fake, mut first, _broker) = Fake::new(60_000).await;
    first.ask("REFUSED", 0, &json!({ "code": "CM0015", "detail": "not now" }), b"").await;
    fake.resumed().await;
    first.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_is_its_owners() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("node.sock");
    let url = format!("zmq+ipc://{}", path.display());
    let node = Node::serve(log(&Memory::new()), &url, NodeOptions::default()).await.expect("it listens");
    let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(node);
}
