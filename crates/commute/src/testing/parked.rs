//! What is set aside now, by the journal.

use commute_core::{EventId, Lane, Mode};

use super::journal::{Entry, What};
use super::shared::Shared;

/// An event that is set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedEvent {
    /// Which.
    pub event: EventId,
    /// Where it came from.
    pub topic: String,
    /// Who set it aside.
    pub subscription: String,
    /// What it holds, as `name:value` of the keys in its footprint; the number of a lane whose key is not known.
    pub lanes: Vec<String>,
    /// Its own failure; nothing when it waits behind another.
    pub reason: Option<String>,
    /// The event that it waits behind, when it waits behind another.
    pub behind: Option<EventId>,
}

/// What it holds.
type Holds = Vec<(Lane, Mode)>;

/// Everything that is parked, in the order in which it was parked.
pub(super) fn parked(journal: &[Entry]) -> impl Iterator<Item = ParkedEvent> + use<> {
    aside(journal).into_iter().map(|(parked, _)| parked)
}

fn aside(journal: &[Entry]) -> Vec<(ParkedEvent, Holds)> {
    let mut aside: Vec<(ParkedEvent, Holds)> = Vec::new();
    for entry in journal {
        let Some(event) = &entry.event else { continue };
        match &entry.what {
            What::Parked { place, holds, lanes, reason, behind } => {
                let parked = ParkedEvent {
                    event: event.clone(),
                    topic: place.topic.to_string(),
                    subscription: place.subscription.to_string(),
                    lanes: lanes.clone(),
                    reason: reason.clone(),
                    behind: behind.clone(),
                };
                aside.push((parked, holds.clone()));
            }
            What::Released { place } => {
                aside.retain(|(known, _)| known.event != *event || *known.subscription != *place.subscription);
            }
            _ => {}
        }
    }
    aside
}

/// The first parked event that one which wants these lanes must wait for.
pub(super) fn behind(shared: &Shared, wanted: &[(Lane, Mode)]) -> Option<EventId> {
    let conflict = |(lane, mode): &(Lane, Mode)| {
        wanted.iter().any(|(other, wanted)| lane == other && mode.conflicts_with(*wanted))
    };
    let first = aside(&shared.journal()).into_iter().find(|(_, holds)| holds.iter().any(conflict));
    first.map(|(parked, _)| parked.event)
}
