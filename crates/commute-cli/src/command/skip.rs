//! `commute skip`: an event that others wait for is given up and becomes a dead letter.

use commute::admin::SubscriptionName;
use commute::{EventId, Intent};
use commute_core::operate::Operation;
use serde_json::json;

use crate::confirm::Sure;
use crate::exit::{Exit, Result};
use crate::running::{nobody_runs, operate};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The subscription.
    #[arg(value_name = "GROUP@TOPIC")]
    subscription: SubscriptionName,
    /// The id of the event.
    event: EventId,
    #[command(flatten)]
    sure: Sure,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result {
    let Args { subscription, event, sure } = args;
    sure.ask(&format!("{subscription} gives up event {event}"))?;
    let console = session.console(Intent::Look).await?;
    let operation = Operation::Skip { subscription: subscription.clone(), event: event.clone() };
    if operate(&console, &subscription, &operation).await?.is_none() {
        return Err(nobody_runs("`commute parked drop` gives up what is parked"));
    }
    match session.out.json {
        true => {
            session.out.object(&json!({ "subscription": subscription, "event": event, "result": "skipped" }))?;
        }
        false => session.out.line(format!("{subscription} gave up {event}; it is a dead letter now"))?,
    }
    Ok(Exit::Done)
}
