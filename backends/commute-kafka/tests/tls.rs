//! Encrypted connections: whom the client trusts, what it says when it does not, and that no password is ever shown.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use commute_core::{
    Address, Code, Envelope, Error, Outgoing, Settlement, SharedBroker, SubscriptionSpec, Timestamp, Topic,
};
use commute_kafka::{DRIVER, Options};
use servers::{Authority, Kind, Server};

const USER: &str = "shop";
const PASSWORD: &str = "pa55word";
const WRONG: &str = "s3cret";
const PATIENCE: Duration = Duration::from_secs(60);

/// A server whose certificate is for `localhost`, and two authorities, of which the first has vouched for it.
struct Secured {
    /// Anybody may come.
    open: u16,
    /// Only our user may.
    guarded: u16,
    ca: PathBuf,
    stranger: PathBuf,
    _files: tempfile::TempDir,
    _server: Server,
}

impl Secured {
    /// One for all tests that run at the same time.
    fn get() -> Arc<Secured> {
        static SHARED: Mutex<Weak<Secured>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().expect("no start has failed");
        shared.upgrade().unwrap_or_else(|| {
            let started = Arc::new(Secured::start());
            *shared = Arc::downgrade(&started);
            started
        })
    }

    fn start() -> Secured {
        let authority = Authority::new().expect("an authority");
        let tls = authority.vouch("localhost", USER, PASSWORD).expect("a certificate");
        let files = tempfile::tempdir().expect("a folder");
        let [ca, stranger] = [authority, Authority::new().expect("an authority")].map(|authority| {
            let file = files.path().join(format!("{:08x}.pem", fastrand::u32(..)));
            std::fs::write(&file, authority.certificate()).expect("a file");
            file
        });
        servers::install(Kind::Kafka).expect("Kafka is there or can be had");
        let options = servers::Options { tls: Some(tls), ..Default::default() };
        let server = Server::start(Kind::Kafka, options).expect("it starts");
        let open = server.tls_port().expect("it speaks TLS");
        let guarded = server.sasl_port().expect("it asks for passwords");
        Secured { open, guarded, ca, stranger, _files: files, _server: server }
    }

    fn url(&self, host: &str, ca: &Path) -> String {
        format!("kafkas://{host}:{}?ca={}", self.open, ca.display())
    }

    fn guarded_url(&self, password: &str, sasl: &str) -> String {
        let ca = self.ca.display();
        format!("kafkas://{USER}:{password}@localhost:{}?ca={ca}&sasl={sasl}", self.guarded)
    }
}

/// Everything that is logged, by us and by the client library.
#[derive(Clone, Copy)]
struct Log;

static LOGGED: Mutex<Vec<u8>> = Mutex::new(Vec::new());

impl Log {
    fn begin() {
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
        // Another test has done it already, or this one does.
        let _ = subscriber.with_writer(|| Log).try_init();
    }

    /// How much there is, when there is no secret in it.
    fn without_secrets() -> usize {
        let logged = LOGGED.lock().expect("nobody failed");
        check_hidden("the log", &String::from_utf8_lossy(&logged));
        logged.len()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOGGED.lock().expect("nobody failed").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn check_hidden(what: &str, text: &str) {
    for secret in [PASSWORD, WRONG] {
        let line = text.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{what} shows a password");
    }
}

async fn connect(url: &str) -> Result<SharedBroker, Error> {
    Log::begin();
    let options = Options::from_address(Address::parse(url)?)?;
    check_hidden("Debug", &format!("{options:?}"));
    let connected = (DRIVER.connect)(Address::parse(url)?).await;
    if let Err(error) = &connected {
        check_hidden("the error", &format!("{error} {error:?} {error:#} {}", error.report()));
    }
    connected
}

async fn refused(url: &str, code: Code) {
    let Err(error) = connect(url).await else { panic!("{code:?} was expected") };
    assert_eq!(error.code(), code, "{}", error.report());
    Log::without_secrets();
}

async fn there_and_back(url: &str) {
    let broker = connect(url).await.expect("the server answers");
    check_hidden("the address", broker.address());
    check_hidden("the contract", &format!("{:?}", broker.capabilities()));
    let topic = Topic::new(format!("tls.{:x}", fastrand::u64(..))).expect("a valid name");
    let spec = SubscriptionSpec::new(topic.clone(), "group");
    let mut subscription = broker.subscribe(spec).await.expect("subscribing works");
    let envelope = Envelope::new("test", "test.event", Timestamp(1), Bytes::from_static(b"hello"));
    let event = Outgoing { topic, envelope: envelope.clone(), not_before: None };
    broker.publish(vec![event]).await.expect("publishing works");
    let taken = tokio::time::timeout(PATIENCE, subscription.receiver.receive(1)).await.expect("an event comes");
    let taken = taken.expect("receiving works");
    assert_eq!((&taken[0].envelope.id, &taken[0].envelope.data), (&envelope.id, &envelope.data));
    let ack = Settlement::Ack { tag: taken[0].tag, publish: Vec::new(), mark: false };
    subscription.settler.settle(vec![ack]).await.expect("settling works");
    drop(subscription);
    broker.close().await.expect("closing works");
    assert!(Log::without_secrets() > 0, "something was logged");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_goes_there_and_back_over_tls() {
    let server = Secured::get();
    there_and_back(&server.url("localhost", &server.ca)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_goes_there_and_back_with_every_way_to_prove_who_one_is() {
    let server = Secured::get();
    for sasl in ["plain", "scram-sha-256", "scram-sha-512"] {
        there_and_back(&server.guarded_url(PASSWORD, sasl)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_for_whom_no_trusted_authority_vouches_is_refused() {
    let server = Secured::get();
    refused(&server.url("localhost", &server.stranger), Code::TlsFailed).await;
    // Nor does the system know it.
    refused(&format!("kafkas://localhost:{}", server.open), Code::TlsFailed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_another_host_is_refused() {
    let server = Secured::get();
    refused(&server.url("127.0.0.1", &server.ca), Code::TlsFailed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_refused_over_tls() {
    let server = Secured::get();
    for sasl in ["plain", "scram-sha-256", "scram-sha-512"] {
        refused(&server.guarded_url(WRONG, sasl), Code::AccessRefused).await;
    }
}
