//! The link: one connection at a time, what was asked on it, and what happens when it breaks.
//!
//! ```text
//! ask ─► waiting ─► outstanding ═ connection ═► node        one task owns all of it
//!          ▲             │
//!          └── again, in a new connection or a new session
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use commute_core::control::{Reply, Request};
use commute_core::{Attached, Capabilities, Code, Error, Outgoing, Receipt, Result, Settlement};
use futures_util::StreamExt;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::operators::Operators;
use super::outstanding::{Asked, To, Weight, deliveries};
use super::subscription::{Need, Open};
use crate::key;
use crate::options::{Options, Place};
use crate::wire::{Challenge, FRAMES, Hello, Kind, Message, Proof, Welcome};
use crate::zmtp::{Item, Limits, Role, Wires, greet};

/// Asked and not yet looked at. Fair: who waits for room gets it in turn.
const ASKED: usize = 256;
/// So many events of several publishes go together in one message.
const TOGETHER: usize = 512;
/// And so many bytes of payload.
const TOGETHER_BYTES: usize = 1 << 20;
/// The first frames of a message, and what surrounds them.
const ROOM: usize = 128;
/// So many bytes are put on their way before the node has taken some.
const AHEAD: usize = 256 << 10;
/// What is said may wait for so many other things that are ready, so that it goes together.
const TURNS: usize = 16;
/// A node may send as much as this at once: more than it ever does, because what was taken back comes in one message.
const MESSAGE_BYTES: usize = 1 << 30;
/// After about so long what the node would not open again is tried again.
const REFUSED: Duration = Duration::from_secs(1);

/// The one connection of a client. Dropping it ends it as a crash would.
pub(crate) struct Link {
    asked: mpsc::Sender<Asked>,
    /// A subscription needs something.
    attention: Arc<Notify>,
    /// The services of this process, whom the node may ask.
    attached: Arc<Attached>,
    closing: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    max_message_bytes: usize,
}

impl Link {
    pub(crate) async fn connect(options: Options) -> Result<(Link, Capabilities)> {
        let (wires, welcome) = greeted(&options, None).await?;
        let (capabilities, max_message_bytes) = (welcome.capabilities.clone(), welcome.max_message_bytes);
        let (asked, asking) = mpsc::channel(ASKED);
        let (attention, closing) = (Arc::new(Notify::new()), CancellationToken::new());
        let operators = Operators::new(attention.clone());
        let attached = operators.attached();
        let work = Work::new(options, asking, attention.clone(), closing.clone(), operators);
        let task = tokio::spawn(work.run(wires, welcome));
        Ok((Link { asked, attention, attached, closing, task, max_message_bytes }, capabilities))
    }

    /// Hands a request over; the order of effects is that of first polls.
    pub(crate) async fn ask(&self, asked: Asked) -> Result<()> {
        self.asked.send(asked).await.map_err(|_| closed())
    }

    /// In as many messages as it needs, one behind the other.
    pub(crate) async fn publish(&self, batch: Vec<Outgoing>) -> Result<Vec<Receipt>> {
        let (mut batches, mut answers) = (Vec::new(), Vec::new());
        for piece in pieces(batch, most(self.max_message_bytes), weight) {
            let (to, answer) = oneshot::channel();
            batches.push((piece, to));
            answers.push(answer);
        }
        self.ask(Asked::Publish { batches, weight: Weight::default() }).await?;
        let mut receipts = Vec::new();
        for answer in answers {
            receipts.extend(answered(answer).await?);
        }
        Ok(receipts)
    }

    /// In as many messages as it needs, one behind the other.
    pub(crate) async fn settle(&self, open: &Arc<Open>, settlements: Vec<Settlement>) -> Result<()> {
        let size = |settlement: &Settlement| match settlement {
            Settlement::Ack { publish, .. } => ROOM + publish.iter().map(weight).sum::<usize>(),
            Settlement::Park { lanes, reason, .. } => {
                ROOM + ROOM * lanes.len() + reason.as_ref().map_or(0, String::len)
            }
            Settlement::Defer { .. } | Settlement::Return { .. } => ROOM,
        };
        let mut answers = Vec::new();
        for settlements in pieces(settlements, most(self.max_message_bytes), size) {
            let (to, answer) = oneshot::channel();
            self.ask(Asked::Settle { open: open.clone(), settlements, returns: false, to }).await?;
            answers.push(answer);
        }
        for answer in answers {
            answered(answer).await?;
        }
        Ok(())
    }

    pub(crate) async fn control(&self, request: Request) -> Result<Reply> {
        let (to, answer) = oneshot::channel();
        self.ask(Asked::Control { request, to }).await?;
        answered(answer).await
    }

    pub(crate) fn attached(&self) -> &Attached {
        &self.attached
    }

    /// A subscription needs something.
    pub(crate) fn attend(&self) {
        self.attention.notify_one();
    }

    /// Waits for what was asked, then says goodbye. Idempotent.
    pub(crate) async fn close(&self) -> Result<()> {
        self.closing.cancel();
        self.asked.closed().await;
        Ok(())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How much goes into one message: half of what may be sent, because texts can be longer as JSON.
fn most(max_message_bytes: usize) -> usize {
    TOGETHER_BYTES.min(max_message_bytes / 2)
}

/// About what an event weighs in a message.
fn weight(event: &Outgoing) -> usize {
    event.envelope.size() + event.topic.as_str().len() + 2 * ROOM
}

/// Waits for an answer.
pub(crate) async fn answered<T>(answer: oneshot::Receiver<Result<T>>) -> Result<T> {
    answer.await.unwrap_or_else(|_| Err(closed()))
}

/// Cuts a batch where its pieces would become too many or too large.
fn pieces<T>(batch: Vec<T>, most: usize, size_of: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    if batch.len() <= TOGETHER && batch.iter().map(&size_of).sum::<usize>() <= most {
        return vec![batch];
    }
    let (mut pieces, mut size) = (vec![Vec::new()], 0);
    for item in batch {
        size += size_of(&item);
        match pieces.last_mut() {
            Some(last) if last.is_empty() || (size <= most && last.len() < TOGETHER) => last.push(item),
            _ => {
                size = size_of(&item);
                pieces.push(vec![item]);
            }
        }
    }
    pieces
}

fn closed() -> Error {
    Error::new(Code::Closed, "the connection to the node is closed")
}

fn frames(message: Message) -> Item {
    Item::Message(message.into_frames())
}

fn broken(cause: std::io::Error) -> Error {
    Error::new(Code::BrokerUnavailable, "the connection to the node broke").caused_by(cause)
}

/// What the link's task owns.
struct Work {
    options: Options,
    asking: mpsc::Receiver<Asked>,
    attention: Arc<Notify>,
    closing: CancellationToken,
    outstanding: BTreeMap<u64, Asked>,
    /// Numbers that were asked and not sent in this connection, in order.
    unsent: VecDeque<u64>,
    next: u64,
    /// Numbers below were sent: what they ask is fixed.
    sent: u64,
    open: Vec<Arc<Open>>,
    operators: Operators,
    /// Several publishers were answered at once.
    several: bool,
    /// The node would not open again what was open.
    refused: bool,
    session: String,
    max_in_flight: usize,
    max_message_bytes: usize,
}

impl Drop for Work {
    fn drop(&mut self) {
        self.end();
    }
}

/// Why a connection is over.
enum Over {
    Broken(Error),
    Closed,
}

impl Work {
    fn new(
        options: Options,
        asking: mpsc::Receiver<Asked>,
        attention: Arc<Notify>,
        closing: CancellationToken,
        operators: Operators,
    ) -> Self {
        Work {
            options,
            asking,
            attention,
            closing,
            outstanding: BTreeMap::new(),
            unsent: VecDeque::new(),
            next: 1,
            sent: 1,
            open: Vec::new(),
            operators,
            several: false,
            refused: false,
            session: String::new(),
            max_in_flight: 1,
            max_message_bytes: 0,
        }
    }

    async fn run(mut self, wires: Wires, welcome: Welcome) {
        let mut now = Some((wires, welcome));
        while let Some((wires, welcome)) = now.take() {
            self.welcomed(&welcome);
            match self.serve(wires, &welcome).await {
                Over::Closed => break,
                Over::Broken(error) => tracing::warn!(%error, node = %self.options.place, "the node is away"),
            }
            now = self.reconnect().await;
        }
        self.end();
        while let Some(asked) = self.asking.recv().await {
            asked.fail(closed);
        }
    }

    /// Asking is refused from here on; whoever waits is told.
    fn end(&mut self) {
        self.asking.close();
        self.open.drain(..).for_each(|open| open.end(Ok(())));
        std::mem::take(&mut self.outstanding).into_values().for_each(|asked| asked.fail(closed));
    }

    /// A connection is there. In the same session everything unanswered is asked again under its number, which the node answers
    /// once; in a new one, what is open is opened again first.
    fn welcomed(&mut self, welcome: &Welcome) {
        self.max_in_flight = welcome.max_in_flight.max(1);
        self.max_message_bytes = welcome.max_message_bytes;
        if welcome.resumed {
            self.unsent = self.outstanding.keys().copied().collect();
            return;
        }
        self.session.clone_from(&welcome.session);
        self.operators.begin_anew();
        let before = std::mem::take(&mut self.outstanding);
        let pending: Vec<Asked> = before.into_values().filter_map(Asked::in_a_new_session).collect();
        self.unsent.clear();
        for open in self.open.extract_if(.., |open| !open.is_received()) {
            open.lost();
            open.forget();
        }
        for open in self.open.clone() {
            open.lost();
            self.enqueue(Asked::Subscribe { open, to: None });
        }
        for asked in pending {
            self.begin(asked);
        }
        self.attend();
    }

    fn enqueue(&mut self, asked: Asked) {
        let number = self.next;
        self.next += 1;
        self.outstanding.insert(number, asked);
        self.unsent.push_back(number);
    }

    fn begin(&mut self, asked: Asked) {
        self.attend();
        if asked.of().is_some_and(|open| open.is_forgotten()) {
            return asked.fail(closed);
        }
        match asked {
            Asked::Publish { batches, .. } => batches.into_iter().for_each(|batch| self.publish(batch)),
            Asked::Settle { open, settlements, to, .. } => self.settle(open, settlements, to),
            asked => {
                if let Asked::Subscribe { open, .. } = &asked {
                    self.open.push(open.clone());
                }
                self.enqueue(asked);
            }
        }
    }

    /// What was received behind something that goes back, and not handed on, goes with it.
    fn settle(&mut self, open: Arc<Open>, mut settlements: Vec<Settlement>, to: To<()>) {
        // What is not of this session belongs to others, or nobody.
        settlements.retain(|one| open.is_ours(one.tag()));
        if settlements.is_empty() {
            return drop(to.send(Ok(())));
        }
        let returns = settlements.iter().any(|one| matches!(one, Settlement::Return { .. }));
        if returns {
            settlements.extend(open.returning());
        }
        self.enqueue(Asked::Settle { open, settlements, returns, to });
    }

    /// Publishes that wait go together, because the node then needs one sync for them.
    fn publish(&mut self, more: (Vec<Outgoing>, To<Vec<Receipt>>)) {
        let bytes = more.0.iter().map(weight).sum::<usize>();
        let last = self.unsent.back().filter(|number| **number >= self.sent);
        match last.and_then(|number| self.outstanding.get_mut(number)) {
            Some(Asked::Publish { batches, weight })
                if weight.events + more.0.len() <= TOGETHER && weight.bytes + bytes <= most(self.max_message_bytes) =>
            {
                weight.events += more.0.len();
                weight.bytes += bytes;
                batches.push(more);
            }
            _ => {
                let weight = Weight { events: more.0.len(), bytes };
                self.enqueue(Asked::Publish { batches: vec![more], weight });
            }
        }
    }

    /// Does what subscriptions need, and tells the node which services there are.
    fn attend(&mut self) {
        let closing = self.closing.is_cancelled();
        if !closing && let Some(attach) = self.operators.news() {
            self.enqueue(Asked::Attach(attach));
        }
        for open in self.open.clone() {
            match open.need() {
                None => {}
                // Whatever came now would only go back.
                Some(Need::Take(_)) if closing => open.end(Ok(())),
                Some(Need::Take(max)) => self.enqueue(Asked::Take { open, max }),
                Some(Need::GiveBack(settlements)) => {
                    let (to, _) = oneshot::channel();
                    self.enqueue(Asked::Settle { open, settlements, returns: true, to });
                    // What is wanted is asked for when they are back.
                }
                Some(Need::Leave) => self.enqueue(Asked::Unsubscribe { open, keep: true }),
                Some(Need::Forget) => {
                    self.open.retain(|known| !Arc::ptr_eq(known, &open));
                    self.enqueue(Asked::Unsubscribe { open, keep: false });
                }
            }
        }
    }

    /// Nobody takes any more.
    fn end_takes(&mut self) {
        self.outstanding.retain(|_, asked| !matches!(asked, Asked::Take { .. }));
        self.open.iter().for_each(|open| open.end(Ok(())));
    }

    async fn serve(&mut self, Wires { mut read, mut write }: Wires, welcome: &Welcome) -> Over {
        let heartbeat = Duration::from_millis(welcome.heartbeat_ms.max(1));
        let silence = Duration::from_millis(welcome.lease_ms.max(1));
        let (mut heard, mut turns) = (Instant::now(), 0_usize);
        let mut beat = tokio::time::interval(heartbeat);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let closing = self.closing.is_cancelled();
            if closing {
                self.end_takes();
            }
            if closing && self.outstanding.is_empty() && self.asking.is_empty() {
                let _ = timeout(heartbeat, write.send(frames(Message::bare(Kind::Bye, 0)))).await;
                return Over::Closed;
            }
            while write.waits() < AHEAD
                && let Some(message) = self.next_to_say()
            {
                write.put(frames(message));
            }
            turns += 1;
            if turns.is_multiple_of(TURNS)
                && let Err(cause) = write.some().await
            {
                return Over::Broken(broken(cause));
            }
            let room = self.has_room();
            tokio::select! {
                biased;
                item = read.next() => {
                    heard = Instant::now();
                    match item {
                        Some(Ok(Item::Message(parts))) => match Message::from_frames(parts) {
                            Ok(reply) if reply.number == 0 && reply.kind == Kind::Refused => return Over::Broken(reply.error()),
                            Ok(question) if question.kind == Kind::Ask => self.operators.ask(&question),
                            Ok(reply) => if let Err(error) = self.answered(&reply) {
                                return Over::Broken(error);
                            },
                            Err(error) => return Over::Broken(error),
                        },
                        Some(Ok(Item::Command(..))) => {}
                        Some(Err(cause)) => return Over::Broken(broken(cause)),
                        None => return Over::Broken(Error::new(Code::BrokerUnavailable, "the node ended the connection")),
                    }
                }
                () = self.attention.notified() => self.attend(),
                () = self.operators.answered(), if self.operators.is_answering() => {}
                // Closed only by us, so there is always something or waiting.
                Some(asked) = self.asking.recv(), if room => {
                    self.begin(asked);
                    // Whoever was answered together is about to ask again together.
                    if std::mem::take(&mut self.several) {
                        tokio::task::yield_now().await;
                    }
                    // What waits already goes together.
                    while self.has_room() && let Ok(asked) = self.asking.try_recv() {
                        self.begin(asked);
                    }
                }
                () = self.closing.cancelled(), if !closing => {}
                _ = beat.tick() => {
                    if heard.elapsed() > silence {
                        return Over::Broken(Error::new(Code::TimedOut, "nothing was heard of the node for a lease"));
                    }
                    self.operators.look();
                    self.attend();
                    // Whoever does not read is not told more.
                    if write.waits() < AHEAD {
                        write.put(frames(Message { below: self.below(), ..Message::bare(Kind::Ping, 0) }));
                    }
                }
                // Last, so that what is said goes together.
                written = write.flush(), if write.waits() > 0 => if let Err(cause) = written {
                    return Over::Broken(broken(cause));
                },
            }
        }
    }

    fn next_to_say(&mut self) -> Option<Message> {
        self.next_to_send().or_else(|| self.operators.next(self.max_message_bytes))
    }

    /// The next request that can be sent now: one about a subscription waits until the node has named it.
    fn sendable(&self) -> Option<usize> {
        self.unsent.iter().position(|number| self.outstanding.get(number).is_none_or(|asked| !asked.waits()))
    }

    fn next_to_send(&mut self) -> Option<Message> {
        loop {
            let number = self.sendable().and_then(|n| self.unsent.remove(n))?;
            if let Some(message) = self.message(number) {
                return Some(message);
            }
        }
    }

    fn message(&mut self, number: u64) -> Option<Message> {
        let made = self.outstanding.get(&number)?.message(number).and_then(|message| match message.size() {
            size if size <= self.max_message_bytes - ROOM.min(self.max_message_bytes) => Ok(message),
            size => {
                let detail = format!("a message of {size} bytes; the node takes {}", self.max_message_bytes);
                Err(Error::new(Code::PayloadTooLarge, detail))
            }
        });
        self.sent = self.sent.max(number + 1);
        match made {
            Ok(message) => Some(Message { below: self.below(), ..message }),
            Err(error) => {
                if let Some(asked) = self.outstanding.remove(&number) {
                    asked.fail(|| Error::new(error.code(), error.detail()));
                }
                None
            }
        }
    }

    /// Whether more may be asked. Takes wait for events, and do not count; and what waits long must not keep the node from
    /// hearing which answers are here.
    fn has_room(&self) -> bool {
        let unheard = self.next - self.below();
        self.outstanding.len() < self.max_in_flight + self.open.len()
            && unheard < (3 * self.max_in_flight + self.open.len()) as u64
    }

    /// Every answer with a smaller number is here.
    fn below(&self) -> u64 {
        self.outstanding.first_key_value().map_or(self.next, |(first, _)| *first)
    }

    /// # Errors
    /// When the session is of no use any more.
    fn answered(&mut self, reply: &Message) -> Result<()> {
        let Some(asked) = self.outstanding.remove(&reply.number) else { return Ok(()) };
        if let (Asked::Subscribe { open, to }, Kind::Refused) = (&asked, reply.kind) {
            if to.is_none() && !open.is_awaited() {
                // It was open before: tried again, with what is open with it, in a new session and after a while.
                self.session.clear();
                self.refused = true;
                return Err(reply.error());
            }
            self.never_opened(open);
        }
        match asked {
            Asked::Take { open, .. } if reply.kind != Kind::Refused => {
                // What cannot be read goes back with its session.
                let taken = deliveries(reply, &open).inspect_err(|_| self.session.clear())?;
                let back = open.took(taken);
                if !back.is_empty() {
                    let (to, _) = oneshot::channel();
                    self.enqueue(Asked::Settle { open, settlements: back, returns: true, to });
                }
            }
            asked => {
                self.several |= matches!(&asked, Asked::Publish { batches, .. } if batches.len() > 1);
                asked.answer(reply);
            }
        }
        self.attend();
        Ok(())
    }

    /// It is not there, and nothing that was to be asked of it is.
    fn never_opened(&mut self, open: &Arc<Open>) {
        self.open.retain(|known| !Arc::ptr_eq(known, open));
        self.outstanding.retain(|_, asked| asked.of().is_none_or(|of| !Arc::ptr_eq(of, open)));
    }

    /// Connects again, with back-off and jitter. `None` when it is closed meanwhile, or will never succeed.
    async fn reconnect(&mut self) -> Option<(Wires, Welcome)> {
        let away = Instant::now();
        let mut delay = Duration::from_millis(20);
        if std::mem::take(&mut self.refused) {
            tokio::select! {
                () = tokio::time::sleep(REFUSED.mul_f64(0.5 + fastrand::f64())) => {}
                () = self.closing.cancelled() => {}
            }
        }
        loop {
            if self.closing.is_cancelled() {
                self.end_takes();
            }
            let session = Some(self.session.clone());
            let connecting = greeted(&self.options, session);
            let result = tokio::select! {
                result = connecting => result,
                () = self.closing.cancelled(), if self.outstanding.is_empty() => return None,
            };
            match result {
                Ok(connected) => return Some(connected),
                Err(error) if matches!(error.code(), Code::AccessRefused) => {
                    tracing::error!(%error, "the node refuses this client");
                    std::mem::take(&mut self.outstanding)
                        .into_values()
                        .for_each(|asked| asked.fail(|| Error::new(error.code(), error.detail())));
                    return None;
                }
                Err(_) => {}
            }
            if away.elapsed() > self.options.patience {
                self.give_up();
                if self.closing.is_cancelled() {
                    return None;
                }
            }
            let wait = delay.mul_f64(0.5 + fastrand::f64() / 2.0);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.closing.cancelled(), if self.outstanding.is_empty() => return None,
            }
            delay = (delay * 2).min(Duration::from_secs(2));
        }
    }

    /// Tells those who would rather know than wait.
    fn give_up(&mut self) {
        while let Ok(asked) = self.asking.try_recv() {
            self.begin(asked);
        }
        let detail = format!("the node at {} is away", self.options.place);
        let away = || Error::new(Code::BrokerUnavailable, detail.clone());
        let gone: Vec<_> = self.outstanding.extract_if(.., |_, asked| asked.is_impatient()).collect();
        for (number, asked) in gone {
            if let Asked::Subscribe { open, .. } = &asked {
                self.never_opened(open);
                if number < self.sent {
                    // The node may have opened it, in a session that could go on.
                    self.session.clear();
                }
            }
            asked.fail(away);
        }
        let left = &self.outstanding;
        self.unsent.retain(|number| left.contains_key(number));
    }
}

/// Connects, greets and says hello.
async fn greeted(options: &Options, session: Option<String>) -> Result<(Wires, Welcome)> {
    let greeting = async {
        let away = |cause: std::io::Error| {
            let detail = format!("no node answers at {}", options.place);
            Error::new(Code::BrokerUnavailable, detail).caused_by(cause)
        };
        let (read, write): crate::node::Ends = match &options.place {
            Place::Tcp(address) => {
                let stream = TcpStream::connect(address).await.map_err(away)?;
                stream.set_nodelay(true).map_err(away)?;
                let (read, write) = stream.into_split();
                (Box::new(read), Box::new(write))
            }
            Place::Ipc(path) => {
                let (read, write) = UnixStream::connect(path).await.map_err(away)?.into_split();
                (Box::new(read), Box::new(write))
            }
        };
        let limits = Limits { message_bytes: MESSAGE_BYTES, frames: FRAMES };
        let foreign = |cause: std::io::Error| {
            let detail = format!("{} is no commute node", options.place);
            Error::new(Code::NotUnderstood, detail).caused_by(cause)
        };
        let mut wires = greet(read, write, Role::Client, limits).await.map_err(foreign)?;
        let welcome = hello(options, session, &mut wires).await?;
        Ok((wires, welcome))
    };
    timeout(options.connect_timeout, greeting).await.unwrap_or_else(|_| {
        Err(Error::new(Code::BrokerUnavailable, format!("the node at {} did not greet in time", options.place)))
    })
}

async fn hello(options: &Options, session: Option<String>, wires: &mut Wires) -> Result<Welcome> {
    let nonce = options.key.is_some().then(key::nonce);
    let client = format!("commute-zeromq {}", std::process::id());
    let hello = Hello { client, session: session.filter(|name| !name.is_empty()), nonce: nonce.clone() };
    say(wires, Message::new(Kind::Hello, 0, &hello)?).await?;
    let mut reply = hear(wires).await?;
    if reply.kind == Kind::Challenge {
        let challenge: Challenge = reply.header()?;
        let (Some(key), Some(nonce)) = (&options.key, nonce) else {
            return Err(Error::new(Code::AccessRefused, "the node wants a key; say key_file=FILE"));
        };
        if !key.accepts("node", &nonce, &challenge.proof) {
            return Err(Error::new(Code::AccessRefused, "the node has another key"));
        }
        say(wires, Message::new(Kind::Proof, 0, &Proof { proof: key.proof("client", &challenge.nonce) })?).await?;
        reply = hear(wires).await?;
    } else if options.key.is_some() && reply.kind == Kind::Welcome {
        return Err(Error::new(Code::AccessRefused, "the node did not prove that it has the key"));
    }
    match reply.kind {
        Kind::Welcome => reply.header(),
        Kind::Refused => Err(reply.error()),
        other => Err(Error::new(Code::NotUnderstood, format!("{other:?} where a WELCOME was due"))),
    }
}

async fn say(wires: &mut Wires, message: Message) -> Result<()> {
    wires.write.send(frames(message)).await.map_err(broken)
}

async fn hear(wires: &mut Wires) -> Result<Message> {
    loop {
        match wires.read.next().await {
            Some(Ok(Item::Message(parts))) => return Message::from_frames(parts),
            Some(Ok(Item::Command(..))) => {}
            Some(Err(cause)) => return Err(broken(cause)),
            None => return Err(Error::new(Code::BrokerUnavailable, "the node ended the connection")),
        }
    }
}
