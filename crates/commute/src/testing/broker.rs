//! The broker as the app sees it in a test: the real one, with everything that passes written down.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use commute_core::{
    BoxFuture, Broker, Capabilities, Change, Code, DeadLetter, Delivery, DeliveryTag, Envelope, Error, Event, EventId,
    Mode, Outgoing, Parked, Receipt, Receiver, Result, Server, Settlement, Settler, SharedBroker, Subscription,
    SubscriptionSpec, Topic,
};

use super::gate::Gate;
use super::journal::{Place, Taken, What};
use super::shared::{Life, Shared};
use crate::lock::lock;

/// One connection, for one life of the app.
pub(super) struct Observed {
    /// Gone when the life is over, whoever still holds this.
    inner: Mutex<Option<SharedBroker>>,
    driver: &'static str,
    address: String,
    capabilities: Capabilities,
    server: Option<Server>,
    shared: Arc<Shared>,
    life: Life,
    /// What the names of topics and groups begin with where tests share a server.
    namespace: Option<String>,
}

impl Observed {
    pub(super) fn new(inner: SharedBroker, shared: Arc<Shared>, life: Life, namespace: Option<String>) -> Self {
        Observed {
            driver: inner.driver(),
            address: inner.address().to_owned(),
            capabilities: inner.capabilities().clone(),
            server: inner.server().cloned(),
            inner: Mutex::new(Some(inner)),
            shared,
            life,
            namespace,
        }
    }

    /// Lets go of the real one.
    pub(super) fn take(&self) -> Option<SharedBroker> {
        lock(&self.inner).take()
    }

    fn inner(&self) -> Result<SharedBroker> {
        let inner = lock(&self.inner).clone().filter(|_| !self.life.is_over());
        inner.ok_or_else(|| Error::new(Code::Closed, "this life of the app is over"))
    }
}

/// A topic's name on the server.
fn named(namespace: Option<&str>, topic: &Topic) -> Result<Topic> {
    namespace.map_or_else(|| Ok(topic.clone()), |namespace| Topic::new(format!("{namespace}.{topic}")))
}

fn renamed(namespace: Option<&str>, batch: Vec<Outgoing>) -> Result<Vec<Outgoing>> {
    let rename = |outgoing: Outgoing| Ok(Outgoing { topic: named(namespace, &outgoing.topic)?, ..outgoing });
    batch.into_iter().map(rename).collect()
}

impl Broker for Observed {
    fn driver(&self) -> &'static str {
        self.driver
    }

    fn address(&self) -> &str {
        &self.address
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn server(&self) -> Option<&Server> {
        self.server.as_ref()
    }

    fn publish(&self, batch: Vec<Outgoing>) -> BoxFuture<'_, Result<Vec<Receipt>>> {
        Box::pin(async move {
            let inner = self.inner()?;
            let _call = self.shared.call();
            let ids: Vec<EventId> = batch.iter().map(|outgoing| outgoing.envelope.id.clone()).collect();
            let first = self.shared.publishing(&batch);
            let published = inner.publish(renamed(self.namespace.as_deref(), batch)?).await;
            match &published {
                Ok(receipts) => {
                    let known = ids.iter().zip(receipts).filter(|(_, receipt)| receipt.duplicate);
                    known.for_each(|(id, _)| self.shared.correct(first, id, Taken::Duplicate));
                }
                Err(error) => {
                    ids.iter().for_each(|id| self.shared.correct(first, id, Taken::Refused(error.to_string())));
                }
            }
            published
        })
    }

    fn subscribe(&self, mut spec: SubscriptionSpec) -> BoxFuture<'_, Result<Subscription>> {
        Box::pin(async move {
            let inner = self.inner()?;
            let place = Place { topic: spec.topic.as_str().into(), subscription: spec.group.clone() };
            spec.topic = named(self.namespace.as_deref(), &spec.topic)?;
            if let Some(namespace) = &self.namespace {
                spec.group = format!("{namespace}.{}", spec.group).into();
            }
            let opened = inner.subscribe(spec).await?;
            let seat = Arc::new(Seat {
                shared: self.shared.clone(),
                life: self.life.clone(),
                namespace: self.namespace.clone(),
                place,
                events: Mutex::default(),
            });
            let gate = self.shared.chance.shuffled.then(|| {
                let gate = Arc::new(Gate::default());
                lock(&self.shared.gates).push(gate.clone());
                gate
            });
            Ok(Subscription {
                receiver: Box::new(Receiving { inner: opened.receiver, seat: seat.clone(), gate }),
                settler: Arc::new(Settling { inner: opened.settler, seat }),
            })
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { self.inner()?.close().await })
    }
}

/// What both ends of a subscription know.
struct Seat {
    shared: Arc<Shared>,
    life: Life,
    namespace: Option<String>,
    place: Place,
    /// Which event a delivery is of.
    events: Mutex<HashMap<DeliveryTag, EventId>>,
}

impl Seat {
    fn delivered(&self, delivery: &Delivery) {
        lock(&self.events).insert(delivery.tag, delivery.envelope.id.clone());
    }

    fn record(&self, tag: DeliveryTag, what: What) {
        let event = lock(&self.events).get(&tag).cloned();
        self.shared.record(event.as_ref(), what);
    }
}

struct Receiving {
    inner: Box<dyn Receiver>,
    seat: Arc<Seat>,
    gate: Option<Arc<Gate>>,
}

impl Receiving {
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>> {
        let Some(gate) = &self.gate else { return self.inner.receive(max).await };
        loop {
            let through = gate.take(max);
            if !through.is_empty() {
                return Ok(through);
            }
            tokio::select! {
                biased;
                () = gate.opened.notified() => {}
                received = self.inner.receive(max) => {
                    let received = received?;
                    if received.is_empty() {
                        return Ok(received);
                    }
                    gate.wait(received);
                    self.seat.shared.touch();
                }
            }
        }
    }
}

impl Receiver for Receiving {
    fn receive(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        Box::pin(async move {
            let seat = self.seat.clone();
            let deliveries = tokio::select! {
                biased;
                () = seat.life.over() => return Err(Life::error()),
                deliveries = self.next(max) => deliveries?,
            };
            for delivery in &deliveries {
                seat.delivered(delivery);
                let what = What::Delivered { place: seat.place.clone(), attempt: delivery.attempt };
                seat.shared.record(Some(&delivery.envelope.id), what);
            }
            Ok(deliveries)
        })
    }
}

struct Settling {
    inner: Arc<dyn Settler>,
    seat: Arc<Seat>,
}

impl Settling {
    fn note(&self, settlement: &Settlement) {
        let place = self.seat.place.clone();
        let what = match settlement {
            Settlement::Ack { publish, tag, .. } => {
                self.seat.shared.publishing(publish);
                match publish.iter().find_map(|outgoing| Some((outgoing, letter(&outgoing.envelope)?))) {
                    Some((outgoing, letter)) => {
                        let (code, reason) = (letter.code, letter.reason);
                        let topic = outgoing.topic.as_str().into();
                        let dead = What::DeadLettered { place: place.clone(), code, reason, topic };
                        self.seat.record(*tag, dead);
                        return;
                    }
                    None => What::Settled { place },
                }
            }
            Settlement::Defer { not_before, .. } => What::Deferred { place, until: *not_before },
            Settlement::Park { lanes: holds, reason, .. } => {
                let shared = &self.seat.shared;
                // Everybody in the subscription reads its own lane, which says nothing.
                let told = holds.iter().filter(|(lane, mode)| *mode == Mode::Exclusive || !shared.is_whole(*lane));
                let lanes = told.map(|(lane, _)| shared.name_of(*lane)).collect();
                let behind = reason.is_none().then(|| super::parked::behind(shared, holds)).flatten();
                What::Parked { place, holds: holds.clone(), lanes, reason: reason.clone(), behind }
            }
            Settlement::Return { .. } => What::Returned { place },
        };
        self.seat.record(settlement.tag(), what);
    }
}

/// What is in an envelope that is a dead letter.
pub(super) fn letter(envelope: &Envelope) -> Option<DeadLetter> {
    let is_one = *envelope.event_type == *<DeadLetter as Event>::TYPE;
    is_one.then(|| <DeadLetter as commute_core::Incoming>::decode(envelope).ok()).flatten()
}

impl Settler for Settling {
    fn settle(&self, settlements: Vec<Settlement>) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if self.seat.life.is_over() {
                return Err(Life::error());
            }
            let _call = self.seat.shared.call();
            settlements.iter().for_each(|settlement| self.note(settlement));
            let namespace = self.seat.namespace.as_deref();
            let rename = |settlement| match settlement {
                Settlement::Ack { tag, publish, mark } => {
                    Ok(Settlement::Ack { tag, publish: renamed(namespace, publish)?, mark })
                }
                other => Ok(other),
            };
            let settlements: Vec<_> = settlements.into_iter().map(rename).collect::<Result<_>>()?;
            self.inner.settle(settlements).await
        })
    }

    fn read(&self, tags: &[DeliveryTag]) -> BoxFuture<'_, Result<Vec<Envelope>>> {
        self.inner.read(tags)
    }

    fn parked(&self) -> BoxFuture<'_, Result<Vec<Parked>>> {
        self.inner.parked()
    }

    fn unpark(&self, tags: Vec<DeliveryTag>) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        Box::pin(async move {
            let _call = self.seat.shared.call();
            let deliveries = self.inner.unpark(tags).await?;
            for delivery in &deliveries {
                self.seat.delivered(delivery);
                let what = What::Released { place: self.seat.place.clone() };
                self.seat.shared.record(Some(&delivery.envelope.id), what);
            }
            Ok(deliveries)
        })
    }

    fn backlog(&self) -> BoxFuture<'_, Result<Option<u64>>> {
        self.inner.backlog()
    }

    fn changed(&self) -> BoxFuture<'_, Change> {
        self.inner.changed()
    }

    fn absorbed(&self) -> u64 {
        self.inner.absorbed()
    }
}
