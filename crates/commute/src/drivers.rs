//! The backends that this build knows: the only file of the engine that names one.

use commute_core::{Address, Code, Driver, Error, Result, SharedBroker};

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
    let scheme = address.scheme.as_str();
    if let Some(driver) = DRIVERS.iter().find(|driver| driver.schemes.contains(&scheme)) {
        return (driver.connect)(address).await;
    }
    if let Some((_, feature)) = FEATURES.iter().find(|(known, _)| *known == scheme) {
        let detail = format!("{scheme}: URLs need the cargo feature \"{feature}\" of the crate commute");
        return Err(Error::new(Code::DriverNotCompiledIn, detail));
    }
    let known: Vec<_> = DRIVERS.iter().flat_map(|driver| driver.schemes).copied().collect();
    let shown = shown(url);
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

/// The code blocks of the pages about brokers are compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/brokers/rabbitmq.md")]
struct BrokerPages;
