//! A trial: one case on one fixture, with the verbs that cases are written in.

use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering as Atomic};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use commute_core::envelope::extension;
use commute_core::subscription::Receiver;
use commute_core::{
    BoxFuture, Clock, Delivery, DeliveryTag, Envelope, Ordering, Outgoing, Receipt, Settlement, Settler, SharedBroker,
    Subscription, SubscriptionSpec, SystemClock, Timestamp, Topic,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::fixture::{Ending, Fixture, patience};

/// How long something that must not happen is waited for, where nothing that happens instead can be waited for. Too
/// short a time lets a fault pass; it never fails a broker that has none.
const QUIET: Duration = Duration::from_millis(25);

/// How long an acknowledgement may be under way, where settling does not wait until it is durable. What was acknowledged
/// longer ago than this before the end of a connection must not come back.
const UNDER_WAY: Duration = Duration::from_millis(300);

/// The number of an event that says: everything before this was delivered.
const LAST: u64 = u64::MAX;

/// One case on one fixture.
pub struct Trial {
    case: &'static str,
    fixture: Arc<dyn Fixture>,
    /// Nothing only while the next one is opened.
    broker: Option<SharedBroker>,
    seed: u64,
    /// A server keeps what an earlier run with the same seed has left.
    run: u32,
    topics: AtomicU64,
}

impl Trial {
    pub(crate) fn new(case: &'static str, fixture: Arc<dyn Fixture>, broker: SharedBroker, seed: u64) -> Self {
        Trial { case, fixture, broker: Some(broker), seed, run: fastrand::u32(..), topics: AtomicU64::new(0) }
    }

    pub(crate) fn broker(&self) -> &SharedBroker {
        self.broker.as_ref().expect("it is open")
    }

    pub(crate) fn fixture(&self) -> &dyn Fixture {
        &*self.fixture
    }

    pub(crate) fn random(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed)
    }

    /// A topic that no other case uses.
    pub(crate) fn topic(&self, name: &str) -> Topic {
        let n = self.topics.fetch_add(1, Atomic::Relaxed);
        let name = format!("conformance.{:x}.{:x}.{name}.{n}", self.seed, self.run);
        Topic::new(name).expect("a valid topic name")
    }

    /// Waits, but not for ever.
    pub(crate) async fn within<T>(&self, what: &str, future: impl Future<Output = T>) -> T {
        within(self.case, self.fixture.patience(), what, future).await
    }

    /// Publishes to one topic and checks that every event was taken in.
    pub(crate) async fn publish(&self, topic: &Topic, events: impl IntoIterator<Item = Envelope>) -> Vec<Receipt> {
        self.publish_all(events.into_iter().map(|event| to(topic, event)).collect()).await
    }

    pub(crate) async fn publish_all(&self, batch: Vec<Outgoing>) -> Vec<Receipt> {
        let expected = batch.len();
        let receipts = self.within("receipts", self.broker().publish(batch)).await.expect("publishing works");
        assert_eq!(receipts.len(), expected, "one receipt for each envelope");
        receipts
    }

    /// Publishes events with these numbers.
    pub(crate) async fn publish_numbers(&self, topic: &Topic, numbers: impl IntoIterator<Item = u64>) -> Vec<Receipt> {
        self.publish(topic, numbers.into_iter().map(event)).await
    }

    /// Opens a subscription with more credit than any case needs.
    pub(crate) async fn open(&self, topic: &Topic, group: &str) -> Reader {
        self.open_with_credit(topic, group, 100_000).await
    }

    pub(crate) async fn open_with_credit(&self, topic: &Topic, group: &str, credit: usize) -> Reader {
        let spec = SubscriptionSpec::new(topic.clone(), group).credit(credit).lease(Duration::from_secs(30));
        let opened = self.within("the subscription", self.broker().subscribe(spec)).await;
        let Subscription { receiver, settler } = opened.expect("subscribing works");
        let ordering = self.broker().capabilities().ordering;
        Reader { case: self.case, patience: self.fixture.patience(), ordering, receiver: Mutex::new(receiver), settler }
    }

    /// Makes groups known before anything is published, where only what is published later would reach them.
    pub(crate) async fn groups(&self, topic: &Topic, groups: &[&str]) {
        if !self.broker().capabilities().retained {
            for group in groups {
                drop(self.open(topic, group).await);
            }
        }
    }

    /// Ends the connection and opens the data again.
    pub(crate) async fn restart(&mut self, ending: Ending) {
        if !self.broker().capabilities().confirmed_acks {
            self.pass(patience(UNDER_WAY)).await;
        }
        let previous = self.broker.take().expect("it is open");
        let reopened = self.fixture.reconnect(previous, ending);
        self.broker = Some(self.within("a broker on the same data", reopened).await);
    }

    /// Everything that a subscription still has to deliver: publishes one more event and takes until it comes.
    pub(crate) async fn rest(&self, topic: &Topic, reader: &mut Reader) -> Vec<Delivery> {
        self.publish_numbers(topic, [LAST]).await;
        let mut taken = Vec::new();
        loop {
            taken.extend(reader.receive(1000).await);
            if let Some(at) = taken.iter().position(|delivery| number(&delivery.envelope) == LAST) {
                let last = taken.remove(at);
                reader.ack(&[last]).await;
                break;
            }
        }
        taken.extend(reader.quietly(1000).await);
        taken
    }

    /// Checks that a subscription has exactly these left to deliver, in this order.
    pub(crate) async fn expect_rest(&self, topic: &Topic, reader: &mut Reader, expected: &[u64]) -> Vec<Delivery> {
        let rest = self.rest(topic, reader).await;
        reader.check(&rest, expected);
        rest
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.fixture.clock().map_or_else(|| SystemClock.now(), |clock| clock.now())
    }

    /// A time that is short for a test and long for a broker: an hour of a clock that can be moved, half a second of one
    /// that cannot.
    pub(crate) fn while_(&self) -> Duration {
        if self.fixture.clock().is_some() { Duration::from_secs(3600) } else { Duration::from_millis(500) }
    }

    /// Lets time pass.
    pub(crate) async fn pass(&self, time: Duration) {
        match self.fixture.clock() {
            Some(clock) => clock.advance(time),
            None => tokio::time::sleep(time).await,
        }
    }
}

/// An open subscription.
pub(crate) struct Reader {
    case: &'static str,
    patience: Duration,
    ordering: Ordering,
    /// Never locked; it lets a reader be shared, for settling.
    receiver: Mutex<Box<dyn Receiver>>,
    pub(crate) settler: Arc<dyn Settler>,
}

impl Reader {
    /// The end that takes, as the broker made it.
    pub(crate) fn receiver(&mut self) -> &mut dyn Receiver {
        &mut **self.receiver.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for 1 to `max` deliveries.
    pub(crate) async fn receive(&mut self, max: usize) -> Vec<Delivery> {
        let (case, patience) = (self.case, self.patience);
        let taken = within(case, patience, "a delivery", self.receiver().receive(max)).await;
        let taken = taken.expect("receiving works");
        assert!(!taken.is_empty(), "receive answered nothing, which means that the subscription was closed");
        assert!(taken.len() <= max, "receive({max}) answered {} deliveries", taken.len());
        taken
    }

    /// How many are stored and not received, where the broker can say.
    pub(crate) async fn backlog(&self) -> Option<u64> {
        within(self.case, self.patience, "the backlog", self.settler.backlog()).await.expect("asking works")
    }

    /// What comes without waiting for it.
    pub(crate) async fn quietly(&mut self, max: usize) -> Vec<Delivery> {
        match tokio::time::timeout(QUIET, self.receiver().receive(max)).await {
            Ok(taken) => taken.expect("receiving works"),
            Err(_) => Vec::new(),
        }
    }

    /// Waits for so many deliveries, however they are cut.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<Delivery> {
        let mut taken = Vec::new();
        while taken.len() < count {
            taken.extend(self.receive(count - taken.len()).await);
        }
        taken
    }

    /// Waits for exactly these, in this order.
    pub(crate) async fn expect(&mut self, expected: &[u64]) -> Vec<Delivery> {
        let taken = self.take(expected.len()).await;
        self.check(&taken, expected);
        taken
    }

    /// Checks what was delivered; the order, where there is one.
    pub(crate) fn check(&self, taken: &[Delivery], expected: &[u64]) {
        let (mut taken, mut expected) = (numbers(taken), expected.to_vec());
        if self.ordering == Ordering::None {
            taken.sort_unstable();
            expected.sort_unstable();
        }
        assert_eq!(taken, expected, "what was delivered");
    }

    pub(crate) async fn settle(&self, settlements: Vec<Settlement>) {
        let settled = within(self.case, self.patience, "settling", self.settler.settle(settlements)).await;
        settled.expect("settling works");
    }

    pub(crate) async fn ack(&self, deliveries: &[Delivery]) {
        self.settle(deliveries.iter().map(|delivery| ack(delivery.tag)).collect()).await;
    }
}

pub(crate) async fn within<T>(case: &str, patience: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(patience, future).await {
        Ok(value) => value,
        Err(_) => panic!("{case} waited {patience:?} in vain for {what}"),
    }
}

/// Polls a future once. It takes effect, and may be dropped.
pub(crate) async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    poll_fn(|context| match Pin::new(&mut *future).poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Lets a future wait by itself; returns when it does, so that only a wake-up can end it.
pub(crate) async fn waiting<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    let (sender, begun) = oneshot::channel();
    let mut sender = Some(sender);
    let mut future = Box::pin(future);
    let task = tokio::spawn(poll_fn(move |context| {
        let polled = future.as_mut().poll(context);
        if let Some(sender) = sender.take() {
            // Nobody else holds the other end, which waits just below.
            let _ = sender.send(());
        }
        polled
    }));
    let _ = begun.await;
    task
}

/// An event with a number, and a key that all of them share: where order is kept per key, these are in order.
pub(crate) fn event(number: u64) -> Envelope {
    keyed("one", number)
}

/// An event with a number and a key of its own.
pub(crate) fn keyed(key: &str, number: u64) -> Envelope {
    let data = Bytes::from(number.to_string());
    let mut envelope = Envelope::new("conformance", "conformance.event", Timestamp(1_291_191_960_123_456), data);
    envelope.extensions.set(extension::PARTITION_KEY, key).expect("a valid name");
    envelope
}

/// The number of an event.
pub(crate) fn number(envelope: &Envelope) -> u64 {
    let text = std::str::from_utf8(&envelope.data).expect("an event of this case");
    text.parse().expect("an event of this case")
}

pub(crate) fn numbers(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(|delivery| number(&delivery.envelope)).collect()
}

pub(crate) fn tags(deliveries: &[Delivery]) -> Vec<DeliveryTag> {
    deliveries.iter().map(|delivery| delivery.tag).collect()
}

pub(crate) fn to(topic: &Topic, envelope: Envelope) -> Outgoing {
    Outgoing { topic: topic.clone(), envelope, not_before: None }
}

pub(crate) fn ack(tag: DeliveryTag) -> Settlement {
    Settlement::Ack { tag, publish: Vec::new(), mark: false }
}

pub(crate) fn marked(tag: DeliveryTag) -> Settlement {
    Settlement::Ack { tag, publish: Vec::new(), mark: true }
}

pub(crate) fn park(tag: DeliveryTag) -> Settlement {
    Settlement::Park { tag, attempts: 1, lanes: Vec::new(), reason: None }
}

/// Checks that no number occurs twice.
pub(crate) fn assert_each_once(numbers: &[u64]) {
    let mut seen = BTreeSet::new();
    for number in numbers {
        assert!(seen.insert(number), "event {number} was delivered twice");
    }
}

/// Runs a case to its end, on a thread and a runtime of its own, and says on failure how to repeat it.
///
/// Waiting has its deadlines in the case; the one here is for a backend that blocks the thread or spins without ever
/// giving it back, where those cannot be noticed.
pub(crate) fn run_seeded(
    case: &'static str,
    patience: Duration,
    run: impl FnOnce(u64) -> BoxFuture<'static, ()> + Send + 'static,
) {
    let seed = match std::env::var("COMMUTE_SEED") {
        Ok(seed) => seed.parse().expect("COMMUTE_SEED is a number"),
        Err(_) => fastrand::u64(..),
    };
    let (sender, outcome) = mpsc::sync_channel(1);
    let body = move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(run(seed))));
        runtime.shutdown_timeout(Duration::from_secs(1));
        // Whoever waited too long does not want to know.
        let _ = sender.send(outcome);
    };
    std::thread::Builder::new().name(case.to_owned()).spawn(body).expect("a thread");
    match outcome.recv_timeout(patience * 3) {
        Ok(Ok(())) => {}
        Ok(Err(panic)) => {
            eprintln!("{case} failed; COMMUTE_SEED={seed} repeats it");
            std::panic::resume_unwind(panic);
        }
        Err(_) => panic!("{case} does not end: something blocks its thread; COMMUTE_SEED={seed} repeats it"),
    }
}
