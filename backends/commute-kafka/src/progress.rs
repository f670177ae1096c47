//! Progress: what a group has done of a partition, and the text it is kept as in the metadata of a commit.
//!
//! It also says whose notes aside count. The server refuses commits of an instance whose partition went to another, but takes its
//! records. So every incarnation says in its commits from where in the topic beside the source it writes there; what an earlier one
//! writes behind that place came too late. (Leader epochs with their start offsets, KIP-101, are the same idea.)

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use commute_core::Timestamp;
use commute_core::watermark::Watermark;

/// What goes before the text, so that the metadata of other programs is not taken for ours.
const INLINE: &str = "commute2:";
const ASIDE: &str = "commute2-aside:";

/// What a commit needs room for, however much is settled: the prefix, an incarnation, a version, and a place aside.
pub(crate) const LONGEST_POINTER: usize = ASIDE.len() + 10 + 1 + 20 + 1 + 20;

/// Attempts that were made of an event which is still open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deferred {
    pub(crate) attempts: u32,
    pub(crate) not_before: Timestamp,
}

/// From one place on in the topic beside the source, only the notes of one incarnation count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Epoch {
    pub(crate) from: u64,
    pub(crate) writer: u32,
}

/// Whether the note at an offset aside counts, as the epochs say: unless an epoch after its writer's own has begun there. Who has none
/// has written before all of them, or too late.
pub(crate) fn counts(epochs: &[Epoch], offset: u64, writer: u32) -> bool {
    let after = epochs.iter().rposition(|epoch| epoch.writer == writer).map_or(0, |own| own + 1);
    epochs[after..].iter().all(|epoch| epoch.from > offset)
}

/// What is settled, what was tried, and whose notes aside count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) settled: Watermark,
    pub(crate) deferred: BTreeMap<u64, Deferred>,
    /// In their order.
    pub(crate) epochs: Vec<Epoch>,
    /// The topic beside is at least as long as that: a server that shows less of it does not show all of it.
    pub(crate) relies: u64,
}

/// What the metadata of a commit says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Committed {
    /// All of it.
    Inline(Progress),
    /// It did not fit: it is in the topic beside the source, under this incarnation, before this place.
    Aside { incarnation: u32, relies: u64, low: u64 },
}

impl Committed {
    /// How long the topic beside the source is at least.
    pub(crate) fn relies(&self) -> u64 {
        match self {
            Committed::Inline(progress) => progress.relies,
            Committed::Aside { relies, .. } => *relies,
        }
    }
}

impl Progress {
    /// Nothing is done, from `first` on.
    pub(crate) fn new(first: u64) -> Self {
        Progress { settled: Watermark::new(first), deferred: BTreeMap::new(), epochs: Vec::new(), relies: 0 }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16);
        self.settled.encode(&mut bytes);
        bytes.extend(self.relies.to_le_bytes());
        // There is more than one only after a crash. The oldest of very many would be the first to be given up.
        let epochs = &self.epochs[self.epochs.len().saturating_sub(usize::from(u8::MAX))..];
        bytes.push(u8::try_from(epochs.len()).unwrap_or(u8::MAX));
        for Epoch { from, writer } in epochs {
            bytes.extend(from.to_le_bytes());
            bytes.extend(writer.to_le_bytes());
        }
        for (offset, Deferred { attempts, not_before }) in &self.deferred {
            bytes.extend(offset.to_le_bytes());
            bytes.extend(attempts.to_le_bytes());
            bytes.extend(not_before.0.to_le_bytes());
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (settled, rest) = Watermark::decode(bytes).ok()?;
        let (relies, rest) = rest.split_first_chunk::<8>()?;
        let (count, rest) = rest.split_first()?;
        let (mut epochs, mut rest) = (Vec::with_capacity(usize::from(*count)), rest);
        for _ in 0..*count {
            let (entry, others) = rest.split_first_chunk::<12>()?;
            let from = u64::from_le_bytes(entry[..8].try_into().ok()?);
            epochs.push(Epoch { from, writer: u32::from_le_bytes(entry[8..].try_into().ok()?) });
            rest = others;
        }
        let mut deferred = BTreeMap::new();
        let (entries, rest) = rest.as_chunks::<20>();
        for entry in entries {
            let offset = u64::from_le_bytes(entry[..8].try_into().ok()?);
            let attempts = u32::from_le_bytes(entry[8..12].try_into().ok()?);
            let not_before = Timestamp(i64::from_le_bytes(entry[12..].try_into().ok()?));
            deferred.insert(offset, Deferred { attempts, not_before });
        }
        rest.is_empty().then_some(Progress { settled, deferred, epochs, relies: u64::from_le_bytes(*relies) })
    }

    /// As metadata of a commit; nothing when it takes more bytes than `limit`, and more than what would say where it is.
    pub(crate) fn to_metadata(&self, limit: usize) -> Option<String> {
        let text = format!("{INLINE}{}", BASE64.encode(self.encode()));
        (text.len() <= limit.max(LONGEST_POINTER)).then_some(text)
    }
}

/// Metadata that says where the rest is.
pub(crate) fn metadata_aside(incarnation: u32, version: u64, relies: u64) -> String {
    format!("{ASIDE}{incarnation}:{version}:{relies}")
}

/// Reads a commit: its offset and its metadata. Metadata that is not ours says nothing beyond the offset.
pub(crate) fn committed(offset: u64, metadata: &str) -> Committed {
    if let Some(text) = metadata.strip_prefix(ASIDE) {
        let mut parts = text.split(':');
        let incarnation = parts.next().and_then(|incarnation| incarnation.parse().ok());
        let relies = parts.nth(1).and_then(|relies| relies.parse().ok());
        if let (Some(incarnation), Some(relies)) = (incarnation, relies) {
            return Committed::Aside { incarnation, relies, low: offset };
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
        progress.epochs = vec![Epoch { from: 0, writer: u32::MAX }, Epoch { from: u64::MAX, writer: 0 }];
        progress.relies = u64::MAX;
        progress
    }

    #[test]
    fn progress_survives_its_metadata() {
        let progress = some();
        let metadata = progress.to_metadata(3_800).unwrap();
        assert!(metadata.len() < 160, "{metadata}");
        assert_eq!(committed(7, &metadata), Committed::Inline(progress));
        let bytes = some().encode();
        (0..bytes.len()).for_each(|cut| assert_ne!(Progress::decode(&bytes[..cut]), Some(some()), "{cut}"));
    }

    #[test]
    fn what_does_not_fit_says_where_it_is() {
        assert_eq!(some().to_metadata(80), None);
        let aside = committed(7, &metadata_aside(5, 9, 11));
        assert_eq!(aside.relies(), 11);
        assert_eq!(aside, Committed::Aside { incarnation: 5, relies: 11, low: 7 });
    }

    #[test]
    fn where_the_rest_is_fits_into_the_smallest_commit() {
        assert_eq!(metadata_aside(u32::MAX, u64::MAX, u64::MAX).len(), LONGEST_POINTER);
        // And so does progress without gaps, whatever the limit is known to be.
        let mut progress = Progress::new(1 << 48);
        progress.epochs.push(Epoch { from: u64::MAX, writer: u32::MAX });
        let metadata = progress.to_metadata(0).unwrap();
        assert_eq!(committed(1 << 48, &metadata), Committed::Inline(progress));
    }

    #[test]
    fn a_note_counts_when_its_writer_was_the_one_at_its_place() {
        let epochs = [Epoch { from: 10, writer: 1 }, Epoch { from: 20, writer: 2 }];
        let counting = |offset| [0, 1, 2].map(|writer| counts(&epochs, offset, writer));
        assert_eq!(counting(9), [true; 3], "before the first, all of them");
        assert_eq!((counting(10), counting(19)), ([false, true, true], [false, true, true]));
        assert_eq!((counting(20), counting(u64::MAX)), ([false, false, true], [false, false, true]));
        assert!(counts(&[], 5, 7));
        // Should the topic have become shorter, whoever has said so has not come too late, also when another follows.
        let shorter = [Epoch { from: 50, writer: 1 }, Epoch { from: 41, writer: 2 }];
        assert!(counts(&epochs, 12, 2) && counts(&shorter, 40, 1) && !counts(&shorter, 41, 1));
    }

    #[test]
    fn metadata_of_others_and_groups_that_were_moved_by_hand_leave_the_offset() {
        let metadata = some().to_metadata(3_800).unwrap();
        for (offset, metadata) in [(5, "x"), (5, ""), (5, "commute2:!"), (5, &*metadata), (9, "commute2-aside:x")] {
            assert_eq!(committed(offset, metadata), Committed::Inline(Progress::new(offset)), "{metadata}");
        }
    }
}
