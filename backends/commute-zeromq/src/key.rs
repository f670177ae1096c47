//! The shared key: both sides prove that they have it, and it never travels.
//!
//! HMAC-SHA256 (RFC 2104) over the other side's random nonce. It keeps strangers out. It encrypts nothing and protects nothing that
//! is sent afterwards from whoever can change the connection: for that, put the connection into a tunnel.

use std::path::Path;
use std::sync::Arc;

use commute_core::{Code, Error, Result};
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// A key. Its `Debug` does not show it.
#[derive(Clone)]
pub(crate) struct Key(Arc<[u8]>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

/// A key that can be guessed is none.
const LEAST: usize = 16;

impl Key {
    /// Reads a key from a file; white space around it does not count.
    ///
    /// # Errors
    /// `InvalidOption` when the file cannot be read or holds less than 16 bytes.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let text = std::fs::read(path).map_err(|cause| {
            Error::new(Code::InvalidOption, format!("cannot read the key in {shown}")).caused_by(cause)
        })?;
        let key = text.trim_ascii();
        if key.len() < LEAST {
            let detail = format!("the key in {shown} has {} bytes; at least {LEAST} are needed", key.len());
            return Err(Error::new(Code::InvalidOption, detail));
        }
        Ok(Key(key.into()))
    }

    /// What only somebody with the key can say about a nonce.
    pub(crate) fn proof(&self, role: &str, nonce: &str) -> String {
        hex(&self.mac(role, nonce).finalize().into_bytes())
    }

    /// Whether a proof is right, in constant time.
    pub(crate) fn accepts(&self, role: &str, nonce: &str, proof: &str) -> bool {
        bytes(proof).is_some_and(|proof| self.mac(role, nonce).verify_slice(&proof).is_ok())
    }

    /// The role is part of it, so that nobody's proof can be given back to them as somebody else's.
    fn mac(&self, role: &str, nonce: &str) -> Hmac<Sha256> {
        #[allow(clippy::expect_used, reason = "HMAC takes keys of every length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key of any length");
        mac.update(role.as_bytes());
        mac.update(b"\0");
        mac.update(nonce.as_bytes());
        mac
    }
}

/// A fresh nonce: 122 random bits.
pub(crate) fn nonce() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    if !hex.is_ascii() || !hex.len().is_multiple_of(2) {
        return None;
    }
    (0..hex.len()).step_by(2).map(|n| u8::from_str_radix(&hex[n..n + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_and_role_and_nonce_prove_anything() {
        let (ours, theirs) = (Key(b"0123456789abcdef".as_slice().into()), Key(b"0123456789abcdee".as_slice().into()));
        let proof = ours.proof("client", "n");
        assert!(ours.accepts("client", "n", &proof));
        assert!(!theirs.accepts("client", "n", &proof));
        assert!(!ours.accepts("node", "n", &proof) && !ours.accepts("client", "m", &proof));
        assert!(
            !ours.accepts("client", "n", "") && !ours.accepts("client", "n", "zz") && !ours.accepts("client", "n", "é")
        );
        assert_eq!(format!("{ours:?}"), "Key(…)");
    }
}
