//! A running app: its tasks, and the handle that watches, releases and stops it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use commute_core::{Code, Error, Lane, Outbox, Receiver, Result, Store};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use crate::contract::Contract;
use crate::control::Front;
use crate::engine::Engine;
use crate::monitor::{Left, Monitor};
use crate::operate::Operator;
use crate::parking;
use crate::publish::Publisher;
use crate::stats::Stats;

/// A started app. Dropping it stops it at once, as a crash would: what is unsettled is delivered again.
pub struct Running {
    pub(crate) engine: Arc<Engine>,
    pub(crate) operator: Arc<Operator>,
    pub(crate) store: Option<Arc<dyn Store>>,
    pub(crate) outbox: Option<Arc<dyn Outbox>>,
    pub(crate) consumers: Vec<JoinHandle<Box<dyn Receiver>>>,
    pub(crate) workers: TaskTracker,
    pub(crate) others: TaskTracker,
    pub(crate) drain: Duration,
    pub(crate) front: Option<Arc<Front>>,
    #[cfg(feature = "admin")]
    pub(crate) admin: Option<crate::endpoints::Admin>,
}

impl Running {
    /// What this app is promised.
    pub fn contract(&self) -> &Contract {
        &self.operator.contract
    }

    /// Where [`App::admin`] answers, if it was said.
    #[cfg(feature = "admin")]
    pub fn admin_address(&self) -> Option<std::net::SocketAddr> {
        self.admin.as_ref().map(crate::endpoints::Admin::address)
    }

    /// A handle for whoever looks on.
    pub fn monitor(&self) -> Monitor {
        let (engine, contract, outbox) = (self.engine.clone(), self.operator.contract.clone(), self.outbox.clone());
        Monitor { engine, outbox, contract }
    }

    /// A publisher that signs with the app's name and is counted in its statistics.
    pub fn publisher(&self) -> Publisher {
        let (engine, published) = (&self.engine, self.engine.published.clone());
        Publisher::with_clock(engine.broker.clone(), engine.name.clone(), engine.clock.clone()).counted(published)
    }

    /// What it has done, and what it holds now.
    pub fn stats(&self) -> Stats {
        self.monitor().stats()
    }

    /// Whether everything that was published to it is settled and published on. Parked events do not count as waiting; what
    /// is stored for a paused subscription does.
    ///
    /// # Errors
    /// The broker's, and `NeedNotMet` when it cannot say what is stored.
    pub async fn is_idle(&self) -> Result<bool> {
        let engine = &self.engine;
        // Where an event is moves one way: broker, dispatch, settle queue, outbox. Looked at in this order, an event on
        // its way cannot be missed in all of them.
        for subscription in &engine.subscriptions {
            let Some(backlog) = subscription.settler.backlog().await? else {
                return Err(Error::new(Code::NeedNotMet, "this broker cannot say what is stored"));
            };
            subscription.counters.backlog.store(backlog, Ordering::Relaxed);
            if backlog > 0 {
                return Ok(false);
            }
        }
        let held = engine.in_hand.load(Ordering::Acquire) > 0
            || engine.dispatch().in_flight.iter().any(|held| *held > 0)
            || !engine.settle.is_empty();
        Ok(!held && self.outbox.as_ref().is_none_or(|outbox| outbox.is_empty()))
    }

    /// Waits until [`Running::is_idle`] has been true twice in a row with nothing received in between.
    ///
    /// # Errors
    /// The failure that stopped the app, and as [`Running::is_idle`]; a broker that is away for a while is waited for.
    pub async fn idle(&self) -> Result<()> {
        let mut before = None;
        loop {
            let idle = match self.is_idle().await {
                Err(error) if error.is_retryable() => false,
                asked => asked?,
            };
            let received: u64 =
                self.engine.subscriptions.iter().map(|sub| sub.counters.received.load(Ordering::Relaxed)).sum();
            if idle && before == Some(received) {
                return Ok(());
            }
            before = idle.then_some(received);
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(2)) => {}
                failure = self.failed() => return Err(failure),
            }
        }
    }

    /// Releases a parked lane, and with it every lane that its events hold; they come back in the order in which they
    /// were set aside, before anything that arrives later, and are tried anew. Answers how many came back.
    ///
    /// It is done to the end even if the future is dropped.
    ///
    /// # Errors
    /// `NotParked` when the lane is not parked; the broker's otherwise.
    pub async fn release(&self, lane: Lane) -> Result<usize> {
        self.operator.to_the_end(move |engine| async move { parking::release(&engine, lane).await }).await
    }

    /// The parked lanes, each once, in the order in which they were parked.
    pub fn parked_lanes(&self) -> Vec<Lane> {
        let mut lanes = Vec::new();
        for (lane, _) in self.engine.dispatch().parked.iter().flat_map(|event| &event.lanes) {
            if !lanes.contains(lane) {
                lanes.push(*lane);
            }
        }
        lanes
    }

    /// Waits until the app fails by itself, and answers why. Cancel safe.
    pub async fn failed(&self) -> Error {
        loop {
            self.engine.stop.everything.cancelled().await;
            if let Some(failure) = self.engine.failure.get() {
                // Errors cannot be cloned; this one says the same.
                let said = Error::new(failure.code(), failure.detail());
                return match std::error::Error::source(failure) {
                    Some(cause) => said.caused_by(cause.to_string()),
                    None => said,
                };
            }
            std::future::pending::<()>().await;
        }
    }

    /// Stops in the documented order: takes no more deliveries, finishes what is being handled (up to the drain time),
    /// flushes settlements, publishes what is staged, closes the subscriptions. The broker stays open; it may be
    /// shared. Nothing is lost however it ends.
    ///
    /// # Errors
    /// The failure that stopped the app before.
    pub async fn stop(mut self) -> Result<Left> {
        let engine = self.engine.clone();
        let deadline = tokio::time::Instant::now() + self.drain;
        engine.stop.receiving.cancel();
        let (mut consumers, mut receivers) = (std::mem::take(&mut self.consumers), Vec::new());
        let drained = async {
            for consumer in &mut consumers {
                receivers.push(consumer.await);
            }
            engine.stop.working.cancel();
            self.workers.wait().await;
            while engine.dispatch().transacting > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            engine.settle.flushed().await;
            while self.outbox.as_ref().is_some_and(|outbox| !outbox.is_empty()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            () = drained => {}
            () = tokio::time::sleep_until(deadline) => {
                tracing::warn!(app = %engine.name, "the drain time is over; what was being handled is delivered again");
            }
            () = engine.stop.everything.cancelled() => {}
        }
        engine.stop.working.cancel();
        let left = Left {
            unhandled: engine.dispatch().in_flight.iter().sum(),
            staged: self.outbox.as_ref().map_or(0, |outbox| outbox.len()),
        };
        engine.stop.everything.cancel();
        if let Some(front) = &self.front {
            front.end().await;
        }
        let closed = match &self.store {
            Some(store) => store.close().await,
            None => Ok(()),
        };
        self.others.wait().await;
        // A consumer that did not end in time waits for the broker.
        for consumer in consumers.into_iter().skip(receivers.len()) {
            consumer.abort();
            receivers.push(consumer.await);
        }
        drop(receivers);
        closed?;
        #[cfg(feature = "admin")]
        if let Some(admin) = self.admin.take() {
            admin.end().await;
        }
        match engine.failure.get() {
            Some(_) => Err(self.failed().await),
            None => Ok(left),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.engine.stop.all();
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Running({})", self.engine.name)
    }
}
