//! The server that the tests talk to: its URL comes from `cargo xtask test`, or from whoever started one.

#![allow(dead_code, reason = "every test program uses its own part")]

use std::net::SocketAddr;

const VARIABLE: &str = "COMMUTE_TEST_RABBITMQ";

/// Its URL, `amqp://user:password@host:port/vhost`.
pub(crate) fn url() -> String {
    std::env::var(VARIABLE).unwrap_or_else(|_| {
        panic!(
            "{VARIABLE} is not set: run `cargo xtask test`, or `cargo xtask brokers up rabbitmq` and set it to the URL"
        )
    })
}

/// Its address.
pub(crate) fn address() -> SocketAddr {
    let url = url();
    let (_, rest) = url.split_once('@').expect("a URL with user and password");
    let host = rest.split('/').next().expect("a host");
    host.parse().expect("an address and a port")
}

/// Its URL, with another address in front of it.
pub(crate) fn url_at(address: SocketAddr) -> String {
    url().replace(&self::address().to_string(), &address.to_string())
}
