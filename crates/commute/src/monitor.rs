//! Monitoring: a handle for whoever looks at a running app: endpoints, exporters, a terminal.

use std::sync::Arc;

use commute_core::Outbox;
use serde::Serialize;

use crate::contract::Contract;
use crate::engine::Engine;
use crate::stats::Stats;

/// Looks at a running app. Cheap to clone. Keeps the app's broker open as long as it lives, and the app not running.
///
/// ```
/// # use commute::prelude::*;
/// # #[derive(Debug, Serialize, Deserialize, Event)]
/// # #[event(type = "ping")]
/// # struct Ping {}
/// # #[tokio::main]
/// # async fn main() -> commute::Result<()> {
/// # async fn pong(_: Ping) {}
/// # let app = App::new("app").broker(commute::connect("memory:").await?).on("pings", handler(pong));
/// let running = app.start().await?;
/// let monitor = running.monitor();
/// assert_eq!(monitor.health(), commute::Health::Ready);
/// running.stop().await?;
/// assert_eq!(monitor.health(), commute::Health::Stopped);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Monitor {
    pub(crate) engine: Arc<Engine>,
    pub(crate) outbox: Option<Arc<dyn Outbox>>,
    pub(crate) contract: Arc<Contract>,
}

/// Where an app is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Its subscriptions are not open yet.
    Starting,
    /// It takes deliveries and handles them.
    Ready,
    /// It was told to stop, takes no more deliveries, and finishes what it has in hand.
    Draining,
    /// It stopped by itself, because of an error.
    Failed,
    /// It has stopped as it was told.
    Stopped,
}

/// What a stop left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Events that were taken and not handled; they are delivered again at the next start.
    pub unhandled: usize,
    /// Events that are staged in the store; they are published at the next start.
    pub staged: usize,
}

impl Monitor {
    /// What the app has done, and what it holds now.
    pub fn stats(&self) -> Stats {
        Stats::of(&self.engine, self.staged())
    }

    /// What the app is promised.
    pub fn contract(&self) -> &Contract {
        &self.contract
    }

    /// Where it is in its life.
    pub fn health(&self) -> Health {
        let stop = &self.engine.stop;
        if self.engine.failure.get().is_some() {
            Health::Failed
        } else if stop.everything.is_cancelled() {
            Health::Stopped
        } else if stop.receiving.is_cancelled() {
            Health::Draining
        } else {
            Health::Ready
        }
    }

    /// Waits until the app has stopped or failed. Cancel safe.
    pub async fn ended(&self) {
        self.engine.stop.everything.cancelled().await;
    }

    /// What a stop would leave behind if it were over now.
    pub fn left(&self) -> Left {
        Left { unhandled: self.engine.dispatch().in_flight.iter().sum(), staged: self.staged() }
    }

    fn staged(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.len())
    }
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Monitor({}, {:?})", self.engine.name, self.health())
    }
}
