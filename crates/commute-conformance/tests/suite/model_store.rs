//! A store so simple that it is obviously right: a list under a lock. And, one line each, the ways to make it wrong.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use commute_conformance::{Ending, StoreFixture, Verdict, Work};
use commute_core::store::{Outbox, Store, Transact};
use commute_core::{BoxFuture, Code, Committed, Done, Error, EventId, HandlerError, Outgoing, Result, Unit, UnitError};
use tokio::sync::Notify;

/// What is wrong with a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slip {
    None,
    IgnoresMarks,
    ForgetsMarks,
    SharesMarks,
    KeepsFailedEffects,
    MarksFailedWork,
    LosesTheOutbox,
    StagesDuplicates,
    ReversesTheOutbox,
    IgnoresConfirm,
    RestartsSequence,
    SleepsOnCommit,
    RunsInAnyOrder,
}

#[derive(Default)]
struct Data {
    session: u32,
    closed: bool,
    effects: Vec<String>,
    marks: BTreeSet<(Arc<str>, EventId)>,
    outbox: Vec<(u64, Outgoing)>,
    sequence: u64,
}

struct Disk {
    data: Mutex<Data>,
    committed: Notify,
    slip: Slip,
}

/// The fixture, and the store.
pub(crate) struct ModelStore(Arc<Disk>);

impl ModelStore {
    pub(crate) fn new(slip: Slip) -> Self {
        ModelStore(Arc::new(Disk { data: Mutex::default(), committed: Notify::new(), slip }))
    }
}

impl StoreFixture for ModelStore {
    fn open(&self) -> BoxFuture<'_, Arc<dyn Store>> {
        Box::pin(async { Arc::new(Opened(self.0.clone())) as Arc<dyn Store> })
    }

    fn reopen(&self, previous: Arc<dyn Store>, ending: Ending) -> BoxFuture<'_, Arc<dyn Store>> {
        Box::pin(async move {
            if ending == Ending::Close {
                previous.close().await.unwrap();
            }
            let mut data = self.0.data.lock().unwrap_or_else(PoisonError::into_inner);
            (data.closed, data.session) = (false, data.session + 1);
            if self.0.slip == Slip::ForgetsMarks {
                data.marks.clear();
            }
            if self.0.slip == Slip::LosesTheOutbox {
                data.outbox.clear();
            }
            Arc::new(Opened(self.0.clone())) as Arc<dyn Store>
        })
    }

    fn work(&self, work: Work) -> Box<dyn Transact> {
        Box::new(ModelWork(self.0.clone(), work))
    }

    fn effects(&self) -> BoxFuture<'_, Vec<String>> {
        Box::pin(async { self.0.data.lock().unwrap_or_else(PoisonError::into_inner).effects.clone() })
    }

    fn patience(&self) -> Duration {
        if self.0.slip == Slip::None { Duration::from_secs(60) } else { Duration::from_secs(2) }
    }
}

struct ModelWork(Arc<Disk>, Work);

impl Transact for ModelWork {
    fn submit(self: Box<Self>, unit: Unit, done: Done) {
        let ModelWork(disk, work) = *self;
        let result = disk.run(work, unit);
        if disk.slip != Slip::SleepsOnCommit {
            disk.committed.notify_waiters();
        }
        done(result);
    }
}

impl Disk {
    fn run(&self, work: Work, unit: Unit) -> Result<Committed, UnitError> {
        let mut data = self.data.lock().unwrap_or_else(PoisonError::into_inner);
        if data.closed {
            return Err(UnitError::Lost(Error::new(Code::Closed, "the store is closed")));
        }
        let subscription = if self.slip == Slip::SharesMarks { "all".into() } else { unit.subscription };
        let mark = (subscription, unit.event);
        let known = data.marks.contains(&mark) && self.slip != Slip::IgnoresMarks;
        if known && self.slip != Slip::StagesDuplicates {
            return Ok(Committed::Duplicate);
        }
        if work.verdict == Verdict::Fail {
            if self.slip == Slip::KeepsFailedEffects {
                data.effects.push(work.effect);
            }
            if self.slip == Slip::MarksFailedWork {
                data.marks.insert(mark);
            }
            return Err(UnitError::Failed(HandlerError::retry("the work fails")));
        }
        let staged = (unit.stage)(work.emits).map_err(|error| UnitError::Failed(HandlerError::from_error(error)))?;
        if !known {
            data.effects.push(work.effect);
        }
        if self.slip == Slip::RunsInAnyOrder {
            data.effects.sort();
        }
        data.marks.insert(mark);
        if self.slip == Slip::RestartsSequence && data.outbox.is_empty() {
            data.sequence = 0;
        }
        for outgoing in staged {
            data.sequence += 1;
            let sequence = data.sequence;
            data.outbox.push((sequence, outgoing));
        }
        Ok(if known { Committed::Duplicate } else { Committed::Fresh })
    }
}

struct Opened(Arc<Disk>);

impl Store for Opened {
    fn name(&self) -> &str {
        "model"
    }

    fn inbox_retention(&self) -> Duration {
        Duration::MAX
    }

    fn outbox(&self) -> Arc<dyn Outbox> {
        Arc::new(Opened(self.0.clone()))
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            self.0.data.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
            Ok(())
        })
    }
}

impl Outbox for Opened {
    fn next(&self, after: u64, max: usize) -> BoxFuture<'_, Result<Vec<(u64, Outgoing)>>> {
        Box::pin(async move {
            loop {
                let committed = self.0.committed.notified();
                tokio::pin!(committed);
                committed.as_mut().enable();
                let staged = self.0.data.lock().unwrap_or_else(PoisonError::into_inner).outbox.clone();
                let mut some: Vec<_> = staged.into_iter().filter(|(n, _)| *n > after).take(max).collect();
                if self.0.slip == Slip::ReversesTheOutbox {
                    some.reverse();
                }
                if !some.is_empty() {
                    return Ok(some);
                }
                committed.await;
            }
        })
    }

    fn confirm(&self, upto: u64) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if self.0.slip != Slip::IgnoresConfirm {
                self.0.data.lock().unwrap_or_else(PoisonError::into_inner).outbox.retain(|(n, _)| *n > upto);
            }
            Ok(())
        })
    }

    fn len(&self) -> usize {
        self.0.data.lock().unwrap_or_else(PoisonError::into_inner).outbox.len()
    }
}
