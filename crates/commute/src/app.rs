//! The app: one service, its broker, its handlers and its state.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use commute_core::{Clock, HandlerError, Mapping, Outcome, SharedBroker, States, Store, SystemClock};
use tower::{Layer, Service};

use crate::config::Config;
use crate::handler::{Erased, HandlerService, HandlerSpec, Invocation, Parts, layered};
use crate::limits::Limits;
use crate::trace::Traces;

/// A service under construction. All its handlers share one scheduler: two events that touch the same key never
/// overlap, whatever topics they come from.
///
/// ```
/// use commute::prelude::*;
///
/// #[derive(Debug, Serialize, Deserialize, Event)]
/// #[event(type = "greeting.sent", key = "to")]
/// struct Sent { to: String }
///
/// async fn count(_event: Sent, State(seen): State<std::sync::Arc<std::sync::atomic::AtomicU32>>) {
///     seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
/// }
///
/// # #[tokio::main]
/// # async fn main() -> commute::Result<()> {
/// let broker = commute::connect("memory:").await?;
/// let seen = std::sync::Arc::<std::sync::atomic::AtomicU32>::default();
/// let app = App::new("counter")
///     .broker(broker.clone())
///     .state(seen.clone())
///     .on("greetings", handler(count))
///     .start()
///     .await?;
/// Publisher::new(broker, "doc").publish("greetings", &Sent { to: "world".into() }).await?;
/// app.idle().await?;
/// assert_eq!(seen.load(std::sync::atomic::Ordering::Relaxed), 1);
/// app.stop().await?;
/// # Ok(())
/// # }
/// ```
pub struct App {
    pub(crate) name: Arc<str>,
    pub(crate) broker: Option<SharedBroker>,
    pub(crate) states: States,
    pub(crate) repeated_states: Vec<&'static str>,
    pub(crate) store: Option<Arc<dyn Store>>,
    pub(crate) handlers: Vec<(String, Parts)>,
    pub(crate) layers: Vec<Box<dyn Fn(Erased) -> Erased + Send>>,
    pub(crate) ignored: BTreeSet<String>,
    pub(crate) mappings: BTreeMap<String, Arc<Mapping>>,
    pub(crate) queues: BTreeMap<String, Arc<str>>,
    pub(crate) workers: usize,
    pub(crate) limits: Limits,
    pub(crate) drain: Duration,
    pub(crate) measure: bool,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: Config,
    pub(crate) traces: Option<Arc<dyn Traces>>,
    pub(crate) admin: AdminAddress,
    pub(crate) control: Option<PathBuf>,
}

/// What an app says of its admin address.
#[derive(Debug, Clone, Default)]
pub(crate) struct AdminAddress {
    pub(crate) address: Option<String>,
    pub(crate) beyond_loopback: bool,
}

impl App {
    /// A service. The name is its identity: it names its subscriptions and signs its events, so it must stay the same.
    pub fn new(name: impl AsRef<str>) -> Self {
        App {
            name: name.as_ref().into(),
            broker: None,
            states: States::default(),
            repeated_states: Vec::new(),
            store: None,
            handlers: Vec::new(),
            layers: Vec::new(),
            ignored: BTreeSet::new(),
            mappings: BTreeMap::new(),
            queues: BTreeMap::new(),
            workers: 64,
            limits: Limits::default(),
            drain: Duration::from_secs(30),
            measure: false,
            clock: Arc::new(SystemClock),
            config: Config::default(),
            traces: None,
            admin: AdminAddress::default(),
            control: None,
        }
    }

    /// The broker, from [`crate::connect`].
    pub fn broker(mut self, broker: SharedBroker) -> Self {
        self.broker = Some(broker);
        self
    }

    /// A value for the `State` arguments of handlers; one per type.
    pub fn state<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        if !self.states.insert(value) {
            self.repeated_states.push(std::any::type_name::<T>());
        }
        self
    }

    /// The store of transactional handlers. Its staged events are published by this app.
    pub fn store<S: Store>(mut self, store: S) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// Registers a handler on a topic. All handlers of one topic form one subscription with one order.
    pub fn on<E>(mut self, topic: impl Into<String>, handler: HandlerSpec<E>) -> Self {
        self.handlers.push((topic.into(), handler.parts));
        self
    }

    /// Events on the topic whose type no handler takes are acknowledged and counted, instead of becoming dead letters.
    pub fn ignore_unknown_types(mut self, topic: impl Into<String>) -> Self {
        self.ignored.insert(topic.into());
        self
    }

    /// How messages on the topic that are no CloudEvents become events; without it they become dead letters.
    pub fn mapping(mut self, topic: impl Into<String>, mapping: Mapping) -> Self {
        self.mappings.insert(topic.into(), Arc::new(mapping));
        self
    }

    /// The subscription on the topic consumes this queue, which exists already, exactly as it is, instead of a queue that
    /// commute declares. For brokers that have queues; others refuse at the start.
    pub fn queue(mut self, topic: impl Into<String>, name: impl Into<Arc<str>>) -> Self {
        self.queues.insert(topic.into(), name.into());
        self
    }

    /// Puts a tower layer around every handler. The last one added is the outermost.
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<HandlerService> + Send + 'static,
        L::Service: Service<Invocation, Response = Outcome, Error = HandlerError> + Clone + Send + Sync + 'static,
        <L::Service as Service<Invocation>>::Future: Send + 'static,
    {
        self.layers.push(Box::new(move |run| layered(run, &layer)));
        self
    }

    /// How many events are handled at once at most; 64 unless said. Events in a store's transaction do not count.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// How many events may be held unsettled per subscription, most of them without their payload; 65,536 unless said.
    pub fn look_ahead(mut self, events: usize) -> Self {
        self.limits.look_ahead(events);
        self
    }

    /// How long a stop waits for what is being handled; 30 s unless said.
    pub fn drain(mut self, longest: Duration) -> Self {
        self.drain = longest;
        self
    }

    /// Measures how much parallelism there was in the events, at the cost of a small table entry per key ever seen.
    pub fn measure_parallelism(mut self) -> Self {
        self.measure = true;
        self
    }

    /// Where the time comes from; the machine's clock unless said.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Lets an operator's file and environment decide: what the configuration says holds, whatever the builder said before
    /// or says after; a later configuration goes before an earlier one. Its broker, if it names one, is this app's.
    ///
    /// ```
    /// use commute::prelude::*;
    /// use commute::Config;
    ///
    /// #[derive(Debug, Serialize, Deserialize, Event)]
    /// #[event(type = "greeting.sent", key = "to")]
    /// struct Sent { to: String }
    ///
    /// async fn greet(_event: Sent) {}
    ///
    /// # #[tokio::main]
    /// # async fn main() -> commute::Result<()> {
    /// // In a program: Config::from_file("commute.toml")?.environment()?
    /// let config = Config::from_toml(
    ///     "commute.toml",
    ///     r#"
    ///         broker = "memory:"
    ///         workers = 8
    ///
    ///         [handlers."greetings"."greeting.sent"]
    ///         retry = { attempts = 3, longest = "1s" }
    ///     "#,
    /// )?;
    /// let app = App::new("greeter").on("greetings", handler(greet)).configure(config).start().await?;
    /// assert_eq!(app.contract().workers, 8);
    /// assert_eq!(app.contract().subscriptions[0].handlers[0].attempts, 3);
    /// app.stop().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// At the start: `InvalidConfig` when the configuration names a topic, handler or answer that the app does not have.
    pub fn configure(mut self, config: Config) -> Self {
        self.config = self.config.then(config);
        self
    }

    /// Serves metrics, health, contract and statistics over HTTP at `address`, an IP address and a port; port 0 takes a free
    /// one, which [`Running::admin_address`](crate::Running::admin_address) tells. Everything there can be read by everybody who can reach it, so an address
    /// that is not loopback also needs [`App::admin_beyond_loopback`].
    ///
    /// | Path | Answers |
    /// |---|---|
    /// | `/metrics` | the metrics of [`crate::metrics`], as Prometheus reads them |
    /// | `/live` | 200; 503 once the app has failed |
    /// | `/ready` | 200 while events are taken and handled; 503 before, while draining, and once the app has failed |
    /// | `/drain` | whether it drains, and how much is left; a signal or [`Running::stop`](crate::Running::stop) begins it |
    /// | `/contract`, `/stats` | JSON |
    #[cfg(feature = "admin")]
    pub fn admin(mut self, address: impl std::fmt::Display) -> Self {
        self.admin.address = Some(address.to_string());
        self
    }

    /// The address of [`App::admin`] may be one that other machines reach.
    #[cfg(feature = "admin")]
    pub fn admin_beyond_loopback(mut self) -> Self {
        self.admin.beyond_loopback = true;
        self
    }

    /// Who gives the spans of handlings their ids and exports them; the crate commute-otel has one.
    pub fn traces(mut self, traces: impl Traces) -> Self {
        self.traces = Some(Arc::new(traces));
        self
    }

    /// Lets operators in at a Unix socket while the app runs: `commute --socket PATH`. A broker that is a directory has such a
    /// socket already; this is for apps on other brokers. Only this user can connect to it.
    pub fn control(mut self, socket: impl Into<PathBuf>) -> Self {
        self.control = Some(socket.into());
        self
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "App({}, {} handlers)", self.name, self.handlers.len())
    }
}
