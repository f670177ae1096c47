//! What the derives write: names, versions, keys, and one of several events.

use bytes::Bytes;
use commute_core::{Answer, Code, Emitted, Envelope, Event as _, Incoming, Timestamp, Types};
use commute_macros::{Event, Events};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize, Event)]
#[event(type = "shop.order.placed", version = 3, key = "order")]
#[event(crate = "commute_core")]
struct OrderPlaced {
    order: u64,
    customer: Customer,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Customer {
    id: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Event)]
#[event(type = "shop.order.cancelled", key = "customer.id", crate = "commute_core")]
struct OrderCancelled {
    customer: Customer,
}

#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "shop.note", key = "order", crate = "commute_core")]
struct Note {
    order: Option<u32>,
}

#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "shop.moved", key("shop", "order", "from"), crate = "commute_core")]
struct Moved {
    shop: String,
    order: u32,
    from: Option<u8>,
}

#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "shop.wrapped", key = "0", crate = "commute_core")]
struct Wrapped(u32);

#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "shop.day.closed", crate = "commute_core")]
struct DayClosed;

#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "shop.door", crate = "commute_core")]
enum Door {
    Opened,
    Closed { by: String },
}

#[derive(Debug, PartialEq, Events)]
#[event(crate = "commute_core")]
enum Order {
    Placed(OrderPlaced),
    Cancelled(OrderCancelled),
}

fn envelope(event_type: &str, data: &'static str) -> Envelope {
    Envelope::new("test", event_type, Timestamp(0), Bytes::from_static(data.as_bytes()))
}

fn customer(id: &str) -> Customer {
    Customer { id: id.to_owned() }
}

/// Both an event and what comes in have a key; as a method it would be ambiguous.
fn key(event: &impl commute_core::Event) -> Option<String> {
    event.key()
}

#[test]
fn an_event_has_the_name_and_version_that_its_attribute_says_and_version_1_otherwise() {
    assert_eq!((OrderPlaced::TYPE, OrderPlaced::VERSION), ("shop.order.placed", 3));
    assert_eq!((OrderCancelled::TYPE, OrderCancelled::VERSION), ("shop.order.cancelled", 1));
    assert_eq!((DayClosed::TYPE, Door::TYPE), ("shop.day.closed", "shop.door"));
}

#[test]
fn a_key_is_a_field_as_text_and_absent_when_there_is_none() {
    assert_eq!(key(&OrderPlaced { order: 7, customer: customer("c") }).as_deref(), Some("7"));
    assert_eq!(key(&OrderCancelled { customer: customer("c") }).as_deref(), Some("c"));
    assert_eq!(key(&Wrapped(5)).as_deref(), Some("5"));
    assert_eq!(key(&Note { order: Some(1) }).as_deref(), Some("1"));
    assert_eq!(key(&Note { order: None }), None);
    assert_eq!(key(&DayClosed), None);
    assert_eq!(key(&Door::Closed { by: "me".into() }), key(&Door::Opened));
}

#[test]
fn a_key_of_several_fields_needs_all_of_them() {
    assert_eq!(key(&Moved { shop: "a".into(), order: 7, from: Some(1) }).as_deref(), Some("a/7/1"));
    assert_eq!(key(&Moved { shop: "a".into(), order: 7, from: None }), None);
}

#[test]
fn a_set_of_events_takes_all_its_types_and_becomes_the_one_that_came() {
    assert_eq!(Order::types(), Types::Only(vec!["shop.order.placed", "shop.order.cancelled"]));
    let placed = Order::decode(&envelope("shop.order.placed", r#"{"order":7,"customer":{"id":"c"}}"#)).unwrap();
    assert_eq!(placed, Order::Placed(OrderPlaced { order: 7, customer: customer("c") }));
    assert_eq!(placed.key().as_deref(), Some("7"));
    let cancelled = Order::decode(&envelope("shop.order.cancelled", r#"{"customer":{"id":"c"}}"#)).unwrap();
    assert_eq!(cancelled.key().as_deref(), Some("c"));
}

#[test]
fn a_set_of_events_refuses_other_types_and_payloads_that_do_not_fit() {
    let code = |envelope| Order::decode(&envelope).unwrap_err().code();
    assert_eq!(code(envelope("shop.day.closed", "null")), Code::UnknownType);
    assert_eq!(code(envelope("shop.order.placed", "{}")), Code::Undecodable);
}

#[test]
fn a_set_of_events_as_an_answer_can_emit_every_type_and_emits_the_one_that_it_is() {
    let mut types = Vec::new();
    <Result<Option<Order>, commute_core::HandlerError> as commute_core::IntoOutcome>::emits(&mut types);
    assert_eq!(types, ["shop.order.placed", "shop.order.cancelled"]);
    let mut events = Vec::<Emitted>::new();
    Order::Cancelled(OrderCancelled { customer: customer("c") }).emit(&mut events).unwrap();
    assert_eq!(events[0].event_type, "shop.order.cancelled");
    assert_eq!(events[0].key.as_deref(), Some("c"));
}
