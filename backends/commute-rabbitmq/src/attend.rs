//! Attending: one task per subscription that consumes on the connection of now, and begins again on the next.
//!
//! ```text
//! own the queue aside ─► read its notes ─► what was unclaimed ─► the queue itself, until the connection is lost
//!   (or stand by)          (or go on)
//! ```
//!
//! Who consumes the queue aside, which only one can, is the active instance.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use commute_core::{Clock, Code, Error, Mapping, Result, SubscriptionSpec, SystemClock};
use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::protocol::AMQPSoftError;
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::aside::{Note, Seen, Written};
use crate::error;
use crate::link::{Link, Session};
use crate::options::{Instances, Options};
use crate::publisher::Publisher;
use crate::state::{Arrival, Channels, State};
use crate::topology::{Names, Topology, asked};
use crate::wire::{self, short};

/// An opening that is not the active one for so long is answered all the same; it goes on to stand by.
const STAND_BY: Duration = Duration::from_secs(1);

/// A quorum queue takes in so many single acknowledgements at a time and keeps the others at the channel, where they would be
/// lost if it were closed at once.
const UNDER_WAY: Duration = Duration::from_millis(100);

/// While deliveries stream in, the depth is asked again, so often at most; then it is counted too high.
const ASKED_AGAIN: usize = 100;

/// How often a server is asked while something is waited for that it does not tell.
const CLAIMING: Duration = Duration::from_millis(5);

/// How long whoever consumes our queue as well is waited for.
const ALONE: Duration = Duration::from_secs(3);

/// When nothing has arrived for so long, the queue has delivered what came back.
const QUIET: Duration = Duration::from_millis(300);

/// One subscription, as its rooms share it.
pub(crate) struct Shared {
    pub(crate) names: Names,
    mapping: Option<Arc<Mapping>>,
    /// Several instances consume the queue at once.
    shares: bool,
    prefetch: u16,
    /// The name of this opening.
    me: String,
    state: Mutex<State>,
    /// Something can be received, or never will be.
    pub(crate) arrived: Notify,
    /// Something in what is ours has changed.
    pub(crate) changed: Notify,
    /// The receiver is gone, or the broker is closed.
    pub(crate) stop: CancellationToken,
    link: Arc<Link>,
    topology: Arc<Topology>,
    depth: mpsc::Sender<oneshot::Sender<Result<u64>>>,
}

/// What only the task needs.
pub(crate) struct Attendant {
    pub(crate) shared: Arc<Shared>,
    publisher: Publisher,
    depth: mpsc::Receiver<oneshot::Sender<Result<u64>>>,
    /// It has been the active instance before.
    was_active: bool,
    /// After so long the server cannot hold on to a connection of ours that was lost.
    give_up: Duration,
    /// Whoever opened the subscription waits for the first answer.
    opened: Option<oneshot::Sender<Result<()>>>,
}

/// Why attending to a connection ended.
enum End {
    /// Nobody wants more.
    Stopped,
    /// It goes on with the next channel or connection.
    Lost(String),
    /// It will not get better.
    Failed(Error),
}

type Ended<T = ()> = std::result::Result<T, End>;

impl Shared {
    pub(crate) fn open(
        spec: SubscriptionSpec,
        options: &Options,
        link: &Arc<Link>,
        topology: &Arc<Topology>,
        publisher: Publisher,
    ) -> (Attendant, oneshot::Receiver<Result<()>>) {
        let (depth, asked) = mpsc::channel(16);
        let (opened, answer) = oneshot::channel();
        let shared = Shared {
            names: Names::of(&spec, options),
            mapping: spec.mapping,
            shares: options.instances != Instances::One,
            prefetch: options.prefetch.min(u16::try_from(spec.credit).unwrap_or(u16::MAX)).max(1),
            me: uuid::Uuid::now_v7().to_string(),
            state: Mutex::new(State::new(fastrand::u32(..), spec.credit)),
            arrived: Notify::new(),
            changed: Notify::new(),
            stop: CancellationToken::new(),
            link: link.clone(),
            topology: topology.clone(),
            depth,
        };
        let attendant = Attendant {
            shared: Arc::new(shared),
            publisher,
            depth: asked,
            was_active: false,
            give_up: options.heartbeat() * 3,
            opened: Some(opened),
        };
        (attendant, answer)
    }

    /// The name of this opening.
    pub(crate) fn me(&self) -> &str {
        &self.me
    }

    /// The state. Every critical section leaves it whole at each step that could panic.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many events are stored and not received.
    pub(crate) async fn backlog(&self) -> Result<u64> {
        let (reply, replied) = oneshot::channel();
        self.depth.send(reply).await.map_err(|_| error::closed())?;
        replied.await.unwrap_or_else(|_| Err(away()))
    }

    fn tell(&self) {
        self.arrived.notify_waiters();
        self.changed.notify_one();
    }
}

fn away() -> Error {
    Error::new(Code::BrokerUnavailable, "the subscription has no connection now; it is being made again")
}

impl From<lapin::Error> for End {
    fn from(cause: lapin::Error) -> Self {
        End::Lost(cause.to_string())
    }
}

impl Attendant {
    /// Attends until it is told to stop, or fails for good.
    pub(crate) async fn run(mut self) {
        let shared = self.shared.clone();
        loop {
            let session = tokio::select! {
                biased;
                () = shared.stop.cancelled() => break,
                session = shared.link.session() => session,
                // Without a connection nobody can say.
                Some(ask) = self.depth.recv() => {
                    let _ = ask.send(Err(away()));
                    continue;
                }
            };
            let Some(session) = session else { break };
            // Here for everything that is waited for on it: the client leaves open for ever what is asked in the moment in which the
            // connection breaks.
            let ended = tokio::select! {
                biased;
                ended = self.attend(&session) => ended,
                () = session.lost.cancelled() => Err(End::Lost("the connection is lost".to_owned())),
            };
            shared.state().disconnected();
            match ended {
                Ok(()) | Err(End::Stopped) => break,
                Err(End::Lost(cause)) => {
                    tracing::debug!(queue = shared.names.queue, cause, "consuming begins anew");
                    // A channel that fails at once must not spin.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(End::Failed(error)) => {
                    if let Some(opened) = self.opened.take() {
                        let _ = opened.send(Err(error));
                    } else {
                        shared.state().failure = Some(Arc::new(error));
                    }
                    break;
                }
            }
        }
        shared.state().closed = true;
        shared.tell();
    }

    async fn attend(&mut self, session: &Session) -> Ended {
        let shared = self.shared.clone();
        self.declare(session).await?;
        let (aside, mut notes, first) = self.own(session).await?;
        let queue = session.channel().await?;
        queue.basic_qos(shared.prefetch, BasicQosOptions::default()).await?;
        self.recall(&aside, &mut notes, first).await?;
        shared.state().channels = Some(Channels { queue: queue.clone(), aside: aside.clone() });
        shared.tell();
        if let Some(opened) = self.opened.take() {
            let _ = opened.send(Ok(()));
        }
        let mut streams = Streams { queue, aside, notes, unclaimed: None, main: None, heard: Instant::now() };
        let ended = self.serve(&mut streams).await;
        if let Err(End::Stopped) = &ended {
            let singly = shared.state().singly;
            if let Some(left) = singly.and_then(|at| UNDER_WAY.checked_sub(at.elapsed())) {
                tokio::time::sleep(left).await;
            }
            // The queue first: what it takes back must be there before another instance is the active one. The consumers live
            // until then: a server lets the next one begin when the last is cancelled, but takes back what it had when the
            // channel ends.
            for channel in [&streams.queue, &streams.aside] {
                if channel.close(200, "closed".into()).await.is_err() {
                    break;
                }
            }
        }
        drop(streams);
        ended
    }

    async fn declare(&mut self, session: &Session) -> Ended {
        let declared = self.shared.topology.subscription(session, &self.shared.names).await;
        declared.map_err(|error| match error.code() {
            Code::BrokerUnavailable => End::Lost(error.to_string()),
            _ => End::Failed(error),
        })
    }

    /// Becomes the active instance, or stands by until it is: only the active one gets anything from the queue aside, and a
    /// knock makes sure that there is something to get. Answers what came first.
    async fn own(&mut self, session: &Session) -> Ended<(Channel, Consumer, Delivery)> {
        let shared = self.shared.clone();
        let channel = session.channel().await?;
        channel.basic_qos(0, BasicQosOptions::default()).await?;
        let mut notes = match consume(&channel, &shared.names.aside).await {
            Err(cause) if error::soft(&cause) == Some(AMQPSoftError::ACCESSREFUSED) => {
                let what = format!("queue {:?} cannot be consumed", shared.names.aside);
                return Err(End::Failed(error::from(&what, &cause)));
            }
            consumer => consumer?,
        };
        let knock = Written::new(&shared.me, Note::Knock, None).message(&shared.names.aside, SystemClock.now());
        let publisher = self.publisher.clone();
        let knocking = async { publisher.publish(vec![knock.map_err(End::Failed)?], None).await.map_err(End::Failed) };
        tokio::pin!(knocking);
        let mut knocked = false;
        let began = Instant::now();
        let mut patience = STAND_BY;
        loop {
            tokio::select! {
                biased;
                () = shared.stop.cancelled() => return Err(End::Stopped),
                first = notes.next() => {
                    let first = arrived(first)?;
                    return Ok((channel, notes, first));
                }
                done = &mut knocking, if !knocked => {
                    done?;
                    knocked = true;
                }
                Some(ask) = self.depth.recv() => {
                    let depth = shared.topology.depth(session, &shared.names.queue).await;
                    let _ = ask.send(depth.map(|depth| depth + shared.state().ready()));
                }
                () = tokio::time::sleep_until(began + patience), if self.opened.is_some() || self.was_active => {
                    if let Some(opened) = self.opened.take() {
                        tracing::info!(queue = shared.names.queue, "another instance is active; this one stands by");
                        let _ = opened.send(Ok(()));
                    }
                    // By then the server has given up a connection of ours that it did not know to be lost.
                    patience = self.give_up;
                    if self.was_active && began.elapsed() >= self.give_up {
                        self.was_active = false;
                        shared.state().begin_anew();
                        shared.tell();
                    }
                }
            }
        }
    }

    /// Reads every note, and finds out whether another instance has been active meanwhile.
    async fn recall(&mut self, channel: &Channel, notes: &mut Consumer, first: Delivery) -> Ended {
        let shared = self.shared.clone();
        let marker = Written::new(&shared.me, Note::Owner { name: shared.me.clone() }, None);
        let message = marker.message(&shared.names.aside, SystemClock.now()).map_err(End::Failed)?;
        let publisher = self.publisher.clone();
        let publishing = async { publisher.publish(vec![message], None).await.map_err(End::Failed) };
        tokio::pin!(publishing);
        let (mut published, mut found) = (false, vec![self.noted(first)?]);
        while found.last().is_none_or(|(written, _)| written.id != marker.id) {
            tokio::select! {
                biased;
                () = shared.stop.cancelled() => return Err(End::Stopped),
                done = &mut publishing, if !published => {
                    done?;
                    published = true;
                }
                delivery = notes.next() => found.push(self.noted(arrived(delivery)?)?),
            }
        }
        for tag in self.in_force(found) {
            channel.basic_ack(tag, BasicAckOptions::default()).await?;
        }
        if !published {
            publishing.await?;
        }
        Ok(())
    }

    fn noted(&self, delivery: Delivery) -> Ended<(Written, u64)> {
        let Delivery { delivery_tag, properties, data, .. } = delivery;
        let written = Written::read(&properties, &Bytes::from(data)).ok_or_else(|| {
            let what = format!("queue {:?} holds a message that is no note of commute", self.shared.names.aside);
            End::Failed(Error::new(Code::TopologyDiffers, what))
        })?;
        Ok((written, delivery_tag))
    }

    /// What the notes say is in force. Answers the tags of those that say nothing.
    fn in_force(&mut self, found: Vec<(Written, u64)>) -> Vec<u64> {
        let (mut owners, mut over) = (Vec::new(), Vec::new());
        let mut valid = Vec::with_capacity(found.len());
        for (written, tag) in found {
            if let Note::Owner { name } = &written.note {
                owners.push(name.clone());
            }
            match written.is_stale(owners.last().map(String::as_str)) {
                true => over.push(tag),
                false => valid.push((written, tag)),
            }
        }
        // The last one is the marker of just now.
        owners.pop();
        let goes_on = self.was_active && owners.last() == Some(&self.shared.me);
        let mut state = self.shared.state();
        if goes_on {
            for (written, tag) in valid {
                match (state.aside.seen(&written.id, tag), &written.note) {
                    (Seen::Over(tag), _) => over.push(tag),
                    (Seen::Kept, Note::Owner { .. } | Note::Knock) => over.extend(state.aside.noted(written)),
                    (Seen::Kept, _) => {}
                }
            }
            return over;
        }
        if self.was_active {
            state.begin_anew();
        }
        for (written, tag) in valid {
            over.extend(state.aside.apply(written, Some(tag)));
        }
        state.recalled();
        self.was_active = true;
        over
    }

    /// Takes deliveries until the connection is lost: first what came while the topic had no group, then the queue's own.
    async fn serve(&mut self, streams: &mut Streams) -> Ended {
        let shared = self.shared.clone();
        if let Some(name) = &shared.names.unclaimed {
            let now = Instant::now();
            let consumer = consume(&streams.queue, name).await?;
            streams.unclaimed = Some(Unclaimed { consumer, is_ours: false, heard: now, asked: None });
        }
        let (mut quiet, mut swept) = (false, false);
        loop {
            if streams.main.is_none() && self.has_claimed(streams).await? {
                self.alone(&streams.queue, &shared.names.queue).await?;
                streams.main = Some(consume(&streams.queue, &shared.names.queue).await?);
                streams.heard = Instant::now();
            }
            // Whoever asks for the depth again and again must not put it off.
            let look = match &streams.unclaimed {
                Some(unclaimed) if streams.main.is_none() => Instant::now() + unclaimed.pace(),
                _ => streams.heard + QUIET,
            };
            tokio::select! {
                biased;
                () = shared.stop.cancelled() => return Err(End::Stopped),
                delivery = next_unclaimed(&mut streams.unclaimed) => self.keep(arrived(delivery)?, &streams.queue).await?,
                delivery = next(&mut streams.main) => {
                    let delivery = arrived(delivery)?;
                    streams.heard = Instant::now();
                    if !swept && !delivery.redelivered {
                        // What comes back comes first, so everything that was deferred is here again.
                        swept = true;
                        self.sweep(&streams.aside).await?;
                    }
                    self.keep(delivery, &streams.queue).await?;
                }
                delivery = streams.notes.next() => note(&shared, arrived(delivery)?, &streams.aside).await?,
                () = tokio::time::sleep_until(look), if !quiet => {
                    if streams.main.is_some() {
                        quiet = true;
                        shared.state().bring_back(None);
                        shared.arrived.notify_waiters();
                    }
                }
                Some(ask) = self.depth.recv() => {
                    let depth = self.depth(streams).await;
                    let _ = ask.send(depth);
                }
            }
        }
    }

    /// Waits until nobody else consumes a queue: then what the last one had is back in it, and in its place. Others who consume
    /// a queue of theirs are not waited for long.
    async fn alone(&mut self, channel: &Channel, queue: &str) -> Ended {
        if self.shared.shares {
            return Ok(());
        }
        let began = Instant::now();
        while asked(channel, queue).await.map_err(|error| End::Lost(error.to_string()))?.1 > 0 {
            if began.elapsed() > ALONE {
                tracing::warn!(
                    queue,
                    "somebody else consumes the queue; there is no order between it and this instance"
                );
                return Ok(());
            }
            tokio::select! {
                biased;
                () = self.shared.stop.cancelled() => return Err(End::Stopped),
                () = tokio::time::sleep(CLAIMING) => {}
            }
        }
        Ok(())
    }

    /// Whether all of what was unclaimed is here, or goes to another group. Whoever gets one of it gets all of it, however long that takes:
    /// what is in the queue itself came later. Where nothing comes here, another group has it, or an instance that is gone and that the
    /// server is about to notice.
    async fn has_claimed(&mut self, streams: &mut Streams) -> Ended<bool> {
        let Some(name) = self.shared.names.unclaimed.as_ref() else { return Ok(true) };
        let Some(unclaimed) = &mut streams.unclaimed else { return Ok(true) };
        if unclaimed.asked.is_some_and(|asked| asked.elapsed() < unclaimed.pace()) {
            return Ok(false);
        }
        unclaimed.asked = Some(Instant::now());
        let answer = asked(&streams.queue, name).await;
        let (left, consumers) = answer.map_err(|error| End::Lost(error.to_string()))?;
        let waited = unclaimed.heard.elapsed();
        Ok(match unclaimed.is_ours {
            true => left == 0,
            // A quorum queue counts the active consumer only, so that one may be us.
            false if left > 0 => waited > ALONE,
            false => consumers <= 1 || waited > QUIET,
        })
    }

    /// Takes one message in.
    async fn keep(&mut self, delivery: Delivery, queue: &Channel) -> Ended {
        let Delivery { delivery_tag, routing_key, properties, data, .. } = delivery;
        let mapping = self.shared.mapping.as_deref();
        let (read, sent) = wire::read(&properties, routing_key.as_str(), Bytes::from(data), mapping);
        let published = sent.unwrap_or_else(|| SystemClock.now());
        let over = {
            let mut state = self.shared.state();
            match state.arrive(delivery_tag, read, published) {
                Arrival::Kept => None,
                Arrival::Over => Some(state.acknowledge(&[delivery_tag])),
            }
        };
        match over {
            None => self.shared.arrived.notify_waiters(),
            Some((all, single)) => {
                let multiple = all.is_some();
                for tag in all.into_iter().chain(single) {
                    queue.basic_ack(tag, BasicAckOptions { multiple }).await?;
                }
            }
        }
        Ok(())
    }

    async fn sweep(&mut self, aside: &Channel) -> Ended {
        let over = {
            let mut state = self.shared.state();
            let mut swept = std::mem::take(&mut state.aside);
            let over = swept.sweep(|event| state.holds(event));
            state.aside = swept;
            over
        };
        for tag in over {
            aside.basic_ack(tag, BasicAckOptions::default()).await?;
        }
        Ok(())
    }

    /// How much is stored and not received. What was delivered before the server answered is taken in first, so that nothing
    /// is counted nowhere.
    async fn depth(&mut self, streams: &mut Streams) -> Result<u64> {
        let names = self.shared.names.clone();
        let mut depth = 0;
        for _ in 0..ASKED_AGAIN {
            depth = u64::from(asked(&streams.queue, &names.queue).await?.0);
            if let Some(unclaimed) = &names.unclaimed {
                depth += u64::from(asked(&streams.queue, unclaimed).await?.0);
            }
            let mut arriving = false;
            while let Some(delivery) = next_unclaimed(&mut streams.unclaimed).now_or_never() {
                self.taken(delivery, &streams.queue).await?;
                arriving = true;
            }
            while let Some(delivery) = next(&mut streams.main).now_or_never() {
                self.taken(delivery, &streams.queue).await?;
                arriving = true;
            }
            // What arrives behind the answer was counted in it.
            if !arriving {
                break;
            }
            streams.heard = Instant::now();
        }
        Ok(depth + self.shared.state().ready())
    }

    async fn taken(&mut self, delivery: Option<lapin::Result<Delivery>>, queue: &Channel) -> Result<()> {
        let kept = match arrived(delivery) {
            Ok(delivery) => self.keep(delivery, queue).await,
            Err(end) => Err(end),
        };
        kept.map_err(|_| away())
    }
}

/// Everything that is consumed on one connection.
struct Streams {
    queue: Channel,
    aside: Channel,
    notes: Consumer,
    unclaimed: Option<Unclaimed>,
    main: Option<Consumer>,
    /// When the last of the queue's own came.
    heard: Instant,
}

/// What came while the topic had no group.
struct Unclaimed {
    consumer: Consumer,
    /// Something of it came here: we are the one that it goes to.
    is_ours: bool,
    /// When the last of it came.
    heard: Instant,
    /// When the server was asked last what is left.
    asked: Option<Instant>,
}

impl Unclaimed {
    /// How often the server is asked: what does not come, because as much as is wanted is held already, may take long.
    fn pace(&self) -> Duration {
        (self.heard.elapsed() / 4).clamp(CLAIMING, QUIET)
    }
}

/// The next of what was unclaimed; never, where nothing is. Cancel safe.
async fn next_unclaimed(unclaimed: &mut Option<Unclaimed>) -> Option<lapin::Result<Delivery>> {
    let Some(unclaimed) = unclaimed else { return std::future::pending().await };
    let delivery = unclaimed.consumer.next().await;
    (unclaimed.is_ours, unclaimed.heard) = (true, Instant::now());
    delivery
}

/// The next delivery; never, where nothing is consumed. Cancel safe.
async fn next(consumer: &mut Option<Consumer>) -> Option<lapin::Result<Delivery>> {
    match consumer {
        Some(consumer) => consumer.next().await,
        None => std::future::pending().await,
    }
}

/// A note came back.
async fn note(shared: &Shared, delivery: Delivery, aside: &Channel) -> Ended {
    let Delivery { delivery_tag, properties, data, .. } = delivery;
    let over = match Written::read(&properties, &Bytes::from(data)) {
        // Somebody stands by now.
        Some(Written { note: Note::Knock, .. }) => Some(delivery_tag),
        // Sent again by one that was the active instance before: it is not, or we would not hear of it.
        Some(Written { note: Note::Owner { name }, .. }) if name != shared.me => Some(delivery_tag),
        Some(written) => match shared.state().aside.seen(&written.id, delivery_tag) {
            Seen::Over(tag) => Some(tag),
            Seen::Kept => None,
        },
        None => None,
    };
    if let Some(tag) = over {
        aside.basic_ack(tag, BasicAckOptions::default()).await?;
    }
    Ok(())
}

async fn consume(channel: &Channel, queue: &str) -> lapin::Result<Consumer> {
    let options = BasicConsumeOptions::default();
    channel.basic_consume(short(queue), "".into(), options, FieldTable::default()).await
}

fn arrived(delivery: Option<lapin::Result<Delivery>>) -> Ended<Delivery> {
    match delivery {
        Some(Ok(delivery)) => Ok(delivery),
        Some(Err(cause)) => Err(cause.into()),
        None => Err(End::Lost("the server cancelled the consumer".to_owned())),
    }
}
