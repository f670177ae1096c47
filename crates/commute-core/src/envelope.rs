//! The envelope: an event's bytes with the attributes of CloudEvents 1.0.2.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::clock::Timestamp;
use crate::error::{Code, Error, Result};
use crate::id::EventId;
use crate::text::Text;

/// Names of the extension attributes that commute itself reads and writes.
pub mod extension {
    /// What brokers partition by; the event's key.
    pub const PARTITION_KEY: &str = "partitionkey";
    /// The version of the event type, a number that only grows.
    pub const VERSION: &str = "dataversion";
    /// W3C trace context.
    pub const TRACE_PARENT: &str = "traceparent";
    /// W3C trace context, vendor part.
    pub const TRACE_STATE: &str = "tracestate";
    /// The id of the event that began the whole business transaction.
    pub const CORRELATION_ID: &str = "correlationid";
    /// The id of the event that directly caused this one.
    pub const CAUSATION_ID: &str = "causationid";
    /// The group that a redriven event is for; the others have had it and let it pass.
    pub const REDRIVE_FOR: &str = "redrivefor";
    /// The topic on which whoever published the event waits for what became of it.
    pub const REPLY_TO: &str = "replyto";
}

/// An event as it travels: CloudEvents attributes, extensions, and the payload as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Two envelopes with one id are the same event.
    pub id: EventId,
    /// Who published it; a service name or URI.
    pub source: Arc<str>,
    /// The type name, which never changes its meaning.
    pub event_type: Arc<str>,
    /// What it is about, when the type alone does not say.
    pub subject: Option<Arc<str>>,
    /// When it happened.
    pub time: Timestamp,
    /// The media type of `data`; JSON when absent.
    pub data_content_type: Option<Arc<str>>,
    /// A schema that `data` follows.
    pub data_schema: Option<Arc<str>>,
    /// Everything else, by name.
    pub extensions: Extensions,
    /// The payload.
    pub data: Bytes,
}

impl Envelope {
    /// An envelope with a fresh id and nothing optional.
    pub fn new(source: impl Into<Arc<str>>, event_type: impl Into<Arc<str>>, time: Timestamp, data: Bytes) -> Self {
        Envelope {
            id: EventId::generate(),
            source: source.into(),
            event_type: event_type.into(),
            subject: None,
            time,
            data_content_type: None,
            data_schema: None,
            extensions: Extensions::default(),
            data,
        }
    }

    /// The key that brokers partition by.
    pub fn partition_key(&self) -> Option<&str> {
        self.extensions.get(extension::PARTITION_KEY)
    }

    /// The version of the type; 1 when the publisher did not say.
    pub fn version(&self) -> u16 {
        self.extensions.get(extension::VERSION).and_then(|text| text.parse().ok()).unwrap_or(1)
    }

    /// What the payload limit counts: payload and attributes, in bytes.
    pub fn size(&self) -> usize {
        let text = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |text| text.len());
        self.data.len()
            + self.id.as_str().len()
            + self.source.len()
            + self.event_type.len()
            + text(&self.subject)
            + text(&self.data_content_type)
            + text(&self.data_schema)
            + self.extensions.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
    }
}

/// Extension attributes, sorted by name. A few per event, so a vector beats a map.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extensions(SmallVec<[(Name, Text); 1]>);

/// A name, without a copy of its own where it is one of [`extension`].
#[derive(Clone, PartialEq, Eq)]
enum Name {
    Known(&'static str),
    Other(Arc<str>),
}

impl Name {
    fn of(name: &str) -> Self {
        use extension::{CAUSATION_ID, CORRELATION_ID, PARTITION_KEY, TRACE_PARENT, TRACE_STATE, VERSION};
        let known = [PARTITION_KEY, CORRELATION_ID, CAUSATION_ID, TRACE_PARENT, TRACE_STATE, VERSION];
        match known.into_iter().find(|known| *known == name) {
            Some(known) => Name::Known(known),
            None => Name::Other(name.into()),
        }
    }

    fn as_str(&self) -> &str {
        match self {
            Name::Known(name) => name,
            Name::Other(name) => name,
        }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl Extensions {
    /// The value of an extension.
    pub fn get(&self, name: &str) -> Option<&str> {
        // Not by halves: most names differ in their lengths, and there are few.
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Sets an extension.
    ///
    /// # Errors
    /// [`Code::InvalidEvent`] when the name is not 1 to 20 lower-case letters and digits, as CloudEvents asks.
    pub fn set(&mut self, name: &str, value: impl AsRef<str>) -> Result<()> {
        let valid =
            (1..=20).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !valid {
            return Err(Error::new(Code::InvalidEvent, format!("{name:?} is not a valid extension name")));
        }
        self.put(name, value.as_ref());
        Ok(())
    }

    /// Sets one of the names in [`extension`], which are valid.
    pub(crate) fn put(&mut self, name: &str, value: &str) {
        let value = Text::from(value);
        match self.place(name) {
            Ok(n) => self.0[n].1 = value,
            Err(n) => self.0.insert(n, (Name::of(name), value)),
        }
    }

    fn place(&self, name: &str) -> std::result::Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| known.as_str().cmp(name))
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
