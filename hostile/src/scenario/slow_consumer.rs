//! Slow consumer: everything is published at once and handled slowly; what is held must stay within the look-ahead.

use anyhow::Result;

use crate::trial::Trial;

pub(crate) async fn harm(trial: &mut Trial) -> Result<()> {
    trial.until(1.0).await
}
