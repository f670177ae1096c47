//! Published: how many events this app has stored on each topic, whichever way they went.

use std::collections::BTreeMap;
use std::sync::Mutex;

use commute_core::{Outgoing, Topic};
use serde::Serialize;
use tokio::time::Instant;

use crate::lock::lock;
use crate::rate::Rate;

/// What an app has published to one topic since the start.
#[derive(Debug, Clone, Serialize)]
pub struct TopicStats {
    /// The topic.
    pub topic: String,
    /// Events stored there for this app: by its publisher, as answers, from its store, as dead letters.
    pub published: u64,
    /// Of those, per second over the last ten.
    pub published_per_second: f64,
}

/// Counts by topic. One short lock per batch, which is invisible beside the batch's way to the disk or the server.
#[derive(Debug, Default)]
pub(crate) struct Published(Mutex<BTreeMap<Topic, Count>>);

#[derive(Debug, Default)]
struct Count {
    events: u64,
    rate: Rate,
}

impl Published {
    pub(crate) fn add(&self, topic: &Topic, events: usize) {
        let mut topics = lock(&self.0);
        if let Some(count) = topics.get_mut(topic) {
            count.events += events as u64;
        } else {
            topics.insert(topic.clone(), Count { events: events as u64, rate: Rate::default() });
        }
    }

    pub(crate) fn add_all(&self, batch: &[Outgoing]) {
        for run in batch.chunk_by(|one, other| one.topic == other.topic) {
            self.add(&run[0].topic, run.len());
        }
    }

    /// Remembers where the counters stand.
    pub(crate) fn sample(&self, now: Instant) {
        for count in lock(&self.0).values_mut() {
            count.rate.sample(now, count.events);
        }
    }

    pub(crate) fn stats(&self, now: Instant) -> Vec<TopicStats> {
        let topics = lock(&self.0);
        let stats = topics.iter().map(|(topic, count)| TopicStats {
            topic: topic.to_string(),
            published: count.events,
            published_per_second: count.rate.per_second(now, count.events),
        });
        stats.collect()
    }
}
