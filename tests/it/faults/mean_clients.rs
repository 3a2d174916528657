//! Clients that are broken or mean, beside ones that are neither.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use blockcast::config::Config;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::Message;

use crate::support::broker::Broker;
use crate::support::chain::height_of;
use crate::support::client::{Client, UPGRADE};
use crate::support::eventually::eventually;
use crate::support::load::{Pace, Producer, all_have_the_chain, assert_slice, followers};
use crate::support::process::Process;
use crate::support::proxy::{Harm, Proxy};
use crate::support::replica::config;

/// For an answer, or for a connection to be ended by the server.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client that has sent these bytes.
async fn sent(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    // It may be refused before its end.
    let _refused = stream.write_all(bytes).await;
    stream
}

/// All that the server says to this until it ends the connection.
async fn answers(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = sent(address, bytes).await;
    let mut answers = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answers)).await;
    let _reset = ended.expect("the server ends it");
    String::from_utf8_lossy(&answers).into_owned()
}

fn upgrade_to(protocol: &str) -> String {
    let close = UPGRADE.replace("Connection: ", "Connection: close, ");
    close.replace("websocket", protocol)
}

/// One frame from a client, masked with zeros.
fn frame(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).expect("a small frame");
    let head = match u8::try_from(len) {
        Ok(len @ ..126) => vec![first_byte, 0x80 | len, 0, 0, 0, 0],
        _ => [&[first_byte, 0x80 | 126][..], &len.to_be_bytes(), &[0; 4]].concat(),
    };
    [head.as_slice(), payload].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_and_mean_clients_are_answered_and_a_good_one_notices_nothing() {
    let mut config = config(Broker::shared());
    config.server.handshake_timeout = Duration::from_secs(2);
    config.server.write_stall_timeout = Duration::from_secs(2);
    config.server.ping_interval = Duration::from_secs(2);
    config.server.pong_timeout = Duration::from_secs(1);
    let replica = Process::start_ready(&config).await;
    let url = replica.url("valid_transactions");
    let mut producer =
        Producer::start(&config, Pace { blocks: 5, every: Duration::from_millis(20) });
    let good = followers(std::slice::from_ref(&url), 10);
    producer.confirms(50).await;

    malformed_requests_are_answered(&replica).await;
    slow_handshakes_are_ended(&replica).await;
    a_crowd_that_comes_at_once_gets_a_slice_each(&url).await;

    fragments_without_end_are_ended(&replica).await;
    pings_without_end_cost_no_memory(&config).await;
    a_half_open_client_is_given_up(&replica).await;

    let followed = all_have_the_chain(good, producer.end().await).await;
    assert!(followed.iter().all(|client| client.connected_at.len() == 1), "never cut");
    let logged: Vec<_> = ["ERROR", "WARN"].map(|level| replica.logged(level)).concat();
    assert_eq!(logged, [""; 0], "no client is worth a line");
    replica.stop().await;
}

const TOO_LONG: &str = "HTTP/1.1 431";
const BAD: &str = "HTTP/1.1 400";

/// A name, a request, and the first words of its answer.
type Malformed = (&'static str, String, &'static str);

fn malformed_requests() -> [Malformed; 21] {
    let head =
        |rest: &str| format!("GET /api/v1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{rest}\r\n");
    let coded = |codings: &str| head(codings) + "0\r\n\r\n";
    let many = (0..10_000).map(|n| format!("X-{n}: y\r\n")).collect::<String>();
    // What HTTP itself cannot read, then what is read and refused: each has a body that says why.
    [
        ("10,000 header lines", head(&many), TOO_LONG),
        ("one huge header", head(&format!("X: {}\r\n", "y".repeat(1 << 20))), TOO_LONG),
        ("folded", head("X: a\r\n b\r\n"), BAD),
        ("space before the colon", head("Content-Length : 5\r\n"), BAD),
        ("a bare CR", head("X: a\rb\r\n"), BAD),
        ("two lengths", head("Content-Length: 5\r\nContent-Length: 6\r\n"), BAD),
        ("space before the coding's colon", coded("Transfer-Encoding : chunked\r\n"), BAD),
        (
            "two codings",
            coded("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
            BAD,
        ),
        ("unknown coding", head("Transfer-Encoding: foo\r\n"), BAD),
        ("no HTTP", "EHLO x\r\n\r\n".into(), BAD),
        ("TLS", "\x16\x03\x01\x02\x00\x01\x00\x01".into(), BAD),
        ("h2 at once", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), ""),
        ("a length and chunks", head("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), BAD),
        ("a body", head("Content-Length: 5\r\n") + "hello", BAD),
        (
            "the same coding twice",
            coded("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
            BAD,
        ),
        ("two hosts", head("Host: y\r\n"), BAD),
        ("no host", "GET /api/v1 HTTP/1.1\r\nConnection: close\r\n\r\n".into(), BAD),
        (
            "wrong host",
            "GET /api/v1 HTTP/1.1\r\nConnection: close\r\nHost: a b\r\n\r\n".into(),
            BAD,
        ),
        ("upgrade to h2c", upgrade_to("h2c"), "HTTP/1.1 426"),
        ("upgrade to foo", upgrade_to("foo"), "HTTP/1.1 426"),
        (
            "tunnel",
            "CONNECT x:443 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".into(),
            "HTTP/1.1 404",
        ),
    ]
}

async fn malformed_requests_are_answered(replica: &Process) {
    let told = malformed_requests();
    let counted = async |reason: &str| {
        replica.metric(&format!("blockcast_handshakes_refused_total{{reason=\"{reason}\"}}")).await
    };
    let before = (counted("too_long").await, counted("bad_request").await);
    let mut wrong = Vec::new();
    for (name, request, expected) in &told {
        let answers = answers(replica.address, request.as_bytes()).await;
        let count = usize::from(!expected.is_empty());
        let has_body = answers.contains("\r\n\r\n{\"");
        let is_one = answers.starts_with(expected) && answers.matches("HTTP/1.1 ").count() == count;
        if !is_one || has_body == expected.is_empty() {
            wrong.push(format!("{name}: {answers:?}"));
        }
    }
    assert_eq!(wrong, [""; 0]);
    let of = |statuses: &[&str]| {
        told.iter().filter(|(.., expected)| statuses.contains(expected)).count() as f64
    };
    eventually("each is counted once", async || {
        let after = (counted("too_long").await, counted("bad_request").await);
        after == (before.0 + of(&[TOO_LONG]), before.1 + of(&[BAD, ""]))
    })
    .await;
    let address = replica.address;
    bodies_are_no_requests_and_no_frames(address).await;
    // RFC 9112 section 3.2.2.
    let absolute =
        "GET http://target.example/api/v1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer = answers(address, absolute.as_bytes()).await;
    assert!(answer.contains("\"ws://target.example/"), "{answer}");
}

async fn bodies_are_no_requests_and_no_frames(address: SocketAddr) {
    let kept_alive = "GET /api/v1 HTTP/1.1\r\nHost: x\r\n\r\n";
    let live = "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n";
    let chunks = format!("0\r\n\r\n{live}");
    let length = |body: &[u8]| format!("Content-Length: {}\r\n", body.len());
    let coded = "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n".to_owned();
    let ping = frame(0x89, b"live");
    for (request, headers, body) in [
        (kept_alive, coded, chunks.as_bytes()),
        (kept_alive, length(live.as_bytes()), live.as_bytes()),
        (UPGRADE, length(live.as_bytes()), live.as_bytes()),
        (UPGRADE, length(&ping), &ping),
    ] {
        let head = request.strip_suffix("\r\n").expect("a head's end");
        let request = [head.as_bytes(), headers.as_bytes(), b"\r\n", body].concat();
        let answers = answers(address, &request).await;
        assert!(answers.starts_with("HTTP/1.1 400") && !answers.contains("live"), "{answers}");
    }
}

async fn slow_handshakes_are_ended(replica: &Process) {
    let slow = "blockcast_handshakes_refused_total{reason=\"slow\"}";
    let before = replica.metric(slow).await;
    let address = replica.address;
    let dripping: Vec<_> = (0..200).map(|_| tokio::spawn(drip(address))).collect();
    // What is not asked is not refused: behind an answer, and before a first byte.
    let live = "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut answered = sent(address, live.as_bytes()).await;
    assert_eq!(answers(address, b"").await, "");
    for answer in dripping {
        let answer = answer.await.expect("it was ended");
        let close = "\r\nConnection: close\r\n";
        assert!(answer.starts_with("HTTP/1.1 408") && answer.contains(close), "{answer}");
    }
    assert_eq!(replica.metric(slow).await, before + 200.0);
    // Where another answer was before, nothing is said.
    let begun = format!("{live}GET /");
    assert_eq!(answers(address, begun.as_bytes()).await.matches("HTTP/1.1").count(), 1);
    assert_eq!(replica.metric(slow).await, before + 201.0);
    // All the while it was idle, for several times as long as a head may take, and may ask again.
    answered
        .write_all(live.replace("x\r\n", "x\r\nConnection: close\r\n").as_bytes())
        .await
        .expect("sent");
    let mut answers = String::new();
    answered.read_to_string(&mut answers).await.expect("both answers");
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 2, "{answers}");
}

/// What is said to a request that comes byte by byte: whole it would be after more than half a minute.
async fn drip(address: SocketAddr) -> String {
    let (mut reading, mut writing) = sent(address, b"").await.into_split();
    let drip = async {
        let mut drops = tokio::time::interval(Duration::from_millis(200));
        for byte in UPGRADE.bytes() {
            drops.tick().await;
            if writing.write_all(&[byte]).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await
    };
    let mut answer = Vec::new();
    tokio::select! {
        () = drip => {}
        ended = tokio::time::timeout(PATIENCE, reading.read_to_end(&mut answer)) => {
            let _reset = ended.expect("the server ends it");
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

async fn a_crowd_that_comes_at_once_gets_a_slice_each(url: &str) {
    let crowd: Vec<_> = (0..1_000)
        .map(|_| {
            let url = url.to_owned();
            tokio::spawn(async move {
                let mut client = Client::connect(&url).await;
                let texts = client.texts(20).await;
                assert_slice(&texts);
                height_of(&texts[0])
            })
        })
        .collect();
    let mut began_at = BTreeSet::new();
    for client in crowd {
        began_at.insert(client.await.expect("it got its slice"));
    }
    assert!(began_at.len() > 1, "blocks went out while they came: {began_at:?}");
}

async fn fragments_without_end_are_ended(replica: &Process) {
    let too_big = "blockcast_disconnects_total{reason=\"too_big\"}";
    let before = replica.metric(too_big).await;
    // Also those that have no byte.
    for payload in [&[0; 1_000][..], &[]] {
        let (reader, mut writer) = sent(replica.address, UPGRADE.as_bytes()).await.into_split();
        let flood = async {
            let fragments = frame(0x00, payload).repeat(100);
            let mut taken = writer.write_all(&frame(0x02, payload)).await;
            while taken.is_ok() {
                taken = writer.write_all(&fragments).await;
            }
            std::future::pending().await
        };
        let close = tokio::select! {
            never = flood => never,
            close = tokio::time::timeout(PATIENCE, close_of(BufReader::new(reader))) => {
                close.expect("the server ends it")
            }
        };
        assert_eq!(close[..2], 1009_u16.to_be_bytes(), "{}", payload.len());
    }
    eventually("both are counted", async || replica.metric(too_big).await == before + 2.0).await;
}

async fn pings_without_end_cost_no_memory(config: &Config) {
    /// The chain grows meanwhile.
    const NOISE_BYTES: f64 = 64e6;
    /// Their payloads alone are twice that.
    const PINGS: usize = 1_024_000;
    const BURST: usize = 1_000;
    /// Read after each: not stalled, and far from reading a pong to each ping.
    const READ_FRAMES: usize = 8;
    // One with more patience, for a machine that is busy with other tests.
    let mut config = config.clone();
    config.server.write_stall_timeout = PATIENCE;
    let replica = Process::start_ready(&config).await;
    let resident = async || replica.metric("process_resident_memory_bytes").await;
    let before = resident().await;
    let socket = TcpSocket::new_v4().expect("a socket");
    // What is read shows at the other end at once.
    socket.set_recv_buffer_size(4_096).expect("set");
    let stream = socket.connect(replica.address).await.expect("connected");
    let (reader, mut writer) = stream.into_split();
    writer.write_all(UPGRADE.as_bytes()).await.expect("taken");
    let mut reader = BufReader::new(reader);
    read_head(&mut reader).await;
    let burst = frame(0x89, &[b'x'; 125]).repeat(BURST);
    let mut texts = Vec::new();
    for _ in 0..PINGS / BURST {
        writer.write_all(&burst).await.expect("taken");
        for _ in 0..READ_FRAMES {
            texts.extend(text_of_frame(&mut reader).await);
        }
    }
    assert!(resident().await < before + NOISE_BYTES, "pongs wait nowhere");
    let tip = replica.metric("blockcast_block_height").await as u64;
    while texts.last().is_none_or(|text| height_of(text) <= tip) {
        texts.extend(text_of_frame(&mut reader).await);
    }
    assert_slice(&texts);
    replica.stop().await;
}

async fn read_head(reader: &mut (impl AsyncBufRead + Unpin)) {
    let mut line = String::from("the answer's head");
    while !line.trim().is_empty() {
        line.clear();
        reader.read_line(&mut line).await.expect("an answer");
    }
}

/// The payload of the close that ends a stream, which begins with its code.
async fn close_of(mut reader: impl AsyncBufRead + Unpin) -> Vec<u8> {
    read_head(&mut reader).await;
    loop {
        if let (0x88, payload) = frame_of(&mut reader).await {
            return payload;
        }
    }
}

/// Reads a frame; None for what is no text.
async fn text_of_frame(reader: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let (first, payload) = frame_of(reader).await;
    (first == 0x81).then(|| String::from_utf8(payload).expect("text"))
}

/// A frame's first byte and its payload.
async fn frame_of(reader: &mut (impl AsyncRead + Unpin)) -> (u8, Vec<u8>) {
    let reading = async {
        let first = reader.read_u8().await.expect("a frame");
        let len = match reader.read_u8().await.expect("a length") {
            126 => reader.read_u16().await.expect("a length"),
            len => len.into(),
        };
        let mut payload = vec![0; len.into()];
        reader.read_exact(&mut payload).await.expect("a payload");
        (first, payload)
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("its stream goes on")
}

async fn a_half_open_client_is_given_up(replica: &Process) {
    let lost = "blockcast_disconnects_total{reason=\"no_pong\"}";
    let stalled = "blockcast_disconnects_total{reason=\"stalled\"}";
    let given_up = async || replica.metric(lost).await + replica.metric(stalled).await;
    let before = given_up().await;
    let proxy = Proxy::to(replica.address).await;
    let url = format!("ws://{}/api/v1/streams/valid_transactions", proxy.address);
    let mut client = Client::connect(&url).await;
    client.text().await;
    proxy.harm(Harm::Swallowed);
    client.send(Message::text("into the void")).await;
    eventually("it is given up", async || given_up().await > before).await;
}
