//! `commute dead`: dead letters are looked at, published again, or thrown away.

use std::io::IsTerminal as _;

use commute::admin::{Admin, Ended};
use commute::{Error, EventId, Intent};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::Paging;
use crate::confirm::Sure;
use crate::exit::{Exit, Failure, Result};
use crate::letters::{Found, Letter, Letters, Which, find, waiting};
use crate::session::Session;
use crate::show::{Cell, Table, Tone};

/// How much of originals goes into one request; what an owner takes at once is several times as much.
const BATCH_BYTES: usize = 1 << 20;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Args {
    /// List the dead letters that wait for a decision.
    List {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show a dead letter whole.
    Show {
        /// Its id, or that of the event that was given up.
        id: String,
        /// The topic of dead letters, for servers that do not list their topics.
        #[arg(long, value_name = "TOPIC")]
        topic: Option<String>,
    },
    /// Publish originals again, for the groups that gave them up.
    Redrive(Chosen),
    /// Throw dead letters away.
    Discard {
        #[command(flatten)]
        chosen: Chosen,
        #[command(flatten)]
        sure: Sure,
    },
}

/// What to decide about.
#[derive(Debug, clap::Args)]
pub(crate) struct Chosen {
    /// Their ids, or those of the events that were given up.
    #[arg(required_unless_present = "all")]
    ids: Vec<String>,
    /// All that wait, or all that the options below choose.
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    #[command(flatten)]
    which: Which,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result {
    match args {
        Args::List { which, paging } => list(which, paging, session).await,
        Args::Show { id, topic } => show(&id, Which { topic, ..Which::default() }, session).await,
        Args::Redrive(chosen) => decide(chosen, Decision::Redrive, session).await,
        Args::Discard { chosen, sure } => {
            let what = if chosen.all { "all these dead letters".to_owned() } else { chosen.ids.join(", ") };
            sure.ask(&format!("discard {what}"))?;
            decide(chosen, Decision::Discard, session).await
        }
    }
}

async fn list(which: Which, paging: Paging, session: &mut Session) -> Result {
    let console = session.console(Intent::Look).await?;
    let mut letters = Letters::waiting(console.admin()?, which).await?;
    if let Some(place) = &paging.after {
        letters.skip_to(place)?;
    }
    let mut table = Table::new(&["LETTER", "CODE", "TYPE", "KEY", "GROUP", ">ATTEMPTS", "SINCE", "REASON"]);
    let (mut shown, mut last) = (0, None);
    'pages: loop {
        let page = letters.next().await?;
        if page.is_empty() {
            break;
        }
        for letter in page {
            if shown == paging.limit {
                if let Some(last) = last {
                    session.out.more(last);
                }
                break 'pages;
            }
            shown += 1;
            match session.out.json {
                true => session.out.object(&letter)?,
                false => table.rows.push(row(&letter)),
            }
            last = Some(format!("{}:{}", letter.topic, letter.position));
        }
    }
    drop(letters);
    console.close().await?;
    match (session.out.json, shown) {
        (true, _) => {}
        (false, 0) => session.out.line("no dead letter waits")?,
        (false, _) => session.out.table(&table)?,
    }
    Ok(Exit::Done)
}

fn row(letter: &Letter) -> Vec<Cell> {
    let dead = letter.dead.as_ref();
    let key = dead.and_then(|dead| dead.original_key());
    vec![
        (&letter.letter).into(),
        dead.map_or_else(Cell::unknown, |dead| Cell::toned(&dead.code, Tone::Bad)),
        Cell::maybe(dead.map(|dead| dead.original_type())),
        Cell::maybe(key),
        Cell::maybe(dead.map(|dead| format!("{}@{}", dead.subscription, dead.topic))),
        Cell::maybe(dead.map(|dead| dead.attempts)),
        Cell::toned(letter.published, Tone::Weak),
        dead.map_or("not a dead letter of commute", |dead| &dead.reason).into(),
    ]
}

async fn show(id: &str, which: Which, session: &mut Session) -> Result {
    let console = session.console(Intent::Look).await?;
    let found = find(console.admin()?, id, &which).await?;
    console.close().await?;
    let (letter, state) = match found {
        Found::Waiting(letter) => (letter, "waiting"),
        Found::Settled(letter) => (letter, "settled"),
        Found::Nothing => return Err(unknown(id)),
    };
    if session.out.json {
        let mut object = json!(letter);
        object["state"] = json!(state);
        session.out.object(&object)?;
        return Ok(Exit::Done);
    }
    let out = &mut session.out;
    let mut field = |name: &str, value: Cell| out.cells(&[Cell::toned(format!("{name:<9}"), Tone::Head), value]);
    field("letter", (&letter.letter).into())?;
    field("place", format!("{}:{}", letter.topic, letter.position).into())?;
    field("since", letter.published.into())?;
    field("state", state.into())?;
    if let Some(dead) = &letter.dead {
        field("code", Cell::toned(&dead.code, Tone::Bad))?;
        field("reason", (&dead.reason).into())?;
        field("attempts", dead.attempts.into())?;
        field("group", format!("{}@{}", dead.subscription, dead.topic).into())?;
        let event = serde_json::to_string_pretty(&dead.event).unwrap_or_default();
        for (n, line) in event.lines().enumerate() {
            field(if n == 0 { "event" } else { "" }, line.into())?;
        }
    }
    Ok(Exit::Done)
}

fn unknown(id: &str) -> Failure {
    Failure::new(Exit::NotFound, format!("no dead letter {id}, and none of an event with this id"))
        .remedy("see `commute dead list`")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    Redrive,
    Discard,
}

/// What became of dead letters so far.
#[derive(Debug, Default)]
struct Tally {
    done: usize,
    already: usize,
    missing: usize,
    invalid: usize,
}

impl Decision {
    fn done(self) -> &'static str {
        match self {
            Decision::Redrive => "redriven",
            Decision::Discard => "discarded",
        }
    }
}

impl Tally {
    fn said(&self, decision: Decision) -> String {
        let mut said = format!("{} {}", self.done, decision.done());
        for (count, what) in
            [(self.already, "settled already"), (self.missing, "unknown"), (self.invalid, "cannot be redriven")]
        {
            if count > 0 {
                said.push_str(&format!(", {count} {what}"));
            }
        }
        said
    }

    fn exit(&self) -> Exit {
        match (self.done, self.already, self.missing + self.invalid) {
            (1.., 0, 0) => Exit::Done,
            (1.., _, _) => Exit::Partly,
            (0, 1.., 0) | (0, 0, 0) => Exit::NothingToDo,
            (0, 0, _) if self.invalid == 0 => Exit::NotFound,
            (0, 0, _) => Exit::Failed,
            (0, _, _) => Exit::Partly,
        }
    }
}

/// Decides about dead letters, batch after batch.
struct Deciding<'a> {
    admin: &'a dyn Admin,
    decision: Decision,
    tally: Tally,
    /// Topics whose dead letters are kept for a decision by now.
    kept: Vec<String>,
    bar: ProgressBar,
    /// Each one is named, not only counted.
    each: bool,
}

async fn decide(chosen: Chosen, decision: Decision, session: &mut Session) -> Result {
    let console = session.console(Intent::Act).await?;
    let (tally, bar, each) = (Tally::default(), ProgressBar::hidden(), !chosen.all);
    let mut deciding = Deciding { admin: console.admin()?, decision, tally, kept: Vec::new(), bar, each };
    let decided = match chosen.all {
        true => deciding.all(chosen.which, session).await,
        false => deciding.named(&chosen.ids, &chosen.which, session).await,
    };
    deciding.bar.finish_and_clear();
    let tally = deciding.tally;
    match decided {
        Ok(()) => {}
        Err(failure) if failure.silent => return Err(failure),
        Err(failure) => {
            let again = "say it once more: what was redriven or discarded is not touched again";
            return Err(failure.after(tally.done, &tally.said(decision)).remedy(again));
        }
    }
    if !session.out.json && (chosen.all || chosen.ids.len() > 1) {
        session.out.line(tally.said(decision))?;
    }
    console.close().await?;
    Ok(tally.exit())
}

impl Deciding<'_> {
    async fn all(&mut self, which: Which, session: &mut Session) -> Result<()> {
        let mut letters = Letters::waiting(self.admin, which).await?;
        if std::io::stderr().is_terminal() && !session.out.json {
            self.bar = ProgressBar::new(letters.at_most().await?);
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed}");
            self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        }
        loop {
            let page = letters.next().await?;
            if page.is_empty() {
                return Ok(());
            }
            self.page(page, session).await?;
        }
    }

    async fn named(&mut self, ids: &[String], which: &Which, session: &mut Session) -> Result<()> {
        for id in ids {
            match find(self.admin, id, which).await? {
                Found::Waiting(letter) => self.page(vec![*letter], session).await?,
                Found::Settled(letter) => {
                    self.tally.already += 1;
                    self.say(session, id, Some(&letter), "already", None)?;
                }
                Found::Nothing => {
                    self.tally.missing += 1;
                    self.say(session, id, None, "unknown", None)?;
                }
            }
        }
        Ok(())
    }

    /// Dead letters of one topic, in as many steps as their size asks for.
    async fn page(&mut self, page: Vec<Letter>, session: &mut Session) -> Result<()> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for letter in page {
            match self.ended(&letter) {
                Ok(ended) => {
                    bytes += letter.bytes();
                    batch.push((letter, ended));
                }
                Err(error) => {
                    self.tally.invalid += 1;
                    self.say(session, letter.letter.as_str(), Some(&letter), "invalid", Some(error.detail()))?;
                }
            }
            if bytes >= BATCH_BYTES {
                self.step(std::mem::take(&mut batch), session).await?;
                bytes = 0;
            }
        }
        self.step(batch, session).await
    }

    /// What is to be done with a dead letter. To redrive it is to end it and to publish the original in one step.
    fn ended(&self, letter: &Letter) -> std::result::Result<Ended, Error> {
        let publish = match (&letter.dead, self.decision) {
            (_, Decision::Discard) => Vec::new(),
            (Some(dead), Decision::Redrive) => vec![dead.redriven(&letter.letter)?],
            (None, Decision::Redrive) => {
                return Err(Error::new(commute::Code::Undecodable, "it is not a dead letter of commute"));
            }
        };
        Ok(Ended { position: letter.position, publish })
    }

    async fn step(&mut self, batch: Vec<(Letter, Ended)>, session: &mut Session) -> Result<()> {
        let Some((first, _)) = batch.first() else { return Ok(()) };
        let name = waiting(&first.topic)?;
        if !self.kept.contains(&first.topic) {
            self.admin.keep(name.clone()).await?;
            self.kept.push(first.topic.clone());
        }
        let (letters, ended): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let now = self.admin.end(name, ended).await?;
        for (letter, now) in letters.iter().zip(now) {
            match now {
                true => self.tally.done += 1,
                false => self.tally.already += 1,
            }
            let result = if now { self.decision.done() } else { "already" };
            self.say(session, letter.letter.as_str(), Some(letter), result, None)?;
        }
        self.bar.inc(letters.len() as u64);
        // Whoever reads along knows what is done however this ends.
        session.out.flush()?;
        Ok(())
    }

    fn say(
        &self,
        session: &mut Session,
        id: &str,
        letter: Option<&Letter>,
        what: &str,
        why: Option<&str>,
    ) -> Result<()> {
        let dead = letter.and_then(|letter| letter.dead.as_ref());
        let redriven = (what == "redriven").then(|| letter.map(|letter| redriven(&letter.letter))).flatten();
        if session.out.json {
            return Ok(session.out.object(&json!({
                "id": id,
                "letter": letter.map(|letter| &letter.letter),
                "topic": letter.map(|letter| &letter.topic),
                "position": letter.map(|letter| letter.position),
                "result": what,
                "event": redriven,
                "reason": why,
            }))?);
        }
        if !self.each && why.is_none() {
            return Ok(());
        }
        let line = match (what, dead) {
            ("redriven", Some(dead)) => format!("redriven {id} to {}, for {}", dead.topic, dead.subscription),
            ("already", _) => format!("{id} was redriven or discarded already"),
            ("unknown", _) => format!("no dead letter {id}, and none of an event with this id"),
            ("invalid", _) => format!("{id} cannot be redriven: {}", why.unwrap_or_default()),
            _ => format!("{what} {id}"),
        };
        Ok(session.out.line(crate::show::clean(&line))?)
    }
}

/// The id of a redriven event, as `DeadLetter::redriven` makes it.
fn redriven(letter: &EventId) -> EventId {
    letter.derive("redrive", 0)
}
