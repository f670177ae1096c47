//! Locking: a panic of one thread does not close a lock to the others.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, and goes on with what is there when another thread panicked while holding the lock: every critical section
/// of the engine leaves its data whole at each step that could panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
