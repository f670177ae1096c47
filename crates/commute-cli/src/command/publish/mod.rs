//! `commute publish`: events from an argument, a file or standard input.

mod read;

use std::fs::File;
use std::io::{self, BufReader, Cursor, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

use commute::{Clock, Console, EventId, Intent, SystemClock, Topic};
use commute_core::Outgoing;
use indicatif::ProgressBar;
use serde_json::json;
use tokio::sync::mpsc;

use self::read::{About, Item, Malformed};
use crate::exit::{Exit, Failure, Result};
use crate::session::Session;

/// How many events go into one request at most, and how many bytes of them: what an owner takes at once is several times as
/// much.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 1 << 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The topic.
    topic: String,
    /// One event as JSON; without it, and without --file, lines of standard input.
    event: Option<String>,
    /// Lines of a file.
    #[arg(long, short, value_name = "FILE", conflicts_with = "event")]
    file: Option<PathBuf>,
    /// The type of events that are no CloudEvents.
    #[arg(long = "type", short, value_name = "TYPE")]
    event_type: Option<String>,
    /// The key of events that have none.
    #[arg(long, short, value_name = "KEY")]
    key: Option<String>,
    /// The id of the event, so that publishing it again does nothing.
    #[arg(long, value_name = "ID", requires = "event")]
    id: Option<EventId>,
    /// Who publishes events that are no CloudEvents.
    #[arg(long, value_name = "NAME", default_value = "commute-cli")]
    source: String,
    /// Deliver them after this time, not before.
    #[arg(long, value_name = "TIME", value_parser = crate::when::duration)]
    delay: Option<Duration>,
    /// Go on behind a line that is no event.
    #[arg(long)]
    keep_going: bool,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result {
    let about = About {
        topic: Topic::new(&args.topic)?,
        event_type: args.event_type,
        key: args.key,
        id: args.id,
        source: args.source,
        not_before: args.delay.map(|delay| SystemClock.now().plus(delay)),
    };
    let single = args.event.is_some();
    let (name, from): (String, Box<dyn io::BufRead + Send>) = match (args.event, args.file) {
        (Some(event), _) => ("argument".to_owned(), Box::new(Cursor::new(event))),
        (None, Some(path)) => {
            let shown = path.display().to_string();
            let failed = |cause| Failure::new(Exit::Usage, format!("cannot read {shown}: {cause}"));
            (shown.clone(), Box::new(BufReader::new(File::open(&path).map_err(failed)?)))
        }
        (None, None) => ("standard input".to_owned(), Box::new(BufReader::new(io::stdin()))),
    };
    let console = session.console(Intent::Create).await?;
    let (to, items) = mpsc::channel(BATCH);
    let keep_going = args.keep_going;
    // Reading blocks; whoever waits for a person at a keyboard is left behind at the end.
    tokio::task::spawn_blocking(move || {
        read::read(from, &about, |item| {
            let goes_on = keep_going || matches!(item, Item::Event(..));
            to.blocking_send(item).is_ok() && goes_on
        });
    });
    let mut publishing =
        Publishing { name, items, single, accepted: 0, duplicates: 0, malformed: 0, bar: bar(session) };
    let published = publishing.run(&console, session).await;
    publishing.bar.finish_and_clear();
    let publishing = &publishing;
    published.map_err(|failure| publishing.before(failure))?;
    console.close().await?;
    publishing.summary(session)
}

fn bar(session: &Session) -> ProgressBar {
    match io::stderr().is_terminal() && !session.out.json {
        true => ProgressBar::new_spinner(),
        false => ProgressBar::hidden(),
    }
}

struct Publishing {
    name: String,
    items: mpsc::Receiver<Item>,
    single: bool,
    accepted: usize,
    duplicates: usize,
    malformed: usize,
    bar: ProgressBar,
}

impl Publishing {
    async fn run(&mut self, console: &Console, session: &mut Session) -> Result<()> {
        let mut next = self.items.recv().await;
        while let Some(item) = next.take() {
            match item {
                Item::Failed(cause) => {
                    return Err(Failure::new(Exit::Failed, format!("cannot read {}: {cause}", self.name)));
                }
                Item::Malformed(wrong) => self.wrong(&wrong, session)?,
                Item::Event(line, event) => {
                    let (mut bytes, mut last) = (event.envelope.size(), line);
                    let mut batch = vec![*event];
                    // What is there already goes with it; nothing is waited for.
                    while batch.len() < BATCH && bytes < BATCH_BYTES {
                        match self.items.try_recv() {
                            Ok(Item::Event(line, event)) => {
                                bytes += event.envelope.size();
                                last = line;
                                batch.push(*event);
                            }
                            Ok(other) => {
                                next = Some(other);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    self.publish(console, batch, (line, last), session).await?;
                }
            }
            if next.is_none() {
                next = self.items.recv().await;
            }
        }
        Ok(())
    }

    async fn publish(
        &mut self,
        console: &Console,
        batch: Vec<Outgoing>,
        (first, last): (usize, usize),
        session: &mut Session,
    ) -> Result<()> {
        let ids: Vec<_> = batch.iter().map(|event| (event.envelope.id.clone(), event.topic.to_string())).collect();
        let receipts = console.publish(batch).await.map_err(|error| {
            let failure = Failure::from(error);
            let lines = if first == last { format!("line {first}") } else { format!("lines {first} to {last}") };
            let message = format!("{} of {}: {}", lines, self.name, failure.message);
            Failure { message, ..failure }
        })?;
        for ((id, topic), receipt) in ids.iter().zip(&receipts) {
            self.accepted += 1;
            self.duplicates += usize::from(receipt.duplicate);
            if session.out.json {
                session.out.object(&json!({
                    "id": id, "topic": topic, "position": receipt.position, "duplicate": receipt.duplicate,
                }))?;
            } else if self.single {
                let place = receipt.position.map_or_else(String::new, |position| format!(" at position {position}"));
                let had = if receipt.duplicate { "; it was there already" } else { "" };
                session.out.line(format!("published {id} to {topic}{place}{had}"))?;
            }
        }
        self.bar.set_message(format!("{} events", self.accepted));
        self.bar.tick();
        // Whoever reads along knows what was accepted however this ends.
        Ok(session.out.flush()?)
    }

    fn wrong(&mut self, wrong: &Malformed, session: &mut Session) -> Result<()> {
        self.malformed += 1;
        let Malformed { line, column, why } = wrong;
        if session.out.json {
            let error = json!({ "source": self.name, "line": line, "column": column, "reason": why });
            eprintln!("{}", json!({ "malformed": error }));
        } else {
            session.out.flush()?;
            self.bar.suspend(|| eprintln!("{}:{line}:{column}: {}", self.name, crate::show::clean(why)));
        }
        Ok(())
    }

    fn so_far(&self) -> String {
        let events = |count: usize| if count == 1 { "1 event".to_owned() } else { format!("{count} events") };
        let mut said = format!("{} accepted", events(self.accepted));
        if self.duplicates > 0 {
            said.push_str(&format!(", {} of them there already", self.duplicates));
        }
        if self.malformed > 0 {
            said.push_str(&format!(", {} malformed", self.malformed));
        }
        said
    }

    fn before(&self, failure: Failure) -> Failure {
        if failure.silent { failure } else { failure.after(self.accepted, &self.so_far()) }
    }

    fn summary(&self, session: &mut Session) -> Result {
        // One event has said all about itself.
        let said = session.out.json || (self.single && self.malformed == 0);
        if !said {
            session.out.line(self.so_far())?;
        }
        Ok(match (self.accepted, self.malformed) {
            (0, 0) => Exit::NothingToDo,
            (_, 0) => Exit::Done,
            (0, _) => Exit::Failed,
            _ => Exit::Partly,
        })
    }
}
