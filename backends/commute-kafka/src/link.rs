//! The link to the servers: the publisher, what the servers are, and what they will not take.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use commute_core::{Capabilities, Code, Error, Outgoing, Result, Server};
use rdkafka::admin::ResourceSpecifier;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::capabilities::Limits;
use crate::client::{ANSWER, Ear};
use crate::error::code;
use crate::options::Options;
use crate::progress::LONGEST_POINTER;
use crate::publisher::Publisher;
use crate::topics::Topics;
use crate::{server, wire};

/// A topic that every server has; asking for it also says who the servers are.
const PROBE: &str = "__consumer_offsets";

/// What the broker and its subscriptions share. The last one to let go of it ends its threads.
pub(crate) struct Link {
    pub(crate) options: Options,
    limits: Limits,
    server: Server,
    /// How much the metadata of a commit may take.
    metadata_bytes: AtomicUsize,
    publisher: Arc<Publisher>,
    thread: Option<JoinHandle<()>>,
}

impl Link {
    /// Connects, and looks whether the server will do. Blocks.
    pub(crate) fn connect(options: Options) -> Result<Self> {
        options.check()?;
        let ear = Ear::default();
        let topics = Topics::new(&options, &ear)?;
        let label = options.label();
        let until = Instant::now() + ANSWER;
        let asked = loop {
            let answer = topics.asker.fetch_metadata(Some(PROBE), Duration::from_millis(500));
            if let Ok(found) = &answer
                && let Some(server) = found.brokers().first()
            {
                break server.id();
            }
            // Errors of the connection come with the events of the client.
            drop(topics.asker.poll(Duration::from_millis(10)));
            if let Some((kafka, reason)) = ear.take() {
                let refused = match kafka {
                    RDKafkaErrorCode::AllBrokersDown => Code::BrokerUnavailable,
                    other => code(other),
                };
                // Not every server of the list has been tried yet.
                let tried = kafka == RDKafkaErrorCode::AllBrokersDown || refused != Code::BrokerUnavailable;
                if tried || Instant::now() > until {
                    return Err(Error::new(refused, format!("cannot connect to {label}: {reason}")));
                }
            }
            if Instant::now() > until {
                let error = Error::new(Code::BrokerUnavailable, format!("{label} does not answer"));
                return Err(match answer {
                    Err(cause @ KafkaError::MetadataFetch(_)) => error.caused_by(cause),
                    _ => error,
                });
            }
        };
        let settings = topics.settings(ResourceSpecifier::Broker(asked));
        let limits = Limits::of(settings.as_ref(), &options);
        let server = server::check(settings.as_ref(), &limits, &options)?;
        let mut config = options.client();
        config
            .set("linger.ms", options.linger.as_millis().to_string())
            .set("message.max.bytes", limits.message_bytes.clamp(1_000, 1_000_000_000).to_string());
        let metadata_bytes = AtomicUsize::new(limits.metadata_bytes);
        let (publisher, thread) = Publisher::start(config, topics.with(limits), &ear)?;
        Ok(Link { options, limits, server, metadata_bytes, publisher, thread: Some(thread) })
    }

    /// What this server can do.
    pub(crate) fn capabilities(&self) -> Capabilities {
        self.limits.capabilities()
    }

    /// Which server it is.
    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    pub(crate) fn publisher(&self) -> &Arc<Publisher> {
        &self.publisher
    }

    /// How much the metadata of a commit may take.
    pub(crate) fn metadata_bytes(&self) -> usize {
        self.metadata_bytes.load(Ordering::Relaxed)
    }

    /// The server did not take a commit because of its metadata, of which there was no more than this: from now on all of
    /// it goes aside. Answers whether that can help.
    pub(crate) fn lower_metadata(&self, longest: usize) -> bool {
        let helps = longest > LONGEST_POINTER;
        if helps && self.metadata_bytes.swap(0, Ordering::Relaxed) > 0 {
            tracing::warn!(
                server = self.options.label(),
                longest,
                "the server takes less metadata than it is known to (offset.metadata.max.bytes): progress that has gaps goes \
                 to the topic beside the source"
            );
        }
        helps
    }

    /// Refuses what Kafka cannot do, before anything is sent.
    pub(crate) fn refuse<'a>(&self, events: impl Iterator<Item = &'a Outgoing>) -> Result<()> {
        let (limits, limit) = (&self.limits, self.limits.capabilities().max_event_bytes);
        for Outgoing { topic, envelope, not_before } in events {
            if not_before.is_some() {
                let detail = format!("event {} for {topic} is for later, and Kafka delivers at once", envelope.id);
                return Err(Error::new(Code::NeedNotMet, detail));
            }
            let size = envelope.size();
            if size > limit || wire::size(envelope) > limits.message_bytes {
                let detail = format!("event {} for {topic} has {size} bytes; the limit is {limit}", envelope.id);
                return Err(Error::new(Code::PayloadTooLarge, detail));
            }
        }
        Ok(())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let (publisher, thread) = (self.publisher.clone(), self.thread.take());
        publisher.end();
        // The client library ends its own threads, and blocks until they have.
        let ending = std::thread::Builder::new().name("commute-kafka-end".to_owned()).spawn(move || {
            if thread.is_some_and(|thread| thread.join().is_err()) {
                tracing::error!("the publisher's thread has panicked");
            }
            drop(publisher);
        });
        if let Err(cause) = ending {
            tracing::warn!(%cause, "cannot start a thread");
        }
    }
}
