//! Rebalance: a second consumer joins the group under load, the first one goes, killed or as it should, and comes back.

use anyhow::Result;

use crate::trial::{FIRST, Trial};

const SECOND: &str = "two";

/// Both have a store of their own: a store has one owner.
pub(crate) const CONSUMERS: &[&str] = &[FIRST, SECOND];

pub(crate) async fn harm(trial: &mut Trial) -> Result<()> {
    trial.until(0.2).await?;
    trial.join(SECOND);
    trial.fault("joined");
    let rounds: u32 = if trial.subject.is_short { 2 } else { 6 };
    for round in 1..=rounds {
        trial.until(0.2 + 0.65 * f64::from(round) / f64::from(rounds)).await?;
        trial.pause(0..200).await;
        let goes = CONSUMERS[(round as usize + 1) % 2];
        let consumer = trial.take(goes)?;
        // Both ways within two rounds; which one is first is chance.
        let ended = if (u64::from(round) + trial.subject.seed).is_multiple_of(2) {
            trial.fault("killed");
            consumer.kill().await?
        } else {
            trial.fault("left");
            consumer.leave().await?
        };
        trial.gone(ended);
        trial.healed("the other one goes on");
        if round < rounds {
            trial.pause(100..1_000).await;
            trial.join(goes);
            trial.fault("joined");
        }
    }
    Ok(())
}
