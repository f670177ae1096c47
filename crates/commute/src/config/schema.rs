//! The schema: every key as data, with what it takes, what it does and what the documentation says of it.
//!
//! A new key is a new row. Reading, ranges, suggestions, variables and the page in the guide all follow from the row.

use std::ops::RangeInclusive;
use std::time::Duration;

use commute_core::{Mapping, foreign::Origin};

use super::time::DAY;
use crate::app::App;
use crate::handler::{Parts, Scope, always};
use crate::retry::{Backoff, Exhausted, OnFailure};

/// A key, and what it does to a `T`.
pub(super) struct Key<T: 'static> {
    pub(super) name: &'static str,
    pub(super) kind: Kind<T>,
    /// A sentence or two for the documentation, with what holds when neither program nor operator says anything.
    pub(super) doc: &'static str,
}

/// What a key takes, with what it does.
pub(super) enum Kind<T: 'static> {
    /// A whole number.
    Count(RangeInclusive<u32>, fn(T, u32) -> T),
    /// A number.
    Number(RangeInclusive<f64>, fn(T, f64) -> T),
    /// A time.
    Time(RangeInclusive<Duration>, fn(T, Duration) -> T),
    /// Yes or no.
    Flag(fn(T, bool) -> T),
    /// Said, or left out.
    Mark(fn(T) -> T),
    /// One of these words.
    Word(&'static [Word<T>]),
    /// Any text but an empty one.
    Text(fn(T, String) -> T),
    /// The name of any topic.
    Topic(fn(T, String) -> T),
    /// Topics that the app subscribes to.
    Topics(fn(T, Vec<String>) -> T),
    /// A broker's URL.
    Url,
    /// A file that holds a broker's URL.
    UrlFile,
    /// A text for each of some topics that the app subscribes to.
    TextByTopic(fn(T, String, String) -> T),
    /// A mapping for each of some topics that the app subscribes to.
    MappingByTopic(fn(T, String, Mapping) -> T),
    /// One topic, or a topic for each type that the handler answers.
    Answers { all: fn(T, String) -> T, of_type: fn(T, &str, String) -> T },
    /// A table for each handler of the app.
    Handlers,
    /// Keys of their own.
    Table(&'static [Key<T>]),
    /// Where a mapping finds a value.
    Origin(fn(T, Origin) -> T),
}

/// A word, and what it does.
pub(super) type Word<T> = (&'static str, fn(T) -> T);

/// The key of an origin that has a text, and the origin.
pub(super) type Form = (&'static str, fn(String) -> Origin);

/// Keys that say the same thing in two ways: one of them at a time, and a later source's replaces an earlier one's.
pub(super) const EITHER_OR: &[(&str, &str)] = &[("broker", "broker_file"), ("exclusive", "independent")];

const fn key<T>(name: &'static str, kind: Kind<T>, doc: &'static str) -> Key<T> {
    Key { name, kind, doc }
}

/// What is said of an app. The bounds keep slips of the pen out: beyond them there is nothing to gain.
pub(super) const APP: &[Key<App>] = &[
    key("broker", Kind::Url, "The broker's URL, as `commute::connect` takes it. Only its scheme is ever shown."),
    key("broker_file", Kind::UrlFile, "A file that holds the broker's URL and nothing else, such as a mounted secret."),
    key(
        "workers",
        Kind::Count(1..=65_536, |app: App, n| app.workers(n as usize)),
        "How many events are handled at once at most: 64.",
    ),
    key(
        "look_ahead",
        Kind::Count(1..=16_777_216, |app: App, n| app.look_ahead(n as usize)),
        "How many events may be held unsettled per subscription, most of them without their payload: 65536.",
    ),
    key("drain", Kind::Time(Duration::ZERO..=DAY, App::drain), "How long a stop waits for what is being handled: 30s."),
    key(
        "measure_parallelism",
        Kind::Flag(|app, measure| App { measure, ..app }),
        "Measures how much parallelism there was in the events: false.",
    ),
    key(
        "ignore_unknown_types",
        Kind::Topics(|app, topics| App { ignored: topics.into_iter().collect(), ..app }),
        "The topics on which events that no handler takes are acknowledged. Replaces the builder's whole list.",
    ),
    key(
        "queue",
        Kind::TextByTopic(|app, topic, name| app.queue(topic, name)),
        "By topic: the queue that exists already and is consumed as it is.",
    ),
    key(
        "mapping",
        Kind::MappingByTopic(App::mapping),
        "By topic: how messages that are no CloudEvents become events. Replaces the builder's whole mapping.",
    ),
    key(
        "admin",
        Kind::Text(|mut app, address| {
            app.admin.address = Some(address);
            app
        }),
        "The IP address and port that answers with metrics and health over HTTP: none. Needs the feature `admin`.",
    ),
    key(
        "admin_beyond_loopback",
        Kind::Flag(|mut app, beyond| {
            app.admin.beyond_loopback = beyond;
            app
        }),
        "Whether the admin address may be one that other machines reach: false.",
    ),
    key(
        "control",
        Kind::Text(|app, path| app.control(path)),
        "The Unix socket at which `commute --socket` finds the app: none; a broker that is a directory has one there.",
    ),
    key("handlers", Kind::Handlers, "By topic and type: what is said of a handler."),
];

/// What is said of a handler.
pub(super) const HANDLER: &[Key<Parts>] = &[
    key(
        "retry",
        Kind::Table(RETRY),
        "When a failed event is tried again; what is left out stays as the builder has it.",
    ),
    key(
        "when_exhausted",
        Kind::Word(&[
            ("park", |parts| Parts { when_exhausted: Some(Exhausted::Park), ..parts }),
            ("park_primary", |parts| Parts { when_exhausted: Some(Exhausted::ParkPrimary), ..parts }),
            ("skip", |parts| Parts { when_exhausted: Some(Exhausted::Skip), ..parts }),
        ]),
        "What happens to an event whose attempts are used up: park, and skip where the program declares a footprint.",
    ),
    key(
        "on_failure",
        Kind::Word(&[
            ("hold_lane", |parts| Parts { on_failure: OnFailure::HoldLane, ..parts }),
            ("release_lane", |parts| Parts { on_failure: OnFailure::ReleaseLane, ..parts }),
        ]),
        "What happens to the lanes of an event that waits for its next attempt: hold_lane.",
    ),
    key(
        "timeout",
        Kind::Time(Duration::from_millis(1)..=DAY, |parts, time| Parts { timeout: Some(time), ..parts }),
        "How long one attempt may take: without a limit.",
    ),
    key(
        "dead_letters_to",
        Kind::Topic(|parts, topic| Parts { dead_letters: Some(topic), ..parts }),
        "The topic of its dead letters, instead of `TOPIC.dead`.",
    ),
    key(
        "publishes",
        Kind::Answers {
            all: |mut parts, topic| {
                parts.topics.all = Some(topic);
                parts
            },
            of_type: Parts::publishes_type,
        },
        "The topic that its answers are published to, or a table with the topic of each type.",
    ),
    key(
        "exclusive",
        Kind::Mark(|parts| Parts { lanes: always(None), scope: Scope::Exclusive, ..parts }),
        "One event at a time within the subscription, in order, whatever the program declares.",
    ),
    key(
        "independent",
        Kind::Mark(|parts| Parts { lanes: always(Some(Default::default())), scope: Scope::Independent, ..parts }),
        "No event conflicts with any other, whatever the program declares. This gives up all order.",
    ),
];

/// What is said of retries.
const RETRY: &[Key<Parts>] = &[
    key(
        "attempts",
        Kind::Count(1..=1_000_000, |parts, n| parts.backing_off(|backoff| backoff.attempts(n))),
        "How often an event is tried in total, the first time included: 5.",
    ),
    key(
        "first",
        Kind::Time(Duration::ZERO..=DAY, |parts, time| parts.backing_off(|backoff| backoff.first(time))),
        "The ceiling of the first delay: 100ms.",
    ),
    key(
        "longest",
        Kind::Time(Duration::ZERO..=DAY, |parts, time| parts.backing_off(|backoff| backoff.longest(time))),
        "The ceiling of every delay: 30s.",
    ),
    key(
        "factor",
        Kind::Number(1.0..=100.0, |parts, factor| parts.backing_off(|backoff| backoff.factor(factor))),
        "How many times the delay grows from attempt to attempt: 2.",
    ),
    key(
        "jitter",
        Kind::Number(0.0..=1.0, |parts, part| parts.backing_off(|backoff| backoff.jitter(part))),
        "Which part of a delay is left to chance: 0.5.",
    ),
    key(
        "budget",
        Kind::Number(0.0..=1000.0, |parts, share| parts.backing_off(|backoff| backoff.budget(share))),
        "How many retries there may be for one handled event before they slow down to the longest delay: 0.2.",
    ),
];

/// What is said of a mapping. The type comes first, because it begins the mapping.
pub(super) const MAPPING: &[Key<Option<Mapping>>] = &[
    key("type", Kind::Origin(|_, origin| Some(Mapping::of(origin))), "Where the event's type is. Needed."),
    key("id", Kind::Origin(|mapping, origin| Some(mapping?.id(origin))), "Where the id is."),
    key("key", Kind::Origin(|mapping, origin| Some(mapping?.key(origin))), "Where the key is that orders events."),
    key(
        "time",
        Kind::Origin(|mapping, origin| Some(mapping?.time(origin))),
        "Where the time is, as RFC 3339 text or as seconds since 1970.",
    ),
    key("source", Kind::Origin(|mapping, origin| Some(mapping?.source(origin))), "Where the source is."),
    key("data", Kind::Origin(|mapping, origin| Some(mapping?.data(origin))), "Which field the payload is."),
];

/// Where a mapping finds a value: words, and keys of a table with one entry.
pub(super) const ORIGINS: &[(&str, Origin)] =
    &[("message_id", Origin::MessageId), ("message_key", Origin::MessageKey), ("coordinates", Origin::Coordinates)];
pub(super) const ORIGIN_KEYS: &[Form] = &[("field", Origin::Field), ("header", Origin::Header), ("text", Origin::Text)];

impl Parts {
    fn backing_off(mut self, change: impl FnOnce(Backoff) -> Backoff) -> Parts {
        self.backoff = change(self.backoff);
        self
    }

    /// Types that the handler does not answer have been refused by then.
    fn publishes_type(mut self, name: &str, topic: String) -> Parts {
        if let Some(known) = self.emits.iter().copied().find(|known| *known == name) {
            self.topics.by_type.insert(known, topic);
        }
        self
    }
}

impl<T> Kind<T> {
    /// What it takes, for people; `of` is the key's name.
    pub(super) fn takes(&self) -> String {
        match self {
            Kind::Count(range, _) => format!("a whole number from {} to {}", range.start(), range.end()),
            Kind::Number(range, _) => format!("a number from {} to {}", range.start(), range.end()),
            Kind::Time(range, _) => {
                format!("a time from {} to {}", super::time::text(*range.start()), super::time::text(*range.end()))
            }
            Kind::Flag(_) => "true or false".to_owned(),
            Kind::Mark(_) => "true".to_owned(),
            Kind::Word(words) => {
                let words: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
                words.join(" or ")
            }
            Kind::Text(_) => "a text".to_owned(),
            Kind::Topic(_) => "the name of a topic".to_owned(),
            Kind::Topics(_) => "a list of topics".to_owned(),
            Kind::Url => "a URL".to_owned(),
            Kind::UrlFile => "the path of a file".to_owned(),
            Kind::TextByTopic(_) => "a table with a name in quotes for each topic".to_owned(),
            Kind::MappingByTopic(_) => "a table with a mapping for each topic".to_owned(),
            Kind::Answers { .. } => "the name of a topic, or a table with a topic for each type".to_owned(),
            Kind::Handlers => "a table for each topic, with a table for each type".to_owned(),
            Kind::Table(_) => "a table".to_owned(),
            Kind::Origin(_) => "a place in the message".to_owned(),
        }
    }

    /// Whether a variable can say it. Names of topics and types do not fit into names of variables.
    pub(super) fn fits_a_variable(&self) -> bool {
        !matches!(
            self,
            Kind::TextByTopic(_) | Kind::MappingByTopic(_) | Kind::Answers { .. } | Kind::Handlers | Kind::Origin(_)
        )
    }
}
