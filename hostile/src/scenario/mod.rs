//! The scenarios: what is done to a system at work, one file each.

mod connection_cut;
mod consumer_kill;
mod consumer_restart;
mod half_open;
mod publisher_retransmit;
mod rebalance;
mod server;
mod slow_consumer;

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

use crate::broker::Broker;
use crate::plan::Workload;
use crate::trial::{FIRST, Trial, workload};

/// What happens to the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// The network resets every connection, again and again.
    ConnectionCut,
    /// The network swallows everything for longer than a heartbeat.
    HalfOpen,
    /// The server stops as it should and starts again.
    ServerRestart,
    /// The server is killed and starts again.
    ServerKill,
    /// The consumer is killed and starts again with the same data.
    ConsumerKill,
    /// The consumer stops as it should and starts again, many times.
    ConsumerRestart,
    /// A second consumer joins the group, and the first one goes.
    Rebalance,
    /// Handlers are slow and publishers are not.
    SlowConsumer,
    /// Publishes reach the server and their confirms do not come back.
    PublisherRetransmit,
}

impl Scenario {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Scenario::ConnectionCut => "connection-cut",
            Scenario::HalfOpen => "half-open",
            Scenario::ServerRestart => "server-restart",
            Scenario::ServerKill => "server-kill",
            Scenario::ConsumerKill => "consumer-kill",
            Scenario::ConsumerRestart => "consumer-restart",
            Scenario::Rebalance => "rebalance",
            Scenario::SlowConsumer => "slow-consumer",
            Scenario::PublisherRetransmit => "publisher-retransmit",
        }
    }

    /// Whether it makes sense on the broker: a directory has no network, no server and one owner.
    pub(crate) fn runs_on(self, broker: Broker) -> bool {
        broker != Broker::Embedded
            || matches!(self, Scenario::ConsumerKill | Scenario::ConsumerRestart | Scenario::SlowConsumer)
    }

    /// Whether it hurts the server, so that it needs its own.
    pub(crate) fn hurts_the_server(self) -> bool {
        matches!(self, Scenario::ServerRestart | Scenario::ServerKill)
    }

    pub(crate) fn is_consumer_proxied(self) -> bool {
        matches!(self, Scenario::ConnectionCut | Scenario::HalfOpen)
    }

    pub(crate) fn is_publisher_proxied(self) -> bool {
        self.is_consumer_proxied() || self == Scenario::PublisherRetransmit
    }

    /// The names of all consumers that it may start.
    pub(crate) fn consumers(self) -> &'static [&'static str] {
        match self {
            Scenario::Rebalance => rebalance::CONSUMERS,
            _ => &[FIRST],
        }
    }

    /// How many events a consumer may hold. The slow consumer has little room; the others never fill theirs, but for every
    /// other run of the one that is started again.
    pub(crate) fn look_ahead(self, seed: u64) -> usize {
        match self {
            Scenario::SlowConsumer => 50,
            Scenario::ConsumerRestart if seed.is_multiple_of(2) => 50,
            _ => 10_000,
        }
    }

    /// Whether order and exclusion hold between processes. A consumer that was killed runs nothing any more, and one that
    /// leaves ends first, so here they do on every broker: events of a key are in one partition.
    pub(crate) fn keeps_order_across(self, _broker: Broker) -> bool {
        true
    }

    /// What is published, and over how many seconds, when it is short and when it is long.
    pub(crate) fn workload(self, seed: u64, is_short: bool) -> Workload {
        let of = |spread| workload(seed, is_short, spread);
        match self {
            Scenario::ConnectionCut => of([5, 40]),
            Scenario::HalfOpen => of([6, 40]),
            Scenario::ServerRestart | Scenario::ServerKill => of([5, 30]),
            Scenario::ConsumerKill => of([4, 25]),
            // Everything at once, so that every stop leaves much behind.
            Scenario::ConsumerRestart => of([0, 0]),
            Scenario::Rebalance => of([6, 40]),
            Scenario::SlowConsumer => {
                Workload { longest: Duration::from_millis(50), is_slow: true, is_troubled: false, ..of([0, 0]) }
            }
            Scenario::PublisherRetransmit => Workload { patience: Some(Duration::from_millis(400)), ..of([4, 30]) },
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// When it cannot be done, or nothing moves any more.
    pub(crate) async fn harm(self, trial: &mut Trial) -> Result<()> {
        match self {
            Scenario::ConnectionCut => connection_cut::harm(trial).await,
            Scenario::HalfOpen => half_open::harm(trial).await,
            Scenario::ServerRestart => server::restart(trial).await,
            Scenario::ServerKill => server::kill(trial).await,
            Scenario::ConsumerKill => consumer_kill::harm(trial).await,
            Scenario::ConsumerRestart => consumer_restart::harm(trial).await,
            Scenario::Rebalance => rebalance::harm(trial).await,
            Scenario::SlowConsumer => slow_consumer::harm(trial).await,
            Scenario::PublisherRetransmit => publisher_retransmit::harm(trial).await,
        }
    }
}
