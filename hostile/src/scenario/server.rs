//! The server goes and comes back: stopped as it should be, or killed.

use anyhow::Result;

use crate::trial::Trial;

pub(crate) async fn restart(trial: &mut Trial) -> Result<()> {
    for share in shares(trial).iter().copied() {
        trial.until(share).await?;
        trial.fault("server restarted");
        trial
            .server(|server| {
                server.stop();
                server.start_again()
            })
            .await?;
        trial.healed("serves again");
    }
    Ok(())
}

pub(crate) async fn kill(trial: &mut Trial) -> Result<()> {
    for share in shares(trial).iter().copied() {
        trial.until(share).await?;
        trial.pause(0..200).await;
        trial.fault("server killed");
        trial
            .server(|server| {
                server.kill();
                server.start_again()
            })
            .await?;
        trial.healed("serves again");
    }
    Ok(())
}

/// When: each time in the middle of the work.
fn shares(trial: &Trial) -> &'static [f64] {
    if trial.subject.is_short { &[0.35] } else { &[0.2, 0.5, 0.75] }
}
