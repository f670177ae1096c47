//! Pulling: one delivery, or a few, taken when the caller wants them and settled by hand, without an engine.

mod pulled;
mod waiting;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use commute_core::{
    Change, Clock, Code, Context, Delivery, Error, Mapping, Receiver, Result, Route, Settlement, Settler, SharedBroker,
    States, SubscriptionSpec, SystemClock, Topic, extension,
};
use tokio::sync::Notify;
use tokio::time::Instant;

pub use pulled::Pulled;

use crate::dead_letter::given_up;
use crate::lock::lock;
use crate::publish::Signer;
use crate::retry::{Backoff, Budget};
use crate::timer::Deadline;
use waiting::{Held, Waiting};

/// How to pull. Begin with [`Puller::builder`].
#[derive(Clone)]
pub struct PullerBuilder {
    topic: String,
    dead_letters: Option<String>,
    spec: Spec,
    backoff: Backoff,
    clock: Arc<dyn Clock>,
}

#[derive(Clone)]
struct Spec {
    group: Arc<str>,
    credit: usize,
    lease: Duration,
    mapping: Option<Arc<Mapping>>,
    queue: Option<Arc<str>>,
}

impl PullerBuilder {
    /// How many deliveries may be unsettled at once: in the caller's hands, backing off, or held back behind one that is; 1,024
    /// unless said.
    pub fn credit(mut self, deliveries: usize) -> Self {
        self.spec.credit = deliveries.max(1);
        self
    }

    /// How long deliveries stay ours without a sign of life from this process; a minute unless said.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.spec.lease = lease;
        self
    }

    /// How messages that are no CloudEvents become events; without it they become dead letters.
    pub fn mapping(mut self, mapping: Mapping) -> Self {
        self.spec.mapping = Some(Arc::new(mapping));
        self
    }

    /// Pulls from this queue, which exists already, exactly as it is. For brokers that have queues; others refuse.
    pub fn queue(mut self, name: impl Into<Arc<str>>) -> Self {
        self.spec.queue = Some(name.into());
        self
    }

    /// When an event that is retried comes again, and how often it is tried; [`Backoff::exponential`] unless said.
    pub fn retry(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// The topic of dead letters, instead of `TOPIC.dead`.
    pub fn dead_letters_to(mut self, topic: impl Into<String>) -> Self {
        self.dead_letters = Some(topic.into());
        self
    }

    /// Where the time comes from; the machine's clock unless said.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Opens the subscription.
    ///
    /// # Errors
    /// `InvalidTopic` for a name that is none; the broker's otherwise.
    pub async fn open(self, broker: SharedBroker) -> Result<Puller> {
        let topic = Topic::new(&self.topic)?;
        // Groups are named like apps, which are named like topics.
        Topic::new(&self.spec.group)?;
        let dead_letters = match &self.dead_letters {
            Some(name) => Topic::new(name)?,
            None => topic.dead_letters()?,
        };
        let Spec { group, credit, lease, mapping, queue } = self.spec;
        let mut spec = SubscriptionSpec::new(topic.clone(), group.clone()).credit(credit).lease(lease);
        (spec.mapping, spec.queue) = (mapping, queue);
        let opened = broker.subscribe(spec).await?;
        let hand = Hand {
            broker,
            route: Arc::new(Route { topic, subscription: group, states: States::default() }),
            dead_letters,
            settler: opened.settler,
            budget: Budget::new(self.backoff.budget),
            backoff: self.backoff,
            clock: self.clock,
            waiting: Mutex::new(Waiting::default()),
            changed: Notify::new(),
        };
        Ok(Puller { hand: Arc::new(hand), receiver: opened.receiver, chores: Vec::new() })
    }
}

impl std::fmt::Debug for PullerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PullerBuilder({} of {})", self.spec.group, self.topic)
    }
}

/// Takes deliveries of a group one by one, for whoever wants no engine: the same leases, attempts, dead letters and results.
///
/// **Order.** Deliveries come in the order of their topic. One that was retried comes again when it is due, before any that was
/// not taken yet; until then those behind it with its key are held back. Events that were taken already are the caller's: take the next
/// one when the last is settled, and the order of a key holds through retries.
///
/// **Nothing is lost.** What is not settled when the puller goes is delivered again, to this or another instance of the group,
/// with its attempts. A delivery is settled when the call that settles it has returned. Messages that are no events
/// become dead letters on the way; events that were redriven for another group are let pass.
///
/// ```
/// use commute::prelude::*;
/// use commute::Puller;
///
/// #[derive(Debug, Serialize, Deserialize, Event)]
/// #[event(type = "report.asked")]
/// struct ReportAsked { month: u8 }
///
/// # #[tokio::main]
/// # async fn main() -> commute::Result<()> {
/// let broker = commute::connect("memory:").await?;
/// Publisher::new(broker.clone(), "doc").publish("reports", &ReportAsked { month: 12 }).await?;
/// let mut reports = Puller::open(broker, "reports", "printer").await?;
/// let pulled = reports.take().await?;
/// match pulled.decode::<ReportAsked>() {
///     Ok(asked) if asked.month <= 12 => pulled.ack().await?,
///     Ok(_) => pulled.reject("there is no such month").await?,
///     Err(error) => pulled.reject(error).await?,
/// }
/// # Ok(())
/// # }
/// ```
pub struct Puller {
    hand: Arc<Hand>,
    receiver: Box<dyn Receiver>,
    /// What needs no hand, to be settled before the next receive.
    chores: Vec<Settlement>,
}

/// What a puller shares with what was pulled.
struct Hand {
    broker: SharedBroker,
    route: Arc<Route>,
    dead_letters: Topic,
    settler: Arc<dyn Settler>,
    backoff: Backoff,
    budget: Budget,
    clock: Arc<dyn Clock>,
    waiting: Mutex<Waiting>,
    /// Something waits that did not before.
    changed: Notify,
}

impl Hand {
    fn signer(&self) -> Signer<'_> {
        Signer { name: &self.route.subscription, now: self.clock.now(), given: self.broker.capabilities() }
    }

    fn give_up(&self, held: &Held, code: Code, reason: String) -> Result<Settlement> {
        let Held { tag, context } = held;
        let attempts = context.attempt;
        tracing::warn!(group = %self.route.subscription, event = %context.envelope.id, %code, %reason, "an event becomes a dead letter");
        given_up(&self.signer(), *tag, &self.dead_letters, context, attempts, code, reason)
    }
}

impl Puller {
    /// Opens a group of a topic with everything as it is unless said.
    ///
    /// # Errors
    /// As [`PullerBuilder::open`].
    pub async fn open(broker: SharedBroker, topic: impl Into<String>, group: impl Into<Arc<str>>) -> Result<Puller> {
        Self::builder(topic, group).open(broker).await
    }

    /// Begins to describe a puller.
    pub fn builder(topic: impl Into<String>, group: impl Into<Arc<str>>) -> PullerBuilder {
        let lease = Duration::from_secs(60);
        let spec = Spec { group: group.into(), credit: 1024, lease, mapping: None, queue: None };
        let (backoff, clock) = (Backoff::default(), Arc::new(SystemClock));
        PullerBuilder { topic: topic.into(), dead_letters: None, spec, backoff, clock }
    }

    /// Takes the next delivery, and waits for one. While as many as the credit are in the caller's hands, it waits for one of
    /// them to be settled.
    ///
    /// Cancel safe: a dropped take takes nothing with it.
    ///
    /// # Errors
    /// `Closed` when the broker was closed; the broker's.
    pub async fn take(&mut self) -> Result<Pulled> {
        loop {
            if let Some(pulled) = self.next() {
                return Ok(pulled);
            }
            self.fetch(1).await?;
        }
    }

    /// Takes up to `most` deliveries, and waits for them at most `longest`: none, some, or all.
    ///
    /// Cancel safe: what a dropped take had taken is taken by the next one.
    ///
    /// # Errors
    /// As [`Puller::take`]; what was taken before is taken by the next one.
    pub async fn take_within(&mut self, most: usize, longest: Duration) -> Result<Vec<Pulled>> {
        let deadline = Deadline::after(longest);
        let mut taken = Vec::new();
        while taken.len() < most {
            if let Some(pulled) = self.next() {
                taken.push(pulled);
                continue;
            }
            match deadline.wait(self.fetch(most - taken.len())).await {
                Some(fetched) => fetched?,
                None => break,
            }
        }
        Ok(taken)
    }

    fn next(&self) -> Option<Pulled> {
        let held = lock(&self.hand.waiting).next(Instant::now())?;
        Some(Pulled::new(held, self.hand.clone()))
    }

    /// Waits until there may be something to take.
    async fn fetch(&mut self, max: usize) -> Result<()> {
        if !self.chores.is_empty() {
            // Dropped in between, this is done once more, which does nothing more.
            self.hand.settler.settle(self.chores.clone()).await?;
            self.chores.clear();
        }
        let next = lock(&self.hand.waiting).next_due();
        let due = async {
            match next {
                Some(time) => tokio::time::sleep_until(time).await,
                None => std::future::pending().await,
            }
        };
        let deliveries = tokio::select! {
            biased;
            change = self.hand.settler.changed() => {
                if let Change::Revoked(incarnation) = change {
                    let back = lock(&self.hand.waiting).withdraw(incarnation);
                    self.chores.extend(back.into_iter().map(|tag| Settlement::Return { tag }));
                }
                return Ok(());
            }
            () = self.hand.changed.notified() => return Ok(()),
            () = due => return Ok(()),
            received = self.receiver.receive(max) => received?,
        };
        if deliveries.is_empty() {
            return Err(Error::new(Code::Closed, "the broker was closed"));
        }
        for delivery in deliveries {
            self.sort(delivery);
        }
        Ok(())
    }

    /// Decides what becomes of a delivery before anybody has it in hand.
    fn sort(&mut self, delivery: Delivery) {
        let Delivery { envelope, tag, attempt, not_before, published, malformed } = delivery;
        let other = envelope.extensions.get(extension::REDRIVE_FOR);
        if other.is_some_and(|group| *group != *self.hand.route.subscription) {
            self.chores.push(Settlement::Ack { tag, publish: Vec::new(), mark: false });
            return;
        }
        let route = self.hand.route.clone();
        let held = Held { tag, context: Context { envelope, route, attempt, published } };
        if let Some(reason) = malformed {
            let given_up = self.hand.give_up(&held, Code::InvalidEvent, reason.to_string());
            // What cannot be written down is kept, and delays nobody.
            self.chores.push(given_up.unwrap_or_else(|error| Settlement::Park {
                tag,
                attempts: attempt,
                lanes: Vec::new(),
                reason: Some(error.to_string()),
            }));
            return;
        }
        let left = not_before.map(|time| time.since(self.hand.clock.now())).unwrap_or_default();
        let mut waiting = lock(&self.hand.waiting);
        if left.is_zero() {
            waiting.ready(held);
        } else {
            waiting.back_off(held, Instant::now() + left);
        }
    }
}

impl std::fmt::Debug for Puller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Puller({} of {})", self.hand.route.subscription, self.hand.route.topic)
    }
}
