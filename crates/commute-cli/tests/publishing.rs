//! Publishing: arguments, files and pipes; what is no event is named, and what was accepted is counted.

mod support;

use support::Place;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it is the service that the others start"]
async fn the_service() {
    support::serve().await;
}

const PLAIN: [&str; 4] = ["publish", "orders", "--type", "order"];

#[test]
fn an_event_is_published_once_however_often_its_id_is() {
    let place = Place::new();
    let event = ["publish", "orders", "{}", "--type", "order", "--id", "o-1"];
    assert_eq!(place.run(&event).done(), "published o-1 to orders at position 0\n");
    let _service = place.service();
    assert_eq!(place.run(&event).done(), "published o-1 to orders at position 0; it was there already\n");
}

#[test]
fn what_was_accepted_before_a_malformed_line_stays_accepted() {
    let place = Place::new();
    let lines = "{\"key\":\"a\"}\n{\"key\":\"b\"}\n{\"key\":c}\n{\"key\":\"d\"}\n";
    let ran = place.feed(&PLAIN, lines);
    assert_eq!((ran.code, ran.out.as_str()), (6, "2 events accepted, 1 malformed\n"));
    assert!(ran.err.contains("standard input:3:8: expected value"), "{}", ran.err);
    std::fs::write(place.path("orders.jsonl"), lines).unwrap();
    let file = [&PLAIN[..], &["--file", "orders.jsonl", "--keep-going"]].concat();
    let ran = place.run(&file);
    assert_eq!((ran.code, ran.out.as_str()), (6, "3 events accepted, 1 malformed\n"));
    assert!(ran.err.contains("orders.jsonl:3:8:"), "{}", ran.err);
    let seen = place.run(&["tail", "orders", "--from", "start", "--json"]).json();
    let keys: Vec<_> = seen.iter().map(|line| line["event"]["data"]["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["a", "b", "a", "b", "d"]);
}

#[test]
fn cloudevents_keep_what_they_say_and_plain_json_needs_a_type() {
    let place = Place::new();
    let cloud =
        r#"{"specversion":"1.0","id":"7","source":"elsewhere","type":"order","partitionkey":"a","data":{"key":"a"}}"#;
    place.feed(&["publish", "orders"], cloud).done();
    let seen = &place.run(&["tail", "orders", "--json"]).json()[0]["event"];
    assert_eq!((seen["id"].as_str(), seen["source"].as_str()), (Some("7"), Some("elsewhere")));
    let ran = place.run(&["publish", "orders", "{}"]);
    assert!(ran.code == 1 && ran.err.contains("--type"), "{}", ran.err);
    let ran = place.run(&["publish", "no topic", "{}", "--type", "t"]);
    assert!(ran.code == 2 && ran.err.contains("CM0001"), "{}", ran.err);
    assert_eq!(place.feed(&PLAIN, "\n \n").code, 4);
    assert_eq!(place.run(&["publish", "orders", "--file", "missing"]).code, 2);
}

#[test]
fn a_delayed_event_waits() {
    let place = Place::new();
    place.run(&["publish", "orders", r#"{"key":"a"}"#, "--type", "order", "--delay", "1h"]).done();
    let seen = &place.run(&["tail", "orders", "--json"]).json()[0];
    assert!(seen["not_before"].is_string(), "{seen}");
}

#[test]
fn many_events_go_through_the_owner_in_their_order() {
    let place = Place::new();
    let mut service = place.service();
    let lines: String = (0..2000).map(|n| format!("{{\"key\":\"{n}\"}}\n")).collect();
    assert_eq!(place.feed(&PLAIN, &lines).done(), "2000 events accepted\n");
    service.idle();
    let seen = place.run(&["tail", "orders", "--from", "start", "--json"]).json();
    let keys = seen.iter().map(|line| line["event"]["data"]["key"].as_str().unwrap().parse::<u32>().unwrap());
    assert!(keys.eq(0..2000));
}

#[test]
fn one_who_reads_along_may_stop_reading() {
    let place = Place::new();
    let lines: String = (0..5000).map(|n| format!("{{\"key\":\"{n}\"}}\n")).collect();
    place.feed(&PLAIN, &lines).done();
    let mut tail = place.command(&["tail", "orders", "--from", "start"]).spawn().unwrap();
    drop(tail.stdout.take());
    assert_eq!(tail.wait().unwrap().code(), Some(0));
}
