//! A proxy between a client and a server: the network of a test, which can be cut, frozen and healed.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the network does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weather {
    /// Everything gets through.
    Fair,
    /// Bytes are swallowed and nobody is told: both sides believe in a connection that is not there.
    Frozen,
    /// What clients send gets through, and they hear nothing back.
    Mute,
    /// Connections are reset, and new ones refused.
    Cut,
}

/// A proxy on a loopback port. Dropping it cuts every connection.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    weather: Arc<watch::Sender<Weather>>,
    listening: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port, in front of a server.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn before(server: SocketAddr) -> std::io::Result<Proxy> {
        Self::on(0, server).await
    }

    /// Listens on this port, in front of a server.
    ///
    /// # Errors
    /// When the port cannot be had.
    pub async fn on(port: u16, server: SocketAddr) -> std::io::Result<Proxy> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        let weather = Arc::new(watch::channel(Weather::Fair).0);
        let listening = tokio::spawn(listen(listener, server, weather.clone()));
        Ok(Proxy { address, weather, listening })
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resets every connection and refuses new ones.
    pub fn cut(&self) {
        self.weather.send_replace(Weather::Cut);
    }

    /// Swallows everything on connections that there are; new ones get no answer.
    pub fn freeze(&self) {
        self.weather.send_replace(Weather::Frozen);
    }

    /// Swallows what the server says, so that what clients ask for is done and they are not told.
    pub fn mute(&self) {
        self.weather.send_replace(Weather::Mute);
    }

    /// New connections get through. Those that were frozen are reset, as a router does that has forgotten them.
    pub fn heal(&self) {
        self.weather.send_replace(Weather::Cut);
        self.weather.send_replace(Weather::Fair);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        self.listening.abort();
    }
}

async fn listen(listener: TcpListener, server: SocketAddr, weather: Arc<watch::Sender<Weather>>) {
    while let Ok((client, _)) = listener.accept().await {
        let seen = weather.subscribe();
        if *seen.borrow() == Weather::Cut {
            continue;
        }
        tokio::spawn(carry(client, server, seen));
    }
}

async fn carry(client: TcpStream, server: SocketAddr, mut weather: watch::Receiver<Weather>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    for socket in [&client, &server] {
        // A delay of the kernel's would only blur what is measured; without it everything works as well.
        let _ = socket.set_nodelay(true);
    }
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut changes = weather.clone();
    let cut = async {
        let mut frozen = false;
        loop {
            let now = *changes.borrow_and_update();
            // Also one that began in it.
            frozen |= matches!(now, Weather::Frozen | Weather::Mute);
            // Fair again after a freeze: the cut in between may not have been seen.
            if now == Weather::Cut || (frozen && now == Weather::Fair) || changes.changed().await.is_err() {
                return;
            }
        }
    };
    weather.mark_unchanged();
    let (there, back) = (weather.clone(), weather);
    tokio::select! {
        // The weather first: nothing is carried any more in what has changed.
        biased;
        () = cut => {}
        () = pump(&mut from_client, &mut to_server, there, &[Weather::Frozen, Weather::Cut]) => {}
        () = pump(&mut from_server, &mut to_client, back, &[Weather::Frozen, Weather::Mute, Weather::Cut]) => {}
    }
}

async fn pump(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    weather: watch::Receiver<Weather>,
    swallowed_in: &[Weather],
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => read,
        };
        if swallowed_in.contains(&weather.borrow()) {
            // Whoever is cut off hears nothing, not even the end.
            std::future::pending::<()>().await;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = client.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        address
    }

    async fn says(connection: &mut TcpStream, text: &[u8]) -> std::io::Result<Vec<u8>> {
        connection.write_all(text).await?;
        let mut answer = vec![0; text.len()];
        connection.read_exact(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn a_cut_ends_connections_and_a_heal_lets_new_ones_through() {
        let proxy = Proxy::before(echo().await).await.unwrap();
        let mut connection = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(says(&mut connection, b"one").await.unwrap(), b"one");
        proxy.cut();
        assert!(says(&mut connection, b"two").await.is_err());
        proxy.heal();
        let mut connection = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(says(&mut connection, b"three").await.unwrap(), b"three");
    }

    #[tokio::test(start_paused = true)]
    async fn a_frozen_connection_is_silent_and_stays() {
        let proxy = Proxy::before(echo().await).await.unwrap();
        let mut connection = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(says(&mut connection, b"one").await.unwrap(), b"one");
        proxy.freeze();
        let silent = tokio::time::timeout(std::time::Duration::from_secs(5), says(&mut connection, b"two")).await;
        assert!(silent.is_err(), "nothing came, not even an end");
        proxy.heal();
        assert!(says(&mut connection, b"three").await.is_err());
    }

    #[tokio::test]
    async fn a_mute_server_hears_and_is_not_heard() {
        let heard = Arc::new(watch::channel(0).0);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let server = listener.local_addr().unwrap();
        let hears = heard.clone();
        tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut byte = [0];
            while client.read_exact(&mut byte).await.is_ok() {
                let _ = client.write_all(&byte).await;
                hears.send_modify(|count| *count += 1);
            }
        });
        let proxy = Proxy::before(server).await.unwrap();
        let mut connection = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(says(&mut connection, b"a").await.unwrap(), b"a");
        proxy.mute();
        connection.write_all(b"b").await.unwrap();
        heard.subscribe().wait_for(|count| *count == 2).await.unwrap();
        proxy.cut();
        assert!(connection.read_exact(&mut [0]).await.is_err(), "the answer never came");
    }
}
