//! The operator's door: whoever owns the events answers, and files are read when nobody does.

use commute::prelude::*;
use commute::{Code, Console, Intent, Reached};
use commute_core::operate::{Operation, Report};

#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "thing", key = "key")]
struct Thing {
    key: String,
}

async fn handle(_thing: Thing) {}

fn url(folder: &tempfile::TempDir) -> String {
    format!("embedded:{}", folder.path().join("data").display())
}

#[tokio::test]
async fn an_app_on_a_broker_without_a_socket_has_one_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("counter.sock");
    let broker = commute::connect("memory:").await.unwrap();
    let app = App::new("counter").broker(broker.clone()).on("things", handler(handle)).control(&socket);
    let app = app.start().await.unwrap();
    let console = Console::at(&socket).await.unwrap();
    let apps = console.apps().await.unwrap();
    assert_eq!(apps.iter().map(|app| app.app()).collect::<Vec<_>>(), ["counter"]);
    Publisher::new(broker, "test").publish("things", &Thing { key: "a".to_owned() }).await.unwrap();
    app.idle().await.unwrap();
    let Report::Json(stats) = apps[0].operate(Operation::Stats).await.unwrap() else { panic!("stats are JSON") };
    assert_eq!(stats["subscriptions"][0]["handled"], 1, "{stats}");
    assert_eq!(console.admin().unwrap().topics(None, 9).await.unwrap()[0].topic, "things");
    app.stop().await.unwrap();
    assert!(!socket.exists());
}

#[tokio::test]
async fn one_door_leads_to_the_owner_to_files_or_into_the_directory() {
    let folder = tempfile::tempdir().unwrap();
    let url = url(&folder);
    for intent in [Intent::Look, Intent::Act] {
        assert_eq!(Console::open(&url, intent).await.unwrap_err().code(), Code::NotFound);
    }
    let opened = Console::open(&url, Intent::Create).await.unwrap();
    assert_eq!(opened.reached(), &Reached::Opened);
    // Whoever comes meanwhile finds an owner.
    let beside = Console::open(&url, Intent::Act).await.unwrap();
    assert!(matches!(beside.reached(), Reached::Owner(_)));
    assert!(beside.capabilities().await.unwrap().unwrap()["replay"].is_boolean());
    opened.close().await.unwrap();
    assert_eq!(beside.capabilities().await.unwrap_err().code(), Code::BrokerUnavailable);
    let files = Console::open(&url, Intent::Look).await.unwrap();
    assert_eq!(files.reached(), &Reached::Files);
    assert_eq!(files.publish(Vec::new()).await.unwrap_err().code(), Code::NeedNotMet);
    // Whoever looks keeps nobody from starting.
    let broker = commute::connect(&url).await.unwrap();
    assert!(files.apps().await.unwrap().is_empty());
    broker.close().await.unwrap();
}

#[tokio::test]
async fn services_of_the_owner_are_found_as_long_as_they_run() {
    let folder = tempfile::tempdir().unwrap();
    let url = url(&folder);
    let broker = commute::connect(&url).await.unwrap();
    let app = App::new("counter").broker(broker.clone()).on("things", handler(handle)).start().await.unwrap();
    let console = Console::open(&url, Intent::Look).await.unwrap();
    assert_eq!(console.apps().await.unwrap().len(), 1);
    app.stop().await.unwrap();
    assert!(console.apps().await.unwrap().is_empty());
}
