//! One connection: greets, and finds or makes the session that owns it from then on.

use std::sync::Arc;
use std::time::Duration;

use commute_core::{Code, Error, Result};
use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;

use super::session::{Peer, Session};
use super::{Ends, Shared};
use crate::key;
use crate::wire::{Challenge, Hello, Kind, Message, Proof, Welcome};
use crate::zmtp::{Item, Role, Wires, greet};

/// A connection that was accepted.
pub(crate) struct Accepted {
    pub(crate) ends: Ends,
    /// Whether it cannot be lost, only end.
    pub(crate) local: bool,
    /// Whether the node has room for it; otherwise it is only told so.
    pub(crate) room: bool,
    /// What it takes of that room, until it ends.
    pub(crate) place: OwnedSemaphorePermit,
}

/// Greets a connection and hands it to its session. Whatever is wrong with it ends it and touches nobody else.
pub(crate) async fn serve(shared: Arc<Shared>, accepted: Accepted) {
    let Accepted { ends: (read, write), local, room, place } = accepted;
    let greeted = timeout(shared.options.handshake, async {
        let mut wires = greet(read, write, Role::Node, shared.limits()).await.map_err(refused)?;
        match welcome(&shared, &mut wires, room).await {
            Ok(welcomed) => Ok((wires, welcomed)),
            Err(error) => {
                wires.write.put(frames(Message::refused(0, &error)));
                farewell(wires, shared.options.heartbeat).await;
                Err(error)
            }
        }
    });
    let (mut wires, (session, first)) = match greeted.await {
        Ok(Ok(greeted)) => greeted,
        Ok(Err(error)) => return tracing::debug!(%error, "a connection was refused"),
        Err(_) => return tracing::debug!("a connection did not greet in time"),
    };
    // Said by the session, before anything else.
    wires.write.put(frames(first));
    let _ = session.send(Peer::new(wires, local, place)).await;
}

/// Ends a connection so that what was said last arrives: whoever closes while there is something to read takes back what it said.
pub(super) async fn farewell(Wires { read, mut write }: Wires, time: Duration) {
    let _ = timeout(time, async {
        if write.close().await.is_ok() {
            let _ = tokio::io::copy(&mut read.into_inner(), &mut tokio::io::sink()).await;
        }
    })
    .await;
}

pub(super) fn refused(cause: std::io::Error) -> Error {
    Error::new(Code::NotUnderstood, "the connection speaks no protocol of ours").caused_by(cause)
}

pub(super) fn frames(message: Message) -> Item {
    Item::Message(message.into_frames())
}

/// Says who is there. Answers the session, and the welcome that is still to be sent.
async fn welcome(shared: &Arc<Shared>, wires: &mut Wires, room: bool) -> Result<(mpsc::Sender<Peer>, Message)> {
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

fn session(shared: &Arc<Shared>, hello: Hello) -> Result<(mpsc::Sender<Peer>, String, bool)> {
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
    let (inbox, peers) = mpsc::channel(1);
    sessions.insert(name.clone(), inbox.clone());
    drop(sessions);
    tracing::debug!(client = %hello.client, "a session begins");
    shared.tasks.spawn(Session::new(shared.clone(), name.clone(), peers).run());
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
