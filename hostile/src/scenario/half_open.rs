//! Half open: the network swallows everything for longer than a heartbeat, so both sides give each other up.

use anyhow::{Context, Result};

use crate::broker::Broker;
use crate::trial::Trial;

pub(crate) async fn harm(trial: &mut Trial) -> Result<()> {
    let times = if trial.subject.is_short { 1 } else { 3 };
    for time in 1..=times {
        trial.until(0.8 * f64::from(time) / f64::from(times + 1)).await?;
        trial.place.proxy.as_ref().context("no proxy")?.freeze();
        trial.fault("frozen");
        // Three heartbeats of two seconds, or a session of six.
        let millis = if trial.subject.broker == Broker::Rabbitmq { 6_500..9_000 } else { 8_000..10_000 };
        trial.pause(millis).await;
        trial.place.proxy.as_ref().context("no proxy")?.heal();
        trial.healed("thaws");
    }
    Ok(())
}
