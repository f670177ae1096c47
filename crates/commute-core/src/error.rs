//! Errors a person can meet: a stable code, what happened, what to do.
//!
//! [`Code`] is the one list; the pages in `docs/errors` and every message are made from it.

use std::fmt;

/// The cause of an [`Error`], kept as its source.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// The result of everything in commute that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $name:ident = $number:literal, retryable: $retryable:literal, remedy: $remedy:literal;)*) => {
        /// What went wrong, as a number that stays the same and can be looked up.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Code { $($(#[doc = $doc])* $name),* }

        impl Code {
            /// Every code there is.
            pub const ALL: &'static [Code] = &[$(Code::$name),*];

            /// The number, as it is printed: `CM0001`.
            pub fn number(self) -> &'static str {
                match self { $(Code::$name => $number),* }
            }

            /// What it means, in one sentence.
            pub fn meaning(self) -> &'static str {
                match self { $(Code::$name => concat!($($doc),*)),* }.trim()
            }

            /// What the reader can do about it.
            pub fn remedy(self) -> &'static str {
                match self { $(Code::$name => $remedy),* }
            }

            /// Whether the same call may succeed later without anybody changing anything.
            pub fn is_retryable(self) -> bool {
                match self { $(Code::$name => $retryable),* }
            }
        }
    };
}

codes! {
    /// A topic name is not valid.
    InvalidTopic = "CM0001", retryable: false, remedy: "use 1 to 200 of the characters a-z A-Z 0-9 . _ -, beginning and ending with a letter or digit";
    /// An event attribute is not valid.
    InvalidEvent = "CM0002", retryable: false, remedy: "give the event a non-empty id of at most 256 bytes, a type and a source; extension names are 1 to 20 of a-z 0-9";
    /// No driver knows the scheme of a broker URL.
    UnknownScheme = "CM0003", retryable: false, remedy: "use one of the schemes that the message lists";
    /// The driver of a broker URL is known but not compiled in.
    DriverNotCompiledIn = "CM0004", retryable: false, remedy: "enable the cargo feature that the message names";
    /// A broker URL has an option that its driver does not know, or a value out of range.
    InvalidOption = "CM0005", retryable: false, remedy: "correct the option; the message names it and what is allowed";
    /// A data directory cannot be created, read or written.
    DirectoryUnusable = "CM0006", retryable: false, remedy: "give a directory that this user may write to, or correct its permissions";
    /// A directory holds something that commute did not write.
    ForeignDirectory = "CM0007", retryable: false, remedy: "give an empty or new directory; nothing in this one was changed";
    /// Another process, or another part of this one, owns the data directory.
    DirectoryOwned = "CM0008", retryable: true, remedy: "stop the other owner, or give each its own directory";
    /// The disk is full.
    DiskFull = "CM0009", retryable: false, remedy: "make room and start again; everything that was confirmed is kept, nothing half done was believed";
    /// The disk failed to store something, so the log takes no more.
    Poisoned = "CM0010", retryable: false, remedy: "look at the cause, repair the disk and start again; everything that was confirmed before is kept";
    /// Stored data is damaged.
    Damaged = "CM0011", retryable: false, remedy: "keep a copy of the directory; the message names file and position, and nothing behind it was delivered";
    /// Stored data has a format version that this program does not know.
    UnknownFormat = "CM0012", retryable: false, remedy: "use a version of commute at least as new as the one that wrote it";
    /// A payload is larger than the limit.
    PayloadTooLarge = "CM0013", retryable: false, remedy: "publish a reference to the data instead, or raise the limit on the broker";
    /// The broker connection is closed.
    Closed = "CM0014", retryable: false, remedy: "publish before the shutdown, or connect again";
    /// The broker cannot be reached or did not answer.
    BrokerUnavailable = "CM0015", retryable: true, remedy: "check that the server runs and that the address is right";
    /// A service needs something that its broker does not give.
    NeedNotMet = "CM0016", retryable: false, remedy: "drop the need, or use a broker that meets it; `contract` shows what each gives";
    /// A service is put together wrongly.
    InvalidApp = "CM0017", retryable: false, remedy: "correct what the message lists; nothing was read from the broker yet";
    /// A database of a store failed.
    StoreFailed = "CM0018", retryable: true, remedy: "look at the cause; the events of the failed transaction are handled again";
    /// A handler ended the transaction that it shares with other events.
    TransactionEnded = "CM0019", retryable: false, remedy: "take COMMIT, ROLLBACK and RAISE(ROLLBACK) out of the handler's SQL; commute ends the transaction itself";
    /// The payload of an event cannot be decoded.
    Undecodable = "CM0020", retryable: false, remedy: "correct the publisher, or handle this version of the event too";
    /// No handler of the subscription takes this type of event.
    UnknownType = "CM0021", retryable: false, remedy: "add a handler for the type, or say that the subscription ignores unknown types";
    /// The handler rejected the event.
    Rejected = "CM0022", retryable: false, remedy: "the reason is the handler's own; correct the event and publish it again";
    /// The handler failed and was tried again until its attempts were used up.
    AttemptsExhausted = "CM0023", retryable: false, remedy: "remove the cause in the message, then redrive the event";
    /// The handler took longer than its timeout.
    TimedOut = "CM0024", retryable: true, remedy: "make the handler faster or its timeout longer";
    /// The handler panicked.
    Panicked = "CM0025", retryable: true, remedy: "the message says where; the event counts as failed and is tried again";
    /// An argument of a handler could not be made from the delivery.
    ExtractorFailed = "CM0026", retryable: false, remedy: "correct the publisher, or make the argument optional";
    /// A handler failed.
    HandlerFailed = "CM0027", retryable: true, remedy: "look at the cause; the event is tried again by its retry policy";
    /// Reading or writing a file failed.
    Io = "CM0028", retryable: true, remedy: "look at the cause";
    /// A lane that should be released is not parked.
    NotParked = "CM0029", retryable: false, remedy: "list the parked lanes; it may have been released already";
    /// The broker refused the credentials, or what they may do is not enough.
    AccessRefused = "CM0030", retryable: false, remedy: "correct user and password (URL, password_file or password_env) or the key (key_file), or give the user the permission that the message names";
    /// A topic, queue, exchange or virtual host does not exist, and may not be declared.
    TopologyMissing = "CM0031", retryable: false, remedy: "create what the message names, or let commute declare it (declare=true)";
    /// A topic, queue or exchange exists and cannot be used as it is.
    TopologyDiffers = "CM0032", retryable: false, remedy: "use another name, or delete what is there and let commute declare it; the message says what differs";
    /// A secure connection could not be made.
    TlsFailed = "CM0033", retryable: false, remedy: "check the certificates, their dates and the host name; ca=FILE names an authority of your own";
    /// Nothing is stored or running under the name that was given.
    NotFound = "CM0034", retryable: false, remedy: "list what there is; a name may be misspelt, or what it named is no longer retained";
    /// A subscription cannot be changed while an instance has it open.
    GroupBusy = "CM0035", retryable: true, remedy: "stop the instances of the service, then do it again";
    /// A configuration file or a variable of the environment is not valid.
    InvalidConfig = "CM0036", retryable: false, remedy: "correct what the message lists; `docs/guide/configuration.md` has every key, its range and its variable";
    /// The other side speaks another protocol, or another version of it.
    NotUnderstood = "CM0037", retryable: false, remedy: "check that the address is right, and that both sides are of versions that know each other";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.number())
    }
}

/// Something failed: a [`Code`], what exactly, and the cause.
pub struct Error(Box<Inner>);

struct Inner {
    code: Code,
    detail: String,
    source: Option<BoxError>,
}

impl Error {
    /// An error without a cause below it. `detail` is lower case and names the thing.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Error(Box::new(Inner { code, detail: detail.into(), source: None }))
    }

    /// Keeps the cause.
    pub fn caused_by(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Says where, in front of what went wrong.
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.0.detail = format!("{place}: {}", self.0.detail);
        self
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// What exactly went wrong, without code and cause.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// What the reader can do about it.
    pub fn remedy(&self) -> &'static str {
        self.0.code.remedy()
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        self.0.code.is_retryable()
    }

    /// The message with its causes and the remedy, for printing to a person.
    pub fn report(&self) -> String {
        format!("{self:#}\n  what to do: {}", self.remedy())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0.detail, self.0.code)?;
        if f.alternate() {
            let mut cause = std::error::Error::source(self);
            while let Some(error) = cause {
                write!(f, ": {error}")?;
                cause = error.source();
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:#}")
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_own_number_a_meaning_and_a_remedy() {
        let mut numbers: Vec<_> = Code::ALL.iter().map(|code| code.number()).collect();
        numbers.dedup();
        assert_eq!(numbers.len(), Code::ALL.len());
        assert!(numbers.is_sorted(), "{numbers:?}");
        for code in Code::ALL {
            assert!(code.number().strip_prefix("CM").is_some_and(|n| n.len() == 4 && n.parse::<u16>().is_ok()));
            assert!(code.meaning().ends_with('.') && !code.remedy().is_empty());
        }
    }

    #[test]
    fn an_error_says_what_why_and_what_to_do() {
        let error = Error::new(Code::DiskFull, "cannot write segment 3").caused_by(std::io::Error::other("no space"));
        assert_eq!(error.to_string(), "cannot write segment 3 (CM0009)");
        assert!(error.report().contains("no space") && error.report().contains("make room"));
    }
}
