//! `commute doctor`: looks for what is wrong, and says what to do about each finding.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use commute::admin::DEAD_LETTERS;
use commute::{Clock, Code, Console, Error, Intent, Reached, SystemClock, Timestamp};
use commute_core::Address;
use serde::Serialize;

use crate::exit::{Exit, Result};
use crate::session::Session;
use crate::show::{Cell, Table, Tone};

/// With less room the log may soon take no more events.
const LITTLE_ROOM: u64 = 1 << 30;
/// How far clocks of different machines are apart without anybody noticing.
const SKEW_SECONDS: u64 = 60;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Ok,
    Warn,
    Bad,
}

#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    state: State,
    found: String,
    #[serde(rename = "do")]
    todo: Option<String>,
}

#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, check: &'static str, found: impl Into<String>) {
        self.0.push(Finding { check, state: State::Ok, found: found.into(), todo: None });
    }

    fn warn(&mut self, check: &'static str, found: impl Into<String>, todo: impl Into<String>) {
        self.0.push(Finding { check, state: State::Warn, found: found.into(), todo: Some(todo.into()) });
    }

    fn bad(&mut self, check: &'static str, found: impl Into<String>, todo: impl Into<String>) {
        self.0.push(Finding { check, state: State::Bad, found: found.into(), todo: Some(todo.into()) });
    }

    fn error(&mut self, check: &'static str, error: &Error) {
        self.bad(check, format!("{error:#}"), error.remedy());
    }
}

pub(crate) async fn run(_args: Args, session: &mut Session) -> Result {
    let mut found = Findings::default();
    found.ok("version", format!("commute {}", env!("CARGO_PKG_VERSION")));
    let socket = session.socket().map(Path::to_owned);
    match &socket {
        Some(socket) => {
            found.ok("broker", format!("whoever listens at {}", socket.display()));
            of_socket(socket, &mut found);
            reach(Console::at(socket).await, &mut found).await;
        }
        None => {
            let url = session.url()?;
            match Address::parse(&url) {
                Ok(address) => {
                    let files = address.scheme == "embedded";
                    // What stands behind the scheme of a server may be a password.
                    found.ok("broker", if files { url.clone() } else { format!("{}:…", address.scheme) });
                    if files {
                        of_directory(&PathBuf::from(&address.rest), &mut found);
                    }
                    reach(Console::open(&url, Intent::Look).await, &mut found).await;
                }
                Err(error) => found.error("broker", &error),
            }
        }
    }
    let mut table = Table::new(&["", "CHECK", "FOUND"]);
    for finding in &found.0 {
        if session.out.json {
            session.out.object(finding)?;
            continue;
        }
        let (sign, tone) = match finding.state {
            State::Ok => ("ok", Tone::Good),
            State::Warn => ("warn", Tone::Warn),
            State::Bad => ("BAD", Tone::Bad),
        };
        table.rows.push(vec![Cell::toned(sign, tone), finding.check.into(), (&finding.found).into()]);
        if let Some(todo) = &finding.todo {
            table.rows.push(vec!["".into(), "".into(), Cell::toned(format!("what to do: {todo}"), Tone::Head)]);
        }
    }
    if !session.out.json {
        session.out.table(&table)?;
    }
    Ok(if found.0.iter().any(|finding| finding.state == State::Bad) { Exit::Failed } else { Exit::Done })
}

/// What can be seen of a directory without asking anybody.
fn of_directory(directory: &Path, found: &mut Findings) {
    let shown = directory.display();
    let known = match fs::metadata(directory) {
        Ok(known) if known.is_dir() => known,
        Ok(_) => return found.bad("directory", format!("{shown} is no directory"), "name the directory of the log"),
        Err(cause) => {
            let todo = "name the directory of the log, or start the service that makes it";
            return found.bad("directory", format!("{shown}: {cause}"), todo);
        }
    };
    let me = rustix::process::geteuid().as_raw();
    if known.uid() != me && me != 0 {
        let todo = format!("be the user with the number {}, who owns it", known.uid());
        found.warn("directory", format!("{shown} belongs to another user"), todo);
    } else if known.permissions().mode() & 0o002 != 0 {
        found.warn("directory", format!("everybody may write into {shown}"), format!("chmod o-w {shown}"));
    } else {
        found.ok("directory", shown.to_string());
    }
    match fs::read_to_string(directory.join("commute.format")) {
        Ok(text) => found.ok("format", text.trim().to_owned()),
        Err(cause) => found.bad("format", format!("commute.format: {cause}"), "name a directory that commute wrote"),
    }
    match rustix::fs::statvfs(directory) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let said = format!("{} MiB free", free >> 20);
            match free < LITTLE_ROOM {
                true => found.warn("disk", said, "make room: a full disk stops publishing"),
                false => found.ok("disk", said),
            }
        }
        Err(cause) => found.warn("disk", cause.to_string(), "look at the disk"),
    }
    let socket = directory.join("commute.sock");
    if socket.exists() {
        of_socket(&socket, found);
    }
}

fn of_socket(socket: &Path, found: &mut Findings) {
    let shown = socket.display();
    match fs::metadata(socket) {
        Ok(known) if known.permissions().mode() & 0o077 == 0 => {
            found.ok("socket", format!("{shown}, for its owner only"))
        }
        Ok(_) => found.bad("socket", format!("others may connect to {shown}"), format!("chmod 600 {shown}")),
        Err(cause) => found.bad("socket", format!("{shown}: {cause}"), "start the service, or correct the path"),
    }
}

async fn reach(console: commute::Result<Console>, found: &mut Findings) {
    let console = match console {
        Ok(console) => console,
        Err(error) => return found.error("reachable", &error),
    };
    found.ok("reachable", console.reached().to_string());
    match console.reached() {
        Reached::Owner(_) => apps(&console, found).await,
        Reached::Files | Reached::Opened => found.ok("owner", "none; every file of the log could be read"),
        Reached::Server(_) => apps(&console, found).await,
    }
    match events(&console, found).await {
        Err(error) if error.code() == Code::NeedNotMet => found.ok("events", error.detail().to_owned()),
        Err(error) => found.error("events", &error),
        Ok(()) => {}
    }
    if let Err(error) = console.close().await {
        found.error("close", &error);
    }
}

async fn apps(console: &Console, found: &mut Findings) {
    match console.apps().await {
        Ok(apps) if apps.is_empty() => match console.reached() {
            // Others than a node do not know of services.
            Reached::Server(_) => {}
            _ => found.ok("services", "none in the process of the owner"),
        },
        Ok(apps) => found.ok("services", apps.iter().map(|app| app.name()).collect::<Vec<_>>().join(", ")),
        Err(error) => found.error("services", &error),
    }
}

async fn events(console: &Console, found: &mut Findings) -> commute::Result<()> {
    let admin = console.admin()?;
    let (mut dead, mut parked, mut retrying, mut groups) = (0, 0, 0, 0);
    for group in admin.groups(None).await? {
        if group.subscription.group == DEAD_LETTERS {
            dead += group.backlog.unwrap_or_default();
            continue;
        }
        groups += 1;
        parked += group.parked.unwrap_or_default();
        retrying += group.retrying.unwrap_or_default();
    }
    found.ok("groups", groups.to_string());
    match dead {
        0 => found.ok("dead letters", "none waits"),
        _ => found.warn("dead letters", format!("{dead} wait"), "commute dead list"),
    }
    match parked {
        0 => found.ok("parked", "nothing"),
        _ => found.warn("parked", format!("{parked} events"), "commute parked list"),
    }
    match retrying {
        0 => found.ok("retrying", "nothing"),
        _ => found.warn("retrying", format!("{retrying} events failed and are tried again"), "commute lanes"),
    }
    let mut youngest: Option<Timestamp> = None;
    let mut after = None;
    loop {
        let page = admin.topics(after, 100).await?;
        let Some(last) = page.last() else { break };
        after = Some(commute::Topic::new(&last.topic)?);
        youngest = youngest.max(page.iter().filter_map(|topic| topic.youngest).max());
    }
    let ahead = youngest.map_or(0, |youngest| youngest.since(SystemClock.now()).as_secs());
    match ahead > SKEW_SECONDS {
        true => {
            let said = format!("the youngest event was published {ahead} s in the future");
            found.warn("clock", said, "set the clock of this machine, or of the one that published");
        }
        false => found.ok("clock", "not behind the youngest event"),
    }
    Ok(())
}
