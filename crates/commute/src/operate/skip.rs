//! Skipping: an event is given up by a person. It becomes a dead letter, and its lanes go on.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use commute_core::admin::Ended;
use commute_core::{
    Code, Context, DeliveryTag, Envelope, Error, EventId, Outgoing, Result, Settlement, SubscriptionName,
};
use commute_scheduler::{Standing, Withdrawn};

use super::find;
use crate::counters::Counters;
use crate::dead_letter::letter;
use crate::engine::{Dispatch, Engine, SetAside, Waiting};
use crate::parking::{close, connected, forget, put_in_order, take_back};

const REASON: &str = "skipped by an operator";

/// Admission is closed meanwhile, so the event is where it is found, or its worker has it.
pub(crate) async fn skip(engine: &Engine, n: usize, id: &EventId) -> Result<()> {
    let (_closed, parked) = close(engine).await;
    if let Some((tag, envelope)) = find::taken(engine, n, id).await {
        skip_taken(engine, n, tag, &envelope)?;
    } else if let Some((event, envelope)) = find::parked(engine, n, &parked, id).await {
        skip_parked(engine, &parked, &event, envelope).await?;
    } else {
        skip_stored(engine, n, id).await?;
    }
    Counters::add(&engine.subscriptions[n].counters.dead);
    tracing::warn!(app = %engine.name, subscription = %engine.subscriptions[n].named(), event = %id, "skipped by an operator");
    engine.work.notify_one();
    engine.room.notify_waiters();
    Ok(())
}

fn written(
    engine: &Engine,
    n: usize,
    envelope: &Arc<Envelope>,
    attempts: u32,
    reason: String,
) -> Result<Vec<Outgoing>> {
    let sub = &engine.subscriptions[n];
    let handler = sub.handler_of(&envelope.event_type);
    let topic = handler.map_or(&sub.planned.dead_letters, |handler| &sub.handler(handler).dead_letters);
    let published = envelope.time;
    let context =
        Context { envelope: envelope.clone(), route: sub.planned.route.clone(), attempt: attempts, published };
    letter(&engine.signer(), topic, &context, attempts, Code::Rejected, reason)
}

/// One that waits, or could run, or waits for its next attempt.
fn skip_taken(engine: &Engine, n: usize, tag: DeliveryTag, envelope: &Arc<Envelope>) -> Result<()> {
    let mut dispatch = engine.dispatch();
    let Some(attempt) = dispatch.taken(n).find(|event| event.tag == tag).map(|event| event.attempt) else {
        return Err(over(&envelope.id));
    };
    let letter = written(engine, n, envelope, attempt.saturating_sub(1), REASON.to_owned())?;
    dispatch.take_out(n, tag, engine).map_err(|Busy| {
        let detail = format!("event {} is being handled now; wait until this attempt is over", envelope.id);
        Error::new(Code::GroupBusy, detail)
    })?;
    let mark = engine.broker.capabilities().inbox_retention.is_some();
    engine.settle.push([(n, Settlement::Ack { tag, publish: letter, mark })]);
    Ok(())
}

/// A worker has the event.
struct Busy;

impl Dispatch {
    /// Takes an event out that no worker has.
    fn take_out(&mut self, n: usize, tag: DeliveryTag, engine: &Engine) -> std::result::Result<(), Busy> {
        let found = self.admitted.iter().flatten().find(|event| event.subscription == n && event.tag == tag);
        let retrying = &engine.subscriptions[n].counters.retrying;
        if let Some(ticket) = found.and_then(|event| event.ticket) {
            if self.scheduler.standing(ticket) == Some(Standing::Running)
                || self.scheduler.withdraw(ticket) != Some(Withdrawn::Gone)
            {
                return Err(Busy);
            }
            if self.remove(ticket).is_some_and(|event| event.backing_off) {
                retrying.fetch_sub(1, Ordering::Relaxed);
            }
            return Ok(());
        }
        let is_it = |Reverse((_, _, waiting)): &Reverse<(_, u64, Waiting)>| match waiting {
            Waiting::Released(event) => event.subscription == n && event.tag == tag,
            Waiting::Held(_) => false,
        };
        let before = self.due.len();
        self.due.retain(|waiting| !is_it(waiting));
        if self.due.len() < before {
            self.in_flight[n] -= 1;
            retrying.fetch_sub(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// One that is parked. What was set aside behind it, and behind nothing else that failed, comes back.
async fn skip_parked(engine: &Engine, parked: &[SetAside], event: &SetAside, envelope: Arc<Envelope>) -> Result<()> {
    let (n, tag) = (event.subscription, event.tag);
    let reason = match &event.reason {
        Some(reason) => format!("{REASON}; it was parked: {reason}"),
        None => REASON.to_owned(),
    };
    let letter = written(engine, n, &envelope, event.attempts, reason)?;
    let sub = &engine.subscriptions[n];
    let ended = end(engine, sub.named(), tag.position, letter.clone()).await?;
    match ended {
        // It is forgotten also when another instance gave it up.
        Some(_) => {}
        None => {
            // In two steps. After a crash in between it is delivered again, in its place.
            let mark = engine.broker.capabilities().inbox_retention.is_some();
            for delivery in sub.settler.unpark(vec![tag]).await? {
                let ack = Settlement::Ack { tag: delivery.tag, publish: letter.clone(), mark };
                engine.settle.push([(n, ack)]);
            }
        }
    }
    forget(&mut engine.dispatch(), engine, std::slice::from_ref(event));
    let mut left = connected(parked, |other| is(other, event));
    left.retain(|other| !is(other, event));
    // A failure leaves them parked: they can be released.
    take_back(engine, &behind_nothing(&left)).await?;
    if ended == Some(false) { Err(over(&envelope.id)) } else { Ok(()) }
}

/// Those that hang together with nothing that failed on its own.
fn behind_nothing(parked: &[SetAside]) -> Vec<SetAside> {
    let failed = connected(parked, |event| event.reason.is_some());
    let mut free: Vec<_> =
        parked.iter().filter(|event| !failed.iter().any(|other| is(other, event))).cloned().collect();
    put_in_order(&mut free);
    free
}

fn is(one: &SetAside, other: &SetAside) -> bool {
    (one.subscription, one.tag) == (other.subscription, other.tag)
}

/// One that the broker has, because the subscription is paused: nobody takes it meanwhile.
async fn skip_stored(engine: &Engine, n: usize, id: &EventId) -> Result<()> {
    let sub = &engine.subscriptions[n];
    let unknown = || {
        let detail =
            format!("{} has not taken an event {id}; pause the subscription to skip one that waits", sub.named());
        Error::new(Code::NotFound, detail)
    };
    if !sub.gate.is_shut() {
        return Err(unknown());
    }
    let Some(admin) = engine.broker.admin() else { return Err(unknown()) };
    let traced = admin.journey(id.clone(), MOST_TRACED).await.map_err(|_| unknown())?;
    let here = |topic: &str| topic == sub.planned.route.topic.as_str();
    let stored =
        traced.into_iter().map(|traced| traced.stored).find(|stored| stored.event.id == *id && here(&stored.topic));
    let stored = stored.ok_or_else(unknown)?;
    let letter = written(engine, n, &Arc::new(stored.event), 0, REASON.to_owned())?;
    match end(engine, sub.named(), stored.position, letter).await? {
        Some(true) => Ok(()),
        Some(false) => Err(over(id)),
        None => Err(unknown()),
    }
}

/// What an event has caused is not asked for, but comes with it.
const MOST_TRACED: usize = 100;

/// Ends an event and publishes its dead letter in one step. Answers whether it was not over before; `None` when the broker
/// cannot.
async fn end(engine: &Engine, name: SubscriptionName, position: u64, letter: Vec<Outgoing>) -> Result<Option<bool>> {
    let Some(admin) = engine.broker.admin() else { return Ok(None) };
    match admin.end(name, vec![Ended { position, publish: letter }]).await {
        Ok(ended) => Ok(Some(ended.into_iter().all(|ended| ended))),
        Err(error) if error.code() == Code::NeedNotMet => Ok(None),
        Err(error) => Err(error),
    }
}

fn over(id: &EventId) -> Error {
    Error::new(Code::NotFound, format!("event {id} is over by now"))
}
