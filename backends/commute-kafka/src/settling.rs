//! The settle thread: what is asked takes effect in the order in which it was asked.
//!
//! ```text
//! plan     what speaks of something in somebody's hands; what that publishes, and what goes aside
//! send     all of it, of every call that waits, then hear what became of it; only then say aside that something is over
//! apply    to memory, call by call; a call whose records were not all stored changes nothing
//! commit   by the other thread, which answers
//! ```

use std::collections::BTreeMap;

use commute_core::{Clock, DeliveryTag, Error, Receipt, Result, Settlement, SystemClock, Timestamp};
use hashbrown::HashSet;

use crate::aside::{Shelf, short};
use crate::library::Library;
use crate::partition::{Aside, Partition, Phase, place};
use crate::progress::Deferred;
use crate::publisher::{Answer, Item, Reply};
use crate::rereading::records;
use crate::state::{Command, Shared, State, Waiter, ended};
use crate::unparking::unpark;
use crate::wire::Record;

/// Calls that are taken together.
const AT_ONCE: usize = 256;

/// A settlement that takes effect, with what it needs.
struct Step {
    settlement: Settlement,
    /// What parking or giving back needs.
    record: Option<Record>,
    aside: Option<Aside>,
}

/// A call on its way.
struct Call {
    steps: Vec<Step>,
    sent: Vec<Answer>,
    /// Which step each of the notes is about.
    notes: Vec<usize>,
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
        if calls.is_empty() && matches!(state.commands.front(), Some(Command::End)) {
            return end(state, shared);
        }
        // Whoever gives a partition up waits for this.
        state.settling = true;
        let taking_back = if calls.is_empty() { state.commands.pop_front() } else { None };
        drop(state);
        settle(shared, library, calls);
        if let Some(Command::Unpark { tags, reply }) = taking_back {
            // Nobody may be waiting any more.
            let _ = reply.send(unpark(shared, library, tags));
        }
        shared.state().settling = false;
        shared.turn();
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
    let (mut sent, mut waiters) = (Vec::new(), Vec::new());
    for (settlements, reply) in calls {
        // What was asked before goes first.
        let needs = if sent.is_empty() { acknowledge(shared, &settlements) } else { None };
        if let Some(needs) = needs {
            waiters.push(Waiter { needs, reply });
            continue;
        }
        let steps = plan(shared, settlements, &mut over);
        let mut call = Call { steps, sent: Vec::new(), notes: Vec::new(), refused: None, reply };
        if let Err(error) = send(shared, library, &mut call) {
            call.refused = Some(error);
        }
        sent.push(call);
    }
    for mut call in sent {
        match hear(&mut call).and_then(|()| say_settled(shared, &call.steps)) {
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

/// A call that says no more than that events are handled takes effect at once: nothing has to be sent for it, and nothing
/// can fail. Answers what has to be committed; nothing for any other call.
fn acknowledge(shared: &Shared, settlements: &[Settlement]) -> Option<Vec<(u32, u64)>> {
    let plain = |settlement: &Settlement| matches!(settlement, Settlement::Ack { publish, .. } if publish.is_empty());
    if !settlements.iter().all(plain) {
        return None;
    }
    // Dropped when the lock is free again.
    let mut released = Vec::with_capacity(settlements.len());
    let mut state = shared.state();
    let aside = |tag| state.held(tag).is_some_and(|held| held.aside);
    let has_aside = state.partitions.values().any(Partition::has_aside);
    if has_aside && settlements.iter().any(|settlement| aside(settlement.tag())) {
        return None;
    }
    let mut needs: Vec<(u32, u64)> = Vec::new();
    for tag in settlements.iter().map(Settlement::tag) {
        let (number, offset) = place(tag.position);
        let Some(partition) = state.partitions.get_mut(&number).filter(|known| known.knows(tag)) else { continue };
        let Some(held) = partition.ack(offset) else { continue };
        let now = (partition.incarnation, partition.version);
        match needs.iter_mut().find(|known| known.0 == now.0) {
            Some(known) => *known = now,
            None => needs.push(now),
        }
        state.release(&held);
        released.push(held);
    }
    Some(needs)
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
        let Some(held) = state.held(tag).cloned() else { continue };
        if !matches!(settlement, Settlement::Defer { .. }) {
            over.insert(tag);
        }
        let aside = match &settlement {
            Settlement::Park { attempts, lanes, reason, .. } => {
                let order = state.last_order.saturating_add(1).max(SystemClock.now().0.unsigned_abs());
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
                    noted: Vec::new(),
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
    let parks = call.steps.iter().filter(|step| matches!(step.settlement, Settlement::Park { .. }));
    if let Some(last) = parks.map(|step| place(step.settlement.tag().position).0).max() {
        // Before anything may be aside: what is handled could not be said to be over where there is no topic.
        shared.ensure_aside(last)?;
    }
    let (mut events, mut notes) = (Vec::new(), Vec::new());
    let mut state = shared.state();
    for (n, step) in call.steps.iter_mut().enumerate() {
        let tag = step.settlement.tag();
        match &mut step.settlement {
            Settlement::Ack { publish, .. } => events.extend(std::mem::take(publish).into_iter().map(Item::Event)),
            Settlement::Park { .. } => {
                let (partition, offset) = place(tag.position);
                if let (Some(aside), Some(record)) = (&step.aside, &step.record)
                    && state.planned(tag).is_some_and(|known| known.begin_parking(offset, aside.order))
                {
                    let shelf = Shelf { topic: shared.aside.clone(), partition };
                    notes.push(shelf.parked(offset, tag.incarnation, aside, record));
                    call.notes.push(n);
                }
            }
            _ => {}
        }
    }
    drop(state);
    let publisher = shared.link.publisher();
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
        if let (Some(aside), Some(position)) = (call.steps[*n].aside.as_mut(), receipt.position) {
            aside.offset = place(position).1;
        }
    }
    Ok(())
}

/// Says aside that what was taken back from there is settled, now that everything which that publishes is stored.
fn say_settled(shared: &Shared, steps: &[Step]) -> Result<()> {
    let mut state = shared.state();
    let (mut notes, mut last) = (Vec::new(), 0);
    for step in steps.iter().filter(|step| matches!(step.settlement, Settlement::Ack { .. })) {
        let tag = step.settlement.tag();
        let (partition, offset) = place(tag.position);
        let Some(known) = state.planned(tag) else { continue };
        if known.held.get(offset).is_some_and(|held| held.aside) {
            last = last.max(partition);
            let shelf = Shelf { topic: shared.aside.clone(), partition };
            notes.extend(known.noted(offset).into_iter().map(|noted| shelf.over(offset, noted)));
        }
    }
    drop(state);
    if notes.is_empty() {
        return Ok(());
    }
    shared.ensure_aside(last)?;
    let stored = shared.link.publisher().send(notes).blocking_recv();
    let receipts = stored.unwrap_or_else(|_| Err(ended()))?;
    shared.state().rely(&receipts);
    Ok(())
}

/// Changes memory; answers what has to be committed.
fn apply(shared: &Shared, steps: Vec<Step>) -> Vec<(u32, u64)> {
    let mut state = shared.state();
    let state = &mut *state;
    let mut needs = BTreeMap::new();
    for Step { settlement, record, aside } in steps {
        let tag = settlement.tag();
        let (_, offset) = place(tag.position);
        let mut room = *state.kept();
        // What is given back stays taken back from aside, and the note that says so is needed.
        let is_over = matches!(settlement, Settlement::Ack { .. } | Settlement::Park { .. });
        let Some(partition) = state.planned(tag) else { continue };
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
        if is_over && released.as_ref().is_some_and(|held| held.aside) {
            partition.outdate_notes(offset);
        }
        if partition.is_dirty() {
            needs.insert(partition.incarnation, partition.version);
        }
        *state.kept() = room;
        if let Some(held) = released {
            state.release(&held);
        }
    }
    needs.into_iter().collect()
}
