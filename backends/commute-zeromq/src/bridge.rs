//! Bridges: existing ZeroMQ programs on one side, topics of a node on the other.
//!
//! ```text
//! zmq+pull, zmq+sub ─► durable publish        weak: what was sent while the bridge was away is gone, and nobody is told
//! a group's events  ─► zmq+push, zmq+pub      weak: acknowledged when handed to the socket, whoever is there or not
//! ```
//!
//! What enters is durable from there on. The sockets are those of the crate `zeromq`, which has no limit on a message: a bridge is for
//! programs that are trusted.

use std::time::Duration;

use bytes::Bytes;
use commute_core::{
    Address, Clock, Code, Envelope, Error, Outgoing, Result, Settlement, SharedBroker, SubscriptionSpec, SystemClock,
    Topic, envelope::extension,
};
use zeromq::{PubSocket, PullSocket, PushSocket, Socket, SocketRecv, SocketSend, SubSocket, ZmqError, ZmqMessage};

/// How long after a failure a socket is made anew, or a message is sent again.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pattern {
    Pull,
    Sub,
    Push,
    Pub,
}

/// A bridge, as its URL says it.
#[derive(Debug, Clone)]
pub(crate) struct Bridge {
    pattern: Pattern,
    endpoint: String,
    bind: bool,
    topic: Topic,
    /// In: the type of the events.
    event_type: String,
    /// In, with SUB: what to subscribe to.
    prefix: String,
    /// Out: whose events.
    group: String,
}

impl Bridge {
    /// `zmq+pull://host:port?topic=T&type=TYPE`, `zmq+sub://…?topic=T&type=TYPE&prefix=P`, `zmq+push://…?topic=T&group=G`,
    /// `zmq+pub://…?topic=T&group=G`; each with `bind=true` to listen instead of connecting.
    ///
    /// # Errors
    /// `InvalidOption`.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let wrong = |what: String| Error::new(Code::InvalidOption, what);
        let mut address = Address::parse(url)?;
        let pattern = match address.scheme.as_str() {
            "zmq+pull" => Pattern::Pull,
            "zmq+sub" => Pattern::Sub,
            "zmq+push" => Pattern::Push,
            "zmq+pub" => Pattern::Pub,
            other => {
                return Err(wrong(format!("{other}: is no bridge; there are zmq+pull, zmq+sub, zmq+push and zmq+pub")));
            }
        };
        let inward = matches!(pattern, Pattern::Pull | Pattern::Sub);
        let mut text = |name: &str, applies: bool, otherwise: &str| match applies {
            true => Ok::<_, Error>(address.take(name)?.unwrap_or_else(|| otherwise.to_owned())),
            false => Ok(otherwise.to_owned()),
        };
        let event_type = text("type", inward, "zeromq.message")?;
        let prefix = text("prefix", pattern == Pattern::Sub, "")?;
        let group = text("group", !inward, "zeromq-bridge")?;
        let topic = address.take::<String>("topic")?.ok_or_else(|| wrong("a bridge needs topic=NAME".to_owned()))?;
        let bridge = Bridge {
            pattern,
            endpoint: format!("tcp://{}", address.rest.trim_end_matches('/')),
            bind: address.take("bind")?.unwrap_or(false),
            topic: Topic::new(topic)?,
            event_type,
            prefix,
            group,
        };
        let known: &[&str] = match pattern {
            Pattern::Pull => &["topic", "bind", "type"],
            Pattern::Sub => &["topic", "bind", "type", "prefix"],
            Pattern::Push | Pattern::Pub => &["topic", "bind", "group"],
        };
        address.finish(known)?;
        let host = address.rest.rsplit_once(':').map_or("", |(host, _)| host);
        if bridge.bind && !["127.0.0.1", "localhost", "[::1]"].contains(&host) {
            return Err(wrong(format!("a bridge listens on loopback only, and {host:?} is not")));
        }
        Ok(bridge)
    }

    /// What it promises, which is no more than its socket does.
    pub(crate) fn contract(&self) -> String {
        let Bridge { pattern, endpoint, topic, group, .. } = self;
        match pattern {
            Pattern::Pull => format!(
                "{endpoint} into {topic}: durable once it is here; nobody gets a receipt, and what is in a sender's memory when it ends is lost"
            ),
            Pattern::Sub => format!(
                "{endpoint} into {topic}: durable once it is here; nobody gets a receipt, and what is said while this node is away is lost"
            ),
            Pattern::Push => format!(
                "{topic} out to {endpoint} for the group {group}: waits while nobody is there; acknowledged once it is handed to the socket, and \
                 lost with a receiver that ends before it is done"
            ),
            Pattern::Pub => format!(
                "{topic} out to {endpoint} for the group {group}: acknowledged once it is said; who is not there does not get it"
            ),
        }
    }

    /// Carries until it is dropped.
    pub(crate) async fn run(self, broker: SharedBroker) {
        loop {
            let ended = match self.pattern {
                Pattern::Pull => match self.socket::<PullSocket>().await {
                    Ok(mut socket) => self.inward(&mut socket, &broker).await,
                    Err(error) => error,
                },
                Pattern::Sub => match self.subscribed().await {
                    Ok(mut socket) => self.inward(&mut socket, &broker).await,
                    Err(error) => error,
                },
                Pattern::Push => match self.socket::<PushSocket>().await {
                    Ok(mut socket) => self.outward(&mut socket, &broker).await,
                    Err(error) => error,
                },
                Pattern::Pub => match self.socket::<PubSocket>().await {
                    Ok(mut socket) => self.outward(&mut socket, &broker).await,
                    Err(error) => error,
                },
            };
            tracing::debug!(endpoint = %self.endpoint, error = %ended, "a bridge begins anew");
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn socket<S: Socket>(&self) -> Result<S> {
        let mut socket = S::new();
        let made = match self.bind {
            true => socket.bind(&self.endpoint).await.map(drop),
            false => socket.connect(&self.endpoint).await,
        };
        made.map(|()| socket).map_err(broken)
    }

    async fn subscribed(&self) -> Result<SubSocket> {
        let mut socket = self.socket::<SubSocket>().await?;
        socket.subscribe(&self.prefix).await.map_err(broken)?;
        Ok(socket)
    }

    /// Every message becomes an event: its last frame is the payload; the first of several, which is what SUB filters by, the key.
    async fn inward(&self, socket: &mut impl SocketRecv, broker: &SharedBroker) -> Error {
        loop {
            let message = match socket.recv().await {
                Ok(message) => message.into_vec(),
                Err(error) => return broken(error),
            };
            let Some(data) = message.last().cloned() else { continue };
            let mut envelope = Envelope::new("zeromq", &*self.event_type, SystemClock.now(), data);
            if let Some(Ok(key)) = message.first().filter(|_| message.len() > 1).map(|key| std::str::from_utf8(key)) {
                // A valid name.
                let _ = envelope.extensions.set(extension::PARTITION_KEY, key);
            }
            let outgoing = Outgoing { topic: self.topic.clone(), envelope, not_before: None };
            // Only here can it still be lost: with the process. It has an id, so publishing it again is safe.
            while let Err(error) = broker.publish(vec![outgoing.clone()]).await {
                if !error.code().is_retryable() {
                    tracing::warn!(%error, "a bridge cannot publish a message, and drops it");
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Two frames for PUB, of which the first is the type of the event; one for PUSH.
    async fn outward(&self, socket: &mut impl SocketSend, broker: &SharedBroker) -> Error {
        let spec = SubscriptionSpec::new(self.topic.clone(), self.group.as_str()).credit(64);
        let mut subscription = match broker.subscribe(spec).await {
            Ok(subscription) => subscription,
            Err(error) => return error,
        };
        loop {
            let taken = match subscription.receiver.receive(64).await {
                Ok(taken) if taken.is_empty() => return Error::new(Code::Closed, "the broker is closed"),
                Ok(taken) => taken,
                Err(error) => return error,
            };
            for delivery in taken {
                let mut message = ZmqMessage::from(delivery.envelope.data.clone());
                if self.pattern == Pattern::Pub {
                    message.push_front(Bytes::copy_from_slice(delivery.envelope.event_type.as_bytes()));
                }
                loop {
                    match socket.send(message).await {
                        Ok(()) => break,
                        // Nobody is there: it waits here, and everything behind it.
                        Err(ZmqError::ReturnToSender { reason: _, message: back }) => {
                            message = back;
                            tokio::time::sleep(PAUSE).await;
                        }
                        // Returned by dropping the receiver.
                        Err(error) => return broken(error),
                    }
                }
                let ack = Settlement::Ack { tag: delivery.tag, publish: Vec::new(), mark: true };
                if let Err(error) = subscription.settler.settle(vec![ack]).await {
                    return error;
                }
            }
        }
    }
}

fn broken(cause: ZmqError) -> Error {
    Error::new(Code::BrokerUnavailable, "the socket of a bridge failed").caused_by(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_says_where_which_way_and_what() {
        let bridge = Bridge::parse("zmq+sub://10.0.0.1:5556?topic=weather&type=w&prefix=10").unwrap();
        assert_eq!(
            (bridge.pattern, bridge.endpoint.as_str(), bridge.bind),
            (Pattern::Sub, "tcp://10.0.0.1:5556", false)
        );
        assert_eq!(
            bridge.contract(),
            "tcp://10.0.0.1:5556 into weather: durable once it is here; nobody gets a receipt, and what is said while this node is away is lost"
        );
        for wrong in [
            "zmq+pull://127.0.0.1:1",
            "zmq+pull://0.0.0.0:1?topic=t&bind=true",
            "zmq+push://127.0.0.1:1?topic=t&type=x",
            "zmq+pair://127.0.0.1:1?topic=t",
        ] {
            assert_eq!(Bridge::parse(wrong).unwrap_err().code(), Code::InvalidOption, "{wrong}");
        }
    }
}
