//! Tests of what keys do: each has the effect of the builder's word, from a file and from a variable.

use std::time::Duration;

use commute_core::foreign::{Mapping, Origin, field, header, text};
use commute_core::{Error, Event, HandlerError};
use serde::{Deserialize, Serialize};

use super::Config;
use super::schema::{APP, HANDLER, Key, Kind, MAPPING};
use crate::app::App;
use crate::handler::{HandlerSpec, handler};
use crate::retry::{Backoff, Exhausted, OnFailure};

#[derive(Debug, Serialize, Deserialize)]
struct Asked {
    n: u64,
}

impl Event for Asked {
    const TYPE: &'static str = "test.asked";

    fn key(&self) -> Option<String> {
        Some(self.n.to_string())
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Answered {
    n: u64,
}

impl Event for Answered {
    const TYPE: &'static str = "test.answered";
}

async fn answer(asked: Asked) -> Result<Answered, HandlerError> {
    Ok(Answered { n: asked.n })
}

fn spec() -> HandlerSpec<Asked> {
    handler(answer).publishes("answers")
}

fn app(spec: HandlerSpec<Asked>) -> App {
    App::new("app").on("shop.questions", spec)
}

/// Everything about an app that a configuration can change.
fn picture(app: &App) -> String {
    let handlers: Vec<_> = app
        .handlers
        .iter()
        .map(|(topic, parts)| {
            let asked: crate::handler::Decoded = Box::new(Asked { n: 7 });
            let rest = (parts.when_exhausted, parts.on_failure, parts.timeout, &parts.dead_letters, parts.scope);
            format!("{topic} {:?} {rest:?} {:?} {:?}", parts.backoff, parts.topics, (parts.lanes)(&asked))
        })
        .collect();
    let limits = (app.workers, app.limits, app.drain, app.measure);
    let doors = (&app.admin, &app.control);
    format!("{limits:?} {doors:?} {:?} {:?} {:?} {handlers:#?}", app.ignored, app.mappings, app.queues)
}

fn configured(config: Config, app: App) -> Result<String, Error> {
    config.apply(app).map(|app| picture(&app))
}

const HANDLER_HEAD: &str = "[handlers.'shop.questions'.'test.asked']\n";

/// A row for every key of an app: file, variables, and what the builder would say.
#[test]
fn a_key_of_an_app_does_what_the_builder_does() {
    type Build = fn(App) -> App;
    type Variables = &'static [(&'static str, &'static str)];
    let rows: &[(&str, Variables, Build)] = &[
        ("broker = 'memory:'", &[("COMMUTE_BROKER", "memory:")], |app| app),
        ("broker_file = 'url'", &[("COMMUTE_BROKER_FILE", "url")], |app| app),
        ("workers = 7", &[("COMMUTE_WORKERS", "7")], |app| app.workers(7)),
        ("look_ahead = 5", &[("COMMUTE_LOOK_AHEAD", " 5 ")], |app| app.look_ahead(5)),
        ("look_ahead = 9999", &[("COMMUTE_LOOK_AHEAD", "9999")], |app| app.look_ahead(9999)),
        ("drain = '5m'", &[("COMMUTE_DRAIN", "5m")], |app| app.drain(Duration::from_secs(300))),
        ("measure_parallelism = true", &[("COMMUTE_MEASURE_PARALLELISM", "true")], App::measure_parallelism),
        ("ignore_unknown_types = ['shop.questions']", &[("COMMUTE_IGNORE_UNKNOWN_TYPES", "shop.questions, ")], |app| {
            app.ignore_unknown_types("shop.questions")
        }),
        ("admin = '127.0.0.1:0'", &[("COMMUTE_ADMIN", "127.0.0.1:0")], |mut app| {
            app.admin.address = Some("127.0.0.1:0".to_owned());
            app
        }),
        ("admin_beyond_loopback = true", &[("COMMUTE_ADMIN_BEYOND_LOOPBACK", "true")], |mut app| {
            app.admin.beyond_loopback = true;
            app
        }),
        ("control = '/run/app.sock'", &[("COMMUTE_CONTROL", "/run/app.sock")], |app| app.control("/run/app.sock")),
        ("queue.'shop.questions' = 'old'", &[], |app| app.queue("shop.questions", "old")),
        ("mapping.'shop.questions'.type = {text = 'test.asked'}", &[], |app| {
            app.mapping("shop.questions", Mapping::of(text("test.asked")))
        }),
        ("handlers.'shop.questions'.'test.asked' = {}", &[], |app| app),
    ];
    let tried = |key: &&Key<App>| rows.iter().any(|(file, ..)| file.split(['.', ' ']).next() == Some(key.name));
    assert_eq!(APP.iter().filter(tried).count(), APP.len(), "a row for every key");
    for (file, variables, build) in rows {
        let built = picture(&build(app(spec())));
        assert_eq!(configured(Config::from_toml("f", file).unwrap(), app(spec())).unwrap(), built, "{file}");
        if !variables.is_empty() {
            let config = Config::default().with_variables(variables.iter().copied()).unwrap();
            assert_eq!(configured(config, app(spec())).unwrap(), built, "{variables:?}");
        }
    }
}

#[test]
fn a_key_of_a_handler_does_what_the_builder_does() {
    type Build = fn(HandlerSpec<Asked>) -> HandlerSpec<Asked>;
    let rows: &[(&str, Build)] = &[
        ("retry.attempts = 9", |spec| spec.retry(Backoff::default().attempts(9))),
        ("retry.first = '1ms'", |spec| spec.retry(Backoff::default().first(Duration::from_millis(1)))),
        ("retry.longest = '1h'", |spec| spec.retry(Backoff::default().longest(Duration::from_secs(3600)))),
        ("retry.factor = 3", |spec| spec.retry(Backoff::default().factor(3.0))),
        ("retry.jitter = 0.25", |spec| spec.retry(Backoff::default().jitter(0.25))),
        ("retry.budget = 1.5", |spec| spec.retry(Backoff::default().budget(1.5))),
        ("retry = { first = '2s', longest = '2s', factor = 1, jitter = 0 }", |spec| {
            spec.retry(Backoff::fixed(Duration::from_secs(2)))
        }),
        ("when_exhausted = 'park'", |spec| spec.when_exhausted(Exhausted::Park)),
        ("when_exhausted = 'park_primary'", |spec| spec.when_exhausted(Exhausted::ParkPrimary)),
        ("when_exhausted = 'skip'", |spec| spec.when_exhausted(Exhausted::Skip)),
        ("on_failure = 'hold_lane'", |spec| spec.on_failure(OnFailure::HoldLane)),
        ("on_failure = 'release_lane'", |spec| spec.on_failure(OnFailure::ReleaseLane)),
        ("timeout = '250ms'", |spec| spec.timeout(Duration::from_millis(250))),
        ("dead_letters_to = 'graves'", |spec| spec.dead_letters_to("graves")),
        ("publishes = 'others'", |spec| spec.publishes("others")),
        ("publishes = { 'test.answered' = 'others' }", |spec| spec.publishes_type::<Answered>("others")),
        ("exclusive = true", HandlerSpec::exclusive),
        ("independent = true", HandlerSpec::independent),
    ];
    let name = |text: &str| text.split([' ']).next().unwrap_or_default().to_owned();
    for key in HANDLER {
        match &key.kind {
            Kind::Table(inner) => {
                for inner in *inner {
                    let path = format!("{}.{}", key.name, inner.name);
                    assert!(rows.iter().any(|(file, _)| name(file) == path), "a row for {path}");
                }
            }
            _ => assert!(rows.iter().any(|(file, _)| name(file) == key.name), "a row for {}", key.name),
        }
    }
    for (file, build) in rows {
        let config = Config::from_toml("f", &format!("{HANDLER_HEAD}{file}")).unwrap();
        // The operator's word holds, whatever the program said.
        let built = picture(&app(build(spec())));
        assert_eq!(configured(config, app(spec())).unwrap(), built, "{file}");
    }
}

#[test]
fn a_mapping_can_say_all_that_the_builder_can() {
    let origins: &[(&str, Origin)] = &[
        ("{ field = 'a.b' }", field("a.b")),
        ("{ header = 'h' }", header("h")),
        ("{ text = 't' }", text("t")),
        ("'message_id'", Origin::MessageId),
        ("'message_key'", Origin::MessageKey),
        ("'coordinates'", Origin::Coordinates),
    ];
    type Build = fn(Mapping, Origin) -> Mapping;
    let keys: &[(&str, Build)] = &[
        ("id", Mapping::id),
        ("key", Mapping::key),
        ("time", Mapping::time),
        ("source", Mapping::source),
        ("data", Mapping::data),
    ];
    assert_eq!(keys.len() + 1, MAPPING.len());
    for (written, origin) in origins {
        let head = format!("[mapping.'shop.questions']\ntype = {written}\n");
        for (key, set) in keys {
            let config = Config::from_toml("f", &format!("{head}{key} = {written}")).unwrap();
            let mapping = set(Mapping::of(origin.clone()), origin.clone());
            let built = picture(&app(spec()).mapping("shop.questions", mapping));
            assert_eq!(configured(config, app(spec())).unwrap(), built, "{key} = {written}");
        }
    }
}

#[test]
fn what_is_not_said_stays_as_the_program_has_it() {
    let program = || app(spec().retry(Backoff::never().jitter(0.1)).timeout(Duration::from_secs(1))).workers(3);
    let config = Config::from_toml("f", &format!("drain = '1s'\n{HANDLER_HEAD}retry.attempts = 2")).unwrap();
    let backoff = Backoff::never().jitter(0.1).attempts(2);
    let built = app(spec().retry(backoff).timeout(Duration::from_secs(1))).workers(3).drain(Duration::from_secs(1));
    assert_eq!(configured(config, program()).unwrap(), picture(&built));
    let nothing = Config::from_toml("f", "").unwrap();
    assert_eq!(configured(nothing, program()).unwrap(), picture(&program()));
}

#[test]
fn handlers_of_any_type_and_of_subscriptions_of_their_own_are_found() {
    let program = || {
        let any = handler(async |_: commute_core::Envelope| {});
        App::new("app").on("t", any).on("t", spec().named("audit"))
    };
    let config =
        Config::from_toml("f", "handlers.t.'*'.timeout = '1s'\nhandlers.'t@audit'.'test.asked'.timeout = '2s'");
    let app = config.unwrap().apply(program()).unwrap();
    let timeouts: Vec<_> = app.handlers.iter().map(|(_, parts)| parts.timeout.map(|time| time.as_secs())).collect();
    assert_eq!(timeouts, [Some(1), Some(2)]);
}
