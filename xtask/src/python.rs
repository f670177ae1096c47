//! The Python client against a node, where Python and pyzmq are or can be had.

use std::process::Command;

use anyhow::Result;

use crate::run;

/// Tests it. Says why not, where it cannot be tested.
///
/// # Errors
/// When a test fails.
pub(crate) fn test() -> Result<Option<String>> {
    let python = run::target().join("python").join("bin").join("python");
    let quiet = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
    let has_zmq = || quiet(Command::new(&python).args(["-c", "import zmq"]));
    if !has_zmq() {
        let folder = run::target().join("python");
        let made = quiet(Command::new("python3").args(["-m", "venv"]).arg(&folder));
        if !made || !quiet(Command::new(&python).args(["-m", "pip", "install", "--quiet", "pyzmq"])) || !has_zmq() {
            return Ok(Some("clients/python: there is no python3 with venv, or pyzmq cannot be fetched".to_owned()));
        }
    }
    servers::install(servers::Kind::Zeromq)?;
    let mut test = Command::new(&python);
    test.current_dir(run::root().join("clients/python"))
        .arg("test_commute.py")
        .arg(run::target().join("release/commute"));
    run::shown(test).map(|()| None)
}
