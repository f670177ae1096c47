//! Ownership: a directory has one owner, and a foreign one is left alone.

mod support;

use std::path::Path;

use commute_core::{Address, Broker, Code};
use commute_embedded::{DRIVER, Embedded, Options};
use support::event;

fn refused(directory: &Path) -> Code {
    Embedded::open(directory, Options::default()).unwrap_err().code()
}

#[tokio::test]
async fn a_directory_has_one_owner_until_it_is_closed_or_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let first = Embedded::open(directory.path(), Options::default()).unwrap();
    assert_eq!(refused(directory.path()), Code::DirectoryOwned);
    first.close().await.unwrap();
    let second = Embedded::open(directory.path(), Options::default()).unwrap();
    assert_eq!(refused(directory.path()), Code::DirectoryOwned);
    drop(second);
    Embedded::open(directory.path(), Options::default()).unwrap();
}

#[test]
fn a_foreign_directory_is_refused_and_untouched() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("letter.txt"), "dear").unwrap();
    assert_eq!(refused(directory.path()), Code::ForeignDirectory);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_marker_of_somebody_else_or_of_a_later_format_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("commute.format"), "commute embedded log, format 3\n").unwrap();
    assert_eq!(refused(directory.path()), Code::UnknownFormat);
    std::fs::write(directory.path().join("commute.format"), "something else").unwrap();
    assert_eq!(refused(directory.path()), Code::ForeignDirectory);
}

#[test]
fn a_directory_that_was_being_made_when_the_machine_stopped_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("commute.lock"), "").unwrap();
    std::fs::write(directory.path().join("commute.format.new"), "comm").unwrap();
    Embedded::open(directory.path(), Options::default()).unwrap();
}

#[test]
fn a_path_that_cannot_be_a_directory_is_unusable() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert_eq!(refused(&file), Code::DirectoryUnusable);
    assert_eq!(refused(&file.join("below")), Code::DirectoryUnusable);
}

#[tokio::test]
async fn urls_open_directories_and_memory() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("embedded:{}?segment_bytes=4096", directory.path().join("data").display());
    for url in [url.as_str(), "memory:"] {
        let broker = (DRIVER.connect)(Address::parse(url).unwrap()).await.unwrap();
        assert!(!broker.publish(vec![event("a", "orders")]).await.unwrap()[0].duplicate);
        broker.close().await.unwrap();
    }
    for url in ["embedded:", "memory:?speed=1", "memory:?segment_bytes=9"] {
        let error = (DRIVER.connect)(Address::parse(url).unwrap()).await.map(drop).unwrap_err();
        assert_eq!(error.code(), Code::InvalidOption, "{url}");
    }
}
