//! Operators: whoever comes in through a node finds the services of its clients, and is told who did not answer.

mod peer;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use commute_conformance::proxy::Proxy;
use commute_core::{BoxFuture, Code, Error, Operate, Operation, Report, Result, SharedBroker};
use commute_embedded::storage::Memory;
use commute_zeromq::{Node, NodeOptions};
use peer::{Peer, address, connect, log, node, within};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};

/// A service that says what it was asked, and answers when it may.
struct Fake {
    name: &'static str,
    asked: mpsc::Sender<Operation>,
    may: Semaphore,
    times: AtomicUsize,
}

impl Fake {
    /// Attached to a broker. Answers at once for so many times.
    fn on(
        broker: &SharedBroker,
        name: &'static str,
        may: usize,
    ) -> (Arc<Fake>, Arc<dyn Operate>, mpsc::Receiver<Operation>) {
        let (asked, hears) = mpsc::channel(64);
        let fake = Arc::new(Fake { name, asked, may: Semaphore::new(may), times: AtomicUsize::new(0) });
        let service: Arc<dyn Operate> = fake.clone();
        broker.attached().expect("operators come in through a node").attach(&service);
        (fake, service, hears)
    }
}

impl Operate for Fake {
    fn app(&self) -> String {
        self.name.to_owned()
    }

    fn operate(&self, operation: Operation) -> BoxFuture<'_, Result<Report>> {
        Box::pin(async move {
            self.times.fetch_add(1, Ordering::SeqCst);
            self.asked.send(operation.clone()).await.expect("the test hears");
            self.may.acquire().await.expect("it is open").forget();
            match operation {
                Operation::Stats => Ok(Report::Json(json!({ "name": self.name }))),
                Operation::Contract => Err(Error::new(Code::NotParked, "there is none")),
                _ => Ok(Report::Done(3)),
            }
        })
    }
}

fn pause() -> Operation {
    Operation::Pause { subscription: "g@tests".parse().expect("a name"), key: None }
}

/// Waits until an operator finds so many services.
async fn found(operator: &SharedBroker, count: usize) -> Vec<Arc<dyn Operate>> {
    within(async {
        loop {
            let services = operator.services().await.expect("the node says");
            if services.len() == count {
                return services;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

async fn hears(service: &mut mpsc::Receiver<Operation>) -> Operation {
    within(service.recv()).await.expect("it is asked")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_finds_the_services_of_all_clients_and_each_says_what_it_says() {
    let log = log(&Memory::new());
    let node = Node::serve(log.clone(), "zmq://127.0.0.1:0", NodeOptions::default()).await.expect("it listens");
    let (one, two, operator) = (connect(&node.url()).await, connect(&node.url()).await, connect(&node.url()).await);
    assert!(found(&operator, 0).await.is_empty());
    let (_first, first, mut asked) = Fake::on(&one, "mail", 9);
    let (_second, _service, mut also) = Fake::on(&two, "mail", 9);
    let (_third, _other, _) = Fake::on(&two, "shop", 9);
    let services = found(&operator, 3).await;
    let mut names: Vec<_> = services.iter().map(|service| service.name()).collect();
    names.sort_unstable();
    // Both clients are in this process, so one of them has another name.
    let me = std::process::id();
    let shop = names.iter().find(|name| name.starts_with("shop")).expect("it is found");
    assert_eq!(names[..2], [format!("mail/{me}"), format!("mail/{me}-2")]);
    assert!(names[..2].contains(&shop.replace("shop", "mail")), "a process has one name: {names:?}");
    for service in services.iter().filter(|service| service.app() == "mail") {
        assert_eq!(within(service.operate(pause())).await.expect("it does it"), Report::Done(3));
        let error = within(service.operate(Operation::Contract)).await.expect_err("it has none");
        assert_eq!((error.code(), error.detail()), (Code::NotParked, "there is none"));
    }
    for asked in [&mut asked, &mut also] {
        assert_eq!((hears(asked).await, hears(asked).await), (pause(), Operation::Contract));
    }
    // Whoever comes in where the log is finds them, too.
    assert_eq!(log.attached_names(), names);
    drop((first, _first));
    assert_eq!(found(&operator, 2).await.iter().filter(|service| service.app() == "mail").count(), 1);
    two.close().await.expect("it closes");
    found(&operator, 0).await;
}

/// What a broker in this process knows.
trait Names {
    fn attached_names(&self) -> Vec<String>;
}

impl<B: commute_core::Broker> Names for Arc<B> {
    fn attached_names(&self) -> Vec<String> {
        let running = self.attached().expect("it has a door").running();
        let mut names: Vec<_> = running.iter().map(|service| service.name()).collect();
        names.sort_unstable();
        names
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_does_what_it_is_asked_once_whatever_happens_to_its_connection_meanwhile() {
    let node = node(NodeOptions { longest_answer: Duration::from_secs(60), ..NodeOptions::default() }).await;
    let proxy = Proxy::before(address(&node)).await.expect("a port");
    let (client, operator) = (connect(&format!("zmq://{}", proxy.address())).await, connect(&node.url()).await);
    // Only a session with something open outlives its connection.
    let _subscription = within(client.subscribe(commute_core::SubscriptionSpec::new(peer::topic(), "g"))).await;
    let (fake, _service, mut asked) = Fake::on(&client, "mail", 0);
    let service = found(&operator, 1).await.remove(0);
    for round in 0..6 {
        if round % 2 == 0 {
            proxy.mute();
        }
        let asking = tokio::spawn({
            let service = service.clone();
            async move { service.operate(pause()).await }
        });
        if round % 2 == 1 {
            hears(&mut asked).await;
            proxy.freeze();
            fake.may.add_permits(1);
            tokio::task::yield_now().await;
            proxy.heal();
        } else {
            tokio::task::yield_now().await;
            proxy.heal();
            hears(&mut asked).await;
            fake.may.add_permits(1);
        }
        assert_eq!(within(asking).await.expect("it ends").expect("it was done"), Report::Done(3));
    }
    assert_eq!(fake.times.load(Ordering::SeqCst), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_answered_in_one_connection_is_asked_again_in_the_next_under_its_number() {
    let node = node(NodeOptions { longest_answer: Duration::from_secs(60), ..NodeOptions::default() }).await;
    let operator = connect(&node.url()).await;
    let (mut peer, welcome) = attached(&node).await;
    let service = found(&operator, 1).await.remove(0);
    let asking = tokio::spawn(async move { service.operate(pause()).await });
    let before = peer.hear().await.expect("it is asked");
    drop(peer);
    let mut peer = Peer::socket(address(&node), "DEALER").await;
    peer.ask("HELLO", 0, &json!({ "client": "peer", "session": welcome["session"] }), b"").await;
    assert_eq!(peer.hear().await.expect("an answer").1["resumed"], true);
    let again = loop {
        // What it asked itself is answered again, too.
        let said = peer.hear().await.expect("it is asked again");
        if said.0 != "DONE" {
            break said;
        }
    };
    assert_eq!(again, before);
    peer.ask("ANSWER", 0, &json!({ "ask": again.1["ask"], "reply": { "report": { "done": 1 } } }), b"").await;
    assert_eq!(within(asking).await.expect("it ends").expect("it was done"), Report::Done(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn services_are_found_again_after_their_node_was_killed() {
    let log = log(&Memory::new());
    let first = Node::serve(log.clone(), "zmq://127.0.0.1:0", NodeOptions::default()).await.expect("it listens");
    let url = first.url();
    let client = connect(&url).await;
    let (_fake, _service, _asked) = Fake::on(&client, "mail", 9);
    found(&connect(&url).await, 1).await;
    first.stop().await;
    assert_eq!(log.attached_names(), [""; 0], "with the node its sessions are gone");
    let _second = within(async {
        loop {
            // The port of the first may be busy for a moment.
            if let Ok(node) = Node::serve(log.clone(), &url, NodeOptions::default()).await {
                break node;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    let service = found(&connect(&url).await, 1).await.remove(0);
    let report = within(service.operate(Operation::Stats)).await.expect("it answers");
    assert_eq!(report, Report::Json(json!({ "name": "mail" })));
}

/// A peer that has said that it has a service.
async fn attached(node: &Node) -> (Peer, Value) {
    let (mut peer, welcome) = Peer::welcomed(address(node)).await;
    peer.ask("ATTACH", 1, &json!({ "apps": ["mail"], "instance": "peer" }), b"").await;
    assert_eq!(peer.hear().await.expect("an answer").0, "DONE");
    (peer, welcome)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_is_told_who_did_not_answer_and_what_that_means() {
    let (longest_answer, lease) = (Duration::from_millis(50), Duration::from_secs(1));
    let node = node(NodeOptions { longest_answer, lease, ..NodeOptions::default() }).await;
    let operator = connect(&node.url()).await;
    let (mut peer, _) = attached(&node).await;
    let service = found(&operator, 1).await.remove(0);
    let error = within(service.operate(Operation::Stats)).await.expect_err("nobody answers");
    assert_eq!((error.code(), error.detail()), (Code::BrokerUnavailable, "mail/peer did not answer within 50ms"));
    let error = within(service.operate(pause())).await.expect_err("nobody answers");
    assert!(error.detail().ends_with("; whether it did what it was asked is unknown"), "{error}");
    // What comes too late, or was never asked, or is no answer, is nobody's; the session goes on.
    let (kind, ask) = peer.hear().await.expect("it is asked");
    assert_eq!((kind.as_str(), &ask), ("ASK", &json!({ "ask": 1, "app": "mail", "operation": { "do": "stats" } })));
    for ask in [1, 77] {
        peer.ask("ANSWER", 0, &json!({ "ask": ask, "reply": { "report": { "done": 1 } } }), b"").await;
    }
    peer.ask("BACKLOG", 2, &json!({ "subscription": 5 }), b"").await;
    while peer.hear().await.expect("it goes on").0 != "REFUSED" {}
    drop(peer);
    found(&operator, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_understood_concerns_only_whoever_asked() {
    let node = node(NodeOptions::default()).await;
    let operator = connect(&node.url()).await;
    let (mut peer, _) = attached(&node).await;
    let service = found(&operator, 1).await.remove(0);
    for (reply, code) in [
        (json!({ "praise": "be" }), Code::NotUnderstood),
        (json!({ "refused": { "code": "CM0037", "detail": "not understood" } }), Code::NotUnderstood),
        (json!({ "refused": { "code": "CM0034", "detail": "no such" } }), Code::NotFound),
        (json!({ "apps": [] }), Code::BrokerUnavailable),
    ] {
        let asking = tokio::spawn({
            let service = service.clone();
            async move { service.operate(Operation::Stats).await }
        });
        let (_, ask) = peer.hear().await.expect("it is asked");
        peer.ask("ANSWER", 0, &json!({ "ask": ask["ask"], "reply": reply }), b"").await;
        let error = within(asking).await.expect("it ends").expect_err("that is no report");
        assert_eq!(error.code(), code, "{error}");
    }
    // One that does not say what it answers is no message.
    peer.ask("ANSWER", 0, &json!({ "reply": {} }), b"").await;
    assert_eq!(peer.refused().await, "CM0037");
    found(&operator, 0).await;
    peer::works(&operator, "g").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_ends_with_the_session_that_it_was_asked_in() {
    let node = node(NodeOptions::default()).await;
    let operator = connect(&node.url()).await;
    let (mut peer, _) = attached(&node).await;
    let service = found(&operator, 1).await.remove(0);
    let asking = tokio::spawn(async move { service.operate(pause()).await });
    assert_eq!(peer.hear().await.expect("it is asked").0, "ASK");
    peer.ask("BYE", 0, &json!({}), b"").await;
    let error = within(asking).await.expect("it ends").expect_err("nobody is there");
    assert!(error.detail().contains("went away while it was asked; whether"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn services_without_a_name_and_more_than_there_may_be_are_refused() {
    let node = node(NodeOptions::default()).await;
    let operator = connect(&node.url()).await;
    let (mut peer, _) = Peer::welcomed(address(&node)).await;
    let many: Vec<_> = (0..1025).map(|n| format!("app-{n}")).collect();
    for (n, (apps, instance, code)) in [
        (vec!["a/b".to_owned()], "1", "CM0037"),
        (vec!["\u{7}".to_owned()], "1", "CM0037"),
        (vec!["mail".to_owned()], "", "CM0037"),
        (many, "1", "CM0015"),
    ]
    .into_iter()
    .enumerate()
    {
        peer.ask("ATTACH", n as u64 + 1, &json!({ "apps": apps, "instance": instance }), b"").await;
        let (kind, said) = peer.hear().await.expect("an answer");
        assert_eq!((kind.as_str(), said["code"].as_str()), ("REFUSED", Some(code)), "{said}");
    }
    found(&operator, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_serves_no_broker_that_other_processes_can_change() {
    let node = node(NodeOptions::default()).await;
    let remote = connect(&node.url()).await;
    let refused = Node::serve(remote, "zmq://127.0.0.1:0", NodeOptions::default()).await.expect_err("it is no log");
    assert_eq!(refused.code(), Code::NeedNotMet);
}
