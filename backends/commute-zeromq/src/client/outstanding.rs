//! Outstanding requests: what was asked and is not answered, so that it can be asked again.

use commute_core::control::{Reply, Request};
use commute_core::{Code, Delivery, DeliveryTag, Envelope, Error, Outgoing, Parked, Receipt, Result, Settlement};
use std::sync::Arc;
use tokio::sync::oneshot;

use super::subscription::Open;
use crate::wire::{
    Aside, Attach, Control, Controlled, Count, Deliveries, Events, Kind, Message, OfSubscription, Opened, Payloads,
    Publish, Rest, SetAside, Settle, Settled, Stored, Subscribe, Tagged, Take, Unsubscribe,
};

/// Where an answer goes.
pub(crate) type To<T> = oneshot::Sender<Result<T>>;

/// What is asked.
pub(crate) enum Asked {
    /// What they weigh together is in `weight`.
    Publish {
        batches: Vec<(Vec<Outgoing>, To<Vec<Receipt>>)>,
        weight: Weight,
    },
    Subscribe {
        open: Arc<Open>,
        to: Option<To<()>>,
    },
    Unsubscribe {
        open: Arc<Open>,
        keep: bool,
    },
    Take {
        open: Arc<Open>,
        max: usize,
    },
    Settle {
        open: Arc<Open>,
        settlements: Vec<Settlement>,
        returns: bool,
        to: To<()>,
    },
    Read {
        open: Arc<Open>,
        tags: Vec<DeliveryTag>,
        to: To<Vec<Envelope>>,
    },
    Parked {
        open: Arc<Open>,
        to: To<Vec<Parked>>,
    },
    Unpark {
        open: Arc<Open>,
        tags: Vec<DeliveryTag>,
        to: To<Vec<Delivery>>,
    },
    Backlog {
        open: Arc<Open>,
        to: To<Option<u64>>,
    },
    Control {
        request: Request,
        to: To<Reply>,
    },
    Attach(Attach),
}

/// How many events, and about how many bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weight {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
}

/// How long the node waits before it answers a TAKE with nothing.
const WAIT_MS: u64 = 10_000;

impl Asked {
    /// As a message to the node.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub(crate) fn message(&self, number: u64) -> Result<Message> {
        let tags = |tags: &[DeliveryTag]| tags.iter().map(|tag| (*tag).into()).collect();
        match self {
            Asked::Publish { batches, .. } => {
                let all = batches.iter().flat_map(|(batch, _)| batch);
                let mut payloads = Payloads::of(all.map(|event| &event.envelope));
                let events = batches.iter().flat_map(|(batch, _)| batch).map(|event| payloads.sent(event)).collect();
                Message::with(Kind::Publish, number, &Publish { events }, payloads.finish())
            }
            Asked::Subscribe { open, .. } => {
                let (topic, group) = (open.spec.topic.to_string(), open.spec.group.to_string());
                Message::new(Kind::Subscribe, number, &Subscribe { topic, group, credit: open.spec.credit })
            }
            Asked::Unsubscribe { open, keep } => {
                Message::new(Kind::Unsubscribe, number, &Unsubscribe { subscription: open.number(), keep: *keep })
            }
            Asked::Take { open, max } => {
                let take = Take { subscription: open.number(), max: *max, wait_ms: WAIT_MS };
                Message::new(Kind::Take, number, &take)
            }
            Asked::Settle { open, settlements, .. } => {
                let mut payloads = Payloads::default();
                let settlements = settlements.iter().map(|settlement| payloads.ending(settlement)).collect();
                let settle = Settle { subscription: open.number(), settlements };
                Message::with(Kind::Settle, number, &settle, payloads.finish())
            }
            Asked::Read { open, tags: wanted, .. } => {
                Message::new(Kind::Read, number, &Tagged { subscription: open.number(), tags: tags(wanted) })
            }
            Asked::Unpark { open, tags: wanted, .. } => {
                Message::new(Kind::Unpark, number, &Tagged { subscription: open.number(), tags: tags(wanted) })
            }
            Asked::Parked { open, .. } => {
                Message::new(Kind::Parked, number, &OfSubscription { subscription: open.number() })
            }
            Asked::Backlog { open, .. } => {
                Message::new(Kind::Backlog, number, &OfSubscription { subscription: open.number() })
            }
            Asked::Control { request, .. } => {
                Message::new(Kind::Control, number, &Control { request: request.clone() })
            }
            Asked::Attach(attach) => Message::new(Kind::Attach, number, attach),
        }
    }

    /// Gives the reply to whoever asked. Whoever has stopped waiting does not want it.
    pub(crate) fn answer(self, reply: &Message) {
        if reply.kind == Kind::Refused {
            return self.fail(|| reply.error());
        }
        match self {
            Asked::Publish { batches, .. } => match reply.header::<Stored>() {
                Ok(stored) if stored.receipts.len() != batches.iter().map(|(batch, _)| batch.len()).sum::<usize>() => {
                    let wrong = || Error::new(Code::NotUnderstood, "as many receipts as events were due");
                    Asked::Publish { batches, weight: Weight::default() }.fail(wrong);
                }
                Ok(stored) => {
                    let mut receipts = stored.receipts.into_iter();
                    for (batch, to) in batches {
                        let _ = to.send(Ok(receipts.by_ref().take(batch.len()).collect()));
                    }
                }
                Err(error) => Asked::Publish { batches, weight: Weight::default() }
                    .fail(|| Error::new(error.code(), error.detail())),
            },
            Asked::Subscribe { open, to } => {
                let opened =
                    reply.header::<Opened>().map(|opened| open.opened(opened.subscription, opened.incarnation));
                if let Some(to) = to {
                    let _ = to.send(opened);
                }
            }
            Asked::Unsubscribe { .. } => {}
            // The link looks after them.
            Asked::Take { .. } => {}
            Asked::Settle { open, returns, to, .. } => {
                if returns {
                    open.returned();
                }
                let settled = reply.header::<Settled>().map(|settled| open.absorbed(settled.absorbed));
                let _ = to.send(settled);
            }
            Asked::Read { to, .. } => {
                let mut rest = Rest::of(reply);
                let read = reply.header::<Events>();
                let _ =
                    to.send(read.and_then(|read| read.events.into_iter().map(|event| rest.envelope(event)).collect()));
            }
            Asked::Parked { open, to } => {
                let aside = reply.header::<Aside>();
                let aside = aside
                    .and_then(|aside| aside.parked.into_iter().map(SetAside::parked).collect::<Result<Vec<Parked>>>());
                let _ = to.send(aside.inspect(|aside| open.saw(aside.iter().map(|parked| parked.tag))));
            }
            Asked::Unpark { open, to, .. } => {
                let back = deliveries(reply, &open);
                let _ = to.send(back.inspect(|back| open.saw(back.iter().map(|delivery| delivery.tag))));
            }
            Asked::Backlog { to, .. } => {
                let _ = to.send(reply.header::<Count>().map(|count| count.events));
            }
            Asked::Control { to, .. } => drop(to.send(reply.header::<Controlled>().map(|answered| answered.reply))),
            Asked::Attach(_) => {}
        }
    }

    /// Says an error to whoever asked.
    pub(crate) fn fail(self, error: impl Fn() -> Error) {
        match self {
            Asked::Publish { batches, .. } => batches.into_iter().for_each(|(_, to)| drop(to.send(Err(error())))),
            Asked::Subscribe { open, to } => {
                open.refused(error());
                drop(to.map(|to| to.send(Err(error()))));
            }
            Asked::Unsubscribe { .. } => {}
            Asked::Take { open, .. } => open.end(Err(error())),
            Asked::Settle { open, returns, to, .. } => {
                if returns {
                    open.returned();
                }
                let _ = to.send(Err(error()));
            }
            Asked::Read { to, .. } => drop(to.send(Err(error()))),
            Asked::Parked { to, .. } => drop(to.send(Err(error()))),
            Asked::Unpark { to, .. } => drop(to.send(Err(error()))),
            Asked::Backlog { to, .. } => drop(to.send(Err(error()))),
            Asked::Control { to, .. } => drop(to.send(Err(error()))),
            Asked::Attach(_) => tracing::warn!(error = %error(), "operators cannot reach the services of this process"),
        }
    }

    /// The node has forgotten the session. Answers what is still worth asking, of what is open now: a settlement speaks of
    /// deliveries that are nobody's any more, and a take of events that are given out anew.
    pub(crate) fn in_a_new_session(self) -> Option<Self> {
        match self {
            Asked::Take { .. } => None,
            Asked::Settle { to, .. } => {
                let _ = to.send(Ok(()));
                None
            }
            // Whoever asked waits for the subscription, which is opened again anyhow.
            Asked::Subscribe { open, to } => {
                open.wait_for(to);
                None
            }
            // The new session is told what is true then.
            Asked::Unsubscribe { .. } | Asked::Attach(_) => None,
            other => Some(other),
        }
    }

    /// The subscription that it speaks of.
    pub(crate) fn of(&self) -> Option<&Arc<Open>> {
        match self {
            Asked::Publish { .. } | Asked::Subscribe { .. } | Asked::Control { .. } | Asked::Attach(_) => None,
            Asked::Unsubscribe { open, .. }
            | Asked::Take { open, .. }
            | Asked::Settle { open, .. }
            | Asked::Read { open, .. }
            | Asked::Parked { open, .. }
            | Asked::Unpark { open, .. }
            | Asked::Backlog { open, .. } => Some(open),
        }
    }

    /// Whether it speaks of a subscription that has no name in this session yet.
    pub(crate) fn waits(&self) -> bool {
        self.of().is_some_and(|open| open.number() == 0)
    }

    /// Whether it gives up when the node is away for long.
    pub(crate) fn is_impatient(&self) -> bool {
        matches!(self, Asked::Publish { .. } | Asked::Control { .. } | Asked::Subscribe { to: Some(_), .. })
    }
}

/// The deliveries of a reply.
pub(crate) fn deliveries(reply: &Message, open: &Open) -> Result<Vec<Delivery>> {
    let mut rest = Rest::of(reply);
    let Deliveries { deliveries, absorbed } = reply.header()?;
    let taken = deliveries.into_iter().map(|delivered| rest.delivery(delivered)).collect::<Result<Vec<_>>>()?;
    open.absorbed(absorbed);
    Ok(taken)
}
