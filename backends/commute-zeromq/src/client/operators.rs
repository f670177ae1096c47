//! Operators: the services of this process that the node asks for operators, and what they answer.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use commute_core::control::Reply;
use commute_core::{Attached, Code, Error, operate};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::wire::{Answer, Ask, Attach, Kind, Message, Numbered};

/// So many questions are answered at once, and so many answers are remembered. The node asks no more than that.
const ASKED: usize = 64;

/// What the link knows of operators. A question is answered once in a session, however often it comes.
pub(super) struct Operators {
    attached: Arc<Attached>,
    /// The services may be others than before.
    look: Arc<AtomicBool>,
    /// The services that the node was told of in this session.
    told: Vec<String>,
    answering: JoinSet<(u64, Reply)>,
    /// The last question that has come; their numbers grow.
    last: u64,
    answers: BTreeMap<u64, Message>,
    unsaid: VecDeque<u64>,
}

impl Operators {
    /// Calls the link when there is news.
    pub(super) fn new(attention: Arc<Notify>) -> Self {
        let look = Arc::new(AtomicBool::new(false));
        let attached = Attached::telling({
            let look = look.clone();
            move || {
                look.store(true, Ordering::Release);
                attention.notify_one();
            }
        });
        Self::knowing_nothing(Arc::new(attached), look)
    }

    fn knowing_nothing(attached: Arc<Attached>, look: Arc<AtomicBool>) -> Self {
        Operators {
            attached,
            look,
            told: Vec::new(),
            answering: JoinSet::new(),
            last: 0,
            answers: BTreeMap::new(),
            unsaid: VecDeque::new(),
        }
    }

    /// A new session knows of no service and has asked nothing.
    pub(super) fn begin_anew(&mut self) {
        *self = Self::knowing_nothing(self.attached.clone(), self.look.clone());
        self.look();
    }

    /// Where the services attach themselves.
    pub(super) fn attached(&self) -> Arc<Attached> {
        self.attached.clone()
    }

    /// Services end without a word, so now and then they are looked at.
    pub(super) fn look(&self) {
        self.look.store(true, Ordering::Release);
    }

    /// What the node is to be told, when the services are not those that it was told of.
    pub(super) fn news(&mut self) -> Option<Attach> {
        if !self.look.swap(false, Ordering::AcqRel) {
            return None;
        }
        let mut apps: Vec<_> = self.attached.running().iter().map(|service| service.app()).collect();
        apps.sort_unstable();
        apps.dedup();
        if apps == self.told {
            return None;
        }
        self.told.clone_from(&apps);
        Some(Attach { apps, instance: std::process::id().to_string() })
    }

    /// The node asks.
    pub(super) fn ask(&mut self, message: &Message) {
        let Ok(Numbered { ask }) = message.header() else { return };
        if ask <= self.last {
            // It was asked before; if it is not answered yet, it will be.
            if self.answers.contains_key(&ask) && !self.unsaid.contains(&ask) {
                self.unsaid.push_back(ask);
            }
            return;
        }
        self.last = ask;
        match message.header::<Ask>() {
            Ok(Ask { app, operation, .. }) if self.answering.len() < ASKED => {
                let services = self.attached.running();
                self.answering.spawn(async move {
                    let report = operate::ask(services, &app, operation).await;
                    (ask, report.map_or_else(|error| Reply::refused(&error), Reply::Report))
                });
            }
            Ok(_) => {
                let busy = format!("{ASKED} questions are being answered already; this was not asked");
                self.answer(ask, &Reply::refused(&Error::new(Code::BrokerUnavailable, busy)));
            }
            Err(error) => self.answer(ask, &Reply::refused(&error)),
        }
    }

    fn answer(&mut self, ask: u64, reply: &Reply) {
        let made = serde_json::to_value(reply).ok().map(|reply| Answer { ask, reply });
        let Some(Ok(message)) = made.map(|answer| Message::new(Kind::Answer, 0, &answer)) else { return };
        self.answers.insert(ask, message);
        while self.answers.len() > ASKED {
            self.answers.pop_first();
        }
        self.unsaid.push_back(ask);
    }

    pub(super) fn is_answering(&self) -> bool {
        !self.answering.is_empty()
    }

    /// Waits until a service has answered. Cancel safe.
    pub(super) async fn answered(&mut self) {
        // Of one that panicked nothing is known; the node says so in time.
        if let Some(Ok((ask, reply))) = self.answering.join_next().await {
            self.answer(ask, &reply);
        }
    }

    /// The next answer to be said.
    pub(super) fn next(&mut self, max_message_bytes: usize) -> Option<Message> {
        let ask = self.unsaid.pop_front()?;
        let message = self.answers.get(&ask)?;
        if message.size() <= max_message_bytes {
            return Some(message.clone());
        }
        let detail = format!("an answer of {} bytes; the node takes {max_message_bytes}", message.size());
        self.answer(ask, &Reply::refused(&Error::new(Code::PayloadTooLarge, detail)));
        self.unsaid.pop_back();
        self.answers.get(&ask).cloned()
    }
}
