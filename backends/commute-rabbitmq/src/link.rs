//! The link: one connection to the server, made again whenever it is lost.
//!
//! The client's own recovery is left off: a recovered channel would look like the old one, and an acknowledgement meant for the
//! old one must never reach the new. Whoever works on a connection holds a [`Session`] and starts anew with the next.

use std::sync::Arc;
use std::time::Duration;

use commute_core::{Error, Result, Server};
use futures_util::StreamExt;
use lapin::tcp::OwnedTLSConfig;
use lapin::{Channel, Connection, ConnectionProperties, Event};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::options::Options;
use crate::{error, greeting, server};

/// The first wait before connecting again, and the longest.
const AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(3));

/// How long a connection may take to come about: a server that answers no more must not hold up the next try.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long the server may take to answer that a connection is over.
const GOODBYE: Duration = Duration::from_secs(5);

/// A connection while it lasts.
pub(crate) struct Session {
    connection: Connection,
    /// Tells its deliveries from those of earlier ones.
    pub(crate) epoch: u64,
    pub(crate) lost: CancellationToken,
    /// What it is a connection to.
    server: Server,
}

impl Session {
    pub(crate) async fn channel(&self) -> lapin::Result<Channel> {
        self.answer(self.connection.create_channel()).await
    }

    /// The answer to something that the server is asked. The client leaves open for ever what is asked in the moment in which the
    /// connection breaks.
    pub(crate) async fn answer<T>(&self, asked: impl Future<Output = lapin::Result<T>>) -> lapin::Result<T> {
        tokio::select! {
            biased;
            answer = asked => answer,
            () = self.lost.cancelled() => Err(lapin::ErrorKind::MissingHeartbeatError.into()),
        }
    }
}

/// The connection, whichever it is now.
pub(crate) struct Link {
    current: watch::Receiver<Option<Arc<Session>>>,
    /// No new work is taken.
    pub(crate) closed: CancellationToken,
    /// The connection itself may end.
    finished: CancellationToken,
    tasks: TaskTracker,
}

impl Link {
    /// Connects for the first time, and answers to what.
    pub(crate) async fn open(options: &Options) -> Result<(Arc<Link>, Server)> {
        let session = Arc::new(connect(options, 1).await?);
        let server = session.server.clone();
        let (sender, current) = watch::channel(Some(session.clone()));
        let link = Link {
            current,
            closed: CancellationToken::new(),
            finished: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        link.tasks.spawn(keep(options.clone(), session, sender, link.finished.clone()));
        Ok((Arc::new(link), server))
    }

    /// Runs a task that close waits for.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Waits for a connection. `None` when there will be none any more. Cancel safe.
    pub(crate) async fn session(&self) -> Option<Arc<Session>> {
        let mut current = self.current.clone();
        let found = current.wait_for(|session| session.as_ref().is_some_and(|session| !session.lost.is_cancelled()));
        let found = tokio::select! {
            found = found => found.ok()?.clone(),
            () = self.finished.cancelled() => None,
        };
        found
    }

    /// Lets everybody finish what was begun, and ends the connection.
    pub(crate) async fn close(&self, tasks_done: impl Future<Output = ()>) {
        self.closed.cancel();
        tasks_done.await;
        self.finished.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Ends everything at once, as if the process had died.
    pub(crate) fn abandon(&self) {
        self.closed.cancel();
        self.finished.cancel();
    }
}

async fn connect(options: &Options, epoch: u64) -> Result<Session> {
    let uri = options.uri.clone();
    let properties = ConnectionProperties::default().with_connection_name("commute".into());
    let connecting = async {
        let mut tls = OwnedTLSConfig::default();
        if let Some(file) = options.ca.clone() {
            let pem = tokio::task::spawn_blocking(move || std::fs::read_to_string(file));
            tls.cert_chain = Some(pem.await.map_err(std::io::Error::other).and_then(|read| read)?);
        }
        greeting::connect(uri, properties, tls).await
    };
    let what = || format!("cannot connect to {}", options.address());
    let (connection, greeting) = match tokio::time::timeout(PATIENCE, connecting).await {
        Ok(Ok(connected)) => connected,
        Ok(Err(cause)) => return Err(error::from(&what(), &cause)),
        Err(_) => {
            let detail = format!("{}: no answer within {PATIENCE:?}", what());
            return Err(Error::new(commute_core::Code::BrokerUnavailable, detail));
        }
    };
    let server = match server::check(greeting, connection.configuration().frame_max(), options) {
        Ok(server) => server,
        Err(refused) => {
            // It is over either way, and the server need not wonder where its client went.
            drop(tokio::time::timeout(GOODBYE, connection.close(200, "refused".into())).await);
            return Err(refused);
        }
    };
    Ok(Session { connection, epoch, lost: CancellationToken::new(), server })
}

/// Watches the connection, and makes the next when it is lost.
async fn keep(
    options: Options,
    mut session: Arc<Session>,
    current: watch::Sender<Option<Arc<Session>>>,
    finished: CancellationToken,
) {
    loop {
        tokio::select! {
            () = finished.cancelled() => break,
            () = lost(&session, &options) => {}
        }
        session.lost.cancel();
        let epoch = session.epoch + 1;
        drop(current.send_replace(None));
        let mut wait = AGAIN.0;
        session = loop {
            let connected = tokio::select! {
                () = finished.cancelled() => return,
                connected = connect(&options, epoch) => connected,
            };
            match connected {
                Ok(next) => {
                    if next.server != session.server {
                        tracing::warn!(before = %session.server, now = %next.server, "the server is another now");
                    }
                    break Arc::new(next);
                }
                Err(error) => tracing::warn!(address = %options.address(), %error, "not connected; it is tried again"),
            }
            tokio::select! {
                () = finished.cancelled() => return,
                () = tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64())) => {}
            }
            wait = (wait * 2).min(AGAIN.1);
        };
        tracing::info!(address = %options.address(), epoch, "connected again");
        current.send_replace(Some(session.clone()));
    }
    let closing = session.connection.close(200, "closed".into());
    if !matches!(tokio::time::timeout(GOODBYE, closing).await, Ok(Ok(()))) {
        tracing::debug!("the server did not answer the close; it sees the connection end");
    }
    // Afterwards: channels that are dropped on a connection that is being closed make the client complain.
    session.lost.cancel();
}

async fn lost(session: &Session, options: &Options) {
    let mut events = std::pin::pin!(session.connection.events_listener());
    if session.connection.status().connected() {
        while let Some(event) = events.next().await {
            match event {
                // A channel's error is one, too, and the connection goes on.
                Event::Error(error) if session.connection.status().connected() => {
                    tracing::debug!(address = %options.address(), %error, "a channel is lost");
                }
                Event::Error(error) => {
                    tracing::warn!(address = %options.address(), %error, "the connection is lost");
                    return;
                }
                Event::ConnectionBlocked(reason) => {
                    tracing::warn!(address = %options.address(), reason, "the server takes no events for now");
                }
                _ => {}
            }
            if !session.connection.status().connected() {
                return;
            }
        }
    }
}
