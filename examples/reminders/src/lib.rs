//! Reminders: events for later, a recipient that cannot be reached and is parked, and its release.
//!
//! A reminder that cannot be delivered is tried three times. Then its recipient is parked: later reminders for the same
//! recipient wait behind it, in order, and nobody else notices.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use commute::prelude::*;

/// Somebody wants to be reminded.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(type = "example.reminder.due", key = "recipient")]
pub struct Reminder {
    /// Who.
    pub recipient: String,
    /// Of what.
    pub text: String,
}

/// Delivers texts, except to those who cannot be reached.
#[derive(Debug, Clone, Default)]
pub struct Mail {
    sent: Arc<Mutex<Vec<Reminder>>>,
    unreachable: Arc<Mutex<HashSet<String>>>,
}

impl Mail {
    /// Whether somebody can be reached from now on.
    pub fn reach(&self, recipient: &str, reachable: bool) {
        let mut unreachable = self.unreachable.lock().unwrap_or_else(PoisonError::into_inner);
        if reachable {
            unreachable.remove(recipient);
        } else {
            unreachable.insert(recipient.to_owned());
        }
    }

    /// What one recipient was sent, in order.
    pub fn sent_to(&self, recipient: &str) -> Vec<String> {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.iter().filter(|one| one.recipient == recipient).map(|one| one.text.clone()).collect()
    }
}

/// Sends a reminder.
async fn remind(event: Reminder, State(mail): State<Mail>) -> Result<(), HandlerError> {
    if mail.unreachable.lock().unwrap_or_else(PoisonError::into_inner).contains(&event.recipient) {
        return Err(HandlerError::retry(format!("{} cannot be reached", event.recipient)));
    }
    mail.sent.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    Ok(())
}

/// The service. The event's key, the recipient, is the only lane, so it needs no footprint.
pub fn app(mail: Mail) -> App {
    let backoff = Backoff::exponential().first(Duration::from_millis(50)).attempts(3);
    App::new("reminders").state(mail).on("reminders", handler(remind).retry(backoff).when_exhausted(Exhausted::Park))
}
