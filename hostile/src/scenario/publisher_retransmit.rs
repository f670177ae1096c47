//! Publisher retransmit: what is published arrives, its confirm does not, and the connection is cut between the two.

use anyhow::{Context, Result};

use crate::trial::Trial;

pub(crate) async fn harm(trial: &mut Trial) -> Result<()> {
    trial.until(0.02).await?;
    while !trial.is_published() {
        trial.place.proxy.as_ref().context("no proxy")?.mute();
        // Long enough for a publish to arrive and be stored.
        trial.pause(10..120).await;
        trial.place.proxy.as_ref().context("no proxy")?.heal();
        trial.fault("cut before the confirm");
        trial.healed("connects again");
        trial.pause(50..400).await;
    }
    Ok(())
}
