//! `commute contract`: what running services are promised, or what a configuration file would make of one.

use std::path::{Path, PathBuf};

use commute::{Config, Intent};
use commute_core::operate::{Operation, Report};
use serde_json::Value;

use crate::exit::{Exit, Result};
use crate::running::{Answers, answers, nobody_runs, signed};
use crate::session::Session;
use crate::show::{Cell, Tone, clean};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this app, or this one of its instances, as in inventory/4711.
    #[arg(long, value_name = "NAME")]
    app: Option<String>,
    /// What this file and the environment say, and what the broker that they name gives; no service needs to run.
    #[arg(long, value_name = "FILE", conflicts_with = "app")]
    config: Option<PathBuf>,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result {
    if let Some(file) = &args.config {
        return configured(file, session).await;
    }
    let console = session.console(Intent::Look).await?;
    let Answers { said, missing } = answers(&console, args.app.as_deref(), &Operation::Contract).await?;
    if said.is_empty() {
        return Err(nobody_runs("contracts are made when services start"));
    }
    for (app, report) in said {
        if let Report::Json(contract) = report {
            let contract = signed(contract, &*app);
            match session.out.json {
                true => session.out.object(&contract)?,
                false => outline(&contract, 0, session)?,
            }
        }
    }
    missing.map_or(Ok(Exit::Done), Err)
}

async fn configured(file: &Path, session: &mut Session) -> Result {
    let checked = Config::from_file(file)?.environment()?.check().await?;
    match session.out.json {
        true => session.out.object(&checked)?,
        false => session.out.line(checked.to_string())?,
    }
    match checked.unreachable {
        Some(_) => Ok(Exit::Failed),
        None => Ok(Exit::Done),
    }
}

/// Names and values, each level further in.
fn outline(value: &Value, depth: usize, session: &mut Session) -> Result<()> {
    let inset = "  ".repeat(depth);
    let Value::Object(fields) = value else {
        session.out.line(format!("{inset}{}", plain(value)))?;
        return Ok(());
    };
    for (name, value) in fields {
        let name = Cell::toned(format!("{inset}{}", name.replace('_', " ")), Tone::Head);
        match value {
            Value::Array(items) if items.iter().any(Value::is_object) => {
                session.out.cells(&[name])?;
                for (n, item) in items.iter().enumerate() {
                    if n > 0 {
                        session.out.line("")?;
                    }
                    outline(item, depth + 1, session)?;
                }
            }
            Value::Object(fields) if duration(value).is_none() && !fields.is_empty() => {
                session.out.cells(&[name])?;
                outline(value, depth + 1, session)?;
            }
            value => session.out.cells(&[name, plain(value).into()])?,
        }
    }
    Ok(())
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => clean(text),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        value => duration(value).unwrap_or_else(|| value.to_string()),
    }
}

fn duration(value: &Value) -> Option<String> {
    let (secs, nanos) = (value.get("secs")?.as_u64()?, value.get("nanos")?.as_u64()?);
    let duration = std::time::Duration::new(secs, u32::try_from(nanos).ok()?);
    Some(humantime::format_duration(duration).to_string())
}
