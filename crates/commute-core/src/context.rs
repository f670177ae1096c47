//! What a handler may know of its delivery, and the extractors that ask for it.

use std::any::{Any, TypeId, type_name};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::envelope::{Envelope, Extensions, extension};
use crate::error::{Code, Error, Result};
use crate::id::EventId;
use crate::topic::Topic;

/// One delivery, seen from a handler: everything but the payload. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Context {
    /// The event with its attributes.
    pub envelope: Arc<Envelope>,
    /// Where it came from.
    pub route: Arc<Route>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// When the broker took the event in.
    pub published: Timestamp,
}

/// What all deliveries of one handler have in common.
#[derive(Debug, Clone)]
pub struct Route {
    /// The topic.
    pub topic: Topic,
    /// The subscription (group).
    pub subscription: Arc<str>,
    /// The states of the app.
    pub states: States,
}

/// One value per type, given to the app once and shared by its handlers. A few per app, so a vector beats a map.
#[derive(Debug, Clone, Default)]
pub struct States(Vec<(TypeId, Arc<dyn Any + Send + Sync>)>);

impl States {
    /// Adds a value; answers whether there was none of its type.
    pub fn insert<T: Clone + Send + Sync + 'static>(&mut self, value: T) -> bool {
        let (id, value) = (TypeId::of::<T>(), Arc::new(value));
        match self.0.iter_mut().find(|(known, _)| *known == id) {
            Some((_, known)) => *known = value,
            None => {
                self.0.push((id, value));
                return true;
            }
        }
        false
    }

    /// The value of a type.
    pub fn get<T: 'static>(&self) -> Option<&T> {
        let id = TypeId::of::<T>();
        self.0.iter().find(|(known, _)| *known == id)?.1.downcast_ref()
    }

    /// Whether there is a value of the type.
    pub fn has(&self, id: TypeId) -> bool {
        self.0.iter().any(|(known, _)| *known == id)
    }
}

/// What a handler's arguments need of the app, collected before an event is read.
#[derive(Debug, Default)]
pub struct Needs {
    /// States, by type and name.
    pub states: Vec<(TypeId, &'static str)>,
}

/// An argument of a handler behind the event.
///
/// Looks at the delivery and at the app's states; cannot settle and cannot touch the payload.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a handler",
    label = "not an extractor",
    note = "extractors are `State<T>`, `Meta`, `Headers`, `Context` and your own `FromContext` types; the event comes first"
)]
pub trait FromContext: Sized {
    /// Makes the argument.
    ///
    /// # Errors
    /// When the delivery does not have it; the event becomes a dead letter.
    fn from_context(context: &Context) -> Result<Self>;

    /// Says what must be there at start.
    fn needs(_needs: &mut Needs) {}
}

/// A value that was given to `App::state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State<T>(pub T);

impl<T> Deref for State<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for State<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Clone + Send + Sync + 'static> FromContext for State<T> {
    fn from_context(context: &Context) -> Result<Self> {
        // The plan refuses an app without it, so this is for contexts that somebody made by hand.
        let missing = || Error::new(Code::ExtractorFailed, format!("the app has no state {}", type_name::<T>()));
        context.route.states.get::<T>().cloned().map(State).ok_or_else(missing)
    }

    fn needs(needs: &mut Needs) {
        needs.states.push((TypeId::of::<T>(), type_name::<T>()));
    }
}

/// The attributes of the delivery that most handlers want.
#[derive(Debug, Clone)]
pub struct Meta {
    /// The id of the event.
    pub id: EventId,
    /// The type on the wire.
    pub event_type: Arc<str>,
    /// Who published it.
    pub source: Arc<str>,
    /// When it happened.
    pub time: Timestamp,
    /// When the broker took it in.
    pub published: Timestamp,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// The topic it came from.
    pub topic: Topic,
    /// The subscription it came through.
    pub subscription: Arc<str>,
    /// The id of the event that began the business transaction.
    pub correlation_id: Option<Arc<str>>,
}

impl FromContext for Meta {
    fn from_context(context: &Context) -> Result<Self> {
        let envelope = &context.envelope;
        Ok(Meta {
            id: envelope.id.clone(),
            event_type: envelope.event_type.clone(),
            source: envelope.source.clone(),
            time: envelope.time,
            published: context.published,
            attempt: context.attempt,
            topic: context.route.topic.clone(),
            subscription: context.route.subscription.clone(),
            correlation_id: envelope.extensions.get(extension::CORRELATION_ID).map(Into::into),
        })
    }
}

/// The extension attributes of the event.
#[derive(Debug, Clone)]
pub struct Headers(pub Extensions);

impl Deref for Headers {
    type Target = Extensions;
    fn deref(&self) -> &Extensions {
        &self.0
    }
}

impl FromContext for Headers {
    fn from_context(context: &Context) -> Result<Self> {
        Ok(Headers(context.envelope.extensions.clone()))
    }
}

impl FromContext for Context {
    fn from_context(context: &Context) -> Result<Self> {
        Ok(context.clone())
    }
}

impl<T: FromContext> FromContext for Option<T> {
    fn from_context(context: &Context) -> Result<Self> {
        Ok(T::from_context(context).ok())
    }
}
