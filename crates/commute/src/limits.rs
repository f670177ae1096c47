//! Limits: how much an app holds at once.

/// Enough for any number of workers, small enough that the scheduler's tables stay in the cache.
const WINDOW: usize = 4096;

/// Every limit has a reason beside it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Events that could run at once and are held ready with their payload.
    pub(crate) window: usize,
    /// Events known in full or by their footprint only, per subscription: how far the reader looks past a hot key.
    pub(crate) look_ahead: usize,
    /// Events whose transaction is under way: beyond a few hundred, shared commits gain nothing.
    pub(crate) in_transaction: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { window: WINDOW, look_ahead: 65_536, in_transaction: 512 }
    }
}

impl Limits {
    /// Looks so far ahead; the window is never larger.
    pub(crate) fn look_ahead(&mut self, events: usize) {
        self.look_ahead = events.max(1);
        self.window = WINDOW.min(self.look_ahead);
    }
}
