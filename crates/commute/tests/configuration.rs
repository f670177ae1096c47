//! Configuration: who goes before whom, what every mistake is told, and that no output has a secret in it.

mod kit;

use commute::prelude::*;
use commute::{Code, Config};
use kit::{Ping, Pong};

async fn pong(ping: Ping) -> Pong {
    Pong { n: ping.n }
}

fn app() -> App {
    App::new("app")
        .on("shop.orders", handler(pong).publishes("shop.answers"))
        .on("shop.orders", handler(kit::silent).named("audit"))
}

/// A file, or the app that it is for, is refused with these words.
#[track_caller]
fn refused(text: &str, said: &str) {
    let wrong = match Config::from_toml("c.toml", text) {
        Err(wrong) => wrong,
        Ok(config) => app().configure(config).contract().expect_err(text),
    };
    assert_eq!(wrong.detail(), said);
    assert_eq!(wrong.code(), Code::InvalidConfig);
}

#[test]
fn an_unknown_key_is_told_the_nearest_one() {
    refused("\n  wokers = 3", r#"c.toml:2:3: unknown key "wokers"; did you mean "workers"?"#);
    refused(
        "[handlers.'shop.orders'.'test.ping']\nretry = { attemps = 3 }",
        r#"c.toml:2:11: unknown key "attemps"; did you mean "attempts"?"#,
    );
    refused(
        "[handlers.'shop.orders'.'test.ping']\ndead_letters = 'x'",
        r#"c.toml:2:1: unknown key "dead_letters"; did you mean "dead_letters_to"?"#,
    );
    refused(
        "[mapping.'shop.orders']\ntype = 'message_key'\nkeys = 'message_key'",
        r#"c.toml:3:1: unknown key "keys"; did you mean "key"?"#,
    );
    refused(
        "zzz = 1",
        "c.toml:1:1: unknown key \"zzz\"; known: broker, broker_file, workers, look_ahead, drain, measure_parallelism, \
         ignore_unknown_types, queue, mapping, admin, admin_beyond_loopback, control, handlers",
    );
}

#[test]
fn a_value_out_of_range_or_without_its_unit_is_told_what_there_is() {
    refused("workers = 0", "c.toml:1:11: workers is 0; it takes a whole number from 1 to 65536");
    refused("workers = -1", "c.toml:1:11: workers is -1; it takes a whole number from 1 to 65536");
    refused("workers = '8'", "c.toml:1:11: workers takes a whole number from 1 to 65536");
    refused("workers = 1.5", "c.toml:1:11: workers takes a whole number from 1 to 65536");
    refused("look_ahead = 99999999", "c.toml:1:14: look_ahead is 99999999; it takes a whole number from 1 to 16777216");
    refused("drain = 30", r#"c.toml:1:9: drain needs a unit; there are ms, s, m, h and d, as in "30s""#);
    refused("drain = '30'", r#"c.toml:1:9: drain needs a unit; there are ms, s, m, h and d, as in "30s""#);
    refused("drain = '30sec'", r#"c.toml:1:9: drain has no unit "sec"; there are ms, s, m, h and d, as in "30s""#);
    refused("drain = '25h'", "c.toml:1:9: drain is 25h; it takes a time from 0ms to 1d");
    refused("drain = true", "c.toml:1:9: drain takes a time from 0ms to 1d");
    refused("measure_parallelism = 'yes'", "c.toml:1:23: measure_parallelism takes true or false");
    refused("ignore_unknown_types = 'shop.orders'", "c.toml:1:24: ignore_unknown_types takes a list of topics");
    refused(
        "ignore_unknown_types = ['shop.orders', 3]",
        "c.toml:1:40: ignore_unknown_types takes names of topics, in quotes",
    );
    refused("broker = 3", "c.toml:1:10: broker takes a URL");
    refused("broker_file = ''", "c.toml:1:15: broker_file takes the path of a file");
}

/// The same in the table of a handler, `place` being the column of the value.
#[track_caller]
fn refused_of_handler(text: &str, said: &str) {
    let path = r#"handlers."shop.orders"."test.ping""#;
    refused(&format!("[handlers.'shop.orders'.'test.ping']\n{text}"), &said.replace("HANDLER", path));
}

#[test]
fn a_wrong_word_about_a_handler_is_told_the_right_ones() {
    refused_of_handler(
        "when_exhausted = 'parc'",
        "c.toml:2:18: HANDLER.when_exhausted takes \"park\" or \"park_primary\" or \"skip\"; did you mean \"park\"?",
    );
    refused_of_handler(
        "on_failure = 'release'",
        "c.toml:2:14: HANDLER.on_failure takes \"hold_lane\" or \"release_lane\"; did you mean \"release_lane\"?",
    );
    refused_of_handler("retry = 5", "c.toml:2:9: HANDLER.retry takes a table");
    refused_of_handler("retry.jitter = 2", "c.toml:2:16: HANDLER.retry.jitter is 2; it takes a number from 0 to 1");
    refused_of_handler("retry.jitter = nan", "c.toml:2:16: HANDLER.retry.jitter is NaN; it takes a number from 0 to 1");
    refused_of_handler("timeout = '0s'", "c.toml:2:11: HANDLER.timeout is 0ms; it takes a time from 1ms to 1d");
    refused_of_handler("exclusive = false", "c.toml:2:13: HANDLER.exclusive takes true");
    refused_of_handler(
        "exclusive = true\nindependent = true",
        "c.toml:3:1: independent and exclusive exclude each other; leave one out",
    );
    refused_of_handler(
        "dead_letters_to = 'a b'",
        "c.toml:2:19: HANDLER.dead_letters_to takes the name of a topic: use 1 to 200 of the characters a-z A-Z 0-9 . _ -, \
         beginning and ending with a letter or digit",
    );
    refused_of_handler(
        "publishes.'test.pung' = 'others'",
        r#"c.toml:2:11: the handler answers no "test.pung"; did you mean "test.pong"?"#,
    );
    refused_of_handler(
        "publishes.test.pong = 'others'",
        "c.toml:2:11: HANDLER.publishes.test takes the name of a topic; a type with dots needs quotes",
    );
}

#[test]
fn a_mapping_that_cannot_be_is_told_how_it_would() {
    let forms =
        "{ field = \"…\" }, { header = \"…\" }, { text = \"…\" } or \"message_id\", \"message_key\", \"coordinates\"";
    let head = "[mapping.'shop.orders']\n";
    refused(
        &format!("{head}key = 'message_key'"),
        "c.toml:1:10: mapping.\"shop.orders\" has no key \"type\", which says where the event's type is",
    );
    refused(
        &format!("{head}type = {{ feld = 'name' }}"),
        &format!("c.toml:2:8: mapping.\"shop.orders\".type takes {forms}; did you mean \"field\"?"),
    );
    refused(
        &format!("{head}type = 'mesage_id'"),
        &format!("c.toml:2:8: mapping.\"shop.orders\".type takes {forms}; did you mean \"message_id\"?"),
    );
    refused(&format!("{head}type = 3"), &format!("c.toml:2:8: mapping.\"shop.orders\".type takes {forms}"));
}

#[test]
fn what_the_app_does_not_have_is_told_the_nearest_that_it_has() {
    refused(
        "[queue]\n'shop.oders' = 'q'",
        r#"c.toml:2:1: queue."shop.oders": the app has no subscription on "shop.oders"; did you mean "shop.orders"?"#,
    );
    refused(
        "ignore_unknown_types = ['shop.oders']",
        r#"c.toml:1:25: ignore_unknown_types: the app has no subscription on "shop.oders"; did you mean "shop.orders"?"#,
    );
    refused(
        "[handlers.'shop.oders'.'test.ping']",
        r#"c.toml:1:11: handlers: the app has no subscription on "shop.oders"; did you mean "shop.orders"?"#,
    );
    refused(
        "[handlers.'shop.orders@adit'.'test.ping']",
        r#"c.toml:1:11: handlers: the app has no subscription on "shop.orders@adit"; did you mean "shop.orders@audit"?"#,
    );
    refused(
        "[handlers.'shop.orders'.'test.pin']",
        r#"c.toml:1:25: handlers."shop.orders": no handler takes "test.pin" there; did you mean "test.ping"?"#,
    );
    refused("[queue]\nshop.orders = 'q'", "c.toml:2:1: queue.shop takes a name; a topic with dots needs quotes");
    refused(
        "[handlers.shop.orders.'test.ping']",
        "c.toml:1:23: unknown key \"test.ping\"; known: retry, when_exhausted, on_failure, timeout, dead_letters_to, publishes, \
         exclusive, independent; a name with dots needs quotes",
    );
}

#[test]
fn all_mistakes_of_a_file_are_said_together_in_its_order() {
    refused(
        "zz = 1\nworkers = 0\n[handlers.t.u]\ntimeout = 1\n",
        "the configuration has 3 faults:\n  - c.toml:1:1: unknown key \"zz\"; known: broker, broker_file, workers, look_ahead, \
         drain, measure_parallelism, ignore_unknown_types, queue, mapping, admin, admin_beyond_loopback, control, handlers\n  - c.toml:2:11: workers is 0; it takes \
         a whole number from 1 to 65536\n  - c.toml:4:11: handlers.t.u.timeout needs a unit; there are ms, s, m, h and d, \
         as in \"30s\"",
    );
    let both = Config::from_toml("c.toml", "a = \nb = ]\n").unwrap_err();
    assert!(both.detail().contains("c.toml:1:") && both.detail().contains("c.toml:2:"), "{both}");
}

#[derive(Debug, commute::Events)]
enum Either {
    Ping(Ping),
    Pong(Pong),
}

#[test]
fn a_handler_is_found_by_any_of_its_types_and_has_one_table() {
    let either = async |either: Either| match either {
        Either::Ping(_) | Either::Pong(_) => {}
    };
    let refused = |text| App::new("app").on("t", handler(either)).configure(Config::from_toml("c.toml", text).unwrap());
    let twice = "[handlers.t.'test.ping']\ntimeout = '1s'\n[handlers.t.'test.pong']\nexclusive = true";
    let wrong = refused(twice).contract().unwrap_err();
    let said = r#"c.toml:3:13: "test.pong" is the handler of "test.ping" at c.toml:1:13; make them one table"#;
    assert_eq!(wrong.detail(), said);
    let once = refused("[handlers.t.'test.pong']\ntimeout = '1s'").contract().unwrap_err();
    assert!(once.detail().contains("has no broker"), "the table is right: {once}");
}

#[test]
fn the_files_in_the_guide_are_read() {
    let page = include_str!("../../../docs/guide/configuration.md");
    let blocks: Vec<_> = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        assert!(Config::from_toml("configuration.md", block).unwrap().settings().count() > 0);
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let wrong = Config::from_file("no/such.toml").unwrap_err();
    assert_eq!(wrong.detail(), "cannot read the configuration file no/such.toml");
}

#[track_caller]
fn refused_variable(name: &str, value: &str, said: &str) {
    let wrong = Config::default().with_variables([(name, value)]).expect_err(name);
    assert_eq!((wrong.detail(), wrong.code()), (said, Code::InvalidConfig));
}

#[test]
fn a_wrong_variable_is_told_what_is_right() {
    refused_variable("COMMUTE_WOKERS", "8", r#"COMMUTE_WOKERS: unknown variable; did you mean "COMMUTE_WORKERS"?"#);
    refused_variable("COMMUTE_WORKERS", "0", "COMMUTE_WORKERS: workers is 0; it takes a whole number from 1 to 65536");
    refused_variable("COMMUTE_WORKERS", "many", "COMMUTE_WORKERS: workers takes a whole number from 1 to 65536");
    refused_variable(
        "COMMUTE_DRAIN",
        "30",
        r#"COMMUTE_DRAIN: drain needs a unit; there are ms, s, m, h and d, as in "30s""#,
    );
    refused_variable("COMMUTE_QUEUE", "q", "COMMUTE_QUEUE: a variable cannot say this; say it in a file");
    refused_variable(
        "COMMUTE_HANDLERS__T__RETRY",
        "1",
        "COMMUTE_HANDLERS__T__RETRY: a variable cannot say this; say it in a file",
    );
    let both = [("COMMUTE_BROKER", "memory:"), ("COMMUTE_BROKER_FILE", "url")];
    let wrong = Config::default().with_variables(both).unwrap_err();
    assert_eq!(wrong.detail(), "COMMUTE_BROKER_FILE: broker_file and broker exclude each other; leave one out");
}

#[test]
fn variables_of_others_and_of_the_tests_are_left_alone() {
    let others = [("PATH", "/bin"), ("COMMUTE_WRITE", "1"), ("COMMUTE_SEED", "2"), ("COMMUTE_TEST_KAFKA", "kafka://h")];
    assert_eq!(Config::default().with_variables(others).unwrap().settings().count(), 0);
}

#[tokio::test]
async fn a_variable_goes_before_the_file_and_the_file_before_the_builder() {
    let broker = kit::broker().await;
    let file = Config::from_toml("c.toml", "workers = 5\nlook_ahead = 6").unwrap();
    let both = file.clone().with_variables([("COMMUTE_WORKERS", "7")]).unwrap();
    let workers = |config: Config, app: App| {
        app.workers(3).configure(config).broker(broker.clone()).workers(4).contract().unwrap().workers
    };
    assert_eq!(workers(Config::default(), app()), 4);
    assert_eq!(workers(file.clone(), app()), 5);
    assert_eq!(workers(both.clone(), app()), 7);
    assert_eq!(workers(Config::from_toml("d.toml", "workers = 9").unwrap(), app().configure(both.clone())), 9);
    let said: Vec<_> = both.settings().map(|setting| setting.to_string()).collect();
    assert_eq!(said, ["look_ahead = 6 (c.toml:2:14)", "workers = 7 (COMMUTE_WORKERS)"]);
    let contract = app().configure(both).broker(broker.clone()).contract().unwrap();
    assert!(contract.to_string().contains("configured: workers = 7 (COMMUTE_WORKERS)"), "{contract}");
}

#[tokio::test]
async fn the_broker_of_the_configuration_goes_before_the_builders_and_is_shared() {
    let config = Config::from_toml("c.toml", "broker_file = 'nowhere'").unwrap();
    let config = config.with_variables([("COMMUTE_BROKER", "memory:")]).unwrap();
    let before = app().configure(config.clone()).broker(kit::broker().await).contract().unwrap_err();
    assert!(before.detail().contains("await config.connect() first"), "{before}");
    let running = app().configure(config.clone()).broker(kit::broker().await).start().await.unwrap();
    let publisher = Publisher::new(config.connect().await.unwrap(), "test");
    publisher.publish("shop.orders", &Ping::new(1)).await.unwrap();
    running.idle().await.unwrap();
    let received: u64 = running.stats().subscriptions.iter().map(|sub| sub.received).sum();
    assert_eq!(received, 2, "one for each subscription");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_check_says_what_would_run() {
    let config = Config::from_toml("c.toml", "broker = 'memory:'\nworkers = 5").unwrap();
    let checked = config.check().await.unwrap();
    assert_eq!(checked.settings.len(), 2);
    assert_eq!(checked.broker.as_ref().unwrap().capabilities, kit::broker().await.capabilities().clone());
    let said = checked.to_string();
    assert!(said.contains("workers = 5 (c.toml:2:11)") && said.contains("a receipt means"), "{said}");
    let missing = Config::from_toml("c.toml", "broker_file = '/no/such/file'").unwrap().check().await.unwrap();
    let said = missing.unreachable.unwrap();
    assert!(said.starts_with("c.toml:1:15: broker_file: cannot read /no/such/file (CM0036)"), "{said}");
    assert!(Config::default().check().await.unwrap().to_string().contains("nothing is said"));
}

/// Everything that is said of a configuration, right or wrong.
async fn everything_said(config: commute::Result<Config>) -> String {
    let config = match config {
        Ok(config) => config,
        Err(error) => return format!("{error:?} {error} {}", error.report()),
    };
    let mut said = format!("{config:?}");
    let checked = config.check().await.unwrap();
    said += &format!("{checked} {checked:?} {}", serde_json::to_string(&checked).unwrap());
    match config.connect().await {
        Ok(broker) => said += &format!("{} {}", broker.address(), broker.driver()),
        Err(error) => said += &format!("{error:?} {}", error.report()),
    }
    let app = app().broker(kit::broker().await).configure(config);
    said += &format!("{app:?}");
    match app.contract() {
        Ok(contract) => said += &format!("{contract} {contract:?} {}", serde_json::to_string(&contract).unwrap()),
        Err(error) => said += &format!("{error:?} {}", error.report()),
    }
    said
}

#[tokio::test]
async fn no_output_has_a_password_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let urls = [
        "amqp://me:hunter2@127.0.0.1:1/%2f",
        "amqp://me:hunter2@127.0.0.1:1/%2f?speed=1",
        "amqp://me:hunter2@not a host",
        "amqp://me:a?hunter2@127.0.0.1:1",
        "amqp://me:a?b&hunter2=c@127.0.0.1:1",
        "amqp//me:hunter2@127.0.0.1",
        "ampq://me:hunter2@127.0.0.1",
        "kafka://me:hunter2@127.0.0.1:1?sasl=hunter",
        "memory://me:hunter2@127.0.0.1",
        "redis://me:hunter2@127.0.0.1",
        "me:hunter2@127.0.0.1",
        "hunter2@127.0.0.1:5672",
        "hunter2:5672",
        "hunter2",
    ];
    for url in urls {
        let file = folder.path().join("url");
        std::fs::write(&file, format!("{url}\n")).unwrap();
        let secret_file = format!("broker_file = {:?}", file.display().to_string());
        let two_lines = folder.path().join("two");
        std::fs::write(&two_lines, format!("kafka://127.0.0.1:1\n{url}\n")).unwrap();
        let variable = |name: &'static str, value: &str| Config::default().with_variables([(name, value)]);
        let places = [
            Config::from_toml("c.toml", &format!("broker = {url:?}")),
            Config::from_toml("c.toml", &format!("broker = \"{url}\nworkers = 1")),
            Config::from_toml("c.toml", &format!("broker = {url}")),
            Config::from_toml("c.toml", &format!("broker = [{url:?}]")),
            Config::from_toml("c.toml", &format!("drain = {url:?}")),
            Config::from_toml("c.toml", &format!("measure_parallelism = {url:?}")),
            Config::from_toml("c.toml", &secret_file),
            Config::from_toml("c.toml", &format!("broker_file = {:?}", two_lines.display().to_string())),
            variable("COMMUTE_BROKER", url),
            variable("COMMUTE_WORKERS", url),
            variable("COMMUTE_DRAIN", url),
            variable("COMMUTE_BROKER_FILE", &file.display().to_string()),
        ];
        for (n, place) in places.into_iter().enumerate() {
            let said = everything_said(place).await;
            assert!(!said.contains("hunter2"), "{url}, place {n}: {said}");
        }
        if url.contains("://") {
            let misplaced = [
                format!("{url:?} = 1"),
                format!("broker_file = {url:?}"),
                format!("queue.'shop.orders' = {url:?}"),
                format!("ignore_unknown_types = [{url:?}]"),
                format!("[handlers.{url:?}.x]"),
                format!("[handlers.'shop.orders'.{url:?}]"),
                format!("[handlers.'shop.orders'.'test.ping']\ndead_letters_to = {url:?}"),
                format!("[handlers.'shop.orders'.'test.ping']\npublishes.{url:?} = 'x'"),
            ];
            for text in misplaced {
                let said = everything_said(Config::from_toml("c.toml", &text)).await;
                assert!(!said.contains("hunter2"), "{text}: {said}");
            }
        }
    }
}
