//! `commute tail`: the events of a topic, and those to come.

use std::time::Duration;

use commute::admin::{Begin, StoredEvent};
use commute::{Code, Console, EventId, Intent, Reached, Topic};

use crate::exit::{Exit, Failure, Result};
use crate::session::Session;
use crate::show::{Cell, Tone, short};
use crate::when;

/// How many events are asked for at once.
const PAGE: usize = 100;
/// How much of a payload is shown to a person.
const SHOWN: usize = 160;
/// How often one who follows asks an owner again.
const PAUSE: Duration = Duration::from_millis(200);
/// The same without an owner: the files are read anew each time.
const LONG_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The topic.
    topic: String,
    /// Begin at: start, end, a position, a time, or 1h for an hour ago.
    #[arg(long, value_name = "PLACE", conflicts_with = "last")]
    from: Option<when::From>,
    /// Begin so many events before the end; 10 unless said.
    #[arg(long, value_name = "N")]
    last: Option<u64>,
    /// Go on with what comes; a topic that is not there yet is waited for.
    #[arg(long, short)]
    follow: bool,
    /// Only events of this type.
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Only events with this key.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Only the event with this id.
    #[arg(long, value_name = "ID")]
    id: Option<EventId>,
    /// End after so many events.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Show payloads whole.
    #[arg(long)]
    full: bool,
}

impl Args {
    fn takes(&self, stored: &StoredEvent) -> bool {
        let event = &stored.event;
        self.event_type.as_ref().is_none_or(|wanted| **wanted == *event.event_type)
            && self.key.as_ref().is_none_or(|wanted| Some(wanted.as_str()) == event.partition_key())
            && self.id.as_ref().is_none_or(|wanted| *wanted == event.id)
    }
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result {
    let topic = Topic::new(&args.topic)?;
    let mut from = args.from.map_or(Begin::Last(args.last.unwrap_or(10)), |from| from.0);
    let mut console = session.console(Intent::Look).await?;
    let (mut shown, mut awaited) = (0, false);
    loop {
        let page = match console.admin()?.read(topic.clone(), from, PAGE).await {
            Ok(page) => page,
            Err(error) if args.follow && error.code() == Code::NotFound && shown == 0 => {
                if !awaited && !session.out.json {
                    session.out.note(&format!("there is no topic {topic} yet; waiting for it"));
                }
                (awaited, from) = (true, Begin::Position(0));
                pause(&mut console, session).await?;
                continue;
            }
            Err(error) if shown > 0 => {
                session.out.flush()?;
                let failure = Failure::from(error);
                let Begin::Position(next) = from else { return Err(failure) };
                return Err(failure.remedy(format!("go on with --from {next}")));
            }
            Err(error) => return Err(error.into()),
        };
        let at_end = page.events.is_empty();
        for stored in page.events.iter().filter(|stored| args.takes(stored)) {
            show(stored, args.full, session)?;
            shown += 1;
            if args.limit.is_some_and(|limit| shown >= limit) {
                return Ok(Exit::Done);
            }
        }
        from = Begin::Position(page.next);
        if at_end {
            session.out.flush()?;
            if !args.follow {
                return Ok(Exit::Done);
            }
            pause(&mut console, session).await?;
        }
    }
}

/// Lets some time pass before the end of a topic is looked at again.
async fn pause(console: &mut Console, session: &Session) -> Result<()> {
    if *console.reached() != Reached::Files {
        tokio::time::sleep(PAUSE).await;
        return Ok(());
    }
    tokio::time::sleep(LONG_PAUSE).await;
    // What a service that starts now publishes is not in files that were read before.
    *console = session.reach(Intent::Look).await?;
    Ok(())
}

fn show(stored: &StoredEvent, full: bool, session: &mut Session) -> Result<()> {
    let out = &mut session.out;
    if out.json {
        return Ok(out.object(stored)?);
    }
    let event = &stored.event;
    let data = match std::str::from_utf8(&event.data) {
        Ok(text) if full => text.to_owned(),
        Ok(text) => short(text, SHOWN),
        Err(_) => format!("{} bytes", event.data.len()),
    };
    out.cells(&[
        format!("{:>8}", stored.position).into(),
        Cell::toned(stored.published, Tone::Weak),
        (&event.id).into(),
        Cell::toned(&event.event_type, Tone::Good),
        event.partition_key().map_or_else(Cell::unknown, Cell::from),
        data.into(),
    ])?;
    Ok(())
}
