//! The wire: CloudEvents in Kafka's binary mode, and whatever else a record may hold.
//!
//! Source: CloudEvents Kafka Protocol Binding 1.0.2. Attributes are headers `ce_NAME`, the media type is the header
//! `content-type`, the payload is the value as it is, and the partition key is the record's key.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use commute_core::foreign::{self, Mapping, Message};
use commute_core::{Envelope, Texts, Timestamp, cloudevents};
use rdkafka::Message as _;
use rdkafka::message::{BorrowedMessage, Header, Headers, OwnedHeaders};
use smallvec::SmallVec;

const PREFIX: &str = "ce_";
const CONTENT_TYPE: &str = "content-type";

/// What the log holds of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) envelope: Arc<Envelope>,
    pub(crate) published: Timestamp,
    pub(crate) malformed: Option<Arc<str>>,
    /// About how much memory it takes.
    pub(crate) size: usize,
}

impl Record {
    pub(crate) fn new(envelope: Envelope, published: Timestamp, malformed: Option<Arc<str>>) -> Self {
        let size = envelope.size() + 256;
        Record { envelope: Arc::new(envelope), published, malformed, size }
    }
}

/// The headers of an event.
pub(crate) fn headers(envelope: &Envelope) -> OwnedHeaders {
    let mut headers = OwnedHeaders::new_with_capacity(8 + envelope.extensions.len());
    let mut key = PREFIX.to_owned();
    for (name, value) in cloudevents::attributes(envelope) {
        key.truncate(PREFIX.len());
        key.push_str(name);
        headers = headers.insert(Header { key: &key, value: Some(&*value) });
    }
    match &envelope.data_content_type {
        Some(kind) => headers.insert(Header { key: CONTENT_TYPE, value: Some(&**kind) }),
        None => headers,
    }
}

/// About how many bytes the record takes in a batch.
pub(crate) fn size(envelope: &Envelope) -> usize {
    // A header has its prefix and two lengths; five attributes are always there.
    let headers = 10 + envelope.extensions.len();
    envelope.size() + envelope.partition_key().map_or(0, str::len) + headers * 16 + 256
}

/// Headers, as text where they are text.
fn texts(message: &BorrowedMessage<'_>) -> Option<Vec<(String, String)>> {
    // The library panics on a header whose name is no UTF-8.
    catch_unwind(AssertUnwindSafe(|| {
        let headers = message.headers()?.iter();
        let text = |header: Header<'_, &[u8]>| {
            Some((header.key.to_owned(), std::str::from_utf8(header.value.unwrap_or_default()).ok()?.to_owned()))
        };
        Some(headers.filter_map(text).collect())
    }))
    .unwrap_or_else(|_| {
        tracing::warn!(offset = message.offset(), "a record has a header whose name is no text");
        None
    })
}

/// One header as text.
pub(crate) fn header(message: &BorrowedMessage<'_>, name: &str) -> Option<String> {
    texts(message)?.into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

/// An event in binary mode, as nearly all are: its attributes are read where they stand in the record, without copies.
/// Nothing for whatever is unusual in any way; that is read with more care.
fn usual(message: &BorrowedMessage<'_>, shared: &mut Texts) -> Option<Envelope> {
    let headers = message.headers()?;
    let mut attributes = SmallVec::<[_; 16]>::new();
    let mut content_type = None;
    for Header { key, value } in headers.iter() {
        let value = std::str::from_utf8(value.unwrap_or_default()).ok()?;
        match key.strip_prefix(PREFIX) {
            Some(name) => attributes.push((name, value)),
            None if key.eq_ignore_ascii_case(CONTENT_TYPE) => content_type = content_type.or(Some(value)),
            None => {}
        }
    }
    // Without its version it is no event in binary mode, and this fails.
    let body = Bytes::copy_from_slice(message.payload().unwrap_or_default());
    cloudevents::from_attributes_sharing(&attributes, content_type, body, shared).ok()
}

/// Reads a record of a topic. `shared` is what it may have in common with others.
pub(crate) fn read(message: &BorrowedMessage<'_>, mapping: Option<&Mapping>, shared: &mut Texts) -> Record {
    let published = message.timestamp().to_millis().filter(|millis| *millis >= 0);
    let published = Timestamp(published.unwrap_or(0).saturating_mul(1000));
    // The library panics on a header whose name is no UTF-8.
    if let Ok(Some(envelope)) = catch_unwind(AssertUnwindSafe(|| usual(message, shared))) {
        return Record::new(envelope, published, None);
    }
    let headers = texts(message).unwrap_or_default();
    let content_type = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(CONTENT_TYPE));
    let foreign = Message {
        content_type: content_type.map(|(_, kind)| kind.clone()),
        headers,
        id: None,
        key: message.key().and_then(|key| std::str::from_utf8(key).ok()).map(str::to_owned),
        time: Some(published),
        coordinates: Some(format!("{}/{}/{}", message.topic(), message.partition(), message.offset())),
        body: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
    };
    let read = foreign::read(foreign, &[PREFIX], mapping);
    Record::new(read.envelope, published, read.malformed)
}
