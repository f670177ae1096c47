//! What an operator may rely on at the socket, whatever either side does.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::Arc;

use commute_core::admin::TopicInfo;
use commute_core::{
    Admin, Attached, BoxFuture, Broker, Capabilities, Code, Envelope, Outgoing, Receipt, Result, Subscription,
    SubscriptionSpec, Timestamp, Topic,
};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;

use super::*;

/// A broker that knows one topic, and publishes when it is let.
struct Fake {
    socket: PathBuf,
    attached: Attached,
    begun: Notify,
    go: Notify,
    closed: std::sync::atomic::AtomicBool,
}

impl Fake {
    fn at(socket: PathBuf) -> Arc<Self> {
        let closed = false.into();
        Arc::new(Fake { socket, attached: Attached::default(), begun: Notify::new(), go: Notify::new(), closed })
    }
}

impl Broker for Fake {
    fn driver(&self) -> &'static str {
        "fake"
    }

    fn address(&self) -> &str {
        "here"
    }

    fn capabilities(&self) -> &Capabilities {
        unreachable!("nobody asks")
    }

    fn publish(&self, batch: Vec<Outgoing>) -> BoxFuture<'_, Result<Vec<Receipt>>> {
        Box::pin(async move {
            self.begun.notify_one();
            self.go.notified().await;
            Ok(vec![Receipt { position: Some(7), duplicate: false }; batch.len()])
        })
    }

    fn subscribe(&self, _spec: SubscriptionSpec) -> BoxFuture<'_, Result<Subscription>> {
        unreachable!("nobody asks")
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        self.closed.store(true, std::sync::atomic::Ordering::Relaxed);
        Box::pin(async { Ok(()) })
    }

    fn admin(&self) -> Option<&dyn Admin> {
        Some(self)
    }

    fn attached(&self) -> Option<&Attached> {
        Some(&self.attached)
    }

    fn socket(&self) -> Option<&std::path::Path> {
        Some(&self.socket)
    }
}

impl Admin for Fake {
    fn topics(&self, _after: Option<Topic>, _max: usize) -> BoxFuture<'_, Result<Vec<TopicInfo>>> {
        let info = TopicInfo { topic: "orders".to_owned(), first: 0, next: 3, groups: 1, youngest: None };
        Box::pin(async { Ok(vec![info]) })
    }
}

fn outgoing() -> Outgoing {
    let envelope = Envelope::new("s", "t", Timestamp(0), b"1".as_slice().into());
    Outgoing { topic: Topic::new("orders").unwrap(), envelope, not_before: None }
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("commute.sock");
    (folder, socket)
}

async fn line(stream: &mut BufReader<UnixStream>) -> String {
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    line
}

async fn raw(socket: &std::path::Path) -> BufReader<UnixStream> {
    let mut stream = BufReader::new(UnixStream::connect(socket).await.unwrap());
    assert_eq!(line(&mut stream).await, "{\"commute\":1}\n");
    stream
}

#[tokio::test]
async fn an_operator_looks_and_acts_through_the_socket_and_only_its_owner_may_connect() {
    let (_folder, socket) = folder();
    let fake = Fake::at(socket.clone());
    let broker = served(fake.clone());
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let console = Console::at(&socket).await.unwrap();
    assert_eq!(console.reached(), &Reached::Owner(socket.clone()));
    assert_eq!(console.admin().unwrap().topics(None, 9).await.unwrap()[0].topic, "orders");
    fake.go.notify_one();
    assert_eq!(console.publish(vec![outgoing()]).await.unwrap()[0].position, Some(7));
    let refused = console.admin().unwrap().groups(None).await.unwrap_err();
    assert_eq!(refused.code(), Code::NeedNotMet);
    // The socket and nothing else is in the directory, and it goes with the broker.
    assert_eq!(std::fs::read_dir(_folder.path()).unwrap().count(), 1);
    broker.close().await.unwrap();
    assert!(!socket.exists() && fake.closed.load(std::sync::atomic::Ordering::Relaxed));
}

#[tokio::test]
async fn the_server_does_not_keep_the_broker_alive_and_an_operator_hears_that_it_went() {
    let (_folder, socket) = folder();
    let fake = Fake::at(socket.clone());
    let broker = served(fake.clone());
    let console = Console::at(&socket).await.unwrap();
    drop(broker);
    assert!(!socket.exists());
    let looked = console.admin().unwrap().topics(None, 1).await.unwrap_err();
    assert!(looked.code() == Code::BrokerUnavailable && !looked.detail().contains("unknown"), "{looked}");
    let again = console.publish(vec![outgoing()]).await.unwrap_err();
    assert!(again.detail().contains("nothing more was asked"), "{again}");
    assert_eq!(Arc::strong_count(&fake), 1);
    assert_eq!(Console::at(&socket).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_close_finishes_what_is_under_way_and_takes_nothing_new() {
    let (_folder, socket) = folder();
    let fake = Fake::at(socket.clone());
    let broker = served(fake.clone());
    let (asking, idle) = (Console::at(&socket).await.unwrap(), Console::at(&socket).await.unwrap());
    let asked = tokio::spawn(async move { asking.publish(vec![outgoing()]).await });
    fake.begun.notified().await;
    let closing = tokio::spawn(async move { broker.close().await });
    assert!(idle.publish(vec![outgoing()]).await.is_err());
    fake.go.notify_one();
    assert_eq!(asked.await.unwrap().unwrap().len(), 1);
    closing.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_operator_whose_order_was_cut_off_hears_that_its_fate_is_unknown() {
    let (_folder, socket) = folder();
    let listener = UnixListener::bind(&socket).unwrap();
    let owner = tokio::spawn(async move {
        let mut stream = BufReader::new(listener.accept().await.unwrap().0);
        stream.write_all(b"{\"commute\":1}\n").await.unwrap();
        line(&mut stream).await
    });
    let console = Console::at(&socket).await.unwrap();
    let error = console.publish(vec![outgoing()]).await.unwrap_err();
    assert!(error.code() == Code::BrokerUnavailable && error.detail().contains("unknown"), "{error}");
    assert!(owner.await.unwrap().contains("publish"));
}

#[tokio::test]
async fn an_answer_that_nobody_waited_for_is_not_taken_for_the_next_one() {
    let (_folder, socket) = folder();
    let fake = Fake::at(socket.clone());
    let _broker = served(fake.clone());
    let console = Console::at(&socket).await.unwrap();
    tokio::select! {
        _ = console.publish(vec![outgoing()]) => unreachable!("it was not let"),
        () = fake.begun.notified() => {}
    }
    let error = console.admin().unwrap().topics(None, 1).await.unwrap_err();
    assert!(error.detail().contains("broken"), "{error}");
    fake.go.notify_one();
}

#[tokio::test]
async fn what_is_not_understood_is_refused_and_the_conversation_goes_on() {
    let (_folder, socket) = folder();
    let _broker = served(Fake::at(socket.clone()));
    let mut stream = raw(&socket).await;
    for wrong in ["nonsense\n", "{\"ask\":\"dance\"}\n", "\n"] {
        stream.write_all(wrong.as_bytes()).await.unwrap();
        assert!(line(&mut stream).await.contains("CM0037"), "{wrong}");
    }
    stream.write_all(b"{\"ask\":\"apps\"}\n").await.unwrap();
    assert_eq!(line(&mut stream).await, "{\"apps\":[]}\n");
}

#[tokio::test]
async fn a_request_without_end_is_refused_before_it_fills_the_memory() {
    let (_folder, socket) = folder();
    let _broker = served(Fake::at(socket.clone()));
    let mut stream = raw(&socket).await;
    stream.write_all(&vec![b'x'; 8 << 20]).await.unwrap();
    assert!(line(&mut stream).await.contains("CM0013"));
    assert_eq!(line(&mut stream).await, "");
}

#[tokio::test]
async fn one_operator_too_many_is_told_so() {
    let (_folder, socket) = folder();
    let fake = Fake::at(socket.clone());
    let _broker = served(fake);
    let mut consoles = Vec::new();
    for _ in 0..64 {
        consoles.push(Console::at(&socket).await.unwrap());
    }
    let error = Console::at(&socket).await.unwrap().capabilities().await.unwrap_err();
    assert!(error.detail().contains("64 operators"), "{error}");
    assert!(consoles[63].apps().await.unwrap().is_empty());
}

#[tokio::test]
async fn the_socket_of_a_dead_owner_is_replaced_and_anything_else_is_left_alone() {
    let (_folder, socket) = folder();
    drop(UnixListener::bind(&socket).unwrap());
    assert!(socket.exists());
    let broker = served(Fake::at(socket.clone()));
    assert!(Console::at(&socket).await.is_ok());
    drop(broker);
    std::fs::write(&socket, "mine").unwrap();
    let broker = served(Fake::at(socket.clone()));
    drop(broker);
    assert_eq!(std::fs::read_to_string(&socket).unwrap(), "mine");
    std::fs::remove_file(&socket).unwrap();
    symlink("elsewhere", &socket).unwrap();
    drop(served(Fake::at(socket.clone())));
    assert!(socket.is_symlink());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_directory_with_a_long_name_is_reached_too() {
    let (folder, _) = folder();
    let long = folder.path().join("d".repeat(120));
    std::fs::create_dir(&long).unwrap();
    let socket = long.join("commute.sock");
    let _broker = served(Fake::at(socket.clone()));
    assert!(Console::at(&socket).await.unwrap().apps().await.unwrap().is_empty());
}

#[tokio::test]
async fn whoever_listens_and_is_no_service_of_this_version_is_named() {
    let (_folder, socket) = folder();
    let listener = UnixListener::bind(&socket).unwrap();
    let greetings = tokio::spawn(async move {
        for greeting in ["{\"commute\":2}\n", "220 smtp\n", ""] {
            listener.accept().await.unwrap().0.write_all(greeting.as_bytes()).await.unwrap();
        }
    });
    let mut said = Vec::new();
    for _ in 0..3 {
        said.push(Console::at(&socket).await.unwrap_err().code());
    }
    assert_eq!(said, [Code::NotUnderstood, Code::NotUnderstood, Code::BrokerUnavailable]);
    greetings.await.unwrap();
}

#[tokio::test]
async fn an_app_does_not_take_the_socket_of_another_that_runs() {
    let (_folder, socket) = folder();
    let other = Fake::at(PathBuf::from("nowhere"));
    let first = Front::at(&socket, other.clone()).await.unwrap();
    assert!(Front::at(&socket, other.clone()).await.is_err());
    first.end().await;
    assert!(Front::at(&socket, other).await.is_ok());
}
