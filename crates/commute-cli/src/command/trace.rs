//! `commute trace`: what became of an event, and what it caused.

use std::collections::HashMap;

use commute::admin::{Happened, Step, Traced};
use commute::{EventId, Intent};

use crate::exit::{Exit, Failure, Result};
use crate::session::Session;
use crate::show::{Cell, Tone};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The id of the event.
    event: EventId,
    /// How many events of its journey to show at most.
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: usize,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result {
    let console = session.console(Intent::Look).await?;
    let journey = console.admin()?.journey(args.event.clone(), args.limit).await?;
    if journey.is_empty() {
        let failure = Failure::new(Exit::NotFound, format!("no stored event has the id {}", args.event));
        return Err(failure.remedy("it may be misspelt, or no longer retained"));
    }
    if session.out.json {
        for traced in &journey {
            session.out.object(traced)?;
        }
        return Ok(Exit::Done);
    }
    let mut depths = HashMap::new();
    for traced in &journey {
        let depth = traced.cause.as_ref().and_then(|cause| depths.get(cause)).map_or(0, |depth: &usize| depth + 1);
        depths.insert(traced.stored.event.id.clone(), depth);
        show(traced, depth, traced.stored.event.id == args.event, session)?;
    }
    Ok(Exit::Done)
}

fn show(traced: &Traced, depth: usize, asked: bool, session: &mut Session) -> Result<()> {
    let stored = &traced.stored;
    let inset = "  ".repeat(depth);
    session.out.cells(&[
        format!("{inset}{}", stored.event.id).into(),
        Cell::toned(&stored.event.event_type, if asked { Tone::Head } else { Tone::Plain }),
        format!("{}:{}", stored.topic, stored.position).into(),
        Cell::toned(stored.published, Tone::Weak),
    ])?;
    for step in &traced.steps {
        let (tone, what) = said(step);
        let at = step.at.map_or_else(Cell::unknown, |at| Cell::toned(at, Tone::Weak));
        session.out.cells(&[format!("{inset}  {}", step.group).into(), Cell::toned(what, tone), at])?;
    }
    Ok(())
}

fn said(step: &Step) -> (Tone, String) {
    match &step.what {
        Happened::Deferred { attempts, not_before } => {
            (Tone::Warn, format!("failed {attempts} times, again at {not_before}"))
        }
        Happened::Parked { attempts, reason: Some(reason) } => {
            (Tone::Bad, format!("parked after {attempts} attempts: {reason}"))
        }
        Happened::Parked { reason: None, .. } => (Tone::Warn, "parked behind another".to_owned()),
        Happened::Unparked => (Tone::Plain, "released".to_owned()),
        Happened::Settled => (Tone::Good, "settled".to_owned()),
        Happened::Open => (Tone::Plain, "not settled".to_owned()),
    }
}
