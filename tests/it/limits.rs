//! What is too much, and what is said then.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use blockcast::config::JwtAlgorithm;
use futures_util::SinkExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::support::broker::Broker;
use crate::support::client::Client;
use crate::support::eventually::eventually;
use crate::support::left_out;
use crate::support::process::Process;
use crate::support::replica::{Answer, Replica, config, metric_in, request};
use crate::support::signed_tokens::hs256;

/// Of each listener, beside the sessions, as `deploy/README.md` has it.
const PLAIN_CONNECTIONS_MAX: usize = 1_024;
const STREAM: &str = "/api/v1/streams/valid_blocks";
const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_too_long_are_told_so() {
    let replica = Replica::start_ready(&config(Broker::shared())).await;
    let at = replica.address;
    let head = |path: &str, lines: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: x\r\n{lines}Connection: close\r\n\r\n")
    };
    let many: String = (0..10_000).map(|line| format!("X-Line-{line}: x\r\n")).collect();
    let few = |lines: usize| (2..lines).map(|line| format!("X-Line-{line}: x\r\n")).collect();
    let cookie = |bytes: usize| format!("Cookie: {}\r\n", "x".repeat(bytes));
    let is_told = |answer: &Answer, status: u16, told: &str| {
        let body: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!((answer.status, body["status"].as_u64()), (status, Some(status.into())));
        assert!(body["message"].as_str().expect("a message").contains(told), "{answer:?}");
    };
    for lines in [many, few(257), cookie(65_500), cookie(2_000_000)] {
        let answer = request(at, &head("/api/v1", &lines)).await;
        is_told(&answer, 431, "256 lines and 64.0 KiB are read (server.head_max_bytes)");
    }
    // Of single sign-on and of a balancer.
    for lines in [few(256), cookie(65_400)] {
        assert_eq!(request(at, &head("/api/v1", &lines)).await.status, 200);
    }
    // Behind an answer, too.
    let both =
        "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n".to_owned() + &head("/", &cookie(70_000));
    let mut stream = TcpStream::connect(at).await.expect("connected");
    stream.write_all(both.as_bytes()).await.expect("written");
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.expect("read");
    assert!(answers.starts_with("HTTP/1.1 200") && answers.contains("HTTP/1.1 431"), "{answers}");
    assert!(answers.contains("server.head_max_bytes"), "{answers}");
    let answer = request(at, &head(&format!("{STREAM}?x={}", "x".repeat(9_000)), "")).await;
    assert_eq!(answer.status, 414);
    is_told(&answer, 414, "too long");
    let answer = request(at, &head(&format!("/{}", "x".repeat(70_000)), "")).await;
    is_told(&answer, 431, "server.head_max_bytes");
    let refused = "blockcast_handshakes_refused_total{reason=\"too_long\"}";
    assert_eq!(replica.metric(refused).await, 7.0);
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_may_be_as_large_as_it_is_set() {
    let mut config = config(Broker::shared());
    config.server.head_max_bytes = bytesize::ByteSize::kib(128);
    let replica = Replica::start(&config).await;
    for (bytes, status) in [(120_000, 200), (140_000, 431)] {
        let cookie = "x".repeat(bytes);
        let head =
            format!("GET / HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n");
        assert_eq!(request(replica.address, &head).await.status, status, "{bytes}");
    }
    let long = "x".repeat(70_000);
    let head = format!("GET /{long} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let answer = request(replica.address, &head).await;
    assert_eq!(answer.status, 414);
    assert!(answer.body.contains("too long"), "{answer:?}");
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_asks_too_often_is_told_to_wait() {
    let mut config = config(Broker::shared());
    config.server.handshakes_per_second = 1;
    let replica = Replica::start_ready(&config).await;
    let ask = format!("GET {STREAM} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let mut answers = Vec::new();
    // A rate that a slow machine cannot stay under would be no test: it is asked until it says so.
    while answers.last().is_none_or(|status| *status == 426) && answers.len() < 10_000 {
        let answer = request(replica.address, &ask).await;
        if answer.status == 429 {
            assert_eq!(answer.headers["retry-after"], "5");
        }
        answers.push(answer.status);
    }
    assert_eq!(answers.last(), Some(&429));
    assert!(answers.len() > 5, "five at once: {answers:?}");
    assert_eq!(replica.get("/api/v1/status").await.status, 200, "only streams are counted");
    let refused = "blockcast_handshakes_refused_total{reason=\"rate\"}";
    assert_eq!(replica.metric(refused).await, 1.0);
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_gets_no_more_connections_than_its_share_and_some_plain_ones() {
    let mut config = config(Broker::shared());
    config.server.max_connections_per_address = 2;
    config.admin.listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)).into());
    let replica = Replica::start_ready(&config).await;
    let admin = replica.admin.expect("it listens");
    let mut held = Vec::new();
    // Those that ask for nothing have a place like others.
    for _ in 0..18 {
        held.push(TcpStream::connect(replica.address).await.expect("connected"));
    }
    let mut more = TcpStream::connect(replica.address).await.expect("accepted by the kernel");
    let end = more.read(&mut [0]).await;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    let refused = "blockcast_handshakes_refused_total{reason=\"address\"}";
    let metrics =
        request(admin, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(metric_in(&metrics.body, refused) >= 1.0, "the admin address has no such limit");
    held.pop();
    eventually("a place that was given back is had again", async || {
        let mut next = TcpStream::connect(replica.address).await.expect("connected");
        let ask = b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let mut status = [0; 12];
        next.write_all(ask).await.is_ok()
            && next.read_exact(&mut status).await.is_ok()
            && &status == b"HTTP/1.1 200"
    })
    .await;
    drop(held);
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ipv6_network_gets_no_more_sessions_than_its_share() {
    let loopback = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    if let Err(error) = std::net::TcpListener::bind(loopback) {
        left_out::say(&format!("no IPv6 loopback: {error}"));
        return;
    }
    let mut config = config(Broker::shared());
    config.server.listen = loopback.into();
    config.server.max_connections_per_address = 2;
    let replica = Replica::start_ready(&config).await;
    let url = replica.url("valid_blocks");
    let _sessions = (Client::connect(&url).await, Client::connect(&url).await);
    match Client::try_connect(&url).await {
        Err(Error::Http(answer)) => assert_eq!(answer.status(), 429),
        other => panic!("{:?}", other.map(|_| "connected")),
    }
    let refused = "blockcast_handshakes_refused_total{reason=\"address\"}";
    assert_eq!(replica.metric(refused).await, 1.0);
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_takes_the_place_of_the_longest_idle_and_a_session_gives_its_back() {
    let mut config = config(Broker::shared());
    config.server.max_connections = 100;
    // Those that ask for nothing stay for so long.
    config.server.handshake_timeout = Duration::from_secs(600);
    config.admin.listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)).into());
    let process = Process::start_ready(&config).await;
    let mut held = Vec::new();
    for _ in 1..PLAIN_CONNECTIONS_MAX {
        held.push(TcpStream::connect(process.address).await.expect("connected"));
    }
    let mut answered = TcpStream::connect(process.address).await.expect("connected");
    let answer = ask_live(&mut answered).await.expect("answered, like all before it");
    assert!(answer.contains("\r\nconnection: close\r\n"), "all places are taken: {answer}");
    assert_eq!(answered.read(&mut [0]).await.expect("a clean end"), 0);
    let put_out = "blockcast_connections_put_out_total";
    assert_eq!(process.metric(put_out).await, 0.0, "its place was free");

    held.push(TcpStream::connect(process.address).await.expect("connected"));
    let mut first = held.remove(0);
    let mut newcomers = Vec::new();
    eventually("those that ask for nothing have had their time", async || {
        let mut newcomer = TcpStream::connect(process.address).await.expect("connected");
        if ask_live(&mut newcomer).await.is_ok() {
            newcomers.push(newcomer);
        }
        process.metric(put_out).await >= 1.0
    })
    .await;
    assert_eq!(first.read(&mut [0]).await.expect("a clean end"), 0, "it waited longest");
    held.push(TcpStream::connect(process.address).await.expect("connected"));
    let mut session = held.pop().expect("one of them");
    let upgrade = format!("GET {STREAM} HTTP/1.1\r\nHost: x\r\n{UPGRADE}\r\n");
    session.write_all(upgrade.as_bytes()).await.expect("sent");
    let mut status = [0; 12];
    session.read_exact(&mut status).await.expect("an answer");
    assert_eq!(&status, b"HTTP/1.1 101");
    let before = process.metric(put_out).await;
    let mut next = TcpStream::connect(process.address).await.expect("connected");
    ask_live(&mut next).await.expect("it has the place that became a session's");
    assert_eq!(process.metric(put_out).await, before);
    drop((held, session, next, newcomers));
    eventually("places that were given back are had again", async || {
        let mut next = TcpStream::connect(process.address).await.expect("connected");
        ask_live(&mut next).await.is_ok_and(|answer| !answer.contains("connection: close"))
    })
    .await;
    process.stop().await;
}

/// Asks whether the replica is live, and reads the answer: all of it, or an error that holds what came.
async fn ask_live(stream: &mut TcpStream) -> Result<String, String> {
    let ask = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut answer = String::new();
    if stream.write_all(ask).await.is_ok() {
        while !answer.ends_with("}\n") {
            match stream.read_u8().await {
                Ok(byte) => answer.push(byte.into()),
                Err(_) => return Err(answer),
            }
        }
        return Ok(answer);
    }
    Err(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_keeps_its_connections_keeps_no_probe_from_its_answer() {
    const CROWD: usize = PLAIN_CONNECTIONS_MAX + 76;
    const ROUNDS: usize = 5;
    const PROBES: usize = 20;
    let mut config = config(Broker::shared());
    config.admin.listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)).into());
    let process = Process::start_ready(&config).await;
    let at = process.address;
    let (round, _) = tokio::sync::watch::channel(0);
    let (asked, mut asking) = tokio::sync::mpsc::channel(CROWD);
    let crowd: Vec<_> = (0..CROWD)
        .map(|_| {
            let (mut rounds, asked) = (round.subscribe(), asked.clone());
            tokio::spawn(async move {
                let mut kept: Option<TcpStream> = None;
                while rounds.changed().await.is_ok() {
                    // Once on the connection that it kept, and otherwise on a new one.
                    for _ in 0..2 {
                        let mut stream = match kept.take() {
                            Some(stream) => stream,
                            None => TcpStream::connect(at).await.expect("connected"),
                        };
                        match ask_live(&mut stream).await {
                            Ok(answer) if answer.contains("\r\nconnection: close\r\n") => {
                                assert_eq!(stream.read(&mut [0]).await.expect("a clean end"), 0);
                            }
                            Ok(_) => kept = Some(stream),
                            Err(part) => assert_eq!(part, "", "ended in the middle of an answer"),
                        }
                        if kept.is_some() {
                            break;
                        }
                    }
                    asked.send(()).await.expect("counted");
                }
            })
        })
        .collect();
    for _ in 0..ROUNDS {
        round.send_modify(|round| *round += 1);
        // Some beside the crowd that comes, the others beside the crowd that stays.
        for probe in 0..PROBES {
            if probe == PROBES / 2 {
                for _ in 0..CROWD {
                    asking.recv().await.expect("each asks");
                }
            }
            let mut stream = TcpStream::connect(at).await.expect("connected");
            let answer = ask_live(&mut stream).await.expect("a probe is answered");
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
    }
    drop(round);
    for one in crowd {
        one.await.expect("no answer was cut");
    }
    assert_eq!(process.metric("blockcast_handshakes_refused_total{reason=\"full\"}").await, 0.0);
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_credential_is_in_the_most_talkative_log() {
    let (secret, wrong) = ("correct-horse-41", "battery-staple-17");
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let hash = ring::digest::digest(&ring::digest::SHA256, secret.as_bytes());
    let hex = data_encoding::HEXLOWER.encode(hash.as_ref());
    std::fs::write(file.path(), format!("wallet {hex}\n")).expect("written");
    let mut config = config(Broker::shared());
    config.server.auth.tokens_file = Some(file.path().into());
    let key = tempfile::NamedTempFile::new().expect("a temporary file");
    let signing = b"a secret of thirty-two bytes, no less";
    std::fs::write(key.path(), signing).expect("written");
    config.server.auth.jwt.algorithm = JwtAlgorithm::HS256;
    config.server.auth.jwt.key = Some(key.path().into());
    // Good until 2100.
    let signed = hs256(signing, r#"{"exp":4102444800}"#);
    let forged = hs256(&[b'x'; 32], r#"{"exp":4102444800}"#);
    config.log.level = "trace".into();
    let process = Process::start_ready(&config).await;
    let tokens = [secret, wrong, &signed, &forged];
    for token in tokens {
        for (query, header) in [
            (String::new(), format!("Authorization: Bearer {token}\r\n")),
            (String::new(), format!("Sec-WebSocket-Protocol: bearer.{token}\r\n")),
            (format!("?access_token={token}"), String::new()),
            (format!("?access_token={token}&limt=1"), String::new()),
        ] {
            let head = format!("GET {STREAM}{query} HTTP/1.1\r\nHost: x\r\n{header}");
            let answer =
                request(process.address, &format!("{head}Connection: close\r\n\r\n")).await;
            assert!((400..500).contains(&answer.status), "{answer:?}");
            assert!(!format!("{answer:?}").contains(token), "{answer:?}");
        }
    }
    let mut sessions = Vec::new();
    for token in [secret, &signed] {
        for (query, name, value) in [
            (String::new(), "authorization", format!("Bearer {token}")),
            (String::new(), "sec-websocket-protocol", format!("blockcast, bearer.{token}")),
            (format!("?access_token={token}"), "x-none", String::new()),
        ] {
            let url = format!("{}{query}", process.url("valid_blocks"));
            let mut request = url.into_client_request().expect("a request");
            request.headers_mut().insert(name, value.parse().expect("a header"));
            let (mut session, answer) = connect_async(request).await.expect("let in");
            assert!(!format!("{answer:?}").contains(token), "{answer:?}");
            session.send(Message::text("hello")).await.expect("sent");
            sessions.push(session);
        }
    }
    let metrics = process.metrics().await;
    assert_eq!(metric_in(&metrics, "blockcast_sessions"), 6.0);
    for mut session in sessions {
        session.close(None).await.expect("sent");
    }
    process.logs("stream refused").await;
    process.logs("session ended").await;
    let parts = tokens.iter().flat_map(|token| token.rsplit('.'));
    // What a signed one begins with says only how it is signed.
    for part in parts.filter(|part| !part.starts_with("eyJhbGci")).chain([hex.as_str()]) {
        assert_eq!(process.logged(part), [""; 0]);
        assert!(!metrics.contains(part));
    }
    process.stop().await;
}
