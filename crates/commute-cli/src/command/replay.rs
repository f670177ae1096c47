//! `commute replay`: a group handles everything from a place on once more.

use commute::Intent;
use commute::admin::SubscriptionName;
use serde_json::json;

use crate::confirm::Sure;
use crate::exit::{Exit, Result};
use crate::session::Session;
use crate::when;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The subscription.
    #[arg(value_name = "GROUP@TOPIC")]
    subscription: SubscriptionName,
    /// From: start, end, a position, a time, or 1h for an hour ago.
    #[arg(long, value_name = "PLACE")]
    from: when::From,
    #[command(flatten)]
    sure: Sure,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result {
    let Args { subscription, from, sure } = args;
    sure.ask(&format!("{subscription} handles what it has handled once more, and forgets what it parked"))?;
    let console = session.console(Intent::Act).await?;
    let position = console.admin()?.replay(subscription.clone(), from.0).await?;
    console.close().await?;
    match session.out.json {
        true => session.out.object(&json!({ "subscription": subscription, "from": position, "result": "replayed" }))?,
        false => session.out.line(format!("{subscription} goes on at position {position} when it starts"))?,
    }
    Ok(Exit::Done)
}
