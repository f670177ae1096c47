//! Operators: the services of a session's client, as whoever comes in through the node's broker finds them.
//!
//! ```text
//! operator ─► control ─► Attached ─► Relayed ─► session ═ ASK ═► client ─► service
//!                                        ◄──────────── ═ ANSWER ═
//! ```
//!
//! They are forgotten with their session. What was asked and not answered when a connection broke is asked again in the next
//! one, under the same number, which the client answers once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use commute_core::control::Reply;
use commute_core::{BoxFuture, Broker, Code, Error, Operate, Operation, Report, Result, Topic};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::wire::{Answer, Ask, Attach, Kind, Message};

/// So many services may run on a node, whatever their sessions.
const SERVICES: usize = 1024;
/// So many questions to one client may be under way.
const ASKED: usize = 64;
/// A question is short.
const ASK_BYTES: usize = 64 << 10;

/// The services of a session, and what they are asked.
pub(super) struct Operators {
    services: Vec<Arc<dyn Operate>>,
    asking: mpsc::Sender<Question>,
    pub(super) questions: mpsc::Receiver<Question>,
    /// How long an answer may take.
    patience: Duration,
    asked: BTreeMap<u64, (Message, oneshot::Sender<Reply>)>,
    /// Numbers that were not said in this connection, in order.
    unsaid: VecDeque<u64>,
    last: u64,
}

/// What an operator asks of a service.
pub(super) struct Question {
    app: String,
    operation: Operation,
    to: oneshot::Sender<Reply>,
}

/// Names are given one after the other, by all nodes of this process, because several may serve one broker.
static NAMING: Mutex<()> = Mutex::new(());

impl Operators {
    pub(super) fn new(patience: Duration) -> Self {
        let (asking, questions) = mpsc::channel(ASKED);
        Operators {
            services: Vec::new(),
            asking,
            questions,
            patience,
            asked: BTreeMap::new(),
            unsaid: VecDeque::new(),
            last: 0,
        }
    }

    /// These are the services of the client now, and no others.
    ///
    /// # Errors
    /// `NotUnderstood` when a name is none; `BrokerUnavailable` when there are too many services; `NeedNotMet` when operators do not
    /// come in through the broker. Nothing has changed then.
    pub(super) fn attach(&mut self, broker: &dyn Broker, attach: Attach) -> Result<()> {
        let none = || Error::new(Code::NeedNotMet, format!("operators do not come in through {}", broker.driver()));
        let attached = broker.attached().ok_or_else(none)?;
        for name in attach.apps.iter().chain([&attach.instance]) {
            Topic::new(name)
                .map_err(|_| Error::new(Code::NotUnderstood, format!("no app or instance is called {name:?}")))?;
        }
        let _one_by_one = NAMING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut others = attached.running();
        others.retain(|other| !self.services.iter().any(|own| Arc::ptr_eq(own, other)));
        if others.len() + attach.apps.len() > SERVICES {
            return Err(Error::new(
                Code::BrokerUnavailable,
                format!("the node lets operators ask {SERVICES} services at most"),
            ));
        }
        // Process ids are the same in many a container.
        let mut instance = attach.instance.clone();
        let mut n = 1;
        while others.iter().any(|other| other.instance().is_some_and(|taken| taken == instance)) {
            n += 1;
            instance = format!("{}-{n}", attach.instance);
        }
        let relayed = |app| {
            let (instance, asking) = (instance.clone(), self.asking.clone());
            Arc::new(Relayed { app, instance, asking, patience: self.patience }) as Arc<dyn Operate>
        };
        self.services = attach.apps.into_iter().map(relayed).collect();
        self.services.iter().for_each(|service| attached.attach(service));
        Ok(())
    }

    /// Takes a question that is to be asked.
    pub(super) fn ask(&mut self, Question { app, operation, to }: Question) {
        self.asked.retain(|_, (_, to)| !to.is_closed());
        let ask = self.last + 1;
        let made = Message::new(Kind::Ask, 0, &Ask { ask, app, operation });
        let refused = match made {
            Ok(message) if message.size() > ASK_BYTES => {
                Error::new(Code::PayloadTooLarge, format!("a question of more than {ASK_BYTES} bytes"))
            }
            Ok(_) if self.asked.len() >= ASKED => Error::new(
                Code::BrokerUnavailable,
                format!("{ASKED} questions wait for an answer already; nothing more was asked"),
            ),
            Ok(message) => {
                self.last = ask;
                self.asked.insert(ask, (message, to));
                return self.unsaid.push_back(ask);
            }
            Err(error) => error,
        };
        let _ = to.send(Reply::refused(&refused));
    }

    /// An answer has come. Whoever has stopped waiting does not want it.
    ///
    /// # Errors
    /// `NotUnderstood` when it does not say what it answers.
    pub(super) fn answered(&mut self, message: &Message) -> Result<()> {
        let Answer { ask, reply } = message.header()?;
        if let Some((_, to)) = self.asked.remove(&ask) {
            let wrong = |cause: serde_json::Error| {
                Reply::refused(&Error::new(Code::NotUnderstood, "the answer is not understood").caused_by(cause))
            };
            let _ = to.send(serde_json::from_value(reply).unwrap_or_else(wrong));
        }
        Ok(())
    }

    /// In a new connection everything is asked again.
    pub(super) fn again(&mut self) {
        self.unsaid = self.asked.keys().copied().collect();
    }

    /// The next to be said, unless nobody waits for its answer any more.
    pub(super) fn next(&mut self) -> Option<Message> {
        loop {
            let number = self.unsaid.pop_front()?;
            match self.asked.get(&number) {
                Some((message, to)) if !to.is_closed() => return Some(message.clone()),
                _ => {}
            }
        }
    }
}

/// A service in the process of a client.
struct Relayed {
    app: String,
    instance: String,
    asking: mpsc::Sender<Question>,
    patience: Duration,
}

impl Operate for Relayed {
    fn app(&self) -> String {
        self.app.clone()
    }

    fn instance(&self) -> Option<String> {
        Some(self.instance.clone())
    }

    fn operate(&self, operation: Operation) -> BoxFuture<'_, Result<Report>> {
        Box::pin(async move {
            let then = if operation.acts() { "; whether it did what it was asked is unknown" } else { "" };
            let silent =
                |what: String| Err(Error::new(Code::BrokerUnavailable, format!("{} {what}{then}", self.name())));
            let (to, answer) = oneshot::channel();
            let asked = async {
                // Either fails when the session is over.
                self.asking.send(Question { app: self.app.clone(), operation, to }).await.ok()?;
                answer.await.ok()
            };
            match timeout(self.patience, asked).await {
                Ok(Some(Reply::Report(report))) => Ok(report),
                Ok(Some(other)) => Err(other.unexpected()),
                Ok(None) => silent("went away while it was asked".to_owned()),
                Err(_) => silent(format!("did not answer within {:?}", self.patience)),
            }
        })
    }
}
