//! The table in docs/brokers is what the backends say of themselves; COMMUTE_WRITE=1 writes it anew.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use commute::Capabilities;
use commute_rabbitmq::Options;

const BEGIN: &str = "<!-- from here to the end: made by crates/commute/tests/brokers_page.rs -->";

fn all() -> Vec<(&'static str, Capabilities)> {
    let rabbitmq = |options: &str| {
        let options = Options::new(&format!("amqp://host?{options}")).expect("valid options");
        commute_rabbitmq::capabilities(&options)
    };
    let folder = tempfile::tempdir().expect("a folder");
    let embedded = commute_embedded::Embedded::open(folder.path(), commute_embedded::Options::default());
    let embedded = embedded.expect("a log");
    let embedded = commute_core::Broker::capabilities(&*embedded).clone();
    vec![
        ("embedded", embedded.clone()),
        ("commute node", commute_zeromq::capabilities(embedded)),
        ("RabbitMQ, quorum", rabbitmq("")),
        ("RabbitMQ, classic", rabbitmq("queue_type=classic")),
        ("RabbitMQ, instances=many", rabbitmq("instances=many&instance=a")),
        ("Kafka, one replica", commute_kafka::capabilities(false)),
        ("Kafka, replicated", commute_kafka::capabilities(true)),
    ]
}

fn table() -> String {
    let brokers = all();
    let facts: Vec<_> = brokers.iter().map(|(_, given)| serde_json::to_value(given).expect("plain data")).collect();
    let mut text = "| |".to_owned();
    for (name, _) in &brokers {
        let _ = write!(text, " {name} |");
    }
    let _ = write!(text, "\n|---|{}", "---|".repeat(brokers.len()));
    let names = facts[0].as_object().expect("an object").keys();
    for name in names {
        let _ = write!(text, "\n| {} |", name.replace('_', " "));
        for fact in &facts {
            let value = match &fact[name] {
                serde_json::Value::Null => "none".to_owned(),
                serde_json::Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
                serde_json::Value::String(word) => word.replace('_', " "),
                time if time["secs"].is_u64() => format!("{} s", time["secs"]),
                other => other.to_string(),
            };
            let _ = write!(text, " {value} |");
        }
    }
    text + "\n"
}

#[test]
fn the_table_is_what_the_backends_say() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/brokers/README.md");
    let page = fs::read_to_string(&file).expect("the page");
    let (head, shown) = page.split_once(BEGIN).expect("the place of the table");
    let made = format!("\n\n{}", table());
    if std::env::var_os("COMMUTE_WRITE").is_some() {
        fs::write(&file, format!("{head}{BEGIN}{made}")).expect("written");
    } else {
        assert_eq!(shown, made, "run it with COMMUTE_WRITE=1");
    }
}
