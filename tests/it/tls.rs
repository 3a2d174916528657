//! TLS where the server listens: what goes over it, and certificates that change under sessions.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use blockcast::config::Config;
use rustls::client::ClientConfig;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ALL_VERSIONS, ProtocolVersion};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{Connector, connect_async_tls_with_config};

use crate::support::broker::Broker;
use crate::support::certificates::Authority;
use crate::support::chain::{body, event, publish, real_bodies, real_events};
use crate::support::client::Client;
use crate::support::eventually::eventually;
use crate::support::process::Process;
use crate::support::replica::{Replica, config, metric_in, request};

const EXPIRY: &str = "blockcast_tls_certificate_expiry_timestamp_seconds";
const LOADED: &str = "blockcast_tls_reloads_total{outcome=\"loaded\"}";
const FAILED: &str = "blockcast_tls_reloads_total{outcome=\"failed\"}";
const REFUSED: &str = "blockcast_handshakes_refused_total{reason=\"tls\"}";
/// The years 3000 and 3001 begin, in seconds since 1970.
const YEAR_3000: f64 = 32_503_680_000.0;
const YEAR_3001: f64 = 32_535_216_000.0;

/// A configuration with TLS, and an address beside it that says how the replica is.
fn config_with_tls(authority: &Authority) -> Config {
    let mut config = config(Broker::shared());
    config.server.tls = authority.tls();
    config.admin.listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)).into());
    config
}

async fn start_ready(config: &Config) -> Replica {
    let replica = Replica::start(config).await;
    eventually("the replica is ready", async || ask(&replica, "/health/ready").await.0 == 200)
        .await;
    replica
}

/// Asks the replica's admin address.
async fn ask(replica: &Replica, path: &str) -> (u16, String) {
    let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let answer = request(replica.admin.expect("an admin address"), &head).await;
    (answer.status, answer.body)
}

async fn metric(replica: &Replica, name: &str) -> f64 {
    metric_in(&ask(replica, "/metrics").await.1, name)
}

async fn connect(
    address: SocketAddr,
    tls: Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::from(address.ip());
    tokio_rustls::TlsConnector::from(tls).connect(name, TcpStream::connect(address).await?).await
}

/// Everything up to the server's end, which must be said in TLS too: the library fails else.
async fn get(address: SocketAddr, tls: Arc<ClientConfig>, path: &str, headers: &str) -> String {
    let mut stream = connect(address, tls).await.expect("connected");
    let head = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer, and a farewell");
    answer
}

async fn websocket(address: SocketAddr, tls: Arc<ClientConfig>, query: &str) -> Client {
    let url = format!("wss://{address}/api/v1/streams/valid_transactions?{query}");
    let tls = Some(Connector::Rustls(tls));
    let (socket, _) = connect_async_tls_with_config(url, None, true, tls).await.expect("connected");
    Client::from(socket)
}

/// The certificate that a new connection is shown.
async fn shown(address: SocketAddr, tls: Arc<ClientConfig>) -> Vec<u8> {
    let stream = connect(address, tls).await.expect("connected");
    stream.get_ref().1.peer_certificates().expect("a certificate")[0].to_vec()
}

#[tokio::test]
async fn all_that_is_served_goes_over_both_versions() {
    let authority = Authority::new();
    authority.install(&authority.issue(3000));
    let mut config = config_with_tls(&authority);
    config.admin.listen = None;
    let replica = Replica::start(&config).await;
    let address = replica.address;
    let close = "Connection: close\r\n";
    publish(&config, real_bodies()).await;
    for (version, name) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)]
    {
        let tls = authority.client(&[version]);
        let stream = connect(address, Arc::clone(&tls)).await.expect("connected");
        assert_eq!(stream.get_ref().1.protocol_version(), Some(name));
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        drop(stream);
        let get = |path, headers| get(address, Arc::clone(&tls), path, headers);
        eventually("the replica is ready", async || {
            get("/health/ready", close).await.starts_with("HTTP/1.1 200")
        })
        .await;
        assert!(get("/health/live", close).await.contains("\"live\""));
        assert_eq!(metric_in(&get("/metrics", close).await, EXPIRY), YEAR_3000);
        let root = get("/api/v1", close).await;
        let streams = format!("\"wss://{address}/api/v1/streams/valid_transactions\"");
        assert!(root.contains(&streams), "{root}");
        let proxied = get("/api/v1", "X-Forwarded-Proto: http\r\nConnection: close\r\n").await;
        assert!(proxied.contains(&format!("\"ws://{address}/")), "{proxied}");

        let events = real_events();
        let query = format!("from_height=oldest&limit={}", events.len());
        let mut client = websocket(address, Arc::clone(&tls), &query).await;
        assert_eq!(client.texts(events.len()).await, events);
        assert_eq!(u16::from(client.closed().await.code), 1000);

        let path = format!("/api/v1/streams/valid_transactions?{query}");
        let stream = get(&path, "Accept: text/event-stream\r\n").await;
        let sent = stream.lines().filter_map(|line| line.strip_prefix("data: "));
        // Behind them, why it ends.
        assert_eq!(sent.take(events.len()).collect::<Vec<_>>(), events);
    }
    replica.stop().await.expect("drained");
}

/// More than the socket and the encryption take at once: nothing may stay behind in either.
#[tokio::test]
async fn a_large_block_arrives_whole_at_clients_that_read_late() {
    let authority = Authority::new();
    authority.install(&authority.issue(3000));
    let config = config_with_tls(&authority);
    let replica = start_ready(&config).await;
    let ids: Vec<_> = (0..20_000).map(|index| format!("{index:064x}")).collect();
    let transactions: Vec<_> = ids.iter().map(|id| json!({ "id": id })).collect();
    let block = json!({ "height": 1, "transactions": transactions }).to_string().into_bytes();
    let tls = authority.client(ALL_VERSIONS);
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(websocket(replica.address, Arc::clone(&tls), "from_height=1").await);
    }
    publish(&config, [block]).await;
    eventually("the sockets are full", async || {
        metric(&replica, "blockcast_sent_bytes_total").await > 200_000.0
    })
    .await;
    for mut client in clients {
        for id in &ids {
            let text = client.text().await;
            assert!(text.ends_with(&format!("\"transaction_id\": \"{id}\"}}")), "{text}");
        }
        let bye = CloseFrame { code: 1000.into(), reason: "".into() };
        assert_eq!(client.close(bye).await.map(|frame| u16::from(frame.code)), Some(1000));
    }
    eventually("both are gone by themselves", async || {
        metric(&replica, "blockcast_disconnects_total{reason=\"client\"}").await == 2.0
    })
    .await;
    replica.stop().await.expect("drained");
}

#[tokio::test]
async fn a_changed_certificate_is_taken_and_a_bad_one_is_not_while_a_session_goes_on() {
    let authority = Authority::new();
    authority.install(&authority.issue(3000));
    let config = config_with_tls(&authority);
    let replica = start_ready(&config).await;
    let tls = authority.client(ALL_VERSIONS);
    let mut client = websocket(replica.address, Arc::clone(&tls), "").await;
    publish(&config, [body(1, "a")]).await;
    assert_eq!(client.text().await, event(1, "a"));
    let first = shown(replica.address, Arc::clone(&tls)).await;
    assert_eq!(metric(&replica, EXPIRY).await, YEAR_3000);

    authority.install(&authority.issue(3001));
    eventually("it is loaded", async || metric(&replica, LOADED).await == 1.0).await;
    let second = shown(replica.address, Arc::clone(&tls)).await;
    assert_ne!(first, second);
    assert_eq!(metric(&replica, EXPIRY).await, YEAR_3001);
    publish(&config, [body(2, "b")]).await;
    assert_eq!(client.text().await, event(2, "b"));

    let mut bad = authority.issue(3002);
    bad.key = authority.issue(3002).key;
    authority.install(&bad);
    eventually("it is refused", async || metric(&replica, FAILED).await == 1.0).await;
    assert_eq!(shown(replica.address, Arc::clone(&tls)).await, second);
    assert_eq!((metric(&replica, EXPIRY).await, metric(&replica, LOADED).await), (YEAR_3001, 1.0));
    publish(&config, [body(3, "c")]).await;
    assert_eq!(client.text().await, event(3, "c"));
    replica.stop().await.expect("drained");
}

#[tokio::test]
async fn sighup_has_the_certificate_read_again_while_a_session_goes_on() {
    let authority = Authority::new();
    authority.install(&authority.issue(3000));
    let config = config_with_tls(&authority);
    let process = Process::start_ready(&config).await;
    let tls = authority.client(ALL_VERSIONS);
    let mut client = websocket(process.address, Arc::clone(&tls), "").await;
    let first = shown(process.address, Arc::clone(&tls)).await;
    // Also when nothing has changed: who asks is told.
    process.signal("HUP").await;
    eventually("it is loaded", async || process.metric(LOADED).await == 1.0).await;
    assert_eq!(shown(process.address, Arc::clone(&tls)).await, first);

    std::fs::write(authority.key_file(), "no key").expect("written");
    process.signal("HUP").await;
    eventually("it is refused", async || process.metric(FAILED).await >= 1.0).await;
    assert_eq!(shown(process.address, Arc::clone(&tls)).await, first);

    authority.install(&authority.issue(3001));
    process.signal("HUP").await;
    eventually("the new one is in use", async || process.metric(EXPIRY).await == YEAR_3001).await;
    assert_ne!(shown(process.address, Arc::clone(&tls)).await, first);
    publish(&config, [body(1, "a")]).await;
    assert_eq!(client.text().await, event(1, "a"));
    process.stop().await;
}

#[tokio::test]
async fn sighup_without_tls_changes_nothing() {
    let config = config(Broker::shared());
    let process = Process::start_ready(&config).await;
    let mut client = Client::connect(&process.url("valid_transactions")).await;
    process.signal("HUP").await;
    publish(&config, [body(1, "a")]).await;
    assert_eq!(client.text().await, event(1, "a"));
    assert!(!process.metrics().await.contains(EXPIRY), "an expiry without a certificate");
    process.stop().await;
}

#[tokio::test]
async fn a_plain_request_is_told_to_speak_tls() {
    let authority = Authority::new();
    authority.install(&authority.issue(3000));
    let replica = start_ready(&config_with_tls(&authority)).await;
    let answer = request(replica.address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("wss://"), "{answer:?}");
    assert_eq!(metric(&replica, REFUSED).await, 1.0);
    // One that only looks whether somebody listens is no refusal.
    let mut probe = TcpStream::connect(replica.address).await.expect("connected");
    probe.shutdown().await.expect("shut");
    assert_eq!(probe.read(&mut [0]).await.expect("ended"), 0);
    // One that does not trust the authority.
    let stranger = Authority::new().client(ALL_VERSIONS);
    connect(replica.address, stranger).await.expect_err("not trusted");
    eventually("it is counted", async || metric(&replica, REFUSED).await == 2.0).await;
    replica.stop().await.expect("drained");
}

#[tokio::test]
async fn slow_handshakes_are_ended_and_keep_nobody_out() {
    let authority = Authority::new();
    authority.install(&authority.issue(3000));
    let mut config = config_with_tls(&authority);
    config.server.handshake_timeout = Duration::from_secs(3);
    let replica = start_ready(&config).await;
    let mut slow = Vec::new();
    // Nothing at all; and the beginning of a handshake of 512 bytes.
    for sent in [&[][..], &[22, 3, 1, 2, 0, 1][..]] {
        let mut stream = TcpStream::connect(replica.address).await.expect("connected");
        stream.write_all(sent).await.expect("written");
        slow.push(stream);
    }
    let tls = authority.client(ALL_VERSIONS);
    let live = get(replica.address, tls, "/health/live", "Connection: close\r\n").await;
    assert!(live.contains("\"live\""), "{live}");
    for mut stream in slow {
        let ended = tokio::time::timeout(Duration::from_secs(60), stream.read(&mut [0])).await;
        assert_eq!(ended.expect("ended in time").expect("without a reset"), 0);
    }
    eventually("both are counted", async || metric(&replica, REFUSED).await == 2.0).await;
    replica.stop().await.expect("drained");
}
