//! Finding an event by its id, which the engine does not keep: payloads that were dropped are read again.

use std::cmp::Reverse;
use std::sync::Arc;

use commute_core::{DeliveryTag, Envelope, EventId, Settler};

use crate::engine::{Admitted, Dispatch, Engine, SetAside, Waiting};

/// So many payloads are read at once: few enough to hold them all, however large they are.
const CHUNK: usize = 64;

impl Dispatch {
    /// Everything of a subscription that was taken and is not over, with what let go of its lanes.
    pub(crate) fn taken(&self, n: usize) -> impl Iterator<Item = &Admitted> {
        let released = self.due.iter().filter_map(|Reverse((_, _, waiting))| match waiting {
            Waiting::Released(event) => Some(&**event),
            Waiting::Held(_) => None,
        });
        self.admitted.iter().flatten().chain(released).filter(move |event| event.subscription == n)
    }
}

/// An event that was taken and is not over.
pub(crate) async fn taken(engine: &Engine, n: usize, id: &EventId) -> Option<(DeliveryTag, Arc<Envelope>)> {
    let mut ghosts = Vec::new();
    for event in engine.dispatch().taken(n) {
        match &event.envelope {
            Some(envelope) if envelope.id == *id => return Some((event.tag, envelope.clone())),
            Some(_) => {}
            None => ghosts.push(event.tag),
        }
    }
    among(&*engine.subscriptions[n].settler, &ghosts, id).await
}

/// An event that is parked.
pub(crate) async fn parked(
    engine: &Engine,
    n: usize,
    parked: &[SetAside],
    id: &EventId,
) -> Option<(SetAside, Arc<Envelope>)> {
    let known = || parked.iter().filter(|event| event.subscription == n);
    let tags: Vec<_> = known().map(|event| event.tag).collect();
    let (tag, envelope) = among(&*engine.subscriptions[n].settler, &tags, id).await?;
    known().find(|event| event.tag == tag).map(|event| (event.clone(), envelope))
}

async fn among(settler: &dyn Settler, tags: &[DeliveryTag], id: &EventId) -> Option<(DeliveryTag, Arc<Envelope>)> {
    for tags in tags.chunks(CHUNK) {
        let envelopes = read(settler, tags).await;
        let found = envelopes.into_iter().find(|(_, envelope)| envelope.id == *id);
        if let Some((tag, envelope)) = found {
            return Some((tag, Arc::new(envelope)));
        }
    }
    None
}

/// Reads payloads; one that is gone, because its event is over by now, is left out.
pub(crate) async fn read(settler: &dyn Settler, tags: &[DeliveryTag]) -> Vec<(DeliveryTag, Envelope)> {
    if let Ok(envelopes) = settler.read(tags).await {
        return tags.iter().copied().zip(envelopes).collect();
    }
    let mut found = Vec::new();
    for tag in tags {
        if let Ok(envelopes) = settler.read(std::slice::from_ref(tag)).await {
            found.extend(envelopes.into_iter().map(|envelope| (*tag, envelope)));
        }
    }
    found
}
