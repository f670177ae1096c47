//! Replies: an event that says where to (`replyto`) is answered with what became of it, in the step that settles it.
//!
//! | What happened | When the result is published |
//! |---|---|
//! | handled, or ignored | with the acknowledgement; of a transactional handler in its transaction |
//! | a dead letter | with the dead letter |
//! | parked | behind it: parking publishes nothing. A crash in between leaves the requester at "not yet" |

use commute_core::{Code, Context, Emitted, Envelope, Error, EventId, Outgoing, Result, Topic, extension};

use crate::publish::{Signer, caused};
use crate::results::{Answered, HandledResult, ResultOutcome};

/// What a topic must end with to be replied to: an event can make a service publish, but not just anywhere.
pub(crate) const SUFFIX: &str = ".results";

/// The ordinal of the last word, behind those of answers; `u32::MAX` is the dead letter.
const FINAL: u32 = u32::MAX - 1;

/// The ordinal of the word before the last one: a parked event that is released is answered again.
const PARKED: u32 = u32::MAX - 2;

/// Where the event asks for its result; nowhere when what it says is no topic for results.
pub(crate) fn reply_to(envelope: &Envelope) -> Option<Topic> {
    let asked = envelope.extensions.get(extension::REPLY_TO)?;
    let topic = asked.ends_with(SUFFIX).then(|| Topic::new(asked).ok()).flatten();
    if topic.is_none() {
        tracing::debug!(event = %envelope.id, asked, "not a topic of results; nobody is told what becomes of the event");
    }
    topic
}

/// The result of an event that is being handled, for whoever asked.
pub(crate) struct Reply {
    to: Topic,
    answers: Vec<Answered>,
}

impl Reply {
    /// `None` when nobody asked.
    pub(crate) fn asked(cause: &Context) -> Option<Self> {
        reply_to(&cause.envelope).map(|to| Reply { to, answers: Vec::new() })
    }

    /// Keeps what was answered.
    pub(crate) fn add(&mut self, cause: &Context, ordinal: u32, event: &Emitted, topic: Option<&Topic>) {
        self.answers.push(Answered {
            id: cause.envelope.id.derive(&cause.route.subscription, ordinal),
            topic: topic.map(Topic::to_string),
            event_type: event.event_type.to_owned(),
            version: event.version,
            data: serde_json::from_slice(&event.data).ok(),
        });
    }

    /// The result of an event that was handled. When it is too large, answers that can be read elsewhere are only named.
    ///
    /// # Errors
    /// `PayloadTooLarge` when it is still too large.
    pub(crate) fn done(mut self, by: &Signer<'_>, cause: &Context) -> Result<Outgoing> {
        let outcome = |answers| ResultOutcome::Done { answers };
        let whole = tell(by, cause, &self.to, FINAL, cause.attempt, outcome(self.answers.clone()))?;
        let limit = by.given.max_event_bytes;
        if whole.envelope.size() <= limit {
            return Ok(whole);
        }
        for answer in self.answers.iter_mut().filter(|answer| answer.topic.is_some()) {
            answer.data = None;
        }
        let named = tell(by, cause, &self.to, FINAL, cause.attempt, outcome(self.answers))?;
        if named.envelope.size() > limit {
            let detail = format!("the result of event {} is larger than {limit} bytes", cause.envelope.id);
            return Err(Error::new(Code::PayloadTooLarge, detail));
        }
        Ok(named)
    }
}

/// The result of an event that becomes a dead letter.
pub(crate) fn given_up(
    by: &Signer<'_>,
    cause: &Context,
    attempts: u32,
    code: Code,
    reason: &str,
) -> Result<Option<Outgoing>> {
    let outcome = || ResultOutcome::DeadLetter { code: code.number().to_owned(), reason: reason.to_owned() };
    asked(by, cause, FINAL, attempts, outcome)
}

/// The result of an event that is parked, until it is released.
pub(crate) fn parked(
    by: &Signer<'_>,
    cause: &Context,
    attempts: u32,
    code: Code,
    reason: &str,
) -> Result<Option<Outgoing>> {
    let outcome = || ResultOutcome::Parked { code: code.number().to_owned(), reason: reason.to_owned() };
    asked(by, cause, PARKED, attempts, outcome)
}

/// The result of an event that no handler of the subscription takes.
pub(crate) fn ignored(by: &Signer<'_>, cause: &Context) -> Result<Option<Outgoing>> {
    asked(by, cause, FINAL, 0, || ResultOutcome::Ignored)
}

fn asked(
    by: &Signer<'_>,
    cause: &Context,
    ordinal: u32,
    attempts: u32,
    outcome: impl FnOnce() -> ResultOutcome,
) -> Result<Option<Outgoing>> {
    let Some(to) = reply_to(&cause.envelope) else { return Ok(None) };
    tell(by, cause, &to, ordinal, attempts, outcome()).map(Some)
}

fn tell(
    by: &Signer<'_>,
    cause: &Context,
    to: &Topic,
    ordinal: u32,
    attempts: u32,
    outcome: ResultOutcome,
) -> Result<Outgoing> {
    let event = &cause.envelope;
    // A redriven event has an id of its own, and its request's correlation id.
    let request = event.extensions.get(extension::CORRELATION_ID).and_then(|id| EventId::new(id).ok());
    let result = HandledResult {
        request: request.unwrap_or_else(|| event.id.clone()),
        event: event.id.clone(),
        topic: cause.route.topic.to_string(),
        subscription: cause.route.subscription.to_string(),
        attempts,
        outcome,
    };
    let envelope = caused(cause, None, ordinal, Emitted::encode(&result)?, by.name, by.now)?;
    Ok(Outgoing { topic: to.clone(), envelope, not_before: None })
}
