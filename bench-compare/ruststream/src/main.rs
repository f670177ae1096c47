//! Consumes with RustStream's Kafka adapter in its tracked mode, and prints the seconds from the first event to the last:
//! `bench-ruststream SERVERS TOPIC EVENTS WORKERS headers|no-headers`. It reads headers only when a handler asks for them.

use std::num::NonZeroUsize;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ruststream::runtime::{Context, Handle, HandlerOutcome};
use ruststream_rdkafka::prelude::*;
use serde::Deserialize;

static HANDLED: AtomicU64 = AtomicU64::new(0);
static EXPECTED: AtomicU64 = AtomicU64::new(0);
static FIRST: OnceLock<Instant> = OnceLock::new();
static LAST: OnceLock<Instant> = OnceLock::new();

#[derive(Deserialize)]
struct Posted {
    key: u32,
    filler: String,
}

struct Nothing {
    headers: bool,
}

impl Handle<Posted> for Nothing {
    async fn handle(&self, event: &Posted, _: &(), context: &mut Context<'_>) -> Result<(), HandlerOutcome> {
        FIRST.get_or_init(Instant::now);
        std::hint::black_box((event.key, &event.filler));
        if self.headers {
            std::hint::black_box(context.headers());
        }
        if HANDLED.fetch_add(1, Ordering::AcqRel) + 1 == EXPECTED.load(Ordering::Relaxed) {
            LAST.get_or_init(Instant::now);
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [servers, topic, events, workers, headers] = &arguments[..] else {
        return Err("five arguments are needed".into());
    };
    EXPECTED.store(events.parse()?, Ordering::Relaxed);
    let workers: usize = workers.parse()?;
    let nothing = Nothing { headers: headers == "headers" };
    let source = KafkaTopic::new(topic)
        .group(format!("ruststream-{}", std::process::id()))
        .commit(Commit::Tracked)
        .start(StartOffset::Earliest)
        .lane_key(LaneKey::RecordKey)
        // The settings of the other sides.
        .config("fetch.queue.backoff.ms", "10")
        .config("queued.min.messages", "10000")
        .config("queued.max.messages.kbytes", "16384");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let app =
            RustStream::new(AppInfo::new("bench", "0.0.0")).with_broker(KafkaBroker::new([servers.as_str()]), |b| {
                match NonZeroUsize::new(workers).filter(|workers| workers.get() > 1) {
                    Some(workers) => {
                        let subscriber = subscriber("bench", nothing).workers_by_key(workers).build();
                        b.include(subscriber.map_source(|_| source));
                    }
                    None => {
                        b.include(subscriber("bench", nothing).build().map_source(|_| source));
                    }
                }
            });
        app.run_until(async {
            while LAST.get().is_none() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await?;
        Ok::<_, Box<dyn std::error::Error>>(())
    })?;
    let (Some(first), Some(last)) = (FIRST.get(), LAST.get()) else { return Err("nothing was handled".into()) };
    println!("{}", last.duration_since(*first).as_secs_f64());
    Ok(())
}
