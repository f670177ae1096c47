//! A peer that says anything wrong is refused with a code, and nobody else notices.

mod peer;

use std::io::{BufRead, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use commute_core::{
    BoxFuture, Broker, Capabilities, Code, Outgoing, Receipt, Result, Settlement, Subscription, SubscriptionSpec,
};
use commute_embedded::Embedded;
use commute_embedded::storage::Memory;
use commute_zeromq::{Node, NodeOptions};
use futures_util::{StreamExt, stream};
use peer::{Peer, address, connect, event, log, node, number, topic, try_connect, within, works};
use serde_json::json;

const MISMATCH: Code = Code::NotUnderstood;

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_are_none_end_their_connection_and_no_other() {
    let node = node(NodeOptions::default()).await;
    let bystander = connect(&node.url()).await;
    let to = address(&node);
    // No ZMTP at all.
    let mut http = Peer::silent(to).await;
    http.say(&[b"GET / HTTP/1.1\r\n\r\n".as_slice(), &[b' '; 64]].concat()).await;
    http.ended().await;
    // A kind of socket that a ROUTER does not talk to.
    let mut wrong = Peer::socket(to, "SUB").await;
    wrong.ask("HELLO", 0, &json!({ "client": "wrong" }), b"").await;
    assert_eq!(wrong.hear().await, None, "whatever it says next");
    // Flags that there are not, after a good greeting.
    let mut flags = Peer::socket(to, "DEALER").await;
    flags.say(&[0xf0; 32]).await;
    flags.ended().await;
    // Things that are no message of the protocol.
    for frames in [
        vec![b"CM9".as_slice(), b"HELLO", b"1", b"{}", b""],
        vec![b"CM1", b"HELLO", b"1", b"{}"],
        vec![b"CM1", b"HELLO", b"1", b"{}", b"", b""],
        vec![b"CM1", b"SHRUG", b"1", b"{}", b""],
        vec![b"CM1", b"HELLO", b"one", b"{}", b""],
        vec![b"CM1", b"HELLO", b"1", b"no json", b""],
        vec![b"CM1", b"HELLO", b"1", b"[]", b""],
        vec![b"CM1", b"TAKE", b"1", b"{}", b""],
        vec![b"", b"", b"", b"", b""],
    ] {
        let mut peer = Peer::socket(to, "DEALER").await;
        peer.message(&frames).await;
        assert_eq!(peer.refused().await, MISMATCH.number(), "{frames:?}");
    }
    works(&bystander, "after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_session_what_is_wrong_with_a_request_is_answered_and_the_session_goes_on() {
    let node = node(NodeOptions::default()).await;
    let (mut peer, _) = Peer::welcomed(address(&node)).await;
    let event = json!({ "specversion": "1.0", "id": "a", "source": "s", "type": "t" });
    for (n, (kind, header, code)) in [
        ("PUBLISH", json!({ "events": [{ "topic": "t", "size": 9, "event": event }] }), MISMATCH),
        ("PUBLISH", json!({ "events": [{ "topic": "t", "size": 0, "event": {} }] }), Code::InvalidEvent),
        ("PUBLISH", json!({}), MISMATCH),
        ("TAKE", json!({ "subscription": 7, "max": 1, "wait_ms": 1 }), Code::NotFound),
        ("SETTLE", json!({ "subscription": 7, "settlements": [] }), Code::NotFound),
        ("SUBSCRIBE", json!({ "topic": "no topic!", "group": "g", "credit": 1 }), Code::InvalidTopic),
        ("WELCOME", json!({}), MISMATCH),
    ]
    .into_iter()
    .enumerate()
    {
        peer.ask(kind, n as u64 + 1, &header, b"12345678").await;
        let (kind, said) = peer.hear().await.expect("an answer");
        assert_eq!(kind, "REFUSED", "{header}");
        assert_eq!(said["code"], code.number(), "{header}: {said}");
    }
    peer.ask("PUBLISH", 99, &json!({ "events": [{ "topic": "t", "size": 2, "event": event }] }), b"ok").await;
    assert_eq!(peer.hear().await.expect("an answer").0, "STORED");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_larger_than_the_limit_is_refused_before_it_is_there() {
    let node = node(NodeOptions { max_message_bytes: 10_000, ..NodeOptions::default() }).await;
    let bystander = connect(&node.url()).await;
    let (mut peer, welcome) = Peer::welcomed(address(&node)).await;
    assert_eq!(welcome["max_message_bytes"], 10_000);
    // Four gigabytes are announced, and none of them is sent.
    peer.say(&[2, 0, 0, 0, 1, 0, 0, 0, 0]).await;
    assert_eq!(peer.refused().await, MISMATCH.number());
    // Many frames, each of them small.
    let (mut peer, _) = Peer::welcomed(address(&node)).await;
    for _ in 0..6 {
        peer.frame(1, b"x").await;
    }
    assert_eq!(peer.refused().await, MISMATCH.number());
    // Our own client says so itself, and goes on.
    let mut large = event(1);
    large.envelope.data = vec![0; 20_000].into();
    let refused = within(bystander.publish(vec![large])).await.expect_err("it is too large");
    assert_eq!(refused.code(), Code::PayloadTooLarge);
    // What is too large together goes in several messages.
    let receipts = within(bystander.publish((0..200).map(event).collect())).await.expect("all is stored");
    assert_eq!(receipts.len(), 200);
    works(&bystander, "after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_is_ended_and_its_deliveries_go_to_others() {
    let options =
        NodeOptions { max_message_bytes: 1 << 20, lease: Duration::from_millis(500), ..NodeOptions::default() };
    let node = node(options).await;
    let other = connect(&node.url()).await;
    let mut batch: Vec<_> = (0..64).map(event).collect();
    for outgoing in &mut batch {
        outgoing.envelope.data = [&outgoing.envelope.data[..], &[b' '; 100_000]].concat().into();
    }
    within(other.publish(batch)).await.expect("it is stored");
    let (mut deaf, _) = Peer::welcomed(address(&node)).await;
    deaf.ask("SUBSCRIBE", 1, &json!({ "topic": "tests", "group": "g", "credit": 1000 }), b"").await;
    assert_eq!(deaf.hear().await.expect("an answer").0, "SUBSCRIBED");
    for n in 2..66 {
        deaf.ask("TAKE", n, &json!({ "subscription": 1, "max": 1, "wait_ms": 1 }), b"").await;
    }
    // It reads nothing from here on, and says nothing any more, so that it is over after a lease.
    let mut subscription = within(other.subscribe(SubscriptionSpec::new(topic(), "g"))).await.expect("it opens");
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 64 {
        let taken = within(subscription.receiver.receive(100)).await.expect("they come");
        for delivery in &taken {
            let text = std::str::from_utf8(&delivery.envelope.data).expect("text").trim();
            seen.insert(text.parse::<usize>().expect("a number"));
        }
        let acks = taken.iter().map(|one| Settlement::Ack { tag: one.tag, publish: vec![], mark: false }).collect();
        within(subscription.settler.settle(acks)).await.expect("they are settled");
    }
    drop(deaf);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_says_what_it_has_is_ended() {
    let node = node(NodeOptions { max_in_flight: 4, ..NodeOptions::default() }).await;
    let (mut peer, _) = Peer::welcomed(address(&node)).await;
    for n in 1..100 {
        peer.ask("CONTROL", n, &json!({ "request": { "ask": "apps" } }), b"").await;
    }
    assert_eq!(peer.refused().await, MISMATCH.number());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_says_what_it_has_is_ended_sooner_when_that_is_large() {
    let node = node(NodeOptions { max_message_bytes: 8 << 10, ..NodeOptions::default() }).await;
    let (mut peer, _) = Peer::welcomed(address(&node)).await;
    let event = json!({ "specversion": "1.0", "id": "a", "source": "s", "type": "t" });
    let events = json!({ "events": [{ "topic": "tests", "size": 3000, "event": event }] });
    peer.ask("PUBLISH", 1, &events, &[b'x'; 3000]).await;
    assert_eq!(peer.hear().await.expect("an answer").0, "STORED");
    peer.ask("SUBSCRIBE", 2, &json!({ "topic": "tests", "group": "g", "credit": 1 }), b"").await;
    assert_eq!(peer.hear().await.expect("an answer").0, "SUBSCRIBED");
    peer.ask("TAKE", 3, &json!({ "subscription": 1, "max": 1, "wait_ms": 10_000 }), b"").await;
    let (_, given) = peer.hear().await.expect("an answer");
    let tag = &given["deliveries"][0];
    let tag = json!({ "position": tag["position"], "incarnation": tag["incarnation"] });
    for n in 4..40 {
        peer.ask("READ", n, &json!({ "subscription": 1, "tags": [tag] }), b"").await;
    }
    assert_eq!(peer.refused().await, MISMATCH.number());
}

/// A broker that takes its time, and knows how many publishes it ever had at once.
struct Slow {
    log: Arc<Embedded>,
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Broker for Slow {
    fn driver(&self) -> &'static str {
        "slow"
    }

    fn address(&self) -> &str {
        "slow"
    }

    fn capabilities(&self) -> &Capabilities {
        self.log.capabilities()
    }

    fn publish(&self, batch: Vec<Outgoing>) -> BoxFuture<'_, Result<Vec<Receipt>>> {
        Box::pin(async move {
            self.most.fetch_max(self.now.fetch_add(1, Relaxed) + 1, Relaxed);
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            self.now.fetch_sub(1, Relaxed);
            self.log.publish(batch).await
        })
    }

    fn subscribe(&self, spec: SubscriptionSpec) -> BoxFuture<'_, Result<Subscription>> {
        self.log.subscribe(spec)
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        self.log.close()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_one_client_so_many_requests_are_under_way_and_the_others_wait() {
    let broker = Arc::new(Slow { log: log(&Memory::new()), now: AtomicUsize::new(0), most: AtomicUsize::new(0) });
    let options = NodeOptions { max_in_flight: 4, ..NodeOptions::default() };
    let node = Node::serve(broker.clone(), "zmq://127.0.0.1:0", options).await.expect("it listens");
    let (mut peer, _) = Peer::welcomed(address(&node)).await;
    for n in 1..=16 {
        peer.ask("PUBLISH", n, &json!({ "events": [] }), b"").await;
    }
    for _ in 1..=16 {
        assert_eq!(peer.hear().await.expect("an answer").0, "STORED");
    }
    let most = broker.most.load(Relaxed);
    assert!(most <= 4, "{most} at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_settles_what_another_has() {
    let node = node(NodeOptions::default()).await;
    let owner = connect(&node.url()).await;
    within(owner.publish(vec![event(1), event(2)])).await.expect("it is stored");
    let mut subscription = within(owner.subscribe(SubscriptionSpec::new(topic(), "g"))).await.expect("it opens");
    let taken = within(subscription.receiver.receive(1)).await.expect("it comes");
    let (mut thief, _) = Peer::welcomed(address(&node)).await;
    thief.ask("SUBSCRIBE", 1, &json!({ "topic": "tests", "group": "g", "credit": 1 }), b"").await;
    assert_eq!(thief.hear().await.expect("an answer").0, "SUBSCRIBED");
    let tag = taken[0].tag;
    let claim = json!({ "do": "ack", "position": tag.position, "incarnation": tag.incarnation });
    thief.ask("SETTLE", 2, &json!({ "subscription": 1, "settlements": [claim] }), b"").await;
    let (kind, said) = thief.hear().await.expect("an answer");
    assert_eq!((kind.as_str(), &said["code"]), ("REFUSED", &json!(Code::AccessRefused.number())));
    // Nor does anybody go on with a session by guessing.
    let mut guess = Peer::socket(address(&node), "DEALER").await;
    guess.ask("HELLO", 0, &json!({ "client": "guess", "session": "0".repeat(32) }), b"").await;
    assert_eq!(guess.hear().await.expect("an answer").1["resumed"], false);
    within(subscription.settler.settle(vec![Settlement::Return { tag }])).await.expect("it is still the owner's");
    drop((thief, guess));
    let again = within(subscription.receiver.receive(1)).await.expect("it comes again");
    assert_eq!(number(&again[0].envelope), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_beyond_this_machine_needs_a_key_and_so_do_its_clients() {
    let refused = Node::serve(log(&Memory::new()), "zmq://0.0.0.0:0", NodeOptions::default()).await;
    assert_eq!(refused.expect_err("nothing would keep strangers out").code(), Code::InvalidOption);
    let file = |key: &str| {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        writeln!(file, "{key}").expect("it is written");
        file
    };
    let (right, wrong) = (file("0123456789abcdef0123"), file("0123456789abcdef0124"));
    let options = NodeOptions { key_file: Some(right.path().to_owned()), ..NodeOptions::default() };
    let node = Node::serve(log(&Memory::new()), "zmq://0.0.0.0:0", options).await.expect("with a key it listens");
    let url = node.url().replace("0.0.0.0", "127.0.0.1");
    works(&connect(&format!("{url}?key_file={}", right.path().display())).await, "g").await;
    for url in [url.clone(), format!("{url}?key_file={}", wrong.path().display())] {
        let refused = try_connect(&url).await.err().expect("it has not the key");
        assert_eq!(refused.code(), Code::AccessRefused, "{refused}");
    }
    // A node that cannot prove that it has the key is not talked to.
    let keyless = peer::node(NodeOptions::default()).await;
    let refused = try_connect(&format!("{}?key_file={}", keyless.url(), right.path().display())).await.err();
    assert_eq!(refused.expect("it is not the node that was meant").code(), Code::AccessRefused);
    let mut liar = Peer::socket(address_of(&url), "DEALER").await;
    liar.ask("HELLO", 0, &json!({ "client": "liar", "nonce": "00" }), b"").await;
    assert_eq!(liar.hear().await.expect("an answer").0, "CHALLENGE");
    liar.ask("PROOF", 0, &json!({ "proof": "00" }), b"").await;
    assert_eq!(liar.refused().await, Code::AccessRefused.number());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_says_to_have_the_key_is_shown_no_proof_of_it() {
    let mut key = tempfile::NamedTempFile::new().expect("a file");
    writeln!(key, "0123456789abcdef0123").expect("it is written");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("zmq://{}?key_file={}", listener.local_addr().expect("an address"), key.path().display());
    let connecting = tokio::spawn(async move { try_connect(&url).await.err() });
    let mut false_node = Peer::router(&listener).await;
    assert_eq!(false_node.hear().await.expect("it says hello").0, "HELLO");
    false_node.ask("CHALLENGE", 0, &json!({ "nonce": "00", "proof": "00".repeat(32) }), b"").await;
    assert_eq!(false_node.hear().await, None, "it has nothing more to say to it");
    let refused = within(connecting).await.expect("it ends").expect("it is not the node that was meant");
    assert_eq!(refused.code(), Code::AccessRefused);
}

fn address_of(url: &str) -> std::net::SocketAddr {
    url.trim_start_matches("zmq://").parse().expect("an address")
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_connected_and_says_nothing_takes_a_place_too() {
    let node = node(NodeOptions { connections: 1, ..NodeOptions::default() }).await;
    let _silent = Peer::silent(address(&node)).await;
    let mut late = Peer::socket(address(&node), "DEALER").await;
    late.ask("HELLO", 0, &json!({ "client": "late" }), b"").await;
    assert_eq!(late.refused().await, Code::BrokerUnavailable.number(), "there is no room");
}

/// As many as a node has room for, unless told otherwise.
const MANY: usize = 10_000;
/// What one connection without anything to say may cost; 15 KiB were measured in a debug build.
const EACH_BYTES: usize = 64 << 10;
const THEIR_NODE: &str = "COMMUTE_TEST_NODE";
const THEIR_COUNT: &str = "COMMUTE_TEST_CONNECTIONS";

/// As many descriptors as this process may have.
fn descriptors() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).expect("up to the hard limit anybody may");
    most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX)
}

/// What this process has in memory, in bytes.
fn memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux says it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it is among them");
    let kilobytes: usize = line.split_whitespace().next().and_then(|text| text.parse().ok()).expect("a number");
    kilobytes << 10
}

/// The clients of the test below are in a process of their own: both ends of so many connections are more descriptors than many a
/// process may have.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it is the other process of a test, which starts it"]
async fn clients_that_say_nothing() {
    let Ok(to) = std::env::var(THEIR_NODE) else { return };
    let count: usize = std::env::var(THEIR_COUNT).expect("how many").parse().expect("a number");
    descriptors();
    let to = to.parse().expect("an address");
    let peers: Vec<_> = stream::iter(0..count).map(|_| Peer::welcomed(to)).buffer_unordered(32).collect().await;
    println!("connected {}", peers.len());
    // Until nobody is at the other end.
    tokio::task::spawn_blocking(|| std::io::stdin().lock().lines().count()).await.expect("it ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_limit_connections_are_told_so_and_ten_thousand_below_it_disturb_nobody() {
    let many = MANY.min(descriptors() - 500);
    // Longer than it takes to connect them all, because they say nothing.
    let lease = Duration::from_secs(600);
    let node = node(NodeOptions { connections: many + 1, lease, ..NodeOptions::default() }).await;
    let bystander = connect(&node.url()).await;
    let to = address(&node);
    works(&bystander, "few").await;
    let before = memory();
    let mut clients = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "clients_that_say_nothing", "--ignored", "--nocapture"])
        .env(THEIR_NODE, to.to_string())
        .env(THEIR_COUNT, many.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let said = clients.stdout.take().expect("its output");
    let connected = tokio::task::spawn_blocking(move || {
        let wanted = format!("connected {many}");
        std::io::BufReader::new(said).lines().map_while(Result::ok).any(|line| line.ends_with(&wanted))
    });
    assert!(connected.await.expect("it is read"), "all of them have a session");
    assert_eq!(node.sessions(), many + 1);
    let each = memory().saturating_sub(before) / many;
    println!("{many} connections, {each} bytes for each");
    assert!(each < EACH_BYTES, "{each} bytes for one connection");
    works(&bystander, "many").await;
    let mut late = Peer::socket(to, "DEALER").await;
    late.ask("HELLO", 0, &json!({ "client": "late" }), b"").await;
    assert_eq!(late.refused().await, Code::BrokerUnavailable.number(), "there is no room");
    drop(clients.stdin.take());
    // Nothing is kept for those that had nothing.
    within(async {
        while node.sessions() > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    works(&bystander, "alone").await;
    clients.wait().expect("it ends");
}
