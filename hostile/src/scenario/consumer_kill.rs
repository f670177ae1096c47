//! Consumer kill: the process that handles gets SIGKILL at random moments, and starts again with the same data.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::trial::Trial;

pub(crate) async fn harm(trial: &mut Trial) -> Result<()> {
    let times = if trial.subject.is_short { 3 } else { 10 };
    for time in 1..=times {
        trial.until(0.85 * f64::from(time) / f64::from(times + 1)).await?;
        trial.pause(0..250).await;
        let pause = Duration::from_millis(trial.random.u64(0..500));
        let (_, consumer) = trial.consumers.first().context("no consumer")?;
        trial.fault("consumer killed");
        consumer.kill_and_start(pause).await?;
        trial.healed("starts again");
    }
    Ok(())
}
