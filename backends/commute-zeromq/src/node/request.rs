//! Requests: what each asks of the broker, and how it is answered.

use std::time::Duration;

use commute_core::{BoxFuture, Broker, Code, Delivery, Error, Result, Settlement, SubscriptionSpec, Topic, control};

use super::session::{Done, Session, work};
use super::subscription::{Open, Want};
use crate::wire::{
    Aside, Control, Controlled, Count, Deliveries, Events, Kind, Message, OfSubscription, Opened, Payloads, Publish,
    Rest, SetAside, Settle, Settled, Stored, Subscribe, Tagged, Take, Unsubscribe,
};

/// Begins a request. What can be wrong with its frames is found here, before anything happens.
pub(super) fn begin(session: &mut Session, message: Message) -> Result<BoxFuture<'static, Done>> {
    let number = message.number;
    let broker = session.shared.broker.clone();
    let mut rest = Rest::of(&message);
    Ok(match message.kind {
        Kind::Publish => {
            let events = message.header::<Publish>()?.events;
            let batch = events.into_iter().map(|event| rest.outgoing(event)).collect::<Result<_>>()?;
            work(async move {
                let stored = broker.publish(batch).await.map(|receipts| Stored { receipts });
                reply(number, stored.and_then(|stored| Message::new(Kind::Stored, number, &stored)))
            })
        }
        Kind::Subscribe => subscribe(session, number, message.header()?)?,
        Kind::Unsubscribe => {
            let asked: Unsubscribe = message.header()?;
            let open = session.leave(asked.subscription, asked.keep)?;
            work(async move {
                if asked.keep {
                    open.leave().await
                } else {
                    open.end().await
                }
                Message::bare(Kind::Done, number).into()
            })
        }
        Kind::Take => {
            let asked: Take = message.header()?;
            let open = session.subscription(asked.subscription)?.clone();
            let wait = Duration::from_millis(asked.wait_ms).min(session.shared.options.longest_wait);
            // Half, because attributes travel beside the payloads and are larger as JSON.
            let want = Want { max: asked.max, bytes: session.shared.options.max_message_bytes / 2, wait };
            let present = session.present();
            work(async move {
                let taken = open.take(want, present).await;
                reply(number, taken.and_then(|taken| deliveries(number, &taken, open.settler.absorbed())))
            })
        }
        Kind::Settle => {
            let asked: Settle = message.header()?;
            let open = session.subscription(asked.subscription)?;
            let settlements: Vec<Settlement> =
                asked.settlements.into_iter().map(|ending| rest.settlement(ending)).collect::<Result<_>>()?;
            let (settling, settler) = (open.settle(settlements)?, open.settler.clone());
            work(async move {
                let settled = settling.await;
                let settled = settled.map(|()| Settled { absorbed: settler.absorbed() });
                reply(number, settled.and_then(|settled| Message::new(Kind::Settled, number, &settled)))
            })
        }
        Kind::Read => {
            let asked: Tagged = message.header()?;
            let settler = session.subscription(asked.subscription)?.settler.clone();
            work(async move {
                let tags: Vec<_> = asked.tags.into_iter().map(Into::into).collect();
                let read = settler.read(&tags).await.and_then(|envelopes| {
                    let mut payloads = Payloads::default();
                    let events = envelopes.iter().map(|envelope| payloads.plain(envelope)).collect();
                    Message::with(Kind::Events, number, &Events { events }, payloads.finish())
                });
                reply(number, read)
            })
        }
        Kind::Parked => {
            let asked: OfSubscription = message.header()?;
            let open = session.subscription(asked.subscription)?.clone();
            work(async move {
                let parked = open.settler.parked().await.and_then(|parked| {
                    open.show(parked.iter().map(|parked| parked.tag));
                    let parked = parked.iter().map(SetAside::of).collect();
                    Message::new(Kind::Aside, number, &Aside { parked })
                });
                reply(number, parked)
            })
        }
        Kind::Unpark => {
            let asked: Tagged = message.header()?;
            let open = session.subscription(asked.subscription)?.clone();
            work(async move {
                let back = open.settler.unpark(asked.tags.into_iter().map(Into::into).collect()).await;
                let back = back.and_then(|back| {
                    open.hold(back.iter().map(|delivery| delivery.tag));
                    deliveries(number, &back, open.settler.absorbed())
                });
                reply(number, back)
            })
        }
        Kind::Backlog => {
            let asked: OfSubscription = message.header()?;
            let settler = session.subscription(asked.subscription)?.settler.clone();
            work(async move {
                let count = settler.backlog().await.map(|events| Count { events });
                reply(number, count.and_then(|count| Message::new(Kind::Count, number, &count)))
            })
        }
        Kind::Control => {
            let Control { request } = message.header()?;
            work(async move {
                let answered = Controlled { reply: control::answer(&*broker, request).await };
                reply(number, Message::new(Kind::Controlled, number, &answered))
            })
        }
        Kind::Attach => {
            session.operators.attach(&*broker, message.header()?)?;
            work(std::future::ready(Message::bare(Kind::Done, number).into()))
        }
        other => return Err(Error::new(Code::NotUnderstood, format!("{other:?} is nothing that a client asks"))),
    })
}

fn reply(number: u64, made: Result<Message>) -> Done {
    made.unwrap_or_else(|error| Message::refused(number, &error)).into()
}

fn deliveries(number: u64, taken: &[Delivery], absorbed: u64) -> Result<Message> {
    let mut payloads = Payloads::of(taken.iter().map(|delivery| &*delivery.envelope));
    let deliveries = taken.iter().map(|delivery| payloads.delivered(delivery)).collect();
    Message::with(Kind::Deliveries, number, &Deliveries { deliveries, absorbed }, payloads.finish())
}

fn subscribe(session: &mut Session, number: u64, asked: Subscribe) -> Result<BoxFuture<'static, Done>> {
    let spec = SubscriptionSpec::new(Topic::new(&asked.topic)?, asked.group)
        .credit(asked.credit.max(1))
        .lease(session.shared.options.lease);
    let subscription = session.next_subscription()?;
    let broker = session.shared.broker.clone();
    Ok(work(async move {
        match open(&*broker, spec).await {
            Ok((open, incarnation)) => {
                let made = Message::new(Kind::Subscribed, number, &Opened { subscription, incarnation });
                Done { open: Some((subscription, open)), ..reply(number, made) }
            }
            Err(error) => Message::refused(number, &error).into(),
        }
    }))
}

/// Opens a subscription. Answers its incarnation, too, when something is parked under it: whoever opens it again needs that to
/// know what is parked.
async fn open(broker: &dyn Broker, spec: SubscriptionSpec) -> Result<(Open, Option<u32>)> {
    let open = Open::new(broker.subscribe(spec).await?);
    let first = open.settler.parked().await?.first().map(|parked| parked.tag);
    open.show(first);
    Ok((open, first.map(|tag| tag.incarnation)))
}
