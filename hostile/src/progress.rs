//! Progress: how far a run is, read from its history and its stores while it goes on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use commute_sqlite::rusqlite::{Connection, OpenFlags};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::check::{Effect, Stored};
use crate::event::Touch;
use crate::history::{Outcome, Reader, Record};

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Progress {
    /// Events that were handled, as far as handlers know.
    pub(crate) handled: usize,
    /// Everything is handled, and in the stores.
    pub(crate) is_complete: bool,
    /// It cannot be followed any more.
    pub(crate) is_broken: bool,
}

/// Follows a history until everything is handled.
pub(crate) async fn follow(
    history: PathBuf,
    stores: Vec<PathBuf>,
    events: Vec<Touch>,
    progress: watch::Sender<Progress>,
) {
    let followed = async {
        let mut reader = Reader::new(&history);
        let mut handled = BTreeSet::new();
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            for record in reader.next()? {
                match record {
                    Record::Run(run) if run.outcome != Outcome::Failed => drop(handled.insert(run.n)),
                    Record::Dead { n, .. } => drop(handled.insert(n)),
                    _ => {}
                }
            }
            // A store whose owner was just killed cannot be read until the next owner has opened it.
            let is_complete = handled.len() == events.len() && is_stored(&stores, &events).unwrap_or(false);
            let now = Progress { handled: handled.len(), is_complete, is_broken: false };
            progress.send_if_modified(|known| std::mem::replace(known, now) != now);
            if is_complete {
                return anyhow::Ok(());
            }
        }
    };
    if let Err(cause) = followed.await {
        eprintln!("cannot follow {}: {cause:#}", history.display());
        progress.send_modify(|progress| progress.is_broken = true);
    }
}

/// Whether every effect and every answer is there.
fn is_stored(stores: &[PathBuf], events: &[Touch]) -> Result<bool> {
    let (mut effects, mut echoes) = (BTreeSet::new(), BTreeSet::new());
    for store in stores {
        let Stored { effects: there, echoes: answered } = read(store)?;
        effects.extend(there.into_iter().map(|effect| effect.n));
        echoes.extend(answered);
    }
    let mut expected = events.iter().filter(|touch| !touch.is_doomed());
    Ok(expected.all(|touch| {
        (!touch.is_stored() || effects.contains(&touch.n)) && (!touch.echoes || echoes.contains(&touch.n))
    }))
}

/// What is committed in a store; nothing, if it was never opened.
pub(crate) fn read(store: &Path) -> Result<Stored> {
    if !store.exists() {
        return Ok(Stored::default());
    }
    let unreadable = || format!("cannot read {}", store.display());
    let open = || -> commute_sqlite::rusqlite::Result<Stored> {
        let db = Connection::open_with_flags(store, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        db.busy_timeout(Duration::from_secs(5))?;
        let tables = db.prepare("SELECT 1 FROM sqlite_master WHERE name = 'echo'")?.exists([])?;
        if !tables {
            return Ok(Stored::default());
        }
        let mut select = db.prepare("SELECT n, process, ended FROM effect ORDER BY rowid")?;
        let effects = select.query_map([], |row| {
            let number = |at| row.get::<_, i64>(at).map(i64::unsigned_abs);
            Ok(Effect { n: number(0)? as usize, process: row.get(1)?, ended: number(2)? })
        })?;
        let effects = effects.collect::<Result<_, _>>()?;
        let mut select = db.prepare("SELECT n FROM echo")?;
        let echoes = select.query_map([], |row| Ok(row.get::<_, i64>(0)?.unsigned_abs() as usize))?;
        Ok(Stored { effects, echoes: echoes.collect::<Result<_, _>>()? })
    };
    open().with_context(unreadable)
}

/// Waits for something to be true of the progress; answers whether it became true before nothing moved for `patience`.
pub(crate) async fn wait(
    progress: &mut watch::Receiver<Progress>,
    patience: Duration,
    reached: impl Fn(&Progress) -> bool,
) -> bool {
    let mut deadline = Instant::now() + patience;
    loop {
        let now = *progress.borrow_and_update();
        if reached(&now) || now.is_complete {
            return true;
        }
        if now.is_broken {
            return false;
        }
        match tokio::time::timeout_at(deadline, progress.changed()).await {
            Ok(Ok(())) => deadline = Instant::now() + patience,
            Ok(Err(_)) | Err(_) => return false,
        }
    }
}
