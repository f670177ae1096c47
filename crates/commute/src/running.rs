//! A running app: its tasks, and the handle that watches, releases and stops it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use commute_core::admin::DEAD_LETTERS;
use commute_core::{
    Broker, Code, Error, Lane, Operate, Outbox, Receiver, Result, SharedBroker, Store, SubscriptionName,
    SubscriptionSpec,
};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::contract::Contract;
use crate::control::Front;
use crate::engine::{Engine, Revoked, Sub};
use crate::handler::subscription_lane;
use crate::monitor::Monitor;
use crate::operate::{Gate, Operator};
use crate::parking;
use crate::plan::plan;
use crate::publish::Publisher;
use crate::stats::{Counters, Stats};
use crate::{consumer, depth, relay, sampler, settle, timer, worker};

/// A lease is how long a backend on the other side of a network waits for a sign of life.
const LEASE: Duration = Duration::from_secs(60);

/// A started app. Dropping it stops it at once, as a crash would: what is unsettled is delivered again.
pub struct Running {
    pub(crate) engine: Arc<Engine>,
    pub(crate) operator: Arc<Operator>,
    store: Option<Arc<dyn Store>>,
    pub(crate) outbox: Option<Arc<dyn Outbox>>,
    consumers: Vec<JoinHandle<Box<dyn Receiver>>>,
    workers: TaskTracker,
    others: TaskTracker,
    drain: Duration,
    front: Option<Arc<Front>>,
    #[cfg(feature = "admin")]
    admin: Option<crate::endpoints::Admin>,
}

/// What a stop left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Events that were taken and not handled; they are delivered again at the next start.
    pub unhandled: usize,
    /// Events that are staged in the store; they are published at the next start.
    pub staged: usize,
}

impl Running {
    pub(crate) async fn start(app: App, broker: SharedBroker) -> Result<Running> {
        let (name, clock, limits, drain) = (app.name.clone(), app.clock.clone(), app.limits, app.drain);
        let (workers, measure, store, traces) = (app.workers, app.measure, app.store.clone(), app.traces.clone());
        let control = app.control.clone();
        #[cfg(feature = "admin")]
        let wanted = app.admin.clone();
        let (planned, contract) = plan(app, &*broker)?;
        #[cfg(feature = "admin")]
        let admin = wanted.bind().await?;
        tracing::info!(app = %name, contract = %contract, "starting");
        for warning in &contract.warnings {
            tracing::warn!(app = %name, warning, "what this contract does not give");
        }
        let (mut subscriptions, mut receivers) = (Vec::new(), Vec::new());
        for planned in planned {
            let mut spec = SubscriptionSpec::new(planned.route.topic.clone(), planned.route.subscription.clone())
                .credit(limits.look_ahead)
                .lease(LEASE);
            (spec.mapping, spec.queue) = (planned.mapping.clone(), planned.queue.clone());
            let whole = subscription_lane(planned.route.topic.as_str(), &planned.route.subscription);
            let opened = broker.subscribe(spec).await?;
            receivers.push(opened.receiver);
            subscriptions.push(Sub {
                planned,
                whole,
                settler: opened.settler,
                counters: Counters::new(),
                revoked: Revoked::default(),
                gate: Gate::default(),
            });
        }
        keep_dead_letters(&*broker, &subscriptions).await?;
        let front = match control {
            Some(path) => Some(Front::at(&path, broker.clone()).await?),
            None => None,
        };
        let engine = Engine::new(name, broker, clock, subscriptions, limits, workers, measure, traces);
        let engine = Arc::new(engine);
        parking::recall(&engine).await?;
        let outbox = store.as_ref().map(|store| store.outbox());
        let others = TaskTracker::new();
        let operator = Operator {
            engine: engine.clone(),
            contract: Arc::new(contract),
            outbox: outbox.clone(),
            tasks: others.clone(),
        };
        let mut running = Running {
            engine,
            operator: Arc::new(operator),
            store,
            outbox,
            consumers: Vec::new(),
            workers: TaskTracker::new(),
            others,
            drain,
            front,
            #[cfg(feature = "admin")]
            admin,
        };
        running.spawn(receivers);
        #[cfg(feature = "admin")]
        if let Some(admin) = &running.admin {
            admin.show(running.monitor());
        }
        let operator: Arc<dyn Operate> = running.operator.clone();
        let doors = [running.engine.broker.attached(), running.front.as_ref().and_then(|front| front.attached())];
        doors.into_iter().flatten().for_each(|attached| attached.attach(&operator));
        Ok(running)
    }

    fn spawn(&mut self, receivers: Vec<Box<dyn Receiver>>) {
        let engine = &self.engine;
        self.others.spawn(settling(engine.clone()));
        self.others.spawn(timer::tick(engine.clone()));
        self.others.spawn(depth::watch(engine.clone()));
        self.others.spawn(sampler::sample(engine.clone()));
        if let Some(outbox) = &self.outbox {
            self.others.spawn(relay::relay(engine.clone(), outbox.clone()));
        }
        for _ in 0..engine.workers {
            self.workers.spawn(worker::work(engine.clone()));
        }
        for (n, receiver) in receivers.into_iter().enumerate() {
            self.consumers.push(tokio::spawn(consumer::consume(engine.clone(), n, receiver)));
        }
        self.workers.close();
        self.others.close();
    }

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
    /// # Errors
    /// `NotParked` when the lane is not parked; the broker's otherwise.
    pub async fn release(&self, lane: Lane) -> Result<usize> {
        parking::release(&self.engine, lane).await
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
        let mut receivers = Vec::new();
        for consumer in self.consumers.drain(..) {
            receivers.extend(consumer.await);
        }
        engine.stop.working.cancel();
        let drained = async {
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
        let left = Left {
            unhandled: engine.dispatch().in_flight.iter().sum(),
            staged: self.outbox.as_ref().map_or(0, |outbox| outbox.len()),
        };
        engine.stop.everything.cancel();
        if let Some(front) = &self.front {
            front.end().await;
        }
        if let Some(store) = &self.store {
            store.close().await?;
        }
        self.others.wait().await;
        drop(receivers);
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

async fn settling(engine: Arc<Engine>) {
    let settlers: Vec<_> = engine.subscriptions.iter().map(|sub| sub.settler.clone()).collect();
    let settled = tokio::select! {
        biased;
        () = engine.stop.everything.cancelled() => return,
        settled = settle::settle(&engine, &settlers) => settled,
    };
    if let Err(error) = settled {
        engine.fail(error);
    }
}

/// Makes sure that dead letters are kept until somebody decides about them, where the broker can.
async fn keep_dead_letters(broker: &dyn Broker, subscriptions: &[Sub]) -> Result<()> {
    let Some(admin) = broker.admin().filter(|_| broker.capabilities().retained) else { return Ok(()) };
    let topics = subscriptions.iter().flat_map(|sub| &sub.planned.handlers).map(|handler| &handler.dead_letters);
    let topics: BTreeSet<_> = topics.collect();
    for topic in topics {
        let name = SubscriptionName { topic: topic.clone(), group: DEAD_LETTERS.to_owned() };
        match admin.keep(name).await {
            Err(error) if error.code() == Code::NeedNotMet => {}
            kept => kept?,
        }
    }
    Ok(())
}
