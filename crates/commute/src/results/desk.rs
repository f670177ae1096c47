//! The desk: which results lie here unsettled, and who waits for them.
//!
//! A result is kept until its request was answered in full and collected, and a while longer. Payloads are in memory only
//! while somebody waits for them; of the others the desk knows the delivery, and they are read again.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use commute_core::{Code, DeliveryTag, Error, EventId, Result, Settlement, Timestamp};
use tokio::sync::Notify;

use super::handled::HandledResult;

/// So many requests that were answered in full can be collected once more, for callers who ask again with the same id; fewer
/// where there is little room.
const REMEMBERED: usize = 1024;

/// What lies on the desk.
#[derive(Default)]
pub(super) struct Desk {
    requests: HashMap<EventId, Entry>,
    /// Requests with results, in the order of their first one.
    arrivals: VecDeque<EventId>,
    /// Requests that are answered in full, in that order.
    finished: VecDeque<EventId>,
    /// Results that lie here.
    pub(super) held: usize,
    /// To be settled by the reader.
    pub(super) settle: Vec<Settlement>,
    /// Why the reader has ended.
    over: Option<(Code, String)>,
}

/// A request that somebody waits for, or whose results lie here.
#[derive(Default)]
struct Entry {
    waiters: usize,
    changed: Arc<Notify>,
    kept: Vec<Kept>,
    finished: bool,
}

struct Kept {
    tag: DeliveryTag,
    published: Timestamp,
    /// `None` while nobody waits for it.
    result: Option<HandledResult>,
}

impl Desk {
    /// A result has arrived.
    pub(super) fn arrived(&mut self, tag: DeliveryTag, published: Timestamp, result: HandledResult) {
        let id = result.request.clone();
        let entry = self.requests.entry(id.clone()).or_default();
        if entry.kept.is_empty() {
            self.arrivals.push_back(id);
        }
        let result = (entry.waiters > 0).then_some(result);
        entry.kept.push(Kept { tag, published, result });
        entry.changed.notify_waiters();
        self.held += 1;
    }

    /// Lets go of what nobody has waited for since `oldest`, and of the oldest where there is more than `most`. Answers how
    /// many results of unfinished requests there was no room for.
    pub(super) fn sweep(&mut self, oldest: Timestamp, most: usize) -> usize {
        let mut lost = 0;
        while self.finished.len() > REMEMBERED.min(most / 2)
            && let Some(id) = self.finished.pop_front()
        {
            match self.requests.get(&id) {
                Some(entry) if entry.finished && entry.waiters == 0 => self.let_go(&id),
                Some(entry) if entry.finished => {
                    self.finished.push_back(id);
                    break;
                }
                // It was let go before; what has its name now is another one's.
                _ => {}
            }
        }
        for _ in 0..self.arrivals.len() {
            let Some(id) = self.arrivals.front() else { break };
            let Some(entry) = self.requests.get(id).filter(|entry| !entry.kept.is_empty()) else {
                self.arrivals.pop_front();
                continue;
            };
            let old = entry.kept.iter().all(|kept| kept.published <= oldest);
            if !old && self.held <= most {
                break;
            }
            if entry.waiters > 0 {
                self.arrivals.rotate_left(1);
                continue;
            }
            lost += if old || entry.finished { 0 } else { entry.kept.len() };
            let id = id.clone();
            self.let_go(&id);
        }
        lost
    }

    /// Acknowledges the results of a request that nobody waits for.
    fn let_go(&mut self, id: &EventId) {
        let Some(entry) = self.requests.get_mut(id) else { return };
        self.held -= entry.kept.len();
        let acks = entry.kept.drain(..);
        self.settle.extend(acks.map(|kept| Settlement::Ack { tag: kept.tag, publish: Vec::new(), mark: false }));
        self.requests.remove(id);
    }

    /// Another instance has these now.
    pub(super) fn revoked(&mut self, incarnation: u32) {
        let Desk { requests, held, settle, .. } = self;
        requests.retain(|_, entry| {
            let theirs = entry.kept.extract_if(.., |kept| kept.tag.incarnation == incarnation);
            let before = settle.len();
            settle.extend(theirs.map(|kept| Settlement::Return { tag: kept.tag }));
            *held -= settle.len() - before;
            entry.waiters > 0 || !entry.kept.is_empty()
        });
    }

    /// Nothing more will arrive.
    pub(super) fn end(&mut self, error: &Error) {
        self.over.get_or_insert_with(|| (error.code(), error.detail().to_owned()));
        self.requests.values().for_each(|entry| entry.changed.notify_waiters());
    }

    /// Why nothing more will arrive.
    pub(super) fn is_open(&self) -> Result<()> {
        self.over.as_ref().map_or(Ok(()), |(code, detail)| Err(Error::new(*code, detail.clone())))
    }

    /// Somebody begins to wait for a request, and is told of every change.
    pub(super) fn enter(&mut self, id: &EventId) -> Arc<Notify> {
        let entry = self.requests.entry(id.clone()).or_default();
        entry.waiters += 1;
        entry.changed.clone()
    }

    /// Somebody does not wait any more.
    pub(super) fn leave(&mut self, id: &EventId) {
        let Some(entry) = self.requests.get_mut(id) else { return };
        entry.waiters -= 1;
        if entry.waiters > 0 {
            return;
        }
        if entry.kept.is_empty() {
            self.requests.remove(id);
            return;
        }
        entry.kept.iter_mut().for_each(|kept| kept.result = None);
    }

    /// A request is answered in full.
    pub(super) fn finish(&mut self, id: &EventId) {
        if let Some(entry) = self.requests.get_mut(id).filter(|entry| !entry.finished) {
            entry.finished = true;
            self.finished.push_back(id.clone());
        }
    }

    /// The results of a request, in the order of their arrival, and the deliveries that must be read first.
    pub(super) fn results(&self, id: &EventId) -> (Vec<HandledResult>, Vec<DeliveryTag>) {
        let kept = || self.requests.get(id).into_iter().flat_map(|entry| &entry.kept);
        let absent = kept().filter(|kept| kept.result.is_none()).map(|kept| kept.tag).collect();
        (kept().filter_map(|kept| kept.result.clone()).collect(), absent)
    }

    /// Results that were read again.
    pub(super) fn loaded(&mut self, id: &EventId, read: Vec<(DeliveryTag, HandledResult)>) {
        let Some(entry) = self.requests.get_mut(id) else { return };
        for (tag, result) in read {
            if let Some(kept) = entry.kept.iter_mut().find(|kept| kept.tag == tag) {
                kept.result = Some(result);
            }
        }
    }

    /// Requests that somebody waits for.
    pub(super) fn waited_for(&self) -> usize {
        self.requests.values().filter(|entry| entry.waiters > 0).count()
    }
}

/// The time before which results are let go.
pub(super) fn oldest(now: Timestamp, keep: Duration) -> Timestamp {
    Timestamp(now.0.saturating_sub(i64::try_from(keep.as_micros()).unwrap_or(i64::MAX)))
}
