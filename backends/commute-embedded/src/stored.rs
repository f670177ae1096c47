//! Stored events, found again by their positions, in memory or in the files.

use std::sync::Arc;

use commute_core::{Code, Error, Result};

use crate::journal::reader::{Segments, Wanted, read};
use crate::records::Event;
use crate::writer::Shared;

/// Does something that waits for the disk.
///
/// # Errors
/// Its own; `Io` when the runtime ends meanwhile.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|cause| Err(Error::new(Code::Io, "reading was given up").caused_by(cause)))
}

/// Reads events from the files; positions ascend.
///
/// # Errors
/// `Damaged`, or the disk's.
pub(crate) async fn load(segments: &Segments, topic: u32, wanted: Vec<Wanted>) -> Result<Vec<Arc<Event>>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let segments = segments.clone();
    blocking(move || read(&segments, topic, &wanted)).await
}

/// Events by their positions, in that order, from memory or the files.
///
/// # Errors
/// `Damaged`, also when one of them is not retained any more, or the disk's.
pub(crate) async fn events(
    shared: &Shared,
    segments: &Segments,
    topic: u32,
    positions: Vec<u64>,
) -> Result<Vec<Arc<Event>>> {
    let (mut found, mut wanted) = (vec![None; positions.len()], Vec::new());
    {
        let state = shared.state();
        let stored = &state.topics[topic as usize];
        for (n, position) in positions.iter().copied().enumerate() {
            found[n] = stored.in_tail(position).cloned();
            if found[n].is_none() {
                wanted.push((n, stored.wanted(position).ok_or_else(|| gone(position))?));
            }
        }
    }
    wanted.sort_unstable_by_key(|(_, wanted)| wanted.position);
    let (places, wanted) = wanted.into_iter().unzip::<_, _, Vec<usize>, Vec<Wanted>>();
    for (n, event) in places.into_iter().zip(load(segments, topic, wanted).await?) {
        found[n] = Some(event);
    }
    Ok(found.into_iter().flatten().collect())
}

fn gone(position: u64) -> Error {
    Error::new(Code::Damaged, format!("event {position} is not stored any more"))
}
