//! Evidence: what is kept of a server beside the history of a run that failed.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

/// Writes down what a server says about its queues, where it can be asked.
pub(crate) fn queues(directory: PathBuf) -> impl FnOnce(&mut servers::Server) -> Result<()> {
    move |server| {
        let columns = ["name", "state", "messages_ready", "messages_unacknowledged", "consumers", "pid"];
        let queues = server.rabbitmqctl(&[&["list_queues"][..], &columns].concat())?;
        let consumers = server.rabbitmqctl(&["list_consumers"])?;
        Ok(fs::write(directory.join("queues.txt"), queues + "\n" + &consumers)?)
    }
}

/// Keeps the logs of a server, whose folder ends with it.
pub(crate) fn logs(directory: PathBuf) -> impl FnOnce(&mut servers::Server) -> Result<()> {
    move |server| {
        let kept = directory.join("server");
        fs::create_dir_all(&kept)?;
        for folder in [server.dir().to_owned(), server.dir().join("log")] {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.path().extension().is_some_and(|extension| extension == "log") {
                    fs::copy(entry.path(), kept.join(entry.file_name()))?;
                }
            }
        }
        Ok(())
    }
}
