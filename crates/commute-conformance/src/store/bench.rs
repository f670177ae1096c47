//! A bench: one case on one store, with the verbs that cases are written in.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use commute_core::{
    Code, Committed, Emitted, Envelope, Error, EventId, Outbox, Outgoing, Result, Stage, Store, Timestamp, Topic, Unit,
    UnitError,
};
use tokio::sync::oneshot;

use crate::fixture::{Ending, StoreFixture, Verdict, Work};
use crate::trial::within;

/// One case on one store.
pub struct Bench {
    case: &'static str,
    fixture: Arc<dyn StoreFixture>,
    /// Nothing only while the next one is opened.
    store: Option<Arc<dyn Store>>,
    seed: u64,
}

/// What became of a work; waits for it.
pub(crate) type Fate = oneshot::Receiver<Result<Committed, UnitError>>;

impl Bench {
    pub(crate) fn new(case: &'static str, fixture: Arc<dyn StoreFixture>, store: Arc<dyn Store>, seed: u64) -> Self {
        Bench { case, fixture, store: Some(store), seed }
    }

    pub(crate) fn random(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed)
    }

    pub(crate) async fn within<T>(&self, what: &str, future: impl Future<Output = T>) -> T {
        within(self.case, self.fixture.patience(), what, future).await
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        self.store.as_ref().expect("it is open")
    }

    pub(crate) fn outbox(&self) -> Arc<dyn Outbox> {
        self.store().outbox()
    }

    pub(crate) async fn reopen(&mut self, ending: Ending) {
        let previous = self.store.take().expect("it is open");
        let reopened = self.fixture.reopen(previous, ending);
        self.store = Some(self.within("a store on the same data", reopened).await);
    }

    pub(crate) async fn effects(&self) -> Vec<String> {
        self.within("the effects", self.fixture.effects()).await
    }

    /// Hands work to the store, in the name of a subscription and for an event.
    pub(crate) fn submit(&self, subscription: &str, event: &EventId, work: Work, stage: Stage) -> Fate {
        let (done, fate) = oneshot::channel();
        let unit = Unit { subscription: subscription.into(), event: event.clone(), stage };
        // A second answer would be a second call of a function that can be called once: the types promise that.
        self.fixture.work(work).submit(unit, Box::new(move |result| drop(done.send(result))));
        fate
    }

    /// Hands over work with one effect that emits so many events.
    pub(crate) fn submit_effect(&self, event: &EventId, effect: &str, emits: usize, verdict: Verdict) -> Fate {
        let work = Work { effect: effect.into(), emits: (0..emits).map(emitted).collect(), verdict };
        self.submit("subscription", event, work, stage(event, "subscription"))
    }

    pub(crate) async fn fate(&self, fate: Fate) -> Result<Committed, UnitError> {
        self.within("the fate of a work", fate).await.expect("`done` is called")
    }

    /// Hands over work that succeeds, and waits.
    pub(crate) async fn run(&self, event: &EventId, effect: &str, emits: usize) -> Committed {
        let fate = self.submit_effect(event, effect, emits, Verdict::Succeed);
        self.fate(fate).await.expect("the work succeeds")
    }

    /// What is staged after a sequence number, when something must be.
    pub(crate) async fn staged(&self, after: u64, max: usize) -> Vec<(u64, Outgoing)> {
        let staged = self.within("staged events", self.outbox().next(after, max)).await.expect("the outbox works");
        assert!(!staged.is_empty() && staged.len() <= max, "{} of at most {max} events", staged.len());
        assert!(staged.is_sorted_by(|a, b| a.0 < b.0) && staged[0].0 > after, "sequence numbers grow from {after}");
        staged
    }
}

pub(crate) fn emitted(n: usize) -> Emitted {
    let key = n.is_multiple_of(2).then(|| format!("key {n}").into());
    Emitted { event_type: "conformance.emitted", version: 2, key, data: Bytes::from(format!("{{\"n\":{n}}}")) }
}

/// Stages as the engine does: ids are derived from the cause.
pub(crate) fn stage(event: &EventId, subscription: &str) -> Stage {
    let (event, subscription) = (event.clone(), subscription.to_owned());
    Box::new(move |emitted| Ok(staged(&event, &subscription, emitted)))
}

pub(crate) fn staged(event: &EventId, subscription: &str, emitted: Vec<Emitted>) -> Vec<Outgoing> {
    let stage_one = |(n, emitted): (usize, Emitted)| {
        let mut envelope =
            Envelope::new("conformance", emitted.event_type, Timestamp(1_291_191_960_123_456), emitted.data);
        envelope.id = event.derive(subscription, u32::try_from(n).unwrap_or(u32::MAX));
        envelope.subject = Some("a subject".into());
        envelope.extensions.set("dataversion", emitted.version.to_string()).expect("a valid name");
        if let Some(key) = emitted.key {
            envelope.extensions.set("partitionkey", key).expect("a valid name");
        }
        let not_before = (n % 3 == 2).then_some(Timestamp(1_700_000_000_000_000));
        let topic = Topic::new(format!("conformance.target.{}", n % 2)).expect("a valid topic name");
        Outgoing { topic, envelope, not_before }
    };
    emitted.into_iter().enumerate().map(stage_one).collect()
}

/// Refuses to stage.
pub(crate) fn refuse() -> Stage {
    Box::new(|_| Err(Error::new(Code::InvalidEvent, "this event cannot be staged")))
}
