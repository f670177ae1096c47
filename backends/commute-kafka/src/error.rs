//! Errors of Kafka, as errors that tell a person what to do.

use commute_core::{Code, Error};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Kafka};

/// An error of the client library while doing something.
pub(crate) fn failed(what: impl Into<String>, cause: KafkaError) -> Error {
    let code = match &cause {
        KafkaError::ClientConfig(..) => Code::InvalidOption,
        KafkaError::ClientCreation(text) if text.contains("ssl") || text.contains("SSL") => Code::TlsFailed,
        KafkaError::ClientCreation(_) => Code::InvalidOption,
        other => other.rdkafka_error_code().map_or(Code::BrokerUnavailable, code),
    };
    Error::new(code, what).caused_by(cause)
}

/// What Kafka answered to one item of a request.
pub(crate) fn refused(what: impl Into<String>, answer: Kafka) -> Error {
    Error::new(code(answer), what).caused_by(KafkaError::Global(answer))
}

/// Our code for one of theirs.
pub(crate) fn code(answer: Kafka) -> Code {
    match answer {
        Kafka::Authentication
        | Kafka::SaslAuthenticationFailed
        | Kafka::UnsupportedSASLMechanism
        | Kafka::IllegalSASLState
        | Kafka::TopicAuthorizationFailed
        | Kafka::GroupAuthorizationFailed
        | Kafka::ClusterAuthorizationFailed
        | Kafka::TransactionalIdAuthorizationFailed => Code::AccessRefused,
        Kafka::UnknownTopicOrPartition | Kafka::UnknownTopic | Kafka::UnknownPartition => Code::TopologyMissing,
        Kafka::InvalidReplicationFactor
        | Kafka::InvalidPartitions
        | Kafka::PolicyViolation
        | Kafka::InvalidTopic
        | Kafka::InvalidConfig
        | Kafka::InconsistentGroupProtocol => Code::TopologyDiffers,
        Kafka::MessageSizeTooLarge | Kafka::InvalidMessageSize => Code::PayloadTooLarge,
        Kafka::SSL => Code::TlsFailed,
        // A server that is too old, or speaks the protocol without all of it.
        Kafka::UnsupportedVersion | Kafka::UnsupportedFeature | Kafka::UnsupportedForMessageFormat => Code::NeedNotMet,
        Kafka::InvalidArgument | Kafka::InvalidSessionTimeout => Code::InvalidOption,
        _ => Code::BrokerUnavailable,
    }
}

/// Whether the same request may succeed in a moment: connections, elections and rebalances come to an end.
pub(crate) fn is_transient(cause: &KafkaError) -> bool {
    let lasting =
        [Code::AccessRefused, Code::TopologyMissing, Code::TopologyDiffers, Code::PayloadTooLarge, Code::NeedNotMet];
    match cause.rdkafka_error_code() {
        Some(Kafka::OffsetMetadataTooLarge | Kafka::InvalidGroupId) => false,
        Some(answer) => !lasting.contains(&code(answer)),
        None => true,
    }
}
