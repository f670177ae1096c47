//! The queue in front of the writer: commands in the order in which they came, and the end of everything.
//!
//! Publishing is bounded by bytes. What is beyond the bound stands in line here, in order, and is taken out again when
//! whoever waits for it gives up. Settlements never stand in line, because they make room.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use commute_core::{Code, Error, Result};

use super::command::{Command, Reply};

/// The queue. Shared by the writer and everybody who asks something of it.
#[derive(Default)]
pub(crate) struct Queue {
    lines: Mutex<Lines>,
    wake: Condvar,
    bound: usize,
}

#[derive(Default)]
struct Lines {
    commands: VecDeque<Command>,
    /// Publishing that is beyond the bound.
    waiting: VecDeque<Waiting>,
    next_ticket: u64,
    /// Bytes in `commands` and in the group that is being written.
    in_flight: usize,
    closers: Vec<Reply<()>>,
    closing: bool,
    stopping: bool,
    ended: Option<Result<(), Arc<Error>>>,
}

struct Waiting {
    ticket: u64,
    bytes: usize,
    command: Command,
}

/// What the writer does next.
pub(crate) enum Next {
    Write(VecDeque<Command>),
    /// Everything accepted is written: save and end.
    Close,
    /// The broker was dropped: end.
    Stop,
}

impl Queue {
    pub(crate) fn new(bound: usize) -> Self {
        Queue { bound, ..Queue::default() }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a command over, in order.
    ///
    /// # Errors
    /// `Closed`, `Poisoned`, `DiskFull`.
    pub(crate) fn send(&self, command: Command) -> Result<()> {
        let mut lines = self.lines();
        lines.open()?;
        lines.commands.push_back(command);
        drop(lines);
        self.wake.notify_one();
        Ok(())
    }

    /// Hands a publish over, in order. The place in the line is given up when the answer is dropped.
    ///
    /// # Errors
    /// `Closed`, `Poisoned`, `DiskFull`.
    pub(crate) fn publish(&self, bytes: usize, command: Command) -> Result<Option<InLine<'_>>> {
        let mut lines = self.lines();
        lines.open()?;
        if lines.waiting.is_empty() && lines.has_room(bytes, self.bound) {
            lines.in_flight += bytes;
            lines.commands.push_back(command);
            drop(lines);
            self.wake.notify_one();
            return Ok(None);
        }
        let ticket = lines.next_ticket;
        lines.next_ticket += 1;
        lines.waiting.push_back(Waiting { ticket, bytes, command });
        Ok(Some(InLine { queue: self, ticket }))
    }

    /// Asks for the end. Answered when the writer has ended, whoever asked first; with what poisoned the log if it is.
    pub(crate) fn close(&self, reply: Reply<()>) {
        let mut lines = self.lines();
        match &lines.ended {
            Some(ended) => drop(reply.send(ended.clone().map_err(|cause| poisoned(&cause)))),
            None => {
                lines.closing = true;
                lines.closers.push(reply);
                drop(lines);
                self.wake.notify_one();
            }
        }
    }

    /// Asks the writer to end without saving.
    pub(crate) fn stop(&self) {
        self.lines().stopping = true;
        self.wake.notify_one();
    }

    /// Why nothing more can be done; `None` while it can.
    pub(crate) fn over(&self) -> Option<Error> {
        self.lines().open().err()
    }

    /// Waits for something to do. `written` bytes are not in flight any more.
    pub(crate) fn next(&self, written: usize) -> (Next, usize) {
        let mut lines = self.lines();
        lines.in_flight -= written;
        loop {
            while let Some(first) = lines.waiting.front()
                && lines.has_room(first.bytes, self.bound)
            {
                lines.in_flight += first.bytes;
                let first = lines.waiting.pop_front();
                lines.commands.extend(first.map(|first| first.command));
            }
            if !lines.commands.is_empty() {
                let bytes = lines.in_flight;
                return (Next::Write(std::mem::take(&mut lines.commands)), bytes);
            }
            if lines.closing {
                return (Next::Close, 0);
            }
            if lines.stopping {
                return (Next::Stop, 0);
            }
            lines = self.wake.wait(lines).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The writer has ended, well or not. What was not written is dropped, which its senders read as the failure.
    pub(crate) fn end(&self, how: Result<(), Error>) {
        let how = how.map_err(Arc::new);
        let mut lines = self.lines();
        let (commands, waiting) = (std::mem::take(&mut lines.commands), std::mem::take(&mut lines.waiting));
        let closers = std::mem::take(&mut lines.closers);
        lines.ended.get_or_insert_with(|| how.clone());
        drop(lines);
        drop((commands, waiting));
        for reply in closers {
            let _ = reply.send(how.clone().map_err(|cause| poisoned(&cause)));
        }
    }
}

impl Lines {
    fn open(&self) -> Result<()> {
        match &self.ended {
            Some(Err(cause)) => Err(poisoned(cause)),
            Some(Ok(())) => Err(closed()),
            None if self.closing || self.stopping => Err(closed()),
            None => Ok(()),
        }
    }

    /// Something larger than the bound goes alone.
    fn has_room(&self, bytes: usize, bound: usize) -> bool {
        self.in_flight == 0 || self.in_flight + bytes <= bound
    }
}

fn closed() -> Error {
    Error::new(Code::Closed, "the broker is closed")
}

fn poisoned(cause: &Arc<Error>) -> Error {
    let code = if cause.code() == Code::DiskFull { Code::DiskFull } else { Code::Poisoned };
    Error::new(code, "the log takes no more after a failure").caused_by(format!("{cause:#}"))
}

/// A place in the line.
pub(crate) struct InLine<'a> {
    queue: &'a Queue,
    ticket: u64,
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        let mut lines = self.queue.lines();
        if let Ok(n) = lines.waiting.binary_search_by_key(&self.ticket, |waiting| waiting.ticket) {
            let given_up = lines.waiting.remove(n);
            drop(lines);
            drop(given_up);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    fn command() -> Command {
        Command::Publish { batch: Vec::new(), reply: oneshot::channel().0 }
    }

    fn taken(queue: &Queue, written: usize) -> (usize, usize) {
        match queue.next(written) {
            (Next::Write(commands), bytes) => (commands.len(), bytes),
            _ => (0, 0),
        }
    }

    #[test]
    fn publishing_beyond_the_bound_stands_in_line() {
        let queue = Queue::new(10);
        let lines: Vec<_> =
            [6, 4, 1, 9, 50].map(|bytes| queue.publish(bytes, command()).unwrap()).into_iter().collect();
        assert_eq!(lines.iter().map(Option::is_some).collect::<Vec<_>>(), [false, false, true, true, true]);
        assert_eq!(taken(&queue, 0), (2, 10));
        assert_eq!(taken(&queue, 10), (2, 10), "in order, as many as fit");
        assert_eq!(taken(&queue, 10), (1, 50), "what is larger than the bound goes alone");
    }

    #[test]
    fn whoever_gives_up_leaves_the_line() {
        let queue = Queue::new(10);
        let _first = queue.publish(10, command()).unwrap();
        let second = queue.publish(10, command()).unwrap();
        let _third = queue.publish(5, command()).unwrap();
        drop(second);
        assert_eq!(taken(&queue, 0), (1, 10));
        assert_eq!(taken(&queue, 10), (1, 5));
    }

    #[test]
    fn after_the_end_everybody_is_told_why() {
        let queue = Queue::new(10);
        queue.end(Err(Error::new(Code::DiskFull, "no room")));
        queue.end(Ok(()));
        assert_eq!(queue.send(command()).unwrap_err().code(), Code::DiskFull);
        let queue = Queue::new(10);
        queue.end(Err(Error::new(Code::Io, "broken")));
        assert_eq!(queue.send(command()).unwrap_err().code(), Code::Poisoned);
        let queue = Queue::new(10);
        queue.stop();
        assert_eq!(queue.send(command()).unwrap_err().code(), Code::Closed);
    }
}
