//! What a test can ask about: handled and published events, dead letters, parked events, and effects.

use std::collections::{HashMap, HashSet};

use commute_core::{DeadLetter, Event, EventId, Incoming};

use super::TestApp;
use super::broker::letter;
use super::journal::{Entry, How, Place, What};
use super::journey::{cause, journeys};
use super::parked::{ParkedEvent, parked};
use super::seen::{Item, Seen, message};

impl TestApp {
    /// Events of type `E` from the topic that were handled, in the order in which their handling ended: once for every
    /// effect, so an event that takes effect twice is here twice. Of all subscriptions on the topic; see
    /// [`TestApp::handled_by`].
    #[must_use = "say what is expected: once, times, none, with …"]
    pub fn handled<E: Event>(&self, topic: &str) -> Seen<'_, E> {
        self.handled_in(topic, None)
    }

    /// As [`TestApp::handled`], in one subscription.
    #[must_use = "say what is expected: once, times, none, with …"]
    pub fn handled_by<E: Event>(&self, subscription: &str, topic: &str) -> Seen<'_, E> {
        self.handled_in(topic, Some(subscription))
    }

    fn handled_in<E: Event>(&self, topic: &str, subscription: Option<&str>) -> Seen<'_, E> {
        let journal = self.shared.journal();
        let published = publications(&journal);
        let mut items = Vec::new();
        for (number, entry) in journal.iter().enumerate() {
            if let What::Ended { place, began, how: How::Handled, .. } = &entry.what
                && *place.topic == *topic
                && subscription.is_none_or(|wanted| *place.subscription == *wanted)
                && let Some(event) = &entry.event
                && let Some(value) = decoded::<E>(&journal, event)
            {
                let published = published.get(event).copied();
                items.push(Item { event: event.clone(), value, published, during: (*began, number) });
            }
        }
        drop(journal);
        let by = subscription.map(|subscription| format!(" by {subscription}")).unwrap_or_default();
        let what = format!("handled {} of {topic}{by}", E::TYPE);
        Seen { shared: &self.shared, what, items, candidates: self.published_ids::<E>(topic) }
    }

    /// Events of type `E` that the topic took, by whomever they were published, in order. One that the topic had already
    /// is not here again.
    #[must_use = "say what is expected: once, times, none, with …"]
    pub fn published<E: Event>(&self, topic: &str) -> Seen<'_, E> {
        let journal = self.shared.journal();
        let published = publications(&journal);
        let mut once = HashSet::new();
        let mut items = Vec::new();
        for (number, entry) in journal.iter().enumerate() {
            if let Some((to, envelope)) = entry.what.published()
                && **to == *topic
                && *envelope.event_type == *E::TYPE
                && once.insert(envelope.id.clone())
                && let Ok(value) = <E as Incoming>::decode(envelope)
            {
                let origin = cause(envelope).unwrap_or_else(|| envelope.id.clone());
                let published = published.get(&origin).copied();
                items.push(Item { event: envelope.id.clone(), value, published, during: (number, number) });
            }
        }
        drop(journal);
        let what = format!("published {} to {topic}", E::TYPE);
        Seen { shared: &self.shared, what, items, candidates: Vec::new() }
    }

    /// Events that were given up, in order.
    #[must_use = "say what is expected: once, times, none, with …"]
    pub fn dead_letters(&self) -> Seen<'_, DeadLetter> {
        let journal = self.shared.journal();
        let published = publications(&journal);
        let mut once = HashSet::new();
        let mut items = Vec::new();
        for (number, entry) in journal.iter().enumerate() {
            if let Some((_, envelope)) = entry.what.published()
                && let Some(value) = letter(envelope)
                && once.insert(envelope.id.clone())
            {
                let event = value.original_id().unwrap_or_else(|_| envelope.id.clone());
                let published = published.get(&event).copied();
                items.push(Item { event, value, published, during: (number, number) });
            }
        }
        drop(journal);
        Seen { shared: &self.shared, what: "dead letters".to_owned(), items, candidates: Vec::new() }
    }

    /// Events that are set aside now, in the order in which they were.
    #[must_use = "say what is expected: once, times, none, with …"]
    pub fn parked(&self) -> Seen<'_, ParkedEvent> {
        let journal = self.shared.journal();
        let published = publications(&journal);
        let item = |(n, value): (usize, ParkedEvent)| {
            let published = published.get(&value.event).copied();
            Item { event: value.event.clone(), value, published, during: (n, n) }
        };
        let items = parked(&journal).enumerate().map(item).collect();
        drop(journal);
        Seen { shared: &self.shared, what: "parked events".to_owned(), items, candidates: Vec::new() }
    }

    /// No event took effect twice in a subscription.
    ///
    /// A handler without a store takes effect whenever it ends well, so after duplicates and crashes this holds only for
    /// handlers whose effects are in a store.
    ///
    /// # Panics
    /// When one did, with its journey.
    #[track_caller]
    pub fn no_effect_twice(&self) {
        let mut effects: HashMap<(Place, EventId), usize> = HashMap::new();
        for entry in self.shared.journal().iter() {
            if let (Some(event), What::Ended { place, how: How::Handled, .. }) = (&entry.event, &entry.what) {
                *effects.entry((place.clone(), event.clone())).or_default() += 1;
            }
        }
        let twice: Vec<_> = effects.into_iter().filter(|(_, count)| *count > 1).collect();
        if let Some(((place, _), count)) = twice.first() {
            let actual = format!("{} events more than once; one of {} {count} times", twice.len(), place.subscription);
            let events: Vec<_> = twice.iter().map(|((_, event), _)| event.clone()).collect();
            panic!("{}", message(&self.shared, "effects", "each event takes effect once", &actual, &events));
        }
    }

    /// What happened to an event and to what it caused, as lines for a person.
    pub fn journey(&self, event: &EventId) -> String {
        journeys(&self.shared, std::slice::from_ref(event))
    }

    /// What happened to everything, as lines for a person.
    pub fn journeys(&self) -> String {
        journeys(&self.shared, &[])
    }

    fn published_ids<E: Event>(&self, topic: &str) -> Vec<EventId> {
        let journal = self.shared.journal();
        let published = journal.iter().filter_map(|entry| entry.what.published());
        let wanted = published.filter(|(to, envelope)| ***to == *topic && *envelope.event_type == *E::TYPE);
        wanted.map(|(_, envelope)| envelope.id.clone()).collect()
    }
}

/// When each event was published first.
fn publications(journal: &[Entry]) -> HashMap<EventId, usize> {
    let mut first = HashMap::new();
    for (number, entry) in journal.iter().enumerate() {
        if let Some((_, envelope)) = entry.what.published() {
            first.entry(envelope.id.clone()).or_insert(number);
        }
    }
    first
}

fn decoded<E: Event>(journal: &[Entry], event: &EventId) -> Option<E> {
    let mut theirs = journal.iter().filter(|entry| entry.event.as_ref() == Some(event));
    let (_, envelope) = theirs.find_map(|entry| entry.what.published())?;
    (*envelope.event_type == *E::TYPE).then(|| <E as Incoming>::decode(envelope).ok()).flatten()
}
