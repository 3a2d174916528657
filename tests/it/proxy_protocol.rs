//! The PROXY protocol: believed of those who are trusted, refused in words of all others.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ALL_VERSIONS;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use crate::support::broker::Broker;
use crate::support::certificates::Authority;
use crate::support::eventually::eventually;
use crate::support::process::Process;
use crate::support::replica::{Replica, config, metric_in, request};

/// Addresses of this machine, like all below 127.
const BALANCER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
const ROOT: &[u8] = b"GET /api/v1 HTTP/1.1\r\nHost: chain.example\r\nConnection: close\r\n\r\n";
const UPGRADE: &[u8] = b"GET /api/v1/streams/valid_blocks HTTP/1.1\r\nHost: x\r\n\
    Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
const V1: &[u8] = b"PROXY TCP4 198.51.100.1 192.0.2.9 4711 443\r\n";
const V1_IPV6: &[u8] = b"PROXY TCP6 2001:db8::1 2001:db8::2 4711 443\r\n";
const V1_UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";
/// From 198.51.100.1, and then that its client speaks TLS.
const V2_TLS: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x14\xc6\x33\x64\x01\xc0\0\x02\x09\x12\x67\x01\xbb\
    \x20\0\x05\x01\0\0\0\0";
const V2_LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

async fn connect(replica: &Replica, from: Ipv4Addr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((from, 0).into()).expect("an address of loopback");
    let stream = socket.connect(replica.address).await.expect("connected");
    stream.set_nodelay(true).expect("set");
    stream
}

/// All that is answered to these pieces, each sent by itself.
async fn answer(mut stream: TcpStream, pieces: &[&[u8]]) -> String {
    for piece in pieces {
        stream.write_all(piece).await.expect("written");
        tokio::task::yield_now().await;
    }
    let mut answer = Vec::new();
    // A refusal may be a reset for what came behind it.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn admin(replica: &Replica, path: &str) -> String {
    let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    request(replica.admin.expect("an admin address"), &head).await.body
}

async fn started(tls: Option<&Authority>) -> Replica {
    let mut config = config(Broker::shared());
    config.server.trusted_proxies = vec!["127.0.0.2".parse().expect("a network")];
    config.admin.listen = Some("127.0.0.1:0".parse().expect("a place"));
    if let Some(authority) = tls {
        config.server.tls = authority.tls();
    }
    let replica = Replica::start(&config).await;
    eventually("the replica is ready", async || {
        admin(&replica, "/health/ready").await.contains("\"ready\"")
    })
    .await;
    replica
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_balancers_header_is_taken_in_both_versions_and_however_it_comes() {
    let replica = started(None).await;
    let (head, tail) = V1.split_at(3);
    let (start, rest) = V2_TLS.split_at(14);
    for (pieces, expected) in [
        (&[V1, ROOT][..], "\"ws://chain.example/"),
        (&[head, tail, ROOT], "\"ws://chain.example/"),
        (&[&[V1, ROOT].concat()], "\"ws://chain.example/"),
        (&[V2_TLS, ROOT], "\"wss://chain.example/"),
        (&[start, rest, ROOT], "\"wss://chain.example/"),
        (&[V2_LOCAL, ROOT], "\"ws://chain.example/"),
        (&[V1_UNKNOWN, ROOT], "\"ws://chain.example/"),
        // Without a header it is another kind of proxy.
        (&[ROOT], "\"ws://chain.example/"),
        (&[b"G", &ROOT[1..]], "\"ws://chain.example/"),
    ] {
        let told = answer(connect(&replica, BALANCER).await, pieces).await;
        assert!(told.starts_with("HTTP/1.1 200") && told.contains(expected), "{pieces:?}: {told}");
    }
    // What the client itself sends is a stranger's word.
    let says = b"GET /api/v1 HTTP/1.1\r\nHost: x\r\nX-Forwarded-Host: evil.example\r\nConnection: close\r\n\r\n";
    let told = answer(connect(&replica, BALANCER).await, &[V1, says]).await;
    assert!(told.contains("\"ws://x/"), "{told}");

    let mut held = Vec::new();
    for header in [V1, V1_IPV6, V2_TLS, V2_LOCAL] {
        let mut stream = connect(&replica, BALANCER).await;
        stream.write_all(&[header, UPGRADE].concat()).await.expect("written");
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.expect("an answer");
        assert_eq!(&status, b"HTTP/1.1 101");
        held.push(stream);
    }
    let sessions: Value = serde_json::from_str(&admin(&replica, "/sessions").await).expect("JSON");
    let addresses: Vec<_> = (0..4).filter_map(|at| sessions[at]["address"].as_str()).collect();
    assert_eq!(addresses, ["198.51.100.1", "2001:db8::1", "198.51.100.1", "127.0.0.2"]);
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_comes_before_tls() {
    let authority = Authority::new();
    authority.install(&authority.issue(3000));
    let replica = started(Some(&authority)).await;
    let connector = TlsConnector::from(Arc::clone(&authority.client(ALL_VERSIONS)));
    for header in [V1, V2_TLS, V2_LOCAL, b""] {
        let mut stream = connect(&replica, BALANCER).await;
        stream.write_all(header).await.expect("written");
        let name = replica.address.ip().into();
        let mut stream = connector.connect(name, stream).await.expect("trusted");
        stream.write_all(ROOT).await.expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("read");
        assert!(answer.contains("\"wss://chain.example/"), "{answer}");
    }
    for (from, header, told) in [
        (STRANGER, V1, "server.trusted_proxies"),
        (STRANGER, V2_TLS, "server.trusted_proxies"),
        (BALANCER, &b"PROXY TCP4 nonsense\r\n"[..], "cannot be read"),
        (STRANGER, ROOT, "this port speaks TLS"),
    ] {
        let answer = answer(connect(&replica, from).await, &[header]).await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains(told), "{answer}");
    }
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_header_and_a_malformed_one_are_refused_in_words() {
    let replica = started(None).await;
    for (from, header, told) in [
        (STRANGER, V1, "server.trusted_proxies"),
        (STRANGER, V1_UNKNOWN, "server.trusted_proxies"),
        (STRANGER, V2_TLS, "server.trusted_proxies"),
        (STRANGER, V2_LOCAL, "server.trusted_proxies"),
        (BALANCER, &b"PROXY TCP4 nonsense\r\n"[..], "cannot be read"),
        (BALANCER, b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0", "cannot be read"),
    ] {
        let answer = answer(connect(&replica, from).await, &[&[header, ROOT].concat()]).await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains(told), "{header:?} {answer}");
        assert!(!answer.contains("200"), "{answer}");
    }
    let refused = "blockcast_handshakes_refused_total{reason=\"bad_request\"}";
    eventually("each is counted", async || {
        metric_in(&admin(&replica, "/metrics").await, refused) == 6.0
    })
    .await;
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_does_not_come_to_its_end_is_given_up() {
    let mut config = config(Broker::shared());
    config.server.trusted_proxies = vec!["127.0.0.2".parse().expect("a network")];
    config.server.handshake_timeout = Duration::from_millis(200);
    let replica = Replica::start(&config).await;
    for part in [&V1[..9], &V2_TLS[..20]] {
        let answer = answer(connect(&replica, BALANCER).await, &[part]).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    assert_eq!(answer(connect(&replica, BALANCER).await, &[]).await, "", "it said nothing");
    let slow = "blockcast_handshakes_refused_total{reason=\"slow\"}";
    assert_eq!(replica.metric(slow).await, 2.0);
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_is_told_once_of_a_balancer_that_is_not_listed() {
    let process = Process::start_ready(&config(Broker::shared())).await;
    for _ in 0..3 {
        let mut stream = TcpStream::connect(process.address).await.expect("connected");
        stream.write_all(&[V1, ROOT].concat()).await.expect("written");
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.expect("an answer");
        assert_eq!(&status, b"HTTP/1.1 400");
    }
    process.logs("a PROXY header is refused").await;
    assert_eq!(process.logged("a PROXY header is refused").len(), 1);
    assert_eq!(process.logged("198.51.100."), [""; 0], "nothing of what it says is taken for true");
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_share_is_counted_by_the_address_that_its_balancer_tells() {
    let mut config = config(Broker::shared());
    config.server.trusted_proxies = vec!["127.0.0.2".parse().expect("a network")];
    config.server.max_connections_per_address = 1;
    // Those that ask for nothing stay for so long.
    config.server.handshake_timeout = Duration::from_secs(600);
    let replica = Replica::start_ready(&config).await;
    let mut held = Vec::new();
    for (header, status) in [(V1, b"101"), (V1, b"429"), (V1_IPV6, b"101")] {
        let mut stream = connect(&replica, BALANCER).await;
        stream.write_all(&[header, UPGRADE].concat()).await.expect("written");
        let mut told = [0; 12];
        stream.read_exact(&mut told).await.expect("an answer");
        assert_eq!(&told[9..], status);
        held.push(stream);
    }
    // Sixteen plain ones beside the session, and no more.
    let mut plain = Vec::new();
    let mut is_closed = false;
    while !is_closed && plain.len() < 100 {
        let mut silent = connect(&replica, BALANCER).await;
        silent.write_all(V1).await.expect("written");
        plain.push(silent);
        let mut asking = connect(&replica, BALANCER).await;
        let live = b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        asking.write_all(&[V1, live].concat()).await.expect("written");
        is_closed = !matches!(asking.read(&mut [0]).await, Ok(1));
    }
    // Beside them the one that was refused above, and the last.
    assert!(is_closed && (14..=17).contains(&plain.len()), "{}", plain.len());
    replica.stop().await.expect("drained");
}
