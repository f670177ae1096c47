//! Enacting: commands become records of the group.
//!
//! Everything but events takes effect in memory at once, so that later commands of the group see it: if the sync fails,
//! nothing of it is believed any more, because the log is poisoned. Events become visible when they are durable.

use std::sync::Arc;

use commute_core::{DeliveryTag, Outgoing, Receipt, Settlement, Timestamp};
use hashbrown::HashMap;

use super::command::{Answer, Command, Named, Opened, Unparked};
use crate::journal::Place;
use crate::journal::log::Log;
use crate::options::Options;
use crate::records::{Aside, Event, Record};
use crate::state::State;
use crate::state::delivery::Held;

/// A group under construction.
pub(crate) struct Group<'a> {
    log: &'a mut Log,
    pub(super) state: &'a mut State,
    options: &'a Options,
    pub(super) now: Timestamp,
    pub(crate) effects: Effects,
}

/// What a group does besides being written.
#[derive(Default)]
pub(crate) struct Effects {
    /// To be visible afterwards.
    pub(crate) events: Vec<(Arc<Event>, Place)>,
    /// Subscriptions whose receivers may go on.
    pub(crate) touched: Vec<u32>,
    pub(crate) answers: Vec<Answer>,
    next: HashMap<u32, u64>,
    ids: HashMap<(u32, [u8; 16]), u64>,
}

impl<'a> Group<'a> {
    pub(crate) fn begin(log: &'a mut Log, state: &'a mut State, options: &'a Options) -> Self {
        log.begin();
        Group { log, state, options, now: options.clock.now(), effects: Effects::default() }
    }

    /// Bytes so far.
    pub(crate) fn bytes(&self) -> usize {
        self.log.group_bytes()
    }

    pub(crate) fn add(&mut self, command: Command) {
        let answer = match command {
            Command::Publish { batch, reply } => {
                let receipts = batch.into_iter().map(|event| self.publish(event)).collect();
                Answer::Published(receipts, reply)
            }
            Command::Subscribe { topic, group, reply } => Answer::Opened(self.subscribe(&topic, group), reply),
            Command::Settle { subscription, settlements, reply } => {
                settlements.into_iter().for_each(|settlement| self.settle(subscription, settlement));
                self.effects.touched.push(subscription);
                Answer::Done(Ok(()), reply)
            }
            Command::Unpark { subscription, incarnation, parked, reply } => {
                let done = self.unpark(subscription, parked.iter().map(|one| one.position));
                if done.is_ok() {
                    let delivering = &mut self.state.subscriptions[subscription as usize].delivering;
                    for Unparked { position, id, key } in parked {
                        delivering.take(position, Held { incarnation, id, key, counted: false });
                    }
                }
                Answer::Done(done, reply)
            }
            Command::Keep { topic, group, reply } => {
                self.subscription(&topic, group);
                Answer::Done(Ok(()), reply)
            }
            Command::End { subscription, ended, reply } => {
                let ended = ended.into_iter().map(|over| self.end(subscription, over)).collect();
                self.effects.touched.push(subscription);
                Answer::Ended(ended, reply)
            }
            Command::Release { subscription, positions, reply } => {
                Answer::Done(self.release(subscription, &positions), reply)
            }
            Command::Replay { subscription, from, reply } => Answer::Replayed(self.replay(subscription, from), reply),
            Command::Absorb { subscription, positions } => {
                for position in positions {
                    self.note(Record::Ack { subscription, position, at: self.now, mark: None });
                    let delivering = &mut self.state.subscriptions[subscription as usize].delivering;
                    delivering.settle(position);
                    delivering.absorbed += 1;
                }
                self.effects.touched.push(subscription);
                return;
            }
        };
        self.effects.answers.push(answer);
    }

    /// A fact that takes effect in memory at once.
    pub(super) fn note(&mut self, record: Record) {
        let place = self.log.add(&record);
        let fits = self.state.apply(record, place, self.options);
        debug_assert!(fits, "the writer makes only records that fit");
    }

    fn topic(&mut self, name: &str) -> u32 {
        self.state.topic(name).unwrap_or_else(|| {
            let topic = self.state.topics.len() as u32;
            self.note(Record::Topic { topic, name: name.into() });
            topic
        })
    }

    pub(super) fn publish(&mut self, Named { event, id }: Named) -> Receipt {
        let topic = self.topic(event.topic.as_str());
        let stored = &self.state.topics[topic as usize];
        let known = stored.ids.get(&id, self.now, self.options.dedup_window);
        if let Some(position) = known.or_else(|| self.effects.ids.get(&(topic, id)).copied()) {
            return Receipt { position: Some(position), duplicate: true };
        }
        let next = self.effects.next.entry(topic).or_insert(stored.next);
        let position = *next;
        *next += 1;
        self.effects.ids.insert((topic, id), position);
        let Outgoing { not_before, envelope, .. } = event;
        let envelope = Arc::new(envelope);
        let event = Arc::new(Event { topic, position, published: self.now, not_before, envelope, id });
        let place = self.log.add(&Record::Event(event.clone()));
        self.effects.events.push((event, place));
        Receipt { position: Some(position), duplicate: false }
    }

    fn subscription(&mut self, topic: &str, group: Arc<str>) -> u32 {
        let topic = self.topic(topic);
        self.state.subscription(topic, &group).unwrap_or_else(|| {
            let subscription = self.state.subscriptions.len() as u32;
            let first = self.state.topics[topic as usize].first;
            self.note(Record::Subscription { subscription, topic, group, first });
            subscription
        })
    }

    fn subscribe(&mut self, topic: &str, group: Arc<str>) -> Opened {
        let subscription = self.subscription(topic, group);
        let incarnation = self.state.subscriptions[subscription as usize].incarnation.wrapping_add(1);
        self.note(Record::Opened { subscription, incarnation });
        Opened { subscription, incarnation }
    }

    /// Settlements of deliveries that are not in the hands of whoever settles do nothing.
    fn settle(&mut self, subscription: u32, settlement: Settlement) {
        let DeliveryTag { position, incarnation } = settlement.tag();
        let delivering = &mut self.state.subscriptions[subscription as usize].delivering;
        if !delivering.holds(incarnation, position) {
            return;
        }
        match settlement {
            Settlement::Ack { publish, mark, .. } => {
                let held = delivering.settle(position).filter(|_| mark);
                let mark = held.map(|held| held.id);
                self.note(Record::Ack { subscription, position, at: self.now, mark });
                for event in publish {
                    self.publish(event.into());
                }
            }
            Settlement::Defer { attempts, not_before, .. } => {
                self.note(Record::Defer { subscription, position, attempts, not_before });
            }
            Settlement::Park { attempts, lanes, reason, .. } => {
                delivering.settle(position);
                let aside = Aside { attempts, since: self.now, reason: reason.map(Into::into), lanes };
                self.note(Record::Park { subscription, position, aside });
            }
            Settlement::Return { .. } => {
                delivering.settle(position);
                delivering.again.insert(position);
            }
        }
    }
}
