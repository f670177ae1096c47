//! Journeys: what happened to an event and to what it caused, as lines for a person.

use std::collections::HashSet;
use std::fmt::Write;
use std::time::Duration;

use commute_core::{Envelope, EventId, extension};

use super::journal::{Entry, How, Taken, What};
use super::shared::Shared;

/// More lines than this are not read.
const LINES: usize = 80;

/// Which events are told about at most.
const EVENTS: usize = 5;

/// What caused an event.
pub(super) fn cause(envelope: &Envelope) -> Option<EventId> {
    envelope.extensions.get(extension::CAUSATION_ID).and_then(|id| EventId::new(id).ok())
}

/// The journeys of several events; of all when none is named.
pub(super) fn journeys(shared: &Shared, events: &[EventId]) -> String {
    let journal = shared.journal();
    let mut roots: Vec<EventId> = Vec::new();
    let all = events.is_empty();
    let named = journal.iter().filter_map(|entry| {
        let (_, envelope) = entry.what.published()?;
        (all && cause(envelope).is_none()).then(|| envelope.id.clone())
    });
    for id in events.iter().cloned().chain(named) {
        if !roots.contains(&id) {
            roots.push(id);
        }
    }
    if roots.is_empty() {
        return "nothing was published\n".to_owned();
    }
    let mut text = String::new();
    let mut told = HashSet::new();
    for root in roots.iter().take(EVENTS) {
        tell(shared, &journal, root, 0, &mut told, &mut text);
    }
    if roots.len() > EVENTS {
        let _ = writeln!(text, "and {} more events", roots.len() - EVENTS);
    }
    let lines = text.lines().count();
    if lines > LINES {
        let kept: Vec<_> = text.lines().take(LINES).collect();
        text = format!("{}\n… {} more lines\n", kept.join("\n"), lines - LINES);
    }
    text
}

fn tell(
    shared: &Shared,
    journal: &[Entry],
    event: &EventId,
    depth: usize,
    told: &mut HashSet<EventId>,
    text: &mut String,
) {
    if !told.insert(event.clone()) {
        return;
    }
    let indent = "  ".repeat(depth);
    let envelope = journal
        .iter()
        .filter(|entry| entry.event.as_ref() == Some(event))
        .find_map(|entry| entry.what.published().map(|(_, envelope)| envelope));
    match envelope {
        Some(envelope) => {
            let key = envelope.partition_key().map(|key| format!(", key {key}")).unwrap_or_default();
            let _ = writeln!(text, "{indent}journey of {event} ({}{key}):", envelope.event_type);
        }
        None => {
            let _ = writeln!(text, "{indent}journey of {event}:");
        }
    }
    let mut caused = Vec::new();
    // What happens to the app happens to the event, too, unless it is over by then.
    let mut of_the_app = Vec::new();
    let mut last = None;
    for entry in journal {
        if let Some((_, envelope)) = entry.what.published()
            && cause(envelope).as_ref() == Some(event)
        {
            caused.push(envelope.id.clone());
        }
        match &entry.event {
            None if last.is_some() => of_the_app.push(entry),
            Some(of) if of == event => {
                for entry in of_the_app.drain(..).chain([entry]) {
                    let _ = writeln!(text, "{indent}  {} {}", seconds(entry.at), line(shared, &entry.what));
                }
                last = Some(&entry.what);
            }
            _ => {}
        }
    }
    if matches!(last, Some(What::Delivered { .. } | What::Began { .. } | What::Ended { .. } | What::Deferred { .. })) {
        for entry in of_the_app {
            let _ = writeln!(text, "{indent}  {} {}", seconds(entry.at), line(shared, &entry.what));
        }
    }
    for id in caused {
        tell(shared, journal, &id, depth + 1, told, text);
    }
}

fn seconds(time: Duration) -> String {
    format!("+{:.3}", time.as_secs_f64())
}

fn line(shared: &Shared, what: &What) -> String {
    match what {
        What::Published { topic, envelope, due, taken } => {
            let due = due.map(|due| format!(", not before {}", seconds(shared.clock.relative(due))));
            let due = due.unwrap_or_default();
            match taken {
                Taken::Yes => format!("published to {topic} by {}{due}", envelope.source),
                Taken::Duplicate => format!("published to {topic} again; the topic had it already"),
                Taken::Refused(why) => format!("could not be published to {topic}: {why}"),
            }
        }
        What::Delivered { place, attempt } => format!("delivered to {} for attempt {attempt}", place.subscription),
        What::Began { place, attempt } => format!("attempt {attempt} of {} begins", place.subscription),
        What::Ended { place, attempt, how, .. } => {
            let how = match how {
                How::Handled => "handled".to_owned(),
                How::Known => "had taken effect before; nothing was done".to_owned(),
                How::Failed { code, reason } => format!("failed: {reason} ({code})"),
                How::Lost(why) => format!("lost its transaction: {why}"),
                How::Cut => "cut off by the crash".to_owned(),
            };
            format!("attempt {attempt} of {} {how}", place.subscription)
        }
        What::Again { place } => format!("delivered to {} again, as after a lost acknowledgement", place.subscription),
        What::Deferred { place, until } => {
            format!("waits in {} until {}", place.subscription, seconds(shared.clock.relative(*until)))
        }
        What::DeadLettered { place, code, reason, topic } => {
            format!("given up by {}: {reason} ({code}); dead letter to {topic}", place.subscription)
        }
        What::Parked { place, lanes, reason, behind, .. } => {
            let lanes = if lanes.is_empty() { "no lane".to_owned() } else { lanes.join(", ") };
            let why = match (reason, behind) {
                (Some(reason), _) => format!(": {reason}"),
                (None, Some(first)) => format!(" behind {first}"),
                (None, None) => String::new(),
            };
            format!("parked by {} on {lanes}{why}", place.subscription)
        }
        What::Released { place } => format!("released to {}", place.subscription),
        What::Settled { place } => format!("settled by {}", place.subscription),
        What::Returned { place } => format!("returned by {}", place.subscription),
        What::Crashed => "CRASH".to_owned(),
        What::Started => "the app starts".to_owned(),
    }
}
