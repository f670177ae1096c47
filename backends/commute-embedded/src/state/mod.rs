//! State: what the log says, held in memory. Changed by records alone, in recovery and in life by the same code.

pub(crate) mod delivery;
pub(crate) mod ids;
pub(crate) mod snapshot;
pub(crate) mod subscription;
pub(crate) mod topic;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use commute_core::Timestamp;
use commute_core::watermark::Watermark;
use hashbrown::HashMap;

use crate::journal::Place;
use crate::options::Options;
use crate::records::{Event, Head, Record};
use ids::Seen;
use subscription::Subscribed;
use topic::Stored;

/// Everything.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) topics: Vec<Stored>,
    by_name: HashMap<Arc<str>, u32>,
    pub(crate) subscriptions: Vec<Subscribed>,
    by_group: HashMap<(u32, Arc<str>), u32>,
    /// When the youngest event of a segment was published, for segments with events.
    pub(crate) youngest: BTreeMap<u32, Timestamp>,
    /// The topics of the events in memory, oldest first.
    tail: VecDeque<u32>,
    tail_bytes: usize,
}

impl State {
    pub(crate) fn topic(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn subscription(&self, topic: u32, group: &Arc<str>) -> Option<u32> {
        self.by_group.get(&(topic, group.clone())).copied()
    }

    /// A subscription with its topic.
    pub(crate) fn both(&mut self, subscription: u32) -> (&mut Subscribed, &Stored) {
        let known = &mut self.subscriptions[subscription as usize];
        let topic = &self.topics[known.topic as usize];
        (known, topic)
    }

    /// Adds the fact of a record. Answers whether it fits what is known; nothing has changed if not.
    #[must_use]
    pub(crate) fn apply(&mut self, record: Record, place: Place, options: &Options) -> bool {
        match record {
            Record::Topic { topic, name } => self.add_topic(topic, Stored::new(name)),
            Record::Event(event) => self.add_event(event, place, options),
            Record::Subscription { subscription, topic, group, first } => {
                (topic as usize) < self.topics.len()
                    && self.add_subscription(subscription, Subscribed::new(topic, group, Watermark::new(first)))
            }
            Record::Opened { subscription, incarnation } => {
                self.with(subscription, |known| known.incarnation = incarnation)
            }
            Record::Ack { subscription, position, at, mark } => self.with(subscription, |known| {
                known.ack(position);
                if let Some(id) = mark {
                    known.inbox.insert(id, Seen { at, position }, options.inbox_window);
                }
            }),
            Record::Defer { subscription, position, attempts, not_before } => {
                self.with(subscription, |known| known.defer(position, attempts, not_before))
            }
            Record::Park { subscription, position, aside } => {
                self.with(subscription, |known| known.park(position, aside))
            }
            Record::Unpark { subscription, position } => self.with(subscription, |known| known.unpark(position)),
            Record::Replay { subscription, position } => self.with(subscription, |known| known.replay(position)),
        }
    }

    fn with(&mut self, subscription: u32, change: impl FnOnce(&mut Subscribed)) -> bool {
        self.subscriptions.get_mut(subscription as usize).map(change).is_some()
    }

    fn add_topic(&mut self, number: u32, topic: Stored) -> bool {
        if self.topics.len() != number as usize {
            return false;
        }
        self.by_name.insert(topic.name.clone(), number);
        self.topics.push(topic);
        true
    }

    fn add_subscription(&mut self, number: u32, subscription: Subscribed) -> bool {
        if self.subscriptions.len() != number as usize {
            return false;
        }
        self.by_group.insert((subscription.topic, subscription.group.clone()), number);
        self.subscriptions.push(subscription);
        true
    }

    fn add_event(&mut self, event: Arc<Event>, place: Place, options: &Options) -> bool {
        let (topic, published, size) = (event.topic, event.published, event.envelope.size());
        let Some(stored) = self.topics.get_mut(topic as usize) else { return false };
        if !stored.add(event, place, options.dedup_window) {
            return false;
        }
        self.is_younger(place.segment, published);
        self.tail.push_back(topic);
        self.tail_bytes += size;
        while self.tail_bytes > options.tail_bytes {
            let Some(oldest) = self.tail.pop_front() else { break };
            self.tail_bytes -= self.topics[oldest as usize].shorten_tail().unwrap_or_default();
        }
        true
    }

    /// Adds where an event lies, when only that is wanted of it. Answers as [`State::apply`].
    #[must_use]
    pub(crate) fn index(&mut self, event: &Head<'_>, place: Place) -> bool {
        let Head { topic, position, published, not_before, .. } = *event;
        let stored = self.topics.get_mut(topic as usize);
        let fits = stored.is_some_and(|stored| stored.index(position, published, not_before, place));
        if fits {
            self.is_younger(place.segment, published);
        }
        fits
    }

    fn is_younger(&mut self, segment: u32, published: Timestamp) {
        let youngest = self.youngest.entry(segment).or_insert(published);
        *youngest = published.max(*youngest);
    }

    /// Wakes the receivers of some subscriptions, and of all on some topics.
    pub(crate) fn wake(&self, topics: &[u32], subscriptions: &[u32]) {
        for (n, subscription) in (0..).zip(&self.subscriptions) {
            if topics.contains(&subscription.topic) || subscriptions.contains(&n) {
                subscription.changed.notify_waiters();
            }
        }
    }

    /// Up to where every subscription of a topic is done; `None` when it has none.
    pub(crate) fn settled_below(&self, topic: u32) -> Option<u64> {
        let of_topic = self.subscriptions.iter().filter(|subscription| subscription.topic == topic);
        of_topic.map(|subscription| subscription.done.low()).min()
    }

    /// Forgets a segment and all before it.
    pub(crate) fn forget_segment(&mut self, segment: u32) {
        self.topics.iter_mut().for_each(|topic| topic.forget_segment(segment));
        self.youngest = self.youngest.split_off(&(segment + 1));
    }
}
