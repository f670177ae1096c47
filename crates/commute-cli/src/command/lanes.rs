//! `commute lanes`: what waits for what in running services.

use commute::Console;
use commute_core::operate::{HeadState, LaneInfo, Operation, Report};
use serde_json::json;

use crate::exit::Result;
use crate::running::{Answers, answers, nobody_runs, signed};
use crate::session::Session;
use crate::show::{Cell, Table, Tone};
use crate::watch::{self, Picture, Watching};
use crate::when::ago;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this app, or this one of its instances, as in inventory/4711.
    #[arg(long, value_name = "NAME")]
    app: Option<String>,
    /// How many lanes of each app to show at most.
    #[arg(long, default_value_t = 20, value_name = "N")]
    limit: usize,
    #[command(flatten)]
    watching: Watching,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result {
    let Args { app, limit, watching } = args;
    watch::look(session, &watching, async |console| picture(console, app.as_deref(), limit).await).await
}

async fn picture(console: &Console, only: Option<&str>, limit: usize) -> Result<Picture> {
    let Answers { said, missing } = answers(console, only, &Operation::Lanes { max: limit }).await?;
    if said.is_empty() {
        return Err(nobody_runs("lanes are in running services"));
    }
    let mut picture = Picture { missing, ..Picture::default() };
    let mut table = Table::new(&["APP", "KEY", ">EVENTS", ">PARKED", "STATE", "HEAD", ">ATTEMPT", ">AGE", "WAITS FOR"]);
    for (app, report) in said {
        if let Report::Lanes(lanes) = report {
            for lane in lanes {
                table.rows.push(row(&app.name(), &lane));
                let mut object = json!(lane);
                object["app"] = json!(app.app());
                picture.objects.push(signed(object, &*app));
            }
        }
    }
    if table.rows.is_empty() {
        picture.lines.push("no event waits in a lane".to_owned());
    }
    picture.tables.push(table);
    Ok(picture)
}

fn row(app: &str, lane: &LaneInfo) -> Vec<Cell> {
    let head = lane.head.as_ref();
    let state = match head.map(|head| &head.state) {
        _ if lane.paused => Cell::toned("paused", Tone::Warn),
        None => Cell::unknown(),
        Some(HeadState::Running) => Cell::toned("running", Tone::Good),
        Some(HeadState::Ready) => "ready".into(),
        Some(HeadState::Waiting) => "waiting".into(),
        Some(HeadState::BackingOff(ms)) => Cell::toned(format!("again in {ms}ms"), Tone::Warn),
        Some(HeadState::Parked(Some(reason))) => Cell::toned(format!("parked: {reason}"), Tone::Bad),
        Some(HeadState::Parked(None)) => Cell::toned("parked", Tone::Bad),
        Some(HeadState::Paused) => Cell::toned("paused", Tone::Warn),
    };
    vec![
        app.into(),
        (&lane.key).into(),
        lane.events.into(),
        Cell::alarm(Some(lane.parked as u64), Tone::Bad),
        state,
        Cell::maybe(head.and_then(|head| head.event.as_ref())),
        Cell::maybe(head.map(|head| head.attempt)),
        Cell::maybe(head.map(|head| ago(head.published))),
        head.map_or_else(String::new, |head| head.waits_for.join(" ")).into(),
    ]
}
