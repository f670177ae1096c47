//! The journey of one event through a whole app, on storage in memory.

mod kit;

use std::time::Duration;

use commute::middleware::{Next, from_fn};
use commute::prelude::*;
use commute::{Code, Context, EventId, Invocation, Message, Outcome};
use kit::{Log, Ping, Pong, broker, started};

#[tokio::test(start_paused = true)]
async fn an_answer_is_published_with_an_id_derived_from_its_cause() {
    let (broker, log) = (broker().await, Log::default());
    async fn answer(ping: Ping) -> Pong {
        Pong { n: ping.n }
    }
    async fn note(pong: Pong, meta: Meta, headers: Headers, State(log): State<Log>) {
        let correlation = headers.get("correlationid").unwrap_or_default().to_owned();
        log.add(format!("{} {} {correlation} {}", pong.n, meta.id, headers.get("causationid").unwrap_or_default()));
    }
    let one = started(App::new("one").broker(broker.clone()).on("pings", handler(answer).publishes("pongs"))).await;
    let two = started(App::new("two").broker(broker.clone()).state(log.clone()).on("pongs", handler(note))).await;
    let id = EventId::new("cause").unwrap();
    one.publisher().send("pings", [Message::of(&Ping::new(7)).unwrap().id(id.clone())]).await.unwrap();
    one.idle().await.unwrap();
    two.idle().await.unwrap();
    assert_eq!(log.taken(), [format!("7 {} cause cause", id.derive("one", 0))]);
}

#[tokio::test(start_paused = true)]
async fn two_subscriptions_of_an_app_both_get_every_event_and_two_apps_of_a_name_share_them() {
    let (broker, log) = (broker().await, Log::default());
    async fn note(ping: Ping, meta: Meta, State(log): State<Log>) {
        log.add(format!("{} {}", meta.subscription, ping.n));
    }
    let app = || {
        App::new("app")
            .broker(broker.clone())
            .state(log.clone())
            .on("pings", handler(note).independent())
            .on("pings", handler(note).independent().named("audit"))
    };
    let (one, two) = (started(app()).await, started(app()).await);
    one.publisher().publish_batch("pings", &(0..20).map(Ping::new).collect::<Vec<_>>()).await.unwrap();
    one.idle().await.unwrap();
    two.idle().await.unwrap();
    let mut seen = log.taken();
    seen.sort();
    let mut expected: Vec<_> = (0..20).flat_map(|n| [format!("app {n}"), format!("app.audit {n}")]).collect();
    expected.sort();
    assert_eq!(seen, expected);
}

#[tokio::test(start_paused = true)]
async fn unknown_and_undecodable_events_become_dead_letters_that_keep_the_original() {
    let (broker, log) = (broker().await, Log::default());
    async fn never(_: Ping, State(log): State<Log>) {
        log.add("handled".to_owned());
    }
    async fn bury(letter: DeadLetter, State(log): State<Log>) {
        let original = letter.original().unwrap();
        log.add(format!("{} {} {}", letter.code, original.event_type, String::from_utf8_lossy(&original.data)));
    }
    let app = App::new("app")
        .broker(broker.clone())
        .state(log.clone())
        .on("pings", handler(never))
        .on("pings.dead", handler(bury).independent());
    let app = started(app).await;
    app.publisher().publish("pings", &Pong { n: 1 }).await.unwrap();
    app.publisher().publish("pings", &kit::BadPing { n: "one".to_owned() }).await.unwrap();
    app.idle().await.unwrap();
    let mut seen = log.taken();
    seen.sort();
    assert_eq!(seen, [r#"CM0020 test.ping {"n":"one"}"#, r#"CM0021 test.pong {"n":1}"#]);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_may_ignore_types_that_it_does_not_take() {
    let (broker, log) = (broker().await, Log::default());
    let app = App::new("app")
        .broker(broker.clone())
        .state(log.clone())
        .on("pings", handler(kit::note))
        .ignore_unknown_types("pings");
    let app = started(app).await;
    app.publisher().publish("pings", &Pong { n: 1 }).await.unwrap();
    app.publisher().publish("pings", &Ping::new(2)).await.unwrap();
    app.idle().await.unwrap();
    assert_eq!(log.taken(), ["2"]);
    let stats = &app.stats().subscriptions[0];
    assert_eq!((stats.ignored, stats.dead, stats.handled), (1, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn layers_see_every_call_and_may_end_it() {
    let (broker, log) = (broker().await, Log::default());
    async fn odd_only(call: Invocation, next: Next) -> Result<Outcome, HandlerError> {
        let context: Context = call.context.clone();
        if context.envelope.data.ends_with(b"2}") {
            return Err(HandlerError::reject("even"));
        }
        next.run(call).await
    }
    let app = App::new("app").broker(broker.clone()).state(log.clone()).on("pings", handler(kit::note));
    let app = started(app.layer(from_fn(odd_only))).await;
    app.publisher().publish_batch("pings", &[Ping::new(1), Ping::new(2), Ping::new(3)]).await.unwrap();
    app.idle().await.unwrap();
    assert_eq!(log.taken(), ["1", "3"]);
    assert_eq!(app.stats().subscriptions[0].dead, 1);
}

#[tokio::test(start_paused = true)]
async fn a_raw_handler_takes_what_no_other_takes() {
    let (broker, log) = (broker().await, Log::default());
    async fn raw(envelope: commute::Envelope, State(log): State<Log>) {
        log.add(format!("raw {}", envelope.event_type));
    }
    let app = App::new("app")
        .broker(broker.clone())
        .state(log.clone())
        .on("pings", handler(kit::note).exclusive())
        .on("pings", handler(raw).exclusive());
    let app = started(app).await;
    app.publisher().publish("pings", &Ping::new(1)).await.unwrap();
    app.publisher().publish("pings", &Pong { n: 1 }).await.unwrap();
    app.idle().await.unwrap();
    assert_eq!(log.taken(), ["1", "raw test.pong"]);
}

#[tokio::test]
async fn everything_wrong_with_an_app_is_said_together_before_an_event_is_read() {
    let broker = broker().await;
    async fn answer(_: Ping, State(_): State<u8>) -> Pong {
        Pong { n: 0 }
    }
    let app = App::new("app")
        .broker(broker)
        .on("pings", handler(answer))
        .on("pings", handler(kit::silent))
        .on("not valid!", handler(kit::silent).named("x"))
        .ignore_unknown_types("other");
    let error = app.start().await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidApp);
    for part in ["no state u8", "says no topic", "two handlers take test.ping", "not a valid topic", "\"other\""] {
        assert!(error.detail().contains(part), "{part}: {error}");
    }
    let nothing = App::new("app").start().await.unwrap_err();
    assert_eq!(nothing.code(), Code::InvalidApp);
}

#[tokio::test]
async fn the_contract_says_what_is_promised_as_text_and_as_json() {
    let app = App::new("app").broker(broker().await).on(
        "pings",
        handler(kit::silent).footprint(|ping| writes(("n", ping.n)).into()).timeout(Duration::from_secs(1)),
    );
    let contract = app.contract().unwrap();
    let text = contract.to_string();
    for part in ["in memory, lost with the process", "declared footprints conflict", "up to 5 attempts", "pings.dead"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let json = serde_json::to_value(&contract).unwrap();
    assert_eq!(json["subscriptions"][0]["handlers"][0]["types"][0], "test.ping");
    assert_eq!(json["capabilities"]["atomic_settle"], true);
}

#[tokio::test]
async fn an_unknown_scheme_is_refused_with_what_there_is() {
    let error = commute::connect("carrier-pigeon://loft").await.err().unwrap();
    assert_eq!(error.code(), Code::UnknownScheme);
    assert!(error.detail().contains("embedded"), "{error}");
}
