//! The two ends of a subscription: one takes deliveries, the other settles them.

use std::sync::Arc;
use std::time::Duration;

use commute_core::{
    BoxFuture, Code, Delivery, DeliveryTag, Envelope, Error, Parked, Receiver, Result, Settlement, Settler, Timestamp,
};

use crate::broker::ask;
use crate::log::{Segments, read};
use crate::records::Record;
use crate::state::State;
use crate::state::topic::Found;
use crate::writer::{Command, Shared};

/// The end that takes.
pub(crate) struct Inlet {
    pub(crate) outlet: Arc<Outlet>,
}

/// The end that settles.
pub(crate) struct Outlet {
    pub(crate) shared: Arc<Shared>,
    pub(crate) segments: Segments,
    pub(crate) subscription: u32,
    pub(crate) incarnation: u32,
}

/// A delivery that was chosen, before its payload is there.
struct Chosen {
    position: u64,
    attempt: u32,
    not_before: Option<Timestamp>,
    published: Timestamp,
    found: Found,
    handled: bool,
}

impl Receiver for Inlet {
    fn receive(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        Box::pin(async move {
            loop {
                let changed = self.outlet.shared.changed.notified();
                tokio::pin!(changed);
                // Registered before looking, so that nothing is missed in between.
                changed.as_mut().enable();
                if let Some(error) = self.outlet.shared.over() {
                    return if error.code() == Code::Closed { Ok(Vec::new()) } else { Err(error) };
                }
                let (chosen, due) = self.choose(max);
                if !chosen.is_empty() {
                    let taken = self.deliver(chosen).await?;
                    if !taken.is_empty() {
                        return Ok(taken);
                    }
                    continue;
                }
                match due {
                    Some(wait) => drop(tokio::time::timeout(wait, changed).await),
                    None => changed.await,
                }
            }
        })
    }
}

impl Inlet {
    /// Takes what can be delivered now; answers also how long until something that waits for its time is due.
    fn choose(&self, max: usize) -> (Vec<Chosen>, Option<Duration>) {
        let Outlet { shared, subscription, incarnation, .. } = &*self.outlet;
        let now = shared.options.clock.now();
        let mut state = shared.state();
        let State { topics, subscriptions, .. } = &mut *state;
        let known = &mut subscriptions[*subscription as usize];
        let topic = &topics[known.topic as usize];
        let max = max.min(known.delivering.room(*incarnation));
        let (mut chosen, mut for_others) = (Vec::new(), false);
        while chosen.len() < max {
            let key_of = |position| topic.get(position).and_then(|meta| meta.key);
            let Some((position, assigned)) = known.next_position(topic, now, *incarnation) else { break };
            if known.is_out(position) || known.delivering.is_held(position) {
                continue;
            }
            let Some(meta) = topic.get(position) else { continue };
            if !assigned && known.delivering.is_shared() {
                let owner = known.delivering.owner(meta.key, *incarnation);
                if owner != *incarnation {
                    for_others = true;
                    known.delivering.assign(owner, position, key_of(position));
                    if known.delivering.is_full(owner) {
                        break;
                    }
                    continue;
                }
            }
            let Some(found) = topic.find(position) else { continue };
            let deferred = known.deferred.get(&position);
            known.delivering.take(*incarnation, position, meta.key);
            chosen.push(Chosen {
                position,
                attempt: deferred.map_or(1, |deferred| deferred.attempts + 1),
                not_before: deferred.map(|deferred| deferred.not_before),
                published: meta.published.max(topic.not_before.get(&position).copied().unwrap_or_default()),
                found,
                handled: known.inbox.get(&meta.id).is_some(),
            });
        }
        let due = known.delivering.later.first_key_value().map(|((time, _), ())| time.since(now));
        if for_others {
            // What was put aside for the others is theirs to find.
            shared.changed.notify_waiters();
        }
        (chosen, due)
    }

    /// Brings the payloads. What the inbox knows is absorbed.
    ///
    /// Dropping this on the way would lose what was taken, so what has to wait is done by a task that is not dropped
    /// with it: it hands the deliveries back.
    async fn deliver(&self, chosen: Vec<Chosen>) -> Result<Vec<Delivery>> {
        let absorbed: Vec<u64> = chosen.iter().filter(|chosen| chosen.handled).map(|chosen| chosen.position).collect();
        if !absorbed.is_empty() {
            let subscription = self.outlet.subscription;
            self.outlet.shared.send(Command::Absorb { subscription, positions: absorbed })?;
        }
        let mut guard = HandBack { outlet: &self.outlet, positions: Vec::new() };
        guard.positions.extend(chosen.iter().filter(|chosen| !chosen.handled).map(|chosen| chosen.position));
        let chosen: Vec<_> = chosen.into_iter().filter(|chosen| !chosen.handled).collect();
        let places = chosen.iter().filter_map(|chosen| match chosen.found {
            Found::There(at) => Some(at),
            Found::Here(_) => None,
        });
        let places: Vec<_> = places.collect();
        let mut loaded = if places.is_empty() { Vec::new() } else { self.outlet.load(places).await? }.into_iter();
        let mut deliveries = Vec::with_capacity(chosen.len());
        for chosen in chosen {
            let envelope = match chosen.found {
                Found::Here(envelope) => Some(Arc::unwrap_or_clone(envelope)),
                Found::There(_) => loaded.next(),
            };
            deliveries.extend(envelope.map(|envelope| Delivery {
                envelope,
                tag: DeliveryTag { position: chosen.position, incarnation: self.outlet.incarnation },
                attempt: chosen.attempt,
                not_before: chosen.not_before,
                published: chosen.published,
            }));
        }
        guard.positions.clear();
        Ok(deliveries)
    }
}

/// Puts back what was taken when a receive is dropped while it reads.
struct HandBack<'a> {
    outlet: &'a Outlet,
    positions: Vec<u64>,
}

impl Drop for HandBack<'_> {
    fn drop(&mut self) {
        if self.positions.is_empty() {
            return;
        }
        let mut state = self.outlet.shared.state();
        let delivering = &mut state.subscriptions[self.outlet.subscription as usize].delivering;
        for position in self.positions.drain(..) {
            delivering.give_back(position);
        }
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        let Outlet { shared, subscription, incarnation, .. } = &*self.outlet;
        shared.state().subscriptions[*subscription as usize].delivering.leave(*incarnation);
        shared.changed.notify_waiters();
    }
}

impl Outlet {
    /// Reads events from the files.
    async fn load(&self, places: Vec<crate::journal::Location>) -> Result<Vec<Envelope>> {
        let segments = self.segments.clone();
        let read_all = move || places.into_iter().map(|at| event(read(&segments, at)?)).collect();
        let read = tokio::task::spawn_blocking(read_all).await;
        read.unwrap_or_else(|cause| Err(Error::new(Code::Io, "reading was given up").caused_by(cause)))
    }

    fn unknown(&self, position: u64) -> Error {
        Error::new(Code::Damaged, format!("event {position} is not stored any more"))
    }
}

fn event(record: Record) -> Result<Envelope> {
    match record {
        Record::Event { envelope, .. } => Ok(envelope),
        _ => Err(Error::new(Code::Damaged, "a record that should be an event is none")),
    }
}

impl Settler for Outlet {
    fn settle(&self, settlements: Vec<Settlement>) -> BoxFuture<'_, Result<()>> {
        let subscription = self.subscription;
        Box::pin(ask(&self.shared, move |reply| Command::Settle { subscription, settlements, reply }))
    }

    fn read(&self, tags: &[DeliveryTag]) -> BoxFuture<'_, Result<Vec<Envelope>>> {
        let found: Result<Vec<Found>> = {
            let state = self.shared.state();
            let topic = &state.topics[state.subscriptions[self.subscription as usize].topic as usize];
            tags.iter().map(|tag| topic.find(tag.position).ok_or_else(|| self.unknown(tag.position))).collect()
        };
        Box::pin(async move {
            let found = found?;
            let places = found.iter().filter_map(|found| match found {
                Found::There(at) => Some(*at),
                Found::Here(_) => None,
            });
            let places: Vec<_> = places.collect();
            let mut loaded = if places.is_empty() { Vec::new() } else { self.load(places).await? }.into_iter();
            let mut envelopes = Vec::with_capacity(found.len());
            for found in found {
                envelopes.extend(match found {
                    Found::Here(envelope) => Some(Arc::unwrap_or_clone(envelope)),
                    Found::There(_) => loaded.next(),
                });
            }
            Ok(envelopes)
        })
    }

    fn parked(&self) -> BoxFuture<'_, Result<Vec<Parked>>> {
        Box::pin(async move {
            let state = self.shared.state();
            let parked = state.subscriptions[self.subscription as usize].parked.values();
            Ok(parked
                .map(|(position, aside)| Parked {
                    tag: DeliveryTag { position: *position, incarnation: self.incarnation },
                    attempts: aside.attempts,
                    lanes: aside.lanes.clone(),
                    reason: aside.reason.as_deref().map(str::to_owned),
                    since: aside.since,
                })
                .collect())
        })
    }

    fn unpark(&self, tags: Vec<DeliveryTag>) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        Box::pin(async move {
            let envelopes = self.read(&tags).await?;
            let subscription = self.subscription;
            let taken: Vec<_> =
                tags.iter().map(|tag| DeliveryTag { position: tag.position, incarnation: self.incarnation }).collect();
            let tags = taken.clone();
            ask(&self.shared, move |reply| Command::Unpark { subscription, tags, reply }).await?;
            let state = self.shared.state();
            let topic = &state.topics[state.subscriptions[subscription as usize].topic as usize];
            let published = |tag: &DeliveryTag| topic.get(tag.position).map(|meta| meta.published).unwrap_or_default();
            let deliveries = taken.iter().zip(envelopes).map(|(tag, envelope)| Delivery {
                envelope,
                tag: *tag,
                attempt: 1,
                not_before: None,
                published: published(tag),
            });
            Ok(deliveries.collect())
        })
    }

    fn backlog(&self) -> Option<u64> {
        let state = self.shared.state();
        let known = &state.subscriptions[self.subscription as usize];
        Some(known.delivering.backlog(state.topics[known.topic as usize].next()))
    }

    fn absorbed(&self) -> u64 {
        self.shared.state().subscriptions[self.subscription as usize].delivering.absorbed
    }
}
