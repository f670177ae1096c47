//! How the program ends: the one list of exit codes, and failures on their way to it.

use std::process::ExitCode;

use commute::{Code, Error};
use serde::Serialize;

macro_rules! exits {
    ($($(#[doc = $doc:literal])* $name:ident = $number:literal;)*) => {
        /// How the program ended.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Exit { $($(#[doc = $doc])* $name = $number),* }

        impl Exit {
            /// Every code with its meaning.
            pub(crate) const ALL: &'static [(Exit, &'static str)] = &[$((Exit::$name, concat!($($doc),*))),*];
        }
    };
}

exits! {
    /// It was done.
    Done = 0;
    /// It failed.
    Failed = 1;
    /// The command line is wrong, or no broker is named.
    Usage = 2;
    /// There is nothing under the name that was given.
    NotFound = 3;
    /// There was nothing to do, or it had been done already.
    NothingToDo = 4;
    /// The broker or the service cannot do it, or not now.
    Refused = 5;
    /// A part was done; the message says which.
    Partly = 6;
    /// It cannot be undone, and nobody said yes.
    Unconfirmed = 7;
    /// The owner went away while it was asked; whether it was done is unknown.
    Unknown = 8;
}

impl Exit {
    /// The part of `--help` that lists the codes.
    pub(crate) fn help() -> String {
        let mut text = "Exit codes:\n".to_owned();
        for (exit, meaning) in Exit::ALL {
            text.push_str(&format!("  {} {meaning}\n", *exit as u8));
        }
        text
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Why a command did not do what it was asked, as it is shown.
#[derive(Debug, Serialize)]
pub(crate) struct Failure {
    /// The exit code.
    #[serde(serialize_with = "number")]
    pub(crate) exit: Exit,
    /// The code of the error, where it has one.
    pub(crate) code: Option<&'static str>,
    /// What happened.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) remedy: Option<String>,
    /// Whoever reads the output has gone; nothing is to be said.
    #[serde(skip)]
    pub(crate) silent: bool,
}

fn number<S: serde::Serializer>(exit: &Exit, to: S) -> std::result::Result<S::Ok, S::Error> {
    to.serialize_u8(*exit as u8)
}

/// What a command answers.
pub(crate) type Result<T = Exit> = std::result::Result<T, Failure>;

impl Failure {
    /// A failure of the program's own.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Failure { exit, code: None, message: message.into(), remedy: None, silent: false }
    }

    /// Says what to do.
    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Says what had been done before. An end that left something done is a partial one, unless it is unknown.
    pub(crate) fn after(mut self, done: usize, so_far: &str) -> Self {
        self.message = format!("{}; before that: {so_far}", self.message);
        if done > 0 && self.exit != Exit::Unknown {
            self.exit = Exit::Partly;
        }
        self
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match error.code() {
            Code::NotFound => Exit::NotFound,
            Code::NotParked => Exit::NothingToDo,
            Code::NeedNotMet
            | Code::GroupBusy
            | Code::AccessRefused
            | Code::DirectoryOwned
            | Code::PayloadTooLarge
            | Code::NotUnderstood => Exit::Refused,
            Code::InvalidTopic
            | Code::InvalidEvent
            | Code::InvalidOption
            | Code::UnknownScheme
            | Code::DriverNotCompiledIn => Exit::Usage,
            Code::BrokerUnavailable if error.detail().contains("is unknown") => Exit::Unknown,
            _ => Exit::Failed,
        };
        // With its causes, and the code once.
        let whole = format!("{error:#}");
        let message = whole.replacen(&format!(" ({})", error.code()), "", 1);
        let remedy = Some(error.remedy().to_owned());
        Failure { exit, code: Some(error.code().number()), message, remedy, silent: false }
    }
}

impl From<std::io::Error> for Failure {
    fn from(cause: std::io::Error) -> Self {
        let silent = cause.kind() == std::io::ErrorKind::BrokenPipe;
        Failure { silent, ..Failure::new(Exit::Failed, cause.to_string()) }
    }
}
