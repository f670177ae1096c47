//! A whole process that is asked to stop, once and twice.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

/// The service, with an event of so much work if it is told.
fn drain(directory: &Path, milliseconds: Option<u64>) -> (Child, BufReader<ChildStdout>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_drain"));
    command.arg(directory).args(milliseconds.map(|time| time.to_string())).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let said = BufReader::new(child.stdout.take().unwrap());
    (child, said)
}

fn next(said: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    line.trim().to_owned()
}

fn terminate(child: &Child) {
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn the_first_signal_drains() {
    let directory = tempfile::tempdir().unwrap();
    let (mut child, mut said) = drain(directory.path(), Some(300));
    assert_eq!(next(&mut said), "begun");
    terminate(&child);
    assert_eq!((next(&mut said), next(&mut said)), ("done".to_owned(), "stopped".to_owned()));
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_second_signal_stops_at_once_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (mut child, mut said) = drain(directory.path(), Some(100_000));
    assert_eq!(next(&mut said), "begun");
    terminate(&child);
    // Signals of one kind that meet are one signal, so it is sent until it is heard.
    while child.try_wait().unwrap().is_none() {
        terminate(&child);
        std::thread::yield_now();
    }
    assert_eq!(next(&mut said), "stopped");
    let (mut again, mut said) = drain(directory.path(), None);
    assert_eq!(next(&mut said), "begun", "the event is there still");
    again.kill().unwrap();
    again.wait().unwrap();
}
