//! Running services: finding those that have a subscription, and asking them.

use std::sync::Arc;

use commute::Console;
use commute::admin::SubscriptionName;
use commute::{Code, Error};
use commute_core::Operate;
use commute_core::operate::{Operation, Report};
use serde_json::{Value, json};

use crate::exit::{Exit, Failure, Result};

/// Asks every service that has a subscription, and counts what they did; `None` when no service runs. Those that have it not are
/// passed over, unless nobody has it.
pub(crate) async fn operate(console: &Console, name: &SubscriptionName, operation: &Operation) -> Result<Option<u64>> {
    let mut apps = console.apps().await?;
    // An app's subscriptions have its name, unless it gave them another: the best guess comes first, and so does what it says.
    apps.sort_by_key(|app| app.app() != name.group);
    let (mut count, mut did, mut failed) = (0, Vec::new(), Vec::new());
    // One after the other: two may know of the same parked event.
    for app in apps {
        match app.operate(operation.clone()).await {
            Ok(Report::Done(done)) => {
                count += done;
                did.push(app.name());
            }
            Ok(_) => return Err(Failure::new(Exit::Failed, format!("{} did something else", app.name()))),
            Err(error) => failed.push(error),
        }
    }
    failed.sort_by_key(weight);
    match failed.into_iter().next() {
        Some(error) if did.is_empty() => Err(error.into()),
        Some(error) if weight(&error) == 0 => {
            Err(Failure::from(error).after(did.len(), &format!("{} did it", did.join(", "))))
        }
        _ => Ok((!did.is_empty()).then_some(count)),
    }
}

/// How little an error says about whether it was done.
fn weight(error: &Error) -> u8 {
    match error.code() {
        Code::NotFound => 2,
        Code::NotParked => 1,
        _ => 0,
    }
}

/// What services answered, and who did not.
#[derive(Default)]
pub(crate) struct Answers {
    pub(crate) said: Vec<(Arc<dyn Operate>, Report)>,
    pub(crate) missing: Option<Failure>,
}

/// Asks all services at once, or those of one name. Fails when nobody answers; nobody is no failure when nobody runs.
pub(crate) async fn answers(console: &Console, only: Option<&str>, operation: &Operation) -> Result<Answers> {
    let mut apps = console.apps().await?;
    apps.retain(|app| only.is_none_or(|only| app.app() == only || app.name() == only));
    apps.sort_by_key(|app| app.name());
    let asked = apps.into_iter().map(|app| {
        let operation = operation.clone();
        tokio::spawn(async move { (app.operate(operation).await, app) })
    });
    let (mut answers, mut failed) = (Answers::default(), Vec::new());
    for asked in asked.collect::<Vec<_>>() {
        match asked.await.map_err(|_| Failure::new(Exit::Failed, "asking was given up"))? {
            (Ok(report), app) => answers.said.push((app, report)),
            (Err(error), _) => failed.push(Failure::from(error)),
        }
    }
    let silent: Vec<_> = failed.iter().map(|failure| failure.message.clone()).collect();
    answers.missing = failed.into_iter().next();
    match answers.missing.take() {
        Some(failure) if answers.said.is_empty() => Err(failure),
        Some(failure) => {
            let message = format!("{}; the others did", silent.join("; "));
            Ok(Answers { missing: Some(Failure { exit: Exit::Partly, message, ..failure }), ..answers })
        }
        None => Ok(answers),
    }
}

/// Says in which of several processes the service is that said this.
pub(crate) fn signed(mut object: Value, app: &dyn Operate) -> Value {
    if let (Some(instance), Some(object)) = (app.instance(), object.as_object_mut()) {
        object.insert("instance".to_owned(), json!(instance));
    }
    object
}

/// That it takes a running service, and none runs.
pub(crate) fn nobody_runs(what: &str) -> Failure {
    Failure::new(Exit::NotFound, format!("no service runs here; {what}"))
        .remedy("start the service; for one on a server, say --socket PATH as in its App::control(PATH)")
}
