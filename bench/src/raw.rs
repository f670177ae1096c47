//! Limits: what the file and a plain channel can do, measured beside the framework.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;

/// Events per write and sync of the raw log; what the journey's publisher hands over at once.
pub(crate) const BATCH: usize = 256;

/// Appends events of a size to a growing file, one write and one sync per batch; events per second.
pub(crate) fn log(directory: &Path, events: usize, size: usize) -> Result<f64> {
    let mut file = File::create(directory.join("raw"))?;
    let batch = vec![7; size * BATCH];
    let began = Instant::now();
    for _ in 0..events / BATCH {
        file.write_all(&batch)?;
        file.sync_data()?;
    }
    Ok(events as f64 / began.elapsed().as_secs_f64())
}

/// Sends events of a size through a bounded channel to one receiver; events per second.
pub(crate) async fn channel(events: usize, size: usize) -> Result<f64> {
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<bytes::Bytes>(4096);
    let payload = bytes::Bytes::from(vec![7; size]);
    let began = Instant::now();
    let sending = tokio::spawn(async move {
        for _ in 0..events {
            if sender.send(payload.clone()).await.is_err() {
                break;
            }
        }
    });
    let mut count = 0;
    while receiver.recv().await.is_some() {
        count += 1;
    }
    sending.await?;
    Ok(f64::from(count) / began.elapsed().as_secs_f64())
}
