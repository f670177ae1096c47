//! What `docs/brokers/zeromq.md` says of a session holds for a peer that says it byte by byte.

mod peer;

use std::time::Duration;

use commute_zeromq::NodeOptions;
use peer::{Peer, address, node, within};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

fn publish(id: &str) -> Value {
    let event = json!({ "specversion": "1.0", "id": id, "source": "s", "type": "t", "partitionkey": id });
    json!({ "events": [{ "topic": "tests", "size": 1, "event": event }] })
}

fn take(wait_ms: u64) -> Value {
    json!({ "subscription": 1, "max": 9, "wait_ms": wait_ms })
}

/// A peer that has published these, and has a subscription with this credit; its next number is 3.
async fn subscribed(to: std::net::SocketAddr, ids: &[&str], credit: usize) -> Peer {
    let (mut peer, _) = Peer::welcomed(to).await;
    let events: Vec<_> = ids.iter().map(|id| publish(id)["events"][0].clone()).collect();
    peer.ask("PUBLISH", 1, &json!({ "events": events }), &vec![b'x'; ids.len()]).await;
    assert_eq!(peer.hear().await.expect("an answer").0, "STORED");
    peer.ask("SUBSCRIBE", 2, &json!({ "topic": "tests", "group": "g", "credit": credit }), b"").await;
    assert_eq!(peer.hear().await.expect("an answer").0, "SUBSCRIBED");
    peer
}

/// Takes under a number; answers the positions that came.
async fn taken(peer: &mut Peer, number: u64) -> Vec<Value> {
    peer.ask("TAKE", number, &take(1), b"").await;
    let (kind, given) = peer.hear().await.expect("an answer");
    assert_eq!(kind, "DELIVERIES", "{given}");
    given["deliveries"].as_array().expect("a list").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_said_twice_is_carried_out_once() {
    let node = node(NodeOptions::default()).await;
    let (mut peer, _) = Peer::welcomed(address(&node)).await;
    for _ in 0..2 {
        peer.ask("PUBLISH", 1, &publish("a"), b"x").await;
        let (kind, stored) = peer.hear().await.expect("an answer");
        assert_eq!((kind.as_str(), &stored["receipts"][0]["duplicate"]), ("STORED", &json!(false)));
    }
    // Under another number it is another request.
    peer.ask("PUBLISH", 2, &publish("a"), b"x").await;
    assert_eq!(peer.hear().await.expect("an answer").1["receipts"][0]["duplicate"], true);
    peer.ask("SUBSCRIBE", 3, &json!({ "topic": "other", "group": "g", "credit": 9 }), b"").await;
    assert_eq!(peer.hear().await.expect("an answer").0, "SUBSCRIBED");
    // So it is while it is under way.
    for _ in 0..3 {
        peer.ask("TAKE", 4, &take(10_000), b"").await;
    }
    let mut other = publish("b");
    other["events"][0]["topic"] = json!("other");
    peer.ask("PUBLISH", 5, &other, b"x").await;
    let mut kinds = [peer.hear().await.expect("an answer").0, peer.hear().await.expect("an answer").0];
    kinds.sort_unstable();
    assert_eq!(kinds, ["DELIVERIES", "STORED"]);
    peer.ask("BACKLOG", 6, &json!({ "subscription": 1 }), b"").await;
    assert_eq!(peer.hear().await.expect("an answer").0, "COUNT", "nothing was answered twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_which_answers_it_has_may_go_on_for_ever() {
    // So few requests at once, and so few answers that are kept.
    let node = node(NodeOptions { max_in_flight: 4, ..NodeOptions::default() }).await;
    let (mut peer, _) = Peer::welcomed(address(&node)).await;
    for number in 1..100 {
        let number = format!("{number} {number}");
        peer.message(&[b"CM1", b"CONTROL", number.as_bytes(), br#"{"request":{"ask":"apps"}}"#, b""]).await;
        assert_eq!(peer.hear().await.expect("an answer").0, "CONTROLLED");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_take_that_waits_is_answered_before_the_client_could_say_too_little() {
    let node = node(NodeOptions { max_in_flight: 4, ..NodeOptions::default() }).await;
    let mut peer = subscribed(address(&node), &[], 9).await;
    peer.ask("TAKE", 3, &take(600_000), b"").await;
    let (mut below, mut taken) = (3, false);
    for number in 4..100 {
        // While it waits, no later answer can be said to be here.
        let numbers = format!("{number} {below}");
        peer.message(&[b"CM1", b"CONTROL", numbers.as_bytes(), br#"{"request":{"ask":"apps"}}"#, b""]).await;
        let mut kind = peer.hear().await.expect("an answer").0;
        if kind == "DELIVERIES" {
            taken = true;
            kind = peer.hear().await.expect("an answer").0;
        }
        assert_eq!(kind, "CONTROLLED");
        if taken {
            below = number + 1;
        }
    }
    assert!(taken);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_did_not_fit_into_a_message_goes_back_with_what_goes_back_before_it() {
    let node = node(NodeOptions { max_message_bytes: 8 << 10, ..NodeOptions::default() }).await;
    let mut peer = subscribed(address(&node), &[], 9).await;
    for (number, id) in ["a", "b", "c"].into_iter().enumerate() {
        let mut event = publish(id);
        event["events"][0]["size"] = json!(3000);
        event["events"][0]["event"]["partitionkey"] = json!("one key");
        peer.ask("PUBLISH", number as u64 + 3, &event, &[b'x'; 3000]).await;
        assert_eq!(peer.hear().await.expect("an answer").0, "STORED");
    }
    let first = taken(&mut peer, 6).await;
    assert_eq!(first.len(), 1);
    let back = json!({ "do": "return", "position": first[0]["position"], "incarnation": first[0]["incarnation"] });
    peer.ask("SETTLE", 7, &json!({ "subscription": 1, "settlements": [back] }), b"").await;
    assert_eq!(peer.hear().await.expect("an answer").0, "SETTLED");
    assert_eq!(taken(&mut peer, 8).await[0]["position"], first[0]["position"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_are_answered_those_of_the_protocol_and_those_of_zmtp() {
    let node = node(NodeOptions::default()).await;
    let (mut peer, _) = Peer::welcomed(address(&node)).await;
    peer.ask("PING", 0, &json!({}), b"").await;
    assert_eq!(peer.hear().await.expect("an answer").0, "PONG");
    peer.frame(4, b"\x04PING\x00\x0acontext").await;
    assert_eq!(within(peer.next_frame()).await.expect("an answer"), (4, b"\x04PONGcontext".to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_has_more_than_its_credit() {
    let node = node(NodeOptions::default()).await;
    let mut peer = subscribed(address(&node), &["a", "b", "c"], 2).await;
    let first = taken(&mut peer, 3).await;
    assert_eq!(first.len(), 2);
    assert!(taken(&mut peer, 4).await.is_empty());
    let ack = json!({ "do": "ack", "position": first[0]["position"], "incarnation": first[0]["incarnation"] });
    peer.ask("SETTLE", 5, &json!({ "subscription": 1, "settlements": [ack] }), b"").await;
    assert_eq!(peer.hear().await.expect("an answer").0, "SETTLED");
    peer.ask("TAKE", 6, &take(10_000), b"").await;
    assert_eq!(peer.hear().await.expect("an answer").1["deliveries"][0]["position"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_is_left_gives_back_what_it_has_unless_that_is_kept() {
    let node = node(NodeOptions::default()).await;
    let mut peer = subscribed(address(&node), &["a", "b"], 1).await;
    let first = taken(&mut peer, 3).await;
    // What waits is answered, because nothing will come.
    peer.ask("TAKE", 4, &take(10_000), b"").await;
    peer.ask("UNSUBSCRIBE", 5, &json!({ "subscription": 1, "keep": true }), b"").await;
    let mut kinds = [peer.hear().await.expect("an answer").0, peer.hear().await.expect("an answer").0];
    kinds.sort_unstable();
    assert_eq!(kinds, ["DELIVERIES", "DONE"]);
    let ack = json!({ "do": "ack", "position": first[0]["position"], "incarnation": first[0]["incarnation"] });
    peer.ask("SETTLE", 6, &json!({ "subscription": 1, "settlements": [ack] }), b"").await;
    assert_eq!(peer.hear().await.expect("an answer").0, "SETTLED");
    let positions = |taken: &[Value]| taken.iter().map(|one| one["position"].clone()).collect::<Vec<_>>();
    let mut other = subscribed(address(&node), &[], 9).await;
    other.ask("TAKE", 3, &take(10_000), b"").await;
    let (_, given) = other.hear().await.expect("an answer");
    assert_eq!(positions(given["deliveries"].as_array().expect("a list")), [1], "the first is settled");
    // Without `keep` everything goes back, to whoever is next, while its session goes on.
    other.ask("UNSUBSCRIBE", 4, &json!({ "subscription": 1 }), b"").await;
    assert_eq!(other.hear().await.expect("an answer").0, "DONE");
    let mut last = subscribed(address(&node), &[], 9).await;
    last.ask("TAKE", 3, &take(10_000), b"").await;
    let (_, given) = last.hear().await.expect("an answer");
    assert_eq!(positions(given["deliveries"].as_array().expect("a list")), [1]);
    other.ask("TAKE", 5, &take(1), b"").await;
    assert_eq!(other.hear().await.expect("an answer").0, "REFUSED", "it is forgotten");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_takes_of_a_subscription_may_wait_and_no_third() {
    let node = node(NodeOptions::default()).await;
    let mut peer = subscribed(address(&node), &[], 9).await;
    for number in 3..6 {
        peer.ask("TAKE", number, &take(10_000), b"").await;
    }
    assert_eq!(peer.hear().await.expect("an answer").0, "REFUSED");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_fits_into_a_message() {
    let node = node(NodeOptions { max_message_bytes: 8 << 10, ..NodeOptions::default() }).await;
    let mut peer = subscribed(address(&node), &[], 9).await;
    for (number, id) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let mut event = publish(id);
        event["events"][0]["size"] = json!(3000);
        peer.ask("PUBLISH", number as u64 + 3, &event, &[b'x'; 3000]).await;
        assert_eq!(peer.hear().await.expect("an answer").0, "STORED");
    }
    let mut seen = 0;
    for number in 7.. {
        let taken = taken(&mut peer, number).await.len();
        assert!(taken < 3, "more than a message may have");
        seen += taken;
        if seen == 4 {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_greet_in_time_is_not_waited_for() {
    let node = node(NodeOptions { handshake: Duration::from_millis(50), ..NodeOptions::default() }).await;
    let mut silent = Peer::silent(address(&node)).await;
    silent.ended().await;
    let mut mute = Peer::socket(address(&node), "DEALER").await;
    mute.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_nothing_is_ended_however_alive_it_is() {
    let options = NodeOptions { lease: Duration::from_millis(300), ..NodeOptions::default() };
    let node = node(options).await;
    let mut deaf = subscribed(address(&node), &[], 9).await;
    let mut large = publish("a");
    large["events"][0]["size"] = json!(1 << 19);
    deaf.ask("PUBLISH", 7, &large, &vec![b'x'; 1 << 19]).await;
    assert_eq!(deaf.hear().await.expect("an answer").0, "STORED");
    // Each time it is given the same, and it reads none of it.
    let pinging = async {
        while node.sessions() > 0 {
            deaf.ask("TAKE", 8, &take(10_000), b"").await;
            deaf.ask("PING", 0, &json!({}), b"").await;
            tokio::task::yield_now().await;
        }
    };
    within(pinging).await;
    // What it had not read is still there; behind it is the end.
    let mut sink = Vec::new();
    let _ = within(deaf.0.read_to_end(&mut sink)).await;
}
