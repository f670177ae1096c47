//! The server: what its settings and its topics say, what follows from that, and whether it will do.

use commute_core::{Code, Error, Result, Server};

use crate::capabilities::Limits;
use crate::options::Options;
use crate::progress::LONGEST_POINTER;
use crate::settings::Settings;

/// Versions that are known to work.
const OLDEST_TESTED: (u32, u32) = (3, 9);
/// How long a group may be empty before its progress is forgotten, unless the server was told otherwise.
const RETENTION_MINUTES: u64 = 10_080;
/// Only in versions before 4.0.
const PROTOCOL: &str = "inter.broker.protocol.version";
/// Not in versions before 3.7.
const COORDINATOR: &str = "group.coordinator.rebalance.protocols";

/// What is known of a server, when it will do. Without settings nothing is known, and the usual is expected.
///
/// # Errors
/// `NeedNotMet` when it will not, `InvalidOption` when it will not take what the options say.
pub(crate) fn check(settings: Option<&Settings>, limits: &Limits, options: &Options) -> Result<Server> {
    let mut server = Server { product: "Kafka".to_owned(), ..Server::default() };
    let Some(settings) = settings else {
        let unseen = "its settings are not for this user to see (DescribeConfigs on the cluster): its limits are taken to \
                      be the usual ones";
        server.degradations.push(unseen.to_owned());
        return Ok(server);
    };
    server.version = version(settings);
    let label = options.label();
    if limits.metadata_bytes < LONGEST_POINTER {
        let detail = format!(
            "{label} has offset.metadata.max.bytes={}, and progress needs {LONGEST_POINTER}: set it to 4096, its default",
            limits.metadata_bytes
        );
        return Err(Error::new(Code::NeedNotMet, detail));
    }
    if limits.event_bytes() == 0 {
        let detail = format!(
            "{label} has message.max.bytes={}, which is less than what may go with an event: set it to 1048588, its \
             default",
            limits.message_bytes
        );
        return Err(Error::new(Code::NeedNotMet, detail));
    }
    let session = options.session_timeout.as_millis();
    let shortest = settings.number("group.min.session.timeout.ms").unwrap_or(0);
    let longest = settings.number("group.max.session.timeout.ms").unwrap_or(u128::MAX);
    if !(shortest..=longest).contains(&session) {
        let detail = format!("session_timeout_ms is {session}; {label} allows {shortest} to {longest}");
        return Err(Error::new(Code::InvalidOption, detail));
    }
    server.degradations = degradations(settings, limits);
    Ok(server)
}

fn degradations(settings: &Settings, limits: &Limits) -> Vec<String> {
    let mut less = Vec::new();
    let (major, minor) = OLDEST_TESTED;
    if protocol(settings).is_some_and(|version| version < OLDEST_TESTED) {
        less.push(format!("the oldest that is tested is {major}.{minor}"));
    }
    if limits.has_small_metadata() {
        less.push(format!(
            "progress of more than {} bytes goes to the topic beside the source: offset.metadata.max.bytes is smaller than \
             its default",
            limits.metadata_bytes
        ));
    }
    if limits.has_small_events() {
        let (event, message) = (limits.event_bytes(), limits.message_bytes);
        less.push(format!("an event may have {event} bytes: message.max.bytes is {message}"));
    }
    let Limits { replication, in_sync, .. } = *limits;
    if replication >= 2 && in_sync < 2 {
        less.push(
            "a receipt means that one of the replicas has the event: min.insync.replicas is 1, and 2 would be safe"
                .to_owned(),
        );
    }
    if in_sync > replication {
        less.push(format!(
            "a topic that is created takes no events: it gets {replication} replicas, and min.insync.replicas is {in_sync}"
        ));
    }
    if settings.text("unclean.leader.election.enable") == Some("true") {
        less.push(
            "a replica that has not everything may become leader, and what was confirmed is lost then: \
                   unclean.leader.election.enable is true"
                .to_owned(),
        );
    }
    let retention = settings.number("offsets.retention.minutes").unwrap_or(RETENTION_MINUTES);
    if retention < RETENTION_MINUTES {
        less.push(format!(
            "a group that was empty for {retention} minutes begins anew, and gets again what it has handled: \
             offsets.retention.minutes"
        ));
    }
    less
}

/// The version, as far as it can be told: no request asks for it.
fn version(settings: &Settings) -> Option<String> {
    match protocol(settings) {
        Some((major, minor)) => Some(format!("{major}.{minor}")),
        None => settings.text(COORDINATOR).map(|_| "4.0 or later".to_owned()),
    }
}

/// What servers before 4.0 say that they speak to each other: `3.9-IV0`, or `2.8`.
fn protocol(settings: &Settings) -> Option<(u32, u32)> {
    let mut numbers = settings.text(PROTOCOL)?.split(['.', '-']).map(|part| part.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// What a topic that exists gives less than the contract says. `replicas` is the least that a partition of it has.
pub(crate) fn topic_degradations(settings: &Settings, replicas: usize, limits: &Limits) -> Vec<String> {
    let mut less = Vec::new();
    let largest = settings.number("max.message.bytes").unwrap_or(limits.message_bytes);
    if largest < limits.message_bytes {
        less.push(format!("it takes records of {largest} bytes only (max.message.bytes)"));
    }
    if is_compacted(settings) {
        less.push("an event is deleted when a later one with its key comes (cleanup.policy)".to_owned());
    }
    let in_sync = settings.number("min.insync.replicas").unwrap_or(limits.in_sync);
    let promised = limits.replication >= 2 && limits.in_sync >= 2;
    if promised && (replicas < 2 || in_sync < 2) {
        less.push(format!(
            "a receipt means written and not replicated: it has {replicas} replicas, of which {in_sync} must have an event \
             (min.insync.replicas)"
        ));
    }
    less
}

/// Whether records are kept until a later one has their key.
pub(crate) fn is_compacted(settings: &Settings) -> bool {
    settings.text("cleanup.policy").is_some_and(|policy| policy.split(',').any(|word| word.trim() == "compact"))
}

/// Refuses a topic beside a source that would forget what is parked.
pub(crate) fn check_aside(name: &str, settings: &Settings) -> Result<()> {
    let policy = settings.text("cleanup.policy").unwrap_or("compact");
    if policy.trim() == "compact" {
        return Ok(());
    }
    let detail = format!(
        "topic {name} keeps what is parked, and has cleanup.policy={policy}, which deletes it after some time: set it to \
         compact"
    );
    Err(Error::new(Code::TopologyDiffers, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        Settings(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    fn options(more: &str) -> Options {
        Options::from_address(commute_core::Address::parse(&format!("kafka://u:s3cret@h:9092{more}")).unwrap()).unwrap()
    }

    fn checked(pairs: &[(&str, &str)], more: &str) -> Result<Server> {
        let (settings, options) = (settings(pairs), options(more));
        check(Some(&settings), &Limits::of(Some(&settings), &options), &options)
    }

    #[test]
    fn the_version_is_told_by_the_settings() {
        for (pairs, expected) in [
            (&[(PROTOCOL, "3.9-IV0"), (COORDINATOR, "classic")][..], Some("3.9")),
            (&[(PROTOCOL, "2.8")], Some("2.8")),
            (&[(COORDINATOR, "classic,consumer")], Some("4.0 or later")),
            (&[(PROTOCOL, "?")], None),
            (&[], None),
        ] {
            assert_eq!(version(&settings(pairs)).as_deref(), expected, "{pairs:?}");
        }
        assert_eq!(checked(&[(PROTOCOL, "2.8-IV1")], "").unwrap().to_string(), "Kafka 2.8");
        assert_eq!(checked(&[], "").unwrap().to_string(), "Kafka of an unknown version");
    }

    #[test]
    fn what_is_too_small_is_refused_with_what_to_set() {
        for (pair, more, code, words) in [
            (("offset.metadata.max.bytes", "40"), "", Code::NeedNotMet, "offset.metadata.max.bytes=40"),
            (("message.max.bytes", "1000"), "", Code::NeedNotMet, "message.max.bytes=1000"),
            (("group.min.session.timeout.ms", "6000"), "?session_timeout_ms=5999", Code::InvalidOption, "6000 to"),
            (("group.max.session.timeout.ms", "9999"), "", Code::InvalidOption, "0 to 9999"),
        ] {
            let refused = checked(&[pair], more).unwrap_err();
            assert_eq!(refused.code(), code, "{pair:?}");
            assert!(refused.detail().contains(words) && !refused.report().contains("s3cret"), "{refused}");
        }
        checked(&[("offset.metadata.max.bytes", "67"), ("group.max.session.timeout.ms", "10000")], "").unwrap();
    }

    #[test]
    fn what_is_smaller_than_usual_is_said() {
        for (pairs, more, expected) in [
            (&[][..], "", None),
            (&[("offset.metadata.max.bytes", "4096"), ("message.max.bytes", "1048588")], "", None),
            (&[(PROTOCOL, "3.9-IV0"), ("offsets.retention.minutes", "10080")], "", None),
            (&[("default.replication.factor", "3"), ("min.insync.replicas", "2")], "", None),
            (&[(PROTOCOL, "3.8-IV0")], "", Some("oldest that is tested is 3.9")),
            (&[("offset.metadata.max.bytes", "1000")], "", Some("more than 1000 bytes")),
            (&[("message.max.bytes", "100000")], "", Some("may have 50848 bytes")),
            (&[("default.replication.factor", "3")], "", Some("one of the replicas")),
            (&[("min.insync.replicas", "2")], "", Some("takes no events")),
            (&[("default.replication.factor", "3"), ("min.insync.replicas", "2")], "?replication=1", Some("takes no")),
            (&[("unclean.leader.election.enable", "true")], "", Some("unclean")),
            (&[("offsets.retention.minutes", "60")], "", Some("empty for 60 minutes")),
        ] {
            let said = checked(pairs, more).unwrap().degradations;
            assert_eq!(said.len(), usize::from(expected.is_some()), "{pairs:?}: {said:?}");
            assert!(said.iter().all(|said| said.contains(expected.unwrap_or_default())), "{pairs:?}: {said:?}");
        }
        let unseen = check(None, &Limits::of(None, &options("")), &options("")).unwrap();
        assert!(unseen.degradations[0].contains("DescribeConfigs"), "{unseen:?}");
    }

    #[test]
    fn a_topic_that_gives_less_than_the_contract_says_so() {
        let replicated = settings(&[("default.replication.factor", "3"), ("min.insync.replicas", "2")]);
        let limits = Limits::of(Some(&replicated), &options(""));
        for (pairs, replicas, expected) in [
            (
                &[("max.message.bytes", "1048588"), ("cleanup.policy", "delete"), ("min.insync.replicas", "2")][..],
                3,
                None,
            ),
            (&[("max.message.bytes", "5000")], 3, Some("records of 5000 bytes")),
            (&[("cleanup.policy", "delete,compact")], 3, Some("with its key")),
            (&[("min.insync.replicas", "1")], 3, Some("not replicated")),
            (&[("min.insync.replicas", "2")], 1, Some("has 1 replicas")),
        ] {
            let said = topic_degradations(&settings(pairs), replicas, &limits);
            assert_eq!(said.len(), usize::from(expected.is_some()), "{pairs:?}: {said:?}");
            assert!(said.iter().all(|said| said.contains(expected.unwrap_or_default())), "{said:?}");
        }
        for (policy, is_refused) in [("compact", false), ("delete", true), ("compact,delete", true)] {
            let refused = check_aside("g.t.aside", &settings(&[("cleanup.policy", policy)])).is_err();
            assert_eq!(refused, is_refused, "{policy}");
        }
    }
}
