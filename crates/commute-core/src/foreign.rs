//! Foreign messages: what a broker hands over becomes an envelope, whoever wrote it.
//!
//! A message is a CloudEvent in binary mode (attributes in headers) or structured mode (all in a JSON body), or something
//! else that a [`Mapping`] explains. What none of these can read is not lost: it becomes an envelope of type
//! [`MALFORMED`] with the bytes as they came, and a reason.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use crate::clock::Timestamp;
use crate::cloudevents;
use crate::envelope::{Envelope, extension};
use crate::error::{Code, Error, Result};
use crate::id::EventId;

/// The type of an envelope that holds a message which could not be read.
pub const MALFORMED: &str = "commute.malformed";

/// The extension that keeps the headers of a message which could not be read, as JSON text.
const HEADERS: &str = "foreignheaders";

/// A message as a broker hands it over.
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// Headers with text values, by the names on the wire.
    pub headers: Vec<(String, String)>,
    /// The media type of the body.
    pub content_type: Option<String>,
    /// The id that its producer gave it.
    pub id: Option<String>,
    /// A record's key, or a routing key.
    pub key: Option<String>,
    /// When it was produced.
    pub time: Option<Timestamp>,
    /// Where it stands, where that is the same at every delivery: `topic/partition/offset`.
    pub coordinates: Option<String>,
    /// The body.
    pub body: Bytes,
}

/// What came of reading a message.
#[derive(Debug, Clone)]
pub struct Read {
    /// The event, or what could be saved of it.
    pub envelope: Envelope,
    /// Why it is no event.
    pub malformed: Option<Arc<str>>,
}

/// Reads a message. `prefixes` are what this broker's binding puts before attribute names in headers.
pub fn read(message: Message, prefixes: &[&str], mapping: Option<&Mapping>) -> Read {
    match envelope(&message, prefixes, mapping) {
        Ok(envelope) => Read { envelope, malformed: None },
        Err(error) => {
            let malformed = Some(error.detail().into());
            Read { envelope: saved(message), malformed }
        }
    }
}

fn envelope(message: &Message, prefixes: &[&str], mapping: Option<&Mapping>) -> Result<Envelope> {
    let attributes: Vec<(&str, &str)> = message
        .headers
        .iter()
        .filter_map(|(name, value)| {
            let name = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix))?;
            Some((name, value.as_str()))
        })
        .collect();
    if attributes.iter().any(|(name, _)| *name == "specversion") {
        return cloudevents::from_attributes(&attributes, message.content_type.as_deref(), message.body.clone());
    }
    if message.content_type.as_deref().is_some_and(|kind| kind.starts_with("application/cloudevents")) {
        let event = serde_json::from_slice(&message.body)
            .map_err(|cause| Error::new(Code::InvalidEvent, format!("a structured event that is no JSON: {cause}")))?;
        return cloudevents::from_json(&event);
    }
    match mapping {
        Some(mapping) => mapping.envelope(message),
        None => {
            let detail = "no CloudEvent, and the subscription has no mapping for other messages";
            Err(Error::new(Code::InvalidEvent, detail))
        }
    }
}

/// Keeps everything there is of a message that nobody can read.
fn saved(message: Message) -> Envelope {
    let id = message.id.as_deref().or(message.coordinates.as_deref()).and_then(|id| EventId::new(id).ok());
    let mut envelope = Envelope::new("commute", MALFORMED, message.time.unwrap_or_default(), message.body);
    if let Some(id) = id {
        envelope.id = id;
    }
    envelope.data_content_type = message.content_type.map(Into::into);
    if let Some(key) = message.key.filter(|key| !key.is_empty()) {
        envelope.extensions.put(extension::PARTITION_KEY, &key);
    }
    let headers: serde_json::Map<String, Value> =
        message.headers.into_iter().map(|(name, value)| (name, Value::String(value))).collect();
    if !headers.is_empty() {
        envelope.extensions.put(HEADERS, &Value::Object(headers).to_string());
    }
    envelope
}

/// Where a mapping finds a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A field of the JSON body; dots lead into objects.
    Field(String),
    /// A header.
    Header(String),
    /// Always this.
    Text(String),
    /// The id that the producer gave the message (AMQP's `message-id`).
    MessageId,
    /// The record's key, or the routing key.
    MessageKey,
    /// Topic, partition and offset.
    Coordinates,
}

/// A field of the JSON body; dots lead into objects.
pub fn field(path: impl Into<String>) -> Origin {
    Origin::Field(path.into())
}

/// A header.
pub fn header(name: impl Into<String>) -> Origin {
    Origin::Header(name.into())
}

/// Always this text.
pub fn text(value: impl Into<String>) -> Origin {
    Origin::Text(value.into())
}

/// How messages of other producers become events.
///
/// ```
/// use commute_core::foreign::{Mapping, Message, field, read};
///
/// // {"name": "order.placed", "data": {"order": "536365"}}
/// let mapping = Mapping::of(field("name")).key(field("data.order")).data(field("data"));
/// let body = r#"{"name": "order.placed", "data": {"order": "536365"}}"#;
/// let message = Message { body: body.into(), ..Message::default() };
/// let event = read(message, &[], Some(&mapping)).envelope;
/// assert_eq!((&*event.event_type, event.partition_key()), ("order.placed", Some("536365")));
/// assert_eq!(&event.data[..], br#"{"order":"536365"}"#);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    event_type: Origin,
    id: Option<Origin>,
    key: Option<Origin>,
    time: Option<Origin>,
    source: Option<Origin>,
    data: Option<Origin>,
}

impl Mapping {
    /// A mapping that finds the event's type here. Unless said otherwise, the id is the producer's message id, else the
    /// coordinates, else a fresh one at every delivery (the inbox then cannot notice a redelivery); the data are the whole body.
    pub fn of(event_type: Origin) -> Self {
        Mapping { event_type, id: None, key: None, time: None, source: None, data: None }
    }

    /// Where the id is. It must be the same at every delivery and differ between events.
    pub fn id(mut self, origin: Origin) -> Self {
        self.id = Some(origin);
        self
    }

    /// Where the key is that events are ordered by.
    pub fn key(mut self, origin: Origin) -> Self {
        self.key = Some(origin);
        self
    }

    /// Where the time is, as RFC 3339 text or as seconds since 1970.
    pub fn time(mut self, origin: Origin) -> Self {
        self.time = Some(origin);
        self
    }

    /// Where the source is.
    pub fn source(mut self, origin: Origin) -> Self {
        self.source = Some(origin);
        self
    }

    /// Which field the payload is.
    pub fn data(mut self, origin: Origin) -> Self {
        self.data = Some(origin);
        self
    }

    fn envelope(&self, message: &Message) -> Result<Envelope> {
        let origins = [&self.id, &self.key, &self.time, &self.source, &self.data];
        let looks_inside = |origin: &Origin| matches!(origin, Origin::Field(_));
        let body = if looks_inside(&self.event_type) || origins.into_iter().flatten().any(looks_inside) {
            serde_json::from_slice(&message.body).map_err(|cause| invalid(format!("the body is no JSON: {cause}")))?
        } else {
            Value::Null
        };
        let find = |what: &str, origin: &Origin| find(origin, message, &body).ok_or_else(|| missing(what, origin));
        let time = match &self.time {
            None => message.time.unwrap_or_default(),
            Some(origin) => {
                let found = find("time", origin)?;
                time(&found)
                    .ok_or_else(|| invalid(format!("{found:?} is no RFC 3339 time and no number of seconds")))?
            }
        };
        let source = self.source.as_ref().map_or_else(|| Ok("foreign".to_owned()), |origin| find("source", origin))?;
        let data = match &self.data {
            None => message.body.clone(),
            Some(Origin::Field(path)) => {
                let found = look(&body, path).ok_or_else(|| missing("payload", &Origin::Field(path.clone())))?;
                Bytes::from(found.to_string())
            }
            Some(origin) => Bytes::from(find("payload", origin)?),
        };
        let mut envelope = Envelope::new(source, find("type", &self.event_type)?, time, data);
        let id = match &self.id {
            Some(origin) => Some(find("id", origin)?),
            None => message.id.clone().or_else(|| message.coordinates.clone()),
        };
        if let Some(id) = id {
            envelope.id = EventId::new(id)?;
        }
        if let Some(origin) = &self.key {
            envelope.extensions.put(extension::PARTITION_KEY, &find("key", origin)?);
        }
        envelope.data_content_type = match self.data {
            Some(_) => Some("application/json".into()),
            None => message.content_type.as_deref().map(Into::into),
        };
        Ok(envelope)
    }
}

fn find(origin: &Origin, message: &Message, body: &Value) -> Option<String> {
    let found = match origin {
        Origin::Field(path) => match look(body, path)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(_) | Value::Bool(_) => look(body, path).map(Value::to_string),
            _ => None,
        },
        Origin::Header(name) => message.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()),
        Origin::Text(text) => Some(text.clone()),
        Origin::MessageId => message.id.clone(),
        Origin::MessageKey => message.key.clone(),
        Origin::Coordinates => message.coordinates.clone(),
    };
    found.filter(|text| !text.is_empty())
}

fn look<'a>(body: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(body, |value, name| value.get(name))
}

fn time(text: &str) -> Option<Timestamp> {
    Timestamp::parse(text).or_else(|| {
        let seconds: f64 = text.parse().ok()?;
        // Seconds as a float are what most languages have at hand; microseconds are what they can be trusted to.
        seconds.is_finite().then_some(Timestamp((seconds * 1e6) as i64))
    })
}

fn missing(what: &str, origin: &Origin) -> Error {
    let place = match origin {
        Origin::Field(path) => format!("field {path:?}"),
        Origin::Header(name) => format!("header {name:?}"),
        Origin::Text(_) => "text of the mapping".to_owned(),
        Origin::MessageId => "message id".to_owned(),
        Origin::MessageKey => "message key".to_owned(),
        Origin::Coordinates => "coordinates (this broker has none)".to_owned(),
    };
    invalid(format!("the mapping finds the {what} in the {place}, which is missing or no plain value"))
}

fn invalid(detail: String) -> Error {
    Error::new(Code::InvalidEvent, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIXES: &[&str] = &["ce_"];

    fn message(body: &str) -> Message {
        Message { body: Bytes::copy_from_slice(body.as_bytes()), ..Message::default() }
    }

    #[test]
    fn an_envelope_survives_binary_and_structured_mode() {
        let mut event = Envelope::new("shop", "shop.order.placed", Timestamp(1_234_567), Bytes::from_static(b"{}"));
        event.subject = Some("".into());
        event.extensions.put(extension::PARTITION_KEY, "é");
        let headers =
            cloudevents::attributes(&event).map(|(name, value)| (format!("ce_{name}"), value.into_owned())).collect();
        let binary = Message { headers, body: event.data.clone(), ..Message::default() };
        assert_eq!(read(binary, PREFIXES, None).envelope, event);
        event.subject = None;
        let mut structured = message(&cloudevents::to_json(&event).to_string());
        structured.content_type = Some("application/cloudevents+json; charset=utf-8".into());
        assert_eq!(read(structured, PREFIXES, None).envelope, event);
    }

    #[test]
    fn what_nobody_can_read_keeps_its_bytes_headers_and_a_reason() {
        let mut half = message("{\"specversion\": \"1.0\", \"id\":");
        half.content_type = Some("application/cloudevents+json".into());
        half.headers = vec![("x".into(), "1".into())];
        half.coordinates = Some("orders/0/17".into());
        let read = read(half.clone(), PREFIXES, None);
        assert!(read.malformed.is_some_and(|reason| reason.contains("no JSON")));
        assert_eq!((read.envelope.data, &*read.envelope.event_type), (half.body, MALFORMED));
        assert_eq!(read.envelope.id.as_str(), "orders/0/17");
        assert_eq!(read.envelope.extensions.get(HEADERS), Some("{\"x\":\"1\"}"));
    }

    #[test]
    fn a_mapping_finds_its_values_in_fields_headers_and_coordinates() {
        let mapping = Mapping::of(header("kind"))
            .id(Origin::Coordinates)
            .key(field("order.id"))
            .time(field("at"))
            .source(text("till"));
        let mut foreign = message("{\"order\": {\"id\": 7}, \"at\": 1.5}");
        foreign.headers = vec![("kind".into(), "sold".into())];
        foreign.coordinates = Some("t/1/2".into());
        let event = read(foreign.clone(), PREFIXES, Some(&mapping)).envelope;
        assert_eq!((&*event.event_type, &*event.source, event.id.as_str()), ("sold", "till", "t/1/2"));
        assert_eq!((event.partition_key(), event.time, &event.data), (Some("7"), Timestamp(1_500_000), &foreign.body));
    }

    #[test]
    fn a_value_that_the_mapping_does_not_find_is_named() {
        for (body, named) in [("{}", "\"name\""), ("[", "no JSON"), ("{\"name\": {}}", "\"name\"")] {
            let read = read(message(body), PREFIXES, Some(&Mapping::of(field("name"))));
            assert!(read.malformed.is_some_and(|reason| reason.contains(named)), "{body}");
        }
        let read = read(message("{\"name\": \"x\"}"), PREFIXES, None);
        assert!(read.malformed.is_some_and(|reason| reason.contains("no mapping")));
    }
}
