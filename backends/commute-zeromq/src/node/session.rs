//! A session: what one client has open here. It outlives its connection for a lease, and answers a number once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use commute_core::{BoxFuture, Code, Error};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt, poll};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::Shared;
use super::request::begin;
use super::subscription::Open;
use crate::wire::{Kind, Message};
use crate::zmtp::Item;

/// Requests on their way from a connection to its session.
pub(crate) const INBOX: usize = 64;

/// What a session hears.
pub(crate) enum Input {
    /// A connection is there for it; an older one is not any more.
    Attach(mpsc::Sender<Item>),
    /// That connection is gone.
    Detach(mpsc::Sender<Item>),
    /// A request.
    Request(Message),
    /// The client has ended it.
    Bye,
}

/// One session. Owned by its task.
pub(crate) struct Session {
    pub(super) shared: Arc<Shared>,
    name: String,
    inbox: mpsc::Receiver<Input>,
    peer: Option<mpsc::Sender<Item>>,
    /// When its connection was lost.
    since: Instant,
    /// Being worked on.
    pending: HashSet<u64>,
    /// Answered, and not known to have arrived.
    answered: BTreeMap<u64, Message>,
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    pub(super) open: HashMap<u32, Open>,
    pub(super) opened: u32,
}

/// What comes of a request.
pub(super) struct Done {
    pub(super) reply: Message,
    /// A subscription that is open now.
    pub(super) open: Option<(u32, Open)>,
}

impl From<Message> for Done {
    fn from(reply: Message) -> Self {
        Done { reply, open: None }
    }
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, name: String, inbox: mpsc::Receiver<Input>) -> Self {
        Session {
            shared,
            name,
            inbox,
            peer: None,
            since: Instant::now(),
            pending: HashSet::new(),
            answered: BTreeMap::new(),
            work: FuturesUnordered::new(),
            open: HashMap::new(),
            opened: 0,
        }
    }

    /// Serves until the client says goodbye, is away for a lease, or the node stops. Dropping what is open gives its deliveries back.
    pub(super) async fn run(mut self) {
        let shared = self.shared.clone();
        loop {
            let room = self.work.len() < shared.options.max_in_flight;
            let over = self.since + shared.options.lease;
            tokio::select! {
                () = shared.stop.cancelled() => break,
                input = self.inbox.recv(), if room => match input {
                    Some(Input::Request(message)) => self.request(message).await,
                    Some(Input::Attach(peer)) => self.attach(peer).await,
                    Some(Input::Detach(peer)) => self.detach(&peer),
                    Some(Input::Bye) | None => break,
                },
                Some(done) = self.work.next(), if !self.work.is_empty() => self.done(done).await,
                () = tokio::time::sleep_until(over), if self.peer.is_none() => break,
            }
        }
        shared.sessions().remove(&self.name);
    }

    async fn attach(&mut self, peer: mpsc::Sender<Item>) {
        self.peer = Some(peer);
        // What the last connection may have lost.
        let again: Vec<_> = self.answered.values().cloned().collect();
        for reply in again {
            self.say(reply).await;
        }
    }

    fn detach(&mut self, peer: &mpsc::Sender<Item>) {
        if self.peer.as_ref().is_some_and(|known| known.same_channel(peer)) {
            self.peer = None;
            self.since = Instant::now();
        }
    }

    async fn request(&mut self, message: Message) {
        let number = message.number;
        self.answered = self.answered.split_off(&message.below);
        if message.kind == Kind::Ping {
            return self.say(Message::bare(Kind::Pong, number)).await;
        }
        if self.pending.contains(&number) {
            return;
        }
        if let Some(reply) = self.answered.get(&number).cloned() {
            return self.say(reply).await;
        }
        self.pending.insert(number);
        let mut work = match begin(self, message) {
            Ok(work) => work,
            Err(error) => return self.done(Message::refused(number, &error).into()).await,
        };
        // Polled once here, because brokers promise that effects come in the order of first polls.
        match poll!(&mut work) {
            std::task::Poll::Ready(done) => self.done(done).await,
            std::task::Poll::Pending => self.work.push(work),
        }
    }

    async fn done(&mut self, Done { reply, open }: Done) {
        self.open.extend(open);
        self.pending.remove(&reply.number);
        self.answered.insert(reply.number, reply.clone());
        if self.answered.len() > 4 * self.shared.options.max_in_flight {
            // A client that never says what has arrived: it keeps the youngest.
            self.answered.pop_first();
        }
        self.say(reply).await;
    }

    /// A peer that does not read for a lease is none.
    async fn say(&mut self, message: Message) {
        let Some(peer) = &self.peer else { return };
        let sent = timeout(self.shared.options.lease, peer.send(Item::Message(message.into_frames()))).await;
        if !matches!(sent, Ok(Ok(()))) {
            self.peer = None;
            self.since = Instant::now();
        }
    }

    /// An open subscription.
    pub(super) fn subscription(&self, number: u32) -> commute_core::Result<&Open> {
        let unknown = || Error::new(Code::NotFound, format!("this session has no subscription {number}"));
        self.open.get(&number).ok_or_else(unknown)
    }
}

/// Boxes what comes of a request.
pub(super) fn work<F>(future: F) -> BoxFuture<'static, Done>
where
    F: Future<Output = Done> + Send + 'static,
{
    future.boxed()
}
