//! What the two ends and the threads of one subscription share.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use commute_core::{Change, Code, Delivery, DeliveryTag, Error, Receipt, Result, Settlement, SubscriptionSpec};
use tokio::sync::{Notify, watch};

use crate::client::Seldom;
use crate::link::Link;
use crate::partition::{Held, Partition, Phase, place};
use crate::publisher::Reply;
use crate::wire::Record;

/// How much is fetched ahead of the receiver.
const BUFFERED: usize = 8_192;
const BUFFERED_BYTES: usize = 16 << 20;
/// How much of what is in somebody's hands, or aside, is kept in memory; the rest is read again when it is asked for.
const KEPT: usize = 64 << 20;

/// What the settle thread is asked, in the order of the first polls.
pub(crate) enum Command {
    Settle {
        settlements: Vec<Settlement>,
        reply: Reply<()>,
    },
    Unpark {
        tags: Vec<DeliveryTag>,
        reply: Reply<Vec<Delivery>>,
    },
    /// The subscription ends, after everything that was asked before.
    End,
}

/// Why a subscription is over.
#[derive(Debug, Clone)]
pub(crate) enum Over {
    /// It was closed, or its receiver was dropped.
    Ended,
    /// The server will not have it.
    Failed(Code, String),
}

/// Settlements that a commit has to keep before they are answered.
pub(crate) struct Waiter {
    /// Incarnations, and the version of each that has to be committed.
    pub(crate) needs: Vec<(u32, u64)>,
    pub(crate) reply: Reply<()>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) partitions: BTreeMap<i32, Partition>,
    pub(crate) changes: VecDeque<Change>,
    pub(crate) credit_used: usize,
    kept: usize,
    /// Fetched and not handed over.
    pub(crate) buffered: usize,
    pub(crate) buffered_bytes: usize,
    /// The poll thread waits for room in the buffers.
    pub(crate) full: bool,
    pub(crate) commands: VecDeque<Command>,
    pub(crate) waiters: Vec<Waiter>,
    /// Calls are on their way.
    pub(crate) settling: bool,
    /// A commit is on its way.
    pub(crate) committing: bool,
    pub(crate) over: Option<Over>,
    /// The settle thread has ended: nothing becomes dirty any more.
    pub(crate) settled: bool,
    /// The last commit is made, and the group is told.
    pub(crate) left: bool,
    pub(crate) last_order: u64,
    /// Records that came a second time.
    pub(crate) absorbed: u64,
    /// From which partition the next delivery is taken first, so that none starves.
    pub(crate) turn: i32,
}

/// Everything about one open subscription.
pub(crate) struct Shared {
    pub(crate) spec: SubscriptionSpec,
    pub(crate) group_id: String,
    /// The topic beside the source.
    pub(crate) aside: Arc<str>,
    pub(crate) link: Arc<Link>,
    state: Mutex<State>,
    /// Threads wait for turns of the state.
    turned: Condvar,
    /// Receivers, and whoever waits for changes.
    pub(crate) changed: Notify,
    pub(crate) assigned: Notify,
    /// The first assignment is there.
    pub(crate) opened: watch::Sender<bool>,
    /// How many partitions the topic beside the source has at least.
    asides: Mutex<i32>,
    pub(crate) interrupted: Seldom,
}

impl Shared {
    pub(crate) fn new(spec: SubscriptionSpec, group_id: String, aside: String, link: Arc<Link>) -> Self {
        Shared {
            spec,
            group_id,
            aside: aside.into(),
            link,
            state: Mutex::default(),
            turned: Condvar::new(),
            changed: Notify::new(),
            assigned: Notify::new(),
            opened: watch::Sender::new(false),
            asides: Mutex::new(0),
            interrupted: Seldom::default(),
        }
    }

    /// The group, among those of all servers.
    pub(crate) fn group(&self) -> String {
        format!("{} at {}", self.group_id, self.link.options.label())
    }

    pub(crate) fn topic(&self) -> &str {
        self.spec.topic.as_str()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happened that a thread may wait for.
    pub(crate) fn turn(&self) {
        self.turned.notify_all();
    }

    /// Waits for a turn.
    pub(crate) fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.turned.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while something is so, until a deadline.
    pub(crate) fn wait_while<'a>(
        &self,
        state: MutexGuard<'a, State>,
        until: Instant,
        what: impl FnMut(&mut State) -> bool,
    ) -> MutexGuard<'a, State> {
        let patience = until.saturating_duration_since(Instant::now());
        self.turned.wait_timeout_while(state, patience, what).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Lets a moment pass, or less when something happens.
    pub(crate) fn pause(&self, time: Duration) {
        drop(self.turned.wait_timeout(self.state(), time).unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn ask(&self, command: Command) {
        let mut state = self.state();
        if state.settled {
            match command {
                // What they speak of is over, and settling it does nothing.
                Command::Settle { reply, .. } => drop(reply.send(Ok(()))),
                Command::Unpark { reply, .. } => drop(reply.send(Err(ended()))),
                Command::End => {}
            }
            return;
        }
        state.commands.push_back(command);
        drop(state);
        self.turn();
    }

    /// Creates the topic beside the source when it is needed for the first time, and gives it more partitions when the
    /// source was given more. Blocks.
    pub(crate) fn ensure_aside(&self, partition: i32) -> Result<()> {
        let mut there = self.asides.lock().unwrap_or_else(PoisonError::into_inner);
        if partition >= *there {
            let publisher = self.link.publisher();
            let partitions = publisher.topics.partitions(self.topic())?.unwrap_or(1).max(partition + 1);
            publisher.topics.ensure_compacted(&self.aside, partitions)?;
            publisher.look_again(&self.aside)?;
            *there = partitions;
        }
        Ok(())
    }

    /// The subscription cannot go on.
    pub(crate) fn fail(&self, error: &Error) {
        tracing::warn!(topic = self.topic(), group = %self.spec.group, ?error, "the subscription has failed");
        self.state().over.get_or_insert_with(|| Over::Failed(error.code(), format!("{error:#}")));
        self.ask(Command::End);
        self.opened.send_replace(true);
        self.changed.notify_waiters();
    }
}

pub(crate) fn ended() -> Error {
    Error::new(Code::Closed, "the subscription has ended")
}

impl State {
    /// Why a receiver gets nothing more; closing is no error.
    pub(crate) fn end(&self) -> Option<Result<()>> {
        match self.over.as_ref()? {
            Over::Ended => Some(Ok(())),
            Over::Failed(code, detail) => Some(Err(Error::new(*code, detail.clone()))),
        }
    }

    /// What a tag speaks of, if that is in somebody's hands.
    pub(crate) fn held(&self, tag: DeliveryTag) -> Option<&Held> {
        self.partitions.get(&place(tag.position).0)?.holds(tag)
    }

    /// The partition of a tag that spoke of something in somebody's hands when its settlement was begun.
    pub(crate) fn planned(&mut self, tag: DeliveryTag) -> Option<&mut Partition> {
        let (number, offset) = place(tag.position);
        let partition = self.partitions.get_mut(&number)?;
        (partition.incarnation == tag.incarnation && partition.held.get(offset).is_some()).then_some(partition)
    }

    /// Keeps a record in memory if there is room.
    pub(crate) fn keep(kept: &mut usize, record: &Record) -> bool {
        let fits = *kept + record.size <= KEPT;
        if fits {
            *kept += record.size;
        }
        fits
    }

    pub(crate) fn kept(&mut self) -> &mut usize {
        &mut self.kept
    }

    /// Something is in nobody's hands any more.
    pub(crate) fn release(&mut self, held: &Held) {
        if held.counted {
            self.credit_used = self.credit_used.saturating_sub(1);
        }
        if let Some(record) = &held.record {
            self.kept = self.kept.saturating_sub(record.size);
        }
    }

    /// Whether no more should be fetched for now.
    pub(crate) fn is_full(&self) -> bool {
        self.buffered >= BUFFERED || self.buffered_bytes >= BUFFERED_BYTES
    }

    /// Whether fetching is worth while again.
    pub(crate) fn has_room(&self) -> bool {
        self.buffered < BUFFERED / 2 && self.buffered_bytes < BUFFERED_BYTES / 2
    }

    /// Hands over as many as credit and `max` allow, the partitions in turn.
    pub(crate) fn take(&mut self, max: usize, credit: usize) -> Vec<Delivery> {
        let mut room = max.min(credit.saturating_sub(self.credit_used));
        let mut taken = Vec::with_capacity(room.min(self.buffered));
        let turn = self.turn;
        let State { partitions, kept, buffered, buffered_bytes, .. } = self;
        let (before, after): (Vec<_>, Vec<_>) =
            partitions.values_mut().filter(|partition| partition.has_next()).partition(|p| p.number < turn);
        let ready = after.len() + before.len();
        for (n, partition) in after.into_iter().chain(before).enumerate() {
            // Everybody gets a part; who has less leaves the rest to the others.
            let mut part = room.div_ceil(ready - n);
            while part > 0
                && let Some((delivery, buffered_size)) = partition.take(|record| State::keep(kept, record))
            {
                if let Some(size) = buffered_size {
                    *buffered = buffered.saturating_sub(1);
                    *buffered_bytes = buffered_bytes.saturating_sub(size);
                }
                taken.push(delivery);
                (part, room) = (part - 1, room - 1);
            }
            self.turn = partition.number + 1;
        }
        self.credit_used += taken.len();
        taken
    }

    /// These notes are stored: whoever loads their partitions has to see them, and the next commit says so.
    pub(crate) fn rely(&mut self, stored: &[Receipt]) {
        for (number, offset) in stored.iter().filter_map(|receipt| receipt.position).map(place) {
            if let Some(partition) = self.partitions.get_mut(&number) {
                partition.progress.relies = partition.progress.relies.max(offset + 1);
                partition.version += 1;
            }
        }
    }

    /// Nothing more is delivered from a partition; in the last phase nothing more is begun to be settled either.
    pub(crate) fn stop(&mut self, number: i32, phase: Phase) {
        let Some(partition) = self.partitions.get_mut(&number) else { return };
        let (count, bytes) =
            partition.buffered().fold((0, 0), |(count, bytes), record| (count + 1, bytes + record.size));
        partition.stop_delivering(phase);
        self.buffered = self.buffered.saturating_sub(count);
        self.buffered_bytes = self.buffered_bytes.saturating_sub(bytes);
    }

    /// A partition is not ours any more.
    pub(crate) fn remove(&mut self, number: i32) -> Option<Partition> {
        self.stop(number, Phase::Fenced);
        let partition = self.partitions.remove(&number)?;
        partition.held.iter().for_each(|(_, held)| self.release(held));
        let aside = partition.aside.values().filter(|aside| !aside.back).filter_map(|aside| aside.record.as_ref());
        self.kept = self.kept.saturating_sub(aside.map(|record| record.size).sum());
        Some(partition)
    }

    /// A change that nobody has heard of yet and that is over already is not told at all.
    pub(crate) fn tell(&mut self, change: Change) {
        if let Change::Revoked(incarnation) = change {
            let untold = self.changes.iter().position(|known| *known == Change::Assigned(incarnation));
            if let Some(untold) = untold {
                self.changes.remove(untold);
                return;
            }
        }
        self.changes.push_back(change);
    }
}
