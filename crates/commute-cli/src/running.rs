//! Running services: finding the one that has a subscription, and asking it.

use commute::Console;
use commute::admin::SubscriptionName;
use commute::{Code, Error};
use commute_core::operate::{Operation, Report};

use crate::exit::{Exit, Failure, Result};

/// Asks the service that has a subscription; `None` when no service runs.
pub(crate) async fn operate(
    console: &Console,
    name: &SubscriptionName,
    operation: &Operation,
) -> Result<Option<Report>> {
    let mut apps = console.apps().await?;
    // An app's subscriptions have its name, unless it gave them another.
    apps.sort_by_key(|app| app.app() != name.group);
    let mut missing: Option<Error> = None;
    for app in apps {
        match app.operate(operation.clone()).await {
            // The best guess comes first, and so does what it says.
            Err(error) if error.code() == Code::NotFound => missing = missing.or(Some(error)),
            report => return Ok(Some(report?)),
        }
    }
    missing.map_or(Ok(None), |error| Err(error.into()))
}

/// That it takes a running service, and none runs.
pub(crate) fn nobody_runs(what: &str) -> Failure {
    Failure::new(Exit::NotFound, format!("no service runs here; {what}"))
        .remedy("start the service; for one on a server, say --socket PATH as in its App::control(PATH)")
}

/// How many were done; nothing to do when it is none.
pub(crate) fn count(report: &Report) -> u64 {
    match report {
        Report::Done(count) => *count,
        _ => 1,
    }
}
