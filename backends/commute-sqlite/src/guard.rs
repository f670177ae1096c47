//! The guard: a handler cannot end the transaction that it shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::hooks::{AuthAction, Authorization};

/// Keeps handlers from ending the transaction that they share.
///
/// Asked whenever a statement is prepared. `INSERT OR ROLLBACK` and `RAISE(ROLLBACK)` get past it, because SQLite does not
/// ask about them; those are noticed afterwards.
#[derive(Clone, Default)]
pub(crate) struct Guard(Arc<Watch>);

#[derive(Default)]
struct Watch {
    handler_runs: AtomicBool,
    refused: AtomicBool,
}

impl Guard {
    pub(crate) fn allows(&self, action: &AuthAction<'_>) -> Authorization {
        let ends = matches!(action, AuthAction::Transaction { .. } | AuthAction::Savepoint { .. });
        if ends && self.0.handler_runs.load(Ordering::Relaxed) {
            self.0.refused.store(true, Ordering::Relaxed);
            return Authorization::Deny;
        }
        Authorization::Allow
    }

    pub(crate) fn handler_begins(&self) {
        self.0.refused.store(false, Ordering::Relaxed);
        self.0.handler_runs.store(true, Ordering::Relaxed);
    }

    /// Answers whether it tried.
    pub(crate) fn handler_ended(&self) -> bool {
        self.0.handler_runs.store(false, Ordering::Relaxed);
        self.0.refused.load(Ordering::Relaxed)
    }
}
