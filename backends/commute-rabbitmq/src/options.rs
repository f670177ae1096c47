//! Options: what a URL says about the server, and what may be said behind its question mark.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use commute_core::{Address, Code, Error, Result};
use lapin::uri::{AMQPScheme, AMQPUri};

const KNOWN: &[&str] = &[
    "queue_type",
    "instances",
    "instance",
    "declare",
    "prefetch",
    "heartbeat",
    "publish_timeout",
    "password_file",
    "password_env",
    "ca",
];

/// Which kind of queue is declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueType {
    /// Replicated where the cluster has several nodes, and synced before a confirm.
    Quorum,
    /// On one node; written, not synced, before a confirm.
    Classic,
}

/// How instances of a group share a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instances {
    /// One gets everything, in order; the others stand by and take over when it goes.
    One,
    /// All of them get some, and there is no order between them. The name says whose parked events are whose, so it must
    /// stay the same over restarts and differ between instances.
    Many {
        /// The instance's name.
        name: String,
    },
}

/// Everything that can be said about a connection. `Debug` shows no password.
#[derive(Clone)]
pub struct Options {
    pub(crate) uri: AMQPUri,
    /// Which kind of queue is declared; quorum unless said.
    pub queue_type: QueueType,
    /// How instances share a queue; one at a time unless said.
    pub instances: Instances,
    /// Whether what is missing is declared; otherwise it is only checked. Yes unless said.
    pub declare: bool,
    /// At most so many deliveries are unsettled at once, whatever the subscription's credit.
    pub prefetch: u16,
    /// How long a publish waits for a server that is away, before it fails.
    pub publish_timeout: Duration,
    /// A file with the certificates of an authority of one's own, in PEM.
    pub ca: Option<PathBuf>,
}

impl Options {
    /// The options of `amqp://user:password@host:port/vhost`, as everything is unless said otherwise.
    ///
    /// # Errors
    /// `InvalidOption` when the URL cannot be read; the message does not repeat it, because it may hold a password.
    pub fn new(url: &str) -> Result<Self> {
        Self::from_address(Address::parse(url)?)
    }

    /// Reads a URL with its options.
    ///
    /// # Errors
    /// `InvalidOption`, naming the option and what is allowed.
    pub fn from_address(mut address: Address) -> Result<Self> {
        let url = address.url.split('?').next().unwrap_or_default();
        let mut uri: AMQPUri =
            url.parse().map_err(|_| invalid("the URL is not of the form amqp://user:password@host:port/vhost"))?;
        if uri.scheme == AMQPScheme::AMQPS && !cfg!(feature = "tls") {
            return Err(Error::new(
                Code::DriverNotCompiledIn,
                "amqps: URLs need the cargo feature \"tls\" of the crate commute-rabbitmq (\"rabbitmq-tls\" of commute)",
            ));
        }
        uri.query.heartbeat = Some(address.take("heartbeat")?.unwrap_or(10));
        uri.query.connection_timeout = Some(10_000);
        if let Some(file) = address.take::<PathBuf>("password_file")? {
            let read = std::fs::read_to_string(&file);
            let read = read.map_err(|cause| {
                invalid(format!("the password file {} cannot be read", file.display())).caused_by(cause)
            })?;
            uri.authority.userinfo.password = read.trim_end_matches(['\r', '\n']).to_owned();
        }
        if let Some(name) = address.take::<String>("password_env")? {
            uri.authority.userinfo.password = std::env::var(&name).map_err(|_| {
                invalid(format!("the environment variable {name}, which holds the password, is not set"))
            })?;
        }
        let queue_type = match address.take::<String>("queue_type")?.as_deref() {
            None | Some("quorum") => QueueType::Quorum,
            Some("classic") => QueueType::Classic,
            Some(other) => return Err(invalid(format!("queue_type={other}: it is quorum or classic"))),
        };
        let name = address.take::<String>("instance")?;
        let instances = match (address.take::<String>("instances")?.as_deref(), name) {
            (None | Some("one"), _) => Instances::One,
            (Some("many"), Some(name)) if !name.is_empty() => Instances::Many { name },
            (Some("many"), _) => {
                return Err(invalid("instances=many needs instance=NAME, a name of this instance that stays the same"));
            }
            (Some(other), _) => return Err(invalid(format!("instances={other}: it is one or many"))),
        };
        let options = Options {
            uri,
            queue_type,
            instances,
            declare: address.take("declare")?.unwrap_or(true),
            prefetch: address.take("prefetch")?.unwrap_or(u16::MAX),
            publish_timeout: Duration::from_secs(address.take("publish_timeout")?.unwrap_or(30)),
            ca: address.take("ca")?,
        };
        if options.prefetch == 0 {
            return Err(invalid("prefetch=0 would be no limit; say 1 or more"));
        }
        address.finish(KNOWN)?;
        Ok(options)
    }

    /// How often each side says that it is there.
    pub(crate) fn heartbeat(&self) -> Duration {
        Duration::from_secs(u64::from(self.uri.query.heartbeat.unwrap_or(10)))
    }

    /// Where the server is, without user and password.
    pub(crate) fn address(&self) -> String {
        let AMQPUri { scheme, authority, vhost, .. } = &self.uri;
        format!("{scheme}://{}:{}/{}", authority.host, authority.port, if vhost == "/" { "%2f" } else { vhost })
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("address", &self.address())
            .field("queue_type", &self.queue_type)
            .field("instances", &self.instances)
            .field("declare", &self.declare)
            .field("prefetch", &self.prefetch)
            .finish_non_exhaustive()
    }
}

fn invalid(detail: impl Into<String>) -> Error {
    Error::new(Code::InvalidOption, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_everything_and_its_password_is_never_shown() {
        let url = "amqp://shop:s3cret@example.org:5673/orders?queue_type=classic&instances=many&instance=a&prefetch=7";
        let options = Options::new(url).unwrap();
        assert_eq!(options.address(), "amqp://example.org:5673/orders");
        assert_eq!((options.queue_type, options.prefetch), (QueueType::Classic, 7));
        assert_eq!(options.instances, Instances::Many { name: "a".into() });
        assert_eq!(options.uri.authority.userinfo.password, "s3cret");
        assert!(!format!("{options:?}").contains("s3cret"));
    }

    #[test]
    fn what_is_wrong_is_named_without_the_password() {
        for (url, named) in [
            ("amqp://u:s3cret@h?speed=1", "speed"),
            ("amqp://u:s3cret@h?queue_type=stream", "stream"),
            ("amqp://u:s3cret@h?instances=many", "instance=NAME"),
            ("amqp://u:s3cret@h?prefetch=0", "prefetch"),
            ("amqp://u:s3cret@h?password_file=/none/such", "/none/such"),
            ("amqp://u:s3cret@h:port", "amqp://user"),
        ] {
            let error = Options::new(url).unwrap_err().report();
            assert!(error.contains(named) && !error.contains("s3cret"), "{error}");
        }
    }
}
