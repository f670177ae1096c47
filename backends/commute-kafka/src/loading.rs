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

/// Logs that were found shorter than they are known to be.
#[derive(Default)]
pub(crate) struct Short {
    /// Since when, and when it was seen last.
    seen: HashMap<(bool, i32), (Instant, Instant)>,
    unsure: Option<Error>,
}

impl Short {
    /// Whether a log is as long as it is known to be. A server may not have heard of all of it: a shorter one is to be believed when
    /// it has been that for a while.
    fn is_whole(&mut self, log: Log<'_>, end: u64, known: u64, now: Instant) -> bool {
        let Log { topic, is_aside, number } = log;
        if end >= known {
            self.seen.remove(&(is_aside, number));
            return true;
        }
        let (since, last) = self.seen.entry((is_aside, number)).or_insert((now, now));
        // Two glances with nothing in between are no while.
        if now.saturating_duration_since(*last) > 2 * ANSWER {
            *since = now;
        }
        *last = now;
        if now.saturating_duration_since(*since) <= PATIENCE {
            let detail = format!("partition {number} of {topic} is known to have {known} records, and has {end}");
            self.unsure.get_or_insert(Error::new(Code::BrokerUnavailable, detail));
        }
        false
    }

    /// Fails when a log that was looked at since the last call is not to be believed yet; how long it took to look at
    /// everything is no time with nothing in between.
    fn sure(&mut self, began: Instant, ended: Instant) -> Result<()> {
        let Some(error) = self.unsure.take() else { return Ok(()) };
        self.seen.values_mut().filter(|(_, last)| *last == began).for_each(|(_, last)| *last = ended);
        Err(error)
    }
}

/// A partition of the source, or of the topic beside.
#[derive(Clone, Copy)]
struct Log<'a> {
    topic: &'a str,
    is_aside: bool,
    number: i32,
}

/// What is known of a partition before everything is put together.
struct Known {
    number: i32,
    /// Nothing when the server knows of no commit.
    progress: Option<Progress>,
    start: u64,
    end: u64,
    aside: Loaded,
    aside_end: u64,
    /// What the commit knows of the topic beside.
    relies: u64,
    is_aside_whole: bool,
    /// Whether the source goes as far as what is settled and parked.
    is_whole: bool,
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
    let (topic, now) = (shared.topic(), Instant::now());
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
    let (mut parts, mut found) = (Vec::new(), Vec::new());
    for element in answer.elements() {
        element.error().map_err(|cause| failed(what(), cause))?;
        let number = element.partition();
        let commit = match element.offset() {
            Offset::Offset(offset) => Some(committed(offset.unsigned_abs(), element.metadata())),
            _ => None,
        };
        let (from, end) = if number < asides { limits(&shared.aside, number)? } else { (0, 0) };
        let relies = commit.as_ref().map_or(0, Committed::relies);
        let log = Log { topic: &shared.aside, is_aside: true, number };
        found.push((number, commit, relies, short.is_whole(log, end, relies, now)));
        parts.push(Part { partition: number, from, end });
    }
    // All of them were looked at, so that they are waited for together.
    short.sure(now, Instant::now())?;
    let mut asides = HashMap::<i32, Loaded>::new();
    library.read(&shared.aside, &parts, |message| {
        let end = parts.iter().find(|part| part.partition == message.partition()).map_or(0, |part| part.end);
        // What comes behind the end belongs to the next who reads this.
        if message.offset().unsigned_abs() < end {
            asides.entry(message.partition()).or_default().take(message);
        }
        ControlFlow::Continue(())
    })?;
    let mut all = Vec::new();
    for ((number, commit, relies, is_aside_whole), part) in found.into_iter().zip(&parts) {
        let mut aside = asides.remove(&number).unwrap_or_default();
        let progress = commit.map(|commit| match commit {
            Committed::Inline(progress) => progress,
            Committed::Aside { incarnation, low, .. } => aside.progress.remove(&incarnation).unwrap_or_else(|| {
                tracing::warn!(topic, number, "what was settled out of order is not aside any more: it comes again");
                Progress::new(low)
            }),
        });
        let (start, end) = limits(topic, number)?;
        let epochs = progress.as_ref().map_or(&[][..], |progress| &progress.epochs);
        let last = progress.as_ref().map_or(0, |progress| progress.settled.end()).max(aside.behind_last(epochs));
        let is_whole = short.is_whole(Log { topic, is_aside: false, number }, end, last, now);
        let aside_end = part.end;
        all.push(Known { number, progress, start, end, aside, aside_end, relies, is_aside_whole, is_whole });
    }
    short.sure(now, Instant::now())?;
    // Nothing can fail any more: what is put together here takes room, and only a partition that is ours gives it back.
    Ok(all.into_iter().map(|known| partition(shared, known)).collect())
}

/// Puts together what commit, log and aside say.
fn partition(shared: &Shared, known: Known) -> Partition {
    let Known { number, progress, start, end, aside, aside_end, relies, is_aside_whole, is_whole } = known;
    let topic = shared.topic();
    if !is_aside_whole {
        let what = "the topic beside was shortened or created anew: what was parked in the rest is not known any more";
        tracing::error!(topic = &*shared.aside, number, end = aside_end, relies, "{what}");
    }
    // The server forgets what was committed of a topic that is deleted; what is beside then speaks of another one.
    let is_another = !is_whole && progress.as_ref().is_none_or(|progress| progress.settled.low() > end);
    let mut progress = progress.unwrap_or_else(|| Progress::new(start));
    let outlived = aside.progress.keys().copied().collect();
    // Should the topic beside only have seemed shorter than it is, the rest of it counts as before.
    let from = progress.epochs.iter().map(|epoch| epoch.from).fold(aside_end.max(relies), u64::max);
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
        if !is_whole {
            let what =
                "the topic has lost its end: what was settled or parked of it says nothing of what comes in its place";
            tracing::error!(topic, number, end, "{what}");
            progress.settled.reopen(end);
            progress.deferred.retain(|offset, _| *offset < end);
            let lost = counting.asides.split_off(&end).into_iter();
            counting
                .late
                .extend(lost.flat_map(|(offset, aside)| aside.noted.into_iter().map(move |noted| (offset, noted))));
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
    progress.epochs.push(Epoch { from, writer: incarnation });
    progress.relies = aside_end;
    let mut partition = Partition::new(number, incarnation, progress, asides);
    (partition.notes, partition.outlived, partition.late) = (notes, outlived, late);
    partition.outdated = outdated.into_iter().map(|note| (note, 0)).collect();
    // Whoever comes next must not conclude it anew, or find the log as long as it was.
    partition.version = u64::from(!is_whole || !is_aside_whole);
    partition
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_seems_shorter_than_it_is_known_to_be_is_asked_for_again_for_a_while() {
        let (mut short, log) = (Short::default(), Log { topic: "t", is_aside: true, number: 3 });
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert!(short.is_whole(log, 7, 7, at(0)) && short.is_whole(log, 8, 7, at(0)));
        short.sure(at(0), at(0)).unwrap();
        // Looking at everything may take longer than a glance is worth.
        for (began, ended) in [(0, 1), (15, 29), (30, 30)] {
            assert!(!short.is_whole(log, 6, 7, at(began)));
            let error = short.sure(at(began), at(ended)).unwrap_err();
            assert!(error.is_retryable() && error.detail().contains("partition 3 of t"), "{error}");
        }
        // Each has its own time, which begins when it is first found so.
        assert!(!short.is_whole(Log { number: 4, ..log }, 6, 7, at(31)));
        assert!(!short.is_whole(Log { is_aside: false, ..log }, 6, 7, at(31)));
        short.sure(at(31), at(31)).unwrap_err();
        assert!(!short.is_whole(log, 6, 7, at(31)));
        short.sure(at(31), at(31)).unwrap();
        // Once it is whole, and after a while without an answer, it begins anew.
        assert!(short.is_whole(log, 7, 7, at(32)));
        assert!(!short.is_whole(log, 6, 7, at(33)));
        short.sure(at(33), at(33)).unwrap_err();
        assert!(!short.is_whole(log, 6, 7, at(80)));
        short.sure(at(80), at(80)).unwrap_err();
    }
}
