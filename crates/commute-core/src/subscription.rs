//! Subscriptions: a group's durable interest in a topic, with one end to receive and one to settle.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::envelope::Envelope;
use crate::error::Result;
use crate::footprint::Mode;
use crate::foreign::Mapping;
use crate::future::BoxFuture;
use crate::key::Lane;
use crate::outgoing::Outgoing;
use crate::topic::Topic;

/// What to subscribe to, and as whom.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SubscriptionSpec {
    /// The topic.
    pub topic: Topic,
    /// The group: instances that name the same group share its work; each group gets every event.
    pub group: Arc<str>,
    /// How many deliveries may be unsettled at once, over everything that `receive` returned.
    pub credit: usize,
    /// How long a delivery stays ours without a sign of life from this process. A backend in the same process may
    /// ignore it.
    pub lease: Duration,
    /// How messages that are no CloudEvents become envelopes. Without one they are delivered as malformed.
    pub mapping: Option<Arc<Mapping>>,
    /// A queue that exists already and is consumed as it is, instead of the one that commute would declare.
    pub queue: Option<Arc<str>>,
}

impl SubscriptionSpec {
    /// A group's interest in a topic, with credit for 1,024 deliveries and a lease of a minute.
    pub fn new(topic: Topic, group: impl Into<Arc<str>>) -> Self {
        let lease = Duration::from_secs(60);
        SubscriptionSpec { topic, group: group.into(), credit: 1024, lease, mapping: None, queue: None }
    }

    /// Sets the credit.
    pub fn credit(mut self, deliveries: usize) -> Self {
        self.credit = deliveries;
        self
    }

    /// Sets the lease.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }
}

/// The two ends of an open subscription, so that two rooms can each own one.
pub struct Subscription {
    /// Takes deliveries.
    pub receiver: Box<dyn Receiver>,
    /// Ends them.
    pub settler: Arc<dyn Settler>,
}

/// The end that takes deliveries.
pub trait Receiver: Send {
    /// Waits for deliveries and returns 1 to `max` of them, in topic order, never more than the credit allows. Deferred
    /// events come back in their place after a restart. An empty vector means that the subscription was closed.
    ///
    /// Cancel safe: a dropped future takes nothing with it.
    ///
    /// # Errors
    /// When the backend failed for good; what is unsettled is delivered again after a restart.
    fn receive(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>>>;

    /// Nothing will be received for a while: what came and was not returned by `receive` goes back, and so does what comes before
    /// the next one. A backend that keeps nothing, or cannot, does nothing.
    fn give_back(&mut self) {}
}

/// The end that ends deliveries. Only the engine's `settle` room owns one.
pub trait Settler: Send + Sync + 'static {
    /// Makes settlements durable, in order; each is all or nothing. Whether that is so for acknowledgements when this
    /// returns, or a moment later, says `Capabilities::confirmed_acks`. The order of effects of two calls is the order in
    /// which their futures were first polled. Settling a tag of an older incarnation does nothing.
    ///
    /// # Errors
    /// Assume that a prefix was settled and the rest will be delivered again.
    fn settle(&self, settlements: Vec<Settlement>) -> BoxFuture<'_, Result<()>>;

    /// Reads the envelopes of unsettled or parked deliveries again (their payload may have been dropped meanwhile).
    ///
    /// # Errors
    /// When the backend cannot, or the data is damaged.
    fn read(&self, tags: &[DeliveryTag]) -> BoxFuture<'_, Result<Vec<Envelope>>>;

    /// Everything parked in this subscription, in the order in which it was parked.
    ///
    /// # Errors
    /// When the backend cannot say.
    fn parked(&self) -> BoxFuture<'_, Result<Vec<Parked>>>;

    /// Takes parked events back into flight, durably, all or nothing; attempts start anew. They are not returned by
    /// `receive`: the caller has them now.
    ///
    /// # Errors
    /// `NotParked` when one of them is not parked; nothing is done then.
    fn unpark(&self, tags: Vec<DeliveryTag>) -> BoxFuture<'_, Result<Vec<Delivery>>>;

    /// How many events are stored for this subscription and not yet received, if the backend can say. It asks the
    /// server: whatever had a receipt before the call is counted.
    ///
    /// # Errors
    /// When the server did not answer.
    fn backlog(&self) -> BoxFuture<'_, Result<Option<u64>>>;

    /// Waits for the next change in what is ours, and answers it. A change is answered once, and before any delivery of
    /// an incarnation that it announces is received. A backend whose subscriptions belong to one instance never answers.
    ///
    /// Cancel safe.
    fn changed(&self) -> BoxFuture<'_, Change> {
        Box::pin(std::future::pending())
    }

    /// How many redeliveries and duplicates the backend has absorbed itself since it was opened.
    fn absorbed(&self) -> u64 {
        0
    }
}

/// What became ours, or ceases to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Deliveries of this incarnation will come, and what is parked under it is in [`Settler::parked`] now.
    Assigned(u32),
    /// Another instance takes over. Whatever of this incarnation is not begun should be returned at once; what is
    /// running may still be settled, for as long as the backend waits (`SubscriptionSpec::lease` at most). Settling later does
    /// nothing.
    Revoked(u32),
}

/// Names one delivery of one subscription incarnation. What it means is the backend's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryTag {
    /// The event's place in the subscription.
    pub position: u64,
    /// Which opening of the subscription handed it out; settling with an older one does nothing.
    pub incarnation: u32,
}

/// One handing-over of an event.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The event. Shared, because the backend may keep it until it is settled.
    pub envelope: Arc<Envelope>,
    /// For settling.
    pub tag: DeliveryTag,
    /// Which attempt this will be, from 1.
    pub attempt: u32,
    /// The back-off that was running when the last process stopped.
    pub not_before: Option<Timestamp>,
    /// When the broker took the event in.
    pub published: Timestamp,
    /// Why the message could not be read as an event, and what the envelope holds is only what could be saved of it.
    pub malformed: Option<Arc<str>>,
}

/// The complete set of things that can be said of a delivery.
#[derive(Debug, Clone)]
pub enum Settlement {
    /// Handled. The events are published with it, atomically where `Capabilities::atomic_settle` says so and before it
    /// otherwise. `mark` remembers the event's id in the subscription's inbox.
    Ack {
        /// Which delivery.
        tag: DeliveryTag,
        /// What to publish.
        publish: Vec<Outgoing>,
        /// Whether the inbox remembers the id.
        mark: bool,
    },
    /// Failed, and will be tried again by whoever holds it. It stays in flight; the numbers survive a restart.
    Defer {
        /// Which delivery.
        tag: DeliveryTag,
        /// Attempts made so far.
        attempts: u32,
        /// When it is due.
        not_before: Timestamp,
    },
    /// Set aside durably, in the order of settling, with the lanes that it holds.
    Park {
        /// Which delivery.
        tag: DeliveryTag,
        /// Attempts made so far.
        attempts: u32,
        /// What later events must not overtake it on.
        lanes: Vec<(Lane, Mode)>,
        /// Why: the failure of the event itself, or nothing when it waits behind another.
        reason: Option<String>,
    },
    /// Not handled: delivered again, at once, to whoever asks; no attempt is counted.
    Return {
        /// Which delivery.
        tag: DeliveryTag,
    },
}

impl Settlement {
    /// The delivery it speaks of.
    pub fn tag(&self) -> DeliveryTag {
        match self {
            Settlement::Ack { tag, .. }
            | Settlement::Defer { tag, .. }
            | Settlement::Park { tag, .. }
            | Settlement::Return { tag } => *tag,
        }
    }
}

/// An event that is set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// For reading and taking it back.
    pub tag: DeliveryTag,
    /// Attempts made before it was parked.
    pub attempts: u32,
    /// The lanes it holds.
    pub lanes: Vec<(Lane, Mode)>,
    /// Its failure, or nothing when it waits behind another.
    pub reason: Option<String>,
    /// When.
    pub since: Timestamp,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subscription")
    }
}
