//! What the log says. One test, because a subscriber of one thread misses spans that another thread's test met first.

mod kit;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use commute::prelude::*;
use kit::{Ping, broker, started};

/// Lines as a log shows them.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_line_logged_by_a_handler_says_which_event_it_is_of_and_nothing_logs_a_payload() {
    async fn log(ping: Ping) -> Result<(), HandlerError> {
        tracing::info!("inside");
        if ping.n == 4711 { Err(HandlerError::retry("again")) } else { Ok(()) }
    }
    let lines = Lines::default();
    let to = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
    let subscriber = subscriber.with_writer(move || to.clone()).finish();
    // The runtime has this thread alone, so that everything an app spawns logs here, too.
    let _guard = tracing::subscriber::set_default(subscriber);
    let backoff = Backoff::exponential().attempts(2).first(Duration::from_millis(1));
    let app = started(App::new("app").broker(broker().await).on("pings", handler(log).retry(backoff))).await;
    let id = commute::EventId::new("the-event").unwrap();
    let message = commute::Message::of(&Ping::new(4711)).unwrap().id(id).extension("correlationid", "the-order");
    app.publisher().send("pings", [message]).await.unwrap();
    app.idle().await.unwrap();
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let inside: Vec<_> = text.lines().filter(|line| line.ends_with("inside")).collect();
    assert_eq!(inside.len(), 2, "{text}");
    for (attempt, line) in (1..).zip(inside) {
        for part in
            ["event=the-event", "correlation=", "the-order", "subscription=app", "topic=pings", "traceparent=00-"]
        {
            assert!(line.contains(part), "{part}: {line}");
        }
        assert!(line.contains(&format!("attempt={attempt}")), "{line}");
    }
    assert!(!text.contains("4711"), "{text}");
}
