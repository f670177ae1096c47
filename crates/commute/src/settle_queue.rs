//! The settle queue: what is decided about deliveries and not durable yet, in the order in which it was decided.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use commute_core::{Outgoing, Settlement};
use tokio::sync::Notify;

use crate::lock::lock;

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

    /// Waits for something to settle, and takes all of it: settlements, and what is published behind them. Cancel safe. Each
    /// batch counts as waiting until [`SettleQueue::done`].
    pub(crate) async fn next(&self) -> (Vec<(usize, Settlement)>, Vec<Outgoing>) {
        loop {
            // Taken first: what it tells of was handed over before it.
            let told = std::mem::take(&mut *lock(&self.told));
            let batch = {
                let mut waiting = lock(&self.waiting);
                // What comes next is probably about as much.
                let room = Vec::with_capacity(waiting.len());
                std::mem::replace(&mut *waiting, room)
            };
            if !batch.is_empty() || !told.is_empty() {
                return (batch, told);
            }
            // Room for a burst is not kept while nothing comes.
            drop(batch);
            self.wake.notified().await;
        }
    }

    /// So much of what was taken is durable.
    pub(crate) fn done(&self, count: usize) {
        self.durable.fetch_add(count as u64, Ordering::AcqRel);
        self.settled.notify_waiters();
    }

    /// As if a broker had made everything durable.
    #[cfg(test)]
    pub(crate) fn forget_all(&self) {
        let count = std::mem::take(&mut *lock(&self.waiting)).len();
        self.done(count);
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
