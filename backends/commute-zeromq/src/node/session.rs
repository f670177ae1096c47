//! A session: what one client has open here. It owns the connection of its client, outlives it for a lease, and answers a number
//! once.
//!
//! ```text
//! connection ─► request ─► work (many under way) ─► answered, until the client says it has it ─► connection, when it has room
//! ```
//!
//! One task does all of it, so that a request wakes nobody but the broker. Nothing in its loop waits for the peer: one that does
//! not read finds its answers here, up to a limit.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use commute_core::{BoxFuture, Code, Error, Result};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt, poll};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::Instant;

use super::Shared;
use super::connection::{farewell, frames, refused};
use super::operators::Operators;
use super::request::begin;
use super::subscription::Open;
use crate::wire::{Kind, Message};
use crate::zmtp::{Item, Wires};

/// Answers that a client has not said to have, in numbers of requests that it may have under way.
const UNHEARD: usize = 4;
/// And in messages of the largest size.
const UNHEARD_BYTES: usize = 4;
/// So many bytes are put on their way before the peer has taken some.
const AHEAD: usize = 256 << 10;
/// What is said may wait for so many other things that are ready, so that it goes together.
const TOGETHER: usize = 16;

/// The connection of the client. When it is dropped, it ends.
pub(crate) struct Peer {
    wires: Wires,
    /// Whether the connection cannot be lost, only end: then whoever was there is dead.
    local: bool,
    /// When something was last heard.
    heard: Instant,
    _place: OwnedSemaphorePermit,
}

impl Peer {
    pub(crate) fn new(wires: Wires, local: bool, place: OwnedSemaphorePermit) -> Self {
        Peer { wires, local, heard: Instant::now(), _place: place }
    }
}

/// One session. Owned by its task.
pub(crate) struct Session {
    pub(super) shared: Arc<Shared>,
    name: String,
    /// Connections of the client: each takes the place of the one before.
    peers: mpsc::Receiver<Peer>,
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

    /// It was asked again. However often it is, it waits once.
    fn say_again(&mut self, number: u64) {
        if !self.unsaid.contains(&number) {
            self.unsaid.push_back(number);
        }
    }

    /// In a new connection everything is said again.
    fn again(&mut self) {
        self.unsaid = self.kept.keys().copied().collect();
        self.pongs = 0;
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
    pub(super) fn new(shared: Arc<Shared>, name: String, peers: mpsc::Receiver<Peer>) -> Self {
        let operators = Operators::new(shared.options.longest_answer);
        Session {
            shared,
            name,
            peers,
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
        let silence = tokio::time::sleep_until(Instant::now() + shared.options.lease);
        tokio::pin!(silence);
        let mut turns = 0_usize;
        while !self.over {
            self.say();
            turns += 1;
            if turns.is_multiple_of(TOGETHER)
                && let Some(peer) = &mut self.peer
                && peer.wires.write.some().await.is_err()
            {
                self.lost(None);
            }
            // Takes wait for events, and are bounded by the subscriptions that there may be.
            let room = self.work.len() < shared.options.max_in_flight + 2 * self.open.len();
            let (read, write) = match &mut self.peer {
                Some(Peer { wires: Wires { read, write }, .. }) => (Some(read), Some(write)),
                None => (None, None),
            };
            let write = write.filter(|write| write.waits() > 0);
            let reading = async {
                match read {
                    Some(read) => read.next().await,
                    None => std::future::pending().await,
                }
            };
            let writing = async {
                match write {
                    Some(write) => write.flush().await,
                    None => std::future::pending().await,
                }
            };
            // What is said goes last, so that it goes together.
            tokio::select! {
                biased;
                () = shared.stop.cancelled() => break,
                peer = self.peers.recv() => match peer {
                    Some(peer) => self.attach(peer),
                    None => break,
                },
                Some(done) = self.work.next(), if !self.work.is_empty() => self.done(done),
                Some(question) = self.operators.questions.recv() => self.operators.ask(question),
                item = reading, if room => match item {
                    None => self.lost(None),
                    Some(Err(cause)) => self.lost(Some(&refused(cause))),
                    Some(Ok(item)) => self.heard(item).await,
                },
                written = writing => if written.is_err() {
                    self.lost(None);
                },
                () = &mut silence => silence.as_mut().reset(self.silent()),
            }
        }
        // No more answers; what is open gives back what it has, before anybody can see that the session is over.
        let Session { open, work, name, peer, refusal, operators, .. } = self;
        drop((work, operators));
        for open in open.into_values() {
            open.end().await;
        }
        shared.sessions().remove(&name);
        if let Some(Peer { mut wires, .. }) = peer
            && !shared.stop.is_cancelled()
        {
            if let Some(refusal) = refusal {
                wires.write.put(frames(refusal));
            }
            farewell(wires, shared.options.heartbeat).await;
        }
    }

    /// Puts on its way what is to be said, as far as the peer takes it.
    fn say(&mut self) {
        let Some(Peer { wires: Wires { write, .. }, .. }) = &mut self.peer else { return };
        while write.waits() < AHEAD
            && let Some(message) = self.answers.next().or_else(|| self.operators.next())
        {
            write.put(frames(message));
        }
    }

    /// The older connection, if there is one, ends when it is dropped here.
    fn attach(&mut self, peer: Peer) {
        self.peer = Some(peer);
        self.answers.again();
        self.operators.again();
        self.present.send_replace(true);
    }

    /// Something has come.
    async fn heard(&mut self, item: Item) {
        let Some(peer) = &mut self.peer else { return };
        peer.heard = Instant::now();
        match item {
            Item::Message(parts) => match Message::from_frames(parts) {
                Ok(message) if message.kind == Kind::Bye => self.over = true,
                Ok(message) => self.request(message).await,
                Err(error) => self.lost(Some(&error)),
            },
            // Unless the peer does not read, anyhow.
            Item::Command(name, rest) if &name[..] == b"PING" && peer.wires.write.waits() < AHEAD => {
                // Behind two bytes of time to live.
                let context = rest.get(2..).map(Bytes::copy_from_slice).unwrap_or_default();
                peer.wires.write.put(Item::Command(Bytes::from_static(b"PONG"), context));
            }
            Item::Command(..) => {}
        }
    }

    /// It may be that nothing was heard for a lease, that the peer has read nothing for a lease, or that nobody was there for so
    /// long. Answers when to look again.
    fn silent(&mut self) -> Instant {
        let lease = self.shared.options.lease;
        let Some(Peer { wires, heard, .. }) = &self.peer else {
            self.over |= self.since.elapsed() >= lease;
            return self.since + lease;
        };
        let (unheard, unread) = (heard.elapsed(), wires.write.stalled());
        if unheard.max(unread) < lease {
            return Instant::now() + (lease - unheard.max(unread));
        }
        // Whoever says nothing at all for a lease is gone, whatever its connection says.
        let error = Error::new(Code::TimedOut, "nothing was heard for a lease");
        self.lost((unheard >= lease).then_some(&error));
        self.since + lease
    }

    /// The connection is over, and why, when that is worth saying.
    fn lost(&mut self, why: Option<&Error>) {
        let Some(Peer { mut wires, local, .. }) = self.peer.take() else { return };
        if let Some(error) = why {
            tracing::debug!(%error, "a connection is ended");
            wires.write.put(frames(Message::refused(0, error)));
            let (shared, stop) = (self.shared.clone(), self.shared.stop.clone());
            self.shared.tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = farewell(wires, shared.options.heartbeat) => {}
                }
            });
        }
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
            self.answers.say_again(number);
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
        if self.answers.kept.len() >= most.0 / 2 || self.answers.bytes >= most.1 / 2 {
            self.open.values().for_each(Open::hurry);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_asked_for_again_and_again_waits_once() {
        let mut answers = Answers::default();
        answers.add(Message::bare(Kind::Done, 7));
        (0..1000).for_each(|_| answers.say_again(7));
        assert_eq!(answers.unsaid, [7]);
        assert_eq!(answers.next().map(|reply| reply.number), Some(7));
        answers.say_again(7);
        assert_eq!(answers.next().map(|reply| reply.number), Some(7));
        assert!(answers.next().is_none());
    }
}
