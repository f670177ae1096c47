//! Metrics: the one table of names, units and meanings, read by every exporter, the dashboard's test and the guide.
//!
//! Names follow OpenTelemetry's messaging conventions where one exists; ours begin with `commute`. An exporter takes a
//! snapshot of the statistics and asks every [`Metric`] for its samples:
//!
//! ```
//! # use commute::prelude::*;
//! # #[derive(Debug, Serialize, Deserialize, Event)]
//! # #[event(type = "ping")]
//! # struct Ping {}
//! # #[tokio::main]
//! # async fn main() -> commute::Result<()> {
//! # async fn pong(_: Ping) {}
//! # let app = App::new("app").broker(commute::connect("memory:").await?).on("pings", handler(pong));
//! let running = app.start().await?;
//! let stats = running.stats();
//! for metric in commute::metrics::ALL {
//!     for sample in metric.samples(&stats) {
//!         println!("{} {:?} {:?}", metric.name, sample.labels, sample.value);
//!     }
//! }
//! # running.stop().await.map(drop)
//! # }
//! ```

use crate::durations::Distribution;
use crate::pause::PausedBecause;
use crate::published::TopicStats;
use crate::stats::{Stats, SubscriptionStats};

/// The service name of the app.
const APP: &str = "commute.app";
/// Why a reader pauses.
const REASON: &str = "commute.reason";
const SYSTEM: &str = "messaging.system";
const DESTINATION: &str = "messaging.destination.name";
const GROUP: &str = "messaging.consumer.group.name";
const OPERATION: &str = "messaging.operation.name";

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, from the start of the app.
    Counter,
    /// It is what it is now.
    Gauge,
    /// It only grows, in buckets.
    Histogram,
}

/// One metric of the table.
#[derive(Debug)]
pub struct Metric {
    /// The name, with dots, as OpenTelemetry writes it.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// The unit in UCUM: `s`, or what is counted in braces.
    pub unit: &'static str,
    /// What it says.
    pub help: &'static str,
    /// What OpenTelemetry's conventions call the operation that is measured.
    operation: Option<&'static str>,
    read: Read,
}

/// One value of a metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Names with dots, and values.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: Value,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of something that is counted.
    Count(u64),
    /// Of something that is measured.
    Number(f64),
    /// Of a histogram.
    Distribution(Distribution),
}

/// Of what there is one sample each, and where it is read.
#[derive(Debug)]
enum Read {
    App(fn(&Stats) -> Value),
    Topic(fn(&TopicStats) -> Value),
    Subscription(fn(&SubscriptionStats) -> Option<Value>),
    Reason(fn(&SubscriptionStats, PausedBecause) -> Value),
}

impl Metric {
    /// The name as Prometheus writes it: with underscores, the unit, and `_total` behind what is counted.
    pub fn prometheus_name(&self) -> String {
        let total = if self.kind == Kind::Counter { "_total" } else { "" };
        let unit = if self.unit == "s" { "_seconds" } else { "" };
        format!("{}{unit}{total}", prometheus(self.name))
    }

    /// The labels of its samples, with dots.
    pub fn labels(&self) -> Vec<&'static str> {
        let mut labels = match self.read {
            Read::App(_) => vec![APP],
            Read::Topic(_) => vec![APP, SYSTEM, DESTINATION],
            Read::Subscription(_) => vec![APP, SYSTEM, DESTINATION, GROUP],
            Read::Reason(_) => vec![APP, SYSTEM, DESTINATION, GROUP, REASON],
        };
        labels.extend(self.operation.map(|_| OPERATION));
        labels
    }

    /// Its values in a snapshot.
    pub fn samples(&self, stats: &Stats) -> Vec<Sample> {
        let sample = |of: &[&str], value| {
            let of = [stats.app.as_str(), stats.broker.as_str()].into_iter().chain(of.iter().copied());
            // The labels of an app end before its system; where there is an operation, there is all before it.
            let labels = self.labels().into_iter().zip(of.chain(self.operation));
            Sample { labels: labels.map(|(name, value)| (name, value.to_owned())).collect(), value }
        };
        let subscriptions = stats.subscriptions.iter();
        match self.read {
            Read::App(read) => vec![sample(&[], read(stats))],
            Read::Topic(read) => stats.topics.iter().map(|topic| sample(&[&topic.topic], read(topic))).collect(),
            Read::Subscription(read) => {
                subscriptions.filter_map(|sub| Some(sample(&[&sub.topic, &sub.subscription], read(sub)?))).collect()
            }
            Read::Reason(read) => subscriptions
                .flat_map(|sub| PausedBecause::ALL.map(|why| (sub, why)))
                .map(|(sub, why)| sample(&[&sub.topic, &sub.subscription, why.as_str()], read(sub, why)))
                .collect(),
        }
    }
}

/// A name of OpenTelemetry as Prometheus writes it.
pub fn prometheus(name: &str) -> String {
    name.replace('.', "_")
}

const fn counter(name: &'static str, unit: &'static str, help: &'static str, read: Read) -> Metric {
    Metric { name, kind: Kind::Counter, unit, help, operation: None, read }
}

const fn gauge(name: &'static str, unit: &'static str, help: &'static str, read: Read) -> Metric {
    Metric { name, kind: Kind::Gauge, unit, help, operation: None, read }
}

const fn histogram(name: &'static str, help: &'static str, read: Read) -> Metric {
    Metric { name, kind: Kind::Histogram, unit: "s", help, operation: None, read }
}

impl Metric {
    const fn of(mut self, operation: &'static str) -> Self {
        self.operation = Some(operation);
        self
    }
}

fn count(events: usize) -> Value {
    Value::Count(events as u64)
}

use Value::{Count, Number};

/// Every metric there is.
pub const ALL: &[Metric] = &[
    counter(
        "messaging.client.sent.messages",
        "{message}",
        "Events that this app stored on a topic: by its publisher, as answers, from its store, as dead letters",
        Read::Topic(|topic| Count(topic.published)),
    )
    .of("send"),
    counter(
        "messaging.client.consumed.messages",
        "{message}",
        "Deliveries taken from the broker",
        Read::Subscription(|sub| Some(Count(sub.received))),
    )
    .of("receive"),
    histogram(
        "messaging.process.duration",
        "How long attempts took, those that failed included",
        Read::Subscription(|sub| Some(Value::Distribution(sub.processing.clone()))),
    )
    .of("process"),
    histogram(
        "commute.event.latency",
        "From publishing to handled, of every event that was handled",
        Read::Subscription(|sub| Some(Value::Distribution(sub.latency.clone()))),
    ),
    counter(
        "commute.events.handled",
        "{event}",
        "Events whose handling succeeded",
        Read::Subscription(|sub| Some(Count(sub.handled))),
    ),
    counter(
        "commute.attempts",
        "{attempt}",
        "How often a handler was called to an end",
        Read::Subscription(|sub| Some(Count(sub.attempts))),
    ),
    counter(
        "commute.attempts.failed",
        "{attempt}",
        "Attempts that failed",
        Read::Subscription(|sub| Some(Count(sub.failed))),
    ),
    counter(
        "commute.events.dead",
        "{event}",
        "Events that became dead letters",
        Read::Subscription(|sub| Some(Count(sub.dead))),
    ),
    counter(
        "commute.events.duplicate",
        "{event}",
        "Deliveries of events that had taken effect before",
        Read::Subscription(|sub| Some(Count(sub.duplicates))),
    ),
    counter(
        "commute.events.ignored",
        "{event}",
        "Events of types that the subscription ignores",
        Read::Subscription(|sub| Some(Count(sub.ignored))),
    ),
    gauge(
        "commute.events.backlog",
        "{event}",
        "Events stored and not yet received; up to a second old, and missing where the broker cannot say",
        Read::Subscription(|sub| sub.backlog.map(Count)),
    ),
    gauge(
        "commute.events.in_flight",
        "{event}",
        "Events that are taken and not settled: running, queued and retrying",
        Read::Subscription(|sub| Some(count(sub.in_flight))),
    ),
    gauge(
        "commute.events.running",
        "{event}",
        "Events that workers or a store have in hand",
        Read::Subscription(|sub| Some(count(sub.running))),
    ),
    gauge(
        "commute.events.queued",
        "{event}",
        "Events that wait for an earlier conflicting one or for a worker",
        Read::Subscription(|sub| Some(count(sub.queued))),
    ),
    gauge(
        "commute.events.retrying",
        "{event}",
        "Events that wait for their next attempt",
        Read::Subscription(|sub| Some(Count(sub.retrying))),
    ),
    gauge(
        "commute.events.parked",
        "{event}",
        "Events that are set aside until somebody releases their lanes",
        Read::Subscription(|sub| Some(Count(sub.parked))),
    ),
    gauge(
        "commute.lanes.parked",
        "{lane}",
        "Lanes on which events of the subscription are set aside",
        Read::Subscription(|sub| Some(count(sub.parked_lanes))),
    ),
    gauge(
        "commute.reader.paused",
        "{reader}",
        "1 while nothing is taken from the broker for this reason",
        Read::Reason(|sub, why| Count(u64::from(sub.paused == Some(why)))),
    ),
    counter(
        "commute.reader.pauses",
        "{pause}",
        "How often nothing more was taken from the broker for this reason",
        Read::Reason(|sub, why| Count(sub.pauses.iter().filter(|(of, _)| *of == why).map(|(_, n)| n).sum())),
    ),
    gauge(
        "commute.app.waiting",
        "{event}",
        "Events waiting for an earlier conflicting one",
        Read::App(|app| count(app.waiting)),
    ),
    gauge(
        "commute.app.ready",
        "{event}",
        "Events that could run if a worker were free",
        Read::App(|app| count(app.ready)),
    ),
    gauge(
        "commute.app.staged",
        "{event}",
        "Events staged in the store and not yet published",
        Read::App(|app| count(app.staged)),
    ),
    gauge("commute.app.lanes", "{lane}", "Lanes in which some event stands", Read::App(|app| count(app.lanes))),
    counter(
        "commute.app.work",
        "s",
        "All the time that successful attempts took; per second, how many events run at once",
        Read::App(|app| Number(app.work.as_secs_f64())),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_valid_and_each_is_there_once() {
        let mut names: Vec<_> = ALL.iter().map(Metric::prometheus_name).collect();
        for name in &names {
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        for metric in ALL {
            let foreign = metric.name.starts_with("messaging.");
            assert!(foreign || metric.name.starts_with("commute."), "{}", metric.name);
            assert_eq!(foreign, metric.operation.is_some(), "{}: the conventions ask for an operation", metric.name);
            assert!(!metric.help.ends_with('.'), "{}: {}", metric.name, metric.help);
        }
    }

    #[test]
    fn spelling_follows_the_unit_and_the_kind() {
        let spelled = |name: &str| ALL.iter().find(|metric| metric.name == name).map(Metric::prometheus_name);
        assert_eq!(spelled("messaging.process.duration").as_deref(), Some("messaging_process_duration_seconds"));
        assert_eq!(spelled("commute.app.work").as_deref(), Some("commute_app_work_seconds_total"));
        assert_eq!(spelled("commute.events.dead").as_deref(), Some("commute_events_dead_total"));
        assert_eq!(spelled("commute.events.parked").as_deref(), Some("commute_events_parked"));
    }
}
