//! The end that takes deliveries.
//!
//! ```text
//! claim   positions in order, under the lock        nobody else looks at the subscription meanwhile
//! load    what is not in memory, without the lock   given back when the receive is dropped
//! hand    absorb what the inbox knows, give others what their keys bind to them, take the rest
//! ```

use std::sync::Arc;
use std::time::Duration;

use commute_core::{BoxFuture, Code, Delivery, DeliveryTag, Error, Receiver, Result};
use tokio::sync::Notify;

use crate::journal::reader::Wanted;
use crate::records::Event;
use crate::settler::Outlet;
use crate::state::State;
use crate::state::delivery::Held;
use crate::writer::command::Command;

/// A timer is set at most so far ahead, so that a clock that is put forward is noticed.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The end that takes.
pub(crate) struct Inlet {
    pub(crate) outlet: Arc<Outlet>,
    /// There may be something to receive.
    pub(crate) changed: Arc<Notify>,
    /// One receiver at a time looks for events, so that two cannot pass each other with events of one key.
    pub(crate) looking: Arc<tokio::sync::Mutex<()>>,
}

/// A position to hand over.
struct Claimed {
    position: u64,
    /// It was put aside for this receiver.
    assigned: bool,
    event: Option<Arc<Event>>,
}

/// What came of looking.
#[derive(Default)]
struct Looked {
    deliveries: Vec<Delivery>,
    absorbed: Vec<u64>,
    /// It is worth looking again.
    again: bool,
    due_in: Option<Duration>,
}

impl Receiver for Inlet {
    fn receive(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        Box::pin(async move {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                // Registered before looking, so that nothing is missed in between.
                changed.as_mut().enable();
                if let Some(error) = self.outlet.shared.queue.over() {
                    return if error.code() == Code::Closed { Ok(Vec::new()) } else { Err(error) };
                }
                let looked = {
                    let _alone = self.looking.lock().await;
                    self.look(max.max(1)).await?
                };
                if !looked.deliveries.is_empty() {
                    return Ok(looked.deliveries);
                }
                if looked.again {
                    continue;
                }
                match looked.due_in {
                    Some(wait) => drop(tokio::time::timeout(wait.min(LONGEST_WAIT), changed).await),
                    None => changed.await,
                }
            }
        })
    }
}

impl Inlet {
    /// Looks once for what can be delivered now.
    async fn look(&self, max: usize) -> Result<Looked> {
        let mut given_back = GiveBack { outlet: &self.outlet, positions: Vec::new() };
        let (mut claimed, wanted) = {
            let mut state = self.outlet.shared.state();
            let (claimed, wanted) = self.claim(&mut state, max)?;
            if wanted.is_empty() {
                let looked = self.hand(&mut state, claimed);
                drop(state);
                return self.absorb(looked);
            }
            given_back.positions.extend(claimed.iter().map(|claimed| claimed.position));
            (claimed, wanted)
        };
        let mut loaded = self.outlet.load(wanted).await?.into_iter();
        for claimed in claimed.iter_mut().filter(|claimed| claimed.event.is_none()) {
            claimed.event = loaded.next();
        }
        let looked = {
            let mut state = self.outlet.shared.state();
            given_back.positions.clear();
            self.hand(&mut state, claimed)
        };
        self.absorb(looked)
    }

    fn absorb(&self, mut looked: Looked) -> Result<Looked> {
        if !looked.absorbed.is_empty() {
            let positions = std::mem::take(&mut looked.absorbed);
            self.outlet.shared.queue.send(Command::Absorb { subscription: self.outlet.subscription, positions })?;
        }
        Ok(looked)
    }

    /// Takes positions out, lowest first, as many as credit allows.
    fn claim(&self, state: &mut State, max: usize) -> Result<(Vec<Claimed>, Vec<Wanted>)> {
        let now = self.outlet.shared.options.clock.now();
        let (known, topic) = state.both(self.outlet.subscription);
        let max = max.min(known.delivering.room(self.outlet.incarnation));
        let (mut claimed, mut wanted) = (Vec::new(), Vec::new());
        while claimed.len() < max
            && let Some((position, assigned)) = known.next_position(topic, now, self.outlet.incarnation)
        {
            let event = topic.in_tail(position).cloned();
            let place = topic.wanted(position).filter(|_| event.is_none());
            let found = event.is_some() || place.is_some();
            claimed.push(Claimed { position, assigned, event });
            wanted.extend(place);
            if !found {
                known.delivering.again.extend(claimed.iter().map(|claimed| claimed.position));
                return Err(Error::new(Code::Damaged, format!("event {position} of {} is gone", topic.name)));
            }
        }
        Ok((claimed, wanted))
    }

    /// Decides about what was claimed.
    fn hand(&self, state: &mut State, claimed: Vec<Claimed>) -> Looked {
        let Outlet { shared, subscription, incarnation, .. } = &*self.outlet;
        let now = shared.options.clock.now();
        let (known, _) = state.both(*subscription);
        let mut looked = Looked { due_in: known.due_in(now), ..Looked::default() };
        let mut others = false;
        let mut claimed = claimed.into_iter();
        while let Some(Claimed { position, assigned, event }) = claimed.next() {
            // Somebody gave an earlier event back meanwhile: it goes first.
            if known.delivering.again.first().is_some_and(|earlier| *earlier < position) {
                known.delivering.again.insert(position);
                known.delivering.again.extend(claimed.by_ref().map(|claimed| claimed.position));
                looked.again = true;
                break;
            }
            let Some(event) = event else { continue };
            // Ended from outside while it was read.
            if known.done.is_done(position) {
                looked.again = true;
                continue;
            }
            let (id, key) = (event.id, event.key());
            let held = Held { incarnation: *incarnation, id, key, counted: true };
            if known.inbox.get(&id, now, shared.options.inbox_window).is_some() {
                known.delivering.take(position, held);
                looked.absorbed.push(position);
                looked.again = true;
                continue;
            }
            let owner = if assigned { *incarnation } else { known.delivering.owner(key, *incarnation) };
            if owner != *incarnation {
                if known.delivering.assign(owner, position, key) {
                    (others, looked.again) = (true, true);
                    continue;
                }
                // The owner is far behind: everybody waits for it, because its key must keep its order.
                known.delivering.again.insert(position);
                known.delivering.again.extend(claimed.by_ref().map(|claimed| claimed.position));
                looked.again = false;
                break;
            }
            others |= assigned && known.delivering.stop_waiting();
            known.delivering.take(position, held);
            let deferred = known.deferred.get(&position);
            looked.deliveries.push(Delivery {
                tag: DeliveryTag { position, incarnation: *incarnation },
                attempt: deferred.map_or(1, |deferred| deferred.attempts.saturating_add(1)),
                not_before: deferred.map(|deferred| deferred.not_before),
                published: event.published,
                envelope: event.envelope.clone(),
                malformed: None,
            });
        }
        if others {
            self.changed.notify_waiters();
        }
        looked
    }
}

/// Gives back what was claimed when the receive fails or is dropped while it reads.
struct GiveBack<'a> {
    outlet: &'a Outlet,
    positions: Vec<u64>,
}

impl Drop for GiveBack<'_> {
    fn drop(&mut self) {
        if !self.positions.is_empty() {
            let mut state = self.outlet.shared.state();
            let known = &mut state.subscriptions[self.outlet.subscription as usize];
            known.delivering.again.extend(self.positions.drain(..));
            known.changed.notify_waiters();
        }
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        let Outlet { shared, subscription, incarnation, .. } = &*self.outlet;
        shared.state().subscriptions[*subscription as usize].delivering.leave(*incarnation);
        self.changed.notify_waiters();
    }
}
