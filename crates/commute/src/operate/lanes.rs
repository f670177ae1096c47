//! Looking at lanes: who waits for whom, with the names that the footprints of the events give.
//!
//! Under the engine's lock the longest lanes are counted out and their heads noted; payloads are read and named outside.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use commute_core::operate::{HeadState, LaneHead, LaneInfo};
use commute_core::{DeliveryTag, Envelope, Lane, Result, Timestamp, key};
use commute_scheduler::{Standing, Ticket};
use tokio::time::Instant;

use super::find;
use crate::engine::{Dispatch, Engine, SetAside, Waiting};

/// At most so many lanes are shown, whoever asks for more.
const MOST: usize = 1_000;

/// Of the keys that a head waits in, at most so many are named.
const MOST_WAITED: usize = 8;

struct Found {
    lane: Lane,
    events: usize,
    parked: usize,
    paused: bool,
    head: Option<Head>,
}

struct Head {
    subscription: usize,
    tag: DeliveryTag,
    attempt: u32,
    published: Option<Timestamp>,
    envelope: Option<Arc<Envelope>>,
    state: HeadState,
    waits_in: Vec<Lane>,
}

/// The lanes with the most events first, at most `max`.
pub(crate) async fn lanes(engine: &Engine, max: usize) -> Result<Vec<LaneInfo>> {
    let mut found = engine.dispatch().longest_lanes(max.min(MOST));
    for (n, sub) in engine.subscriptions.iter().enumerate() {
        let mut theirs: Vec<_> = found.iter_mut().filter_map(|found| found.head.as_mut()).collect();
        theirs.retain(|head| head.subscription == n && head.envelope.is_none());
        let tags: Vec<_> = theirs.iter().map(|head| head.tag).collect();
        let mut known = HashMap::new();
        for tags in tags.chunks(64) {
            known.extend(find::read(&*sub.settler, tags).await.into_iter().map(|(tag, read)| (tag, Arc::new(read))));
        }
        theirs.into_iter().for_each(|head| head.envelope = known.get(&head.tag).cloned());
    }
    let mut names: HashMap<Lane, String> = HashMap::new();
    for head in found.iter().filter_map(|found| found.head.as_ref()) {
        if let Some(envelope) = &head.envelope {
            names.extend(named(engine, head.subscription, envelope));
        }
    }
    names.extend(engine.subscriptions.iter().map(|sub| (sub.whole.lane, sub.named().to_string())));
    let name = |lane: Lane| names.get(&lane).cloned().unwrap_or_else(|| lane.to_string());
    let info = |found: Found| LaneInfo {
        key: name(found.lane),
        events: found.events,
        parked: found.parked,
        paused: found.paused,
        head: found.head.map(|head| LaneHead {
            subscription: engine.subscriptions[head.subscription].named(),
            event: head.envelope.as_ref().map(|envelope| envelope.id.clone()),
            attempt: head.attempt,
            published: head.published.or(head.envelope.map(|envelope| envelope.time)).unwrap_or(Timestamp(0)),
            state: head.state,
            waits_for: head.waits_in.into_iter().map(name).collect(),
        }),
    };
    Ok(found.into_iter().map(info).collect())
}

/// The lanes of an event with their names.
fn named(engine: &Engine, n: usize, envelope: &Envelope) -> Vec<(Lane, String)> {
    let sub = &engine.subscriptions[n];
    let Some(handler) = sub.handler_of(&envelope.event_type) else { return Vec::new() };
    // Both are the user's code.
    let made = || catch_unwind(AssertUnwindSafe(|| sub.handler(handler).parts.run.decode(envelope)));
    let Ok(Ok(event)) = made() else { return Vec::new() };
    key::naming(|| drop(catch_unwind(AssertUnwindSafe(|| sub.footprint(handler, &event))))).1
}

impl Dispatch {
    fn longest_lanes(&self, max: usize) -> Vec<Found> {
        let mut parked: HashMap<Lane, (usize, &SetAside)> = HashMap::new();
        for event in &self.parked {
            for (lane, _) in &event.lanes {
                let (count, first) = parked.entry(*lane).or_insert((0, event));
                *count += 1;
                *first = if event.arrival < first.arrival { event } else { first };
            }
        }
        let parked_on = |lane| parked.get(&lane).map_or(0, |(count, _)| *count);
        let live = self.scheduler.lanes().map(|report| {
            let events = report.holders + report.waiting - self.holds_on(report.lane);
            (events + parked_on(report.lane), report.lane)
        });
        let only_parked = parked.iter().filter(|(lane, _)| !self.scheduler.is_live(**lane));
        let only_parked = only_parked.map(|(lane, (count, _))| (*count, *lane));
        let mut longest = BinaryHeap::new();
        for (events, lane) in live.chain(only_parked).filter(|(events, _)| *events > 0) {
            longest.push((Reverse(events), lane));
            if longest.len() > max {
                longest.pop();
            }
        }
        let longest = longest.into_sorted_vec();
        let lanes: Vec<Lane> = longest.iter().map(|(_, lane)| *lane).collect();
        let heads = self.scheduler.heads(&lanes);
        let due = self.due_of(&heads);
        let found = longest.into_iter().zip(heads).map(|((Reverse(events), lane), head)| {
            let paused = self.holds_on(lane) > 0;
            let first = parked.get(&lane).map(|(_, first)| *first);
            Found { lane, events, parked: parked_on(lane), paused, head: self.head(head, first, paused, &due) }
        });
        found.collect()
    }

    /// When those that back off are due.
    fn due_of(&self, heads: &[Option<Ticket>]) -> HashMap<Ticket, Instant> {
        let wanted = heads.iter().flatten().map(|ticket| (*ticket, None::<Instant>));
        let mut wanted: HashMap<_, _> = wanted.collect();
        for Reverse((time, _, waiting)) in &self.due {
            if let Waiting::Held(ticket) = waiting
                && let Some(due) = wanted.get_mut(ticket)
            {
                *due = Some(*time);
            }
        }
        wanted.into_iter().filter_map(|(ticket, due)| Some((ticket, due?))).collect()
    }

    /// Of the first that stands in a lane and the first that is parked on it, the one that came first.
    fn head(
        &self,
        head: Option<Ticket>,
        parked: Option<&SetAside>,
        paused: bool,
        due: &HashMap<Ticket, Instant>,
    ) -> Option<Head> {
        let admitted = head.and_then(|ticket| self.admitted.get(ticket.index())?.as_ref());
        if let Some(event) = parked.filter(|parked| admitted.is_none_or(|event| parked.arrival < event.arrival)) {
            return Some(Head {
                subscription: event.subscription,
                tag: event.tag,
                attempt: event.attempts + 1,
                published: event.published,
                envelope: None,
                state: HeadState::Parked(event.reason.as_deref().map(str::to_owned)),
                waits_in: Vec::new(),
            });
        }
        let (ticket, event) = (head?, admitted?);
        let state = match self.scheduler.standing(ticket)? {
            Standing::Running => HeadState::Running,
            _ if paused => HeadState::Paused,
            Standing::Ready => HeadState::Ready,
            Standing::Waiting => HeadState::Waiting,
            Standing::BackingOff => {
                let left = due.get(&ticket).map_or_else(Default::default, |time| *time - Instant::now());
                HeadState::BackingOff(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
            }
        };
        let mut waits_in = self.scheduler.waits_in(ticket);
        waits_in.truncate(MOST_WAITED);
        let (subscription, tag, attempt) = (event.subscription, event.tag, event.attempt);
        let (published, envelope) = (Some(event.published), event.envelope.clone());
        Some(Head { subscription, tag, attempt, published, envelope, state, waits_in })
    }
}
