//! A session: what one client has open here. It outlives its connection for a lease, and answers a number once.
//!
//! ```text
//! connection ─► request ─► work (many under way) ─► answered, until the client says it has it ─► connection, when it has room
//! ```
//!
//! Nothing in its loop waits for the peer: one that does not read finds its answers here, up to a limit.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::task::Poll;

use commute_core::{BoxFuture, Code, Error, Result};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt, poll};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use super::Shared;
use super::operators::Operators;
use super::request::begin;
use super::subscription::Open;
use crate::wire::{Kind, Message};
use crate::zmtp::Item;

/// Requests on their way from a connection to its session. Few, because each may be large.
pub(crate) const INBOX: usize = 8;
/// Answers that a client has not said to have, in numbers of requests that it may have under way.
const UNHEARD: usize = 4;
/// And in messages of the largest size.
const UNHEARD_BYTES: usize = 4;

/// What a session hears.
pub(crate) enum Input {
    /// A connection is there for it; an older one is not any more.
    Attach(Peer),
    /// The connection of this number is gone.
    Detach(u64),
    /// A request.
    Request(Message),
    /// The client has ended it.
    Bye,
}

/// The way to the client. When it is dropped its connection ends, after what is under way.
pub(crate) struct Peer {
    /// The number of the connection.
    pub(crate) connection: u64,
    pub(crate) outgoing: mpsc::Sender<Item>,
    /// Whether the connection cannot be lost, only end: then whoever was there is dead.
    pub(crate) local: bool,
}

/// One session. Owned by its task.
pub(crate) struct Session {
    pub(super) shared: Arc<Shared>,
    name: String,
    inbox: mpsc::Receiver<Input>,
    peer: Option<Peer>,
    /// Whether the client is there, for those who take: nobody takes for one who is not.
    present: watch::Sender<bool>,
    /// When its connection was lost.
    since: Instant,
    over: bool,
    /// Why it is over, when the client is to blame.
    refusal: Option<Message>,
    /// Being worked on.
    pending: HashSet<u64>,
    answers: Answers,
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    open: HashMap<u32, Open>,
    opened: u32,
    /// The services that the client has.
    pub(super) operators: Operators,
}

/// Answers that are not known to have arrived.
#[derive(Default)]
struct Answers {
    kept: BTreeMap<u64, Message>,
    bytes: usize,
    /// Numbers that were not said in this connection, in order.
    unsaid: VecDeque<u64>,
    pongs: usize,
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

impl Answers {
    fn add(&mut self, reply: Message) {
        self.bytes += reply.size();
        self.unsaid.push_back(reply.number);
        self.kept.insert(reply.number, reply);
    }

    /// The client has all answers below this number.
    fn heard(&mut self, below: u64) {
        while let Some(first) = self.kept.first_entry().filter(|first| *first.key() < below) {
            self.bytes -= first.remove().size();
        }
    }

    /// In a new connection everything is said again.
    fn again(&mut self) {
        self.unsaid = self.kept.keys().copied().collect();
        self.pongs = 0;
    }

    fn is_waiting(&self) -> bool {
        self.pongs > 0 || !self.unsaid.is_empty()
    }

    fn next(&mut self) -> Option<Message> {
        if self.pongs > 0 {
            self.pongs -= 1;
            return Some(Message::bare(Kind::Pong, 0));
        }
        loop {
            let number = self.unsaid.pop_front()?;
            if let Some(reply) = self.kept.get(&number) {
                return Some(reply.clone());
            }
        }
    }
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, name: String, inbox: mpsc::Receiver<Input>) -> Self {
        let operators = Operators::new(shared.options.longest_answer);
        Session {
            shared,
            name,
            inbox,
            peer: None,
            present: watch::channel(false).0,
            since: Instant::now(),
            over: false,
            refusal: None,
            pending: HashSet::new(),
            answers: Answers::default(),
            work: FuturesUnordered::new(),
            open: HashMap::new(),
            opened: 0,
            operators,
        }
    }

    /// Serves until the client says goodbye, is away for a lease, or the node stops. Dropping what is open gives its deliveries
    /// back.
    pub(super) async fn run(mut self) {
        let shared = self.shared.clone();
        while !self.over {
            // Takes wait for events, and are bounded by the subscriptions that there may be.
            let room = self.work.len() < shared.options.max_in_flight + 2 * self.open.len();
            let away = self.since + shared.options.lease;
            let is_waiting = self.answers.is_waiting() || self.operators.is_waiting();
            let waiting = self.peer.as_ref().filter(|_| is_waiting).map(|peer| peer.outgoing.clone());
            let place = async {
                match waiting {
                    Some(outgoing) => outgoing.reserve_owned().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shared.stop.cancelled() => break,
                place = place => match place {
                    Ok(place) => if let Some(message) = self.answers.next().or_else(|| self.operators.next()) {
                        drop(place.send(Item::Message(message.into_frames())));
                    },
                    Err(_) => self.lost(),
                },
                input = self.inbox.recv(), if room => match input {
                    Some(Input::Request(message)) => self.request(message).await,
                    Some(Input::Attach(peer)) => self.attach(peer),
                    Some(Input::Detach(connection)) => self.detach(connection),
                    Some(Input::Bye) | None => break,
                },
                Some(question) = self.operators.questions.recv() => self.operators.ask(question),
                Some(done) = self.work.next(), if !self.work.is_empty() => self.done(done),
                () = tokio::time::sleep_until(away), if self.peer.is_none() => break,
            }
        }
        // No more answers; what is open gives back what it has, before anybody can see that the session is over.
        let Session { open, work, name, peer, refusal, operators, .. } = self;
        drop((work, operators));
        if let (Some(peer), Some(refusal)) = (&peer, refusal) {
            let said = peer.outgoing.send(Item::Message(refusal.into_frames()));
            let _ = timeout(shared.options.heartbeat, said).await;
        }
        for open in open.into_values() {
            open.end().await;
        }
        shared.sessions().remove(&name);
    }

    /// The older connection, if there is one, ends when its way to the client is dropped here.
    fn attach(&mut self, peer: Peer) {
        self.peer = Some(peer);
        self.answers.again();
        self.operators.again();
        self.present.send_replace(true);
    }

    fn detach(&mut self, connection: u64) {
        if self.peer.as_ref().is_some_and(|peer| peer.connection == connection) {
            self.lost();
        }
    }

    fn lost(&mut self) {
        let local = self.peer.take().is_some_and(|peer| peer.local);
        self.present.send_replace(false);
        self.since = Instant::now();
        // Nobody could be told of anything that is only known here.
        let empty = self.open.is_empty() && self.pending.is_empty() && self.answers.kept.is_empty();
        self.over |= local || empty;
    }

    async fn request(&mut self, message: Message) {
        let number = message.number;
        self.answers.heard(message.below);
        if message.kind == Kind::Ping {
            self.answers.pongs = (self.answers.pongs + 1).min(UNHEARD);
            return;
        }
        if message.kind == Kind::Answer {
            if let Err(error) = self.operators.answered(&message) {
                self.end(&error);
            }
            return;
        }
        if number == 0 {
            return self.end(&Error::new(Code::NotUnderstood, "a request without a number"));
        }
        if self.pending.contains(&number) {
            return;
        }
        if self.answers.kept.contains_key(&number) {
            self.answers.unsaid.push_back(number);
            return;
        }
        self.pending.insert(number);
        let unsubscribes = message.kind == Kind::Unsubscribe;
        match begin(self, message) {
            // Polled once here, because brokers promise that effects come in the order of first polls.
            Ok(mut work) => match poll!(&mut work) {
                Poll::Ready(done) => self.done(done),
                Poll::Pending => self.work.push(work),
            },
            Err(error) => self.done(Message::refused(number, &error).into()),
        }
        if unsubscribes {
            // Its takes let go of it now, so that whatever is asked next finds it gone.
            while let Poll::Ready(Some(done)) = poll!(self.work.next()) {
                self.done(done);
            }
        }
    }

    fn done(&mut self, Done { reply, open }: Done) {
        self.open.extend(open);
        self.pending.remove(&reply.number);
        self.answers.add(reply);
        let options = &self.shared.options;
        let most = (UNHEARD * options.max_in_flight, UNHEARD_BYTES * options.max_message_bytes);
        if self.answers.kept.len() > most.0 || self.answers.bytes > most.1 {
            self.end(&Error::new(Code::NotUnderstood, "the client does not say which answers it has"));
        }
    }

    /// Ends it, and says why.
    fn end(&mut self, error: &Error) {
        tracing::debug!(%error, "a session is ended");
        self.refusal = Some(Message::refused(0, error));
        self.over = true;
    }

    /// An open subscription.
    pub(super) fn subscription(&self, number: u32) -> Result<&Open> {
        let unknown = || Error::new(Code::NotFound, format!("this session has no subscription {number}"));
        self.open.get(&number).ok_or_else(unknown)
    }

    /// The name of the next subscription. Never 0.
    ///
    /// # Errors
    /// `BrokerUnavailable` when there are as many as requests may be under way.
    pub(super) fn next_subscription(&mut self) -> Result<u32> {
        if self.open.len() >= self.shared.options.max_in_flight {
            return Err(Error::new(Code::BrokerUnavailable, "the session has no room for another subscription"));
        }
        self.opened = self.opened.wrapping_add(1).max(1);
        Ok(self.opened)
    }

    /// Nobody receives from a subscription any more; unless it is kept, it is forgotten.
    pub(super) fn leave(&mut self, number: u32, keep: bool) -> Result<Open> {
        let open = self.subscription(number)?.clone();
        if !keep {
            self.open.remove(&number);
        }
        Ok(open)
    }

    /// Whether the client is there, now and later.
    pub(super) fn present(&self) -> watch::Receiver<bool> {
        self.present.subscribe()
    }
}

/// Boxes what comes of a request.
pub(super) fn work<F>(future: F) -> BoxFuture<'static, Done>
where
    F: Future<Output = Done> + Send + 'static,
{
    future.boxed()
}
