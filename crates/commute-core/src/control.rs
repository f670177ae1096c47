//! Control: administration and operation as requests and replies, whatever carries them.
//!
//! ```text
//! Remote (is an Admin) ─ Request ─► transport: a Unix socket, a node ─► answer ─► Broker, Admin, Operate
//!                      ◄─ Reply ──                                   ◄──
//! ```
//!
//! Both are JSON. A request that a program does not know is refused by its transport as malformed, so a newer operator and an
//! older service understand each other as far as both go.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::admin::{
    Admin, Begin, Ended, GroupInfo, Page, ParkedEvent, StoredEvent, SubscriptionName, TopicInfo, Traced,
};
use crate::broker::{Broker, Receipt};
use crate::error::{Code, Error, Result};
use crate::future::BoxFuture;
use crate::id::EventId;
use crate::operate::{self, Operate, Operation, Report};
use crate::outgoing::Outgoing;
use crate::topic::Topic;

/// A question or an order, on its way to whoever owns the events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
#[allow(missing_docs, reason = "each is the method of `Admin`, `Broker` or `Operate` of the same name")]
pub enum Request {
    Capabilities,
    Topics {
        after: Option<String>,
        max: usize,
    },
    Groups {
        topic: Option<String>,
    },
    Read {
        topic: String,
        from: Begin,
        max: usize,
    },
    Unsettled {
        subscription: SubscriptionName,
        after: Option<u64>,
        max: usize,
    },
    Parked {
        subscription: SubscriptionName,
        after: Option<u64>,
        max: usize,
    },
    Journey {
        id: EventId,
        max: usize,
    },
    Keep {
        subscription: SubscriptionName,
    },
    End {
        subscription: SubscriptionName,
        ended: Vec<Ended>,
    },
    Unpark {
        subscription: SubscriptionName,
        positions: Vec<u64>,
    },
    Replay {
        subscription: SubscriptionName,
        from: Begin,
    },
    Publish {
        batch: Vec<Outgoing>,
    },
    Apps,
    /// Of the service of that [`Operate::name`].
    Operate {
        app: String,
        operation: Operation,
    },
}

/// The answer to a request of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "each is what the method of the same name answers")]
pub enum Reply {
    /// As JSON, because what a newer broker gives has fields that an older operator does not know.
    Capabilities(serde_json::Value),
    Topics(Vec<TopicInfo>),
    Groups(Vec<GroupInfo>),
    Page(Page),
    Events(Vec<StoredEvent>),
    Parked(Vec<ParkedEvent>),
    Journey(Vec<Traced>),
    Done,
    Ended(Vec<bool>),
    Position(u64),
    Published(Vec<Receipt>),
    /// By their [`Operate::name`].
    Apps(Vec<String>),
    Report(Report),
    Refused {
        code: String,
        detail: String,
    },
}

/// Answers a request on behalf of a broker. Never fails: an error becomes [`Reply::Refused`].
pub async fn answer(broker: &dyn Broker, request: Request) -> Reply {
    match answered(broker, request).await {
        Ok(reply) => reply,
        Err(error) => Reply::refused(&error),
    }
}

async fn answered(broker: &dyn Broker, request: Request) -> Result<Reply> {
    let admin = || {
        let none = || Error::new(Code::NeedNotMet, format!("{} has no administration", broker.driver()));
        broker.admin().ok_or_else(none)
    };
    let topic = |name: Option<String>| name.map(Topic::new).transpose();
    Ok(match request {
        Request::Capabilities => Reply::Capabilities(
            serde_json::to_value(broker.capabilities())
                .map_err(|cause| Error::new(Code::InvalidEvent, "capabilities are no JSON").caused_by(cause))?,
        ),
        Request::Topics { after, max } => Reply::Topics(admin()?.topics(topic(after)?, max).await?),
        Request::Groups { topic: name } => Reply::Groups(admin()?.groups(topic(name)?).await?),
        Request::Read { topic, from, max } => Reply::Page(admin()?.read(Topic::new(topic)?, from, max).await?),
        Request::Unsettled { subscription, after, max } => {
            Reply::Events(admin()?.unsettled(subscription, after, max).await?)
        }
        Request::Parked { subscription, after, max } => Reply::Parked(admin()?.parked(subscription, after, max).await?),
        Request::Journey { id, max } => Reply::Journey(admin()?.journey(id, max).await?),
        Request::Keep { subscription } => admin()?.keep(subscription).await.map(|()| Reply::Done)?,
        Request::End { subscription, ended } => Reply::Ended(admin()?.end(subscription, ended).await?),
        Request::Unpark { subscription, positions } => {
            admin()?.unpark(subscription, positions).await.map(|()| Reply::Done)?
        }
        Request::Replay { subscription, from } => Reply::Position(admin()?.replay(subscription, from).await?),
        Request::Publish { batch } => Reply::Published(broker.publish(batch).await?),
        Request::Apps => Reply::Apps(broker.services().await?.iter().map(|service| service.name()).collect()),
        Request::Operate { app, operation } => {
            Reply::Report(operate::ask(broker.services().await?, &app, operation).await?)
        }
    })
}

impl Request {
    /// Whether it changes something, so that it matters whether it was done when nobody says so.
    pub fn acts(&self) -> bool {
        match self {
            Request::Capabilities
            | Request::Topics { .. }
            | Request::Groups { .. }
            | Request::Read { .. }
            | Request::Unsettled { .. }
            | Request::Parked { .. }
            | Request::Journey { .. }
            | Request::Apps => false,
            Request::Operate { operation, .. } => operation.acts(),
            _ => true,
        }
    }
}

impl Reply {
    /// What an error looks like on the way.
    pub fn refused(error: &Error) -> Self {
        // With its causes, because they do not travel.
        let whole = format!("{error:#}");
        let detail = whole.replacen(&format!(" ({})", error.code()), "", 1);
        Reply::Refused { code: error.code().number().to_owned(), detail }
    }

    /// Why this is not the answer that was due: what a refusal says, or that it is another.
    pub fn unexpected(&self) -> Error {
        match self {
            Reply::Refused { code, detail } => {
                let known = Code::ALL.iter().find(|known| known.number() == code);
                Error::new(known.copied().unwrap_or(Code::BrokerUnavailable), detail.clone())
            }
            _ => Error::new(Code::BrokerUnavailable, "the other side answered something else than was asked"),
        }
    }
}

/// Carries a request to where it is answered.
pub trait Ask: Send + Sync + 'static {
    /// Sends a request and waits for its reply.
    ///
    /// # Errors
    /// `BrokerUnavailable` when the connection broke: whether the request was carried out is unknown then.
    fn ask(&self, request: Request) -> BoxFuture<'_, Result<Reply>>;
}

/// Whoever is at the other end of a transport, as if it were here.
#[derive(Debug, Clone)]
pub struct Remote<A>(pub Arc<A>);

macro_rules! ask {
    ($remote:expr, $request:expr, $pattern:pat => $answer:expr) => {{
        let asked = $remote.0.ask($request);
        Box::pin(async move {
            match asked.await? {
                $pattern => Ok($answer),
                other => Err(other.unexpected()),
            }
        })
    }};
}

impl<A: Ask> Remote<A> {
    /// What the broker at the other end gives, as JSON.
    ///
    /// # Errors
    /// The transport's.
    pub fn capabilities(&self) -> BoxFuture<'_, Result<serde_json::Value>> {
        ask!(self, Request::Capabilities, Reply::Capabilities(given) => given)
    }

    /// Publishes; as [`Broker::publish`].
    ///
    /// # Errors
    /// As [`Broker::publish`], and the transport's.
    pub fn publish(&self, batch: Vec<Outgoing>) -> BoxFuture<'_, Result<Vec<Receipt>>> {
        ask!(self, Request::Publish { batch }, Reply::Published(receipts) => receipts)
    }

    /// The services that run at the other end.
    ///
    /// # Errors
    /// The transport's.
    pub fn apps(&self) -> BoxFuture<'_, Result<Vec<RemoteApp<A>>>> {
        let asked = self.0.ask(Request::Apps);
        Box::pin(async move {
            match asked.await? {
                Reply::Apps(names) => {
                    Ok(names.into_iter().map(|name| RemoteApp { name, remote: self.0.clone() }).collect())
                }
                other => Err(other.unexpected()),
            }
        })
    }
}

impl<A: Ask> Admin for Remote<A> {
    fn topics(&self, after: Option<Topic>, max: usize) -> BoxFuture<'_, Result<Vec<TopicInfo>>> {
        let after = after.map(|topic| topic.to_string());
        ask!(self, Request::Topics { after, max }, Reply::Topics(topics) => topics)
    }

    fn groups(&self, topic: Option<Topic>) -> BoxFuture<'_, Result<Vec<GroupInfo>>> {
        let topic = topic.map(|topic| topic.to_string());
        ask!(self, Request::Groups { topic }, Reply::Groups(groups) => groups)
    }

    fn read(&self, topic: Topic, from: Begin, max: usize) -> BoxFuture<'_, Result<Page>> {
        ask!(self, Request::Read { topic: topic.to_string(), from, max }, Reply::Page(page) => page)
    }

    fn unsettled(
        &self,
        subscription: SubscriptionName,
        after: Option<u64>,
        max: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>>> {
        ask!(self, Request::Unsettled { subscription, after, max }, Reply::Events(events) => events)
    }

    fn parked(
        &self,
        subscription: SubscriptionName,
        after: Option<u64>,
        max: usize,
    ) -> BoxFuture<'_, Result<Vec<ParkedEvent>>> {
        ask!(self, Request::Parked { subscription, after, max }, Reply::Parked(parked) => parked)
    }

    fn journey(&self, id: EventId, max: usize) -> BoxFuture<'_, Result<Vec<Traced>>> {
        ask!(self, Request::Journey { id, max }, Reply::Journey(journey) => journey)
    }

    fn keep(&self, subscription: SubscriptionName) -> BoxFuture<'_, Result<()>> {
        ask!(self, Request::Keep { subscription }, Reply::Done => ())
    }

    fn end(&self, subscription: SubscriptionName, ended: Vec<Ended>) -> BoxFuture<'_, Result<Vec<bool>>> {
        ask!(self, Request::End { subscription, ended }, Reply::Ended(ended) => ended)
    }

    fn unpark(&self, subscription: SubscriptionName, positions: Vec<u64>) -> BoxFuture<'_, Result<()>> {
        ask!(self, Request::Unpark { subscription, positions }, Reply::Done => ())
    }

    fn replay(&self, subscription: SubscriptionName, from: Begin) -> BoxFuture<'_, Result<u64>> {
        ask!(self, Request::Replay { subscription, from }, Reply::Position(position) => position)
    }
}

/// A service at the other end.
#[derive(Debug, Clone)]
pub struct RemoteApp<A> {
    name: String,
    remote: Arc<A>,
}

impl<A: Ask> Operate for RemoteApp<A> {
    fn app(&self) -> String {
        self.name.split('/').next().unwrap_or_default().to_owned()
    }

    fn instance(&self) -> Option<String> {
        self.name.split_once('/').map(|(_, instance)| instance.to_owned())
    }

    fn operate(&self, operation: Operation) -> BoxFuture<'_, Result<Report>> {
        let asked = self.remote.ask(Request::Operate { app: self.name.clone(), operation });
        Box::pin(async move {
            match asked.await? {
                Reply::Report(report) => Ok(report),
                other => Err(other.unexpected()),
            }
        })
    }
}
