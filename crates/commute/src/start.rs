//! Starting: an app that is put together becomes one that runs.
//!
//! The configuration decides, the plan checks, and only then subscriptions are opened: no event is read of an app in which
//! something is wrong.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use commute_core::admin::DEAD_LETTERS;
use commute_core::{Broker, Code, Error, Operate, Receiver, Result, SharedBroker, SubscriptionName, SubscriptionSpec};
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::contract::Contract;
use crate::control::Front;
use crate::counters::Counters;
use crate::engine::{Engine, Revoked, Sub};
use crate::gate::Gate;
use crate::handler::subscription_lane;
use crate::operate::Operator;
use crate::parking;
use crate::plan::plan;
use crate::running::Running;
use crate::{consumer, depth, relay, sampler, settle, timer, worker};

/// A lease is how long a backend on the other side of a network waits for a sign of life.
const LEASE: Duration = Duration::from_secs(60);

impl App {
    /// What this app would be promised, without starting it.
    ///
    /// # Errors
    /// `InvalidConfig` or `InvalidApp`, with everything that is wrong. Where the configuration names the broker, `InvalidApp`
    /// before [`Config::connect`] has been called.
    pub fn contract(self) -> Result<Contract> {
        let app = self.configured()?;
        let broker = app.connected()?;
        plan(app, &*broker).map(|(_, contract)| contract)
    }

    /// Starts it: opens its subscriptions and begins to handle events.
    ///
    /// # Errors
    /// `InvalidConfig` or `InvalidApp` with everything that is wrong, or the broker's; no event was read then.
    pub async fn start(self) -> Result<Running> {
        let app = self.configured()?;
        if app.config.has_broker() {
            app.config.connect().await?;
        }
        let broker = app.connected()?;
        Running::begin(app, broker).await
    }

    /// Starts it and runs until the process is asked to stop (interrupt or terminate signal); then drains. A second
    /// signal stops at once: what was being handled is delivered again at the next start.
    ///
    /// # Errors
    /// As [`App::start`]; later, the failure that made it stop.
    pub async fn run(self) -> Result<()> {
        let running = self.start().await?;
        let mut signals = crate::shutdown::Signals::listen()?;
        tokio::select! {
            () = signals.next() => {}
            failure = running.failed() => return Err(failure),
        }
        tokio::select! {
            () = signals.next() => Ok(()),
            stopped = running.stop() => stopped.map(drop),
        }
    }

    fn configured(self) -> Result<App> {
        self.config.clone().apply(self)
    }

    fn connected(&self) -> Result<SharedBroker> {
        let (broker, say) = match self.config.has_broker() {
            true => (self.config.connected(), "the configuration names one; await config.connect() first"),
            false => (self.broker.clone(), "say .broker(…), or `broker` in a configuration"),
        };
        broker.ok_or_else(|| Error::new(Code::InvalidApp, format!("app {:?} has no broker; {say}", self.name)))
    }
}

impl Running {
    async fn begin(app: App, broker: SharedBroker) -> Result<Running> {
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
        self.others.spawn(settle::settle(engine.clone()));
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
