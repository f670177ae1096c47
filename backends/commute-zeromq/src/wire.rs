//! The protocol, version 1: what client and node say to each other, and its frames.
//!
//! ```text
//! message   "CM1" | kind | number [ " " below ] | header, JSON | body
//! ```
//!
//! A reply has the kind that belongs to the request, and its number. `below` says that every reply with a smaller number has
//! arrived, so that the node may forget it. The body holds the payloads of the events that the header lists, one behind the
//! other; each says its size. `docs/brokers/zeromq.md` tells all of it.

use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use commute_core::control::{Reply, Request};
use commute_core::footprint::Mode;
use commute_core::{
    Capabilities, Code, Delivery, DeliveryTag, Envelope, Error, Lane, Operation, Outgoing, Parked, Receipt, Result,
    Settlement, Texts, Timestamp, Topic, cloudevents,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The first frame of every message.
const VERSION: &[u8] = b"CM1";
/// Frames of a message; more is nobody's.
pub(crate) const FRAMES: usize = 5;
/// What a header has room for at first, and what it has at most before it is known to be longer.
const ROOM: usize = 128;
const MOST_ROOM: usize = 64 << 10;
/// Payloads up to this size are copied out of their message.
const COPIED: usize = 4096;

macro_rules! kinds {
    ($($kind:ident $text:literal),* $(,)?) => {
        /// What a message is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(crate) enum Kind { $($kind),* }

        impl Kind {
            fn text(self) -> &'static str {
                match self { $(Kind::$kind => $text),* }
            }

            fn of(text: &[u8]) -> Option<Self> {
                $(if text == $text.as_bytes() { return Some(Kind::$kind); })*
                None
            }
        }
    };
}

kinds! {
    Hello "HELLO", Challenge "CHALLENGE", Proof "PROOF", Welcome "WELCOME",
    Publish "PUBLISH", Stored "STORED",
    Subscribe "SUBSCRIBE", Subscribed "SUBSCRIBED", Unsubscribe "UNSUBSCRIBE",
    Take "TAKE", Deliveries "DELIVERIES",
    Settle "SETTLE", Settled "SETTLED", Done "DONE",
    Read "READ", Events "EVENTS",
    Parked "PARKED", Aside "ASIDE", Unpark "UNPARK",
    Backlog "BACKLOG", Count "COUNT",
    Control "CONTROL", Controlled "CONTROLLED",
    Attach "ATTACH", Ask "ASK", Answer "ANSWER",
    Ping "PING", Pong "PONG", Bye "BYE",
    Refused "REFUSED",
}

/// One message.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    pub(crate) number: u64,
    pub(crate) below: u64,
    pub(crate) header: Bytes,
    pub(crate) body: Bytes,
}

fn malformed(what: impl Into<String>) -> Error {
    Error::new(Code::NotUnderstood, what.into())
}

impl Message {
    pub(crate) fn new(kind: Kind, number: u64, header: &impl Serialize) -> Result<Self> {
        Self::with(kind, number, header, Bytes::new())
    }

    pub(crate) fn with(kind: Kind, number: u64, header: &impl Serialize, body: Bytes) -> Result<Self> {
        // Attributes are about as long as a small payload.
        let mut text = Vec::with_capacity((ROOM + body.len() / 2).min(MOST_ROOM));
        serde_json::to_writer(&mut text, header)
            .map_err(|cause| Error::new(Code::InvalidEvent, "a header is no JSON").caused_by(cause))?;
        Ok(Message { kind, number, below: 0, header: text.into(), body })
    }

    /// A message without a header.
    pub(crate) fn bare(kind: Kind, number: u64) -> Self {
        Message { kind, number, below: 0, header: Bytes::from_static(b"{}"), body: Bytes::new() }
    }

    /// The refusal of a request.
    pub(crate) fn refused(number: u64, error: &Error) -> Self {
        let Reply::Refused { code, detail } = Reply::refused(error) else {
            return Message::bare(Kind::Refused, number);
        };
        let said = serde_json::json!({ "code": code, "detail": detail });
        Message { header: said.to_string().into(), ..Message::bare(Kind::Refused, number) }
    }

    /// What a refusal says.
    pub(crate) fn error(&self) -> Error {
        match self.header::<Refusal>() {
            Ok(Refusal { code, detail }) => {
                let known = Code::ALL.iter().find(|known| known.number() == code);
                Error::new(known.copied().unwrap_or(Code::BrokerUnavailable), detail)
            }
            Err(error) => error,
        }
    }

    /// What it weighs: header and body, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.header.len() + self.body.len()
    }

    /// # Errors
    /// `NotUnderstood`, saying what is wrong with the frames.
    pub(crate) fn from_frames(frames: Vec<Bytes>) -> Result<Self> {
        let [version, kind, number, header, body] = <[Bytes; FRAMES]>::try_from(frames)
            .map_err(|frames| malformed(format!("a message of {} frames instead of {FRAMES}", frames.len())))?;
        if &version[..] != VERSION {
            let theirs = String::from_utf8_lossy(version.get(..16).unwrap_or(&version)).into_owned();
            return Err(malformed(format!("protocol {theirs:?}; this side speaks CM1")));
        }
        let named =
            || malformed(format!("no message is called {:?}", String::from_utf8_lossy(&kind[..kind.len().min(32)])));
        let kind = Kind::of(&kind).ok_or_else(named)?;
        let numbers = std::str::from_utf8(&number).ok().and_then(|text| {
            let (number, below) = text.split_once(' ').unwrap_or((text, "0"));
            Some((number.parse().ok()?, below.parse().ok()?))
        });
        let (number, below) = numbers.ok_or_else(|| malformed("a message whose number is none"))?;
        Ok(Message { kind, number, below, header, body })
    }

    pub(crate) fn into_frames(self) -> Vec<Bytes> {
        let number = match self.below {
            0 => self.number.to_string(),
            below => format!("{} {below}", self.number),
        };
        let kind = Bytes::from_static(self.kind.text().as_bytes());
        vec![Bytes::from_static(VERSION), kind, number.into(), self.header, self.body]
    }

    /// # Errors
    /// `NotUnderstood` when the header is not what the kind asks for.
    pub(crate) fn header<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        serde_json::from_slice(&self.header)
            .map_err(|cause| malformed(format!("the header of a {} is not as it should be: {cause}", self.kind.text())))
    }
}

#[derive(Deserialize)]
struct Refusal {
    code: String,
    detail: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// Who, for the node's log.
    pub(crate) client: String,
    /// A session to go on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) session: Option<String>,
    /// Random, hexadecimal: the node proves with it that it has the key, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) nonce: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Challenge {
    pub(crate) nonce: String,
    pub(crate) proof: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Proof {
    pub(crate) proof: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Welcome {
    pub(crate) session: String,
    /// Whether the session that was asked for goes on: its deliveries and requests are still valid.
    pub(crate) resumed: bool,
    pub(crate) capabilities: Capabilities,
    /// Each side says something at least this often.
    pub(crate) heartbeat_ms: u64,
    /// How long a session outlives its connection, and how long silence is borne.
    pub(crate) lease_ms: u64,
    pub(crate) max_message_bytes: usize,
    pub(crate) max_in_flight: usize,
}

/// A text that is borrowed from its message where it can be.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The attributes of a CloudEvent, as a JSON object: written from the envelope itself, and read into one, so that nothing stands
/// in between.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "it is taken apart as soon as it is read, and a box would cost every event"
)]
pub(crate) enum Attributes<'a> {
    Of(&'a Envelope),
    /// Without its payload, or what is wrong with it.
    Read(Result<Envelope>),
}

/// More attributes than this are rare.
const USUAL: usize = 16;

impl Serialize for Attributes<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Attributes::Of(envelope) = self else {
            return Err(serde::ser::Error::custom("read, and not to be written"));
        };
        let content_type = envelope.data_content_type.as_deref().map(|value| ("datacontenttype", value.into()));
        to.collect_map(cloudevents::attributes(envelope).chain(content_type))
    }
}

thread_local! {
    /// What the events of a topic have in common, whoever sends them, is in memory once.
    static TEXTS: RefCell<Texts> = RefCell::default();
}

impl<'de> Deserialize<'de> for Attributes<'_> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Map;
        impl<'de> serde::de::Visitor<'de> for Map {
            type Value = Result<Envelope>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of texts")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Result<Envelope>, A::Error> {
                let (mut few, mut more, mut count) = ([const { None }; USUAL], Vec::new(), 0);
                while let Some(entry) = map.next_entry::<Text<'de>, Text<'de>>()? {
                    match few.get_mut(count) {
                        Some(place) => *place = Some(entry),
                        None => more.push(entry),
                    }
                    count += 1;
                }
                let mut all = [("", ""); USUAL];
                for (place, (name, value)) in all.iter_mut().zip(few.iter().flatten()) {
                    *place = (&*name.0, &*value.0);
                }
                let read = |all: &[(&str, &str)]| {
                    TEXTS.with_borrow_mut(|texts| cloudevents::from_attributes_sharing(all, None, Bytes::new(), texts))
                };
                if more.is_empty() {
                    return Ok(read(all.get(..count).unwrap_or_default()));
                }
                let more = more.iter().map(|(name, value)| (&*name.0, &*value.0));
                Ok(read(&all.into_iter().chain(more).collect::<Vec<_>>()))
            }
        }
        from.deserialize_map(Map).map(Attributes::Read)
    }
}

impl Attributes<'_> {
    fn envelope(self, data: Bytes) -> Result<Envelope> {
        match self {
            Attributes::Of(envelope) => Ok(Envelope { data, ..envelope.clone() }),
            Attributes::Read(read) => Ok(Envelope { data, ..read? }),
        }
    }
}

/// An event on its way in.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Sent<'a> {
    #[serde(borrow)]
    topic: Text<'a>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_before: Option<Timestamp>,
    size: usize,
    event: Attributes<'a>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Publish<'a> {
    #[serde(borrow)]
    pub(crate) events: Vec<Sent<'a>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub(crate) receipts: Vec<Receipt>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Subscribe {
    pub(crate) topic: String,
    pub(crate) group: String,
    pub(crate) credit: usize,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Opened {
    pub(crate) subscription: u32,
    /// Of what is parked in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) incarnation: Option<u32>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OfSubscription {
    pub(crate) subscription: u32,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Unsubscribe {
    pub(crate) subscription: u32,
    /// Nothing is received any more, and what was may still be settled.
    #[serde(default)]
    pub(crate) keep: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Take {
    pub(crate) subscription: u32,
    pub(crate) max: usize,
    pub(crate) wait_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Delivered<'a> {
    position: u64,
    incarnation: u32,
    attempt: u32,
    published: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_before: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    malformed: Option<String>,
    size: usize,
    event: Attributes<'a>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Deliveries<'a> {
    #[serde(borrow)]
    pub(crate) deliveries: Vec<Delivered<'a>>,
    /// Redeliveries and duplicates that the node's broker has absorbed in this subscription so far.
    #[serde(default)]
    pub(crate) absorbed: u64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Tag {
    position: u64,
    incarnation: u32,
}

impl From<DeliveryTag> for Tag {
    fn from(DeliveryTag { position, incarnation }: DeliveryTag) -> Self {
        Tag { position, incarnation }
    }
}

impl From<Tag> for DeliveryTag {
    fn from(Tag { position, incarnation }: Tag) -> Self {
        DeliveryTag { position, incarnation }
    }
}

/// A lane in hexadecimal, and the class of shared access; `null` is exclusive.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Held(String, Option<u32>);

impl Held {
    fn of((lane, mode): &(Lane, Mode)) -> Self {
        let class = match mode {
            Mode::Exclusive => None,
            Mode::Shared(class) => Some(*class),
        };
        Held(lane.to_string(), class)
    }

    fn lane(&self) -> Result<(Lane, Mode)> {
        let number =
            u64::from_str_radix(&self.0, 16).map_err(|_| malformed(format!("no lane is called {:?}", self.0)))?;
        Ok((Lane(number), self.1.map_or(Mode::Exclusive, Mode::Shared)))
    }
}

/// One settlement. Flat, because that is read in one pass.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ending<'a> {
    #[serde(rename = "do")]
    what: What,
    position: u64,
    incarnation: u32,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    publish: Vec<Sent<'a>>,
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    mark: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_before: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    lanes: Vec<Held>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum What {
    Ack,
    Defer,
    Park,
    Return,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_yes(yes: &bool) -> bool {
    *yes
}

fn yes() -> bool {
    true
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Settle<'a> {
    pub(crate) subscription: u32,
    #[serde(borrow)]
    pub(crate) settlements: Vec<Ending<'a>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Settled {
    #[serde(default)]
    pub(crate) absorbed: u64,
}

/// Of READ and UNPARK.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Tagged {
    pub(crate) subscription: u32,
    pub(crate) tags: Vec<Tag>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Plain<'a> {
    size: usize,
    event: Attributes<'a>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Events<'a> {
    #[serde(borrow)]
    pub(crate) events: Vec<Plain<'a>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SetAside {
    #[serde(flatten)]
    tag: Tag,
    attempts: u32,
    lanes: Vec<Held>,
    reason: Option<String>,
    since: Timestamp,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Aside {
    pub(crate) parked: Vec<SetAside>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Count {
    pub(crate) events: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Control {
    pub(crate) request: Request,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Controlled {
    pub(crate) reply: Reply,
}

/// All services of a client that operators may ask, each time that they change.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Attach {
    /// The names of the apps.
    pub(crate) apps: Vec<String>,
    /// Which of several processes this is, for people.
    pub(crate) instance: String,
}

/// What an operator asks a service of the client. Its number is the node's, because the node asks.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ask {
    pub(crate) ask: u64,
    pub(crate) app: String,
    pub(crate) operation: Operation,
}

/// The number of an ASK, whatever else it has.
#[derive(Debug, Deserialize)]
pub(crate) struct Numbered {
    pub(crate) ask: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) ask: u64,
    /// A `Reply` of either `report` or `refused`; as JSON, because one that is not understood concerns only whoever asked.
    pub(crate) reply: serde_json::Value,
}

/// Payloads under construction, one behind the other.
#[derive(Debug, Default)]
pub(crate) struct Payloads(BytesMut);

impl Payloads {
    /// With room for the payloads of all these.
    pub(crate) fn of<'a>(envelopes: impl Iterator<Item = &'a Envelope>) -> Self {
        Payloads(BytesMut::with_capacity(envelopes.map(|envelope| envelope.data.len()).sum()))
    }

    fn add(&mut self, data: &Bytes) -> usize {
        self.0.extend_from_slice(data);
        data.len()
    }

    pub(crate) fn finish(self) -> Bytes {
        self.0.freeze()
    }

    pub(crate) fn sent<'a>(&mut self, Outgoing { topic, envelope, not_before }: &'a Outgoing) -> Sent<'a> {
        let size = self.add(&envelope.data);
        Sent { topic: Text(topic.as_str().into()), not_before: *not_before, size, event: Attributes::Of(envelope) }
    }

    pub(crate) fn plain<'a>(&mut self, envelope: &'a Envelope) -> Plain<'a> {
        Plain { size: self.add(&envelope.data), event: Attributes::Of(envelope) }
    }

    pub(crate) fn delivered<'a>(&mut self, delivery: &'a Delivery) -> Delivered<'a> {
        Delivered {
            position: delivery.tag.position,
            incarnation: delivery.tag.incarnation,
            attempt: delivery.attempt,
            published: delivery.published,
            not_before: delivery.not_before,
            malformed: delivery.malformed.as_deref().map(str::to_owned),
            size: self.add(&delivery.envelope.data),
            event: Attributes::Of(&delivery.envelope),
        }
    }

    pub(crate) fn ending<'a>(&mut self, settlement: &'a Settlement) -> Ending<'a> {
        let DeliveryTag { position, incarnation } = settlement.tag();
        let mut ending = Ending {
            what: What::Return,
            position,
            incarnation,
            publish: Vec::new(),
            mark: true,
            attempts: None,
            not_before: None,
            lanes: Vec::new(),
            reason: None,
        };
        match settlement {
            Settlement::Ack { publish, mark, .. } => {
                let publish = publish.iter().map(|event| self.sent(event)).collect();
                ending = Ending { what: What::Ack, publish, mark: *mark, ..ending };
            }
            Settlement::Defer { attempts, not_before, .. } => {
                let (attempts, not_before) = (Some(*attempts), Some(*not_before));
                ending = Ending { what: What::Defer, attempts, not_before, ..ending };
            }
            Settlement::Park { attempts, lanes, reason, .. } => {
                let lanes = lanes.iter().map(Held::of).collect();
                ending =
                    Ending { what: What::Park, attempts: Some(*attempts), lanes, reason: reason.clone(), ..ending };
            }
            Settlement::Return { .. } => {}
        }
        ending
    }
}

/// Payloads being taken apart.
#[derive(Debug)]
pub(crate) struct Rest {
    body: Bytes,
    /// The last topic: the next is likely to be the same.
    topic: Option<Topic>,
}

impl Rest {
    pub(crate) fn of(message: &Message) -> Self {
        Rest { body: message.body.clone(), topic: None }
    }

    fn take(&mut self, size: usize) -> Result<Bytes> {
        if size > self.body.len() {
            return Err(malformed("a body shorter than the sizes in its header"));
        }
        let data = self.body.split_to(size);
        // A small payload that lives long must not keep the whole message in memory.
        Ok(if size <= COPIED { Bytes::copy_from_slice(&data) } else { data })
    }

    pub(crate) fn outgoing(&mut self, sent: Sent<'_>) -> Result<Outgoing> {
        let envelope = sent.event.envelope(self.take(sent.size)?)?;
        let topic = match self.topic.take().filter(|last| last.as_str() == sent.topic.0) {
            Some(same) => same,
            None => Topic::new(&*sent.topic.0)?,
        };
        self.topic = Some(topic.clone());
        Ok(Outgoing { topic, envelope, not_before: sent.not_before })
    }

    pub(crate) fn envelope(&mut self, plain: Plain<'_>) -> Result<Envelope> {
        plain.event.envelope(self.take(plain.size)?)
    }

    pub(crate) fn delivery(&mut self, from: Delivered<'_>) -> Result<Delivery> {
        Ok(Delivery {
            envelope: from.event.envelope(self.take(from.size)?)?.into(),
            tag: DeliveryTag { position: from.position, incarnation: from.incarnation },
            attempt: from.attempt,
            not_before: from.not_before,
            published: from.published,
            malformed: from.malformed.map(Arc::from),
        })
    }

    pub(crate) fn settlement(&mut self, ending: Ending<'_>) -> Result<Settlement> {
        let Ending { what, position, incarnation, publish, mark, attempts, not_before, lanes, reason } = ending;
        let tag = DeliveryTag { position, incarnation };
        let attempts = || attempts.ok_or_else(|| malformed("a settlement that does not say its attempts"));
        Ok(match what {
            What::Ack => {
                let publish = publish.into_iter().map(|event| self.outgoing(event)).collect::<Result<_>>()?;
                Settlement::Ack { tag, publish, mark }
            }
            What::Defer => {
                let not_before = not_before.ok_or_else(|| malformed("a defer that does not say until when"))?;
                Settlement::Defer { tag, attempts: attempts()?, not_before }
            }
            What::Park => {
                let lanes = lanes.iter().map(Held::lane).collect::<Result<_>>()?;
                Settlement::Park { tag, attempts: attempts()?, lanes, reason }
            }
            What::Return => Settlement::Return { tag },
        })
    }
}

impl SetAside {
    pub(crate) fn of(parked: &Parked) -> Self {
        SetAside {
            tag: parked.tag.into(),
            attempts: parked.attempts,
            lanes: parked.lanes.iter().map(Held::of).collect(),
            reason: parked.reason.clone(),
            since: parked.since,
        }
    }

    pub(crate) fn parked(self) -> Result<Parked> {
        Ok(Parked {
            tag: self.tag.into(),
            attempts: self.attempts,
            lanes: self.lanes.iter().map(Held::lane).collect::<Result<_>>()?,
            reason: self.reason,
            since: self.since,
        })
    }
}
