//! Reading events: lines of JSON, CloudEvents or plain, from a person, a file or a pipe.

use std::io::{self, BufRead, Read};

use bytes::Bytes;
use commute::{Clock, Envelope, EventId, SystemClock, Timestamp, Topic};
use commute_core::{Outgoing, cloudevents, extension};
use serde_json::Value;

/// The longest line: what a broker takes at most, and some attributes.
const LINE_BYTES: u64 = 257 << 20;

/// What plain JSON does not say about itself, and what is said about all events.
#[derive(Debug, Clone)]
pub(super) struct About {
    pub(super) topic: Topic,
    pub(super) event_type: Option<String>,
    pub(super) key: Option<String>,
    pub(super) id: Option<EventId>,
    pub(super) source: String,
    pub(super) not_before: Option<Timestamp>,
}

/// Something that was read.
#[derive(Debug)]
pub(super) enum Item {
    /// An event, and the line that it began at.
    Event(usize, Box<Outgoing>),
    /// Something that is none.
    Malformed(Malformed),
    /// Reading failed; nothing follows.
    Failed(io::Error),
}

/// Where something is that is no event, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) why: String,
}

/// Reads events until `take` has enough.
pub(super) fn read(from: impl BufRead, about: &About, mut take: impl FnMut(Item) -> bool) {
    let mut from = from;
    let mut line = Vec::new();
    let (mut number, mut first) = (0, true);
    loop {
        line.clear();
        number += 1;
        match (&mut from).take(LINE_BYTES).read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) => {}
            Err(cause) => {
                take(Item::Failed(cause));
                return;
            }
        }
        let text = line.trim_ascii();
        if text.is_empty() {
            continue;
        }
        // One document over several lines begins with a bracket and nothing else.
        if std::mem::take(&mut first) && (text == b"{" || text == b"[") {
            let mut rest = Vec::new();
            if let Err(cause) = from.take(LINE_BYTES).read_to_end(&mut rest) {
                take(Item::Failed(cause));
                return;
            }
            line.extend(rest);
            return document(&line, number, about, take);
        }
        if !take(one(&line, number, about)) {
            return;
        }
    }
}

/// A document: one event, or a batch of them.
fn document(text: &[u8], line: usize, about: &About, mut take: impl FnMut(Item) -> bool) {
    match serde_json::from_slice::<Value>(text) {
        Err(cause) => {
            take(malformed(line, &cause));
        }
        Ok(Value::Array(events)) => {
            for event in events {
                if !take(event_of(&event, event.to_string().into(), line, about)) {
                    return;
                }
            }
        }
        Ok(event) => {
            take(event_of(&event, event.to_string().into(), line, about));
        }
    }
}

fn one(line: &[u8], number: usize, about: &About) -> Item {
    let text = line.trim_ascii();
    let inset = line.len() - line.trim_ascii_start().len();
    match serde_json::from_slice::<Value>(text) {
        Ok(event) => event_of(&event, Bytes::copy_from_slice(text), number, about),
        Err(cause) => match malformed(number, &cause) {
            Item::Malformed(wrong) => Item::Malformed(Malformed { column: wrong.column + inset, ..wrong }),
            other => other,
        },
    }
}

fn malformed(begin: usize, cause: &serde_json::Error) -> Item {
    let why = cause.to_string();
    // It says the place, too, and another one than the file's.
    let why = why.split(" at line ").next().unwrap_or_default().to_owned();
    Item::Malformed(Malformed { line: begin + cause.line().saturating_sub(1), column: cause.column().max(1), why })
}

fn event_of(event: &Value, plain: Bytes, line: usize, about: &About) -> Item {
    match outgoing(event, plain, about) {
        Ok(outgoing) => Item::Event(line, Box::new(outgoing)),
        Err(why) => Item::Malformed(Malformed { line, column: 1, why }),
    }
}

fn outgoing(event: &Value, plain: Bytes, about: &About) -> Result<Outgoing, String> {
    let said = |error: commute::Error| error.detail().to_owned();
    let mut envelope = if event.get("specversion").is_some() {
        cloudevents::from_json(event).map_err(said)?
    } else {
        let event_type = about.event_type.clone().ok_or("plain JSON has no type; say --type TYPE")?;
        let mut envelope = Envelope::new(about.source.as_str(), event_type, SystemClock.now(), plain);
        envelope.id = about.id.clone().unwrap_or(envelope.id);
        envelope
    };
    if let Some(key) = &about.key
        && envelope.partition_key().is_none()
    {
        envelope.extensions.set(extension::PARTITION_KEY, key.as_str()).map_err(said)?;
    }
    Ok(Outgoing { topic: about.topic.clone(), envelope, not_before: about.not_before })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about() -> About {
        let (topic, source) = (Topic::new("things").unwrap(), "test".to_owned());
        About { topic, event_type: Some("t".to_owned()), key: None, id: None, source, not_before: None }
    }

    fn all(text: &str, about: &About) -> Vec<Item> {
        let mut items = Vec::new();
        read(text.as_bytes(), about, |item| {
            items.push(item);
            true
        });
        items
    }

    fn wrong(item: &Item) -> &Malformed {
        match item {
            Item::Malformed(wrong) => wrong,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn plain_lines_and_cloudevents_may_stand_side_by_side() {
        let cloud = r#"{"specversion":"1.0","id":"7","source":"s","type":"other","data":[1]}"#;
        let items = all(&format!("{{\"a\":1}}\n\n  5\r\n{cloud}"), &about());
        let events: Vec<_> = items
            .iter()
            .map(|item| match item {
                Item::Event(line, event) => (*line, &*event.envelope.event_type, &*event.envelope.data),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(events, [(1, "t", &b"{\"a\":1}"[..]), (3, "t", b"5"), (4, "other", b"[1]")]);
    }

    #[test]
    fn what_is_no_event_is_named_by_line_and_column() {
        let items = all("{\"a\":1}\n  {\"a\":x}\n{\"specversion\":\"1.0\"}\n{\"b\":2}", &about());
        assert_eq!((wrong(&items[1]).line, wrong(&items[1]).column), (2, 8));
        assert!(!wrong(&items[1]).why.contains("line"), "{:?}", items[1]);
        assert!(wrong(&items[2]).why.contains("\"id\"") && wrong(&items[2]).line == 3);
        assert!(matches!(items[3], Item::Event(4, _)));
        let untyped = About { event_type: None, ..about() };
        assert!(wrong(&all("1", &untyped)[0]).why.contains("--type"));
    }

    #[test]
    fn a_document_over_several_lines_is_one_event_or_a_batch() {
        assert!(matches!(&all("{\n \"a\": 1\n}\n", &about())[..], [Item::Event(1, _)]));
        assert_eq!(all("\n[\n 1,\n 2\n]", &about()).len(), 2);
        let items = all("{\n \"a\": 1,\n}", &about());
        assert_eq!((wrong(&items[0]).line, wrong(&items[0]).column), (3, 1));
    }
}
