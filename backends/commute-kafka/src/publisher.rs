//! The publisher: one line of batches, sent in the order in which they came.
//!
//! A batch that finds the line empty and its topics known is sent at once by whoever brings it; others wait for the
//! thread, which creates topics and waits for room. What was brought is sent, whether or not anybody still waits for it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use commute_core::{Code, Error, Outgoing, Receipt, Result};
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use tokio::sync::oneshot;

use crate::client::{ANSWER, Ear, moment};
use crate::error::failed;
use crate::reports::{Batch, Flight, Known, Reports, Ticket, unstored};
use crate::topics::Topics;
use crate::wire;

/// Whoever waits for an answer.
pub(crate) type Reply<T> = oneshot::Sender<Result<T>>;

/// What is sent at once by whoever brings it: more would hold up the tasks beside it.
const AT_ONCE: usize = 64;
const AT_ONCE_BYTES: usize = 256 << 10;

/// An answer that comes when the last record of a batch is stored, or is not.
pub(crate) type Answer = oneshot::Receiver<Result<Vec<Receipt>>>;

/// Something to send.
pub(crate) enum Item {
    /// An event, to whichever partition its key says.
    Event(Outgoing),
    /// A record in a place of ours, whose topic exists.
    Note { topic: Arc<str>, partition: i32, key: String, value: Option<Bytes>, headers: Option<OwnedHeaders> },
}

impl Item {
    fn size(&self) -> usize {
        match self {
            Item::Event(event) => wire::size(&event.envelope),
            Item::Note { key, value, .. } => key.len() + value.as_ref().map_or(0, Bytes::len) + 256,
        }
    }

    /// The topic that has to exist first.
    fn topic(&self) -> Option<&str> {
        match self {
            Item::Event(event) => Some(event.topic.as_str()),
            Item::Note { .. } => None,
        }
    }
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<(Vec<Item>, Reply<Vec<Receipt>>)>,
    /// The thread is at work on one.
    busy: bool,
    ended: bool,
}

/// Sends.
pub(crate) struct Publisher {
    producer: ThreadedProducer<Reports>,
    pub(crate) topics: Topics,
    flight: Arc<Flight>,
    /// Topics that are there.
    known: Known,
    line: Mutex<Line>,
    turned: Condvar,
}

impl Publisher {
    pub(crate) fn start(mut config: ClientConfig, topics: Topics, ear: &Ear) -> Result<(Arc<Self>, JoinHandle<()>)> {
        let flight = Arc::new(Flight::default());
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // A server that has only just heard of a partition may refuse the first request to it and take the second, which was
            // on its way, too: it does not know where the numbers begin (KAFKA-15591). The library then takes the first for stored.
            .set("max.in.flight.requests.per.connection", "1")
            .set("partitioner", "murmur2_random")
            .set("message.timeout.ms", "60000")
            .set("queue.buffering.max.messages", "1000000");
        let known = Known::default();
        let reports = Reports { ear: ear.clone(), flight: flight.clone(), known: known.clone() };
        let producer = config.create_with_context(reports);
        let producer = producer.map_err(|cause| failed("the client library does not take the settings", cause))?;
        let (line, turned) = (Mutex::default(), Condvar::new());
        let publisher = Arc::new(Publisher { producer, topics, flight, known, line, turned });
        let for_thread = publisher.clone();
        let thread = std::thread::Builder::new().name("commute-kafka-publish".to_owned());
        let thread = thread.spawn(move || for_thread.run());
        let thread = thread.map_err(|cause| Error::new(Code::Io, "cannot start a thread").caused_by(cause))?;
        Ok((publisher, thread))
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a batch in; its place in the order is taken when this returns.
    pub(crate) fn send(&self, items: Vec<Item>) -> Answer {
        let (reply, answer) = oneshot::channel();
        if items.is_empty() {
            let _ = reply.send(Ok(Vec::new()));
            return answer;
        }
        let mut line = self.line();
        let at_once = line.waiting.is_empty()
            && !line.busy
            && items.len() <= AT_ONCE
            && items.iter().all(|item| item.topic().is_none_or(|topic| self.knows(topic)))
            && self.flight.has_room(items.iter().map(Item::size).sum(), AT_ONCE_BYTES);
        if !at_once {
            line.waiting.push_back((items, reply));
            self.turned.notify_all();
            return answer;
        }
        let batch = Batch::new(items.len(), reply);
        for (n, item) in items.iter().enumerate() {
            self.flight.enter(item.size());
            self.produce(&batch, n, item);
        }
        answer
    }

    fn run(&self) {
        loop {
            let (items, reply) = {
                let mut line = self.line();
                loop {
                    if let Some(next) = line.waiting.pop_front() {
                        line.busy = true;
                        break next;
                    }
                    line.busy = false;
                    self.turned.notify_all();
                    if line.ended {
                        return;
                    }
                    line = self.turned.wait(line).unwrap_or_else(PoisonError::into_inner);
                }
            };
            if let Err(error) = self.ensure(&items) {
                let _ = reply.send(Err(error));
                continue;
            }
            let batch = Batch::new(items.len(), reply);
            for (n, item) in items.iter().enumerate() {
                self.flight.enter(item.size());
                self.produce(&batch, n, item);
            }
        }
    }

    fn ensure(&self, items: &[Item]) -> Result<()> {
        for topic in items.iter().filter_map(Item::topic) {
            if !self.knows(topic) {
                self.topics.ensure(topic)?;
                self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(topic.to_owned());
            }
        }
        Ok(())
    }

    /// Has the producer ask about a topic: it refuses partitions that were added since it asked last. Blocks.
    pub(crate) fn look_again(&self, topic: &str) -> Result<()> {
        let asked = self.producer.client().fetch_metadata(Some(topic), ANSWER);
        asked.map(drop).map_err(|cause| failed(format!("cannot ask about topic {topic}"), cause))
    }

    fn knows(&self, topic: &str) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(topic)
    }

    /// Hands a record to the library, which never blocks.
    fn produce(&self, batch: &Arc<Batch>, n: usize, item: &Item) {
        let bytes = item.size();
        let ticket = Box::new(Ticket { batch: batch.clone(), n, bytes });
        let mut record = match item {
            Item::Event(Outgoing { topic, envelope, .. }) => {
                let mut record = BaseRecord::with_opaque_to(topic.as_str(), ticket).payload(&envelope.data[..]);
                record.key = envelope.partition_key().map(str::as_bytes);
                record.headers(wire::headers(envelope))
            }
            Item::Note { topic, partition, key, value, headers } => {
                let mut record = BaseRecord::with_opaque_to(topic, ticket).partition(*partition).key(key.as_bytes());
                record.payload = value.as_ref().map(|value| &value[..]);
                record.headers = headers.clone();
                record
            }
        };
        loop {
            match self.producer.send(record) {
                Ok(()) => return,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    moment();
                }
                Err((cause, back)) => {
                    self.flight.leave(bytes);
                    let what = format!("{} cannot take an event in", back.topic);
                    back.delivery_opaque.batch.count(n, Err(unstored(what, cause)));
                    return;
                }
            }
        }
    }

    /// Waits until everything that was brought is stored. Blocks.
    pub(crate) fn flush(&self, patience: Duration) -> Result<()> {
        let line = self.line();
        let busy = |line: &mut Line| line.busy || !line.waiting.is_empty();
        let waited = self.turned.wait_timeout_while(line, patience, busy);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        let unsent = |cause| failed("not everything that was published could be sent", cause);
        self.producer.flush(patience).map_err(unsent)
    }

    /// Ends the thread when the line is empty.
    pub(crate) fn end(&self) {
        self.line().ended = true;
        self.turned.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::Message;
    use rdkafka::consumer::{BaseConsumer, Consumer};
    use rdkafka::mocking::MockCluster;
    use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

    use super::*;
    use crate::options::Options;

    #[test]
    fn nothing_is_lost_when_a_new_partition_refuses_the_first_request_and_takes_those_behind_it() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("new", 1, 1).unwrap();
        let url = format!("kafka://{}", cluster.bootstrap_servers());
        let options = Options::from_address(commute_core::Address::parse(&url).unwrap()).unwrap();
        let ear = Ear::default();
        let topics = Topics::new(&options, &ear).unwrap();
        // A request for each record.
        let mut config = options.client();
        config.set("batch.num.messages", "1").set("linger.ms", "0");
        let (publisher, thread) = Publisher::start(config, topics, &ear).unwrap();
        publisher.look_again("new").unwrap();
        // The answer to the first takes a while, so that the others could be on their way behind it.
        cluster.broker_round_trip_time(1, Duration::from_millis(50)).unwrap();
        let unknown = RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
        cluster.request_errors(RDKafkaApiKey::Produce, &[unknown]);
        let note = |n: usize| Item::Note {
            topic: "new".into(),
            partition: 0,
            key: n.to_string(),
            value: Some(Bytes::from_static(b"value")),
            headers: None,
        };
        let answers: Vec<_> = (0..3).map(|n| publisher.send(vec![note(n)])).collect();
        let stored: Vec<_> = answers.into_iter().map(|answer| answer.blocking_recv().unwrap().unwrap()).collect();
        let positions: Vec<_> = stored.iter().map(|receipts| receipts[0].position).collect();
        assert_eq!(positions, [Some(0), Some(1), Some(2)]);
        let reader: BaseConsumer = options.client().set("group.id", "reader").create().unwrap();
        let mut places = TopicPartitionList::new();
        places.add_partition_offset("new", 0, Offset::Beginning).unwrap();
        reader.assign(&places).unwrap();
        for n in 0..3 {
            let record = reader.poll(ANSWER).expect("it is stored").unwrap();
            assert_eq!(record.key(), Some(n.to_string().as_bytes()));
        }
        publisher.end();
        thread.join().unwrap();
    }
}
