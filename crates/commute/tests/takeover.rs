//! What is ours may change: deliveries go to another instance, and parked lanes come from one.

mod kit;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use commute::prelude::*;
use commute::{Envelope, Error, Key, Lane, Receipt, Running, SharedBroker, Timestamp};
use commute_core::{
    BoxFuture, Broker, Capabilities, Change, Delivery, DeliveryTag, Durability, GroupOrder, Mode, Ordering, Outgoing,
    Parked, Receiver, Server, Settlement, Settler, Subscription, SubscriptionSpec,
};
use kit::{Log, Ping, started};
use tokio::sync::{Mutex as AsyncMutex, Notify, Semaphore, mpsc};

type Result<T> = std::result::Result<T, Error>;

/// A broker that does what a test says, and remembers what it was told.
struct Scripted {
    capabilities: Capabilities,
    server: Server,
    deliveries: Mutex<Option<mpsc::Receiver<Vec<Delivery>>>>,
    ends: Arc<Ends>,
}

struct Ends {
    changes: AsyncMutex<mpsc::Receiver<Change>>,
    parked: Mutex<Vec<Parked>>,
    settled: Mutex<Vec<Settlement>>,
    told: Notify,
}

struct Inlet(mpsc::Receiver<Vec<Delivery>>);
struct Outlet(Arc<Ends>);

impl Broker for Scripted {
    fn driver(&self) -> &'static str {
        "scripted"
    }

    fn address(&self) -> &str {
        "here"
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn server(&self) -> Option<&Server> {
        Some(&self.server)
    }

    fn publish(&self, batch: Vec<Outgoing>) -> BoxFuture<'_, Result<Vec<Receipt>>> {
        Box::pin(async move { Ok(vec![Receipt { position: None, duplicate: false }; batch.len()]) })
    }

    fn subscribe(&self, _spec: SubscriptionSpec) -> BoxFuture<'_, Result<Subscription>> {
        let deliveries = self.deliveries.lock().unwrap().take().expect("one subscription");
        let settler = Arc::new(Outlet(self.ends.clone()));
        Box::pin(async move { Ok(Subscription { receiver: Box::new(Inlet(deliveries)), settler }) })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

impl Receiver for Inlet {
    fn receive(&mut self, _max: usize) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        Box::pin(async { Ok(self.0.recv().await.unwrap_or_default()) })
    }
}

impl Settler for Outlet {
    fn settle(&self, settlements: Vec<Settlement>) -> BoxFuture<'_, Result<()>> {
        self.0.settled.lock().unwrap().extend(settlements);
        self.0.told.notify_waiters();
        Box::pin(async { Ok(()) })
    }

    fn read(&self, _tags: &[DeliveryTag]) -> BoxFuture<'_, Result<Vec<Envelope>>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn parked(&self) -> BoxFuture<'_, Result<Vec<Parked>>> {
        let parked = self.0.parked.lock().unwrap().clone();
        Box::pin(async { Ok(parked) })
    }

    fn unpark(&self, _tags: Vec<DeliveryTag>) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn backlog(&self) -> BoxFuture<'_, Result<Option<u64>>> {
        Box::pin(async { Ok(None) })
    }

    fn changed(&self) -> BoxFuture<'_, Change> {
        Box::pin(async {
            match self.0.changes.lock().await.recv().await {
                Some(change) => change,
                None => std::future::pending().await,
            }
        })
    }
}

/// The test's hands on the broker.
struct Script {
    broker: SharedBroker,
    deliver: mpsc::Sender<Vec<Delivery>>,
    change: mpsc::Sender<Change>,
    ends: Arc<Ends>,
}

impl Script {
    fn new() -> Self {
        let (deliver, deliveries) = mpsc::channel(8);
        let (change, changes) = mpsc::channel(8);
        let capabilities = Capabilities {
            durability: Durability::Synced,
            ordering: Ordering::Partition,
            group_order: GroupOrder::Partition,
            shared: true,
            atomic_settle: false,
            confirmed_acks: true,
            durable_retry: true,
            durable_parking: true,
            delayed_publish: false,
            retained: true,
            positions: false,
            replay: false,
            dedup_window: None,
            inbox_retention: None,
            max_event_bytes: 1 << 20,
        };
        let ends = Arc::new(Ends {
            changes: AsyncMutex::new(changes),
            parked: Mutex::default(),
            settled: Mutex::default(),
            told: Notify::new(),
        });
        let degradations = vec!["it is slow on Mondays".to_owned()];
        let server = Server { product: "Script".to_owned(), version: Some("3.1".to_owned()), degradations };
        let deliveries = Mutex::new(Some(deliveries));
        let broker = Arc::new(Scripted { capabilities, server, deliveries, ends: ends.clone() });
        Script { broker, deliver, change, ends }
    }

    async fn deliver(&self, incarnation: u32, numbers: impl IntoIterator<Item = u64>) {
        let deliveries = numbers.into_iter().map(|n| Delivery {
            envelope: Envelope::new("test", "test.ping", Timestamp(0), format!("{{\"n\":{n}}}").into()).into(),
            tag: DeliveryTag { position: n, incarnation },
            attempt: 1,
            not_before: None,
            published: Timestamp(0),
            malformed: None,
        });
        self.deliver.send(deliveries.collect()).await.unwrap();
    }

    /// Waits until so many settlements have come, and says them in the order of their positions.
    async fn settled(&self, count: usize) -> Vec<String> {
        loop {
            let told = self.ends.told.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            {
                let mut settled = self.ends.settled.lock().unwrap();
                if settled.len() >= count {
                    settled.sort_by_key(|settlement| settlement.tag().position);
                    return settled.drain(..).map(|settlement| said(&settlement)).collect();
                }
            }
            tokio::time::timeout(Duration::from_secs(600), told).await.expect("settlements");
        }
    }
}

fn said(settlement: &Settlement) -> String {
    let word = match settlement {
        Settlement::Ack { .. } => "ack",
        Settlement::Defer { .. } => "defer",
        Settlement::Park { .. } => "park",
        Settlement::Return { .. } => "return",
    };
    format!("{word} {}/{}", settlement.tag().incarnation, settlement.tag().position)
}

fn tens(ping: &Ping) -> Footprint {
    writes(("ten", ping.n / 10)).into()
}

fn lane(ten: u64) -> Lane {
    ("ten", ten).lane()
}

/// Runs until the test lets it end.
async fn held(ping: Ping, State(gate): State<Arc<Semaphore>>, State(log): State<Log>) {
    log.add(format!("{} begins", ping.n));
    gate.acquire().await.unwrap().forget();
    log.add(format!("{} ends", ping.n));
}

async fn app(script: &Script, gate: &Arc<Semaphore>, log: &Log) -> Running {
    let handler = handler(held).footprint(tens);
    let app = App::new("app").broker(script.broker.clone()).state(gate.clone()).state(log.clone());
    started(app.on("pings", handler)).await
}

async fn begun(log: &Log, what: &str) {
    while !log.so_far().iter().any(|line| line == what) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_begun_goes_back_and_what_runs_may_finish() {
    let (script, gate, log) = (Script::new(), Arc::new(Semaphore::new(0)), Log::default());
    let app = app(&script, &gate, &log).await;
    // 10 runs, 11 and 12 wait behind it; 20 belongs to another assignment.
    script.deliver(1, [10, 11, 12]).await;
    script.deliver(2, [20]).await;
    begun(&log, "20 begins").await;
    script.change.send(Change::Revoked(1)).await.unwrap();
    assert_eq!(script.settled(2).await, ["return 1/11", "return 1/12"]);
    gate.add_permits(2);
    assert_eq!(script.settled(2).await, ["ack 1/10", "ack 2/20"]);
    // What was in the hands of the consumer when it happened is not begun either.
    script.deliver(1, [30]).await;
    assert_eq!(script.settled(1).await, ["return 1/30"]);
    assert!(!log.so_far().iter().any(|line| line.starts_with("11") || line.starts_with("30")));
    app.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_event_that_comes_back_does_not_overlap_with_its_earlier_run() {
    let (script, gate, log) = (Script::new(), Arc::new(Semaphore::new(0)), Log::default());
    let app = app(&script, &gate, &log).await;
    script.deliver(1, [10]).await;
    begun(&log, "10 begins").await;
    script.change.send(Change::Revoked(1)).await.unwrap();
    script.change.send(Change::Assigned(2)).await.unwrap();
    script.deliver(2, [10]).await;
    gate.add_permits(2);
    script.settled(2).await;
    assert_eq!(log.so_far(), ["10 begins", "10 ends", "10 begins", "10 ends"]);
    app.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn lanes_that_another_instance_parked_are_parked_here_and_go_with_their_assignment() {
    let (script, gate, log) = (Script::new(), Arc::new(Semaphore::new(100)), Log::default());
    let app = app(&script, &gate, &log).await;
    let tag = DeliveryTag { position: 10, incarnation: 3 };
    let lanes = vec![(lane(1), Mode::Exclusive)];
    let parked = Parked { tag, attempts: 5, lanes, reason: Some("no".into()), since: Timestamp(0) };
    script.ends.parked.lock().unwrap().push(parked);
    script.change.send(Change::Assigned(3)).await.unwrap();
    script.deliver(3, [11, 20]).await;
    // 11 waits behind the parked event of its lane.
    assert_eq!(script.settled(2).await, ["park 3/11", "ack 3/20"]);
    assert_eq!(app.parked_lanes(), [lane(1)]);
    script.change.send(Change::Revoked(3)).await.unwrap();
    script.change.send(Change::Assigned(4)).await.unwrap();
    script.ends.parked.lock().unwrap().clear();
    script.deliver(4, [12]).await;
    assert_eq!(script.settled(1).await, ["ack 4/12"]);
    assert!(app.parked_lanes().is_empty());
    app.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_contract_says_what_the_server_is_and_what_it_gives_less() {
    let (script, gate, log) = (Script::new(), Arc::new(Semaphore::new(0)), Log::default());
    let running = app(&script, &gate, &log).await;
    let contract = running.contract();
    assert_eq!(contract.server.as_ref().and_then(|server| server.version.as_deref()), Some("3.1"));
    // First the server, then what several instances would keep less.
    assert_eq!(contract.warnings[0], "Script 3.1: it is slow on Mondays");
    assert!(contract.warnings[1].contains("several instances"), "{:?}", contract.warnings);
    let text = contract.to_string();
    assert!(text.contains("\n  server: Script 3.1\n") && text.contains("warning: Script 3.1: it is slow"), "{text}");
    running.stop().await.unwrap();
}
