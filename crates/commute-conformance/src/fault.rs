//! Faults: a broker that misbehaves, within what the contract allows, to test what stands on one.
//!
//! It stands in front of a sound broker. Every fault is one that real servers have: a publish whose answer is lost, a
//! settlement that is broken off half-way, a lease that runs out while the event is being handled. The same seed and the
//! same calls give the same faults.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering as Atomic};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use commute_core::{
    Admin, Attached, BoxFuture, Broker, Capabilities, Change, Code, Delivery, DeliveryTag, Envelope, Error, Operate,
    Outgoing, Parked, Receipt, Receiver, Result, Server, Settlement, Settler, SharedBroker, Subscription,
    SubscriptionSpec,
};

/// How often something goes wrong, each from 0.0 (never) to 1.0 (always).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Faults {
    /// Where randomness begins.
    pub seed: u64,
    /// A publish fails before anything is stored.
    pub refused_publish: f64,
    /// A publish fails although everything is stored.
    pub unanswered_publish: f64,
    /// A call of settle fails: some are settled, the others are delivered again.
    pub broken_settle: f64,
    /// A lease runs out at once: the delivery is handed over, and will be handed over again.
    pub lost_lease: f64,
}

impl Faults {
    /// None at all.
    pub fn none(seed: u64) -> Self {
        Faults { seed, refused_publish: 0.0, unanswered_publish: 0.0, broken_settle: 0.0, lost_lease: 0.0 }
    }
}

/// A broker that misbehaves.
pub struct Faulty {
    inner: SharedBroker,
    chance: Arc<Chance>,
}

/// Decides what goes wrong, and counts it.
struct Chance {
    faults: Faults,
    random: Mutex<fastrand::Rng>,
    happened: AtomicU64,
}

impl Chance {
    fn random(&self) -> MutexGuard<'_, fastrand::Rng> {
        self.random.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn strikes(&self, probability: f64) -> bool {
        let strikes = self.random().f64() < probability;
        self.happened.fetch_add(u64::from(strikes), Atomic::Relaxed);
        strikes
    }
}

fn unavailable(what: &str) -> Error {
    Error::new(Code::BrokerUnavailable, what)
}

impl Faulty {
    /// Puts faults in front of a broker.
    pub fn new(inner: SharedBroker, faults: Faults) -> Arc<Self> {
        let random = Mutex::new(fastrand::Rng::with_seed(faults.seed));
        let chance = Arc::new(Chance { faults, random, happened: AtomicU64::new(0) });
        Arc::new(Faulty { inner, chance })
    }

    /// How many faults there were.
    pub fn happened(&self) -> u64 {
        self.chance.happened.load(Atomic::Relaxed)
    }
}

impl Broker for Faulty {
    fn driver(&self) -> &'static str {
        self.inner.driver()
    }

    fn address(&self) -> &str {
        self.inner.address()
    }

    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    fn server(&self) -> Option<&Server> {
        self.inner.server()
    }

    fn publish(&self, batch: Vec<Outgoing>) -> BoxFuture<'_, Result<Vec<Receipt>>> {
        Box::pin(async move {
            if self.chance.strikes(self.chance.faults.refused_publish) {
                return Err(unavailable("the connection was lost before the publish"));
            }
            let receipts = self.inner.publish(batch).await?;
            if self.chance.strikes(self.chance.faults.unanswered_publish) {
                return Err(unavailable("the connection was lost before the receipts"));
            }
            Ok(receipts)
        })
    }

    fn subscribe(&self, spec: SubscriptionSpec) -> BoxFuture<'_, Result<Subscription>> {
        Box::pin(async move {
            let Subscription { receiver, settler } = self.inner.subscribe(spec).await?;
            let settler = Arc::new(FaultySettler { inner: settler, chance: self.chance.clone() });
            Ok(Subscription {
                receiver: Box::new(FaultyReceiver { inner: receiver, settler: settler.clone() }),
                settler,
            })
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        self.inner.close()
    }

    fn admin(&self) -> Option<&dyn Admin> {
        self.inner.admin()
    }

    fn attached(&self) -> Option<&Attached> {
        self.inner.attached()
    }

    fn services(&self) -> BoxFuture<'_, Result<Vec<Arc<dyn Operate>>>> {
        self.inner.services()
    }

    fn socket(&self) -> Option<&Path> {
        self.inner.socket()
    }
}

impl std::fmt::Debug for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Faulty").field(&self.chance.faults).finish()
    }
}

struct FaultyReceiver {
    inner: Box<dyn Receiver>,
    settler: Arc<FaultySettler>,
}

impl Receiver for FaultyReceiver {
    fn receive(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        Box::pin(async move {
            let taken = self.inner.receive(max).await?;
            let chance = &self.settler.chance;
            let lost = taken.iter().filter(|_| chance.strikes(chance.faults.lost_lease));
            let lost: Vec<_> = lost.map(|taken| Settlement::Return { tag: taken.tag }).collect();
            if !lost.is_empty() {
                // Polled once, so that it takes effect, and not waited for: a receive that is dropped must take nothing
                // with it, and these deliveries are already in our hands.
                let mut returned = self.settler.inner.settle(lost);
                std::future::poll_fn(|context| {
                    let _ = returned.as_mut().poll(context);
                    std::task::Poll::Ready(())
                })
                .await;
            }
            Ok(taken)
        })
    }

    fn give_back(&mut self) {
        self.inner.give_back();
    }
}

struct FaultySettler {
    inner: Arc<dyn Settler>,
    chance: Arc<Chance>,
}

impl Settler for FaultySettler {
    fn settle(&self, mut settlements: Vec<Settlement>) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if settlements.is_empty() || !self.chance.strikes(self.chance.faults.broken_settle) {
                return self.inner.settle(settlements).await;
            }
            let settled = self.chance.random().usize(..settlements.len());
            for rest in &mut settlements[settled..] {
                *rest = Settlement::Return { tag: rest.tag() };
            }
            self.inner.settle(settlements).await?;
            Err(unavailable("the connection was lost while settling"))
        })
    }

    fn read(&self, tags: &[DeliveryTag]) -> BoxFuture<'_, Result<Vec<Envelope>>> {
        self.inner.read(tags)
    }

    fn parked(&self) -> BoxFuture<'_, Result<Vec<Parked>>> {
        self.inner.parked()
    }

    fn unpark(&self, tags: Vec<DeliveryTag>) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        self.inner.unpark(tags)
    }

    fn backlog(&self) -> BoxFuture<'_, Result<Option<u64>>> {
        self.inner.backlog()
    }

    fn changed(&self) -> BoxFuture<'_, Change> {
        self.inner.changed()
    }

    fn absorbed(&self) -> u64 {
        self.inner.absorbed()
    }
}
