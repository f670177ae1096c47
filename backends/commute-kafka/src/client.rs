//! What every client of the library shares: where its log lines and errors go, and how blocking threads wait.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use commute_core::{Code, Error, Result};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// How long a question to the server may take.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);
/// How often a lasting trouble is said.
const SELDOM: Duration = Duration::from_secs(30);

/// Says now and then only that it is time to say something.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    pub(crate) fn is_due(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| last.elapsed() > SELDOM);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}

/// Passes log lines on, and remembers the last error for whoever is connecting.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ear {
    last: Arc<Mutex<Option<(RDKafkaErrorCode, String)>>>,
    warned: Arc<Seldom>,
}

impl Ear {
    /// The last error since it was asked for, and what the library says about it.
    pub(crate) fn take(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) fn hear(&self, error: &KafkaError, reason: &str) {
        if matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::AllBrokersDown)) && self.warned.is_due() {
            tracing::warn!(reason, "no server can be reached; what was accepted waits");
        }
        tracing::debug!(%error, reason, "the client library reports an error");
        let Some(code) = error.rdkafka_error_code() else { return };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // A connection that failed says why; that all of them failed comes later and says less.
        let known = matches!(*last, Some((RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL, _)));
        if !known {
            *last = Some((code, reason.to_owned()));
        }
    }
}

impl ClientContext for Ear {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        told(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.hear(&error, reason);
    }
}

impl ConsumerContext for Ear {}

/// Passes a log line of the library on. Its errors repeat with every attempt to connect, and come to whoever asked for
/// something as well.
pub(crate) fn told(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::warn!(facility, "{message}");
        }
        _ => tracing::debug!(facility, "{message}"),
    }
}

/// Waits for a future on a thread that may block.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let (mut future, mut context) = (pin!(future), Context::from_waker(&waker));
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        std::thread::park();
    }
}

/// Lets a moment pass on a thread that may block, before something is asked again.
pub(crate) fn moment() {
    std::thread::park_timeout(Duration::from_millis(20));
}

/// Does something that blocks where that is no harm.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|cause| Err(Error::new(Code::Io, "asking was given up").caused_by(cause)))
}
