//! Handlers as the engine sees them: a function, what it touches, what it publishes, and what to do when it fails.

mod erased;

use std::any::TypeId;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use commute_core::{
    Access, Footprint, Handler, HandlerError, Incoming, IntoOutcome, Key, Needs, Outcome, Types, writes,
};
use tower::{Layer, Service};

pub(crate) use erased::{Decoded, Erased, Handling, LanesOf, always, guarded, layered};
pub use erased::{HandlerService, Invocation};

use crate::retry::{Backoff, Exhausted, OnFailure};

/// Begins the description of a handler. Everything but the function has a default:
///
/// | Not said | Then |
/// |---|---|
/// | `footprint` | the event's key is its only lane; without a key, one event at a time within the subscription |
/// | `retry` | [`Backoff::exponential`] |
/// | `when_exhausted` | [`Exhausted::Park`]; with a declared footprint [`Exhausted::Skip`] |
/// | `on_failure` | [`OnFailure::HoldLane`] |
/// | `timeout` | none |
/// | `publishes` | the handler must not answer with events, unless it `replies` |
pub fn handler<Args: 'static, H: Handler<Args>>(function: H) -> HandlerSpec<H::Event> {
    let mut emits = Vec::new();
    H::Output::emits(&mut emits);
    let mut needs = Needs::default();
    H::needs(&mut needs);
    HandlerSpec {
        parts: Parts {
            types: H::Event::types(),
            emits,
            needs: needs.states,
            transacts: H::Output::transacts(),
            run: erased::erase(function),
            lanes: erased::lanes_by_key::<H::Event>(),
            scope: Scope::ByKey,
            topics: Topics::default(),
            backoff: Backoff::default(),
            when_exhausted: None,
            on_failure: OnFailure::default(),
            timeout: None,
            group: None,
            dead_letters: None,
            replies: false,
        },
        event: PhantomData,
    }
}

/// A handler with everything that was said about it. See [`handler`].
pub struct HandlerSpec<E> {
    pub(crate) parts: Parts,
    event: PhantomData<fn(E)>,
}

/// What is left of a handler when its types are erased.
pub(crate) struct Parts {
    pub(crate) types: Types,
    pub(crate) emits: Vec<&'static str>,
    pub(crate) needs: Vec<(TypeId, &'static str)>,
    pub(crate) transacts: bool,
    pub(crate) run: Erased,
    pub(crate) lanes: LanesOf,
    pub(crate) scope: Scope,
    pub(crate) topics: Topics,
    pub(crate) backoff: Backoff,
    pub(crate) when_exhausted: Option<Exhausted>,
    pub(crate) on_failure: OnFailure,
    pub(crate) timeout: Option<Duration>,
    pub(crate) group: Option<Arc<str>>,
    pub(crate) dead_letters: Option<String>,
    pub(crate) replies: bool,
}

/// Where the footprint of a handler comes from, for the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The event's key; exclusive within the subscription when it has none.
    ByKey,
    /// Declared.
    Declared,
    /// Declared to conflict with nothing.
    Independent,
    /// One event at a time within the subscription.
    Exclusive,
}

/// Where answers go.
#[derive(Debug, Clone, Default)]
pub(crate) struct Topics {
    pub(crate) all: Option<String>,
    pub(crate) by_type: BTreeMap<&'static str, String>,
}

impl<E: Incoming> HandlerSpec<E> {
    /// Says what an event touches. Events whose footprints do not conflict run in parallel; the others one after the
    /// other, in arrival order. The function must answer the same for the same event every time.
    pub fn footprint(mut self, footprint: impl Fn(&E) -> Footprint + Send + Sync + 'static) -> Self {
        self.parts.lanes = erased::lanes_by(move |event: &E| Some(footprint(event)));
        self.parts.scope = Scope::Declared;
        self
    }

    /// Says that no event conflicts with any other. Wrong is worse than missing here: it gives up all order.
    pub fn independent(mut self) -> Self {
        self.parts.lanes = erased::lanes_by(|_: &E| Some(Footprint::independent()));
        self.parts.scope = Scope::Independent;
        self
    }

    /// One event at a time within the subscription, in order.
    pub fn exclusive(mut self) -> Self {
        self.parts.lanes = erased::lanes_by(|_: &E| None);
        self.parts.scope = Scope::Exclusive;
        self
    }

    /// The topic that its answers are published to.
    pub fn publishes(mut self, topic: impl Into<String>) -> Self {
        self.parts.topics.all = Some(topic.into());
        self
    }

    /// The topic that answers of one type are published to.
    pub fn publishes_type<T: commute_core::Event>(mut self, topic: impl Into<String>) -> Self {
        self.parts.topics.by_type.insert(T::TYPE, topic.into());
        self
    }

    /// When a failed event is tried again, and how often.
    pub fn retry(mut self, backoff: Backoff) -> Self {
        self.parts.backoff = backoff;
        self
    }

    /// What happens to an event whose attempts are used up.
    pub fn when_exhausted(mut self, exhausted: Exhausted) -> Self {
        self.parts.when_exhausted = Some(exhausted);
        self
    }

    /// What happens to the lanes of an event that waits for its next attempt.
    pub fn on_failure(mut self, on_failure: OnFailure) -> Self {
        self.parts.on_failure = on_failure;
        self
    }

    /// How long one attempt may take; longer is a failure that is tried again. The handler's future is dropped then, so
    /// it must be cancel safe. Work in a store's transaction is not covered.
    pub fn timeout(mut self, longest: Duration) -> Self {
        self.parts.timeout = Some(longest);
        self
    }

    /// Makes a subscription of its own, beside the app's other one on the topic: it gets every event too, and its order
    /// and failures are its own.
    pub fn named(mut self, name: impl AsRef<str>) -> Self {
        self.parts.group = Some(name.as_ref().into());
        self
    }

    /// What it answers goes to whoever asked for the result of the event ([`crate::Requests`]), and to a topic only where
    /// `publishes` or `publishes_type` says so. When nobody asked, such an answer is dropped.
    pub fn replies(mut self) -> Self {
        self.parts.replies = true;
        self
    }

    /// The topic of its dead letters, instead of `TOPIC.dead`.
    pub fn dead_letters_to(mut self, topic: impl Into<String>) -> Self {
        self.parts.dead_letters = Some(topic.into());
        self
    }

    /// Puts a tower layer around the handler. The last one added is the outermost. A layer sees an [`Invocation`] and
    /// answers with the outcome; it cannot settle.
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<HandlerService>,
        L::Service: Service<Invocation, Response = Outcome, Error = HandlerError> + Clone + Send + Sync + 'static,
        <L::Service as Service<Invocation>>::Future: Send + 'static,
    {
        self.parts.run = erased::layered(self.parts.run, &layer);
        self
    }
}

impl<E> std::fmt::Debug for HandlerSpec<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "handler of {:?}", self.parts.types)
    }
}

/// The lane of everything in a subscription: exclusive handlers write it, the others read it.
pub(crate) fn subscription_lane(topic: &str, group: &str) -> Access {
    struct Whole<'a>(&'a str, &'a str);
    impl Key for Whole<'_> {
        fn write_parts(&self, text: &mut commute_core::KeyText) {
            ("\u{0}subscription", self.0, self.1).write_parts(text);
        }
    }
    writes(Whole(topic, group))
}
