//! What the tests share: a node on a log in memory, and a peer that says whatever a test wants, byte by byte.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use commute_core::{Address, Envelope, Outgoing, SharedBroker, Timestamp, Topic};
use commute_embedded::storage::Memory;
use commute_embedded::{Embedded, Options};
use commute_zeromq::{Node, NodeOptions};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A log in memory.
pub(crate) fn log(storage: &Memory) -> Arc<Embedded> {
    let options = Options { segment_bytes: 64 << 10, tail_bytes: 4 << 10, prepare: false, ..Options::default() };
    Embedded::in_memory(storage, options).expect("it opens")
}

/// A node on a log of its own.
pub(crate) async fn node(options: NodeOptions) -> Node {
    Node::serve(log(&Memory::new()), "zmq://127.0.0.1:0", options).await.expect("it listens")
}

/// Where a node listens.
pub(crate) fn address(node: &Node) -> SocketAddr {
    node.url().trim_start_matches("zmq://").parse().expect("an address")
}

pub(crate) async fn try_connect(url: &str) -> commute_core::Result<SharedBroker> {
    (commute_zeromq::DRIVER.connect)(Address::parse(url).expect("a URL")).await
}

pub(crate) async fn connect(url: &str) -> SharedBroker {
    try_connect(url).await.expect("the node is there")
}

pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it does not take for ever")
}

pub(crate) fn topic() -> Topic {
    Topic::new("tests").expect("a topic")
}

/// An event with a number.
pub(crate) fn event(number: usize) -> Outgoing {
    let envelope = Envelope::new("tests", "tests.event", Timestamp(1), number.to_string().into());
    Outgoing { topic: topic(), envelope, not_before: None }
}

pub(crate) fn number(envelope: &Envelope) -> usize {
    std::str::from_utf8(&envelope.data).expect("a number").parse().expect("a number")
}

/// Whether a client can still do everything: publishes, receives and settles.
pub(crate) async fn works(broker: &SharedBroker, group: &str) {
    let spec = commute_core::SubscriptionSpec::new(topic(), group);
    let mut subscription = within(broker.subscribe(spec)).await.expect("it opens");
    let receipts = within(broker.publish(vec![event(7)])).await.expect("it is stored");
    assert_eq!(receipts.len(), 1);
    let taken = within(subscription.receiver.receive(100)).await.expect("it comes");
    let acks = taken.iter().map(|taken| commute_core::Settlement::Ack { tag: taken.tag, publish: vec![], mark: false });
    within(subscription.settler.settle(acks.collect())).await.expect("it is settled");
}

/// A peer that speaks bytes.
pub(crate) struct Peer(pub(crate) TcpStream);

impl Peer {
    /// Connects, and says nothing.
    pub(crate) async fn silent(to: SocketAddr) -> Peer {
        let stream = TcpStream::connect(to).await.expect("it connects");
        // So that the many small things it says are not held back.
        stream.set_nodelay(true).expect("it is a socket");
        Peer(stream)
    }

    /// A socket of this kind that has greeted.
    pub(crate) async fn socket(to: SocketAddr, kind: &str) -> Peer {
        let mut peer = Peer::silent(to).await;
        peer.greet(kind).await;
        peer
    }

    /// The node's end of a connection, for a client that is to be fooled: a ROUTER that has greeted.
    pub(crate) async fn router(listener: &TcpListener) -> Peer {
        let (stream, _) = within(listener.accept()).await.expect("a client");
        let mut peer = Peer(stream);
        peer.greet("ROUTER").await;
        peer
    }

    async fn greet(&mut self, kind: &str) {
        let peer = self;
        let mut greeting = [0; 64];
        (greeting[0], greeting[9], greeting[10], greeting[11]) = (0xff, 0x7f, 3, 1);
        greeting[12..16].copy_from_slice(b"NULL");
        peer.say(&greeting).await;
        let mut ready = b"\x05READY\x0bSocket-Type".to_vec();
        ready.extend(u32::try_from(kind.len()).expect("short").to_be_bytes());
        ready.extend(kind.as_bytes());
        peer.frame(4, &ready).await;
        let mut theirs = [0; 64];
        within(peer.0.read_exact(&mut theirs)).await.expect("a greeting");
    }

    /// A DEALER that has a session. Answers its welcome.
    pub(crate) async fn welcomed(to: SocketAddr) -> (Peer, Value) {
        let mut peer = Peer::socket(to, "DEALER").await;
        peer.ask("HELLO", 0, &json!({ "client": "peer" }), b"").await;
        let (kind, welcome) = peer.hear().await.expect("an answer");
        assert_eq!(kind, "WELCOME");
        (peer, welcome)
    }

    pub(crate) async fn say(&mut self, bytes: &[u8]) {
        // Whoever was refused may have been disconnected already.
        let _ = self.0.write_all(bytes).await;
    }

    pub(crate) async fn frame(&mut self, flags: u8, body: &[u8]) {
        let mut frame = vec![flags | 2];
        frame.extend((body.len() as u64).to_be_bytes());
        frame.extend(body);
        self.say(&frame).await;
    }

    pub(crate) async fn message(&mut self, frames: &[&[u8]]) {
        for (n, frame) in frames.iter().enumerate() {
            self.frame(u8::from(n + 1 < frames.len()), frame).await;
        }
    }

    pub(crate) async fn ask(&mut self, kind: &str, number: u64, header: &Value, body: &[u8]) {
        let (number, header) = (number.to_string(), header.to_string());
        self.message(&[b"CM1", kind.as_bytes(), number.as_bytes(), header.as_bytes(), body]).await;
    }

    pub(crate) async fn next_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let flags = self.0.read_u8().await.ok()?;
        let length = match flags & 2 {
            0 => u64::from(self.0.read_u8().await.ok()?),
            _ => self.0.read_u64().await.ok()?,
        };
        let mut body = vec![0; usize::try_from(length).ok()?];
        self.0.read_exact(&mut body).await.ok()?;
        Some((flags, body))
    }

    /// Kind and header of the next message; nothing when the node has ended the connection.
    pub(crate) async fn hear(&mut self) -> Option<(String, Value)> {
        within(async {
            let mut frames = Vec::new();
            loop {
                let (flags, body) = self.next_frame().await?;
                if flags & 4 == 0 {
                    frames.push(body);
                    if flags & 1 == 0 {
                        break;
                    }
                }
            }
            let header = serde_json::from_slice(&frames[3]).expect("JSON");
            Some((String::from_utf8(frames[1].clone()).expect("text"), header))
        })
        .await
    }

    /// The code with which the node ends the connection.
    pub(crate) async fn refused(&mut self) -> String {
        let mut code = "nothing".to_owned();
        while let Some((kind, header)) = self.hear().await {
            if kind == "REFUSED" {
                code = header["code"].as_str().expect("a code").to_owned();
            }
        }
        code
    }

    /// Waits until the node ends the connection, whatever it says before.
    pub(crate) async fn ended(&mut self) {
        let mut sink = [0; 4096];
        within(async { while matches!(self.0.read(&mut sink).await, Ok(1..)) {} }).await;
    }
}
