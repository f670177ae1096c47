//! What is stored of an event that is set aside.

use std::sync::Arc;

use bytes::{Buf, BufMut};
use commute_core::{Lane, Mode, Timestamp};

use super::bytes::{optional, put_optional, put_text, put_time, text, time};

/// How an event is set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Aside {
    pub(crate) attempts: u32,
    pub(crate) since: Timestamp,
    pub(crate) reason: Option<Arc<str>>,
    pub(crate) lanes: Vec<(Lane, Mode)>,
}

/// Written for exclusive access; classes of shared access are 32 bits.
const EXCLUSIVE: u64 = u64::MAX;

impl Aside {
    pub(crate) fn encode(&self, to: &mut Vec<u8>) {
        to.put_u32_le(self.attempts);
        put_time(to, self.since);
        put_optional(to, self.reason.as_deref(), put_text);
        to.put_u32_le(self.lanes.len() as u32);
        for (lane, mode) in &self.lanes {
            to.put_u64_le(lane.0);
            to.put_u64_le(match mode {
                Mode::Exclusive => EXCLUSIVE,
                Mode::Shared(class) => u64::from(*class),
            });
        }
    }

    pub(crate) fn decode(from: &mut &[u8]) -> Option<Aside> {
        let attempts = from.try_get_u32_le().ok()?;
        let (since, reason) = (time(from)?, optional(from, text)?);
        let mut lanes = Vec::new();
        for _ in 0..from.try_get_u32_le().ok()? {
            let lane = Lane(from.try_get_u64_le().ok()?);
            let mode = match from.try_get_u64_le().ok()? {
                EXCLUSIVE => Mode::Exclusive,
                class => Mode::Shared(u32::try_from(class).ok()?),
            };
            lanes.push((lane, mode));
        }
        Some(Aside { attempts, since, reason, lanes })
    }
}
