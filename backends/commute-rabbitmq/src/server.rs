//! The server: which product and version it is, what that lacks, and whether it will do.

use commute_core::{Capabilities, Code, Durability, Error, GroupOrder, Result, Server};

use crate::greeting::Greeting;
use crate::options::{Options, QueueType};

/// The first version with quorum queues and single active consumers. Older ones do not know what they are asked for, and
/// ignore it.
const OLDEST: Version = (3, 8);
/// Between these it is known what works.
const TESTED: (Version, Version) = ((3, 10), (4, 0));
/// From here on a quorum queue drops what came back 20 times, unless it was told otherwise.
const DROPS: Version = (4, 0);
/// What every server offers that was not told otherwise. Attributes travel in one frame.
const FRAME: u32 = 128 << 10;

/// What publishing relies on; without it there is no telling whether an event arrived.
const CONFIRMS: &str = "publisher_confirms";
/// What says that a queue was deleted under its consumer.
const CANCELS: &str = "consumer_cancel_notify";

type Version = (u32, u32);

/// What is known of a server, when it will do.
///
/// # Errors
/// `NeedNotMet` when it will not.
pub(crate) fn check(greeting: Option<Greeting>, frame_max: u32, options: &Options) -> Result<Server> {
    let Greeting { product, version, capabilities } = greeting.unwrap_or_default();
    let mut server = Server {
        product: if product.is_empty() { "an AMQP server without a name".to_owned() } else { product },
        version: (!version.is_empty()).then_some(version),
        degradations: Vec::new(),
    };
    let refused = |why: String| Err(Error::new(Code::NeedNotMet, format!("{} is {server}, {why}", options.address())));
    if !capabilities.iter().any(|name| name == CONFIRMS) {
        return refused("which does not confirm what is published: use RabbitMQ 3.8 or later".to_owned());
    }
    if (1..FRAME).contains(&frame_max) {
        let why = format!("which takes frames of {frame_max} bytes: set frame_max to {FRAME}, its default, or more");
        return refused(why);
    }
    let known = is_rabbitmq(&server).then(|| version_of(&server)).flatten();
    if known.is_some_and(|version| version < OLDEST) {
        let why = "which has neither quorum queues nor single active consumers: upgrade it to 3.8 or later";
        return refused(why.to_owned());
    }
    server.degradations = degradations(&server, known, &capabilities, options);
    Ok(server)
}

fn degradations(server: &Server, known: Option<Version>, capabilities: &[String], options: &Options) -> Vec<String> {
    let (oldest, newest) = TESTED;
    let mut less = Vec::new();
    match known {
        None if is_rabbitmq(server) => less.push("it is not known what this version gives".to_owned()),
        None => less.push(
            "only RabbitMQ is tested; a receipt is taken to mean written and not synced, and several instances to keep no \
             order between them"
                .to_owned(),
        ),
        Some(version) if version < oldest => less.push(format!("the oldest that is tested is {}", text(oldest))),
        Some((major, _)) if major > newest.0 => less.push(format!("the newest that is tested is {}", text(newest))),
        Some(_) => {}
    }
    if known.is_some_and(|version| version <= oldest) && options.queue_type == QueueType::Quorum {
        less.push(
            "a quorum queue of a single node can stay without a leader when the server was killed, until an operator \
             triggers its election (rabbitmq-server issue 10070)"
                .to_owned(),
        );
    }
    if known.is_some_and(|version| version >= DROPS) {
        less.push(
            "a quorum queue that commute has not declared drops an event that came back 20 times, unless the queue or a \
             policy has another delivery-limit"
                .to_owned(),
        );
    }
    if !capabilities.iter().any(|name| name == CANCELS) {
        less.push("that a queue was deleted is not noticed by who consumes it".to_owned());
    }
    less
}

/// What this server gives, where it is less than what RabbitMQ does.
pub(crate) fn lessened(given: Capabilities, server: &Server) -> Capabilities {
    if is_rabbitmq(server) {
        return given;
    }
    Capabilities { durability: Durability::Written, group_order: GroupOrder::None, ..given }
}

fn is_rabbitmq(server: &Server) -> bool {
    server.product.eq_ignore_ascii_case("rabbitmq")
}

/// Major and minor of `3.10.8`, `4.1.0-rc.2` or `4.0`.
fn version_of(server: &Server) -> Option<Version> {
    let mut numbers = server.version.as_ref()?.split(['.', '-', '+']).map(|part| part.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

fn text((major, minor): Version) -> String {
    format!("{major}.{minor}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting(product: &str, version: &str) -> Option<Greeting> {
        let capabilities = [CONFIRMS, CANCELS].map(str::to_owned).to_vec();
        Some(Greeting { product: product.to_owned(), version: version.to_owned(), capabilities })
    }

    fn options(more: &str) -> Options {
        Options::new(&format!("amqp://u:s3cret@h:5672/%2f{more}")).unwrap()
    }

    fn refusal(greeting: Option<Greeting>, frame_max: u32) -> String {
        let refused = check(greeting, frame_max, &options("")).unwrap_err();
        assert_eq!(refused.code(), Code::NeedNotMet);
        assert!(!refused.report().contains("s3cret"), "{refused}");
        refused.detail().to_owned()
    }

    #[test]
    fn versions_are_read_however_they_are_written() {
        for (text, expected) in [
            ("3.10.8", Some((3, 10))),
            ("4.0.0-beta.6", Some((4, 0))),
            ("4.1-rc1", Some((4, 1))),
            ("4.2.0+17.g1234", Some((4, 2))),
            ("12.34", Some((12, 34))),
            ("four", None),
            ("4", None),
            ("", None),
        ] {
            let server = Server { version: Some(text.to_owned()), ..Server::default() };
            assert_eq!(version_of(&server), expected, "{text}");
        }
    }

    #[test]
    fn what_is_too_old_or_cannot_confirm_is_refused_with_what_to_do() {
        for version in ["3.7.28", "2.8.7"] {
            let why = refusal(greeting("RabbitMQ", version), FRAME);
            assert!(why.contains(version) && why.contains("upgrade it to 3.8"), "{why}");
        }
        let silent = Greeting { capabilities: Vec::new(), ..greeting("qpid", "9.2.0").unwrap() };
        let why = refusal(Some(silent), FRAME);
        assert!(why.contains("amqp://h:5672/%2f is qpid 9.2.0") && why.contains("does not confirm"), "{why}");
        assert!(refusal(None, FRAME).contains("without a name of an unknown version"));
        let why = refusal(greeting("RabbitMQ", "4.0.5"), 65_536);
        assert!(why.contains("frames of 65536 bytes") && why.contains("frame_max to 131072"), "{why}");
    }

    #[test]
    fn each_version_says_what_it_gives_less() {
        // A word of each degradation, in order.
        for (product, version, more, expected) in [
            ("RabbitMQ", "3.8.0", "", &["oldest", "10070"][..]),
            ("RabbitMQ", "3.10.8", "", &["10070"]),
            ("RabbitMQ", "3.10.8", "?queue_type=classic", &[]),
            ("RabbitMQ", "3.13.7", "", &[]),
            ("RabbitMQ", "4.0.5", "", &["20 times"]),
            ("RabbitMQ", "4.1.0", "", &["20 times"]),
            ("RabbitMQ", "5.0.0", "", &["newest", "20 times"]),
            ("RabbitMQ", "?", "", &["not known"]),
            ("LavinMQ", "2.4.0", "", &["only RabbitMQ"]),
        ] {
            let server = check(greeting(product, version), 0, &options(more)).unwrap();
            let said = &server.degradations;
            assert_eq!(said.len(), expected.len(), "{server}: {said:?}");
            assert!(said.iter().zip(expected).all(|(said, word)| said.contains(word)), "{server}: {said:?}");
        }
        let deaf = Greeting { capabilities: vec![CONFIRMS.to_owned()], ..greeting("RabbitMQ", "4.0.5").unwrap() };
        assert_eq!(check(Some(deaf), FRAME, &options("")).unwrap().degradations.len(), 2);
    }

    #[test]
    fn another_product_is_promised_less_for() {
        let options = options("");
        let given = |product: &str| {
            let server = check(greeting(product, "4.0.5"), FRAME, &options).unwrap();
            let given = lessened(crate::capabilities(&options), &server);
            (given.durability, given.group_order)
        };
        assert_eq!(given("RabbitMQ"), (Durability::Synced, GroupOrder::SingleActive));
        assert_eq!(given("LavinMQ"), (Durability::Written, GroupOrder::None));
    }
}
