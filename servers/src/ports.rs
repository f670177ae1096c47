//! Ports on loopback that nobody listens on.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result};

/// Below the range from which systems take the ports of outgoing connections: a server that is killed and started again
/// must find its port free.
const RANGE: std::ops::Range<u16> = 20_000..30_000;

/// Whether a server could listen there now.
#[must_use]
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// The first port as asked for, the others free and different.
pub(crate) fn choose<const N: usize>(first: u16) -> Result<[u16; N]> {
    // Held until all are chosen, so that none is chosen twice.
    let mut held = Vec::new();
    let mut ports = [0; N];
    for (n, port) in ports.iter_mut().enumerate() {
        if n == 0 && first != 0 {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, first));
            held.push(
                listener.with_context(|| format!("port {first} is taken: end what listens there, or ask for 0"))?,
            );
            *port = first;
            continue;
        }
        let mut tries = (0..1_000).map(|_| fastrand::u16(RANGE));
        let free = tries.find_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
        let listener = free.with_context(|| format!("no free port in {RANGE:?}"))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_refused_by_name() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = taken.local_addr().expect("an address").port();
        assert!(!is_free(port));
        let refused = choose::<2>(port).expect_err("it is taken");
        assert!(refused.to_string().contains(&port.to_string()), "{refused}");
    }

    #[test]
    fn ports_are_different_and_free() {
        let [a, b, c] = choose::<3>(0).expect("free ports");
        assert!(a != b && b != c && a != c);
        assert!([a, b, c].into_iter().all(is_free));
    }
}
