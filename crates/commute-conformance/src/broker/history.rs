//! History: random operations on one subscription, against a model so simple that it is obviously right.
//!
//! After every step the broker must have done what the model says: what is delivered next is the lowest that is ready,
//! with the attempt that was counted, and what is parked is parked in its order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use commute_core::{Code, Delivery, DeliveryTag, Envelope, Lane, Mode, Outgoing, Settlement, Timestamp};

use crate::fixture::Ending;
use crate::trial::{Reader, Trial, ack, event, number, to};

const STEPS: usize = 300;

pub(super) async fn a_random_history_agrees_with_an_obvious_model(trial: Trial) {
    History::new(trial, true).await.run().await;
}

pub(super) async fn a_random_history_without_restarts_agrees_with_an_obvious_model(trial: Trial) {
    History::new(trial, false).await.run().await;
}

/// What the model knows of a subscription. Events are numbered in the order of the topic.
#[derive(Default)]
struct Model {
    events: Vec<Envelope>,
    /// In nobody's hands.
    ready: BTreeSet<u64>,
    /// In ours, taken by receiving.
    received: BTreeMap<u64, DeliveryTag>,
    /// In ours, taken back from where they were parked.
    unparked: BTreeMap<u64, DeliveryTag>,
    deferred: BTreeMap<u64, (u32, Timestamp)>,
    parked: Vec<(u64, u32, Option<String>)>,
    acked: BTreeSet<u64>,
}

struct History {
    trial: Trial,
    random: fastrand::Rng,
    restarts: bool,
    topic: commute_core::Topic,
    credit: usize,
    reader: Option<Reader>,
    model: Model,
    /// Tags that are over.
    old: Vec<DeliveryTag>,
    /// What was done to each event, for whoever has to understand a failure.
    told: BTreeMap<u64, Vec<String>>,
    step: usize,
}

impl History {
    async fn new(trial: Trial, restarts: bool) -> Self {
        let mut random = trial.random();
        let (topic, credit) = (trial.topic("history"), random.usize(1..30));
        let reader = Some(trial.open_with_credit(&topic, "group", credit).await);
        History {
            trial,
            random,
            restarts,
            topic,
            credit,
            reader,
            model: Model::default(),
            old: Vec::new(),
            told: BTreeMap::new(),
            step: 0,
        }
    }

    fn reader(&mut self) -> &mut Reader {
        self.reader.as_mut().expect("it is open")
    }

    /// Opens the subscription, after letting go of it.
    async fn open(&mut self, credit: usize) {
        self.reader = None;
        self.reader = Some(self.trial.open_with_credit(&self.topic, "group", credit).await);
    }

    async fn run(mut self) {
        for step in 0..STEPS {
            self.step = step;
            match self.random.u8(..100) {
                0..20 => self.publish().await,
                20..45 => self.receive().await,
                45..70 => self.settle().await,
                70..78 => self.unpark().await,
                78..82 => self.settle_what_is_over().await,
                82..86 => self.publish_again().await,
                86..92 => drop(self.list_parked().await),
                92..96 => self.reopen().await,
                _ if self.restarts => self.restart().await,
                _ => self.read().await,
            }
        }
        self.finish().await;
    }

    async fn publish(&mut self) {
        let events = self.new_events();
        self.trial.publish(&self.topic, events).await;
    }

    fn new_events(&mut self) -> Vec<Envelope> {
        let first = self.model.events.len() as u64;
        let events: Vec<_> = (first..first + self.random.u64(1..8)).map(event).collect();
        self.model.ready.extend(first..first + events.len() as u64);
        self.model.events.extend(events.iter().cloned());
        events
    }

    /// Publishes what the topic has already.
    async fn publish_again(&mut self) {
        let window = self.trial.broker().capabilities().dedup_window;
        if self.model.events.is_empty() || window.is_none() {
            return;
        }
        let known = self.random.usize(..self.model.events.len());
        let receipts = self.trial.publish(&self.topic, [self.model.events[known].clone()]).await;
        assert!(receipts[0].duplicate, "event {known} was there already");
    }

    async fn receive(&mut self) {
        let max = self.random.usize(1..12);
        // What was taken back was not received, so it takes no credit; a broker that counts it all the same may wait.
        let may_wait = self.model.received.len() + self.model.unparked.len() >= self.credit;
        let taken = if self.model.ready.is_empty() || may_wait {
            self.reader().quietly(max).await
        } else {
            self.reader().receive(max).await
        };
        let room = self.credit - self.model.received.len();
        assert!(taken.len() <= room.min(max), "{} deliveries with credit for {room}, asked for {max}", taken.len());
        for delivery in taken {
            let (n, expected) = (number(&delivery.envelope), self.model.ready.pop_first());
            self.tell(n, format_args!("received as attempt {}", delivery.attempt));
            assert_eq!(
                Some(n),
                expected,
                "the next event, at step {}\n {n}: {:?}\n {expected:?}: {:?}",
                self.step,
                self.told.get(&n),
                expected.and_then(|expected| self.told.get(&expected)),
            );
            self.check(&delivery);
            self.model.received.insert(number(&delivery.envelope), delivery.tag);
        }
    }

    fn tell(&mut self, n: u64, what: impl std::fmt::Display) {
        self.told.entry(n).or_default().push(format!("{}: {what}", self.step));
    }

    fn check(&self, delivery: &Delivery) {
        let n = number(&delivery.envelope);
        let deferred = self.model.deferred.get(&n);
        assert_eq!(*delivery.envelope, self.model.events[n as usize]);
        assert_eq!(delivery.attempt, deferred.map_or(1, |(attempts, _)| attempts + 1), "the attempt of event {n}");
        if let Some((_, not_before)) = deferred {
            assert_eq!(delivery.not_before, Some(*not_before), "the back-off of event {n}");
        }
    }

    /// Settles some of what we hold, in one call.
    async fn settle(&mut self) {
        let mut held: Vec<_> = self.held();
        self.random.shuffle(&mut held);
        held.truncate(self.random.usize(..6));
        let mut settlements = Vec::new();
        for (n, tag) in held {
            settlements.push(match self.random.u8(..10) {
                0..5 => {
                    self.tell(n, "acked");
                    let publish: Vec<Outgoing> = match self.random.u8(..4) {
                        0 => self.new_events().into_iter().map(|event| to(&self.topic, event)).collect(),
                        _ => Vec::new(),
                    };
                    self.model.acked.insert(n);
                    self.model.deferred.remove(&n);
                    self.release(n);
                    Settlement::Ack { tag, publish, mark: self.random.bool() }
                }
                5..7 => {
                    let attempts = self.random.u32(1..10);
                    let not_before = self.trial.now().plus(Duration::from_micros(self.random.u64(..10_000_000)));
                    self.tell(n, "deferred");
                    self.model.deferred.insert(n, (attempts, not_before));
                    Settlement::Defer { tag, attempts, not_before }
                }
                7..9 => {
                    let attempts = self.random.u32(0..10);
                    let reason = self.random.bool().then(|| format!("reason {n}"));
                    self.tell(n, "parked");
                    self.model.parked.push((n, attempts, reason.clone()));
                    self.model.deferred.remove(&n);
                    self.release(n);
                    Settlement::Park { tag, attempts, lanes: vec![(Lane(n), Mode::Exclusive)], reason }
                }
                _ => {
                    self.tell(n, "returned");
                    self.release(n);
                    self.model.ready.insert(n);
                    Settlement::Return { tag }
                }
            });
        }
        self.reader().settle(settlements).await;
    }

    fn held(&self) -> Vec<(u64, DeliveryTag)> {
        self.model.received.iter().chain(&self.model.unparked).map(|(n, tag)| (*n, *tag)).collect()
    }

    fn release(&mut self, n: u64) {
        self.model.received.remove(&n);
        self.model.unparked.remove(&n);
    }

    /// Acks with tags of older openings, which must change nothing.
    async fn settle_what_is_over(&mut self) {
        let some = self.old.iter().filter(|_| self.random.bool()).map(|tag| ack(*tag)).collect();
        self.reader().settle(some).await;
    }

    async fn list_parked(&mut self) -> Vec<DeliveryTag> {
        let settler = self.reader().settler.clone();
        let parked = self.trial.within("what is parked", settler.parked()).await.expect("listing works");
        let tags: Vec<_> = parked.iter().map(|parked| parked.tag).collect();
        let read = self.trial.within("payloads", settler.read(&tags)).await.expect("reading works");
        let found: Vec<_> = parked
            .iter()
            .zip(&read)
            .map(|(parked, envelope)| {
                let n = number(envelope);
                assert_eq!(parked.lanes, [(Lane(n), Mode::Exclusive)], "the lanes of event {n}");
                (n, parked.attempts, parked.reason.clone())
            })
            .collect();
        assert_eq!(found, self.model.parked, "what is parked");
        tags
    }

    async fn unpark(&mut self) {
        let tags = self.list_parked().await;
        if tags.is_empty() {
            return;
        }
        let settler = self.reader().settler.clone();
        let mut chosen: Vec<_> = (0..tags.len()).collect();
        self.random.shuffle(&mut chosen);
        chosen.truncate(self.random.usize(1..=tags.len()));
        let mut asked: Vec<_> = chosen.iter().map(|n| tags[*n]).collect();
        // Now and then one that is in flight is among them, and then nothing happens.
        let wrong = self.held().first().copied().filter(|_| self.random.u8(..4) == 0);
        if let Some((_, tag)) = wrong {
            asked.push(tag);
            let refused = self.trial.within("unparking", settler.unpark(asked)).await;
            assert_eq!(refused.expect_err("one is not parked").code(), Code::NotParked);
            return;
        }
        let back = self.trial.within("unparking", settler.unpark(asked)).await.expect("unparking works");
        let expected: Vec<_> = chosen.iter().map(|n| self.model.parked[*n].0).collect();
        assert_eq!(crate::trial::numbers(&back), expected, "what was taken back");
        for delivery in back {
            self.tell(number(&delivery.envelope), "unparked");
            self.check(&delivery);
            self.model.unparked.insert(number(&delivery.envelope), delivery.tag);
        }
        self.model.parked.retain(|(n, ..)| !expected.contains(n));
    }

    async fn read(&mut self) {
        let settler = self.reader().settler.clone();
        let (numbers, tags): (Vec<_>, Vec<_>) = self.held().into_iter().unzip();
        let read = self.trial.within("payloads", settler.read(&tags)).await.expect("reading works");
        assert_eq!(read.iter().map(number).collect::<Vec<_>>(), numbers, "payloads");
    }

    /// Opens the subscription anew, on the same connection.
    async fn reopen(&mut self) {
        for n in self.held().into_iter().map(|(n, _)| n) {
            self.tell(n, "let go");
        }
        self.let_go();
        self.open(self.credit).await;
    }

    async fn restart(&mut self) {
        self.let_go();
        let ending = if self.random.bool() { Ending::Close } else { Ending::Kill };
        for n in 0..self.model.events.len() as u64 {
            self.tell(n, format_args!("{ending:?}"));
        }
        self.trial.restart(ending).await;
        self.open(self.credit).await;
    }

    /// What was in our hands is in nobody's, and its tags are old.
    fn let_go(&mut self) {
        let held = self.held();
        self.model.ready.extend(held.iter().map(|(n, _)| n));
        self.old.extend(held.iter().map(|(_, tag)| tag));
        self.model.received.clear();
        self.model.unparked.clear();
    }

    /// Takes and acks everything, and finds each event once.
    async fn finish(mut self) {
        loop {
            let held = self.held();
            self.reader().settle(held.iter().map(|(_, tag)| ack(*tag)).collect()).await;
            for (n, _) in held {
                self.release(n);
                self.model.acked.insert(n);
            }
            if self.model.ready.is_empty() {
                break;
            }
            self.receive().await;
        }
        let tags = self.list_parked().await;
        assert_eq!(self.model.acked.len() + tags.len(), self.model.events.len(), "every event is acked or parked");
        self.open(1_000).await;
        assert!(self.reader().quietly(100).await.is_empty(), "nothing is left");
    }
}
