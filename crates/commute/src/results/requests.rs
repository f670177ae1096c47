//! Requests: events whose results come back to whoever published them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use commute_core::{
    Change, Clock, Code, Context, Delivery, DeliveryTag, Error, Event, EventId, Incoming, Receiver, Result, Route,
    Settlement, Settler, SharedBroker, States, SubscriptionSpec, SystemClock, Topic, admin, extension,
};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::asked::{Asked, Expect, Results};
use super::desk::{Desk, oldest};
use super::handled::HandledResult;
use crate::dead_letter::given_up;
use crate::lock::lock;
use crate::publish::{Message, Publisher, Signer};
use crate::reply;
use crate::timer::Deadline;

/// One receive asks for at most this many.
const BATCH: usize = 512;

/// How to ask. Begin with [`Requests::builder`].
#[derive(Clone)]
pub struct RequestsBuilder {
    name: Arc<str>,
    keep: Duration,
    held: usize,
    clock: Arc<dyn Clock>,
}

impl RequestsBuilder {
    /// For how long results are kept that nobody has collected; a day unless said. What is older is let go when others arrive.
    pub fn keep(mut self, age: Duration) -> Self {
        self.keep = age;
        self
    }

    /// How many results are kept at most; 16,384 unless said. When there are more, the oldest that nobody waits for are let go. It
    /// must be less than what the broker hands over unsettled, where its URL limits that (`prefetch`).
    pub fn at_most(mut self, results: usize) -> Self {
        self.held = results.max(1);
        self
    }

    /// Where the time comes from; the machine's clock unless said.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Opens its topic of results.
    ///
    /// # Errors
    /// `InvalidTopic` when the name is no topic name; the broker's otherwise.
    pub async fn open(self, broker: SharedBroker) -> Result<Requests> {
        let topic = Topic::new(format!("{}{}", self.name, reply::SUFFIX))?;
        let dead_letters = topic.dead_letters()?;
        let credit = self.held.saturating_add(BATCH);
        let spec = SubscriptionSpec::new(topic.clone(), self.name.clone()).credit(credit);
        let opened = broker.subscribe(spec).await?;
        let publisher = Publisher::new(broker.clone(), self.name.clone());
        let route = Arc::new(Route { topic, subscription: self.name.clone(), states: States::default() });
        let counter = Arc::new(Counter {
            desk: Mutex::new(Desk::default()),
            settler: opened.settler,
            route,
            dead_letters,
            broker,
            options: self,
            chores: tokio::sync::Notify::new(),
        });
        let requests =
            Inner { counter: counter.clone(), publisher, stop: CancellationToken::new(), tasks: TaskTracker::new() };
        requests.tasks.spawn(read(counter, opened.receiver, requests.stop.clone()));
        requests.tasks.close();
        Ok(Requests(Arc::new(requests)))
    }
}

/// Publishes events and collects what their handlers answered: values, failures with their reasons, or "not yet".
///
/// A requester has a durable topic of its own, `NAME.results`, and the group `NAME` on it. Whatever asks there is answered
/// there, also when the requester or a service was away in between. One process at a time may open a name: give every
/// instance of a service its own, or an answer comes to the wrong one. Cheap to clone.
///
/// ```
/// use commute::prelude::*;
/// use std::time::Duration;
///
/// #[derive(Debug, Serialize, Deserialize, Event)]
/// #[event(type = "price.asked", key = "product")]
/// struct Asked { product: String }
/// #[derive(Debug, Serialize, Deserialize, Event)]
/// #[event(type = "price.found")]
/// struct Price { pence: u64 }
///
/// async fn price(_asked: Asked) -> Price { Price { pence: 85 } }
///
/// # #[tokio::main]
/// # async fn main() -> commute::Result<()> {
/// let broker = commute::connect("memory:").await?;
/// let pricing = App::new("pricing").broker(broker.clone()).on("prices", handler(price).replies()).start().await?;
/// let requests = commute::Requests::open(broker, "web-shop").await?;
/// let results = requests.request("prices", &Asked { product: "85123A".into() }, Duration::from_secs(5)).await?;
/// assert_eq!(results.value::<Price>()?.map(|price| price.pence), Some(85));
/// # requests.close().await;
/// # pricing.stop().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Requests(Arc<Inner>);

struct Inner {
    counter: Arc<Counter>,
    publisher: Publisher,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// What callers and the reader share.
struct Counter {
    desk: Mutex<Desk>,
    settler: Arc<dyn Settler>,
    route: Arc<Route>,
    dead_letters: Topic,
    broker: SharedBroker,
    options: RequestsBuilder,
    /// There is something to settle.
    chores: tokio::sync::Notify,
}

impl Requests {
    /// Opens the topic of results of a requester, with a day to collect them.
    ///
    /// # Errors
    /// As [`RequestsBuilder::open`].
    pub async fn open(broker: SharedBroker, name: impl Into<Arc<str>>) -> Result<Requests> {
        Self::builder(name).open(broker).await
    }

    /// Begins to describe a requester.
    pub fn builder(name: impl Into<Arc<str>>) -> RequestsBuilder {
        RequestsBuilder {
            name: name.into(),
            keep: Duration::from_secs(24 * 3600),
            held: 16_384,
            clock: Arc::new(SystemClock),
        }
    }

    /// Publishes an event and collects the results of all groups of the topic: [`Requests::ask`], then
    /// [`Requests::collect`]. The time counts from the receipt on.
    ///
    /// # Errors
    /// As these two. That somebody has not answered in time is no error.
    pub async fn request<E: Event>(&self, topic: &str, event: &E, timeout: Duration) -> Result<Results> {
        let asked = self.ask(topic, Message::of(event)?).await?;
        self.collect(&asked, timeout).await
    }

    /// Publishes an event that asks for its results. Its correlation id is its own id. With an id of the caller's own, asking
    /// again publishes nothing twice and collects the same results.
    ///
    /// # Errors
    /// As [`Publisher::publish`].
    pub async fn ask(&self, topic: &str, mut message: Message) -> Result<Asked> {
        let id = message.settled_id();
        let message = message
            .extension(extension::CORRELATION_ID, id.as_str())
            .extension(extension::REPLY_TO, self.0.counter.route.topic.as_str());
        self.0.publisher.send(topic, [message]).await?;
        Ok(Asked::new(id, topic))
    }

    /// Waits until everybody has answered who should, and at most `timeout`. Answers everything that is known of the request,
    /// however often it is asked, until it is complete; the last 1,024 complete ones can be collected again.
    ///
    /// Cancel safe: a dropped collect takes nothing with it.
    ///
    /// # Errors
    /// `Closed` when the requester was closed or the broker was; the broker's.
    pub async fn collect(&self, asked: &Asked, timeout: Duration) -> Result<Results> {
        let deadline = Deadline::after(timeout);
        let expect = self.expected(asked).await?;
        let counter = &*self.0.counter;
        let waiting = Waiting { counter, id: &asked.id, changed: lock(&counter.desk).enter(&asked.id) };
        loop {
            let changed = waiting.changed.notified();
            tokio::pin!(changed);
            // Registered before looking, so that nothing is missed in between.
            changed.as_mut().enable();
            let (results, absent) = lock(&counter.desk).results(&asked.id);
            if !absent.is_empty() {
                let read = counter.read_again(absent).await?;
                lock(&counter.desk).loaded(&asked.id, read);
                continue;
            }
            let results = Results::of(asked, &expect, results.into_iter());
            if results.is_complete() {
                if results.is_final() {
                    lock(&counter.desk).finish(&asked.id);
                }
                return Ok(results);
            }
            lock(&counter.desk).is_open()?;
            if deadline.wait(changed).await.is_none() {
                return Ok(results);
            }
        }
    }

    /// How many results lie here unsettled.
    pub fn held(&self) -> usize {
        lock(&self.0.counter.desk).held
    }

    /// How many requests are being waited for.
    pub fn waited_for(&self) -> usize {
        lock(&self.0.counter.desk).waited_for()
    }

    /// Stops reading. Who waits gets `Closed`; results that were not collected are there at the next opening.
    pub async fn close(&self) {
        self.0.stop.cancel();
        self.0.tasks.wait().await;
    }

    async fn expected(&self, asked: &Asked) -> Result<Expect> {
        let Expect::Groups = asked.expect else { return Ok(asked.expect.clone()) };
        let Some(admin) = self.0.counter.broker.admin() else { return Ok(Expect::Count(1)) };
        match admin.groups(Some(Topic::new(&asked.topic)?)).await {
            Ok(groups) => {
                let names = groups.into_iter().map(|group| group.subscription.group);
                let names: std::collections::BTreeSet<_> = names.filter(|name| name != admin::DEAD_LETTERS).collect();
                Ok(if names.is_empty() { Expect::Count(1) } else { Expect::From(names) })
            }
            Err(error) if error.code() == Code::NeedNotMet => Ok(Expect::Count(1)),
            Err(error) => Err(error),
        }
    }
}

impl std::fmt::Debug for Requests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Requests({})", self.0.counter.options.name)
    }
}

impl std::fmt::Debug for RequestsBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RequestsBuilder({})", self.name)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Somebody who waits, until dropped.
struct Waiting<'a> {
    counter: &'a Counter,
    id: &'a EventId,
    changed: Arc<tokio::sync::Notify>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(&self.counter.desk).leave(self.id);
        self.counter.sweep();
    }
}

/// Reads results until it is told to stop; the receiver outlives the last settlement.
async fn read(counter: Arc<Counter>, mut receiver: Box<dyn Receiver>, stop: CancellationToken) {
    let ended = loop {
        let received = tokio::select! {
            biased;
            () = stop.cancelled() => break Error::new(Code::Closed, "the requester is closed"),
            change = counter.settler.changed() => {
                if let Change::Revoked(incarnation) = change {
                    lock(&counter.desk).revoked(incarnation);
                }
                Ok(None)
            }
            () = counter.chores.notified() => Ok(None),
            received = receiver.receive(BATCH) => received.map(Some),
        };
        match received {
            Ok(Some(deliveries)) if deliveries.is_empty() => {
                break Error::new(Code::Closed, "the broker was closed");
            }
            Ok(deliveries) => counter.take_in(deliveries.unwrap_or_default()),
            Err(error) => break error,
        }
        let settlements = std::mem::take(&mut lock(&counter.desk).settle);
        if settlements.is_empty() {
            continue;
        }
        if let Err(error) = counter.settler.settle(settlements).await {
            break error;
        }
    };
    if ended.code() != Code::Closed {
        tracing::error!(requester = %counter.options.name, error = %ended, "results are not read any more");
    }
    lock(&counter.desk).end(&ended);
}

impl Counter {
    fn take_in(&self, deliveries: Vec<Delivery>) {
        for delivery in deliveries {
            let Delivery { envelope, tag, attempt, published, malformed, .. } = delivery;
            let read = match malformed {
                Some(reason) => Err(Error::new(Code::InvalidEvent, reason.to_string())),
                None if *envelope.event_type == *HandledResult::TYPE => HandledResult::decode(&envelope),
                None => Err(Error::new(Code::UnknownType, format!("a {} is no result", envelope.event_type))),
            };
            match read {
                Ok(result) => lock(&self.desk).arrived(tag, published, result),
                Err(error) => {
                    let context = Context { envelope, route: self.route.clone(), attempt, published };
                    let settlement = self.refused(tag, &context, &error);
                    lock(&self.desk).settle.push(settlement);
                }
            }
        }
        self.sweep();
    }

    async fn read_again(&self, tags: Vec<DeliveryTag>) -> Result<Vec<(DeliveryTag, HandledResult)>> {
        let envelopes = self.settler.read(&tags).await?;
        if envelopes.len() != tags.len() {
            return Err(Error::new(Code::Damaged, "results that are not settled are not stored any more"));
        }
        let read = tags.into_iter().zip(&envelopes);
        read.map(|(tag, envelope)| Ok((tag, HandledResult::decode(envelope)?))).collect()
    }

    fn refused(&self, tag: DeliveryTag, context: &Context, error: &Error) -> Settlement {
        let now = self.options.clock.now();
        let by = Signer { name: &self.options.name, now, given: self.broker.capabilities() };
        tracing::warn!(requester = %self.options.name, event = %context.envelope.id, %error, "not a result; it becomes a dead letter");
        let (code, reason) = (error.code(), error.detail().to_owned());
        given_up(&by, tag, &self.dead_letters, context, context.attempt, code, reason).unwrap_or_else(|_| {
            // What cannot be written down is kept, and delays nobody.
            Settlement::Park { tag, attempts: context.attempt, lanes: Vec::new(), reason: Some(error.to_string()) }
        })
    }

    fn sweep(&self) {
        let mut desk = lock(&self.desk);
        let lost = desk.sweep(oldest(self.options.clock.now(), self.options.keep), self.options.held);
        let chores = !desk.settle.is_empty();
        drop(desk);
        if lost > 0 {
            tracing::warn!(requester = %self.options.name, lost, "there is no room for results that nobody collected");
        }
        if chores {
            self.chores.notify_one();
        }
    }
}
