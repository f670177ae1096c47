//! Errors: what the client library says, as codes that a reader can act on.

use commute_core::{Code, Error};
use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};

/// Turns an error of the client into ours. Nothing that it says holds a password.
pub(crate) fn from(what: &str, error: &lapin::Error) -> Error {
    let code = match error.kind() {
        ErrorKind::ProtocolError(protocol) => match protocol.kind() {
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => Code::AccessRefused,
            AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND | AMQPSoftError::NOROUTE) => Code::TopologyMissing,
            AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED | AMQPSoftError::RESOURCELOCKED) => {
                Code::TopologyDiffers
            }
            // The answer to a virtual host that is not there, or that this user may not use.
            AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED | AMQPHardError::INVALIDPATH) => {
                let refused = protocol.get_message().as_str().contains("refused");
                if refused { Code::AccessRefused } else { Code::TopologyMissing }
            }
            _ => Code::BrokerUnavailable,
        },
        ErrorKind::IOError(cause) if is_tls(&cause.to_string()) => Code::TlsFailed,
        ErrorKind::AuthProviderError(_) => Code::AccessRefused,
        _ => Code::BrokerUnavailable,
    };
    Error::new(code, what).caused_by(error.to_string())
}

/// The handshake fails with an I/O error that says so in words only.
fn is_tls(text: &str) -> bool {
    ["certificate", "tls", "TLS", "UnknownIssuer", "handshake", "corrupt message"]
        .iter()
        .any(|word| text.contains(word))
}

/// Whether only the channel is gone, and why.
pub(crate) fn soft(error: &lapin::Error) -> Option<AMQPSoftError> {
    match error.kind() {
        ErrorKind::ProtocolError(protocol) => match protocol.kind() {
            AMQPErrorKind::Soft(soft) => Some(soft.clone()),
            AMQPErrorKind::Hard(_) => None,
        },
        _ => None,
    }
}

/// The server's own words.
pub(crate) fn words(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(protocol) => protocol.get_message().to_string(),
        _ => error.to_string(),
    }
}

pub(crate) fn closed() -> Error {
    Error::new(Code::Closed, "the connection to the broker is closed")
}
