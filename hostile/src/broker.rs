//! Where a run takes place: which broker, at which URL, behind which proxy.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum;
use commute::SharedBroker;
use commute_conformance::proxy::Proxy;
use servers::{Kind, Options, Server};

/// How long a start is tried.
const PATIENCE: Duration = Duration::from_secs(30);

/// A broker that scenarios can run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Broker {
    Rabbitmq,
    #[cfg(feature = "kafka")]
    Kafka,
    Zeromq,
    Embedded,
}

impl Broker {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Broker::Rabbitmq => "rabbitmq",
            #[cfg(feature = "kafka")]
            Broker::Kafka => "kafka",
            Broker::Zeromq => "zeromq",
            Broker::Embedded => "embedded",
        }
    }

    /// The server that it needs.
    pub(crate) fn kind(self) -> Option<Kind> {
        match self {
            Broker::Rabbitmq => Some(Kind::Rabbitmq),
            #[cfg(feature = "kafka")]
            Broker::Kafka => Some(Kind::Kafka),
            Broker::Zeromq => Some(Kind::Zeromq),
            Broker::Embedded => None,
        }
    }

    /// Makes it notice soon that the other side is gone.
    fn options(self) -> &'static str {
        match self {
            Broker::Rabbitmq => "?heartbeat=2",
            #[cfg(feature = "kafka")]
            Broker::Kafka => "?session_timeout_ms=6000",
            Broker::Zeromq | Broker::Embedded => "",
        }
    }

    /// Whether a proxy needs a server of its own: clients of Kafka go where the server tells them to.
    pub(crate) fn has_servers_for_proxies(self) -> bool {
        match self {
            #[cfg(feature = "kafka")]
            Broker::Kafka => true,
            _ => false,
        }
    }
}

/// A server's URLs, and the server and the proxy where a run has its own.
pub(crate) struct Place {
    broker: Broker,
    direct: String,
    proxied: Option<String>,
    pub(crate) server: Option<Server>,
    pub(crate) proxy: Option<Proxy>,
}

impl Place {
    /// A directory.
    pub(crate) fn embedded(directory: &Path) -> Self {
        let direct = format!("embedded:{}", directory.join("broker").display());
        Place { broker: Broker::Embedded, direct, proxied: None, server: None, proxy: None }
    }

    /// A server that others use, too, and a proxy of one's own.
    pub(crate) async fn shared(broker: Broker, url: &str, port: u16, with_proxy: bool) -> Result<Self> {
        let mut place = Place { broker, direct: url.to_owned(), proxied: None, server: None, proxy: None };
        if with_proxy {
            let proxy = Proxy::before(([127, 0, 0, 1], port).into()).await?;
            place.proxied = Some(url.replace(&format!(":{port}"), &format!(":{}", proxy.address().port())));
            place.proxy = Some(proxy);
        }
        Ok(place)
    }

    /// A server of one's own.
    pub(crate) async fn owned(broker: Broker, kind: Kind, with_proxy: bool) -> Result<Self> {
        if !with_proxy || !broker.has_servers_for_proxies() {
            let server = start(kind, Options::default()).await?;
            let mut place = Self::shared(broker, server.url(), server.ports()[0], with_proxy).await?;
            place.server = Some(server);
            return Ok(place);
        }
        // The server must know the proxy's port before the proxy can know the server's.
        let port = {
            let free = std::net::TcpListener::bind(("127.0.0.1", 0))?;
            free.local_addr()?.port()
        };
        let server = start(kind, Options { proxied: Some(port), ..Options::default() }).await?;
        let behind = server.proxied_port().context("the server has no listener for a proxy")?;
        let proxy = Proxy::on(port, ([127, 0, 0, 1], behind).into()).await?;
        let direct = server.url().to_owned();
        let proxied = direct.replace(&format!(":{}", server.ports()[0]), &format!(":{port}"));
        Ok(Place { broker, direct, proxied: Some(proxied), server: Some(server), proxy: Some(proxy) })
    }

    /// Where to connect to: through the proxy, if there is one and it is asked for.
    pub(crate) fn url(&self, through_proxy: bool) -> String {
        let url = self.proxied.as_ref().filter(|_| through_proxy).unwrap_or(&self.direct);
        format!("{url}{}", self.broker.options())
    }
}

/// Connects, also when the first tries are cut: a start that fails is no fault that is looked for.
///
/// # Errors
/// When the server refuses, or cannot be reached for too long.
pub(crate) async fn connect(url: &str) -> commute::Result<SharedBroker> {
    let began = Instant::now();
    loop {
        match commute::connect(url).await {
            Err(error) if error.code().is_retryable() && began.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(fastrand::u64(5..50))).await;
            }
            connected => return connected,
        }
    }
}

/// What a server that so many trials share may take: much of what they declare stays until it ends.
pub(crate) fn memory_mib(trials: usize) -> u32 {
    u32::try_from(trials).unwrap_or(u32::MAX).saturating_mul(16).clamp(512, 4_096)
}

/// Starts a server, on a thread that may wait.
pub(crate) async fn start(kind: Kind, options: Options) -> Result<Server> {
    tokio::task::spawn_blocking(move || {
        servers::install(kind)?;
        Server::start(kind, options)
    })
    .await?
}

/// Lets the queues of a RabbitMQ that have no leader elect one. Answers how many there were.
///
/// After a kill, a quorum queue on a single node whose first command comes before its election can stay without a leader
/// until an operator does this (rabbitmq/rabbitmq-server#10070). Nothing that a client says helps.
pub(crate) fn elect(server: &Server) -> Result<usize> {
    let expression = "length([ra:trigger_election(amqqueue:get_pid(Q)) || Q <- rabbit_amqqueue:list(), \
                      amqqueue:get_type(Q) =:= rabbit_quorum_queue, \
                      ra_leaderboard:lookup_leader(element(1, amqqueue:get_pid(Q))) =:= undefined]).";
    let answer = server.rabbitmqctl(&["eval", expression])?;
    answer.trim().parse().with_context(|| format!("rabbitmqctl answers {answer:?}"))
}
