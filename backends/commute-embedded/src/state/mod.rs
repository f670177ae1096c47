//! State: what the log says, held in memory. Changed by records alone, in recovery and in life by the same code.

pub(crate) mod delivery;
pub(crate) mod ids;
pub(crate) mod snapshot;
pub(crate) mod subscription;
pub(crate) mod topic;

use std::sync::Arc;

use hashbrown::HashMap;

use crate::journal::Location;
use crate::options::Options;
use crate::records::Record;
use subscription::Subscribed;
use topic::Stored;

/// Everything.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) topics: Vec<Stored>,
    by_name: HashMap<Arc<str>, u32>,
    pub(crate) subscriptions: Vec<Subscribed>,
    by_group: HashMap<(u32, Arc<str>), u32>,
}

impl State {
    pub(crate) fn topic(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn subscription(&self, topic: u32, group: &str) -> Option<u32> {
        self.by_group.get(&(topic, group.into())).copied()
    }

    /// Adds the fact of a record. Facts are added once; adding one again after a snapshot changes nothing.
    pub(crate) fn apply(&mut self, record: Record, at: Location, options: &Options) {
        match record {
            Record::Topic { topic, name } => {
                if self.topics.len() == topic as usize {
                    self.by_name.insert(name.clone(), topic);
                    self.topics.push(Stored::new(name));
                }
            }
            Record::Event { topic, position, published, not_before, envelope } => {
                if let Some(stored) = self.topics.get_mut(topic as usize) {
                    stored.add(position, published, not_before, Some(envelope), at, options);
                }
            }
            Record::Subscription { subscription, topic, group } => {
                if self.subscriptions.len() == subscription as usize {
                    self.by_group.insert((topic, group.clone()), subscription);
                    self.subscriptions.push(Subscribed::new(topic, group));
                }
            }
            Record::Ack { subscription, position, at, mark } => {
                if let Some(known) = self.subscriptions.get_mut(subscription as usize) {
                    known.ack(position);
                    if let Some(mark) = mark {
                        known.inbox.insert(mark, position, at, options.inbox_window);
                    }
                }
            }
            Record::Defer { subscription, position, attempts, not_before } => {
                if let Some(known) = self.subscriptions.get_mut(subscription as usize) {
                    known.defer(position, attempts, not_before);
                }
            }
            Record::Park { subscription, position, aside } => {
                if let Some(known) = self.subscriptions.get_mut(subscription as usize) {
                    known.park(position, aside);
                }
            }
            Record::Unpark { subscription, position } => {
                if let Some(known) = self.subscriptions.get_mut(subscription as usize) {
                    known.unpark(position);
                }
            }
        }
    }

    /// Up to where every subscription of a topic is done; `None` when it has none.
    pub(crate) fn settled_below(&self, topic: u32) -> Option<u64> {
        let of_topic = self.subscriptions.iter().filter(|subscription| subscription.topic == topic);
        of_topic.map(|subscription| subscription.done.low()).min()
    }
}
