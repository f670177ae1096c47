//! The commit thread: one commit at a time, of everything that changed since the last one.

use std::time::{Duration, Instant};

use commute_core::{Error, Result};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::aside::Shelf;
use crate::error::{failed, is_transient};
use crate::membership::Member;
use crate::partition::{Phase, place};
use crate::progress::{Progress, metadata_aside};
use crate::state::{Shared, State};

/// How long a commit that the server does not take at once is tried again when the subscription ends.
const LAST: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(50);

/// What one commit says of one partition.
struct Due {
    number: i32,
    incarnation: u32,
    version: u64,
    low: u64,
    /// Nothing when progress has no room in it.
    metadata: Option<String>,
    /// What goes aside then.
    aside: Option<Progress>,
    relies: u64,
}

/// Commits until the subscription has ended, and leaves the group.
pub(crate) fn run(shared: &Shared, member: &Member) {
    let mut last = None;
    loop {
        let mut state = shared.state();
        let due = loop {
            answer(&mut state);
            let due = due(&state, shared.link.metadata_bytes());
            if !due.is_empty() {
                break due;
            }
            if state.settled {
                return leave(shared, state);
            }
            state = shared.wait(state);
        };
        if state.settled && Instant::now() > *last.get_or_insert_with(|| Instant::now() + LAST) {
            tracing::warn!(topic = shared.topic(), "the last commit was not taken: what it says comes again");
            return leave(shared, state);
        }
        state.committing = true;
        drop(state);
        let outcome = commit(shared, member, &due);
        let mut state = shared.state();
        state.committing = false;
        let mut outlived = Vec::new();
        let again = match outcome {
            Ok(()) => {
                for due in &due {
                    let known = state.partitions.get_mut(&due.number).filter(|p| p.incarnation == due.incarnation);
                    if let Some(partition) = known {
                        partition.committed = partition.committed.max(due.version);
                        let shelf = Shelf { topic: shared.aside.clone(), partition: due.number };
                        outlived.extend(partition.outlived.drain(..).map(|before| shelf.forget_progress(before)));
                        outlived.extend(partition.late.drain(..).map(|(offset, noted)| shelf.over(offset, noted)));
                        let outdated = partition.outdated.extract_if(.., |(_, version)| *version <= due.version);
                        outlived.extend(outdated.map(|(note, _)| shelf.forget_back(note)));
                    }
                }
                false
            }
            Err(Failure::Passing(cause)) => {
                tracing::debug!(topic = shared.topic(), ?cause, "a commit is tried again");
                true
            }
            Err(Failure::Lasting(error)) => {
                refuse(shared, state, &error);
                continue;
            }
        };
        answer(&mut state);
        drop(state);
        shared.turn();
        if !outlived.is_empty() {
            // What stays of them is found by whoever loads the partition next.
            drop(shared.link.publisher().send(outlived));
        }
        if again {
            shared.pause(AGAIN);
        }
    }
}

/// Everything that changed since the last commit.
fn due(state: &State, limit: usize) -> Vec<Due> {
    let dirty = state.partitions.values().filter(|partition| partition.is_dirty());
    let due = dirty.map(|partition| {
        let metadata = partition.progress.to_metadata(limit);
        Due {
            number: partition.number,
            incarnation: partition.incarnation,
            version: partition.version,
            low: partition.progress.settled.low(),
            aside: metadata.is_none().then(|| partition.progress.clone()),
            relies: partition.progress.relies,
            metadata,
        }
    });
    due.collect()
}

enum Failure {
    /// It may succeed in a moment.
    Passing(Error),
    Lasting(Error),
}

fn commit(shared: &Shared, member: &Member, due: &[Due]) -> Result<(), Failure> {
    let sorted = |error: Error| if error.is_retryable() { Failure::Passing(error) } else { Failure::Lasting(error) };
    let too_long = due.iter().filter_map(|due| Some((due, due.aside.as_ref()?)));
    let notes = too_long.clone().map(|(due, progress)| {
        let shelf = Shelf { topic: shared.aside.clone(), partition: due.number };
        shelf.progress(due.incarnation, progress)
    });
    let mut ends = Vec::new();
    if let Some(last) = too_long.clone().map(|(due, _)| due.number).max() {
        shared.ensure_aside(last).map_err(sorted)?;
        let stored = shared.link.publisher().send(notes.collect()).blocking_recv();
        let receipts = stored.unwrap_or_else(|_| Err(crate::state::ended())).map_err(sorted)?;
        ends.extend(receipts.iter().map(|receipt| receipt.position.map_or(0, |position| place(position).1 + 1)));
    }
    let mut ends = ends.into_iter();
    let texts = due.iter().map(|due| {
        due.metadata.clone().unwrap_or_else(|| {
            let relies = due.relies.max(ends.next().unwrap_or(0));
            metadata_aside(due.incarnation, due.version, relies)
        })
    });
    let texts: Vec<String> = texts.collect();
    let what = || format!("cannot commit what group {} has settled of {}", shared.group_id, shared.topic());
    let odd = |cause: KafkaError| Failure::Lasting(failed(what(), cause));
    let mut list = TopicPartitionList::with_capacity(due.len());
    for (due, text) in due.iter().zip(&texts) {
        let mut element = list.add_partition(shared.topic(), due.number);
        element.set_offset(Offset::Offset(i64::try_from(due.low).unwrap_or(i64::MAX))).map_err(odd)?;
        element.set_metadata(text);
    }
    let longest = texts.iter().map(String::len).max().unwrap_or_default();
    member.consumer().commit(&list, CommitMode::Sync).map_err(|cause| {
        let too_much = cause.rdkafka_error_code() == Some(RDKafkaErrorCode::OffsetMetadataTooLarge);
        match is_transient(&cause) || (too_much && shared.link.lower_metadata(longest)) {
            true => Failure::Passing(failed(what(), cause)),
            false => Failure::Lasting(failed(what(), cause)),
        }
    })
}

/// Answers whoever waited for what is committed now, or for what is not ours any more.
fn answer(state: &mut State) {
    let State { waiters, partitions, .. } = state;
    let kept = |(incarnation, version): &(u32, u64)| {
        let partition = partitions.values().find(|partition| partition.incarnation == *incarnation);
        partition.is_none_or(|partition| partition.committed >= *version)
    };
    for waiter in waiters.extract_if(.., |waiter| waiter.needs.iter().all(kept)) {
        // Nobody may be waiting any more.
        let _ = waiter.reply.send(Ok(()));
    }
}

/// The server will not have commits: nothing can be settled any more.
fn refuse(shared: &Shared, mut state: std::sync::MutexGuard<'_, State>, error: &Error) {
    for waiter in std::mem::take(&mut state.waiters) {
        let _ = waiter.reply.send(Err(Error::new(error.code(), format!("{error:#}"))));
    }
    let numbers: Vec<i32> = state.partitions.keys().copied().collect();
    for number in numbers {
        state.stop(number, Phase::Fenced);
        if let Some(partition) = state.partitions.get_mut(&number) {
            partition.committed = partition.version;
        }
    }
    drop(state);
    shared.fail(error);
    shared.turn();
}

/// The poll thread leaves the group when it sees this. (To unsubscribe from here first would wake it, but the client library
/// forgets to tell the group when it is closed while it unsubscribes.)
fn leave(shared: &Shared, mut state: std::sync::MutexGuard<'_, State>) {
    for waiter in std::mem::take(&mut state.waiters) {
        let _ = waiter.reply.send(Err(crate::state::ended()));
    }
    state.left = true;
    drop(state);
    shared.turn();
}
