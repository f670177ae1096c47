//! Drivers: how a backend describes itself to whoever turns a URL into a broker.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::admin::SharedAdmin;
use crate::broker::SharedBroker;
use crate::error::{Code, Error, Result};
use crate::future::BoxFuture;

/// A backend's description of itself. Each backend exports one as a constant; there is no global registry.
#[derive(Debug, Clone, Copy)]
pub struct Driver {
    /// The backend's name.
    pub name: &'static str,
    /// The URL schemes it answers to.
    pub schemes: &'static [&'static str],
    /// Connects. Creates what is missing; fails without leaving anything half done.
    pub connect: fn(Address) -> BoxFuture<'static, Result<SharedBroker>>,
    /// For backends whose events are files of this machine, how to look at them without a server.
    pub files: Option<Files>,
}

/// How an operator reaches files that another process may own.
#[derive(Debug, Clone, Copy)]
pub struct Files {
    /// Where the owner listens: [`crate::Broker::socket`] of whoever connects to this address.
    pub socket: fn(&Address) -> Result<PathBuf>,
    /// Opens the files to look at them, without changing anything, and without keeping an owner from starting.
    pub read: fn(Address) -> BoxFuture<'static, Result<SharedAdmin>>,
}

/// A broker URL, taken apart: `scheme:rest?name=value&…`.
///
/// Its `Debug` shows the scheme only, because the rest may carry a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// Before the first colon, lower case.
    pub scheme: String,
    /// Behind the colon, without leading slashes and without the options.
    pub rest: String,
    /// The whole URL, for drivers whose client parses it itself.
    pub url: String,
    /// The options behind the question mark.
    pub options: BTreeMap<String, String>,
}

impl Address {
    /// Takes a URL apart.
    ///
    /// No message repeats more than the name of an option, because a URL may hold a password.
    ///
    /// # Errors
    /// [`Code::UnknownScheme`] when there is no scheme; [`Code::InvalidOption`] when a password seems to hold a question mark.
    pub fn parse(url: &str) -> Result<Self> {
        let Some((scheme, rest)) = url.split_once(':').filter(|(scheme, _)| is_scheme(scheme)) else {
            let detail = "a broker URL begins with a scheme, as in embedded:data or amqp://host".to_owned();
            return Err(Error::new(Code::UnknownScheme, detail));
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        // What stands behind the question mark would be taken for an option, and its name shown.
        if query.contains('@') && rest.contains(':') && !rest.contains('@') {
            let detail = "the password in the broker URL has a `?`; write it as %3F";
            return Err(Error::new(Code::InvalidOption, detail));
        }
        let options = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Ok(Address {
            scheme: scheme.to_ascii_lowercase(),
            rest: rest.strip_prefix("//").unwrap_or(rest).to_owned(),
            url: url.to_owned(),
            options,
        })
    }

    /// Takes an option out, parsed.
    ///
    /// # Errors
    /// [`Code::InvalidOption`] when its value does not parse.
    pub fn take<T: std::str::FromStr>(&mut self, name: &str) -> Result<Option<T>> {
        let Some(text) = self.options.remove(name) else { return Ok(None) };
        let value = text.parse().map_err(|_| {
            Error::new(Code::InvalidOption, format!("option {name:?} of the broker URL cannot be {text:?}"))
        })?;
        Ok(Some(value))
    }

    /// Refuses options that nobody took.
    ///
    /// # Errors
    /// [`Code::InvalidOption`], naming the first one and what is known.
    pub fn finish(&self, known: &[&str]) -> Result<()> {
        match self.options.keys().next() {
            None => Ok(()),
            Some(name) => Err(Error::new(
                Code::InvalidOption,
                format!("{} URLs have no option {name:?}; known: {}", self.scheme, known.join(", ")),
            )),
        }
    }
}

/// As RFC 3986 has it.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Address({}:…)", self.scheme)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_and_unknown_options_are_named() {
        let mut address = Address::parse("embedded://var/data?max_bytes=10&speed=fast").unwrap();
        assert_eq!((address.scheme.as_str(), address.rest.as_str()), ("embedded", "var/data"));
        assert_eq!(address.take::<u64>("max_bytes").unwrap(), Some(10));
        let error = address.finish(&["max_bytes"]).unwrap_err();
        assert!(error.detail().contains("speed") && error.detail().contains("max_bytes"), "{error}");
        assert!(Address::parse("embedded:/var?x=a").unwrap().take::<u64>("x").is_err());
        assert_eq!(Address::parse("data").unwrap_err().code(), Code::UnknownScheme);
    }

    #[test]
    fn a_url_that_cannot_be_read_is_not_repeated() {
        for url in
            ["me:hunter2@host?x=hunter2", "hunter2@host:5672", "amqp//me:hunter2@host", "amqp://me:a?hunter2@host"]
        {
            let said = match Address::parse(url) {
                Ok(address) => format!("{address:?}"),
                Err(error) => error.report(),
            };
            assert!(!said.contains("hunter2"), "{said}");
        }
    }
}
