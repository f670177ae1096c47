//! Readiness: a server is ready when it answers in its own protocol, not when its port is open.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(2);

/// Whether an AMQP 0-9-1 server answers the protocol header with a method frame.
pub(crate) fn amqp(port: u16) -> bool {
    let mut kind = [0];
    ask(port, b"AMQP\x00\x00\x09\x01").is_some_and(|mut answer| answer.read_exact(&mut kind).is_ok() && kind == [1])
}

/// How many brokers a Kafka broker knows to be alive. Before it serves, it answers nothing or knows none.
pub(crate) fn kafka(port: u16) -> Option<usize> {
    // Length; Metadata, version 1; correlation id; no client id; no topics.
    let request = [&[0, 0, 0, 14][..], &[0, 3, 0, 1], &[0, 0, 0, 7], &[0xff, 0xff], &[0, 0, 0, 0]].concat();
    let mut answer = ask(port, &request)?;
    // Length, correlation id, number of brokers.
    let mut head = [0; 12];
    answer.read_exact(&mut head).ok()?;
    let [.., a, b, c, d] = head;
    (head[4..8] == [0, 0, 0, 7]).then(|| u32::from_be_bytes([a, b, c, d]) as usize)
}

/// Whether a ZeroMQ socket answers a greeting of ZMTP 3 with its own.
pub(crate) fn zmtp(port: u16) -> bool {
    let mut greeting = [0; 64];
    greeting[0] = 0xff;
    greeting[9..12].copy_from_slice(&[0x7f, 3, 1]);
    greeting[12..16].copy_from_slice(b"NULL");
    let mut answer = [0; 11];
    ask(port, &greeting).is_some_and(|mut said| said.read_exact(&mut answer).is_ok() && answer[0] == 0xff)
}

/// Whether anything listens.
pub(crate) fn connects(port: u16) -> bool {
    connect(port).is_some()
}

fn connect(port: u16) -> Option<TcpStream> {
    TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), LIMIT).ok()
}

fn ask(port: u16, request: &[u8]) -> Option<TcpStream> {
    let mut stream = connect(port)?;
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    stream.write_all(request).ok()?;
    Some(stream)
}
