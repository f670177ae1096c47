//! Connection cut: every connection is reset at random times, and new ones are refused for a while.

use anyhow::{Context, Result};

use crate::trial::Trial;

pub(crate) async fn harm(trial: &mut Trial) -> Result<()> {
    let cuts = if trial.subject.is_short { 6 } else { 25 };
    for cut in 0..cuts {
        trial.until(0.8 * f64::from(cut) / f64::from(cuts)).await?;
        trial.pause(0..300).await;
        let proxy = trial.place.proxy.as_ref().context("no proxy")?;
        proxy.cut();
        trial.fault("cut");
        // Some are over before anybody has tried to connect again.
        let longest = if cut % 3 == 0 { 5 } else { 900 };
        trial.pause(0..longest).await;
        trial.place.proxy.as_ref().context("no proxy")?.heal();
        trial.healed("connects again");
    }
    Ok(())
}
