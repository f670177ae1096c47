//! The end that settles, and reads again.

use std::sync::Arc;

use commute_core::{BoxFuture, Code, Delivery, DeliveryTag, Envelope, Error, Parked, Result, Settlement, Settler};

use hashbrown::HashSet;

use crate::ask::{ask, refuse_large};
use crate::journal::reader::{Segments, Wanted};
use crate::records::Event;
use crate::stored;
use crate::writer::Shared;
use crate::writer::command::{Command, Unparked};

/// One opening of a subscription.
pub(crate) struct Outlet {
    pub(crate) shared: Arc<Shared>,
    pub(crate) segments: Segments,
    pub(crate) topic: u32,
    pub(crate) subscription: u32,
    pub(crate) incarnation: u32,
}

impl Outlet {
    fn tag(&self, position: u64) -> DeliveryTag {
        DeliveryTag { position, incarnation: self.incarnation }
    }

    /// Reads events from the files; positions ascend.
    pub(crate) async fn load(&self, wanted: Vec<Wanted>) -> Result<Vec<Arc<Event>>> {
        stored::load(&self.segments, self.topic, wanted).await
    }

    async fn events(&self, positions: Vec<u64>) -> Result<Vec<Arc<Event>>> {
        stored::events(&self.shared, &self.segments, self.topic, positions).await
    }

    async fn take_back(&self, tags: Vec<DeliveryTag>) -> Result<Vec<Delivery>> {
        let positions: Vec<u64> = tags.iter().map(|tag| tag.position).collect();
        {
            // So that nothing is read for an answer that is no.
            let state = self.shared.state();
            let known = &state.subscriptions[self.subscription as usize];
            let mut once = HashSet::new();
            let refused = positions.iter().find(|position| !known.is_parked(**position) || !once.insert(**position));
            if let Some(position) = refused {
                return Err(Error::new(Code::NotParked, format!("event {position} is not parked")));
            }
        }
        let events = self.events(positions).await?;
        let unparked = |event: &Arc<Event>| Unparked { position: event.position, id: event.id, key: event.key() };
        let parked = events.iter().map(unparked).collect();
        let (subscription, incarnation) = (self.subscription, self.incarnation);
        ask(&self.shared, move |reply| Command::Unpark { subscription, incarnation, parked, reply }).await?;
        let deliveries = events.into_iter().map(|event| Delivery {
            tag: self.tag(event.position),
            attempt: 1,
            not_before: None,
            published: event.published,
            envelope: event.envelope.clone(),
            malformed: None,
        });
        Ok(deliveries.collect())
    }
}

impl Settler for Outlet {
    fn settle(&self, settlements: Vec<Settlement>) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let published = settlements.iter().flat_map(|settlement| match settlement {
                Settlement::Ack { publish, .. } => publish.as_slice(),
                _ => &[],
            });
            refuse_large(published, &self.shared.options)?;
            let subscription = self.subscription;
            ask(&self.shared, move |reply| Command::Settle { subscription, settlements, reply }).await
        })
    }

    fn read(&self, tags: &[DeliveryTag]) -> BoxFuture<'_, Result<Vec<Envelope>>> {
        let positions = tags.iter().map(|tag| tag.position).collect();
        Box::pin(async move {
            let events = self.events(positions).await?;
            Ok(events.into_iter().map(|event| (*event.envelope).clone()).collect())
        })
    }

    fn parked(&self) -> BoxFuture<'_, Result<Vec<Parked>>> {
        Box::pin(async move {
            let state = self.shared.state();
            let parked = state.subscriptions[self.subscription as usize].parked.values();
            let parked = parked.map(|(position, aside)| Parked {
                tag: self.tag(*position),
                attempts: aside.attempts,
                lanes: aside.lanes.clone(),
                reason: aside.reason.as_deref().map(str::to_owned),
                since: aside.since,
            });
            Ok(parked.collect())
        })
    }

    fn unpark(&self, tags: Vec<DeliveryTag>) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        Box::pin(self.take_back(tags))
    }

    fn backlog(&self) -> BoxFuture<'_, Result<Option<u64>>> {
        let state = self.shared.state();
        let known = &state.subscriptions[self.subscription as usize];
        let backlog = known.backlog(&state.topics[self.topic as usize]);
        drop(state);
        Box::pin(std::future::ready(Ok(Some(backlog))))
    }

    fn absorbed(&self) -> u64 {
        self.shared.state().subscriptions[self.subscription as usize].delivering.absorbed
    }
}
