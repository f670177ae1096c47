//! The admin address: metrics, health, contract and statistics over HTTP, for probes and people on the same machine.
//!
//! It answers before the first event is read and until the app has ended, so that starting, draining and failing can be
//! seen. It changes nothing: whoever reaches it may read, and nothing else.

mod answer;
mod render;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use commute_core::{Code, Error, Result};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::app::AdminAddress;
use crate::monitor::Monitor;

/// How many connections there may be at once: a scraper, the probes and a few people, several times over.
const CONNECTIONS: usize = 32;

/// How long a request may take to arrive.
const HEADER_TIME: Duration = Duration::from_secs(5);

/// How long a connection may last; a scraper that keeps one opens another.
const CONNECTION_TIME: Duration = Duration::from_secs(60);

/// How long to wait after no connection could be accepted, which is when the process has no file descriptor left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

impl AdminAddress {
    /// The address, if one is wanted and allowed; what is wrong otherwise.
    pub(crate) fn checked(&self) -> Result<Option<SocketAddr>, String> {
        let Some(address) = &self.address else { return Ok(None) };
        let parsed: SocketAddr = address.parse().map_err(|_| {
            format!("admin({address:?}): say an IP address and a port, as in \"127.0.0.1:9464\" or \"[::1]:9464\"")
        })?;
        if !parsed.ip().is_loopback() && !self.beyond_loopback {
            return Err(format!(
                "admin({address:?}): other machines could read what is there; bind a loopback address, or say .admin_beyond_loopback()"
            ));
        }
        Ok(Some(parsed))
    }

    /// Binds and begins to answer: that the app is starting, until it is shown.
    pub(crate) async fn bind(&self) -> Result<Option<Admin>> {
        let wanted = self.checked().map_err(|why| Error::new(Code::InvalidApp, why))?;
        let Some(wanted) = wanted else { return Ok(None) };
        let cannot = |cause| Error::new(Code::Io, format!("cannot bind the admin address {wanted}")).caused_by(cause);
        let listener = TcpListener::bind(wanted).await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        let shown = Shown::default();
        let task = AbortOnDropHandle::new(tokio::spawn(serve(listener, shown.clone())));
        tracing::info!(%address, "the admin address answers");
        Ok(Some(Admin { address, shown, task }))
    }
}

/// What is shown, once there is something.
type Shown = Arc<OnceLock<Monitor>>;

/// A bound admin address. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Admin {
    address: SocketAddr,
    shown: Shown,
    task: AbortOnDropHandle<()>,
}

impl Admin {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn show(&self, monitor: Monitor) {
        let _ = self.shown.set(monitor);
    }

    /// Closes every connection and lets go of the app.
    pub(crate) async fn end(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

async fn serve(listener: TcpListener, shown: Shown) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    // Dropped with this task, and every connection with it.
    let mut connections = JoinSet::new();
    loop {
        // Never closed; whoever comes while there is no room waits in the listener's queue.
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the admin address cannot accept a connection");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let shown = shown.clone();
        connections.spawn(async move {
            let _permit = permit;
            let _ = tokio::time::timeout(CONNECTION_TIME, converse(stream, shown)).await;
        });
    }
}

async fn converse(stream: TcpStream, shown: Shown) {
    let service = service_fn(move |request| {
        let answer = answer::answer(&request, shown.get());
        std::future::ready(Ok::<_, std::convert::Infallible>(answer))
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIME);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection to the admin address ended early");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(address: &str, beyond_loopback: bool) -> Result<Option<SocketAddr>, String> {
        AdminAddress { address: Some(address.to_owned()), beyond_loopback }.checked()
    }

    #[test]
    fn an_address_that_others_reach_is_refused_unless_it_is_said() {
        for near in ["127.0.0.1:0", "127.9.9.9:80", "[::1]:9464"] {
            assert!(checked(near, false).unwrap().is_some());
        }
        for far in ["0.0.0.0:9464", "[::]:9464", "192.168.1.2:80"] {
            assert!(checked(far, false).unwrap_err().contains("admin_beyond_loopback"), "{far}");
            assert!(checked(far, true).unwrap().is_some());
        }
        assert!(checked("localhost", false).unwrap_err().contains("127.0.0.1:9464"));
    }
}
