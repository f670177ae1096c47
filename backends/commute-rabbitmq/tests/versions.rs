//! Which server it is: said when connected, and refused when it is too old or too small.

mod server;

use std::net::SocketAddr;

use commute_core::{Broker, Code, Durability, GroupOrder};
use commute_rabbitmq::{Options, RabbitMq};
use servers::{Kind, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn connect(url: &str) -> commute_core::Result<RabbitMq> {
    RabbitMq::connect(Options::new(url).expect("a valid URL")).await
}

/// The server under test, by what it says itself.
async fn version() -> String {
    let broker = connect(&server::url()).await.expect("the server answers");
    broker.server().and_then(|server| server.version.clone()).expect("RabbitMQ says its version")
}

/// The server under test, but for some words of its greeting. They keep their length, so that the frame does.
async fn disguised(words: &[(&str, &str)]) -> SocketAddr {
    let words: Vec<_> = words.iter().map(|(from, to)| (from.as_bytes().to_vec(), to.as_bytes().to_vec())).collect();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let words = words.clone();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(server::address()).await.expect("the server listens");
                let mut header = [0; 8];
                client.read_exact(&mut header).await.expect("the client begins");
                server.write_all(&header).await.expect("the server reads");
                let mut frame = vec![0; 7];
                server.read_exact(&mut frame).await.expect("the server greets");
                let length = u32::from_be_bytes(frame[3..7].try_into().expect("four bytes"));
                frame.resize(7 + length as usize + 1, 0);
                server.read_exact(&mut frame[7..]).await.expect("the greeting has an end");
                for (from, to) in &words {
                    assert_eq!(from.len(), to.len());
                    let at =
                        frame.windows(from.len()).position(|part| part == from).expect("the greeting has the word");
                    frame[at..at + to.len()].copy_from_slice(to);
                }
                // In two parts, as a network may.
                let (head, tail) = frame.split_at(60);
                for part in [head, tail] {
                    client.write_all(part).await.expect("the client reads");
                    client.flush().await.expect("the client reads");
                    tokio::task::yield_now().await;
                }
                tokio::io::copy_bidirectional(&mut client, &mut server).await.ok();
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn the_product_and_the_version_of_the_server_are_known() {
    let broker = connect(&server::url()).await.expect("the server answers");
    let server = broker.server().expect("it says what it is");
    assert_eq!(server.product, "RabbitMQ");
    let version = server.version.as_deref().expect("a version");
    assert!(version.starts_with("3.1") || version.starts_with("4."), "{version}");
    let limited = server.degradations.iter().any(|what| what.contains("10070") || what.contains("20 times"));
    assert!(limited, "both that are tested have something to say: {server} {:?}", server.degradations);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_too_old_is_refused_with_its_version() {
    let version = version().await;
    let old = format!("3.7.{}", "9".repeat(version.len() - 4));
    let place = disguised(&[(&version, &old)]).await;
    let refused = connect(&server::url_at(place)).await.expect_err("it has no quorum queues");
    assert_eq!(refused.code(), Code::NeedNotMet);
    assert!(refused.detail().contains(&format!("RabbitMQ {old}")), "{refused}");
    assert!(refused.detail().contains("upgrade it to 3.8"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_product_is_used_and_promised_less_for() {
    let place = disguised(&[("RabbitMQ", "FerretMQ")]).await;
    let broker = connect(&server::url_at(place)).await.expect("it confirms what is published");
    let server = broker.server().expect("it says what it is");
    assert_eq!(server.product, "FerretMQ");
    assert!(server.degradations.iter().any(|what| what.contains("only RabbitMQ is tested")), "{server:?}");
    let given = broker.capabilities();
    assert_eq!((given.durability, given.group_order), (Durability::Written, GroupOrder::None));
    let deaf = disguised(&[("publisher_confirms", "publisher_promises")]).await;
    let refused = connect(&server::url_at(deaf)).await.expect_err("a lost event would not be noticed");
    assert_eq!(refused.code(), Code::NeedNotMet);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_frames_are_too_small_for_attributes_is_refused() {
    servers::install(Kind::Rabbitmq).expect("RabbitMQ is there or can be had");
    let options = servers::Options { settings: vec!["frame_max = 16384".into()], ..Default::default() };
    let server = Server::start(Kind::Rabbitmq, options).expect("it starts");
    let refused = connect(server.url()).await.expect_err("attributes have one frame");
    assert_eq!(refused.code(), Code::NeedNotMet);
    assert!(refused.detail().contains("frames of 16384 bytes: set frame_max to 131072"), "{refused}");
}
