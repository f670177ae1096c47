//! The backends that this build knows: the only file of the engine that names one.

use commute_core::{Address, Code, Driver, Error, Result, SharedBroker};

use crate::control;

#[cfg(feature = "zeromq")]
pub use commute_zeromq::{Node, NodeOptions};

/// Every driver that is compiled in.
const DRIVERS: &[Driver] = &[
    #[cfg(feature = "embedded")]
    commute_embedded::DRIVER,
    #[cfg(feature = "kafka")]
    commute_kafka::DRIVER,
    #[cfg(feature = "rabbitmq")]
    commute_rabbitmq::DRIVER,
    #[cfg(feature = "zeromq")]
    commute_zeromq::DRIVER,
];

/// Schemes whose driver exists, and the feature that compiles it in.
const FEATURES: &[(&str, &str)] = &[
    ("embedded", "embedded"),
    ("memory", "embedded"),
    ("kafka", "kafka"),
    ("kafkas", "kafka-tls"),
    ("amqp", "rabbitmq"),
    ("amqps", "rabbitmq-tls"),
    ("zmq", "zeromq"),
    ("zmq+ipc", "zeromq"),
];

/// Connects to a broker by its URL: `embedded:DIRECTORY`, `memory:` for tests, `amqp://user:password@host/vhost`,
/// `kafka://host:port`, `zmq://host:port` or `zmq+ipc:///path` for a commute node.
///
/// # Errors
/// `UnknownScheme` and `DriverNotCompiledIn`, naming what there is; the driver's own otherwise.
pub async fn connect(url: &str) -> Result<SharedBroker> {
    let address = Address::parse(url)?;
    let driver = driver(&address)?;
    (driver.connect)(address).await.map(control::served)
}

/// The driver of an address.
///
/// # Errors
/// `UnknownScheme` and `DriverNotCompiledIn`, naming what there is.
pub(crate) fn driver(address: &Address) -> Result<&'static Driver> {
    let scheme = address.scheme.as_str();
    if let Some(driver) = DRIVERS.iter().find(|driver| driver.schemes.contains(&scheme)) {
        return Ok(driver);
    }
    if let Some((_, feature)) = FEATURES.iter().find(|(known, _)| *known == scheme) {
        let detail = format!("{scheme}: URLs need the cargo feature \"{feature}\" of the crate commute");
        return Err(Error::new(Code::DriverNotCompiledIn, detail));
    }
    let known: Vec<_> = DRIVERS.iter().flat_map(|driver| driver.schemes).copied().collect();
    let shown = shown(&address.url);
    let detail = format!("no driver for {shown} URLs; this build knows {}", known.join(", "));
    Err(Error::new(Code::UnknownScheme, detail))
}

/// As much of a URL as may be shown: its scheme. What a known scheme or slashes do not prove to be one, may be a password.
pub(crate) fn shown(url: &str) -> String {
    let scheme = url.split_once(':').filter(|(scheme, rest)| {
        let is_known = FEATURES.iter().any(|(known, _)| scheme.eq_ignore_ascii_case(known));
        is_known || (rest.starts_with("//") && Address::parse(url).is_ok())
    });
    scheme.map_or_else(|| "…".to_owned(), |(scheme, _)| format!("{scheme}:…"))
}

/// The backend of a test: opened again and again on the same storage, with the time of the test where it can take one.
#[cfg(feature = "testing")]
pub(crate) struct TestBackend {
    url: String,
    address: Address,
    memory: commute_embedded::storage::Memory,
}

#[cfg(feature = "testing")]
impl TestBackend {
    pub(crate) fn new(url: &str) -> Result<Self> {
        let address = Address::parse(url)?;
        Ok(TestBackend { url: url.to_owned(), address, memory: commute_embedded::storage::Memory::new() })
    }

    /// Whether it takes its time from a clock, and belongs to whoever opened it.
    pub(crate) fn is_in_process(&self) -> bool {
        commute_embedded::DRIVER.schemes.contains(&self.address.scheme.as_str())
    }

    /// For messages: the rest of a URL may hold a password.
    pub(crate) fn scheme(&self) -> &str {
        &self.address.scheme
    }

    /// Whether every test has its own.
    pub(crate) fn is_memory(&self) -> bool {
        self.address.scheme == "memory"
    }

    pub(crate) async fn open(&self, clock: std::sync::Arc<dyn commute_core::Clock>) -> Result<SharedBroker> {
        use commute_embedded::{Embedded, Options};
        if !self.is_in_process() {
            return connect(&self.url).await;
        }
        let (directory, options) = Options::from_address(self.address.clone())?;
        let options = Options { clock, prepare: false, ..options };
        let memory = self.is_memory().then(|| self.memory.clone());
        let opened = tokio::task::spawn_blocking(move || match memory {
            Some(memory) => Embedded::in_memory(&memory, options),
            None => Embedded::open(&directory, options),
        });
        let opened = opened.await.map_err(|cause| Error::new(Code::Io, "opening was given up").caused_by(cause))?;
        opened.map(|broker| broker as SharedBroker)
    }

    /// What is opened next is what the end of the process would have left.
    pub(crate) fn kill(&mut self) {
        self.memory = self.memory.after_kill();
    }
}

/// The code blocks of the pages about brokers are compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/brokers/rabbitmq.md")]
struct BrokerPages;
