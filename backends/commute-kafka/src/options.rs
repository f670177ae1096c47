//! What the Kafka broker can be told, and the settings of the client library that follow from it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use commute_core::{Address, Code, Error, Result};
use rdkafka::ClientConfig;

/// How a user proves who he is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sasl {
    /// The password is sent as it is: for encrypted connections.
    Plain,
    /// Needs the crate feature `tls`.
    ScramSha256,
    /// Needs the crate feature `tls`.
    ScramSha512,
}

impl FromStr for Sasl {
    type Err = ();

    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        match text.to_ascii_uppercase().as_str() {
            "PLAIN" => Ok(Sasl::Plain),
            "SCRAM-SHA-256" => Ok(Sasl::ScramSha256),
            "SCRAM-SHA-512" => Ok(Sasl::ScramSha512),
            _ => Err(()),
        }
    }
}

impl Sasl {
    fn name(self) -> &'static str {
        match self {
            Sasl::Plain => "PLAIN",
            Sasl::ScramSha256 => "SCRAM-SHA-256",
            Sasl::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// Settings, each with its default. `Debug` shows no password.
#[derive(Clone)]
pub struct Options {
    /// Where to ask first: `host:port`, separated by commas.
    pub servers: String,
    /// Whether connections are encrypted (`kafkas:`).
    pub tls: bool,
    /// The user, if the server asks for one.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<String>,
    /// How the user proves who he is: PLAIN.
    pub sasl: Sasl,
    /// A file with the certificates of authorities to trust, instead of the machine's.
    pub ca: Option<String>,
    /// How many partitions a topic gets that is created: 1.
    pub partitions: i32,
    /// How many replicas a topic gets that is created: -1, the server's default.
    pub replication: i32,
    /// Whether missing topics are created: yes.
    pub declare: bool,
    /// After what time without a sign of life the group gives a subscription's partitions to others: 10 seconds.
    pub session_timeout: Duration,
    /// How long an event may wait for others that are sent with it: a millisecond.
    pub linger: Duration,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("servers", &self.servers).field("user", &self.user).finish_non_exhaustive()
    }
}

const KNOWN: &[&str] = &[
    "partitions",
    "replication",
    "declare",
    "session_timeout_ms",
    "linger_ms",
    "sasl",
    "ca",
    "password_file",
    "password_env",
];

impl Options {
    /// Takes servers, credentials and options from a URL.
    ///
    /// # Errors
    /// `InvalidOption` when something is unknown or out of range, or needs the crate feature `tls`.
    pub fn from_address(mut address: Address) -> Result<Self> {
        let rest = address.rest.trim_end_matches('/').to_owned();
        let (credentials, servers) = match rest.rsplit_once('@') {
            Some((credentials, servers)) => (Some(credentials), servers),
            None => (None, rest.as_str()),
        };
        let (user, password) = match credentials.map(|text| text.split_once(':').unwrap_or((text, ""))) {
            Some((user, password)) => (Some(decoded(user)?), Some(decoded(password)?)),
            None => (None, None),
        };
        let password = match (address.take::<String>("password_file")?, address.take::<String>("password_env")?) {
            (Some(file), _) => {
                let text = std::fs::read_to_string(&file);
                let text =
                    text.map_err(|cause| invalid(format!("cannot read password_file {file:?}")).caused_by(cause));
                Some(text?.trim_end().to_owned())
            }
            (None, Some(name)) => {
                let text = std::env::var(&name);
                Some(text.map_err(|cause| invalid(format!("cannot read password_env {name:?}")).caused_by(cause))?)
            }
            (None, None) => password.filter(|password| !password.is_empty()),
        };
        let options = Options {
            servers: servers.to_owned(),
            tls: address.scheme == "kafkas",
            user,
            password,
            sasl: address.take("sasl")?.unwrap_or(Sasl::Plain),
            ca: address.take("ca")?,
            partitions: address.take("partitions")?.unwrap_or(1),
            replication: address.take("replication")?.unwrap_or(-1),
            declare: address.take("declare")?.unwrap_or(true),
            session_timeout: Duration::from_millis(address.take("session_timeout_ms")?.unwrap_or(10_000)),
            linger: Duration::from_millis(address.take("linger_ms")?.unwrap_or(1)),
        };
        address.finish(KNOWN)?;
        options.check()?;
        Ok(options)
    }

    /// Refuses what cannot be.
    pub(crate) fn check(&self) -> Result<()> {
        let host = |server: &str| !server.is_empty() && !server.contains(['/', '@', ' ']);
        if !self.servers.split(',').all(host) {
            return Err(invalid("a kafka: URL names servers, as in kafka://host:9092,other:9092".to_owned()));
        }
        if !(1..=10_000).contains(&self.partitions) {
            return Err(invalid(format!("partitions is {}; allowed is 1 to 10000", self.partitions)));
        }
        if self.replication != -1 && !(1..=100).contains(&self.replication) {
            let detail = format!("replication is {}; allowed is 1 to 100, or -1", self.replication);
            return Err(invalid(detail));
        }
        if !(1_000..=3_600_000).contains(&self.session_timeout.as_millis()) {
            return Err(invalid("session_timeout_ms is out of range; allowed is 1000 to 3600000".to_owned()));
        }
        if self.linger.as_millis() > 10_000 {
            return Err(invalid("linger_ms is out of range; allowed is 0 to 10000".to_owned()));
        }
        let needs_tls = self.tls || (self.user.is_some() && self.sasl != Sasl::Plain);
        if needs_tls && cfg!(not(feature = "tls")) {
            let what = if self.tls { "kafkas:".to_owned() } else { format!("sasl={}", self.sasl.name()) };
            return Err(invalid(format!(
                "{what} needs the feature \"tls\" of commute-kafka, which is not compiled in"
            )));
        }
        if self.user.is_some() && self.password.is_none() {
            let detail = "there is a user and no password; allowed are user:password@, password_file and password_env";
            return Err(invalid(detail.to_owned()));
        }
        Ok(())
    }

    /// The servers, for people.
    pub(crate) fn label(&self) -> String {
        format!("{}://{}", if self.tls { "kafkas" } else { "kafka" }, self.servers)
    }

    /// What every client of the library is told.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.servers)
            .set("client.id", "commute")
            .set("allow.auto.create.topics", "false")
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "2000")
            .set("log_level", "4");
        let protocol = match (self.tls, self.user.is_some()) {
            (false, false) => "plaintext",
            (false, true) => "sasl_plaintext",
            (true, false) => "ssl",
            (true, true) => "sasl_ssl",
        };
        config.set("security.protocol", protocol);
        if let (Some(user), Some(password)) = (&self.user, &self.password) {
            config.set("sasl.mechanisms", self.sasl.name()).set("sasl.username", user).set("sasl.password", password);
        }
        if let Some(ca) = &self.ca {
            config.set("ssl.ca.location", ca);
        }
        config
    }
}

fn invalid(detail: String) -> Error {
    Error::new(Code::InvalidOption, detail)
}

/// Credentials in a URL may be percent-encoded.
fn decoded(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        bytes.push(match byte {
            b'%' => match (digit(rest.next()), digit(rest.next())) {
                (Some(high), Some(low)) => (high * 16 + low) as u8,
                _ => return Err(invalid("user or password has a % that is not followed by two digits".to_owned())),
            },
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| invalid("user or password is no UTF-8".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Result<Options> {
        Options::from_address(Address::parse(url).unwrap())
    }

    #[test]
    fn a_url_gives_servers_credentials_and_options() {
        let options = parsed("kafka://me:p%40ss@a:1,b:2?partitions=4&declare=false&session_timeout_ms=6000").unwrap();
        assert_eq!((&*options.servers, options.user.as_deref()), ("a:1,b:2", Some("me")));
        assert_eq!(options.password.as_deref(), Some("p@ss"));
        assert_eq!((options.partitions, options.declare, options.session_timeout.as_secs()), (4, false, 6));
        assert_eq!((options.replication, options.linger.as_millis()), (-1, 1));
    }

    #[test]
    fn no_password_is_shown() {
        let options = parsed("kafka://me:secret@a:1").unwrap();
        assert!(!format!("{options:?} {}", options.label()).contains("secret"));
        let error = parsed("kafka://me:secret@a:1?sped=1").unwrap_err();
        assert!(!error.report().contains("secret"), "{}", error.report());
        assert_eq!(options.client().get("security.protocol"), Some("sasl_plaintext"));
    }

    #[test]
    fn unknown_options_and_impossible_values_are_refused() {
        for url in [
            "kafka:",
            "kafka://a b",
            "kafka://a,",
            "kafka://a?speed=1",
            "kafka://a?partitions=0",
            "kafka://a?replication=0",
            "kafka://a?declare=perhaps",
            "kafka://a?session_timeout_ms=1",
            "kafka://a?linger_ms=99999999",
            "kafka://a?sasl=ROT13",
            "kafka://me@a",
            "kafka://me:%zz@a",
            "kafka://me@a?password_file=/does/not/exist",
            "kafka://me@a?password_env=COMMUTE_NO_SUCH_NAME",
        ] {
            assert_eq!(parsed(url).unwrap_err().code(), Code::InvalidOption, "{url}");
        }
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn what_needs_tls_says_so() {
        for url in ["kafkas://a", "kafka://me:x@a?sasl=SCRAM-SHA-512"] {
            assert!(parsed(url).unwrap_err().detail().contains("feature \"tls\""), "{url}");
        }
    }
}
