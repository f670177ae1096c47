//! CloudEvents 1.0.2 in JSON (structured mode): the text form of an envelope.
//!
//! Source: CloudEvents JSON Event Format 1.0.2. JSON payloads stand in `data` as they are, others in `data_base64`.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::clock::Timestamp;
use crate::envelope::{Envelope, Extensions};
use crate::error::{Code, Error, Result};
use crate::id::EventId;
use crate::texts::Texts;

const ATTRIBUTES: [&str; 10] =
    ["specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "data", "data_base64"];

/// Writes an envelope as a structured CloudEvent.
pub fn to_json(envelope: &Envelope) -> Value {
    let mut event = Map::new();
    let mut put = |name: &str, value: &str| event.insert(name.to_owned(), Value::String(value.to_owned()));
    put("specversion", "1.0");
    put("id", envelope.id.as_str());
    put("source", &envelope.source);
    put("type", &envelope.event_type);
    put("time", &envelope.time.to_string());
    for (name, value) in [
        ("subject", &envelope.subject),
        ("datacontenttype", &envelope.data_content_type),
        ("dataschema", &envelope.data_schema),
    ] {
        if let Some(value) = value {
            put(name, value);
        }
    }
    for (name, value) in envelope.extensions.iter() {
        put(name, value);
    }
    if !envelope.data.is_empty() {
        let json = is_json(envelope.data_content_type.as_deref());
        match json.then(|| serde_json::from_slice(&envelope.data)) {
            Some(Ok(data)) => event.insert("data".to_owned(), data),
            _ => event.insert("data_base64".to_owned(), Value::String(base64::encode(&envelope.data))),
        };
    }
    Value::Object(event)
}

/// The attributes of an envelope by their names, for headers (binary mode). The content type is not among them: every
/// binding has a place of its own for it.
pub fn attributes(envelope: &Envelope) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
    let own = [
        ("specversion", Cow::Borrowed("1.0")),
        ("id", envelope.id.as_str().into()),
        ("source", (*envelope.source).into()),
        ("type", (*envelope.event_type).into()),
        ("time", envelope.time.to_string().into()),
    ];
    let optional = [("subject", &envelope.subject), ("dataschema", &envelope.data_schema)]
        .into_iter()
        .filter_map(|(name, value)| value.as_ref().map(|value| (name, (**value).into())));
    let extensions = envelope.extensions.iter().map(|(name, value)| (name, value.into()));
    own.into_iter().chain(optional).chain(extensions)
}

/// Reads the attributes of a CloudEvent in binary mode.
///
/// # Errors
/// [`Code::InvalidEvent`], naming the attribute that is missing or wrong.
pub fn from_attributes(attributes: &[(&str, &str)], content_type: Option<&str>, data: Bytes) -> Result<Envelope> {
    from_attributes_sharing(attributes, content_type, data, &mut Texts::default())
}

/// As [`from_attributes`], for whoever reads many: what they have in common is kept in memory once.
///
/// # Errors
/// As [`from_attributes`].
pub fn from_attributes_sharing(
    attributes: &[(&str, &str)],
    content_type: Option<&str>,
    data: Bytes,
    texts: &mut Texts,
) -> Result<Envelope> {
    let mut found = [None; ATTRIBUTES.len()];
    let mut extensions = Extensions::default();
    for (name, value) in attributes {
        match ATTRIBUTES.iter().position(|known| known == name) {
            Some(n) => _ = found[n].get_or_insert(*value),
            None => extensions.set(name, *value)?,
        }
    }
    let [version, id, source, event_type, subject, time, kind, schema, ..] = found;
    if needed("specversion", version)? != "1.0" {
        return Err(invalid("\"specversion\" is not \"1.0\""));
    }
    let time = time.map(|time| Timestamp::parse(time).ok_or_else(|| invalid("\"time\" is not RFC 3339")));
    Ok(Envelope {
        id: EventId::new(needed("id", id)?)?,
        source: texts.share(needed("source", source)?),
        event_type: texts.share(needed("type", event_type)?),
        subject: subject.map(Into::into),
        time: time.transpose()?.unwrap_or_default(),
        data_content_type: content_type.or(kind).map(|kind| texts.share(kind)),
        data_schema: schema.map(|schema| texts.share(schema)),
        extensions,
        data,
    })
}

fn needed<'a>(name: &str, text: Option<&'a str>) -> Result<&'a str> {
    text.filter(|text| !text.is_empty()).ok_or_else(|| invalid(&format!("{name:?} is missing or empty")))
}

fn invalid(what: &str) -> Error {
    Error::new(Code::InvalidEvent, format!("not a CloudEvent 1.0: {what}"))
}

/// Reads a structured CloudEvent.
///
/// # Errors
/// [`Code::InvalidEvent`], naming the attribute that is missing or wrong.
pub fn from_json(event: &Value) -> Result<Envelope> {
    let event = event.as_object().ok_or_else(|| invalid("not a JSON object"))?;
    let text = |name: &str| event.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let mut attributes = Vec::with_capacity(event.len());
    for (name, value) in event.iter().filter(|(name, _)| !["data", "data_base64"].contains(&name.as_str())) {
        match value {
            Value::String(text) if text.is_empty() && ATTRIBUTES.contains(&name.as_str()) => {}
            Value::String(text) => attributes.push((name.as_str(), Cow::Borrowed(text.as_str()))),
            Value::Bool(_) | Value::Number(_) if !ATTRIBUTES.contains(&name.as_str()) => {
                attributes.push((name, Cow::Owned(value.to_string())));
            }
            Value::Array(_) | Value::Object(_) if !ATTRIBUTES.contains(&name.as_str()) => {
                return Err(invalid(&format!("extension {name:?} is no plain value")));
            }
            // An attribute that is no text is as good as missing.
            _ => {}
        }
    }
    let data = match (event.get("data"), text("data_base64")) {
        (Some(_), Some(_)) => return Err(invalid("both \"data\" and \"data_base64\"")),
        (Some(Value::String(data)), None) if !is_json(text("datacontenttype")) => {
            Bytes::copy_from_slice(data.as_bytes())
        }
        (Some(data), None) => Bytes::from(data.to_string()),
        (None, Some(data)) => {
            Bytes::from(base64::decode(data).ok_or_else(|| invalid("\"data_base64\" is not base64"))?)
        }
        (None, None) => Bytes::new(),
    };
    let attributes: Vec<_> = attributes.iter().map(|(name, value)| (*name, &**value)).collect();
    from_attributes(&attributes, None, data)
}

fn is_json(content_type: Option<&str>) -> bool {
    let kind = content_type.unwrap_or("application/json").split(';').next().unwrap_or_default().trim();
    kind == "application/json" || kind.ends_with("+json")
}

mod base64 {
    //! Standard base64 through the well-kept crate, in the two forms needed here.
    use ::base64::Engine as _;
    use ::base64::engine::general_purpose::STANDARD;

    pub(super) fn encode(bytes: &[u8]) -> String {
        STANDARD.encode(bytes)
    }

    pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
        STANDARD.decode(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::extension;

    fn envelope(content_type: Option<&str>, data: &'static [u8]) -> Envelope {
        let mut envelope = Envelope::new("shop", "shop.order.placed", Timestamp(1_000_000), Bytes::from_static(data));
        envelope.data_content_type = content_type.map(Into::into);
        envelope.subject = Some("536365".into());
        envelope.extensions.put(extension::PARTITION_KEY, "17850");
        envelope
    }

    #[test]
    fn an_envelope_survives_its_json() {
        for envelope in [
            envelope(None, b"{\"a\":1}"),
            envelope(Some("application/json"), b"\"text\""),
            envelope(Some("application/octet-stream"), &[0, 255, 1]),
            envelope(None, b"not json"),
            envelope(None, b""),
        ] {
            assert_eq!(from_json(&to_json(&envelope)).unwrap(), envelope);
        }
    }

    #[test]
    fn a_missing_attribute_is_named() {
        for name in ["id", "source", "type", "specversion"] {
            let mut event = to_json(&envelope(None, b"1"));
            event.as_object_mut().unwrap().remove(name);
            let error = from_json(&event).unwrap_err();
            assert!(error.detail().contains(name), "{error}");
        }
    }
}
