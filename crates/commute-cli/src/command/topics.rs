//! `commute topics`: the topics of a broker.

use commute::{Intent, Topic};

use super::Paging;
use crate::exit::{Exit, Result};
use crate::session::Session;
use crate::show::{Cell, Table};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    paging: Paging,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result {
    let console = session.console(Intent::Look).await?;
    let after = args.paging.after.map(Topic::new).transpose()?;
    let limit = args.paging.limit;
    let mut topics = console.admin()?.topics(after, limit.saturating_add(1)).await?;
    let more = topics.len() > limit;
    topics.truncate(limit);
    let mut table = Table::new(&["TOPIC", ">EVENTS", ">FIRST", ">NEXT", ">GROUPS", "YOUNGEST"]);
    for info in &topics {
        if session.out.json {
            session.out.object(info)?;
            continue;
        }
        table.rows.push(vec![
            (&info.topic).into(),
            info.next.saturating_sub(info.first).into(),
            info.first.into(),
            info.next.into(),
            info.groups.into(),
            Cell::maybe(info.youngest),
        ]);
    }
    if !session.out.json {
        session.out.table(&table)?;
    }
    if let Some(last) = topics.last().filter(|_| more) {
        session.out.more(&last.topic);
    }
    Ok(Exit::Done)
}
