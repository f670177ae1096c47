//! `commute parked`: parked events are looked at, brought back, or given up.

use std::collections::{HashMap, HashSet};

use commute::admin::{Admin, Ended, GroupInfo, ParkedEvent, SubscriptionName};
use commute::{Code, Console, EventId, Intent};
use commute_core::operate::{Operation, Released};
use serde_json::{Value, json};

use super::Paging;
use crate::confirm::Sure;
use crate::exit::{Exit, Failure, Result};
use crate::letters::{Found, Which, find, waiting};
use crate::running::operate;
use crate::session::Session;
use crate::show::{Cell, Table, Tone};

/// How many parked events are asked for at once.
const PAGE: usize = 100;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Args {
    /// List parked events.
    List {
        /// The subscription; without it, all that have some.
        #[arg(value_name = "GROUP@TOPIC")]
        subscription: Option<SubscriptionName>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show a parked event whole.
    Show {
        /// The subscription.
        #[arg(value_name = "GROUP@TOPIC")]
        subscription: SubscriptionName,
        /// The id of the event.
        event: EventId,
    },
    /// Bring parked events back in order, with everything that hangs together with them.
    Release {
        /// The subscription.
        #[arg(value_name = "GROUP@TOPIC")]
        subscription: SubscriptionName,
        /// The id of the event.
        #[arg(required_unless_present_any = ["key", "all"])]
        event: Option<EventId>,
        /// Everything in the lane of this key.
        #[arg(long, value_name = "KEY", conflicts_with = "event")]
        key: Option<String>,
        /// Everything.
        #[arg(long, conflicts_with_all = ["event", "key"])]
        all: bool,
    },
    /// Give a parked event up for good, without a dead letter.
    Drop {
        /// The subscription.
        #[arg(value_name = "GROUP@TOPIC")]
        subscription: SubscriptionName,
        /// The id of the event.
        event: EventId,
        #[command(flatten)]
        sure: Sure,
    },
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result {
    match args {
        Args::List { subscription, paging } => list(subscription, paging, session).await,
        Args::Show { subscription, event } => show(&subscription, &event, session).await,
        Args::Release { subscription, event, key, .. } => {
            let what = match (event, key) {
                (Some(event), _) => Released::Event(event),
                (None, Some(key)) => Released::Key(key),
                (None, None) => Released::All,
            };
            release(subscription, what, session).await
        }
        Args::Drop { subscription, event, sure } => {
            sure.ask(&format!("{subscription} forgets event {event}"))?;
            drop_it(subscription, event, session).await
        }
    }
}

async fn list(only: Option<SubscriptionName>, paging: Paging, session: &mut Session) -> Result {
    let console = session.console(Intent::Look).await?;
    let admin = console.admin()?;
    let (mut from, mut after) = (None, None);
    if let Some(place) = &paging.after {
        let wrong = || Failure::new(Exit::Usage, format!("{place:?} is no place; write GROUP@TOPIC:POSITION"));
        let (name, position) = place.rsplit_once(':').ok_or_else(wrong)?;
        from = Some(name.to_owned());
        after = Some(position.parse().map_err(|_| wrong())?);
    }
    let mut names = match only {
        Some(name) => vec![name],
        None => {
            let groups = admin.groups(None).await?;
            groups.into_iter().filter(|group| group.parked != Some(0)).map(|group| group.subscription).collect()
        }
    };
    names.sort_by_cached_key(SubscriptionName::to_string);
    names.retain(|name| from.as_ref().is_none_or(|from| name.to_string() >= *from));
    let mut table = Table::new(&["SUBSCRIPTION", ">POSITION", "EVENT", "TYPE", "KEY", ">ATTEMPTS", "SINCE", "REASON"]);
    let (mut shown, mut last) = (0, None);
    'all: for name in names {
        let mut after = after.filter(|_| from.as_deref() == Some(name.to_string().as_str()));
        loop {
            let page = admin.parked(name.clone(), after, PAGE).await?;
            let Some(end) = page.last() else { break };
            after = Some(end.stored.position);
            for event in page {
                if shown == paging.limit {
                    session.out.more(last.unwrap_or_default());
                    break 'all;
                }
                shown += 1;
                last = Some(format!("{name}:{}", event.stored.position));
                match session.out.json {
                    true => session.out.object(&object(&name, &event))?,
                    false => table.rows.push(row(&name, &event)),
                }
            }
        }
    }
    match (session.out.json, shown) {
        (true, _) => {}
        (false, 0) => session.out.line("nothing is parked")?,
        (false, _) => session.out.table(&table)?,
    }
    Ok(Exit::Done)
}

fn object(name: &SubscriptionName, event: &ParkedEvent) -> Value {
    let mut object = json!(event);
    object["subscription"] = json!(name);
    object
}

fn row(name: &SubscriptionName, parked: &ParkedEvent) -> Vec<Cell> {
    let event = &parked.stored.event;
    let reason = parked.reason.as_ref();
    vec![
        name.into(),
        parked.stored.position.into(),
        (&event.id).into(),
        (&event.event_type).into(),
        Cell::maybe(event.partition_key()),
        parked.attempts.into(),
        Cell::toned(parked.since, Tone::Weak),
        reason.map_or_else(|| Cell::toned("behind another", Tone::Weak), |reason| Cell::toned(reason, Tone::Bad)),
    ]
}

/// Whatever is parked, without payloads.
struct Aside {
    position: u64,
    id: EventId,
    key: Option<String>,
    lanes: Vec<String>,
}

/// All parked events of a group.
async fn parked(admin: &dyn Admin, name: &SubscriptionName) -> Result<Vec<Aside>> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = admin.parked(name.clone(), after, PAGE).await?;
        let Some(end) = page.last() else { return Ok(all) };
        after = Some(end.stored.position);
        all.extend(page.into_iter().map(|event| Aside {
            position: event.stored.position,
            key: event.stored.event.partition_key().map(str::to_owned),
            id: event.stored.event.id,
            lanes: event.lanes,
        }));
    }
}

fn not_parked(name: &SubscriptionName, what: &str) -> Failure {
    Failure::new(Exit::NotFound, format!("{what} is not parked in {name}")).remedy("see `commute parked list`")
}

async fn show(name: &SubscriptionName, id: &EventId, session: &mut Session) -> Result {
    let console = session.console(Intent::Look).await?;
    let admin = console.admin()?;
    let mut after = None;
    loop {
        let page = admin.parked(name.clone(), after, PAGE).await?;
        let Some(end) = page.last() else { return Err(not_parked(name, &format!("event {id}"))) };
        after = Some(end.stored.position);
        let Some(found) = page.into_iter().find(|event| event.stored.event.id == *id) else { continue };
        let out = &mut session.out;
        if out.json {
            out.object(&object(name, &found))?;
            return Ok(Exit::Done);
        }
        let mut field = |name: &str, value: Cell| out.cells(&[Cell::toned(format!("{name:<9}"), Tone::Head), value]);
        field("place", format!("{name}:{}", found.stored.position).into())?;
        field("since", found.since.into())?;
        field("attempts", found.attempts.into())?;
        field("reason", Cell::maybe(found.reason.as_ref()))?;
        field("lanes", found.lanes.join(" ").into())?;
        let event = serde_json::to_string_pretty(&commute_core::cloudevents::to_json(&found.stored.event));
        for (n, line) in event.unwrap_or_default().lines().enumerate() {
            field(if n == 0 { "event" } else { "" }, line.into())?;
        }
        return Ok(Exit::Done);
    }
}

async fn release(name: SubscriptionName, what: Released, session: &mut Session) -> Result {
    let console = session.console(Intent::Act).await?;
    let operation = Operation::Release { subscription: name.clone(), what: what.clone() };
    let released = match operate_if_it_runs(&console, &name, &operation).await? {
        Some(count) => count,
        None => unpark(&console, &name, &what).await?,
    };
    console.close().await?;
    match session.out.json {
        true => session.out.object(&json!({ "subscription": name, "released": released, "result": "released" }))?,
        false => session.out.line(format!("released {released} events of {name}"))?,
    }
    Ok(if released == 0 { Exit::NothingToDo } else { Exit::Done })
}

/// As `operate`; `None` also when services run, none has the subscription, and nobody receives from it.
async fn operate_if_it_runs(console: &Console, name: &SubscriptionName, operation: &Operation) -> Result<Option<u64>> {
    match operate(console, name, operation).await {
        Err(failure) if failure.exit == Exit::NotFound => {
            let groups = console.admin()?.groups(Some(name.topic.clone())).await?;
            let rests = |group: &GroupInfo| group.subscription == *name && group.instances == Some(0);
            if groups.iter().any(rests) { Ok(None) } else { Err(failure) }
        }
        operated => operated,
    }
}

/// Releases while no service runs: they are delivered in their places when one starts.
async fn unpark(console: &Console, name: &SubscriptionName, what: &Released) -> Result<u64> {
    let admin = console.admin()?;
    let parked = parked(admin, name).await?;
    let chosen: HashSet<u64> = match what {
        Released::All => positions(&parked, |_| true),
        Released::Event(id) => positions(&parked, |event| event.id == *id),
        Released::Key(key) => positions(&parked, |event| {
            event.key.as_ref() == Some(key) || event.lanes.iter().any(|lane| held(lane).0 == key)
        }),
    };
    if chosen.is_empty() {
        let failure = not_parked(
            name,
            match what {
                Released::All => "anything",
                Released::Event(_) => "the event",
                Released::Key(_) => "the key",
            },
        );
        return Err(match what {
            Released::All => Failure { exit: Exit::NothingToDo, ..failure },
            Released::Key(_) => failure.remedy(
                "while no service runs, a key is one that events are partitioned by, or a number of `commute parked show`",
            ),
            Released::Event(_) => failure,
        });
    }
    let together = together(&parked, chosen);
    let released = together.len() as u64;
    admin.unpark(name.clone(), together).await?;
    Ok(released)
}

fn positions(parked: &[Aside], which: impl Fn(&Aside) -> bool) -> HashSet<u64> {
    parked.iter().filter(|event| which(event)).map(|event| event.position).collect()
}

/// A lane that is held, and the class of those that it is shared with.
fn held(lane: &str) -> (&str, Option<&str>) {
    lane.split_once('~').map_or((lane, None), |(lane, class)| (lane, Some(class)))
}

/// The chosen ones, all that conflict with them, and all that conflict with those, in topic order.
fn together(parked: &[Aside], mut chosen: HashSet<u64>) -> Vec<u64> {
    let mut lanes: HashMap<&str, HashSet<Option<&str>>> = HashMap::new();
    let (mut looked, mut grows) = (HashSet::new(), true);
    while std::mem::take(&mut grows) {
        for event in parked {
            let waits = |lane: &String| {
                let (lane, class) = held(lane);
                let others = lanes.get(lane);
                others.is_some_and(|others| class.is_none() || others.iter().any(|other| *other != class))
            };
            if (chosen.contains(&event.position) || event.lanes.iter().any(waits)) && looked.insert(event.position) {
                grows = true;
                chosen.insert(event.position);
                for (lane, class) in event.lanes.iter().map(|lane| held(lane)) {
                    lanes.entry(lane).or_default().insert(class);
                }
            }
        }
    }
    parked.iter().map(|event| event.position).filter(|position| chosen.contains(position)).collect()
}

async fn drop_it(name: SubscriptionName, event: EventId, session: &mut Session) -> Result {
    let console = session.console(Intent::Act).await?;
    let admin = console.admin()?;
    let all = parked(admin, &name).await?;
    let Some(position) = all.iter().find(|aside| aside.id == event).map(|aside| aside.position) else {
        return Err(not_parked(&name, &format!("event {event}")));
    };
    let operation = Operation::Skip { subscription: name.clone(), event: event.clone() };
    match operate_if_it_runs(&console, &name, &operation).await? {
        // The service knows who waits behind it, and makes a dead letter, which goes the same way.
        Some(_) => discard(admin, &event).await?,
        None => {
            let ended = admin.end(name.clone(), vec![Ended { position, publish: Vec::new() }]).await?;
            if ended != [true] {
                return Err(Failure::new(Exit::NothingToDo, format!("event {event} is over by now")));
            }
        }
    }
    console.close().await?;
    match session.out.json {
        true => session.out.object(&json!({ "subscription": name, "event": event, "result": "dropped" }))?,
        false => session.out.line(format!("dropped {event} from {name}"))?,
    }
    Ok(Exit::Done)
}

async fn discard(admin: &dyn Admin, event: &EventId) -> Result<()> {
    let left = |failure: Failure| Failure {
        exit: Exit::Partly,
        message: format!("event {event} is given up, and its dead letter waits: {}", failure.message),
        ..failure
    };
    let Found::Waiting(letter) = find(admin, event.as_str(), &Which::default()).await.map_err(left)? else {
        return Ok(());
    };
    let ended = vec![Ended { position: letter.position, publish: Vec::new() }];
    match admin.end(waiting(&letter.topic)?, ended).await {
        Ok(_) => Ok(()),
        // Nobody keeps dead letters of this topic.
        Err(error) if error.code() == Code::NotFound => Ok(()),
        Err(error) => Err(left(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aside(position: u64, lanes: &[&str]) -> Aside {
        let lanes = lanes.iter().map(|lane| (*lane).to_owned()).collect();
        Aside { position, id: EventId::generate(), key: None, lanes }
    }

    #[test]
    fn what_hangs_together_by_lanes_comes_back_together_and_nothing_else() {
        let parked =
            [aside(1, &["c"]), aside(2, &["a"]), aside(3, &["b", "c"]), aside(4, &["d"]), aside(5, &["a", "b"])];
        assert_eq!(together(&parked, HashSet::from([2])), [1, 2, 3, 5]);
        assert_eq!(together(&parked, HashSet::from([4])), [4]);
        // Who shares a lane waits for nobody who shares it, too, but for whom it is not shared with.
        let sharing = [aside(1, &["a", "s~0"]), aside(2, &["b", "s~0"]), aside(3, &["c", "s~1"])];
        assert_eq!(together(&sharing[..2], HashSet::from([1])), [1]);
        assert_eq!(together(&sharing, HashSet::from([1])), [1, 2, 3]);
    }
}
