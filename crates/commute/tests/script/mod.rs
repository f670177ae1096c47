//! A broker that does what a test says, and what a test holds of it.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use commute::{Envelope, Error, Receipt, SharedBroker, Timestamp};
use commute_core::{
    BoxFuture, Broker, Capabilities, Change, Delivery, DeliveryTag, Durability, GroupOrder, Ordering, Outgoing, Parked,
    Receiver, Server, Settlement, Settler, Subscription, SubscriptionSpec,
};
use tokio::sync::{Mutex as AsyncMutex, Notify, mpsc};

type Result<T> = std::result::Result<T, Error>;

/// A broker that does what a test says, and remembers what it was told.
struct Scripted {
    capabilities: Capabilities,
    server: Server,
    deliveries: Mutex<Option<mpsc::Receiver<Vec<Delivery>>>>,
    ends: Arc<Ends>,
}

/// The broker's side of a subscription.
pub struct Ends {
    changes: AsyncMutex<mpsc::Receiver<Change>>,
    change: mpsc::Sender<Change>,
    /// A change that comes in the moment in which deliveries are taken.
    pub along: Mutex<Option<Change>>,
    pub parked: Mutex<Vec<Parked>>,
    stored: Mutex<HashMap<DeliveryTag, Arc<Envelope>>>,
    /// What the next reads answer instead.
    pub unreadable: Mutex<VecDeque<Result<Vec<Envelope>>>>,
    settled: Mutex<Vec<Settlement>>,
    told: Notify,
    pub reading: Hold,
    pub looking: Hold,
    pub unparking: Hold,
}

/// Where a test holds what is asked of the broker.
#[derive(Default)]
pub struct Hold {
    shut: AtomicBool,
    begun: Notify,
    opened: Notify,
}

impl Hold {
    /// The next calls stay here.
    pub fn shut(&self) {
        self.shut.store(true, std::sync::atomic::Ordering::SeqCst);
    }

    /// Goes on with the call that is held here, and holds no more.
    pub fn open(&self) {
        self.shut.store(false, std::sync::atomic::Ordering::SeqCst);
        self.opened.notify_one();
    }

    /// Waits until a call is held here.
    pub async fn held(&self) {
        tokio::time::timeout(Duration::from_secs(600), self.begun.notified()).await.expect("a call");
    }

    async fn pass(&self) {
        if self.shut.load(std::sync::atomic::Ordering::SeqCst) {
            self.begun.notify_one();
            self.opened.notified().await;
        }
    }
}

struct Inlet(mpsc::Receiver<Vec<Delivery>>, Arc<Ends>);
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
        Box::pin(async move { Ok(Subscription { receiver: Box::new(Inlet(deliveries, settler.0.clone())), settler }) })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

impl Receiver for Inlet {
    fn receive(&mut self, _max: usize) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        Box::pin(async {
            let deliveries = self.0.recv().await.unwrap_or_default();
            if let Some(change) = self.1.along.lock().unwrap().take() {
                self.1.change.try_send(change).unwrap();
            }
            Ok(deliveries)
        })
    }
}

impl Settler for Outlet {
    fn settle(&self, settlements: Vec<Settlement>) -> BoxFuture<'_, Result<()>> {
        self.0.settled.lock().unwrap().extend(settlements);
        self.0.told.notify_waiters();
        Box::pin(async { Ok(()) })
    }

    fn read(&self, tags: &[DeliveryTag]) -> BoxFuture<'_, Result<Vec<Envelope>>> {
        let tags = tags.to_vec();
        Box::pin(async move {
            self.0.reading.pass().await;
            if let Some(answer) = self.0.unreadable.lock().unwrap().pop_front() {
                return answer;
            }
            let stored = self.0.stored.lock().unwrap();
            Ok(tags.iter().map(|tag| (*stored[tag]).clone()).collect())
        })
    }

    fn parked(&self) -> BoxFuture<'_, Result<Vec<Parked>>> {
        let parked = self.0.parked.lock().unwrap().clone();
        Box::pin(async {
            self.0.looking.pass().await;
            Ok(parked)
        })
    }

    fn unpark(&self, tags: Vec<DeliveryTag>) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        let stored = self.0.stored.lock().unwrap();
        let deliveries = tags.into_iter().map(|tag| delivery(tag, stored[&tag].clone())).collect();
        Box::pin(async {
            self.0.unparking.pass().await;
            Ok(deliveries)
        })
    }

    fn backlog(&self) -> BoxFuture<'_, Result<Option<u64>>> {
        Box::pin(async { Ok(Some(0)) })
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
pub struct Script {
    pub broker: SharedBroker,
    deliver: mpsc::Sender<Vec<Delivery>>,
    pub change: mpsc::Sender<Change>,
    pub ends: Arc<Ends>,
}

impl Script {
    pub fn new() -> Self {
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
            change: change.clone(),
            along: Mutex::default(),
            parked: Mutex::default(),
            stored: Mutex::default(),
            unreadable: Mutex::default(),
            settled: Mutex::default(),
            told: Notify::new(),
            reading: Hold::default(),
            looking: Hold::default(),
            unparking: Hold::default(),
        });
        let degradations = vec!["it is slow on Mondays".to_owned()];
        let server = Server { product: "Script".to_owned(), version: Some("3.1".to_owned()), degradations };
        let deliveries = Mutex::new(Some(deliveries));
        let broker = Arc::new(Scripted { capabilities, server, deliveries, ends: ends.clone() });
        Script { broker, deliver, change, ends }
    }

    /// Delivers pings by their numbers, which are their positions, too.
    pub async fn deliver(&self, incarnation: u32, numbers: impl IntoIterator<Item = u64>) {
        let deliveries = numbers.into_iter().map(|n| {
            let tag = DeliveryTag { position: n, incarnation };
            let payload = format!("{{\"n\":{n}}}");
            let envelope: Arc<_> = Envelope::new("test", "test.ping", Timestamp(0), payload.into()).into();
            self.ends.stored.lock().unwrap().insert(tag, envelope.clone());
            delivery(tag, envelope)
        });
        let deliveries = deliveries.collect();
        self.deliver.send(deliveries).await.unwrap();
    }

    /// Waits until so many settlements have come, and says them in the order of their positions.
    pub async fn settled(&self, count: usize) -> Vec<String> {
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

fn delivery(tag: DeliveryTag, envelope: Arc<Envelope>) -> Delivery {
    Delivery { envelope, tag, attempt: 1, not_before: None, published: Timestamp(0), malformed: None }
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
