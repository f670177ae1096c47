//! Operating: what a person asks of a running app.
//!
//! ```text
//! Running, Attached ─► Operator ─┬─ pause    the gate of a subscription, the hold of a lane
//!                                ├─ skip     find it, write its dead letter, let its lanes go on
//!                                ├─ release  parked events, with what hangs together with them
//!                                └─ lanes    who waits for whom, with names
//! ```

mod find;
mod lanes;
mod methods;
mod pause;
mod release;
mod skip;

use std::future::Future;
use std::sync::Arc;

use commute_core::{BoxFuture, Code, Error, Operate, Operation, Outbox, Report, Result, SubscriptionName};
use tokio_util::task::TaskTracker;

use crate::contract::Contract;
use crate::engine::Engine;
use crate::stats::Stats;

/// A running app, as whoever comes in through its broker sees it.
pub(crate) struct Operator {
    pub(crate) engine: Arc<Engine>,
    pub(crate) contract: Arc<Contract>,
    pub(crate) outbox: Option<Arc<dyn Outbox>>,
    /// What is done to events is done to the end, even if whoever asked for it has gone.
    pub(crate) tasks: TaskTracker,
}

impl Operator {
    fn subscription(&self, name: &SubscriptionName) -> Result<usize> {
        let is = |sub: &crate::engine::Sub| sub.named() == *name;
        let found = self.engine.subscriptions.iter().position(is);
        found.ok_or_else(|| Error::new(Code::NotFound, format!("app {} has no subscription {name}", self.engine.name)))
    }

    /// Answers whether it was not paused before.
    fn pause(&self, subscription: &SubscriptionName, key: Option<&str>) -> Result<bool> {
        Ok(pause::pause(&self.engine, self.subscription(subscription)?, key))
    }

    /// Answers whether it was paused.
    fn resume(&self, subscription: &SubscriptionName, key: Option<&str>) -> Result<bool> {
        Ok(pause::resume(&self.engine, self.subscription(subscription)?, key))
    }

    /// Does something to the end, unless the app ends before.
    pub(crate) async fn to_the_end<T, F>(&self, work: impl FnOnce(Arc<Engine>) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let (engine, work) = (self.engine.clone(), work(self.engine.clone()));
        let ended = || Error::new(Code::Closed, "the app has ended");
        let task = self.tasks.spawn(async move {
            tokio::select! {
                biased;
                done = work => done,
                () = engine.stop.everything.cancelled() => Err(ended()),
            }
        });
        task.await.unwrap_or_else(|_| Err(ended()))
    }

    async fn answer(&self, operation: Operation) -> Result<Report> {
        let json = |cause: serde_json::Error| Error::new(Code::InvalidEvent, "it is no JSON").caused_by(cause);
        Ok(match operation {
            Operation::Stats => {
                let staged = self.outbox.as_ref().map_or(0, |outbox| outbox.len());
                Report::Json(serde_json::to_value(Stats::of(&self.engine, staged)).map_err(json)?)
            }
            Operation::Contract => Report::Json(serde_json::to_value(&*self.contract).map_err(json)?),
            Operation::Lanes { max } => Report::Lanes(lanes::lanes(&self.engine, max).await?),
            Operation::Pause { subscription, key } => Report::Done(self.pause(&subscription, key.as_deref())?.into()),
            Operation::Resume { subscription, key } => Report::Done(self.resume(&subscription, key.as_deref())?.into()),
            Operation::Skip { subscription, event } => {
                let n = self.subscription(&subscription)?;
                self.to_the_end(move |engine| async move { skip::skip(&engine, n, &event).await }).await?;
                Report::Done(1)
            }
            Operation::Release { subscription, what } => {
                let n = self.subscription(&subscription)?;
                let back = self.to_the_end(move |engine| async move { release::release(&engine, n, &what).await });
                Report::Done(back.await? as u64)
            }
        })
    }
}

impl Operate for Operator {
    fn app(&self) -> String {
        self.engine.name.to_string()
    }

    fn operate(&self, operation: Operation) -> BoxFuture<'_, Result<Report>> {
        Box::pin(self.answer(operation))
    }
}
