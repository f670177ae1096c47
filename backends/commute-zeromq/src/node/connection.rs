//! One connection: greets, finds or makes its session, and carries messages between the two.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use commute_core::{Code, Error, Result};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::session::{self, Input, Peer, Session};
use super::{Ends, Shared};
use crate::key;
use crate::wire::{Challenge, Hello, Kind, Message, Proof, Welcome};
use crate::zmtp::{Item, Role, Wires, greet};

/// Messages on their way to one peer. Few, because each may be large; a session waits when a peer does not read.
const OUTGOING: usize = 4;

/// A connection that was accepted.
pub(crate) struct Accepted {
    pub(crate) number: u64,
    pub(crate) ends: Ends,
    /// Whether it cannot be lost, only end.
    pub(crate) local: bool,
    /// Whether the node has room for it; otherwise it is only told so.
    pub(crate) room: bool,
}

/// Serves a connection to its end. Whatever is wrong with it ends it and touches nobody else.
pub(crate) async fn serve(shared: Arc<Shared>, accepted: Accepted) {
    let Accepted { number: connection, ends: (read, write), local, room } = accepted;
    let greeted = timeout(shared.options.handshake, async {
        let mut wires = greet(read, write, Role::Node, shared.limits()).await.map_err(refused)?;
        match welcome(&shared, &mut wires, room).await {
            Ok(welcomed) => Ok((wires, welcomed)),
            Err(error) => {
                if wires.write.send(frames(Message::refused(0, &error))).await.is_ok() {
                    farewell(wires, shared.options.heartbeat).await;
                }
                Err(error)
            }
        }
    });
    let (wires, (session, first)) = match greeted.await {
        Ok(Ok(greeted)) => greeted,
        Ok(Err(error)) => return tracing::debug!(%error, "a connection was refused"),
        Err(_) => return tracing::debug!("a connection did not greet in time"),
    };
    let Wires { mut read, mut write } = wires;
    let lease = shared.options.lease;
    if !matches!(timeout(lease, write.send(frames(first))).await, Ok(Ok(()))) {
        return;
    }
    let (outgoing, rest) = mpsc::channel(OUTGOING);
    // Only the session holds it: when it is through with this connection, writing ends, and so does this.
    let pongs = outgoing.downgrade();
    if session.send(Input::Attach(Peer { connection, outgoing, local })).await.is_err() {
        return;
    }
    let heartbeat = shared.options.heartbeat;
    let ended = {
        let writing = writing(&mut write, rest, lease);
        tokio::pin!(writing);
        let ended = tokio::select! {
            () = &mut writing => None,
            ended = reading(lease, &mut read, &session, &pongs) => Some(ended),
        };
        // The session lets go of the connection now, if it has not, and what it said last goes out before anything else.
        let _ = session.send(Input::Detach(connection)).await;
        if ended.is_some() {
            let _ = timeout(heartbeat, writing).await;
        }
        ended
    };
    if let Some(Err(error)) = ended {
        tracing::debug!(%error, "a connection is ended");
        let said = write.send(frames(Message::refused(0, &error)));
        let _ = timeout(heartbeat, said).await;
    }
    farewell(Wires { read, write }, heartbeat).await;
}

/// Ends a connection so that what was said last arrives: whoever closes while there is something to read takes back what it said.
async fn farewell(Wires { read, mut write }: Wires, time: Duration) {
    let _ = timeout(time, async {
        if write.close().await.is_ok() {
            let _ = tokio::io::copy(&mut read.into_inner(), &mut tokio::io::sink()).await;
        }
    })
    .await;
}

fn refused(cause: std::io::Error) -> Error {
    Error::new(Code::NotUnderstood, "the connection speaks no protocol of ours").caused_by(cause)
}

fn frames(message: Message) -> Item {
    Item::Message(message.into_frames())
}

/// Says who is there. Answers the session, and the welcome that is still to be sent.
async fn welcome(shared: &Arc<Shared>, wires: &mut Wires, room: bool) -> Result<(mpsc::Sender<Input>, Message)> {
    let message = expect(wires, Kind::Hello).await?;
    let (number, hello) = (message.number, message.header::<Hello>()?);
    if !room {
        return Err(Error::new(Code::BrokerUnavailable, "the node has no room for another connection"));
    }
    if let Some(key) = &shared.key {
        let theirs = hello.nonce.as_deref().unwrap_or_default();
        let nonce = key::nonce();
        let challenge = Challenge { proof: key.proof("node", theirs), nonce: nonce.clone() };
        wires.write.send(frames(Message::new(Kind::Challenge, number, &challenge)?)).await.map_err(refused)?;
        let proof = expect(wires, Kind::Proof).await?.header::<Proof>()?;
        if !key.accepts("client", &nonce, &proof.proof) {
            return Err(Error::new(Code::AccessRefused, "the node has another key"));
        }
    }
    let (session, name, resumed) = session(shared, hello)?;
    let options = &shared.options;
    let welcome = Welcome {
        session: name,
        resumed,
        capabilities: shared.broker.capabilities().clone(),
        heartbeat_ms: u64::try_from(options.heartbeat.as_millis()).unwrap_or(u64::MAX),
        lease_ms: u64::try_from(options.lease.as_millis()).unwrap_or(u64::MAX),
        max_message_bytes: options.max_message_bytes,
        max_in_flight: options.max_in_flight,
    };
    Ok((session, Message::new(Kind::Welcome, number, &welcome)?))
}

fn session(shared: &Arc<Shared>, hello: Hello) -> Result<(mpsc::Sender<Input>, String, bool)> {
    let mut sessions = shared.sessions();
    if let Some(name) = hello.session
        && let Some(known) = sessions.get(&name).filter(|known| !known.is_closed())
    {
        return Ok((known.clone(), name, true));
    }
    if sessions.len() >= shared.options.connections {
        return Err(Error::new(Code::BrokerUnavailable, "the node has no room for another session"));
    }
    // Unguessable, so that nobody goes on with a session that is not theirs.
    let name = key::nonce();
    let (inbox, heard) = mpsc::channel(session::INBOX);
    sessions.insert(name.clone(), inbox.clone());
    drop(sessions);
    tracing::debug!(client = %hello.client, "a session begins");
    shared.tasks.spawn(Session::new(shared.clone(), name.clone(), heard).run());
    Ok((inbox, name, false))
}

async fn expect(wires: &mut Wires, kind: Kind) -> Result<Message> {
    match wires.read.next().await {
        Some(Ok(Item::Message(parts))) => {
            let message = Message::from_frames(parts)?;
            match message.kind == kind {
                true => Ok(message),
                false => Err(Error::new(Code::NotUnderstood, format!("{:?} where {kind:?} was due", message.kind))),
            }
        }
        Some(Ok(Item::Command(..))) => Err(Error::new(Code::NotUnderstood, "a command where a message was due")),
        Some(Err(cause)) => Err(refused(cause)),
        None => Err(Error::new(Code::BrokerUnavailable, "the connection ended")),
    }
}

async fn reading(
    lease: Duration,
    read: &mut (impl StreamExt<Item = std::io::Result<Item>> + Unpin),
    session: &mpsc::Sender<Input>,
    pongs: &mpsc::WeakSender<Item>,
) -> Result<()> {
    loop {
        // Whoever says nothing at all for a lease is gone, whatever its connection says.
        let item = match timeout(lease, read.next()).await {
            Err(_) => return Err(Error::new(Code::TimedOut, "nothing was heard for a lease")),
            Ok(None) => return Ok(()),
            Ok(Some(item)) => item.map_err(refused)?,
        };
        match item {
            Item::Message(parts) => {
                let message = Message::from_frames(parts)?;
                let is_last = message.kind == Kind::Bye;
                let input = if is_last { Input::Bye } else { Input::Request(message) };
                if session.send(input).await.is_err() || is_last {
                    // The session is over. Writing ends when it has said everything, and with it this.
                    std::future::pending::<()>().await;
                }
            }
            Item::Command(name, rest) if &name[..] == b"PING" => {
                // Behind two bytes of time to live.
                let context = rest.get(2..).map(Bytes::copy_from_slice).unwrap_or_default();
                if let Some(outgoing) = pongs.upgrade() {
                    let _ = outgoing.send(Item::Command(Bytes::from_static(b"PONG"), context)).await;
                }
            }
            Item::Command(..) => {}
        }
    }
}

/// Ends when the session is through with this connection, or the peer does not read for a lease.
async fn writing<W>(write: &mut W, mut outgoing: mpsc::Receiver<Item>, lease: Duration)
where
    W: SinkExt<Item, Error = std::io::Error> + Unpin,
{
    while let Some(item) = outgoing.recv().await {
        let written = timeout(lease, async {
            write.feed(item).await?;
            while let Ok(item) = outgoing.try_recv() {
                write.feed(item).await?;
            }
            write.flush().await
        });
        if !matches!(written.await, Ok(Ok(()))) {
            return;
        }
    }
}
