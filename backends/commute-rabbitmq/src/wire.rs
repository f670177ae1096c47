//! The wire: envelopes as AMQP messages in CloudEvents binary mode, and messages of anybody as envelopes.
//!
//! Attributes are headers named `cloudEvents:…`, the payload is the body as it is, and the properties that AMQP has for
//! the same things (`message-id`, `content-type`, `correlation-id`, `timestamp`) are set as well, for readers that know
//! nothing of CloudEvents. Source: CloudEvents AMQP Protocol Binding 1.0.2, whose headers are used on AMQP 0-9-1.

use bytes::Bytes;
use commute_core::envelope::extension;
use commute_core::foreign::{self, Read};
use commute_core::{Code, Envelope, Error, Mapping, Result, Timestamp, cloudevents};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use crate::capabilities::{MAX_ATTRIBUTE_BYTES, MAX_EVENT_BYTES};

const PREFIX: &str = "cloudEvents:";

/// The binding's own prefix, and the one of producers whose header names may not have colons.
const PREFIXES: &[&str] = &[PREFIX, "cloudEvents_"];

/// When the publisher sent it, in microseconds: AMQP's own timestamp counts seconds.
const SENT: &str = "commute-sent";

/// The longest text that the protocol has for names and short properties.
const SHORT: usize = 255;

/// What is to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    pub(crate) properties: BasicProperties,
    pub(crate) body: Bytes,
}

/// Text as the protocol's short string: cut at 255 bytes.
pub(crate) fn short(text: &str) -> ShortString {
    let mut end = text.len().min(SHORT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].into()
}

/// Refuses an event that no server would take.
pub(crate) fn check(envelope: &Envelope) -> Result<()> {
    let (size, attributes) = (envelope.size(), envelope.size() - envelope.data.len());
    let too_large = |what: &str, size: usize, limit: usize| {
        let detail = format!("event {} has {what} of {size} bytes; the limit is {limit}", envelope.id);
        Err(Error::new(Code::PayloadTooLarge, detail))
    };
    if size > MAX_EVENT_BYTES {
        return too_large("payload and attributes", size, MAX_EVENT_BYTES);
    }
    if attributes > MAX_ATTRIBUTE_BYTES {
        return too_large("attributes", attributes, MAX_ATTRIBUTE_BYTES);
    }
    Ok(())
}

/// An event for its topic.
pub(crate) fn event(topic: &str, envelope: &Envelope, sent: Timestamp) -> Message {
    Message {
        exchange: topic.to_owned(),
        routing_key: short(&envelope.event_type).to_string(),
        properties: properties(envelope, sent),
        body: envelope.data.clone(),
    }
}

/// The properties and headers of an event.
pub(crate) fn properties(envelope: &Envelope, sent: Timestamp) -> BasicProperties {
    let mut headers = FieldTable::default();
    let mut put = |name: String, value: &str| {
        headers.insert(name.as_str().into(), AMQPValue::LongString(value.into()));
    };
    for (name, value) in cloudevents::attributes(envelope) {
        put(format!("{PREFIX}{name}"), &value);
    }
    let mut properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_timestamp(u64::try_from(envelope.time.0 / 1_000_000).unwrap_or(0));
    if envelope.id.as_str().len() <= SHORT {
        properties = properties.with_message_id(short(envelope.id.as_str()));
    }
    match &envelope.data_content_type {
        Some(kind) if kind.len() <= SHORT => properties = properties.with_content_type(short(kind)),
        Some(kind) => put(format!("{PREFIX}datacontenttype"), kind),
        None => {}
    }
    if let Some(id) = envelope.extensions.get(extension::CORRELATION_ID).filter(|id| id.len() <= SHORT) {
        properties = properties.with_correlation_id(short(id));
    }
    headers.insert(SENT.into(), AMQPValue::LongLongInt(sent.0));
    properties.with_headers(headers)
}

/// Reads a message of anybody. Answers also when it was sent, if it says so.
pub(crate) fn read(
    properties: &BasicProperties,
    routing_key: &str,
    body: Bytes,
    mapping: Option<&Mapping>,
) -> (Read, Option<Timestamp>) {
    let mut sent = None;
    let mut headers = Vec::new();
    for (name, value) in properties.headers().iter().flat_map(|table| table.inner()) {
        match (name.as_str(), value) {
            (SENT, AMQPValue::LongLongInt(micros)) => sent = Some(Timestamp(*micros)),
            (name, value) => headers.extend(text(value).map(|value| (name.to_owned(), value))),
        }
    }
    let seconds = properties.timestamp().and_then(|seconds| i64::try_from(seconds).ok());
    let time = seconds.map(|seconds| Timestamp(seconds.saturating_mul(1_000_000)));
    let message = foreign::Message {
        headers,
        content_type: properties.content_type().as_ref().map(ToString::to_string),
        id: properties.message_id().as_ref().map(ToString::to_string),
        key: Some(routing_key.to_owned()).filter(|key| !key.is_empty()),
        time,
        coordinates: None,
        body,
    };
    (foreign::read(message, PREFIXES, mapping), sent.or(time))
}

fn text(value: &AMQPValue) -> Option<String> {
    Some(match value {
        AMQPValue::LongString(text) => String::from_utf8(text.as_bytes().to_vec()).ok()?,
        AMQPValue::ShortString(text) => text.to_string(),
        AMQPValue::Boolean(value) => value.to_string(),
        AMQPValue::ShortShortInt(value) => value.to_string(),
        AMQPValue::ShortShortUInt(value) => value.to_string(),
        AMQPValue::ShortInt(value) => value.to_string(),
        AMQPValue::ShortUInt(value) => value.to_string(),
        AMQPValue::LongInt(value) => value.to_string(),
        AMQPValue::LongUInt(value) => value.to_string(),
        AMQPValue::LongLongInt(value) => value.to_string(),
        AMQPValue::Float(value) => value.to_string(),
        AMQPValue::Double(value) => value.to_string(),
        AMQPValue::Timestamp(value) => value.to_string(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_survives_its_message() {
        let mut envelope = Envelope::new("shop", "shop.order.placed", Timestamp(1_234_567), Bytes::from_static(b"{}"));
        envelope.subject = Some("ü".into());
        envelope.data_content_type = Some("application/json".into());
        envelope.extensions.set(extension::PARTITION_KEY, "17850").unwrap();
        let message = event("orders", &envelope, Timestamp(7));
        let (read, sent) = read(&message.properties, &message.routing_key, message.body, None);
        assert_eq!((read.envelope, read.malformed.is_none(), sent), (envelope, true, Some(Timestamp(7))));
    }

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(short(&"é".repeat(200)).as_str().len(), 254);
    }

    #[test]
    fn an_event_that_no_server_would_take_is_refused() {
        let mut envelope = Envelope::new("s", "t", Timestamp(0), Bytes::new());
        envelope.extensions.set("x", "y".repeat(MAX_ATTRIBUTE_BYTES)).unwrap();
        assert_eq!(check(&envelope).unwrap_err().code(), Code::PayloadTooLarge);
        let large = Envelope::new("s", "t", Timestamp(0), vec![0; MAX_EVENT_BYTES].into());
        assert_eq!(check(&large).unwrap_err().code(), Code::PayloadTooLarge);
    }
}
