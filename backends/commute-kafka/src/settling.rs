//! The settle thread: what is asked takes effect in the order in which it was asked.
//!
//! ```text
//! plan     what speaks of something in somebody's hands; what that publishes, and what goes aside
//! send     all of it, of every call that waits, then hear what became of it
//! apply    to memory, call by call; a call whose records were not all stored changes nothing
//! commit   by the other thread, which answers
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use commute_core::{
    Clock, Code, Delivery, DeliveryTag, Error, Receipt, Result, Settlement, SystemClock, Timestamp,
};
use hashbrown::HashSet;
use rdkafka::Message;

use crate::aside::{Shelf, short};
use crate::library::Library;
use crate::partition::{Aside, Phase, place};
use crate::progress::Deferred;
use crate::publisher::{Answer, Item};
use crate::state::{Command, Reply, Shared, State, Waiter, ended};
use crate::wire::Record;

/// Calls that are taken together.
const AT_ONCE: usize = 256;

/// A settlement that takes effect, with what it needs.
struct Step {
    settlement: Settlement,
    /// What parking or giving back needs.
    record: Option<Arc<Record>>,
    aside: Option<Aside>,
}

/// A call on its way.
struct Call {
    steps: Vec<Step>,
    sent: Vec<Answer>,
    /// Which of the notes is about which parked event.
    notes: Vec<Option<usize>>,
    refused: Option<Error>,
    reply: Reply<()>,
}

/// Settles until the subscription ends.
pub(crate) fn run(shared: &Shared, library: &Library) {
    loop {
        let mut state = shared.state();
        while state.commands.is_empty() {
            state = shared.wait(state);
        }
        let mut calls = Vec::new();
        while calls.len() < AT_ONCE
            && let Some(Command::Settle { .. }) = state.commands.front()
            && let Some(Command::Settle { settlements, reply }) = state.commands.pop_front()
        {
            calls.push((settlements, reply));
        }
        if !calls.is_empty() {
            drop(state);
            settle(shared, library, calls);
            continue;
        }
        match state.commands.pop_front() {
            Some(Command::Unpark { tags, reply }) => {
                drop(state);
                // Nobody may be waiting any more.
                let _ = reply.send(unpark(shared, library, tags));
            }
            Some(Command::End) => return end(state, shared),
            _ => {}
        }
    }
}

fn end(mut state: std::sync::MutexGuard<'_, State>, shared: &Shared) {
    let numbers: Vec<i32> = state.partitions.keys().copied().collect();
    numbers.into_iter().for_each(|number| state.stop(number, Phase::Fenced));
    state.settled = true;
    for command in std::mem::take(&mut state.commands) {
        match command {
            Command::Settle { reply, .. } => drop(reply.send(Ok(()))),
            Command::Unpark { reply, .. } => drop(reply.send(Err(ended()))),
            Command::End => {}
        }
    }
    drop(state);
    shared.turn();
}

fn settle(shared: &Shared, library: &Library, calls: Vec<(Vec<Settlement>, Reply<()>)>) {
    let mut over = HashSet::new();
    let mut sent = Vec::with_capacity(calls.len());
    for (settlements, reply) in calls {
        let steps = plan(shared, settlements, &mut over);
        let mut call = Call { steps, sent: Vec::new(), notes: Vec::new(), refused: None, reply };
        if let Err(error) = send(shared, library, &mut call) {
            call.refused = Some(error);
        }
        sent.push(call);
    }
    let mut waiters = Vec::new();
    for mut call in sent {
        match hear(&mut call) {
            Ok(()) => {
                let needs = apply(shared, call.steps);
                waiters.push(Waiter { needs, reply: call.reply });
            }
            Err(error) => drop(call.reply.send(Err(error))),
        }
    }
    shared.state().waiters.extend(waiters);
    shared.turn();
    shared.changed.notify_waiters();
}

/// What of a call speaks of something that is in somebody's hands, now and after what was asked before.
fn plan(shared: &Shared, settlements: Vec<Settlement>, over: &mut HashSet<DeliveryTag>) -> Vec<Step> {
    let mut state = shared.state();
    let mut steps = Vec::with_capacity(settlements.len());
    for settlement in settlements {
        let tag = settlement.tag();
        if over.contains(&tag) {
            continue;
        }
        let order = state.last_order.saturating_add(1).max(SystemClock.now().0.unsigned_abs());
        let Some(held) = state.holder(tag).and_then(|partition| partition.holds(tag).cloned()) else { continue };
        if !matches!(settlement, Settlement::Defer { .. }) {
            over.insert(tag);
        }
        let aside = match &settlement {
            Settlement::Park { attempts, lanes, reason, .. } => {
                state.last_order = order;
                Some(Aside {
                    order,
                    attempts: *attempts,
                    lanes: lanes.clone(),
                    reason: short(reason.clone()),
                    since: Timestamp(i64::try_from(order).unwrap_or(i64::MAX)),
                    offset: 0,
                    record: None,
                    back: false,
                })
            }
            _ => None,
        };
        steps.push(Step { settlement, record: held.record, aside });
    }
    steps
}

/// Sends what acks publish, and the notes that parking needs.
fn send(shared: &Shared, library: &Library, call: &mut Call) -> Result<()> {
    let needs_record = |step: &&mut Step| {
        let needs = matches!(step.settlement, Settlement::Park { .. } | Settlement::Return { .. });
        needs && step.record.is_none()
    };
    let missing: Vec<&mut Step> = call.steps.iter_mut().filter(needs_record).collect();
    let tags: Vec<DeliveryTag> = missing.iter().map(|step| step.settlement.tag()).collect();
    for (step, record) in missing.into_iter().zip(records(shared, library, &tags)?) {
        step.record = Some(record);
    }
    let (mut events, mut notes) = (Vec::new(), Vec::new());
    {
        let mut state = shared.state();
        for (n, step) in call.steps.iter_mut().enumerate() {
            let tag = step.settlement.tag();
            let (partition, offset) = place(tag.position);
            let shelf = Shelf { topic: shared.aside.clone(), partition };
            let held = state.holder(tag).and_then(|partition| partition.held.get_mut(&offset));
            match (&mut step.settlement, held) {
                (Settlement::Ack { publish, .. }, held) => {
                    events.extend(std::mem::take(publish).into_iter().map(Item::Event));
                    if held.is_some_and(|held| held.aside) {
                        notes.push(shelf.settled(offset));
                        call.notes.push(None);
                    }
                }
                (Settlement::Park { .. }, Some(held)) => {
                    if let (Some(aside), Some(record)) = (&step.aside, &step.record) {
                        held.aside = true;
                        notes.push(shelf.parked(offset, aside, record));
                        call.notes.push(Some(n));
                    }
                }
                _ => {}
            }
        }
    }
    let publisher = shared.link.publisher();
    if !notes.is_empty() {
        shared.ensure_aside()?;
    }
    call.sent.push(publisher.send(events));
    call.sent.push(publisher.send(notes));
    Ok(())
}

/// Waits until everything of a call is stored.
fn hear(call: &mut Call) -> Result<()> {
    if let Some(error) = call.refused.take() {
        return Err(error);
    }
    let mut stored: Vec<Vec<Receipt>> = Vec::new();
    let mut failed = None;
    for answer in call.sent.drain(..) {
        match answer.blocking_recv() {
            Ok(Ok(receipts)) => stored.push(receipts),
            Ok(Err(error)) => failed = failed.or(Some(error)),
            Err(_) => failed = failed.or_else(|| Some(ended())),
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    let notes = stored.pop().unwrap_or_default();
    for (receipt, n) in notes.iter().zip(&call.notes) {
        if let (Some(n), Some(position)) = (n, receipt.position)
            && let Some(aside) = call.steps[*n].aside.as_mut()
        {
            aside.offset = place(position).1;
        }
    }
    Ok(())
}

/// Changes memory; answers what has to be committed.
fn apply(shared: &Shared, steps: Vec<Step>) -> Vec<(u32, u64)> {
    let mut state = shared.state();
    let state = &mut *state;
    let (mut needs, mut outdated) = (BTreeMap::new(), Vec::new());
    for Step { settlement, record, aside } in steps {
        let tag = settlement.tag();
        let (number, offset) = place(tag.position);
        let mut room = *state.kept();
        let Some(partition) = state.holder(tag) else { continue };
        let released = match settlement {
            Settlement::Ack { .. } => partition.ack(offset),
            Settlement::Defer { attempts, not_before, .. } => {
                partition.defer(offset, Deferred { attempts, not_before });
                None
            }
            Settlement::Park { .. } => aside.and_then(|mut aside| {
                aside.record = record.filter(|record| State::keep(&mut room, record));
                partition.park(offset, aside)
            }),
            Settlement::Return { .. } => record.and_then(|record| partition.give_back(offset, record)),
        };
        if released.as_ref().is_some_and(|held| held.aside) {
            let shelf = Shelf { topic: shared.aside.clone(), partition: number };
            outdated.extend(partition.outdated_notes(offset).into_iter().map(|note| shelf.forget_back(note)));
        }
        if partition.is_dirty() {
            needs.insert(partition.incarnation, partition.version);
        }
        *state.kept() = room;
        if let Some(held) = released {
            state.release(&held);
        }
    }
    if !outdated.is_empty() {
        // Should one stay, it speaks of nothing.
        drop(shared.link.publisher().send(outdated));
    }
    needs.into_iter().collect()
}

/// Takes events back from aside: one note for each partition says so.
fn unpark(shared: &Shared, library: &Library, tags: Vec<DeliveryTag>) -> Result<Vec<Delivery>> {
    check_parked(&shared.state(), &tags)?;
    let records = records(shared, library, &tags)?;
    let mut notes: BTreeMap<i32, (u64, BTreeSet<u64>)> = BTreeMap::new();
    for tag in &tags {
        let (number, offset) = place(tag.position);
        notes.entry(number).or_insert_with(|| (fastrand::u64(1..), BTreeSet::new())).1.insert(offset);
    }
    let items = notes.iter().map(|(number, (note, offsets))| {
        Shelf { topic: shared.aside.clone(), partition: *number }.back(*note, offsets)
    });
    let stored = shared.link.publisher().send(items.collect()).blocking_recv();
    stored.unwrap_or_else(|_| Err(ended()))?;
    let mut state = shared.state();
    // A partition may have gone to others meanwhile; its new owner finds the note.
    check_parked(&state, &tags)?;
    for (number, (note, offsets)) in notes {
        if let Some(partition) = state.partitions.get_mut(&number) {
            partition.notes.insert(note, offsets);
        }
    }
    let mut back = Vec::with_capacity(tags.len());
    for (tag, record) in tags.iter().zip(records) {
        let (number, offset) = place(tag.position);
        if let Some(partition) = state.partitions.get_mut(&number) {
            // It was counted when it was parked, if there was room for it.
            let kept = partition.aside.get_mut(&offset).is_some_and(|aside| aside.record.take().is_some());
            back.extend(partition.unpark(offset, &record, kept));
        }
    }
    Ok(back)
}

fn check_parked(state: &State, tags: &[DeliveryTag]) -> Result<()> {
    let mut once = HashSet::new();
    for tag in tags {
        let (number, offset) = place(tag.position);
        let partition = state.partitions.get(&number);
        let ours = partition.filter(|p| p.incarnation == tag.incarnation && p.phase != Phase::Fenced);
        let parked = ours.and_then(|partition| partition.aside.get(&offset)).is_some_and(|aside| !aside.back);
        if !parked || !once.insert(*tag) {
            let detail = format!("event {offset} of partition {number} is not parked");
            return Err(Error::new(Code::NotParked, detail));
        }
    }
    Ok(())
}

/// The records of events in somebody's hands or aside, from memory, the log or aside. Blocks.
pub(crate) fn records(shared: &Shared, library: &Library, tags: &[DeliveryTag]) -> Result<Vec<Arc<Record>>> {
    let mut found: Vec<Option<Arc<Record>>> = Vec::with_capacity(tags.len());
    // Aside or not, and the partition; then the offset to read, and whose it is.
    let mut missing: BTreeMap<(bool, i32), BTreeMap<u64, Vec<usize>>> = BTreeMap::new();
    {
        let state = shared.state();
        for (n, tag) in tags.iter().enumerate() {
            let (number, offset) = place(tag.position);
            let partition = state.partitions.get(&number).filter(|p| p.incarnation == tag.incarnation);
            let held = partition.and_then(|partition| partition.held.get(&offset));
            let aside = partition.and_then(|partition| partition.aside.get(&offset));
            let known = held.and_then(|held| held.record.as_ref()).or(aside.and_then(|aside| aside.record.as_ref()));
            found.push(known.cloned());
            if known.is_none() {
                let at = aside.map_or(offset, |aside| aside.offset);
                missing.entry((aside.is_some(), number)).or_default().entry(at).or_default().push(n);
            }
        }
    }
    for ((aside, number), places) in missing {
        let offsets: Vec<u64> = places.keys().copied().collect();
        let topic = if aside { &*shared.aside } else { shared.topic() };
        library.pick(topic, number, &offsets, |message| {
            let read = || match aside {
                true => crate::aside::parked(message)?.record,
                false => Some(Arc::new(crate::wire::read(message, shared.spec.mapping.as_deref()))),
            };
            let record = read();
            for n in places.get(&message.offset().unsigned_abs()).into_iter().flatten() {
                found[*n].clone_from(&record);
            }
        })?;
    }
    let gone = |n: usize| {
        let (number, offset) = place(tags[n].position);
        Error::new(Code::Damaged, format!("event {offset} of partition {number} is not stored any more"))
    };
    found.into_iter().enumerate().map(|(n, record)| record.ok_or_else(|| gone(n))).collect()
}
