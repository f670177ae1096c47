//! Requests: what each asks of the broker, and how it is answered.

use std::time::Duration;

use commute_core::{BoxFuture, Code, Error, Result, Settlement, SubscriptionSpec, Topic, control};

use super::session::{Done, Session, work};
use super::subscription::Open;
use crate::wire::{
    Aside, Control, Controlled, Count, Deliveries, Events, Kind, Message, OfSubscription, Payloads, Publish, Rest,
    SetAside, Settle, Stored, Subscribe, Tagged, Take,
};

/// The longest that a TAKE waits; the client asks again.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

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
            let asked: OfSubscription = message.header()?;
            session.subscription(asked.subscription)?;
            drop(session.open.remove(&asked.subscription));
            work(std::future::ready(Message::bare(Kind::Done, number).into()))
        }
        Kind::Take => {
            let asked: Take = message.header()?;
            let open = session.subscription(asked.subscription)?.clone();
            let wait = Duration::from_millis(asked.wait_ms).min(LONGEST_WAIT);
            // Half, because attributes travel beside the payloads and are larger as JSON.
            let bytes = session.shared.options.max_message_bytes / 2;
            work(async move {
                let taken = open.take(asked.max, bytes, wait).await;
                reply(number, taken.and_then(|taken| deliveries(number, &taken)))
            })
        }
        Kind::Settle => {
            let asked: Settle = message.header()?;
            let settler = session.subscription(asked.subscription)?.settler.clone();
            let settlements: Vec<Settlement> =
                asked.settlements.into_iter().map(|ending| rest.settlement(ending)).collect::<Result<_>>()?;
            work(async move {
                let settled = settler.settle(settlements).await;
                reply(number, settled.map(|()| Message::bare(Kind::Done, number)))
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
            let settler = session.subscription(asked.subscription)?.settler.clone();
            work(async move {
                let parked = settler.parked().await.map(|parked| parked.iter().map(SetAside::of).collect());
                reply(number, parked.and_then(|parked| Message::new(Kind::Aside, number, &Aside { parked })))
            })
        }
        Kind::Unpark => {
            let asked: Tagged = message.header()?;
            let settler = session.subscription(asked.subscription)?.settler.clone();
            work(async move {
                let back = settler.unpark(asked.tags.into_iter().map(Into::into).collect()).await;
                reply(number, back.and_then(|back| deliveries(number, &back)))
            })
        }
        Kind::Backlog => {
            let asked: OfSubscription = message.header()?;
            let settler = session.subscription(asked.subscription)?.settler.clone();
            work(async move {
                let asked = settler.backlog().await;
                let count = asked.map(|events| Count { events, absorbed: settler.absorbed() });
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
        other => return Err(Error::new(Code::ProtocolMismatch, format!("{other:?} is nothing that a client asks"))),
    })
}

fn reply(number: u64, made: Result<Message>) -> Done {
    made.unwrap_or_else(|error| Message::refused(number, &error)).into()
}

fn deliveries(number: u64, taken: &[commute_core::Delivery]) -> Result<Message> {
    let mut payloads = Payloads::default();
    let deliveries = taken.iter().map(|delivery| payloads.delivered(delivery)).collect();
    Message::with(Kind::Deliveries, number, &Deliveries { deliveries }, payloads.finish())
}

fn subscribe(session: &mut Session, number: u64, asked: Subscribe) -> Result<BoxFuture<'static, Done>> {
    let spec = SubscriptionSpec::new(Topic::new(&asked.topic)?, asked.group)
        .credit(asked.credit.max(1))
        .lease(session.shared.options.lease);
    session.opened = session.opened.wrapping_add(1);
    let subscription = session.opened;
    let broker = session.shared.broker.clone();
    Ok(work(async move {
        match broker.subscribe(spec).await {
            Ok(opened) => {
                let made = Message::new(Kind::Subscribed, number, &OfSubscription { subscription });
                Done { open: Some((subscription, Open::new(opened))), ..reply(number, made) }
            }
            Err(error) => Message::refused(number, &error).into(),
        }
    }))
}
