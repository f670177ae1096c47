//! A broker so simple that it is obviously right: every promise is a line over plain collections, under one lock. And,
//! one line each, the ways in which it can be made wrong.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use commute_conformance::{Ending, Fixture, ManualClock};
use commute_core::{
    BoxFuture, Broker, Capabilities, Clock, Code, Delivery, DeliveryTag, Durability, Envelope, Error, EventId,
    GroupOrder, Ordering, Outgoing, Parked, Receipt, Receiver, Result, Settlement, Settler, SharedBroker, Subscription,
    SubscriptionSpec, Timestamp, Topic,
};
use tokio::sync::Notify;

/// What is wrong with a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    None,
    DropsAnAck,
    ForgetsAcksOutOfOrder,
    LosesTheOrderOfAnAnswer,
    LosesTheOrderOfABatch,
    RedeliversAtTheEnd,
    ForgetsAttempts,
    ForgetsBackOff,
    CountsReturns,
    CountsCrashes,
    ExceedsCredit,
    DeferGivesCreditBack,
    ExceedsMax,
    DeliversTwice,
    IgnoresDedup,
    ForgetsIdsAtARestart,
    DedupsAcrossTopics,
    DoublesWhatAcksPublish,
    LosesWhatAcksPublish,
    LosesTheLastEventAtARestart,
    StartsAtTheEnd,
    GivesAnEventToOneGroup,
    MixesTopics,
    DropsEmptyExtensions,
    TruncatesTime,
    StoresHalfABatch,
    RefusesTheLargest,
    DroppedReceiveLosesEvents,
    BelievesOldTags,
    RepeatsIncarnations,
    SettlesTwice,
    SplitsKeys,
    KeepsWhatADroppedReceiverHad,
    IgnoresDelay,
    ForgetsDelayAtARestart,
    LosesDelayedEvents,
    DeliversParked,
    ForgetsParkedAtARestart,
    ParksInTopicOrder,
    ForgetsLanes,
    UnparksWhatItCan,
    UnparkLosesEvents,
    UnparkKeepsAttempts,
    ForgetsInbox,
    RemembersEveryAck,
    TakesEffectLate,
    PublishesAfterClose,
    SleepsOnPublish,
    CloseLeavesReceiversWaiting,
    MiscountsBacklog,
    ReadsInTopicOrder,
    EndsTwice,
    EndLosesWhatItPublishes,
    EndLeavesTheDelivery,
    ListsParkedAsUnsettled,
    ReplaysEverything,
    ReplayIsAbsorbed,
}

/// All that is stored, and who has what.
#[derive(Default)]
pub(crate) struct World {
    session: u32,
    incarnations: u32,
    pub(crate) topics: BTreeMap<Topic, Vec<Stored>>,
    ids: HashMap<(Topic, EventId), (u64, Timestamp)>,
    pub(crate) groups: BTreeMap<(Topic, Arc<str>), Group>,
    closed: bool,
}

pub(crate) struct Stored {
    pub(crate) envelope: Envelope,
    pub(crate) not_before: Option<Timestamp>,
    pub(crate) published: Timestamp,
}

#[derive(Default)]
pub(crate) struct Group {
    /// Everything below is done.
    pub(crate) low: u64,
    pub(crate) done: BTreeSet<u64>,
    pub(crate) deferred: BTreeMap<u64, (u32, Timestamp)>,
    pub(crate) parked: Vec<(u64, Parked)>,
    pub(crate) inbox: BTreeSet<EventId>,
    absorbed: u64,
    /// Who receives.
    pub(crate) open: BTreeSet<u32>,
    /// In whose hands an event is, and whether it was received.
    pub(crate) held: BTreeMap<u64, (u32, bool)>,
    /// What a broken broker lost.
    lost: BTreeSet<u64>,
}

pub(crate) struct Connection {
    world: Mutex<World>,
    pub(crate) changed: Notify,
    clock: Arc<ManualClock>,
    capabilities: Capabilities,
    mutant: Mutant,
}

/// The fixture, and a handle to the connection.
pub(crate) struct Model {
    connection: Arc<Connection>,
}

impl Model {
    pub(crate) fn new(mutant: Mutant) -> Self {
        let capabilities = Capabilities {
            durability: Durability::Memory,
            ordering: Ordering::Topic,
            group_order: GroupOrder::Key,
            shared: false,
            atomic_settle: true,
            confirmed_acks: true,
            durable_retry: true,
            durable_parking: true,
            delayed_publish: true,
            retained: true,
            positions: true,
            replay: true,
            dedup_window: Some(Duration::from_secs(3600)),
            inbox_retention: Some(Duration::from_secs(7200)),
            max_event_bytes: 100_000,
        };
        let (world, changed, clock) = (Mutex::default(), Notify::new(), ManualClock::new());
        Model { connection: Arc::new(Connection { world, changed, clock, capabilities, mutant }) }
    }
}

impl Fixture for Model {
    fn connect(&self) -> BoxFuture<'_, SharedBroker> {
        Box::pin(async { Arc::new(Session { connection: self.connection.clone(), session: 0 }) as SharedBroker })
    }

    fn reconnect(&self, previous: SharedBroker, ending: Ending) -> BoxFuture<'_, SharedBroker> {
        Box::pin(async move {
            if ending == Ending::Close {
                previous.close().await.unwrap();
            }
            let session = self.connection.restart();
            Arc::new(Session { connection: self.connection.clone(), session }) as SharedBroker
        })
    }

    fn clock(&self) -> Option<Arc<ManualClock>> {
        Some(self.connection.clock.clone())
    }

    fn patience(&self) -> Duration {
        if self.connection.mutant == Mutant::None { Duration::from_secs(60) } else { Duration::from_secs(2) }
    }
}

impl Connection {
    pub(crate) fn is(&self, mutant: Mutant) -> bool {
        self.mutant == mutant
    }

    /// The world, as long as this session is the one that is connected.
    pub(crate) fn enter(&self, session: u32) -> Result<MutexGuard<'_, World>> {
        let world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        let closed = world.closed && !self.is(Mutant::PublishesAfterClose);
        if world.session != session || closed {
            return Err(Error::new(Code::Closed, "the model is closed"));
        }
        Ok(world)
    }

    fn restart(&self) -> u32 {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.session += 1;
        world.closed = false;
        if self.is(Mutant::RepeatsIncarnations) {
            world.incarnations = 0;
        }
        if self.is(Mutant::ForgetsIdsAtARestart) {
            world.ids.clear();
        }
        let mut topics = std::mem::take(&mut world.topics);
        for stored in topics.values_mut() {
            if self.is(Mutant::LosesTheLastEventAtARestart) {
                stored.pop();
            }
            if self.is(Mutant::ForgetsDelayAtARestart) {
                stored.iter_mut().for_each(|stored| stored.not_before = None);
            }
        }
        world.topics = topics;
        for group in world.groups.values_mut() {
            if self.is(Mutant::CountsCrashes) {
                for position in group.held.keys() {
                    group.deferred.entry(*position).or_insert((0, Timestamp(0))).0 += 1;
                }
            }
            if self.is(Mutant::ForgetsParkedAtARestart) {
                group.parked.clear();
            }
            if self.is(Mutant::ForgetsAcksOutOfOrder) {
                let first_gap = (group.low..).find(|position| !group.done.contains(position)).unwrap();
                group.done.retain(|position| *position < first_gap);
            }
            group.held.clear();
            group.open.clear();
        }
        drop(world);
        self.changed.notify_waiters();
        self.world.lock().unwrap_or_else(PoisonError::into_inner).session
    }

    pub(crate) fn publish(&self, world: &mut World, outgoing: Outgoing, dedup: bool) -> Receipt {
        let Outgoing { topic, mut envelope, mut not_before } = outgoing;
        let now = self.clock.now();
        let window = self.capabilities.dedup_window.unwrap();
        let place = if self.is(Mutant::DedupsAcrossTopics) { Topic::new("all").unwrap() } else { topic.clone() };
        if dedup
            && !self.is(Mutant::IgnoresDedup)
            && let Some((position, at)) = world.ids.get(&(place.clone(), envelope.id.clone()))
            && now.since(*at) <= window
        {
            return Receipt { position: Some(*position), duplicate: true };
        }
        if self.is(Mutant::IgnoresDelay) {
            not_before = None;
        }
        if self.is(Mutant::TruncatesTime) {
            envelope.time = Timestamp(envelope.time.0 / 1000 * 1000);
        }
        if self.is(Mutant::DropsEmptyExtensions) {
            let mut kept = commute_core::Extensions::default();
            for (name, value) in envelope.extensions.iter().filter(|(_, value)| !value.is_empty()) {
                kept.set(name, value).unwrap();
            }
            envelope.extensions = kept;
        }
        let id = envelope.id.clone();
        let stored = world.topics.entry(topic).or_default();
        let position = stored.len() as u64;
        stored.push(Stored { envelope, not_before, published: now });
        world.ids.insert((place, id), (position, now));
        Receipt { position: Some(position), duplicate: false }
    }

    /// What a receiver gets now.
    fn take(&self, world: &mut World, key: &(Topic, Arc<str>), credit: usize, me: u32, max: usize) -> Vec<Delivery> {
        let World { topics, groups, .. } = world;
        let group = groups.get_mut(key).unwrap();
        let stored = topics.get(&key.0).map_or(&[][..], |stored| stored);
        let now = self.clock.now();
        while group.done.remove(&group.low) {
            group.low += 1;
        }
        let used = group.held.iter().filter(|(position, (who, received))| {
            let free = self.is(Mutant::DeferGivesCreditBack) && group.deferred.contains_key(position);
            *who == me && *received && !free
        });
        let used = used.count();
        let credit = if self.is(Mutant::ExceedsCredit) { credit + 1 } else { credit };
        let max = if self.is(Mutant::ExceedsMax) { max + 1 } else { max };
        let room = max.min(credit.saturating_sub(used));
        let mut taken = Vec::new();
        for (position, stored) in (group.low..).zip(stored.iter().skip(group.low as usize)) {
            if taken.len() == room {
                break;
            }
            let parked = group.parked.iter().any(|(other, _)| *other == position);
            let out = group.is_done(position)
                || group.held.contains_key(&position)
                || group.lost.contains(&position)
                || (parked && !self.is(Mutant::DeliversParked));
            if out {
                continue;
            }
            if stored.not_before.is_some_and(|due| due > now) {
                if self.is(Mutant::LosesDelayedEvents) {
                    group.lost.insert(position);
                }
                continue;
            }
            if group.inbox.contains(&stored.envelope.id) && !self.is(Mutant::ForgetsInbox) {
                group.done.insert(position);
                group.absorbed += 1;
                continue;
            }
            let in_other_hands = |(other, (who, _)): (&u64, &(u32, bool))| {
                *who != me && key_of(topics.get(&key.0).unwrap(), *other) == stored.envelope.partition_key()
            };
            let has_key = stored.envelope.partition_key().is_some();
            if has_key && !self.is(Mutant::SplitsKeys) && group.held.iter().any(in_other_hands) {
                continue;
            }
            group.held.insert(position, (me, true));
            taken.push(position);
        }
        if self.is(Mutant::DeliversTwice)
            && let Some(last) = taken.last().filter(|last| *last % 7 == 3)
        {
            // It is believed to be in nobody's hands, and handed over again.
            group.held.remove(last);
        }
        if self.is(Mutant::LosesTheOrderOfAnAnswer) {
            taken.reverse();
        }
        taken.iter().map(|position| self.delivery(stored, group, *position, me)).collect()
    }

    fn delivery(&self, stored: &[Stored], group: &Group, position: u64, incarnation: u32) -> Delivery {
        let event = &stored[position as usize];
        let deferred = group.deferred.get(&position);
        Delivery {
            envelope: event.envelope.clone().into(),
            tag: DeliveryTag { position, incarnation },
            attempt: deferred
                .filter(|_| !self.is(Mutant::ForgetsAttempts))
                .map_or(1, |(attempts, _)| attempts.saturating_add(1)),
            not_before: deferred.filter(|_| !self.is(Mutant::ForgetsBackOff)).map(|(_, not_before)| *not_before),
            published: event.published,
            malformed: None,
        }
    }

    fn settle(&self, world: &mut World, key: &(Topic, Arc<str>), settlement: Settlement) {
        let DeliveryTag { position, incarnation } = settlement.tag();
        let now = self.clock.now();
        let id = world.topics.get(&key.0).and_then(|stored| stored.get(position as usize));
        let Some(id) = id.map(|stored| stored.envelope.id.clone()) else { return };
        let group = world.groups.get_mut(key).unwrap();
        let holder = group.held.get(&position).map(|(who, _)| *who);
        let mine = match self.mutant {
            Mutant::BelievesOldTags => holder.is_some(),
            Mutant::SettlesTwice => holder.is_none_or(|holder| holder == incarnation),
            _ => holder == Some(incarnation),
        };
        if !mine {
            return;
        }
        match settlement {
            Settlement::Ack { .. } if self.is(Mutant::DropsAnAck) && position % 3 == 1 => {}
            Settlement::Ack { publish, mark, .. } => {
                group.held.remove(&position);
                group.deferred.remove(&position);
                group.done.insert(position);
                if mark || self.is(Mutant::RemembersEveryAck) {
                    group.inbox.insert(id);
                }
                if !self.is(Mutant::LosesWhatAcksPublish) {
                    for outgoing in publish {
                        self.publish(world, outgoing, !self.is(Mutant::DoublesWhatAcksPublish));
                    }
                }
            }
            Settlement::Defer { attempts, not_before, .. } => {
                group.deferred.insert(position, (attempts, not_before));
            }
            Settlement::Park { attempts, lanes, reason, tag } => {
                group.held.remove(&position);
                group.deferred.remove(&position);
                let lanes = if self.is(Mutant::ForgetsLanes) { Vec::new() } else { lanes };
                group.parked.push((position, Parked { tag, attempts, lanes, reason, since: now }));
                if self.is(Mutant::ParksInTopicOrder) {
                    group.parked.sort_by_key(|(position, _)| *position);
                }
            }
            Settlement::Return { .. } => {
                group.held.remove(&position);
                if self.is(Mutant::CountsReturns) {
                    group.deferred.entry(position).or_insert((0, Timestamp(0))).0 += 1;
                }
            }
        }
    }
}

fn key_of(stored: &[Stored], position: u64) -> Option<&str> {
    stored.get(position as usize).and_then(|stored| stored.envelope.partition_key())
}

impl Group {
    pub(crate) fn is_done(&self, position: u64) -> bool {
        position < self.low || self.done.contains(&position)
    }
}

/// A connection between two restarts.
pub(crate) struct Session {
    pub(crate) connection: Arc<Connection>,
    pub(crate) session: u32,
}

impl Broker for Session {
    fn driver(&self) -> &'static str {
        "model"
    }

    fn address(&self) -> &str {
        "model"
    }

    fn capabilities(&self) -> &Capabilities {
        &self.connection.capabilities
    }

    fn publish(&self, mut batch: Vec<Outgoing>) -> BoxFuture<'_, Result<Vec<Receipt>>> {
        let model = &*self.connection;
        Box::pin(async move {
            if model.is(Mutant::TakesEffectLate) {
                for _ in 0..batch.first().map_or(0, |first| first.envelope.data.first().map_or(0, |byte| byte % 3)) {
                    tokio::task::yield_now().await;
                }
            }
            let mut world = model.enter(self.session)?;
            let limit = model.capabilities.max_event_bytes - usize::from(model.is(Mutant::RefusesTheLargest));
            if let Some(large) = batch.iter().position(|outgoing| outgoing.envelope.size() > limit) {
                if model.is(Mutant::StoresHalfABatch) {
                    batch.truncate(large);
                    for outgoing in batch {
                        model.publish(&mut world, outgoing, true);
                    }
                }
                return Err(Error::new(Code::PayloadTooLarge, "too large for the model"));
            }
            if model.is(Mutant::LosesTheOrderOfABatch) {
                batch.reverse();
            }
            if model.is(Mutant::MixesTopics) && batch.len() > 2 {
                let first = batch[0].topic.clone();
                batch[2].topic = first;
            }
            let receipts = batch.into_iter().map(|outgoing| model.publish(&mut world, outgoing, true)).collect();
            drop(world);
            if !model.is(Mutant::SleepsOnPublish) {
                model.changed.notify_waiters();
            }
            Ok(receipts)
        })
    }

    fn subscribe(&self, spec: SubscriptionSpec) -> BoxFuture<'_, Result<Subscription>> {
        let model = &*self.connection;
        Box::pin(async move {
            let mut world = model.enter(self.session)?;
            world.incarnations += 1;
            let incarnation = world.incarnations;
            let key = (spec.topic, spec.group);
            let end = world.topics.get(&key.0).map_or(0, Vec::len) as u64;
            let low = if model.is(Mutant::StartsAtTheEnd) { end } else { 0 };
            let group = world.groups.entry(key.clone()).or_insert(Group { low, ..Group::default() });
            group.open.insert(incarnation);
            let (connection, session) = (self.connection.clone(), self.session);
            let end = Arc::new(End { connection, session, key, incarnation, credit: spec.credit });
            Ok(Subscription { receiver: Box::new(Taking(end.clone())), settler: end })
        })
    }

    fn admin(&self) -> Option<&dyn commute_core::Admin> {
        Some(self)
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            if let Ok(mut world) = self.connection.enter(self.session) {
                world.closed = true;
            }
            if !self.connection.is(Mutant::CloseLeavesReceiversWaiting) {
                self.connection.changed.notify_waiters();
            }
            Ok(())
        })
    }
}

struct End {
    connection: Arc<Connection>,
    session: u32,
    key: (Topic, Arc<str>),
    incarnation: u32,
    credit: usize,
}

impl End {
    fn take(&self, max: usize) -> Result<Vec<Delivery>> {
        let model = &*self.connection;
        let mut world = model.enter(self.session)?;
        let mut taken = model.take(&mut world, &self.key, self.credit, self.incarnation, max);
        if model.is(Mutant::GivesAnEventToOneGroup) {
            for (key, other) in world.groups.iter_mut().filter(|(key, _)| key.0 == self.key.0) {
                if *key != self.key {
                    other.done.extend(taken.iter().map(|taken| taken.tag.position));
                }
            }
        }
        if model.is(Mutant::RedeliversAtTheEnd) && taken.len() > 1 && self.session > 0 {
            taken.rotate_left(1);
        }
        Ok(taken)
    }
}

struct Taking(Arc<End>);

impl Receiver for Taking {
    fn receive(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        let (end, model) = (&*self.0, &*self.0.connection);
        Box::pin(async move {
            loop {
                let changed = model.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                let Ok(taken) = end.take(max) else { return Ok(Vec::new()) };
                if !taken.is_empty() {
                    if model.is(Mutant::DroppedReceiveLosesEvents) {
                        tokio::task::yield_now().await;
                    }
                    return Ok(taken);
                }
                changed.await;
            }
        })
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        let end = &*self.0;
        if let Ok(mut world) = end.connection.enter(end.session) {
            let group = world.groups.get_mut(&end.key).unwrap();
            group.open.remove(&end.incarnation);
            if !end.connection.is(Mutant::KeepsWhatADroppedReceiverHad) {
                group.held.retain(|_, (who, _)| *who != end.incarnation);
            }
        }
        end.connection.changed.notify_waiters();
    }
}

impl End {
    fn not_received(&self) -> Result<u64> {
        let world = self.connection.enter(self.session)?;
        let group = &world.groups[&self.key];
        let stored = world.topics.get(&self.key.0).map_or(0, Vec::len) as u64;
        let waits = |position: &u64| {
            let parked = group.parked.iter().any(|(parked, _)| parked == position);
            !group.is_done(*position) && !group.held.contains_key(position) && !parked
        };
        if self.connection.is(Mutant::MiscountsBacklog) {
            return Ok(stored - group.done.len() as u64);
        }
        Ok((group.low..stored).filter(waits).count() as u64)
    }
}

impl Settler for End {
    fn settle(&self, settlements: Vec<Settlement>) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let mut world = self.connection.enter(self.session)?;
            for settlement in settlements {
                self.connection.settle(&mut world, &self.key, settlement);
            }
            drop(world);
            self.connection.changed.notify_waiters();
            Ok(())
        })
    }

    fn read(&self, tags: &[DeliveryTag]) -> BoxFuture<'_, Result<Vec<Envelope>>> {
        let mut tags = tags.to_vec();
        Box::pin(async move {
            if self.connection.is(Mutant::ReadsInTopicOrder) {
                tags.sort();
            }
            let world = self.connection.enter(self.session)?;
            let stored = world.topics.get(&self.key.0).map_or(&[][..], |stored| stored);
            let read = |tag: &DeliveryTag| stored.get(tag.position as usize).map(|stored| stored.envelope.clone());
            let read: Option<Vec<_>> = tags.iter().map(read).collect();
            read.ok_or_else(|| Error::new(Code::Damaged, "not in the model"))
        })
    }

    fn parked(&self) -> BoxFuture<'_, Result<Vec<Parked>>> {
        Box::pin(async move {
            let world = self.connection.enter(self.session)?;
            let parked = world.groups[&self.key].parked.iter();
            let tag = |position| DeliveryTag { position, incarnation: self.incarnation };
            Ok(parked.map(|(position, parked)| Parked { tag: tag(*position), ..parked.clone() }).collect())
        })
    }

    fn unpark(&self, tags: Vec<DeliveryTag>) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        Box::pin(async move {
            let model = &*self.connection;
            let mut world = model.enter(self.session)?;
            let World { topics, groups, .. } = &mut *world;
            let group = groups.get_mut(&self.key).unwrap();
            let is_parked = |tag: &DeliveryTag| group.parked.iter().any(|(position, _)| *position == tag.position);
            let all = tags.iter().all(is_parked);
            if !all && !model.is(Mutant::UnparksWhatItCan) {
                return Err(Error::new(Code::NotParked, "not parked in the model"));
            }
            let mut back = Vec::new();
            for tag in tags {
                let Some(at) = group.parked.iter().position(|(position, _)| *position == tag.position) else {
                    continue;
                };
                let (position, parked) = group.parked.remove(at);
                group.held.insert(position, (self.incarnation, false));
                if model.is(Mutant::UnparkKeepsAttempts) {
                    group.deferred.insert(position, (parked.attempts, parked.since));
                }
                if model.is(Mutant::UnparkLosesEvents) {
                    group.done.insert(position);
                }
                back.push(model.delivery(&topics[&self.key.0], group, position, self.incarnation));
            }
            if all { Ok(back) } else { Err(Error::new(Code::NotParked, "not parked in the model")) }
        })
    }

    fn backlog(&self) -> BoxFuture<'_, Result<Option<u64>>> {
        Box::pin(std::future::ready(self.not_received().map(Some)))
    }

    fn absorbed(&self) -> u64 {
        self.connection.enter(self.session).map_or(0, |world| world.groups[&self.key].absorbed)
    }
}
