//! Progress: what a group has done of a partition, and the text it is kept as in the metadata of a commit.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use commute_core::Timestamp;
use commute_core::watermark::Watermark;

/// What goes before the text, so that the metadata of other programs is not taken for ours.
const INLINE: &str = "commute1:";
const ASIDE: &str = "commute1-aside:";

/// What a commit needs room for, however much is settled: the prefix, an incarnation, a colon and a version.
pub(crate) const LONGEST_POINTER: usize = ASIDE.len() + 10 + 1 + 20;

/// Attempts that were made of an event which is still open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deferred {
    pub(crate) attempts: u32,
    pub(crate) not_before: Timestamp,
}

/// What is settled, and what was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) settled: Watermark,
    pub(crate) deferred: BTreeMap<u64, Deferred>,
}

/// What the metadata of a commit says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Committed {
    /// All of it.
    Inline(Progress),
    /// It did not fit: it is in the topic beside the source, under this incarnation.
    Aside { incarnation: u32 },
}

impl Progress {
    /// Nothing is done, from `first` on.
    pub(crate) fn new(first: u64) -> Self {
        Progress { settled: Watermark::new(first), deferred: BTreeMap::new() }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16);
        self.settled.encode(&mut bytes);
        for (offset, Deferred { attempts, not_before }) in &self.deferred {
            bytes.extend(offset.to_le_bytes());
            bytes.extend(attempts.to_le_bytes());
            bytes.extend(not_before.0.to_le_bytes());
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (settled, rest) = Watermark::decode(bytes).ok()?;
        let mut deferred = BTreeMap::new();
        let (entries, rest) = rest.as_chunks::<20>();
        for entry in entries {
            let offset = u64::from_le_bytes(entry[..8].try_into().ok()?);
            let attempts = u32::from_le_bytes(entry[8..12].try_into().ok()?);
            let not_before = Timestamp(i64::from_le_bytes(entry[12..].try_into().ok()?));
            deferred.insert(offset, Deferred { attempts, not_before });
        }
        rest.is_empty().then_some(Progress { settled, deferred })
    }

    /// As metadata of a commit; nothing when it takes more bytes than `limit`.
    pub(crate) fn to_metadata(&self, limit: usize) -> Option<String> {
        if self.settled.done_beyond() == 0 && self.deferred.is_empty() {
            return Some(String::new());
        }
        let text = format!("{INLINE}{}", BASE64.encode(self.encode()));
        (text.len() <= limit).then_some(text)
    }
}

/// Metadata that says where the rest is.
pub(crate) fn metadata_aside(incarnation: u32, version: u64) -> String {
    format!("{ASIDE}{incarnation}:{version}")
}

/// Reads a commit: its offset and its metadata. Metadata that is not ours says nothing beyond the offset.
pub(crate) fn committed(offset: u64, metadata: &str) -> Committed {
    if let Some(text) = metadata.strip_prefix(ASIDE) {
        let incarnation = text.split_once(':').and_then(|(incarnation, _)| incarnation.parse().ok());
        if let Some(incarnation) = incarnation {
            return Committed::Aside { incarnation };
        }
    }
    let inline = metadata.strip_prefix(INLINE).and_then(|text| BASE64.decode(text).ok());
    let inline = inline.and_then(|bytes| Progress::decode(&bytes));
    // Somebody may have moved the group by hand: the offset is what counts then.
    let same = inline.filter(|progress| progress.settled.low() == offset);
    Committed::Inline(same.unwrap_or_else(|| Progress::new(offset)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Progress {
        let mut progress = Progress::new(7);
        for offset in [9, 10, 4_000, 9_000] {
            progress.settled.done(offset);
        }
        progress.deferred.insert(7, Deferred { attempts: 3, not_before: Timestamp(-1) });
        progress.deferred.insert(8, Deferred { attempts: u32::MAX, not_before: Timestamp(i64::MAX) });
        progress
    }

    #[test]
    fn progress_survives_its_metadata() {
        let progress = some();
        let metadata = progress.to_metadata(3_800).unwrap();
        assert!(metadata.len() < 120, "{metadata}");
        assert_eq!(committed(7, &metadata), Committed::Inline(progress));
        assert_eq!(Progress::new(3).to_metadata(0), Some(String::new()));
    }

    #[test]
    fn what_does_not_fit_says_where_it_is() {
        assert_eq!(some().to_metadata(40), None);
        assert_eq!(committed(7, &metadata_aside(5, 9)), Committed::Aside { incarnation: 5 });
    }

    #[test]
    fn where_the_rest_is_fits_into_the_smallest_commit() {
        assert_eq!(metadata_aside(u32::MAX, u64::MAX).len(), LONGEST_POINTER);
    }

    #[test]
    fn metadata_of_others_and_groups_that_were_moved_by_hand_leave_the_offset() {
        let metadata = some().to_metadata(3_800).unwrap();
        for (offset, metadata) in [(5, "x"), (5, ""), (5, "commute1:!"), (5, &*metadata), (9, "commute1-aside:x")] {
            assert_eq!(committed(offset, metadata), Committed::Inline(Progress::new(offset)), "{metadata}");
        }
    }
}
