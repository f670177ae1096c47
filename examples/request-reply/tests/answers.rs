//! What the shop is told.

use std::time::Duration;

use commute::{Message, Node, NodeOptions, Requests, SharedBroker};
use request_reply::{Counted, Priced, ProductAsked, pricing, stock};

const LONG: Duration = Duration::from_secs(120);

/// Both services and the shop, each with its connection, or with the same one.
async fn asked_and_answered(prices: SharedBroker, units: SharedBroker, shop: SharedBroker) {
    let services = (pricing(prices).start().await.unwrap(), stock(units).start().await.unwrap());
    let requests = Requests::open(shop, "shop").await.unwrap();
    let ask = async |product: &str| {
        let message = Message::of(&ProductAsked { product: product.to_owned() }).unwrap();
        let asked = requests.ask("products", message).await.unwrap().expect_from(["pricing", "stock"]);
        requests.collect(&asked, LONG).await.unwrap()
    };
    let known = ask("white hanging heart").await;
    assert_eq!(known.value().unwrap(), Some(Priced { pence: 95 }));
    assert_eq!(known.value().unwrap(), Some(Counted { units: 6 }));
    let unknown = ask("umbrella").await;
    assert_eq!(unknown.value().unwrap(), Some(Priced { pence: 40 }));
    let reasons: Vec<_> = unknown.failures().filter_map(|failed| failed.failure()).collect();
    assert_eq!(reasons, [("CM0022", "no product is called \"umbrella\"")]);
    requests.close().await;
    services.0.stop().await.unwrap();
    services.1.stop().await.unwrap();
}

#[tokio::test]
async fn both_services_answer_with_a_value_or_a_reason() {
    let broker = commute::connect("memory:").await.unwrap();
    asked_and_answered(broker.clone(), broker.clone(), broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn they_answer_through_a_node_too_as_from_processes_of_their_own() {
    let log = commute::connect("memory:").await.unwrap();
    let node = Node::serve(log, "zmq://127.0.0.1:0", NodeOptions::default()).await.unwrap();
    let url = node.url();
    let connect = async || commute::connect(&url).await.unwrap();
    asked_and_answered(connect().await, connect().await, connect().await).await;
}

#[tokio::test]
async fn a_service_that_comes_later_answers_later() {
    let broker = commute::connect("memory:").await.unwrap();
    let _pricing = pricing(broker.clone()).start().await.unwrap();
    let requests = Requests::open(broker.clone(), "shop").await.unwrap();
    let message = Message::of(&ProductAsked { product: "white hanging heart".to_owned() }).unwrap();
    let asked = requests.ask("products", message).await.unwrap().expect_from(["pricing", "stock"]);
    let results = requests.collect(&asked, Duration::ZERO).await.unwrap();
    assert!(results.missing.contains(&"stock".to_owned()));
    let _stock = stock(broker).start().await.unwrap();
    let results = requests.collect(&asked, LONG).await.unwrap();
    assert_eq!((results.not_yet, results.values().count()), (0, 2));
}
