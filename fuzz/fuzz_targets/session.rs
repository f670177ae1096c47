//! Whatever a client says in a session, the node does not panic, does not stop, and serves another client as before.
//!
//! The input is text, so that everything of it arrives: a line for each message, its kind, number, header and body between tabs. A line
//! that begins with `+` does not wait for its answer.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use commute_core::{Address, Envelope, Outgoing, Settlement, SubscriptionSpec, Timestamp, Topic};
use commute_embedded::storage::Memory;
use commute_embedded::{Embedded, Options};
use commute_zeromq::{DRIVER, Node, NodeOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

/// Lines beyond these are not said.
const LINES: usize = 24;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    // libFuzzer's main does not ignore it, as that of a Rust program does: it must not end the process.
    runtime.block_on(async { drop(signal(SignalKind::pipe()).expect("a handler, which stays")) });
    runtime
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| RUNTIME.block_on(session(bytes)));

async fn session(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("zmq+ipc://{}/s", folder.path().display());
    let options = Options { segment_bytes: 64 << 10, tail_bytes: 4 << 10, prepare: false, ..Options::default() };
    let broker = Embedded::in_memory(&Memory::new(), options).expect("a log");
    let options = NodeOptions {
        max_message_bytes: 64 << 10,
        max_in_flight: 8,
        longest_wait: Duration::from_millis(1),
        ..NodeOptions::default()
    };
    let node = Node::serve(broker, &url, options).await.expect("it listens");
    let bystander = (DRIVER.connect)(Address::parse(&url).expect("a URL")).await.expect("the node is there");

    // Ends when the node has nothing more to say to it.
    let _ = stranger(&folder.path().join("s"), bytes).await;
    while node.sessions() > 1 {
        tokio::task::yield_now().await;
    }

    let topic = Topic::new("bystander").expect("a topic");
    let envelope = Envelope::new("fuzz", "t", Timestamp(1), b"7".as_slice().into());
    let event = Outgoing { topic: topic.clone(), envelope, not_before: None };
    bystander.publish(vec![event.clone()]).await.expect("it is stored");
    let mut subscription = bystander.subscribe(SubscriptionSpec::new(topic, "bystander")).await.expect("it opens");
    let mut found = false;
    while !found {
        // The stranger may have published there, too.
        let taken = subscription.receiver.receive(100).await.expect("they come");
        assert!(!taken.is_empty(), "the node has ended");
        found = taken.iter().any(|one| one.envelope.id == event.envelope.id);
        let acks = taken.iter().map(|one| Settlement::Ack { tag: one.tag, publish: vec![], mark: true }).collect();
        subscription.settler.settle(acks).await.expect("they are settled");
    }
    drop(subscription);
    bystander.close().await.expect("it closes");
    node.stop().await;
}

async fn stranger(path: &std::path::Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut stream = UnixStream::connect(path).await?;
    let mut greeting = [0; 64];
    (greeting[0], greeting[9], greeting[10], greeting[11]) = (0xff, 0x7f, 3, 1);
    greeting[12..16].copy_from_slice(b"NULL");
    stream.write_all(&greeting).await?;
    let mut said = Vec::new();
    frame(4, b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER", &mut said);
    message("HELLO 0\t{\"client\":\"fuzz\"}".as_bytes(), &mut said);
    stream.write_all(&said).await?;
    stream.read_exact(&mut greeting).await?;
    // READY is an answer, too.
    answer(&mut stream).await?;
    answer(&mut stream).await?;
    for line in bytes.split(|byte| *byte == b'\n').take(LINES) {
        let mut said = Vec::new();
        message(line.strip_prefix(b"+").unwrap_or(line), &mut said);
        stream.write_all(&said).await?;
        if !line.starts_with(b"+") {
            // Some have none.
            match timeout(Duration::from_millis(50), answer(&mut stream)).await {
                Ok(answered) => answered?,
                Err(_) => return Ok(()),
            }
        }
    }
    Ok(())
}

fn message(line: &[u8], said: &mut Vec<u8>) {
    let mut parts = line.splitn(3, |byte| *byte == b'\t');
    let mut start = parts.next().unwrap_or_default().splitn(2, |byte| *byte == b' ');
    let (kind, number) = (start.next().unwrap_or_default(), start.next().unwrap_or_default());
    let (header, body) = (parts.next().unwrap_or(b"{}"), parts.next().unwrap_or_default());
    for (n, part) in [b"CM1", kind, number, header, body].into_iter().enumerate() {
        frame(u8::from(n < 4), part, said);
    }
}

fn frame(flags: u8, body: &[u8], said: &mut Vec<u8>) {
    said.push(flags | 2);
    said.extend((body.len() as u64).to_be_bytes());
    said.extend(body);
}

/// Reads to the end of a message, or a command.
async fn answer(stream: &mut UnixStream) -> std::io::Result<()> {
    loop {
        let flags = stream.read_u8().await?;
        let length = match flags & 2 {
            0 => u64::from(stream.read_u8().await?),
            _ => stream.read_u64().await?,
        };
        let mut body = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        stream.read_exact(&mut body).await?;
        if flags & 1 == 0 {
            return Ok(());
        }
    }
}
