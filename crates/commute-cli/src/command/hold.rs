//! `commute pause` and `commute resume`: a running service begins no event of a subscription, or of a key.

use commute::Intent;
use commute::admin::SubscriptionName;
use commute_core::operate::Operation;
use serde_json::json;

use crate::exit::{Exit, Failure, Result};
use crate::running::{nobody_runs, operate};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The subscription.
    #[arg(value_name = "GROUP@TOPIC")]
    subscription: SubscriptionName,
    /// Only events that touch this key, as `commute lanes` writes it.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
}

pub(crate) async fn pause(args: Args, session: &mut Session) -> Result {
    let Args { subscription, key } = args.clone();
    ask(args, session, Operation::Pause { subscription, key }, "paused", "is paused already").await
}

pub(crate) async fn resume(args: Args, session: &mut Session) -> Result {
    let Args { subscription, key } = args.clone();
    ask(args, session, Operation::Resume { subscription, key }, "resumed", "is not paused").await
}

impl Clone for Args {
    fn clone(&self) -> Self {
        Args { subscription: self.subscription.clone(), key: self.key.clone() }
    }
}

async fn ask(args: Args, session: &mut Session, operation: Operation, done: &str, nothing: &str) -> Result {
    let console = session.console(Intent::Look).await?;
    let Args { subscription, key } = args;
    let count = operate(&console, &subscription, &operation).await?;
    let count = count.ok_or_else(|| nobody_runs("what does not run needs no pause, and forgets one when it ends"))?;
    let what = key.as_ref().map_or_else(|| subscription.to_string(), |key| format!("key {key} of {subscription}"));
    if count == 0 {
        return Err(Failure::new(Exit::NothingToDo, format!("{what} {nothing}")));
    }
    match session.out.json {
        true => session.out.object(&json!({ "subscription": subscription, "key": key, "result": done }))?,
        false => session.out.line(format!("{done} {what}"))?,
    }
    Ok(Exit::Done)
}
