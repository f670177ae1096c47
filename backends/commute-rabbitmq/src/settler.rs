//! The settler: what is published and noted is confirmed first, then the delivery is acknowledged.
//!
//! One task settles in the order of asking, so that dropping a call changes nothing that was begun.

use std::sync::Arc;

use commute_core::{
    BoxFuture, Change, Clock, Code, Delivery, DeliveryTag, Envelope, Error, EventId, Lane, Mode, Parked, Result,
    Settlement, Settler, SystemClock, Timestamp,
};
use futures_util::future::join_all;
use lapin::options::BasicAckOptions;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::aside::{Note, Written};
use crate::attend::Shared;
use crate::error;
use crate::publisher::Publisher;
use crate::state::{Channels, State};
use crate::wire::{self, Message};

/// What the task is asked.
pub(crate) enum Ask {
    Settle(Vec<Settlement>, oneshot::Sender<Result<()>>),
    Unpark(Vec<DeliveryTag>, oneshot::Sender<Result<Vec<Delivery>>>),
}

/// The end that ends deliveries.
pub(crate) struct Outlet {
    pub(crate) shared: Arc<Shared>,
    pub(crate) ask: mpsc::Sender<Ask>,
}

impl Outlet {
    async fn asked<T>(&self, ask: impl FnOnce(oneshot::Sender<Result<T>>) -> Ask) -> Result<T> {
        let (reply, replied) = oneshot::channel();
        self.ask.send(ask(reply)).await.map_err(|_| error::closed())?;
        replied.await.unwrap_or_else(|_| Err(error::closed()))
    }
}

impl Settler for Outlet {
    fn settle(&self, settlements: Vec<Settlement>) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.asked(move |reply| Ask::Settle(settlements, reply)))
    }

    fn read(&self, tags: &[DeliveryTag]) -> BoxFuture<'_, Result<Vec<Envelope>>> {
        let state = self.shared.state();
        let find = |tag: &DeliveryTag| {
            let held = state.held(*tag).map(|entry| &*entry.envelope);
            let envelope = held.or_else(|| state.aside.parked_at(tag.position).map(|parked| &parked.envelope));
            envelope.cloned().ok_or_else(|| {
                Error::new(Code::BrokerUnavailable, format!("delivery {} is no longer held here", tag.position))
            })
        };
        let read: Result<Vec<Envelope>> = tags.iter().map(find).collect();
        drop(state);
        Box::pin(std::future::ready(read))
    }

    fn parked(&self) -> BoxFuture<'_, Result<Vec<Parked>>> {
        let state = self.shared.state();
        let incarnation = state.incarnation;
        let parked = state.aside.parked().map(|parked| Parked {
            tag: DeliveryTag { position: parked.position, incarnation },
            attempts: parked.attempts,
            lanes: parked.lanes.clone(),
            reason: parked.reason.clone(),
            since: parked.since,
        });
        let parked: Vec<_> = parked.collect();
        drop(state);
        Box::pin(std::future::ready(Ok(parked)))
    }

    fn unpark(&self, tags: Vec<DeliveryTag>) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        Box::pin(self.asked(move |reply| Ask::Unpark(tags, reply)))
    }

    fn backlog(&self) -> BoxFuture<'_, Result<Option<u64>>> {
        Box::pin(async move { self.shared.backlog().await.map(Some) })
    }

    fn changed(&self) -> BoxFuture<'_, Change> {
        Box::pin(async move {
            loop {
                let changed = self.shared.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(change) = self.shared.state().changes.pop_front() {
                    return change;
                }
                changed.await;
            }
        })
    }

    fn absorbed(&self) -> u64 {
        self.shared.state().absorbed
    }
}

/// Settles until nobody can ask any more, or the broker is closed; then the subscription ends.
pub(crate) async fn settle(
    shared: Arc<Shared>,
    publisher: Publisher,
    mut asked: mpsc::Receiver<Ask>,
    closed: CancellationToken,
) {
    loop {
        let ask = tokio::select! {
            biased;
            ask = asked.recv() => ask,
            // What was asked before the close is done.
            () = closed.cancelled() => break,
        };
        let Some(ask) = ask else { break };
        // Whoever asked may have gone; it is done all the same.
        match ask {
            Ask::Settle(settlements, reply) => drop(reply.send(settle_all(&shared, &publisher, settlements).await)),
            Ask::Unpark(tags, reply) => drop(reply.send(unpark(&shared, &publisher, tags).await)),
        }
    }
    shared.stop.cancel();
}

/// What is done to a delivery once everything is confirmed.
enum Step {
    Ack(DeliveryTag),
    Return(DeliveryTag),
    Defer(DeliveryTag, u32, Timestamp, Written),
    Park(DeliveryTag, Written),
}

async fn settle_all(shared: &Shared, publisher: &Publisher, settlements: Vec<Settlement>) -> Result<()> {
    let now = SystemClock.now();
    let (mut messages, mut steps) = (Vec::new(), Vec::with_capacity(settlements.len()));
    plan(shared, publisher, settlements, now, &mut messages, &mut steps)?;
    publisher.publish(messages, None).await?;
    if let Some(acks) = apply(shared, steps) {
        acknowledge(acks).await;
    }
    Ok(())
}

/// Says what is to be published. Deliveries that are over are left out, with everything that they would publish.
fn plan(
    shared: &Shared,
    publisher: &Publisher,
    settlements: Vec<Settlement>,
    now: Timestamp,
    messages: &mut Vec<Message>,
    steps: &mut Vec<Step>,
) -> Result<()> {
    let state = shared.state();
    // Whoever let go of the receiver has let go of what it had.
    if shared.stop.is_cancelled() {
        return Ok(());
    }
    let mut over = std::collections::HashSet::new();
    for settlement in settlements {
        let tag = settlement.tag();
        let Some(entry) = state.held(tag).filter(|_| !over.contains(&tag)) else { continue };
        match settlement {
            Settlement::Ack { publish, .. } => {
                let stamps = publisher.stamps(publish.len());
                for (outgoing, sent) in publish.into_iter().zip(stamps) {
                    wire::check(&outgoing.envelope)?;
                    messages.push(wire::event(outgoing.topic.as_str(), &outgoing.envelope, sent));
                }
                steps.push(Step::Ack(tag));
            }
            Settlement::Return { .. } => steps.push(Step::Return(tag)),
            Settlement::Defer { attempts, not_before, .. } => {
                let note = Note::Deferred { event: entry.envelope.id.clone(), attempts, not_before: not_before.0 };
                let written = Written::new(shared.me(), note, None);
                messages.push(written.message(&shared.names.aside, now)?);
                steps.push(Step::Defer(tag, attempts, not_before, written));
                continue;
            }
            Settlement::Park { attempts, lanes, reason, .. } => {
                let class = |mode: Mode| match mode {
                    Mode::Exclusive => None,
                    Mode::Shared(class) => Some(class),
                };
                let note = Note::Parked {
                    position: tag.position,
                    attempts,
                    lanes: lanes.into_iter().map(|(Lane(lane), mode)| (lane, class(mode))).collect(),
                    content_type: entry.envelope.data_content_type.as_ref().map(|kind| kind.to_string()),
                    reason,
                    since: now.0,
                    published: entry.published.0,
                    malformed: entry.malformed.as_ref().map(|reason| reason.to_string()),
                };
                let written = Written::new(shared.me(), note, Some((*entry.envelope).clone()));
                messages.push(written.message(&shared.names.aside, now)?);
                steps.push(Step::Park(tag, written));
            }
        }
        over.insert(tag);
    }
    Ok(())
}

/// Tags to acknowledge, by the queue that they belong to.
#[derive(Default)]
struct Tags {
    queue: Vec<u64>,
    aside: Vec<u64>,
}

/// Acknowledgements for the channels that the deliveries came on.
struct Acks {
    channels: Channels,
    all: Option<u64>,
    single: Vec<u64>,
    aside: Vec<u64>,
}

impl Tags {
    /// Under the lock that the tags were found under: tags of one connection mean something else on the next.
    fn acks(self, state: &mut State) -> Option<Acks> {
        let channels = state.channels.clone()?;
        let (all, single) = state.acknowledge(&self.queue);
        Some(Acks { channels, all, single, aside: self.aside })
    }
}

fn apply(shared: &Shared, steps: Vec<Step>) -> Option<Acks> {
    let mut tags = Tags::default();
    let mut state = shared.state();
    for step in steps {
        match step {
            Step::Ack(tag) => {
                let Some(event) = state.held(tag).map(|entry| entry.envelope.id.clone()) else { continue };
                tags.aside.extend(state.aside.forget(&event));
                tags.queue.extend(state.settle(tag.position));
            }
            Step::Return(tag) => {
                if state.held(tag).is_some() {
                    state.give_back(tag.position);
                }
            }
            Step::Defer(tag, attempts, not_before, written) => {
                // Where another instance has become the active one, what it finds is in force.
                if state.held(tag).is_some() {
                    state.defer(tag.position, attempts, not_before);
                    tags.aside.extend(state.aside.noted(written));
                }
            }
            Step::Park(tag, written) => {
                if state.held(tag).is_some() {
                    tags.aside.extend(state.aside.noted(written));
                    tags.queue.extend(state.settle(tag.position));
                }
            }
        }
    }
    let acks = tags.acks(&mut state);
    drop(state);
    shared.arrived.notify_waiters();
    acks
}

async fn unpark(shared: &Shared, publisher: &Publisher, tags: Vec<DeliveryTag>) -> Result<Vec<Delivery>> {
    let written = {
        let state = shared.state();
        let mut events: Vec<EventId> = Vec::with_capacity(tags.len());
        for tag in &tags {
            let parked = state.aside.parked_at(tag.position).filter(|_| tag.incarnation == state.incarnation);
            let parked = parked.filter(|parked| !events.contains(&parked.envelope.id));
            let Some(parked) = parked else {
                return Err(Error::new(Code::NotParked, format!("event {} is not parked", tag.position)));
            };
            events.push(parked.envelope.id.clone());
        }
        Written::new(shared.me(), Note::Unparked { events }, None)
    };
    if tags.is_empty() {
        return Ok(Vec::new());
    }
    let message = written.message(&shared.names.aside, SystemClock.now())?;
    publisher.publish(vec![message], None).await?;
    let mut back = Vec::with_capacity(tags.len());
    let acks = {
        let mut over = Vec::new();
        let mut state = shared.state();
        if tags.iter().any(|tag| tag.incarnation != state.incarnation) {
            // Whoever is the active instance now finds the note.
            return Err(Error::new(Code::NotParked, "another instance has become the active one"));
        }
        let parked: Vec<_> = tags.iter().filter_map(|tag| state.aside.parked_at(tag.position).cloned()).collect();
        over.extend(state.aside.noted(written));
        for parked in parked {
            over.extend(state.aside.no_longer_deferred(&parked.envelope.id));
            let envelope = Arc::new(parked.envelope);
            back.push(Delivery {
                envelope: envelope.clone(),
                tag: DeliveryTag { position: parked.position, incarnation: state.incarnation },
                attempt: 1,
                not_before: None,
                published: parked.published,
                malformed: parked.malformed.as_deref().map(Into::into),
            });
            state.unparked(parked.position, envelope, parked.published, parked.malformed);
        }
        Tags { queue: Vec::new(), aside: over }.acks(&mut state)
    };
    if let Some(acks) = acks {
        acknowledge(acks).await;
    }
    Ok(back)
}

/// Sends acknowledgements, in order. They have no answer, so they can be lost with the connection. When the channels are gone the server delivers again, and what is over is recognised by
/// its id and acknowledged then.
async fn acknowledge(acks: Acks) {
    let Acks { channels, all, single, aside } = acks;
    let one = |multiple| BasicAckOptions { multiple };
    // Polled in this order for the first time, which is the order on the wire. A note goes before the note after it.
    let notes = aside.into_iter().map(|tag| channels.aside.basic_ack(tag, one(false)));
    let notes = join_all(notes);
    let queue = all.into_iter().map(|tag| (tag, true)).chain(single.into_iter().map(|tag| (tag, false)));
    let queue = join_all(queue.map(|(tag, multiple)| channels.queue.basic_ack(tag, one(multiple))));
    drop(tokio::join!(notes, queue));
}
