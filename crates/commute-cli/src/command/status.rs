//! `commute status`: what every group has before it, and what the services do.

use commute::admin::{DEAD_LETTERS, GroupInfo};
use commute::{Code, Console, Topic};
use commute_core::operate::{Operation, Report};
use serde_json::{Value, json};

use super::Paging;
use crate::exit::Result;
use crate::running::{Answers, answers, signed};
use crate::session::Session;
use crate::show::{Cell, Table, Tone};
use crate::watch::{self, Picture, Watching};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this topic.
    topic: Option<String>,
    #[command(flatten)]
    paging: Paging,
    #[command(flatten)]
    watching: Watching,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result {
    let topic = args.topic.map(Topic::new).transpose()?;
    let paging = args.paging;
    watch::look(session, &args.watching, async |console| picture(console, topic.clone(), &paging).await).await
}

async fn picture(console: &Console, topic: Option<Topic>, paging: &Paging) -> Result<Picture> {
    let Answers { said, missing } = answers(console, None, &Operation::Stats).await?;
    let mut picture = Picture { lines: vec![console.reached().to_string()], missing, ..Picture::default() };
    let mut groups = match console.admin() {
        Ok(admin) => admin.groups(topic).await,
        Err(error) => Err(error),
    };
    // Services say what a server does not.
    if let Err(error) = &groups
        && error.code() == Code::NeedNotMet
        && !said.is_empty()
    {
        picture.lines.push(error.detail().to_owned());
        groups = Ok(Vec::new());
    }
    let mut groups = groups?;
    groups.sort_by(|a, b| a.subscription.cmp(&b.subscription));
    let after = |group: &GroupInfo| paging.after.as_ref().is_none_or(|after| group.subscription.to_string() > *after);
    groups.sort_by_cached_key(|group| group.subscription.to_string());
    groups.retain(after);
    if groups.len() > paging.limit {
        groups.truncate(paging.limit);
        let last = groups.last().map(|group| group.subscription.to_string()).unwrap_or_default();
        picture.lines.push(format!("there is more: --after {last}"));
    }
    picture.tables.push(of_groups(&groups));
    picture.objects.extend(groups.iter().map(|group| kind("group", json!(group))));
    let mut table = Table::new(&[
        "APP",
        "SUBSCRIPTION",
        ">RECEIVED",
        ">HANDLED",
        ">FAILED",
        ">DEAD",
        ">DUPLICATES",
        ">RETRYING",
        ">PARKED",
    ]);
    for (app, report) in said {
        if let Report::Json(stats) = report {
            rows_of(&mut table, &app.name(), &stats);
            let object = json!({ "kind": "app", "app": app.app(), "stats": stats });
            picture.objects.push(signed(object, &*app));
        }
    }
    picture.tables.push(table);
    if picture.tables.iter().all(|table| table.rows.is_empty()) {
        picture.lines.push("no group has subscribed yet".to_owned());
    }
    Ok(picture)
}

fn kind(kind: &str, mut object: Value) -> Value {
    object["kind"] = json!(kind);
    object
}

fn of_groups(groups: &[GroupInfo]) -> Table {
    let mut table = Table::new(&["GROUP", ">BACKLOG", ">IN FLIGHT", ">RETRYING", ">PARKED", ">INSTANCES"]);
    for group in groups {
        let dead = group.subscription.group == DEAD_LETTERS;
        table.rows.push(vec![
            (&group.subscription).into(),
            if dead { Cell::alarm(group.backlog, Tone::Bad) } else { Cell::maybe(group.backlog) },
            Cell::maybe(group.in_flight),
            Cell::alarm(group.retrying, Tone::Warn),
            Cell::alarm(group.parked, Tone::Bad),
            Cell::maybe(group.instances),
        ]);
    }
    table
}

fn rows_of(table: &mut Table, app: &str, stats: &Value) {
    for subscription in stats["subscriptions"].as_array().into_iter().flatten() {
        let count = |name: &str| subscription[name].as_u64();
        let text = |name: &str| subscription[name].as_str().unwrap_or("?");
        table.rows.push(vec![
            app.into(),
            format!("{}@{}", text("subscription"), text("topic")).into(),
            Cell::maybe(count("received")),
            Cell::maybe(count("handled")),
            Cell::alarm(count("failed"), Tone::Warn),
            Cell::alarm(count("dead"), Tone::Bad),
            Cell::maybe(count("duplicates")),
            Cell::alarm(count("retrying"), Tone::Warn),
            Cell::alarm(count("parked"), Tone::Bad),
        ]);
    }
}
