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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use commute_core::{BoxFuture, Operate, Operation, Report, Result};

    use super::*;

    struct Counting(AtomicU64);

    impl Operate for Counting {
        fn app(&self) -> String {
            "mail".to_owned()
        }

        fn operate(&self, _: Operation) -> BoxFuture<'_, Result<Report>> {
            let times = self.0.fetch_add(1, Ordering::SeqCst) + 1;
            Box::pin(std::future::ready(Ok(Report::Done(times))))
        }
    }

    fn ask(ask: u64, app: &str) -> Message {
        let ask = Ask { ask, app: app.to_owned(), operation: Operation::Lanes { max: 1 } };
        Message::new(Kind::Ask, 0, &ask).unwrap()
    }

    fn said(operators: &mut Operators, most: usize) -> Option<(u64, serde_json::Value)> {
        let Answer { ask, reply } = operators.next(most)?.header().unwrap();
        Some((ask, reply))
    }

    #[tokio::test]
    async fn a_question_is_answered_once_and_its_answer_said_as_often_as_it_comes() {
        let mut operators = Operators::new(Arc::default());
        let service: Arc<dyn Operate> = Arc::new(Counting(AtomicU64::new(0)));
        operators.attached().attach(&service);
        assert_eq!(operators.news().map(|attach| attach.apps), Some(vec!["mail".to_owned()]));
        assert!(operators.news().is_none());
        operators.ask(&ask(1, "mail"));
        // It comes again before it is answered, and after.
        operators.ask(&ask(1, "mail"));
        operators.answered().await;
        let done = serde_json::json!({ "report": { "done": 1 } });
        assert_eq!(said(&mut operators, 1000), Some((1, done.clone())));
        assert_eq!(said(&mut operators, 1000), None);
        operators.ask(&ask(1, "mail"));
        assert!(!operators.is_answering());
        assert_eq!(said(&mut operators, 1000), Some((1, done)));
        operators.ask(&ask(2, "shop"));
        operators.answered().await;
        assert_eq!(said(&mut operators, 1000).unwrap().1["refused"]["code"], "CM0034");
        // What is too large for the node is refused instead.
        operators.ask(&ask(3, "mail"));
        operators.answered().await;
        assert_eq!(said(&mut operators, 10).unwrap().1["refused"]["code"], "CM0013");
        // The services of a new session are news, and its numbers begin anew.
        operators.begin_anew();
        assert!(operators.news().is_some());
        operators.ask(&ask(1, "mail"));
        operators.answered().await;
        assert_eq!(said(&mut operators, 1000).unwrap().1["report"]["done"], 3);
        drop(service);
        operators.look();
        assert_eq!(operators.news().map(|attach| attach.apps), Some(vec![]));
    }
}
