//! Journeys: what became of an event, read from the log itself.
//!
//! ```text
//! the event     by the ids that its topics remember, else from the oldest segment on
//! its causes    one by one, backwards from where it lies
//! all of it     one pass from the oldest of these to the end: effects, and what groups did, come later than their causes
//! ```

use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError, RwLock};

use commute_core::admin::{Happened, Step, Traced};
use commute_core::{EventId, Result, Timestamp, extension};
use hashbrown::{HashMap, HashSet};

use super::Look;
use super::look::shown;
use crate::journal::groups::records;
use crate::journal::reader::{Segments, Wanted, read};
use crate::journal::segment::Segment;
use crate::records::{Event, Record};
use crate::stored::blocking;

impl Look {
    pub(super) async fn journey(&self, id: EventId, max: usize) -> Result<Vec<Traced>> {
        self.open()?;
        let look = self.clone();
        blocking(move || {
            let Some(tracer) = Tracer::new(&look) else { return Ok(Vec::new()) };
            tracer.trace(id, max)
        })
        .await
    }
}

/// Where an event was found.
struct Found {
    event: Event,
    segment: u32,
}

struct Tracer<'a> {
    look: &'a Look,
    /// Oldest first.
    segments: Vec<Segment>,
    /// The same, so that retention takes none of them away meanwhile.
    kept: Segments,
    topics: Vec<TopicNow>,
    /// Topic and group by number.
    groups: Vec<(u32, Arc<str>)>,
}

/// A topic when the tracing began: what is newer is not looked at.
struct TopicNow {
    name: Arc<str>,
    first: u64,
    next: u64,
}

impl<'a> Tracer<'a> {
    /// `None` when there is nothing to read.
    fn new(look: &'a Look) -> Option<Self> {
        let state = look.shared.state();
        let segments = look.segments.read().unwrap_or_else(PoisonError::into_inner).clone();
        let topics = state.topics.iter();
        let topics = topics.map(|topic| TopicNow { name: topic.name.clone(), first: topic.first, next: topic.next });
        let groups = state.subscriptions.iter().map(|known| (known.topic, known.group.clone()));
        (!segments.is_empty()).then(|| Tracer {
            look,
            kept: Arc::new(RwLock::new(segments.clone())),
            segments,
            topics: topics.collect(),
            groups: groups.collect(),
        })
    }

    fn trace(self, id: EventId, max: usize) -> Result<Vec<Traced>> {
        let oldest = self.segments.first().map_or(0, |segment| segment.serial);
        let found = match self.remembered(&id)? {
            Some(found) => Some(found),
            None => self.search(oldest..=u32::MAX, id.as_str())?,
        };
        let Some(found) = found.filter(|_| max > 0) else { return Ok(Vec::new()) };
        let mut causes: HashSet<String> = HashSet::new();
        let mut begin = found.segment;
        let mut last = found;
        while causes.len() + 1 < max
            && let Some(cause) = last.event.envelope.extensions.get(extension::CAUSATION_ID)
            && let Ok(cause) = EventId::new(cause)
            && cause != id
            && !causes.contains(cause.as_str())
            && let Some(found) = self.cause(&cause, last.segment)?
        {
            begin = begin.min(found.segment);
            causes.insert(cause.to_string());
            last = found;
        }
        self.follow(begin, id, causes, max)
    }

    /// An event whose id a topic remembers.
    fn remembered(&self, id: &EventId) -> Result<Option<Found>> {
        let (options, fingerprint) = (&self.look.shared.options, id.fingerprint());
        let now = options.clock.now();
        for (n, topic) in (0..).zip(&self.topics) {
            let wanted: Option<Wanted> = {
                let state = self.look.shared.state();
                let stored = &state.topics[n as usize];
                let position = stored.ids.get(&fingerprint, now, options.dedup_window);
                position.filter(|position| *position < topic.next).and_then(|position| stored.wanted(position))
            };
            let Some(wanted) = wanted else { continue };
            let event = read(&self.kept, n, &[wanted])?.pop();
            if let Some(event) = event.filter(|event| event.envelope.id == *id) {
                return Ok(Some(Found { event: (*event).clone(), segment: wanted.from.segment }));
            }
        }
        Ok(None)
    }

    /// The event that caused another: it lies in the same segment, or in one before.
    fn cause(&self, cause: &EventId, effect: u32) -> Result<Option<Found>> {
        if let Some(found) = self.remembered(cause)? {
            return Ok(Some(found));
        }
        for segment in self.segments.iter().rev().filter(|segment| segment.serial <= effect) {
            if let Some(found) = self.search(segment.serial..=segment.serial, cause.as_str())? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The first event with an id in some segments.
    fn search(&self, serials: std::ops::RangeInclusive<u32>, id: &str) -> Result<Option<Found>> {
        let mut found = None;
        let segments = self.segments.iter().filter(|segment| serials.contains(&segment.serial));
        records(segments, |body, place| {
            if let Some(head) = Event::head(body).filter(|head| self.is_stored(head.topic, head.position))
                && head.relations().is_some_and(|(this, _)| this == id)
            {
                found = Event::decode(body).map(|event| Found { event, segment: place.segment });
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    fn is_stored(&self, topic: u32, position: u64) -> bool {
        self.topics.get(topic as usize).is_some_and(|topic| (topic.first..topic.next).contains(&position))
    }

    /// Everything from the oldest cause on.
    fn follow(&self, begin: u32, id: EventId, causes: HashSet<String>, max: usize) -> Result<Vec<Traced>> {
        let mut traced: Vec<Traced> = Vec::new();
        let mut known: HashMap<(u32, u64), usize> = HashMap::new();
        // What is caused by one of these belongs to the journey.
        let mut causing: HashSet<String> = std::iter::once(id.to_string()).collect();
        // The causes and the event itself have their places, however many effects there are.
        let mut room = max.saturating_sub(causes.len() + 1);
        let segments = self.segments.iter().filter(|segment| segment.serial >= begin);
        records(segments, |body, _| {
            if let Some(head) = Event::head(body) {
                let Some((this, cause)) = head.relations() else { return ControlFlow::Continue(()) };
                if !self.is_stored(head.topic, head.position) {
                    return ControlFlow::Continue(());
                }
                let expected = this == id.as_str() || causes.contains(this);
                let caused = cause.is_some_and(|cause| causing.contains(cause));
                if (expected || (caused && room > 0))
                    && let Some(event) = Event::decode(body)
                {
                    room -= usize::from(!expected);
                    if caused {
                        causing.insert(event.envelope.id.to_string());
                    }
                    known.insert((head.topic, head.position), traced.len());
                    traced.push(self.traced(&event));
                }
            } else if let Some((subscription, position)) = settled(body)
                && let Some((topic, group)) = self.groups.get(subscription as usize)
                && let Some(n) = known.get(&(*topic, position))
                && let Some(step) = Record::decode(body).and_then(|record| step(record, group))
                && let Some(traced) = traced.get_mut(*n)
            {
                traced.steps.push(step);
            }
            ControlFlow::Continue(())
        })?;
        let state = self.look.shared.state();
        for ((topic, position), n) in known {
            for known in state.subscriptions.iter().filter(|known| known.topic == topic) {
                if !known.done.is_done(position) && !known.is_parked(position) {
                    let group = known.group.to_string();
                    traced[n].steps.push(Step { group, at: None, what: Happened::Open });
                }
            }
        }
        traced.truncate(max);
        Ok(traced)
    }

    fn traced(&self, event: &Event) -> Traced {
        let cause = event.envelope.extensions.get(extension::CAUSATION_ID);
        let topic = &self.topics[event.topic as usize].name;
        Traced {
            stored: shown(topic, event),
            cause: cause.and_then(|cause| EventId::new(cause).ok()),
            steps: Vec::new(),
        }
    }
}

/// Subscription and position of a record that says what became of an event.
fn settled(body: &[u8]) -> Option<(u32, u64)> {
    if !Record::is_about_an_event(body) {
        return None;
    }
    let subscription = u32::from_le_bytes(body.get(1..5)?.try_into().ok()?);
    Some((subscription, u64::from_le_bytes(body.get(5..13)?.try_into().ok()?)))
}

fn step(record: Record, group: &str) -> Option<Step> {
    let step = |at: Option<Timestamp>, what| Some(Step { group: group.to_owned(), at, what });
    match record {
        Record::Ack { at, .. } => step(Some(at), Happened::Settled),
        Record::Defer { attempts, not_before, .. } => step(None, Happened::Deferred { attempts, not_before }),
        Record::Park { aside, .. } => {
            let reason = aside.reason.as_deref().map(str::to_owned);
            step(Some(aside.since), Happened::Parked { attempts: aside.attempts, reason })
        }
        Record::Unpark { .. } => step(None, Happened::Unparked),
        _ => None,
    }
}
