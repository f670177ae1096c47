//! A device that answers after an exact time: what the handlers of the scheduling rows wait for.
//!
//! The runtime's own timers count whole milliseconds, so that a handler of 3 ms takes 4; that would be held against us and
//! not against a peer whose threads sleep to the microsecond.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// One thread answers all who wait. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Device(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<BinaryHeap<Waiting>>,
    sooner: Condvar,
}

struct Waiting(Reverse<Instant>, oneshot::Sender<()>);

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl Eq for Waiting {}
impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, BinaryHeap<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Device {
    pub(crate) fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::downgrade(&shared);
        std::thread::spawn(move || {
            be_exact();
            while let Some(shared) = theirs.upgrade() {
                answer(&shared);
            }
        });
        Device(shared)
    }

    /// Waits for the answer.
    pub(crate) async fn work(&self, takes: Duration) {
        let (sender, answered) = oneshot::channel();
        let due = Instant::now() + takes;
        let sooner = {
            let mut waiting = self.0.waiting();
            let sooner = waiting.peek().is_none_or(|next| due < next.0.0);
            waiting.push(Waiting(Reverse(due), sender));
            sooner
        };
        if sooner {
            self.0.sooner.notify_one();
        }
        // The thread lives as long as the device does.
        let _ = answered.await;
    }
}

/// How long one wait takes when so many tasks do nothing else: the least that any handler can cost on this machine now.
pub(crate) async fn bare(device: &Device, takes: Duration, tasks: usize) -> anyhow::Result<Duration> {
    const TIMES: u32 = 50;
    let began = Instant::now();
    let tasks: Vec<_> = (0..tasks)
        .map(|_| {
            let device = device.clone();
            tokio::spawn(async move {
                for _ in 0..TIMES {
                    device.work(takes).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await?;
    }
    Ok(began.elapsed() / TIMES)
}

/// Linux lets a thread sleep 50 us longer than it asked to, which is 2 % of the shortest handler.
fn be_exact() {
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1_000));
}

/// Answers those whose time has come, and waits for the next.
fn answer(shared: &Shared) {
    let mut waiting = shared.waiting();
    let mut due = Vec::new();
    while waiting.peek().is_some_and(|next| next.0.0 <= Instant::now()) {
        due.extend(waiting.pop());
    }
    if due.is_empty() {
        // Now and then it looks whether anybody needs it.
        let rest = waiting.peek().map_or(Duration::from_millis(100), |next| next.0.0 - Instant::now());
        drop(shared.sooner.wait_timeout(waiting, rest));
        return;
    }
    drop(waiting);
    for Waiting(_, sender) in due {
        // Whoever waited may have gone.
        let _ = sender.send(());
    }
}
