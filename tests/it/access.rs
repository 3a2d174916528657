//! Who may have a stream: web pages by their origin.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::broker::Broker;
use crate::replica::{Answer, Replica, config, request};

const DEADLINE: Duration = Duration::from_secs(30);
const STREAM: &str = "/api/v1/streams/valid_transactions";
const UPGRADE: &str = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nConnection: close, Upgrade\r\n";

async fn ask(address: SocketAddr, path: &str, headers: &str) -> Answer {
    request(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n")).await
}

/// The head, and the body of a refusal, that a request for a WebSocket is answered with.
async fn upgrade(address: SocketAddr, query: &str, headers: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let request = format!("GET {STREAM}{query} HTTP/1.1\r\nHost: x\r\n{UPGRADE}{headers}\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = Vec::new();
    while !answer.starts_with(b"HTTP/1.1 101") || !answer.ends_with(b"\r\n\r\n") {
        let read = tokio::time::timeout(DEADLINE, stream.read_buf(&mut answer)).await;
        if read.expect("an answer in time").expect("read") == 0 {
            break;
        }
    }
    let answer = String::from_utf8(answer).expect("text");
    (answer[9..12].parse().expect("a status"), answer.to_lowercase())
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_get_no_stream() {
    let mut config = config(Broker::shared());
    config.server.allowed_origins = vec![
        "https://app.example.org".parse().expect("one"),
        "*.dev.example".parse().expect("one"),
    ];
    let replica = Replica::start_ready(&config).await;
    let at = replica.address;
    for (origin, status) in [
        ("https://app.example.org", 101),
        ("https://app.example.org:443", 101),
        ("http://a.dev.example", 101),
        ("https://app.example.org:444", 403),
        ("http://app.example.org", 403),
        ("http://dev.example", 403),
        ("null", 403),
    ] {
        let (told, answer) = upgrade(at, "", &format!("Origin: {origin}\r\n")).await;
        assert_eq!(told, status, "{origin}: {answer}");
        let is_json = answer.contains("\"status\":403") && answer.contains("\"message\":");
        assert_eq!(is_json, status == 403, "{answer}");
        assert!(!answer.contains("access-control-allow-origin"), "{answer}");
    }
    // Before everything else: what else is wrong is not told.
    let headers =
        "Origin: https://evil.example\r\nAccept: text/event-stream\r\nConnection: close\r\n";
    assert_eq!(ask(at, &format!("{STREAM}?limt=5"), headers).await.status, 403);
    assert_eq!(upgrade(at, "", "").await.0, 101, "no page asks");
    let refused = replica.metric("blockcast_handshakes_refused_total{reason=\"origin\"}").await;
    assert_eq!(refused, 5.0);

    let allowed = "Origin: https://app.example.org\r\nConnection: close\r\n";
    let answer = ask(at, "/api/v1", allowed).await;
    assert_eq!(answer.headers["access-control-allow-origin"], "https://app.example.org");
    assert_eq!(answer.headers["vary"], "Origin");
    let answer = ask(at, "/api/v1", "Origin: https://evil.example\r\nConnection: close\r\n").await;
    assert_eq!(answer.status, 200, "it is public; the browser does not show it to that page");
    assert!(!answer.headers.contains_key("access-control-allow-origin"));
    replica.stop().await.expect("drained");
}
