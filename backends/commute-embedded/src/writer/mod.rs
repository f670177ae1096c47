//! The writer: one thread that owns the log. It takes everything that waits, writes it as one group, syncs once, and then
//! answers everybody. There is no artificial delay: groups grow by themselves while the disk is busy.

mod administer;
pub(crate) mod command;
mod enact;
pub(crate) mod queue;

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use commute_core::{Code, Error, Result};

use crate::journal::log::Log;
use crate::keeper::Keeper;
use crate::options::Options;
use crate::records::Record;
use crate::retention;
use crate::state::{State, snapshot};
use command::{Answer, Command};
use enact::{Effects, Group};
use queue::{Next, Queue};

/// A group is written when it has grown to this, so that nobody waits for a write without end.
pub(crate) const GROUP_BYTES: usize = 4 << 20;

/// A snapshot is written when the log has grown by so many times its size, so that snapshots cost little of the disk.
const SNAPSHOT_SHARE: u64 = 4;

/// What the writer shares with everybody.
pub(crate) struct Shared {
    pub(crate) queue: Queue,
    state: Mutex<State>,
    pub(crate) options: Options,
}

impl Shared {
    pub(crate) fn new(state: State, options: Options) -> Self {
        Shared { queue: Queue::new(options.in_flight_bytes), state: Mutex::new(state), options }
    }

    /// Held for a few lines only: the writer needs it, too.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_everybody(&self) {
        self.state().subscriptions.iter().for_each(|subscription| subscription.changed.notify_waiters());
    }
}

/// Runs until the broker is closed or dropped, or the disk fails.
pub(crate) fn run(shared: &Shared, log: Log, keeper: Keeper) {
    // Dropped last: nobody may learn that there is no answer before everybody can learn why.
    let mut unfinished = Unfinished::default();
    let mut ending = Ending { shared, how: Err(Error::new(Code::Poisoned, "the writer panicked")) };
    let mut writer = Writer { shared, log, keeper, since_snapshot: 0, snapshot_bytes: 0 };
    ending.how = writer.run(&mut unfinished);
    if let Err(error) = &ending.how {
        tracing::error!(%error, "the log takes no more");
    }
    // Whoever waits for the end may open the directory again at once, so it is let go of before.
    drop(writer);
}

/// What is not written yet, or not answered.
#[derive(Default)]
struct Unfinished {
    commands: VecDeque<Command>,
    answers: Vec<Answer>,
}

/// Tells everybody when it is dropped, even by a panic.
struct Ending<'a> {
    shared: &'a Shared,
    how: Result<()>,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.shared.queue.end(std::mem::replace(&mut self.how, Ok(())));
        self.shared.wake_everybody();
    }
}

struct Writer<'a> {
    shared: &'a Shared,
    log: Log,
    keeper: Keeper,
    /// Bytes of the log since the last snapshot, and how large that was.
    since_snapshot: u64,
    snapshot_bytes: u64,
}

impl Writer<'_> {
    fn run(&mut self, unfinished: &mut Unfinished) -> Result<()> {
        let mut written = 0;
        loop {
            let (next, bytes) = self.shared.queue.next(written);
            match next {
                Next::Write(commands) => unfinished.commands = commands,
                Next::Close => {
                    let snapshot = self.snapshot();
                    return self.keeper.save_and_wait(snapshot);
                }
                Next::Stop => return Ok(()),
            }
            while !unfinished.commands.is_empty() {
                self.write_group(unfinished)?;
            }
            written = bytes;
        }
    }

    fn write_group(&mut self, unfinished: &mut Unfinished) -> Result<()> {
        let Effects { events, touched, answers, .. } = {
            let mut state = self.shared.state();
            let mut group = Group::begin(&mut self.log, &mut state, &self.shared.options);
            while group.bytes() < GROUP_BYTES
                && let Some(command) = unfinished.commands.pop_front()
            {
                group.add(command);
            }
            group.effects
        };
        unfinished.answers = answers;
        self.since_snapshot += self.log.commit()?;
        {
            let mut state = self.shared.state();
            let mut topics: Vec<u32> = Vec::new();
            for (event, place) in events {
                if topics.last() != Some(&event.topic) {
                    topics.push(event.topic);
                }
                let fits = state.apply(Record::Event(event), place, &self.shared.options);
                debug_assert!(fits, "events are numbered by the writer");
            }
            state.wake(&topics, &touched);
        }
        unfinished.answers.drain(..).for_each(Answer::send);
        if self.log.is_full() { self.roll() } else { Ok(()) }
    }

    /// Goes on in a new segment.
    fn roll(&mut self) -> Result<()> {
        let (segment, capacity) = self.keeper.take_spare(self.log.capacity())?;
        self.log.roll(segment, capacity);
        self.keeper.prepare(self.log.serial() + 1, capacity);
        if self.since_snapshot >= self.shared.options.segment_bytes.max(SNAPSHOT_SHARE * self.snapshot_bytes) {
            let snapshot = self.snapshot();
            self.keeper.save(snapshot);
        } else {
            let outline = snapshot::encode_outline(&self.shared.state(), self.log.covered());
            self.keeper.outline(outline);
        }
        Ok(())
    }

    /// The state as it is after the last group, without what is not retained.
    fn snapshot(&mut self) -> Vec<u8> {
        let mut state = self.shared.state();
        self.keeper.remove(retention::forget(&mut state, &mut self.log, &self.shared.options));
        let snapshot = snapshot::encode(&state, self.log.covered());
        (self.since_snapshot, self.snapshot_bytes) = (0, snapshot.len() as u64);
        snapshot
    }
}
