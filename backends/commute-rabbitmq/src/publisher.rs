//! The publisher: one task that sends in the order of asking and waits for confirms.
//!
//! What was not confirmed on one connection is sent again on the next, in the same order.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::Poll;
use std::time::Duration;

use commute_core::{Clock, Code, Error, Result, SystemClock, Timestamp};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::protocol::AMQPSoftError;
use lapin::{Channel, Confirmation};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use crate::error;
use crate::link::{Link, Session};
use crate::topology::Topology;
use crate::wire::Message;

/// Messages that wait for their confirms at most: enough for a server that syncs in groups, little enough to send again.
const IN_FLIGHT: usize = 8192;

/// The end that asks. Cloning it shares the order.
#[derive(Clone)]
pub(crate) struct Publisher {
    batches: mpsc::Sender<Batch>,
    room: Arc<Semaphore>,
    /// The last time that a message was said to be sent at, in microseconds.
    stamp: Arc<AtomicI64>,
}

struct Batch {
    messages: Vec<Message>,
    reply: oneshot::Sender<Result<()>>,
    deadline: Option<Instant>,
    _room: OwnedSemaphorePermit,
}

impl Publisher {
    /// Starts the task.
    pub(crate) fn start(link: &Arc<Link>, topology: Arc<Topology>) -> Self {
        // Never full: every batch holds room for one message at least.
        let (batches, asked) = mpsc::channel(IN_FLIGHT);
        let work = Work { link: link.clone(), topology, asked, pending: VecDeque::new() };
        link.spawn(work.run());
        Publisher { batches, room: Arc::new(Semaphore::new(IN_FLIGHT)), stamp: Arc::default() }
    }

    /// Times for so many messages: now, and each later than every one before.
    pub(crate) fn stamps(&self, count: usize) -> impl Iterator<Item = Timestamp> + use<> {
        let (now, count) = (SystemClock.now().0, i64::try_from(count).unwrap_or(i64::MAX));
        let next = |last: i64| Some(now.max(last + 1) + count);
        let last = self.stamp.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_default();
        let first = now.max(last + 1);
        (first..first + count).map(Timestamp)
    }

    /// Waits until everything asked before is confirmed, for so long at most.
    pub(crate) async fn flushed(&self, patience: Duration) {
        let all = u32::try_from(IN_FLIGHT).unwrap_or(u32::MAX);
        if tokio::time::timeout(patience, self.room.acquire_many(all)).await.is_err() {
            tracing::warn!("closed before everything was confirmed");
        }
    }

    /// Sends messages and waits until all are confirmed. The order of effects of two calls is that of their first polls.
    /// With `patience`, gives up when there is no connection for so long; it is unknown then which were stored.
    ///
    /// # Errors
    /// The first that a message met.
    pub(crate) async fn publish(&self, messages: Vec<Message>, patience: Option<Duration>) -> Result<()> {
        if messages.is_empty() {
            return Ok(());
        }
        let deadline = patience.map(|patience| Instant::now() + patience);
        let room = u32::try_from(messages.len().min(IN_FLIGHT)).unwrap_or(u32::MAX);
        // Fair: who asked first is served first. The semaphore is never closed.
        let acquired = self.room.clone().acquire_many_owned(room);
        let acquired = match deadline {
            None => acquired.await,
            Some(deadline) => tokio::time::timeout_at(deadline, acquired).await.map_err(|_| away())?,
        };
        let Ok(permit) = acquired else { return Err(error::closed()) };
        let (reply, replied) = oneshot::channel();
        let batch = Batch { messages, reply, deadline, _room: permit };
        self.batches.try_send(batch).map_err(|_| error::closed())?;
        replied.await.unwrap_or_else(|_| Err(error::closed()))
    }
}

fn away() -> Error {
    Error::new(
        Code::BrokerUnavailable,
        "the server did not confirm in time; publishing again with the same ids is safe",
    )
}

/// A batch that is being sent.
struct Pending {
    batch: Batch,
    confirmed: usize,
    failure: Option<Error>,
}

type Confirm = Pin<Box<dyn Future<Output = lapin::Result<Confirmation>> + Send>>;

/// A message that was sent and is not confirmed: the front one belongs to the first batch that is not complete.
enum Sent {
    Waiting(Confirm),
    Over(Box<lapin::Result<Confirmation>>),
}

struct Work {
    link: Arc<Link>,
    topology: Arc<Topology>,
    asked: mpsc::Receiver<Batch>,
    pending: VecDeque<Pending>,
}

impl Work {
    async fn run(mut self) {
        loop {
            let session = tokio::select! {
                session = self.link.session() => session,
                () = expire(&mut self.pending, &mut self.asked) => continue,
            };
            let Some(session) = session else { return self.end() };
            match self.work(&session).await {
                Ok(()) => return self.end(),
                Err(cause) => {
                    tracing::debug!(%cause, waiting = self.pending.len(), "publishing begins anew on another channel");
                    self.blame(&cause);
                }
            }
            // A channel that fails at once must not spin.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Works on one channel until it is lost, or nobody asks any more.
    async fn work(&mut self, session: &Session) -> lapin::Result<()> {
        let channel = session.channel().await?;
        session.answer(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        let mut sent: VecDeque<Sent> = VecDeque::new();
        for at in 0..self.pending.len() {
            self.send(at, session, &channel, &mut sent).await;
        }
        let mut open = true;
        while open || !self.pending.is_empty() {
            tokio::select! {
                biased;
                confirmation = next(&mut sent) => self.confirm(confirmation?),
                batch = self.asked.recv(), if open => match batch {
                    None => open = false,
                    Some(batch) => {
                        self.pending.push_back(Pending { batch, confirmed: 0, failure: None });
                        self.send(self.pending.len() - 1, session, &channel, &mut sent).await;
                    }
                },
                () = session.lost.cancelled() => return Err(lapin::ErrorKind::MissingHeartbeatError.into()),
            }
            self.answer();
        }
        Ok(())
    }

    /// Sends what is not confirmed of a batch.
    async fn send(&mut self, at: usize, session: &Session, channel: &Channel, sent: &mut VecDeque<Sent>) {
        let Some(pending) = self.pending.get_mut(at) else { return };
        for message in &pending.batch.messages[pending.confirmed..] {
            if !message.exchange.is_empty()
                && !self.topology.knows(session, &message.exchange)
                && let Err(error) = self.topology.topic(session, &message.exchange).await
            {
                // A lost connection is met again when the confirm is waited for.
                if error.code() != Code::BrokerUnavailable {
                    pending.failure.get_or_insert(error);
                }
            }
            if pending.failure.is_some() {
                // Nothing behind a failure is sent: what is confirmed of a batch is a prefix of it.
                sent.push_back(Sent::Over(Box::new(Ok(Confirmation::NotRequested))));
                continue;
            }
            let mut confirm = confirmed(channel.clone(), message.clone());
            // The first poll puts it into the connection's buffer, which keeps the order.
            let first = poll_fn(|context| Poll::Ready(confirm.as_mut().poll(context))).await;
            sent.push_back(match first {
                Poll::Ready(over) => Sent::Over(Box::new(over)),
                Poll::Pending => Sent::Waiting(confirm),
            });
        }
    }

    fn confirm(&mut self, confirmation: Confirmation) {
        let Some(pending) = self.pending.iter_mut().find(|pending| pending.confirmed < pending.batch.messages.len())
        else {
            return;
        };
        let message = &pending.batch.messages[pending.confirmed];
        pending.confirmed += 1;
        match confirmation {
            Confirmation::Ack(None) | Confirmation::NotRequested => {}
            Confirmation::Ack(Some(_)) => {
                let detail = format!(
                    "no queue takes events of type {:?} on exchange {:?}; the event was not stored",
                    message.routing_key, message.exchange
                );
                pending.failure.get_or_insert(Error::new(Code::TopologyMissing, detail));
            }
            Confirmation::Nack(_) => {
                let detail = format!("the server refused to store an event on {:?}", message.exchange);
                pending.failure.get_or_insert(Error::new(Code::BrokerUnavailable, detail));
            }
        }
    }

    /// Replies to whoever's batch is complete.
    fn answer(&mut self) {
        while self.pending.front().is_some_and(|first| first.confirmed == first.batch.messages.len()) {
            let Some(Pending { batch, failure, .. }) = self.pending.pop_front() else { return };
            // Whoever asked may have gone; the messages are stored all the same.
            let _ = batch.reply.send(failure.map_or(Ok(()), Err));
        }
    }

    /// The server closed the channel because of one message: its batch fails, or it would be sent again for ever.
    fn blame(&mut self, cause: &lapin::Error) {
        match error::soft(cause) {
            // An exchange that was there: it is declared again, or found to be missing.
            Some(AMQPSoftError::NOTFOUND) => self.topology.forget(),
            // "access to exchange 'orders' in vhost '/' refused for user 'x'", "access to topic 'KEY' in exchange 'orders' …"
            Some(AMQPSoftError::ACCESSREFUSED) => {
                let words = error::words(cause);
                let named = |what: &str| words.split_once(what)?.1.split_once('\'').map(|(name, _)| name);
                let Some(exchange) = named("exchange '") else { return };
                let exchange = if exchange == "amq.default" { "" } else { exchange };
                let key = named("topic '");
                let may = |message: &Message| {
                    message.exchange != exchange || key.is_some_and(|key| message.routing_key != key)
                };
                self.fail(may, || error::from("publishing is refused", cause));
            }
            _ => {}
        }
        if error::soft(cause) != Some(AMQPSoftError::PRECONDITIONFAILED) {
            return;
        }
        // "message size 17000000 is larger than configured max size 16777216"
        let words = error::words(cause);
        let limit =
            words.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse::<usize>().ok()).next_back();
        let Some(limit) = limit.filter(|_| words.contains("larger than")) else { return };
        let detail = format!("the server takes messages of up to {limit} bytes");
        let error = || Error::new(Code::PayloadTooLarge, detail.clone()).caused_by(words.clone());
        self.fail(|message| message.body.len() <= limit, error);
    }

    /// Fails every batch of which a message that is not confirmed may not be sent.
    fn fail(&mut self, may: impl Fn(&Message) -> bool, error: impl Fn() -> Error) {
        self.pending.retain_mut(|pending| {
            let goes_on = pending.batch.messages[pending.confirmed..].iter().all(&may);
            if !goes_on {
                let (gone, _) = oneshot::channel();
                let reply = std::mem::replace(&mut pending.batch.reply, gone);
                let _ = reply.send(Err(error()));
            }
            goes_on
        });
    }

    fn end(self) {
        for pending in self.pending {
            let _ = pending.batch.reply.send(Err(error::closed()));
        }
    }
}

fn confirmed(channel: Channel, message: Message) -> Confirm {
    Box::pin(async move {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let Message { exchange, routing_key, properties, body } = message;
        let (exchange, routing_key) = (exchange.into(), routing_key.into());
        channel.basic_publish(exchange, routing_key, options, &body, properties).await?.await
    })
}

/// The next confirmation, in the order of sending. Cancel safe.
async fn next(sent: &mut VecDeque<Sent>) -> lapin::Result<Confirmation> {
    let over = match sent.front_mut() {
        None => return std::future::pending().await,
        Some(Sent::Waiting(confirm)) => Some(confirm.await),
        Some(Sent::Over(_)) => None,
    };
    let front = sent.pop_front();
    match (over, front) {
        (Some(over), _) => over,
        (None, Some(Sent::Over(over))) => *over,
        (None, _) => std::future::pending().await,
    }
}

/// Without a connection: takes what is asked, so that it is known, and fails what has waited too long.
async fn expire(pending: &mut VecDeque<Pending>, asked: &mut mpsc::Receiver<Batch>) {
    let first = pending.iter().filter_map(|pending| pending.batch.deadline).min();
    let due = async {
        match first {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        Some(batch) = asked.recv() => pending.push_back(Pending { batch, confirmed: 0, failure: None }),
        () = due => {
            let now = Instant::now();
            let late = |pending: &Pending| pending.batch.deadline.is_some_and(|deadline| deadline <= now);
            let (late, left): (Vec<_>, VecDeque<_>) = split(std::mem::take(pending), late);
            *pending = left;
            for pending in late {
                let _ = pending.batch.reply.send(Err(away()));
            }
        }
    }
}

fn split(all: VecDeque<Pending>, first: impl Fn(&Pending) -> bool) -> (Vec<Pending>, VecDeque<Pending>) {
    let (mut firsts, mut others) = (Vec::new(), VecDeque::new());
    for pending in all {
        if first(&pending) { firsts.push(pending) } else { others.push_back(pending) }
    }
    (firsts, others)
}
