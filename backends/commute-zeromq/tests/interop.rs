//! The node speaks ZMTP as others do: a DEALER of the crate `zeromq` says hello, publishes, takes and settles.
//!
//! libzmq itself is tested by `clients/python`.

mod peer;

use std::time::Duration;

use bytes::Bytes;
use commute_zeromq::NodeOptions;
use peer::{address, connect, event, node, within};
use serde_json::{Value, json};
use zeromq::{DealerSocket, Socket, SocketRecv, SocketSend, ZmqMessage};

async fn ask(
    dealer: &mut DealerSocket,
    kind: &'static str,
    number: u64,
    header: Value,
    body: &'static [u8],
) -> (String, Value, Bytes) {
    let frames = [kind.into(), number.to_string().into(), header.to_string().into(), Bytes::from_static(body)];
    let mut message = ZmqMessage::from("CM1");
    frames.into_iter().for_each(|frame: Bytes| message.push_back(frame));
    within(dealer.send(message)).await.expect("it is sent");
    let reply = within(dealer.recv()).await.expect("an answer").into_vec();
    assert_eq!(reply.len(), 5);
    let kind = String::from_utf8(reply[1].to_vec()).expect("text");
    (kind, serde_json::from_slice(&reply[3]).expect("JSON"), reply[4].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dealer_of_another_library_has_everything() {
    let node = node(NodeOptions { longest_wait: Duration::from_secs(5), ..NodeOptions::default() }).await;
    let mut dealer = DealerSocket::new();
    within(dealer.connect(&format!("tcp://{}", address(&node)))).await.expect("it connects");
    let (kind, welcome, _) = ask(&mut dealer, "HELLO", 0, json!({ "client": "interop" }), b"").await;
    assert_eq!((kind.as_str(), &welcome["resumed"]), ("WELCOME", &json!(false)));
    let event_of = json!({ "specversion": "1.0", "id": "a", "source": "s", "type": "t", "partitionkey": "k" });
    let events = json!({ "events": [{ "topic": "tests", "size": 3, "event": event_of }] });
    let (kind, stored, _) = ask(&mut dealer, "PUBLISH", 1, events, b"abc").await;
    assert_eq!((kind.as_str(), &stored["receipts"][0]["duplicate"]), ("STORED", &json!(false)));
    let (kind, opened, _) =
        ask(&mut dealer, "SUBSCRIBE", 2, json!({ "topic": "tests", "group": "g", "credit": 9 }), b"").await;
    assert_eq!(kind, "SUBSCRIBED");
    let subscription = &opened["subscription"];
    let take = json!({ "subscription": subscription, "max": 5, "wait_ms": 5000 });
    let (kind, given, body) = ask(&mut dealer, "TAKE", 3, take, b"").await;
    assert_eq!((kind.as_str(), &body[..]), ("DELIVERIES", b"abc".as_slice()));
    let delivery = &given["deliveries"][0];
    assert_eq!((&delivery["event"]["id"], &delivery["attempt"]), (&json!("a"), &json!(1)));
    let ack = json!({ "do": "ack", "position": delivery["position"], "incarnation": delivery["incarnation"] });
    let settle = json!({ "subscription": subscription, "settlements": [ack] });
    assert_eq!(ask(&mut dealer, "SETTLE", 4, settle, b"").await.0, "SETTLED");
    let (_, count, _) = ask(&mut dealer, "BACKLOG", 5, json!({ "subscription": subscription }), b"").await;
    assert_eq!(count["events"], 0);
    // A service on the driver has the same topic.
    let broker = connect(&node.url()).await;
    assert_eq!(within(broker.publish(vec![event(1)])).await.expect("it is stored")[0].position, Some(1));
}
