//! Event ids: unique, time-ordered when commute makes them, and derivable from a cause.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Code, Error, Result};
use crate::text::Text;

/// The id of an event: any text of 1 to 256 bytes; commute's own are UUIDs.
///
/// Two deliveries with one id are the same event.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventId(Text);

impl EventId {
    /// The longest id, in bytes.
    pub const MAX_BYTES: usize = 256;

    /// A caller's own id.
    ///
    /// # Errors
    /// [`Code::InvalidEvent`] when it is empty or longer than 256 bytes.
    pub fn new(id: impl AsRef<str>) -> Result<Self> {
        let id = id.as_ref();
        if id.is_empty() || id.len() > Self::MAX_BYTES {
            return Err(Error::new(Code::InvalidEvent, format!("an event id of {} bytes", id.len())));
        }
        Ok(EventId(id.into()))
    }

    /// A fresh id (UUIDv7). Time-ordered, because stores that remember ids are several times faster with such.
    pub fn generate() -> Self {
        Self::from_uuid(Uuid::now_v7())
    }

    /// The id of the `ordinal`-th event that `subscription` publishes because of `self`.
    ///
    /// The same cause gives the same id in every process and version, so that publishing again after a crash is
    /// noticed. A UUIDv8: the time of the cause (when it has one) in front, a hash of cause, subscription and ordinal
    /// behind, so that derived ids are as time-ordered as their causes.
    pub fn derive(&self, subscription: &str, ordinal: u32) -> Self {
        let name = format!("{}\u{0}{subscription}\u{0}{ordinal}", self.as_str());
        let mut bytes = *Uuid::new_v5(&DERIVED, name.as_bytes()).as_bytes();
        let cause = Uuid::parse_str(self.as_str()).ok().filter(|id| matches!(id.get_version_num(), 7 | 8));
        if let Some(cause) = cause {
            bytes[..6].copy_from_slice(&cause.as_bytes()[..6]);
        }
        Self::from_uuid(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }

    fn from_uuid(id: Uuid) -> Self {
        EventId(Text::from(&*id.hyphenated().encode_lower(&mut Uuid::encode_buffer())))
    }

    /// Sixteen bytes that stand for the id in stores: the UUID itself, or a hash of any other text.
    pub fn fingerprint(&self) -> [u8; 16] {
        let text = self.as_str();
        match Uuid::try_parse(text) {
            Ok(id) if text.len() == 36 => *id.as_bytes(),
            _ => *Uuid::new_v5(&FINGERPRINT, text.as_bytes()).as_bytes(),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// Namespaces of our own, made once; they are part of the stored format.
const DERIVED: Uuid = Uuid::from_u128(0x5d0f_0f6e_6d63_4f0e_9d3a_7c1b_54b6_c001);
const FINGERPRINT: Uuid = Uuid::from_u128(0x5d0f_0f6e_6d63_4f0e_9d3a_7c1b_54b6_c002);

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for EventId {
    type Err = Error;

    fn from_str(id: &str) -> Result<Self> {
        EventId::new(id)
    }
}

impl TryFrom<String> for EventId {
    type Error = Error;
    fn try_from(id: String) -> Result<Self> {
        EventId::new(id)
    }
}

impl From<EventId> for String {
    fn from(id: EventId) -> Self {
        id.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_id_depends_on_cause_subscription_and_ordinal_and_on_nothing_else() {
        let cause = EventId::new("536365-0").unwrap();
        assert_eq!(cause.derive("payment", 0).as_str(), "c05b52e1-666a-87d7-a267-ed51c9ef2e70");
        assert_eq!(cause.derive("payment", 0), cause.derive("payment", 0));
        assert_ne!(cause.derive("payment", 0), cause.derive("payment", 1));
        assert_ne!(cause.derive("payment", 0), cause.derive("shipping", 0));
    }

    #[test]
    fn a_derived_id_keeps_the_time_of_its_cause() {
        let cause = EventId::generate();
        let derived = cause.derive("payment", 0);
        assert_eq!(cause.as_str()[..13], derived.as_str()[..13]);
        assert_eq!(cause.as_str()[..13], derived.derive("shipping", 0).as_str()[..13]);
    }

    #[test]
    fn ids_that_no_store_could_keep_are_refused() {
        assert!(EventId::new("").is_err());
        assert!(EventId::new("x".repeat(257)).is_err());
        assert!(EventId::new("x".repeat(256)).is_ok());
    }
}
