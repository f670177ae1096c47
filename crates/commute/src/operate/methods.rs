//! Operating from code: what an operator can ask, as methods of the running app.

use commute_core::operate::{LaneInfo, Released};
use commute_core::{EventId, Result, SubscriptionName};

use super::{lanes, release, skip};
use crate::running::Running;

/// What an operator can ask of a running app. Pauses are of this process, and end with it; other instances go on.
impl Running {
    /// Begins no event of a subscription until it is resumed. What runs is finished; what was not begun goes back to the
    /// broker, so that no event of another subscription waits for it, and comes again in its order. Answers `false` when it
    /// was paused already.
    ///
    /// [`Running::idle`] waits while events are stored for a paused subscription.
    ///
    /// ```
    /// # use commute::prelude::*;
    /// # #[derive(Debug, Serialize, Deserialize, Event)]
    /// # #[event(type = "ping")]
    /// # struct Ping {}
    /// # async fn ping(_: Ping) {}
    /// # #[tokio::main]
    /// # async fn main() -> commute::Result<()> {
    /// # let app = App::new("app").broker(commute::connect("memory:").await?).on("pings", handler(ping)).start().await?;
    /// let subscription = "app@pings".parse()?;
    /// app.pause(&subscription)?;
    /// app.publisher().publish("pings", &Ping {}).await?;
    /// assert_eq!(app.stats().handled(), 0);
    /// app.resume(&subscription)?;
    /// app.idle().await?;
    /// assert_eq!(app.stats().handled(), 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `NotFound` when the app has no such subscription. So it is with every method here.
    pub fn pause(&self, subscription: &SubscriptionName) -> Result<bool> {
        self.operator.pause(subscription, None)
    }

    /// Ends the pause of a subscription. Answers `false` when it was not paused.
    ///
    /// # Errors
    /// As [`Running::pause`].
    pub fn resume(&self, subscription: &SubscriptionName) -> Result<bool> {
        self.operator.resume(subscription, None)
    }

    /// Begins no event that touches a key, in the words of [`LaneInfo::key`], until it is resumed; no event of the key need
    /// have come before. A lane belongs to the app, so this holds for all its subscriptions. What is held keeps its place
    /// and counts against the look-ahead of its subscription. Answers `false` when the key was paused already.
    ///
    /// # Errors
    /// As [`Running::pause`].
    pub fn pause_key(&self, subscription: &SubscriptionName, key: &str) -> Result<bool> {
        self.operator.pause(subscription, Some(key))
    }

    /// Ends the pause of a key. Answers `false` when it was not paused by this subscription.
    ///
    /// # Errors
    /// As [`Running::pause`].
    pub fn resume_key(&self, subscription: &SubscriptionName, key: &str) -> Result<bool> {
        self.operator.resume(subscription, Some(key))
    }

    /// Gives up an event that waits, backs off or is parked: it becomes a dead letter and its lanes go on. What was parked
    /// behind it, and behind nothing else that failed, comes back. An event that was not received yet can be skipped while
    /// its subscription is paused, on brokers whose administration ends events.
    ///
    /// It is done to the end even if the future is dropped.
    ///
    /// # Errors
    /// `NotFound` when there is no such event, or it is over; `GroupBusy` while a worker has it; `PayloadTooLarge` when the
    /// broker would refuse its dead letter; the broker's.
    pub async fn skip(&self, subscription: &SubscriptionName, event: &EventId) -> Result<()> {
        let (n, event) = (self.operator.subscription(subscription)?, event.clone());
        self.operator.to_the_end(move |engine| async move { skip::skip(&engine, n, &event).await }).await
    }

    /// Brings parked events of a subscription back in order, with everything that hangs together with them by lanes, before
    /// anything that arrives later. They are tried anew. Answers how many came back.
    ///
    /// It is done to the end even if the future is dropped.
    ///
    /// # Errors
    /// `NotParked` when there is nothing; the broker's.
    pub async fn unpark(&self, subscription: &SubscriptionName, what: Released) -> Result<usize> {
        let n = self.operator.subscription(subscription)?;
        self.operator.to_the_end(move |engine| async move { release::release(&engine, n, &what).await }).await
    }

    /// The lanes with the most events first, at most `max` of them and never more than 1,000: how long each is, and what its
    /// first event does. O(events) under the lock that the workers share: a few milliseconds with a full look-ahead.
    ///
    /// # Errors
    /// None today; payloads that cannot be read leave their lanes unnamed.
    pub async fn lanes(&self, max: usize) -> Result<Vec<LaneInfo>> {
        lanes::lanes(&self.operator.engine, max).await
    }
}
