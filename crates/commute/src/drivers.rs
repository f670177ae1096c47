//! The backends that this build knows: the only file of the engine that names one.

use commute_core::{Address, Code, Driver, Error, Result, SharedBroker};

use crate::control;

/// Every driver that is compiled in.
const DRIVERS: &[Driver] = &[
    #[cfg(feature = "embedded")]
    commute_embedded::DRIVER,
    #[cfg(feature = "kafka")]
    commute_kafka::DRIVER,
    #[cfg(feature = "rabbitmq")]
    commute_rabbitmq::DRIVER,
];

/// Schemes whose driver exists, and the feature that compiles it in.
const FEATURES: &[(&str, &str)] = &[
    ("embedded", "embedded"),
    ("memory", "embedded"),
    ("kafka", "kafka"),
    ("kafkas", "kafka-tls"),
    ("amqp", "rabbitmq"),
    ("amqps", "rabbitmq-tls"),
];

/// Connects to a broker by its URL: `embedded:DIRECTORY`, `memory:` for tests, `amqp://user:password@host/vhost`,
/// `kafka://host:port`.
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
    let detail = format!("no driver for {scheme}: URLs; this build knows {}", known.join(", "));
    Err(Error::new(Code::UnknownScheme, detail))
}

/// The code blocks of the pages about brokers are compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/brokers/rabbitmq.md")]
struct BrokerPages;
