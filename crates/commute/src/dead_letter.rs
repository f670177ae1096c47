//! Dead letters: what takes the place of an event that is given up, by the engine or by hand.

use commute_core::{
    Code, Context, DeadLetter, DeliveryTag, Emitted, Error, Outgoing, Result, Settlement, Topic, cloudevents,
};

use crate::publish::{Signer, caused};
use crate::reply;

/// Behind every ordinal of an answer, so that the id of a dead letter is the same however often it is written.
const ORDINAL: u32 = u32::MAX;

/// Acknowledges a delivery together with the dead letter that takes its place, and tells whoever asked.
///
/// A dead letter that would be too large for the broker, because it holds the event and more, is not written: the event is parked
/// on no lane, which keeps it and delays nobody.
///
/// # Errors
/// `InvalidEvent` when the dead letter cannot be encoded.
pub(crate) fn given_up(
    by: &Signer<'_>,
    tag: DeliveryTag,
    topic: &Topic,
    context: &Context,
    attempts: u32,
    code: Code,
    reason: String,
) -> Result<Settlement> {
    match letter(by, topic, context, attempts, code, reason.clone()) {
        Ok(publish) => Ok(Settlement::Ack { tag, publish, mark: by.given.inbox_retention.is_some() }),
        Err(error) if error.code() == Code::PayloadTooLarge => {
            tracing::warn!(by = %by.name, event = %context.envelope.id, "its dead letter would be too large; it is parked");
            let reason = Some(format!("{reason} ({code}); its dead letter would be too large"));
            Ok(Settlement::Park { tag, attempts, lanes: Vec::new(), reason })
        }
        Err(error) => Err(error),
    }
}

/// The dead letter of an event, and behind it what whoever asked is told.
///
/// # Errors
/// `PayloadTooLarge` when the broker would refuse it; `InvalidEvent` when it cannot be encoded.
pub(crate) fn letter(
    by: &Signer<'_>,
    topic: &Topic,
    context: &Context,
    attempts: u32,
    code: Code,
    reason: String,
) -> Result<Vec<Outgoing>> {
    let told = reply::given_up(by, context, attempts, code, &reason)?;
    let letter = DeadLetter {
        code: code.number().to_owned(),
        reason,
        attempts,
        subscription: context.route.subscription.to_string(),
        topic: context.route.topic.to_string(),
        event: cloudevents::to_json(&context.envelope),
    };
    let envelope = caused(context, None, ORDINAL, Emitted::encode(&letter)?, by.name, by.now)?;
    let (size, limit) = (envelope.size(), by.given.max_event_bytes);
    if size > limit {
        let detail = format!("a dead letter has {size} bytes; the limit is {limit}");
        return Err(Error::new(Code::PayloadTooLarge, detail));
    }
    let mut publish = vec![Outgoing { topic: topic.clone(), envelope, not_before: None }];
    publish.extend(told);
    Ok(publish)
}
