//! The administration of the model broker, as obvious as the rest, with its own ways to be wrong.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard};

use commute_core::admin::{
    Admin, Begin, Ended, GroupInfo, Page, ParkedEvent, StoredEvent, SubscriptionName, TopicInfo,
};
use commute_core::{BoxFuture, Code, Error, Result, Topic};

use crate::model_broker::{Group, Mutant, Session, Stored, World};

type Key = (Topic, Arc<str>);

fn key(name: &SubscriptionName) -> Key {
    (name.topic.clone(), name.group.as_str().into())
}

fn missing() -> Error {
    Error::new(Code::NotFound, "not in the model")
}

fn shown(topic: &Topic, position: u64, stored: &Stored) -> StoredEvent {
    let Stored { envelope, not_before, published } = stored;
    let (event, not_before) = (envelope.clone(), *not_before);
    StoredEvent { topic: topic.to_string(), position, published: *published, not_before, event }
}

fn events<'a>(world: &'a World, topic: &Topic) -> impl Iterator<Item = (u64, &'a Stored)> {
    (0..).zip(world.topics.get(topic).into_iter().flatten())
}

fn begin(world: &World, topic: &Topic, from: Begin) -> u64 {
    let next = events(world, topic).count() as u64;
    match from {
        Begin::Start => 0,
        Begin::End => next,
        Begin::Position(position) => position,
        Begin::Last(count) => next.saturating_sub(count),
        Begin::Time(time) => {
            events(world, topic).find(|(_, stored)| stored.published >= time).map_or(next, |(position, _)| position)
        }
    }
}

/// What somebody may do with a group that nobody has open.
fn idle<'a>(world: &'a mut World, name: &SubscriptionName) -> Result<&'a mut Group> {
    let group = world.groups.get_mut(&key(name)).ok_or_else(missing)?;
    if group.open.is_empty() { Ok(group) } else { Err(Error::new(Code::GroupBusy, "open in the model")) }
}

impl Session {
    fn is(&self, mutant: Mutant) -> bool {
        self.connection.is(mutant)
    }

    fn answer<T: Send + 'static>(
        &self,
        ask: impl FnOnce(MutexGuard<'_, World>) -> Result<T>,
    ) -> BoxFuture<'static, Result<T>> {
        let answer = self.connection.enter(self.session).and_then(ask);
        self.connection.changed.notify_waiters();
        Box::pin(std::future::ready(answer))
    }

    fn end_one(&self, world: &mut World, key: &Key, ended: Ended) -> bool {
        let Ended { position, publish } = ended;
        let id = world.topics[&key.0][position as usize].envelope.id.clone();
        let group = world.groups.get_mut(key).expect("it was found");
        if group.is_done(position) && !self.is(Mutant::EndsTwice) {
            return false;
        }
        group.done.insert(position);
        group.parked.retain(|(parked, _)| *parked != position);
        group.inbox.insert(id);
        if !self.is(Mutant::EndLeavesTheDelivery) {
            group.held.remove(&position);
        }
        if !self.is(Mutant::EndLosesWhatItPublishes) {
            for outgoing in publish {
                self.connection.publish(world, outgoing, true);
            }
        }
        true
    }
}

impl Admin for Session {
    fn topics(&self, after: Option<Topic>, max: usize) -> BoxFuture<'_, Result<Vec<TopicInfo>>> {
        self.answer(|world| {
            let behind = world.topics.iter().filter(|(topic, _)| after.as_ref().is_none_or(|after| *topic > after));
            let info = |(topic, stored): (&Topic, &Vec<Stored>)| TopicInfo {
                topic: topic.to_string(),
                first: 0,
                next: stored.len() as u64,
                groups: world.groups.keys().filter(|(of, _)| of == topic).count(),
                youngest: stored.last().map(|stored| stored.published),
            };
            Ok(behind.take(max).map(info).collect())
        })
    }

    fn groups(&self, topic: Option<Topic>) -> BoxFuture<'_, Result<Vec<GroupInfo>>> {
        self.answer(|world| {
            let wanted = world.groups.iter().filter(|((of, _), _)| topic.as_ref().is_none_or(|topic| of == topic));
            let info = |((topic, name), group): (&Key, &Group)| {
                let waits = |position: &u64| {
                    let parked = group.parked.iter().any(|(parked, _)| parked == position);
                    !group.is_done(*position) && !group.held.contains_key(position) && !parked
                };
                GroupInfo {
                    subscription: SubscriptionName { topic: topic.clone(), group: name.to_string() },
                    settled_below: (group.low..).find(|position| !group.is_done(*position)),
                    backlog: Some(events(&world, topic).filter(|(position, _)| waits(position)).count() as u64),
                    in_flight: Some(group.held.len() as u64),
                    retrying: Some(group.deferred.len() as u64),
                    parked: Some(group.parked.len() as u64),
                    instances: Some(group.open.len()),
                }
            };
            Ok(wanted.map(info).collect())
        })
    }

    fn read(&self, topic: Topic, from: Begin, max: usize) -> BoxFuture<'_, Result<Page>> {
        self.answer(|world| {
            if !world.topics.contains_key(&topic) {
                return Err(missing());
            }
            let start = begin(&world, &topic, from);
            let page = events(&world, &topic).filter(|(position, _)| *position >= start).take(max);
            let events: Vec<_> = page.map(|(position, stored)| shown(&topic, position, stored)).collect();
            Ok(Page { next: start + events.len() as u64, events })
        })
    }

    fn unsettled(
        &self,
        name: SubscriptionName,
        after: Option<u64>,
        max: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>>> {
        let with_parked = self.is(Mutant::ListsParkedAsUnsettled);
        self.answer(move |world| {
            let group = world.groups.get(&key(&name));
            let is_open = |position: u64| {
                let aside = |group: &Group| group.parked.iter().any(|(parked, _)| *parked == position) && !with_parked;
                group.is_none_or(|group| !group.is_done(position) && !aside(group))
            };
            let open =
                events(&world, &name.topic).filter(|(position, _)| Some(*position) > after && is_open(*position));
            Ok(open.take(max).map(|(position, stored)| shown(&name.topic, position, stored)).collect())
        })
    }

    fn parked(
        &self,
        name: SubscriptionName,
        after: Option<u64>,
        max: usize,
    ) -> BoxFuture<'_, Result<Vec<ParkedEvent>>> {
        self.answer(move |world| {
            let Some(group) = world.groups.get(&key(&name)) else { return Ok(Vec::new()) };
            let aside: BTreeMap<_, _> = group.parked.iter().cloned().collect();
            let behind = aside.into_iter().filter(|(position, _)| Some(*position) > after);
            let parked = behind.take(max).map(|(position, parked)| ParkedEvent {
                stored: shown(&name.topic, position, &world.topics[&name.topic][position as usize]),
                attempts: parked.attempts,
                reason: parked.reason,
                since: parked.since,
                lanes: parked.lanes.iter().map(|(lane, _)| lane.to_string()).collect(),
            });
            Ok(parked.collect())
        })
    }

    fn keep(&self, name: SubscriptionName) -> BoxFuture<'_, Result<()>> {
        self.answer(|mut world| {
            world.groups.entry(key(&name)).or_default();
            Ok(())
        })
    }

    fn end(&self, name: SubscriptionName, ended: Vec<Ended>) -> BoxFuture<'_, Result<Vec<bool>>> {
        self.answer(|mut world| {
            let key = key(&name);
            let next = events(&world, &name.topic).count() as u64;
            if !world.groups.contains_key(&key) || ended.iter().any(|ended| ended.position >= next) {
                return Err(missing());
            }
            Ok(ended.into_iter().map(|ended| self.end_one(&mut world, &key, ended)).collect())
        })
    }

    fn unpark(&self, name: SubscriptionName, positions: Vec<u64>) -> BoxFuture<'_, Result<()>> {
        self.answer(|mut world| {
            let group = idle(&mut world, &name)?;
            let before = group.parked.clone();
            for position in positions {
                let at = group.parked.iter().position(|(parked, _)| *parked == position);
                let Some(at) = at else {
                    group.parked = before;
                    return Err(Error::new(Code::NotParked, "not parked in the model"));
                };
                group.parked.remove(at);
            }
            Ok(())
        })
    }

    fn replay(&self, name: SubscriptionName, from: Begin) -> BoxFuture<'_, Result<u64>> {
        self.answer(|mut world| {
            let from = begin(&world, &name.topic, from);
            let below = if self.is(Mutant::ReplaysEverything) { 0 } else { from };
            let again = events(&world, &name.topic).filter(|(position, _)| *position >= below);
            let again: Vec<_> = again.map(|(_, stored)| stored.envelope.id.clone()).collect();
            let group = idle(&mut world, &name)?;
            let done = (0..below).filter(|position| group.is_done(*position)).collect();
            (group.low, group.done) = (0, done);
            group.parked.retain(|(position, _)| *position < below);
            group.deferred.retain(|position, _| *position < below);
            if !self.is(Mutant::ReplayIsAbsorbed) {
                group.inbox.retain(|id| !again.contains(id));
            }
            Ok(from)
        })
    }
}
