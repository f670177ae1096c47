//! The app in a test: publishes to it, drives it, lets time pass for it, breaks it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use commute_core::{Code, Error, Event, EventId, Key, Receipt, Result, SharedBroker};
use tokio::time::Instant;

use super::attempt::{Around, Part};
use super::broker::Observed;
use super::failing::Failing;
use super::journal::What;
use super::production::Make;
use super::quiet::{Rest, drive};
use super::shared::{Chance, Life, Shared, WHOLE};
use super::time::{TestClock, Time};
use crate::app::App;
use crate::drivers::TestBackend;
use crate::handler::layered;
use crate::lock::lock;
use crate::publish::{Message, Publisher};
use crate::running::Running;

/// Where the time is real, a test does not wait longer than this.
const LONGEST: Duration = Duration::from_secs(60);

/// So often a storage that is still owned is asked for again.
const OPENINGS: usize = 10_000;

/// The production app in a test.
///
/// ```
/// use std::time::Duration;
/// use commute::prelude::*;
/// use commute::testing::TestApp;
///
/// #[derive(Debug, Serialize, Deserialize, Event)]
/// #[event(type = "order.placed", key = "order")]
/// struct Placed { order: String }
///
/// async fn reserve(_order: Placed) -> Result<(), HandlerError> { Ok(()) }
///
/// fn inventory() -> App {
///     App::new("inventory").on("orders", handler(reserve))
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> commute::Result<()> {
/// let mut app = TestApp::start(inventory).await?;
/// app.fail("orders", "order.placed").attempts(1..=2).retry("down");
/// app.publish("orders", &Placed { order: "o-1".into() }).await?;
/// app.idle().await?;
/// app.handled::<Placed>("orders").none();
/// app.advance(Duration::from_secs(60)).await?;
/// app.handled::<Placed>("orders").once();
/// app.dead_letters().none();
/// # Ok(())
/// # }
/// ```
///
/// Dropping it ends the app like a crash would; what is in memory is gone then.
pub struct TestApp {
    pub(super) shared: Arc<Shared>,
    apps: Vec<(Make, Option<Running>)>,
    backend: TestBackend,
    broker: Arc<Observed>,
    publisher: Publisher,
    namespace: Option<String>,
    life: Life,
    time: Time,
    chance: fastrand::Rng,
    /// How many events the test has published.
    events: u64,
}

impl TestApp {
    pub(super) async fn open(
        apps: Vec<Make>,
        backend: TestBackend,
        time: Time,
        clock: Arc<TestClock>,
        chance: Chance,
    ) -> Result<Self> {
        let shared = Arc::new(Shared::new(clock, chance));
        let unique = || format!("test-{:012x}", fastrand::Rng::new().u64(..1 << 48));
        let namespace = (!backend.is_in_process()).then(unique);
        let life = Life::default();
        let broker = opened(&backend, &shared, &life, &namespace).await?;
        let publisher = Publisher::with_clock(broker.clone(), "test", shared.clock.clone());
        let apps = apps.into_iter().map(|make| (make, None)).collect();
        let chance = fastrand::Rng::with_seed(chance.seed);
        let mut app = TestApp { shared, apps, backend, broker, publisher, namespace, life, time, chance, events: 0 };
        app.start_all().await?;
        Ok(app)
    }

    async fn start_all(&mut self) -> Result<()> {
        for (make, running) in &mut self.apps {
            let app = observed(make(self.broker.clone())?, &self.broker, &self.shared, &self.life);
            let started = app.start().await?;
            for subscription in &started.engine.subscriptions {
                let route = &subscription.planned.route;
                let name = format!("{WHOLE}{} in {}", route.topic, route.subscription);
                self.shared.name([(subscription.whole.lane, name)]);
            }
            *running = Some(started);
        }
        self.shared.record(None, What::Started);
        Ok(())
    }

    /// Publishes an event in the name of `test`, and answers its id: `event-1`, `event-2` … where the topics are the
    /// test's own.
    ///
    /// # Errors
    /// See [`Publisher::publish`].
    pub async fn publish<E: Event>(&mut self, topic: &str, event: &E) -> Result<EventId> {
        self.send(topic, Message::of(event)?).await
    }

    /// Publishes an event that is delivered after `delay` of the test's time, not before.
    ///
    /// # Errors
    /// See [`Publisher::publish`].
    pub async fn publish_after<E: Event>(&mut self, topic: &str, event: &E, delay: Duration) -> Result<EventId> {
        use commute_core::Clock;
        let due = self.shared.clock.now().plus(delay);
        self.send(topic, Message::of(event)?.not_before(due)).await
    }

    /// Publishes a message, with an id of its own unless it has one.
    ///
    /// # Errors
    /// See [`Publisher::send`].
    pub async fn send(&mut self, topic: &str, message: Message) -> Result<EventId> {
        loop {
            self.events += 1;
            let prefix =
                if self.backend.is_memory() { "event".to_owned() } else { format!("{:08x}", self.shared.chance.seed) };
            let own = EventId::new(format!("{prefix}-{}", self.events))?;
            let (id, given) = message.id_or(&own);
            let mut crashed = false;
            let receipts = loop {
                match self.publisher.send(topic, [message.clone().id(id.clone())]).await {
                    // Whoever publishes in a test does not crash with its app. Nobody knows whether the event was stored, so it
                    // is published again with its id.
                    Err(_) if self.life.is_over() => {
                        crashed = true;
                        self.revive().await?;
                    }
                    sent => break sent?,
                }
            };
            let taken = receipts.first().is_none_or(|receipt: &Receipt| !receipt.duplicate);
            // A directory may hold what an earlier test with this seed has published: the next number then.
            if taken || given || crashed {
                return Ok(id);
            }
        }
    }

    /// A publisher for more than this, on the clock of the test.
    pub fn publisher(&self) -> Publisher {
        self.publisher.clone()
    }

    /// The first of the apps, to look at; `None` while it is stopped.
    pub fn running(&self) -> Option<&Running> {
        self.apps.first().and_then(|(_, running)| running.as_ref())
    }

    /// Drives the apps until everything is settled, or waits for time to pass (a back-off, a delay, a handler that
    /// sleeps), or is parked. No time passes, except a few milliseconds while a handler waits.
    ///
    /// # Errors
    /// The failure that stopped an app; `TimedOut` when they do not come to rest.
    pub async fn idle(&mut self) -> Result<()> {
        loop {
            let apps: Vec<&Running> = self.apps.iter().filter_map(|(_, running)| running.as_ref()).collect();
            match drive(&self.shared, &self.life, &apps, &mut self.time, &mut self.chance).await? {
                Rest::Quiet => return Ok(()),
                Rest::Over => self.revive().await?,
            }
        }
    }

    /// Lets time pass: drives the apps to rest, goes to the next time that something waits for, drives on, until `time`
    /// has passed and everything is at rest.
    ///
    /// On a server the time is real. There it waits until nothing waits any more, or `time` is over.
    ///
    /// # Errors
    /// As [`TestApp::idle`]; `NeedNotMet` for more than a minute of real time.
    pub async fn advance(&mut self, time: Duration) -> Result<()> {
        self.idle().await?;
        let until = Instant::now() + time;
        if self.time.is_real() {
            return self.wait(time, until).await;
        }
        while Instant::now() < until {
            let shared = self.shared.clone();
            let mut changed = pin!(shared.changed.notified());
            changed.as_mut().enable();
            self.time.release();
            tokio::select! {
                biased;
                () = changed => {}
                () = tokio::time::sleep_until(until) => {}
            }
            self.time.hold();
            self.idle().await?;
        }
        Ok(())
    }

    async fn wait(&mut self, time: Duration, until: Instant) -> Result<()> {
        if time > LONGEST {
            let detail = format!(
                "{time:?} are to pass on {}:, whose time is real; use memory:, or shorter back-offs",
                self.backend.scheme()
            );
            return Err(Error::new(Code::NeedNotMet, detail));
        }
        loop {
            self.idle().await?;
            let retrying = self
                .apps
                .iter()
                .filter_map(|(_, running)| running.as_ref())
                .any(|running| running.stats().subscriptions.iter().any(|subscription| subscription.retrying > 0));
            if Instant::now() >= until || !(retrying || self.shared.anything_delayed()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Makes handlers fail: events of a type from a topic. See [`Failing`] for which attempts, and how.
    pub fn fail(&self, topic: &str, event_type: &str) -> Failing<'_> {
        Failing::new(&self.shared, topic, event_type)
    }

    /// Nothing fails on purpose any more.
    pub fn mend(&self) {
        lock(&self.shared.rules).clear();
    }

    /// Releases what is parked on a key, as [`Running::release`] does. Answers how many events came back.
    ///
    /// # Errors
    /// `NotParked` when no app has something parked there.
    pub async fn release(&mut self, key: impl Key) -> Result<usize> {
        let lane = key.lane();
        let mut refused = Error::new(Code::NotParked, format!("lane {lane} is not parked"));
        for (_, running) in &self.apps {
            let Some(running) = running else { continue };
            match running.release(lane).await {
                Err(error) if error.code() == Code::NotParked => refused = error,
                released => return released,
            }
        }
        Err(refused)
    }

    /// Stops the apps in order and starts them again on the same storage. Needs functions that make them.
    ///
    /// # Errors
    /// Those of stopping and starting; `InvalidApp` when an app was given instead of a function.
    pub async fn restart(&mut self) -> Result<()> {
        self.idle().await?;
        self.stop_all().await?;
        if let Some(broker) = self.broker.take() {
            broker.close().await?;
        }
        self.begin_again().await
    }

    /// Ends the apps in the middle of everything, as a crash would, and starts them again on the same storage. Needs
    /// functions that make them.
    ///
    /// # Errors
    /// Those of starting; `InvalidApp` when an app was given instead of a function.
    pub async fn crash(&mut self) -> Result<()> {
        self.life.crash(&self.shared);
        self.revive().await
    }

    /// After a crash: lets the old life end, and begins the next one.
    async fn revive(&mut self) -> Result<()> {
        for (_, running) in &self.apps {
            // As when it is dropped, and then what holds files is waited for.
            running.iter().for_each(|running| running.engine.stop.all());
        }
        // What a store was given before is committed; a broker gets nothing any more.
        let _crashed = self.stop_all().await;
        drop(self.broker.take());
        self.backend.kill();
        self.begin_again().await
    }

    async fn begin_again(&mut self) -> Result<()> {
        lock(&self.shared.gates).clear();
        self.life = Life::default();
        self.broker = opened(&self.backend, &self.shared, &self.life, &self.namespace).await?;
        self.publisher = Publisher::with_clock(self.broker.clone(), "test", self.shared.clock.clone());
        self.start_all().await
    }

    /// Stops the apps in order. What is in memory is gone then; what is elsewhere stays.
    ///
    /// # Errors
    /// The failure that stopped an app before.
    pub async fn stop(mut self) -> Result<()> {
        self.stop_all().await?;
        match self.broker.take() {
            Some(broker) => broker.close().await,
            None => Ok(()),
        }
    }

    async fn stop_all(&mut self) -> Result<()> {
        let mut result = Ok(());
        for (_, running) in &mut self.apps {
            let Some(running) = running.take() else { continue };
            let mut stopping = pin!(running.stop());
            let stopped = loop {
                // A stop waits for handlers, and they may wait for time: it passes here, a little at a time.
                let mut patience = pin!(patience(&mut self.time));
                tokio::select! {
                    biased;
                    stopped = &mut stopping => break stopped,
                    () = &mut patience => {}
                }
            };
            if let Err(error) = stopped {
                result = Err(error);
            }
        }
        self.time.hold();
        result
    }
}

/// A while without time, then a breath.
async fn patience(time: &mut Time) {
    for _ in 0..64 {
        tokio::task::yield_now().await;
        std::thread::yield_now();
    }
    time.breathe().await;
}

/// Opens the broker; an app that has just ended may own its directory for a moment still.
async fn opened(
    backend: &TestBackend,
    shared: &Arc<Shared>,
    life: &Life,
    namespace: &Option<String>,
) -> Result<Arc<Observed>> {
    let mut left = OPENINGS;
    loop {
        match backend.open(shared.clock.clone()).await {
            Err(error) if error.code() == Code::DirectoryOwned && left > 0 => {
                left -= 1;
                tokio::task::yield_now().await;
            }
            opened => {
                return opened
                    .map(|broker| Arc::new(Observed::new(broker, shared.clone(), life.clone(), namespace.clone())));
            }
        }
    }
}

/// The app as it is, with eyes.
fn observed(mut app: App, broker: &Arc<Observed>, shared: &Arc<Shared>, life: &Life) -> App {
    let around = |part| Around { shared: shared.clone(), life: life.clone(), part };
    for (_, parts) in &mut app.handlers {
        let (lanes, shared) = (parts.lanes.clone(), shared.clone());
        parts.lanes = Arc::new(move |event| {
            let (footprint, names) = commute_core::key::naming(|| lanes(event));
            shared.name(names);
            footprint
        });
    }
    let trouble = around(Part::Trouble);
    app.layers.insert(0, Box::new(move |run| layered(run, &trouble)));
    let observer = around(Part::Observe);
    let broker: SharedBroker = broker.clone();
    app.layer(observer).broker(broker).clock(around(Part::Observe).shared.clock.clone())
}

impl std::fmt::Debug for TestApp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TestApp({} apps)", self.apps.len())
    }
}
