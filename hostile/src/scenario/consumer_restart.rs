//! Consumer restart: the consumer stops as it should and starts again while much is waiting, many times.

use anyhow::{Context, Result};

use crate::trial::Trial;

pub(crate) async fn harm(trial: &mut Trial) -> Result<()> {
    let times = if trial.subject.is_short { 8 } else { 25 };
    for time in 0..times {
        trial.until(0.9 * f64::from(time) / f64::from(times)).await?;
        trial.pause(0..60).await;
        let (_, consumer) = trial.consumers.first().context("no consumer")?;
        trial.fault("consumer restarted");
        consumer.restart().await?;
        trial.healed("starts again");
    }
    Ok(())
}
