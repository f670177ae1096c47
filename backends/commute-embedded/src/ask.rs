//! Asking the writer: what is too large is refused before, and the answer is waited for.

use commute_core::{Code, Error, Outgoing, Result};
use tokio::sync::oneshot;

use crate::options::Options;
use crate::writer::Shared;
use crate::writer::command::{Command, Reply};

/// So that the length of a group always fits into its 32 bits.
const MAX_SETTLE_BYTES: usize = 1 << 30;

/// Hands a command to the writer, at the first poll, and waits for the answer.
pub(crate) async fn ask<T>(shared: &Shared, command: impl FnOnce(Reply<T>) -> Command) -> Result<T> {
    let (reply, answer) = oneshot::channel();
    shared.queue.send(command(reply))?;
    answered(shared, answer).await
}

/// Waits for the answer to a command.
pub(crate) async fn answered<T>(shared: &Shared, answer: oneshot::Receiver<Result<T>>) -> Result<T> {
    match answer.await {
        Ok(result) => result,
        // The writer drops what it cannot answer, after it has said why.
        Err(_) => Err(shared.queue.over().unwrap_or_else(|| Error::new(Code::Closed, "the broker has ended"))),
    }
}

/// Refuses events that are larger than the limit, and more than fits into one group.
pub(crate) fn refuse_large<'a>(events: impl Iterator<Item = &'a Outgoing>, options: &Options) -> Result<()> {
    let (limit, mut sum) = (options.max_event_bytes, 0);
    for Outgoing { topic, envelope, .. } in events {
        let size = envelope.size();
        if size > limit {
            let detail = format!("event {} for {topic} has {size} bytes; the limit is {limit}", envelope.id);
            return Err(Error::new(Code::PayloadTooLarge, detail));
        }
        sum += size;
        if sum > MAX_SETTLE_BYTES {
            let detail = format!("more than {MAX_SETTLE_BYTES} bytes in one call");
            return Err(Error::new(Code::PayloadTooLarge, detail));
        }
    }
    Ok(())
}
