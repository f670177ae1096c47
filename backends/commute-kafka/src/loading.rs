//! Loading: what commit, log and the topic beside say of a partition, put together when it becomes ours.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use commute_core::watermark::Watermark;
use commute_core::{Code, Error, Result};
use hashbrown::HashMap;
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::aside::{Counting, Loaded};
use crate::assignment::Watch;
use crate::client::ANSWER;
use crate::error::failed;
use crate::library::{Library, Part};
use crate::partition::Partition;
use crate::progress::{Committed, Epoch, Progress, committed};
use crate::state::{Shared, State};

/// How long a log may seem shorter than it is known to be.
const PATIENCE: Duration = Duration::from_secs(30);

/// Logs that were found shorter than they are known to be, and since when.
#[derive(Default)]
pub(crate) struct Short(HashMap<(bool, i32), Instant>);

impl Short {
    /// Whether a log is as long as it is known to be. A server may not have heard of all of it: for a while, a shorter one is an
    /// error that passes.
    fn is_whole(&mut self, log: Log<'_>, end: u64, known: u64) -> Result<bool> {
        let Log { topic, is_aside, number } = log;
        if end >= known {
            return Ok(true);
        }
        let since = self.0.entry((is_aside, number)).or_insert_with(Instant::now);
        if since.elapsed() > PATIENCE {
            return Ok(false);
        }
        let detail = format!("partition {number} of {topic} is known to have {known} records, and has {end}");
        Err(Error::new(Code::BrokerUnavailable, detail))
    }
}

/// A partition of the source, or of the topic beside.
#[derive(Clone, Copy)]
struct Log<'a> {
    topic: &'a str,
    is_aside: bool,
    number: i32,
}

/// What is known of a partition before the topic beside is read.
struct Known {
    number: i32,
    commit: Option<Committed>,
    start: u64,
    end: u64,
    aside_end: u64,
    /// The source is shorter than what is committed.
    is_another: bool,
}

/// Loads partitions. Blocks.
///
/// # Errors
/// `BrokerUnavailable` when it may succeed in a moment.
pub(crate) fn load(
    shared: &Shared,
    library: &Library,
    consumer: &BaseConsumer<Watch>,
    numbers: &[i32],
    short: &mut Short,
) -> Result<Vec<Partition>> {
    let topic = shared.topic();
    if numbers.is_empty() {
        return Ok(Vec::new());
    }
    let mut asked = TopicPartitionList::new();
    for number in numbers {
        asked.add_partition(topic, *number);
    }
    let what = || format!("cannot ask how far group {} has come in {topic}", shared.group_id);
    // Before the topic beside: what a commit relies on is there when the commit is.
    let answer = consumer.committed_offsets(asked, ANSWER).map_err(|cause| failed(what(), cause))?;
    let topics = &shared.link.publisher().topics;
    // Asking tells the client about partitions that were added meanwhile.
    let there = topics.known(topic)?;
    if numbers.iter().any(|number| *number >= there) {
        let detail = format!("{topic} is not known to have more than {there} partitions");
        return Err(Error::new(Code::BrokerUnavailable, detail));
    }
    let asides = topics.partitions(&shared.aside)?.unwrap_or(0);
    let limits = |topic: &str, number| {
        let log = topics.asker.fetch_watermarks(topic, number, ANSWER).map_err(|cause| failed(what(), cause))?;
        Ok::<_, Error>((log.0.unsigned_abs(), log.1.unsigned_abs()))
    };
    let (mut parts, mut all) = (Vec::new(), Vec::new());
    for element in answer.elements() {
        element.error().map_err(|cause| failed(what(), cause))?;
        let number = element.partition();
        let commit = match element.offset() {
            Offset::Offset(offset) => Some(committed(offset.unsigned_abs(), element.metadata())),
            _ => None,
        };
        let (from, aside_end) = if number < asides { limits(&shared.aside, number)? } else { (0, 0) };
        let relies = commit.as_ref().map_or(0, Committed::relies);
        if !short.is_whole(Log { topic: &shared.aside, is_aside: true, number }, aside_end, relies)? {
            let what =
                "the topic beside was shortened or created anew: what was parked in the rest is not known any more";
            tracing::error!(topic = &*shared.aside, number, end = aside_end, relies, "{what}");
        }
        let (start, end) = limits(topic, number)?;
        let low = commit.as_ref().map_or(0, Committed::low);
        let is_another = !short.is_whole(Log { topic, is_aside: false, number }, end, low)?;
        parts.push(Part { partition: number, from, end: aside_end });
        all.push(Known { number, commit, start, end, aside_end, is_another });
    }
    let mut aside = HashMap::<i32, Loaded>::new();
    library.read(&shared.aside, &parts, |message| {
        let end = parts.iter().find(|part| part.partition == message.partition()).map_or(0, |part| part.end);
        // What comes behind the end belongs to the next who reads this.
        if message.offset().unsigned_abs() < end {
            aside.entry(message.partition()).or_default().take(message);
        }
        ControlFlow::Continue(())
    })?;
    for known in all.iter_mut().filter(|known| known.commit.is_none()) {
        // The server forgets what was committed of a topic that is deleted, and what it is about is still beside.
        let last = aside.get(&known.number).map_or(0, Loaded::behind_last);
        let log = Log { topic, is_aside: false, number: known.number };
        known.is_another = !short.is_whole(log, known.end, last)?;
    }
    // Nothing can fail any more: what is put together here takes room, and only a partition that is ours gives it back.
    let loaded = all.into_iter().map(|known| {
        let aside = aside.remove(&known.number).unwrap_or_default();
        partition(shared, known, aside)
    });
    Ok(loaded.collect())
}

/// Puts together what commit, log and aside say.
fn partition(shared: &Shared, known: Known, mut aside: Loaded) -> Partition {
    let (topic, Known { number, commit, start, end, aside_end, is_another }) = (shared.topic(), known);
    let mut progress = match commit {
        None => Progress::new(start),
        Some(Committed::Inline(progress)) => progress,
        Some(Committed::Aside { incarnation, low, .. }) => aside.progress.remove(&incarnation).unwrap_or_else(|| {
            tracing::warn!(topic, number, "what was settled out of order is not aside any more: it comes again");
            Progress::new(low)
        }),
    };
    let outlived = aside.progress.keys().copied().collect();
    let relies = progress.relies;
    let mut counting = Counting::default();
    if is_another {
        let low = progress.settled.low();
        let what = "the topic ends before what is settled or parked: it is another one, and read from its start";
        tracing::error!(topic, number, end, low, "{what}");
        progress = Progress::new(start);
        // Nothing of what is aside speaks of this one.
        progress.epochs.push(Epoch { from: 0, writer: 0 });
    } else {
        counting = aside.counting(&progress.epochs);
        if counting.late.is_empty() {
            progress.epochs.clear();
        } else {
            let count = counting.late.len();
            tracing::warn!(topic, number, count, "what was parked by another instance too late does not count");
        }
    }
    if progress.settled.low() < start {
        let lost = start - progress.settled.low();
        tracing::warn!(topic, number, lost, "the topic has removed what was not settled yet");
        if progress.settled.done_beyond() == 0 {
            progress.settled = Watermark::new(start);
        } else {
            (progress.settled.low()..start).for_each(|gone| _ = progress.settled.done(gone));
        }
    }
    let Counting { mut asides, notes, outdated, late } = counting;
    let mut state = shared.state();
    for parked in asides.values_mut().filter(|parked| !parked.back) {
        let fits = parked.record.as_ref().is_some_and(|record| State::keep(state.kept(), record));
        if !fits {
            parked.record = None;
        }
    }
    drop(state);
    // Random, so that the tags of another process, or of this one before, mean nothing here.
    let incarnation = fastrand::u32(1..);
    // Should the topic beside only have seemed shorter than it is, the rest of it counts as before.
    progress.epochs.push(Epoch { from: aside_end.max(relies), writer: incarnation });
    progress.relies = aside_end;
    let mut partition = Partition::new(number, incarnation, progress, asides);
    (partition.notes, partition.outlived, partition.late) = (notes, outlived, late);
    partition.outdated = outdated.into_iter().map(|note| (note, 0)).collect();
    if is_another {
        // Whoever comes next must not take it for the one before, should it have become as long.
        partition.version = 1;
    }
    partition
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_seems_shorter_than_it_is_known_to_be_is_asked_for_again_for_a_while() {
        let (mut short, log) = (Short::default(), Log { topic: "t", is_aside: true, number: 3 });
        assert!(short.is_whole(log, 7, 7).unwrap() && short.is_whole(log, 8, 7).unwrap());
        let error = short.is_whole(log, 6, 7).unwrap_err();
        assert!(error.is_retryable() && error.detail().contains("partition 3 of t"), "{error}");
        // Each has its own time, which begins when it is first found so.
        let long_ago = Instant::now() - PATIENCE - Duration::from_secs(1);
        short.0.insert((true, 3), long_ago);
        assert!(!short.is_whole(log, 6, 7).unwrap());
        short.is_whole(Log { is_aside: false, ..log }, 6, 7).unwrap_err();
        short.is_whole(Log { number: 4, ..log }, 6, 7).unwrap_err();
    }
}
