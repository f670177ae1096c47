//! Settling: the last word on a delivery.
//!
//! Outcomes arrive from workers and stores, settlements leave for the broker, in the order in which they arrived. Nothing
//! else in the engine may settle, so this is the file to read when something was lost or doubled.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use commute_core::{Outgoing, Result, Settlement, Settler, Topic};
use futures_util::future::join_all;
use tokio::sync::Notify;

use crate::engine::Engine;
use crate::relay;
use crate::stats::lock;

/// What waits to be settled. Bounded by the credit of the subscriptions: a delivery has at most one settlement that
/// ends it, and one deferral per attempt.
#[derive(Debug, Default)]
pub(crate) struct SettleQueue {
    waiting: Mutex<Vec<(usize, Settlement)>>,
    /// To be published behind what is settled: who asked is told that an event is parked.
    told: Mutex<Vec<Outgoing>>,
    /// Ever handed over.
    handed: AtomicU64,
    /// Of these, durable.
    durable: AtomicU64,
    wake: Notify,
    settled: Notify,
}

impl SettleQueue {
    /// Hands over settlements; conflicting events must be handed over in their order.
    pub(crate) fn push(&self, settlements: impl IntoIterator<Item = (usize, Settlement)>) {
        let mut waiting = lock(&self.waiting);
        let before = waiting.len();
        waiting.extend(settlements);
        let more = waiting.len() - before;
        if more > 0 {
            self.handed.fetch_add(more as u64, Ordering::AcqRel);
            drop(waiting);
            self.wake.notify_one();
        }
    }

    /// Hands over what is published when everything handed over before is settled.
    pub(crate) fn tell(&self, told: Option<Outgoing>) {
        let Some(told) = told else { return };
        self.handed.fetch_add(1, Ordering::AcqRel);
        lock(&self.told).push(told);
        self.wake.notify_one();
    }

    /// As if a broker had made everything durable.
    #[cfg(test)]
    pub(crate) fn forget_all(&self) {
        let count = std::mem::take(&mut *lock(&self.waiting)).len() as u64;
        self.durable.fetch_add(count, Ordering::AcqRel);
        self.settled.notify_waiters();
    }

    /// Whether everything handed over is durable.
    pub(crate) fn is_empty(&self) -> bool {
        // In this order: what is durable was handed over.
        self.durable.load(Ordering::Acquire) == self.handed.load(Ordering::Acquire)
    }

    /// Waits until everything handed over so far is durable.
    pub(crate) async fn flushed(&self) {
        let so_far = self.handed.load(Ordering::Acquire);
        loop {
            let settled = self.settled.notified();
            if self.durable.load(Ordering::Acquire) >= so_far {
                return;
            }
            settled.await;
        }
    }
}

/// Settles until it is dropped or the broker fails for good.
///
/// Commit first, then ack: the store has committed before a settlement gets here, so a crash in between delivers twice,
/// and the inbox makes twice harmless. The other order would lose the event.
pub(crate) async fn settle(engine: &Engine, settlers: &[Arc<dyn Settler>]) -> Result<()> {
    let queue = &engine.settle;
    loop {
        // Taken first: what it tells of was handed over before it.
        let told = std::mem::take(&mut *lock(&queue.told));
        let batch = std::mem::take(&mut *lock(&queue.waiting));
        if batch.is_empty() && told.is_empty() {
            queue.wake.notified().await;
            continue;
        }
        let count = (batch.len() + told.len()) as u64;
        let mut answers = Answers::default();
        batch.iter().for_each(|(_, settlement)| answers.note(settlement));
        // One call for each run of settlements of one subscription. `join_all` polls them in order for the first time,
        // and the broker promises that the order of effects is the order of first polls.
        let calls = runs(batch).into_iter().map(|(n, run)| settlers[n].settle(run));
        join_all(calls).await.into_iter().collect::<Result<()>>()?;
        answers.0.iter().for_each(|(topic, count)| engine.published.add(topic, *count));
        if !told.is_empty()
            && let Err(error) = relay::publish(engine, told).await
        {
            tracing::warn!(app = %engine.name, %error, "who asked is not told that events are parked");
        }
        queue.durable.fetch_add(count, Ordering::AcqRel);
        queue.settled.notify_waiters();
    }
}

/// How many events a batch publishes, by topic; few topics, so a list.
#[derive(Default)]
struct Answers(Vec<(Topic, usize)>);

impl Answers {
    fn note(&mut self, settlement: &Settlement) {
        let Settlement::Ack { publish, .. } = settlement else { return };
        for Outgoing { topic, .. } in publish {
            match self.0.iter_mut().find(|(known, _)| known == topic) {
                Some((_, count)) => *count += 1,
                None => self.0.push((topic.clone(), 1)),
            }
        }
    }
}

fn runs(batch: Vec<(usize, Settlement)>) -> Vec<(usize, Vec<Settlement>)> {
    let mut runs: Vec<(usize, Vec<Settlement>)> = Vec::new();
    for (n, settlement) in batch {
        match runs.last_mut() {
            Some((last, run)) if *last == n => run.push(settlement),
            _ => runs.push((n, vec![settlement])),
        }
    }
    runs
}
