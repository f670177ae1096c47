//! Events: typed facts, and how they enter and leave an envelope.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::envelope::Envelope;
use crate::error::{Code, Error, Result};

/// A fact that happened: what can be published, and what a handler takes.
///
/// Usually derived. By hand it is:
///
/// ```
/// use commute_core::Event;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, Serialize, Deserialize)]
/// struct OrderPlaced { order: String }
///
/// impl Event for OrderPlaced {
///     const TYPE: &'static str = "shop.order.placed";
///     const VERSION: u16 = 1;
///     fn key(&self) -> Option<String> { Some(self.order.clone()) }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event",
    label = "no `Event` implementation",
    note = "add `#[derive(Serialize, Deserialize, Event)]` and `#[event(type = \"…\")]` to the type"
)]
pub trait Event: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name on the wire. It never changes its meaning.
    const TYPE: &'static str;
    /// The version of the payload; it only grows.
    const VERSION: u16 = 1;

    /// What brokers partition by, and the footprint of a handler that declares none.
    fn key(&self) -> Option<String> {
        None
    }
}

/// What a handler can take as its first argument: an [`Event`], a set of several (`derive(Events)`), or the raw
/// [`Envelope`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the first argument of a handler",
    label = "neither an event, nor a set of events, nor `Envelope`",
    note = "a handler takes the event first and extractors after it; add `#[derive(Event)]` to the type if it is an event"
)]
pub trait Incoming: Sized + Send + Sync + 'static {
    /// The types it can be made from.
    fn types() -> Types;

    /// Makes it from an envelope whose type is one of [`Incoming::types`].
    ///
    /// # Errors
    /// [`Code::Undecodable`] when the payload is not of that type.
    fn decode(envelope: &Envelope) -> Result<Self>;

    /// The key of the event, when it has one.
    fn key(&self) -> Option<String>;
}

/// Which types of event a handler takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Types {
    /// Every type that no other handler of the subscription takes.
    Any,
    /// These.
    Only(Vec<&'static str>),
}

#[diagnostic::do_not_recommend]
impl<E: Event> Incoming for E {
    fn types() -> Types {
        Types::Only(vec![E::TYPE])
    }

    fn decode(envelope: &Envelope) -> Result<Self> {
        if envelope.version() > E::VERSION {
            let detail = format!(
                "event {} is version {} of {}; this handler knows versions up to {}",
                envelope.id,
                envelope.version(),
                E::TYPE,
                E::VERSION
            );
            return Err(Error::new(Code::Undecodable, detail));
        }
        serde_json::from_slice(&envelope.data).map_err(|cause| {
            let detail = format!("the payload of event {} is not a {}: {cause}", envelope.id, E::TYPE);
            Error::new(Code::Undecodable, detail).caused_by(cause)
        })
    }

    fn key(&self) -> Option<String> {
        Event::key(self)
    }
}

impl Incoming for Envelope {
    fn types() -> Types {
        Types::Any
    }

    fn decode(envelope: &Envelope) -> Result<Self> {
        Ok(envelope.clone())
    }

    fn key(&self) -> Option<String> {
        self.partition_key().map(str::to_owned)
    }
}

/// An event on its way out: encoded, but without id, source and topic, which the engine gives it.
#[derive(Clone, PartialEq, Eq)]
pub struct Emitted {
    /// The type name.
    pub event_type: &'static str,
    /// The version of the payload.
    pub version: u16,
    /// What brokers partition by.
    pub key: Option<Arc<str>>,
    /// The payload, JSON.
    pub data: Bytes,
}

impl Emitted {
    /// Encodes an event.
    ///
    /// # Errors
    /// [`Code::InvalidEvent`] when it cannot be written as JSON (a map with keys that are no text, for example).
    pub fn encode<E: Event>(event: &E) -> Result<Self> {
        let data = serde_json::to_vec(event).map_err(|cause| {
            Error::new(Code::InvalidEvent, format!("a {} cannot be written as JSON", E::TYPE)).caused_by(cause)
        })?;
        Ok(Emitted {
            event_type: E::TYPE,
            version: E::VERSION,
            key: Event::key(event).map(Into::into),
            data: data.into(),
        })
    }
}

impl fmt::Debug for Emitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.event_type, self.data.len())
    }
}
