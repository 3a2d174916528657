//! Who may have a stream: web pages by their origin, everyone by a token.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use blockcast::config::{AmqpUri, Config, JwtAlgorithm};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::support::broker::Broker;
use crate::support::chain::{body, publish};
use crate::support::client::Client;
use crate::support::event_client::{self, EventStream};
use crate::support::eventually::eventually;
use crate::support::process::Process;
use crate::support::replica::{Answer, Replica, config, request};
use crate::support::signed_tokens::hs256;

const DEADLINE: Duration = Duration::from_secs(30);
const STREAM: &str = "/api/v1/streams/valid_transactions";
const UPGRADE: &str = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nConnection: close, Upgrade\r\n";

async fn ask(address: SocketAddr, path: &str, headers: &str) -> Answer {
    request(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n")).await
}

/// The head, and the body of a refusal, that a request for a WebSocket is answered with.
async fn upgrade(address: SocketAddr, query: &str, headers: &str) -> (u16, String) {
    upgrade_of(address, query, "x", headers).await
}

async fn upgrade_of(address: SocketAddr, query: &str, host: &str, headers: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let request = format!("GET {STREAM}{query} HTTP/1.1\r\nHost: {host}\r\n{UPGRADE}{headers}\r\n");
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

/// The same of a page of `origin`, to the host that it names.
async fn upgrade_at(host: &str, address: SocketAddr, origin: &str) -> (u16, String) {
    upgrade_of(address, "", host, &format!("Origin: {origin}\r\n")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_get_no_stream() {
    let mut config = config(Broker::shared());
    config.server.allowed_origins = vec![
        "https://app.example.org".parse().expect("one"),
        "*.dev.example".parse().expect("one"),
        "http://localhost:5173".parse().expect("one"),
        "file://".parse().expect("one"),
        "tauri://localhost".parse().expect("one"),
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
        ("http://localhost:3000", 403),
        ("http://127.0.0.1:3000", 403),
        ("http://localhost:5173", 101),
        // Apps with schemes of their own, and the service's own address.
        ("file://", 101),
        ("tauri://localhost", 101),
        ("tauri://localhost.evil.com", 403),
        ("https://app.example.org.evil.com", 403),
        (&format!("http://{at}"), 101),
        // What `Host` says here.
        ("http://x", 403),
    ] {
        let (told, answer) = upgrade_at(&at.to_string(), at, origin).await;
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
    // A name that a page had resolved to here: its browser says no origin then.
    let rebound =
        "Accept: text/event-stream\r\nSec-Fetch-Site: same-origin\r\nConnection: close\r\n";
    assert_eq!(ask(at, STREAM, rebound).await.status, 403);
    assert_eq!(upgrade_at("evil.com", at, "http://evil.com").await.0, 403);
    let refused = replica.metric("blockcast_handshakes_refused_total{reason=\"origin\"}").await;
    assert_eq!(refused, 12.0);

    let allowed = "Origin: https://app.example.org\r\nConnection: close\r\n";
    let answer = ask(at, "/api/v1", allowed).await;
    assert_eq!(answer.headers["access-control-allow-origin"], "https://app.example.org");
    assert_eq!(answer.headers["vary"], "Origin");
    let answer = ask(at, "/api/v1", "Origin: https://evil.example\r\nConnection: close\r\n").await;
    assert_eq!(answer.status, 200, "it is public; the browser does not show it to that page");
    assert!(!answer.headers.contains_key("access-control-allow-origin"));
    replica.stop().await.expect("drained");
}

const PAGE: &str = "https://app.example.org";

/// Checks that an answer may be read by the listed page, with its credentials, and by no other.
fn names_the_page(answer: &Answer) {
    let told = |name: &str| answer.headers.get(name).map(String::as_str);
    assert_eq!(told("access-control-allow-origin"), Some(PAGE), "{answer:?}");
    assert_eq!(told("access-control-allow-credentials"), Some("true"), "{answer:?}");
    assert_eq!(told("access-control-expose-headers"), Some("Retry-After"), "{answer:?}");
    let vary = told("vary").unwrap_or_default();
    assert!(vary.split(", ").any(|name| name == "Origin"), "{answer:?}");
    let has_stream = told("content-type") == Some("text/event-stream");
    assert_eq!(vary.contains("Accept-Encoding"), has_stream, "{answer:?}");
}

/// With the listed origins and what a browser is told of each answer: the page's own origin, with
/// credentials, whatever the answer is.
#[tokio::test(flavor = "multi_thread")]
async fn every_answer_names_the_listed_page_and_lets_it_send_credentials() {
    let tokens = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(tokens.path(), tokens_file(&["page-token"])).expect("written");
    let mut config = config(Broker::shared());
    config.server.allowed_origins = vec!["https://app.example.org".parse().expect("one")];
    config.server.auth.tokens_file = Some(tokens.path().into());
    let replica = Replica::start_ready(&config).await;
    publish(&config, [body(2, "x")]).await;
    eventually("the block is there", async || replica.status().await["tip_height"] == 2).await;
    let at = replica.address;
    let ask = async |method: &str, path: &str, headers: &str| {
        let origin = "Origin: https://app.example.org\r\nConnection: close\r\n";
        let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{origin}{headers}\r\n");
        request(at, &head).await
    };
    let events = "Accept: text/event-stream\r\n";
    let with_token = format!("{events}Authorization: Bearer page-token\r\n");
    let known = format!("{STREAM}?access_token=page-token");
    for (method, path, headers, status) in [
        ("GET", "/api/v1".to_owned(), "", 200),
        ("GET", "/api/v1/status".to_owned(), "", 200),
        ("GET", "/api/v2".to_owned(), "", 404),
        ("POST", "/api/v1".to_owned(), "Content-Length: 0\r\n", 405),
        ("GET", format!("{STREAM}?x={}", "x".repeat(9_000)), "", 414),
        ("OPTIONS", STREAM.to_owned(), "Access-Control-Request-Method: GET\r\n", 204),
        ("GET", STREAM.to_owned(), events, 401),
        ("GET", known.clone(), "", 426),
        ("GET", format!("{known}&from_hight=1"), events, 400),
        ("GET", format!("{known}&until_height=2"), &format!("{events}Last-Event-ID: 2\r\n"), 204),
        ("GET", format!("{STREAM}?from_height=2&until_height=2"), &with_token, 200),
        ("GET", "/api/v1".to_owned(), "Transfer-Encoding: chunked\r\n", 400),
        // Refused by the session, in the place of the stream's head.
        ("GET", format!("{known}&from_height=1"), events, 410),
        ("GET", format!("{known}&after=2.{}", "a".repeat(64)), events, 400),
    ] {
        let answer = ask(method, &path, headers).await;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        names_the_page(&answer);
    }
    let preflight = ask("OPTIONS", STREAM, "").await;
    let allowed = &preflight.headers["access-control-allow-headers"];
    assert!(allowed.starts_with("Authorization, Last-Event-ID, Cache-Control"), "{allowed}");
    assert_eq!(preflight.headers["access-control-max-age"], "7200");
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_can_read_that_it_is_to_come_again_later() {
    let refuses = async |replica: Replica, accept: &str, status: u16| {
        let asked = format!("Origin: {PAGE}\r\n{accept}Connection: close\r\n");
        eventually("it is refused", async || {
            let answer = ask(replica.address, STREAM, &asked).await;
            let is_refused = answer.status == status;
            if is_refused {
                assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
                names_the_page(&answer);
            }
            is_refused
        })
        .await;
        replica.stop().await.expect("drained");
    };
    let listed = || {
        let mut config = config(Broker::shared());
        config.server.allowed_origins = vec![PAGE.parse().expect("one")];
        config
    };
    let events = "Accept: text/event-stream\r\n";
    let mut warming = listed();
    warming.amqp.uris = vec![AmqpUri::new("amqp://127.0.0.1:1")];
    refuses(Replica::start(&warming).await, events, 503).await;
    let (mut full, mut shared) = (listed(), listed());
    full.server.max_connections = 1;
    shared.server.max_connections_per_address = 1;
    for (config, status) in [(full, 503), (shared, 429)] {
        let replica = Replica::start_ready(&config).await;
        let _first = Client::connect(&replica.url("valid_transactions")).await;
        refuses(replica, events, status).await;
    }
    let mut often = listed();
    often.server.handshakes_per_second = 1;
    // Without a stream, so that each answer comes to an end.
    refuses(Replica::start_ready(&often).await, "", 429).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_list_every_page_reads_every_answer_and_none_with_credentials() {
    let config = config(Broker::shared());
    let replica = Replica::start_ready(&config).await;
    publish(&config, [body(1, "x")]).await;
    eventually("the block is there", async || replica.status().await["tip_height"] == 1).await;
    let origin =
        "Origin: https://any.example\r\nAccept: text/event-stream\r\nConnection: close\r\n";
    for (path, status) in [
        ("/api/v1", 200),
        ("/nothing", 404),
        (&format!("{STREAM}?limt=1"), 400),
        (&format!("{STREAM}?from_height=1&until_height=1"), 200),
    ] {
        let answer = ask(replica.address, path, origin).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.headers["access-control-allow-origin"], "*");
        assert!(!answer.headers.contains_key("access-control-allow-credentials"), "{answer:?}");
    }
    replica.stop().await.expect("drained");
}

const TOKENS: [&str; 2] = ["wallet-token-71", "explorer-token-93"];

/// A line is a name and what `printf %s TOKEN | sha256sum` says.
fn tokens_file(tokens: &[&str]) -> String {
    let line = |token: &&str| {
        let hash = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
        let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{} {hex}\n", token.replace("token", "name"))
    };
    format!("# who may\n{}", tokens.iter().map(line).collect::<String>())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_needs_a_token_and_takes_it_in_three_ways() {
    let [wallet, explorer] = TOKENS;
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    // With characters that no subprotocol has.
    let strange = "b3Blbg+/==, und Ü";
    let mut lines = tokens_file(&[wallet, explorer]);
    lines += &tokens_file(&[strange]).replace(strange, "strange");
    std::fs::write(file.path(), lines).expect("written");
    let mut config = config(Broker::shared());
    config.server.auth.tokens_file = Some(file.path().into());
    let replica = Replica::start_ready(&config).await;
    let at = replica.address;
    let ours = "sec-websocket-protocol: blockcast";
    let by_query = format!("?access_token={wallet}");
    let in_base64 = data_encoding::BASE64URL_NOPAD.encode(strange.as_bytes());
    for (query, headers, expected, has_ours) in [
        ("", String::new(), 401, false),
        ("", "Authorization: Bearer wrong\r\n".to_owned(), 401, false),
        ("", format!("Authorization: Basic {wallet}\r\n"), 401, false),
        ("", format!("Authorization: Bearer {wallet}\r\n"), 101, false),
        ("", format!("authorization: bEARER {explorer}\r\n"), 101, false),
        ("", format!("Sec-WebSocket-Protocol: blockcast, bearer.{wallet}\r\n"), 101, true),
        // A browser gives up on that one: nothing that it offered may be answered.
        ("", format!("Sec-WebSocket-Protocol: bearer.{wallet}\r\n"), 101, false),
        ("", "Sec-WebSocket-Protocol: blockcast, bearer.x\r\n".to_owned(), 401, false),
        (by_query.as_str(), String::new(), 101, false),
        ("?access_token=", String::new(), 401, false),
        // In base64url, with the padding that no browser lets through and without.
        ("", format!("Sec-WebSocket-Protocol: blockcast, bearer64.{in_base64}\r\n"), 101, true),
        ("", format!("Sec-WebSocket-Protocol: bearer64.{in_base64}=, blockcast\r\n"), 101, true),
        ("", "Sec-WebSocket-Protocol: bearer64.a+/\r\n".to_owned(), 401, false),
    ] {
        let (status, answer) = upgrade(at, query, &headers).await;
        assert_eq!(status, expected, "{query} {headers}: {answer}");
        assert_eq!(answer.contains(ours), has_ours, "{answer}");
        assert_eq!(answer.contains("www-authenticate: bearer"), status == 401, "{answer}");
        assert!(TOKENS.iter().all(|token| !answer.contains(token)), "{answer}");
    }
    // Server-Sent Events are a stream, too; the rest is open.
    let events = "Accept: text/event-stream\r\nConnection: close\r\n";
    assert_eq!(ask(at, STREAM, events).await.status, 401);
    for path in ["/", "/api/v1", "/api/v1/status", "/health/ready", "/metrics"] {
        assert_eq!(replica.get(path).await.status, 200, "{path}");
    }
    let name = "blockcast_handshakes_refused_total{reason=\"not_authorized\"}";
    assert_eq!(replica.metric(name).await, 7.0);
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_is_told_in_band_that_it_is_not_authorized() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), tokens_file(&["some-token"])).expect("written");
    let mut config = config(Broker::shared());
    config.server.auth.tokens_file = Some(file.path().into());
    let replica = Replica::start_ready(&config).await;
    let mut request = replica.url("valid_blocks").into_client_request().expect("a request");
    let headers = request.headers_mut();
    headers.insert("origin", "https://app.example".parse().expect("a header"));
    headers.insert("sec-websocket-protocol", "blockcast, bearer.wrong".parse().expect("a header"));
    let (socket, answer) = connect_async(request).await.expect("the socket opens");
    assert_eq!(answer.headers()["sec-websocket-protocol"], "blockcast");
    let frame = Client::from(socket).closed().await;
    let told = (4001, "this token is not known here");
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), told);
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_taken_out_ends_its_sessions_and_no_others() {
    let [wallet, explorer] = TOKENS;
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let write = |text: &str| std::fs::write(file.path(), text).expect("written");
    write(&tokens_file(&[wallet, explorer]));
    let mut config = config(Broker::shared());
    config.server.auth.tokens_file = Some(file.path().into());
    let replica = Replica::start_ready(&config).await;
    let url = |token: &str| format!("{}?access_token={token}", replica.url("valid_blocks"));
    let mut revoked = Client::connect(&url(wallet)).await;
    let mut kept = Client::connect(&url(explorer)).await;
    publish(&config, [body(1, "x")]).await;
    revoked.text().await;
    kept.text().await;

    write("wallet 12\n");
    let reloads = "blockcast_auth_reloads_total{outcome=";
    eventually("the bad file is seen", async || {
        replica.metric(&format!("{reloads}\"failed\"}}")).await == 1.0
    })
    .await;
    write(&tokens_file(&[explorer]));
    let frame = revoked.closed().await;
    let told = (4001, "after=1 token revoked");
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), told);
    assert_eq!(replica.metric(&format!("{reloads}\"loaded\"}}")).await, 1.0);
    assert!(Client::try_connect(&url(wallet)).await.is_err());
    publish(&config, [body(2, "x")]).await;
    kept.text().await;
    replica.stop().await.expect("drained");
}

/// A change is also seen at the next look, two seconds after the last; but so many changes, each made
/// when the one before was seen, would take longer than any of this may, were it not for the signal.
#[tokio::test(flavor = "multi_thread")]
async fn sighup_has_the_tokens_read_at_once_and_a_bad_file_leaves_the_old() {
    const CHANGES: usize = 40;
    const ALL_WITHIN: Duration = Duration::from_secs(60);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("tokens");
    // Whole at every look.
    let write = |text: &str| {
        let new = directory.path().join("new");
        std::fs::write(&new, text).expect("written");
        std::fs::rename(new, &file).expect("renamed");
    };
    let token = |change: usize| format!("token-{change}");
    write(&tokens_file(&[&token(0)]));
    let mut config = config(Broker::shared());
    config.server.auth.tokens_file = Some(file.clone());
    let process = Process::start_ready(&config).await;
    let url = |change| format!("{}?access_token={}", process.url("valid_blocks"), token(change));
    let changing = async {
        let mut inside = Client::connect(&url(0)).await;
        for change in 1..=CHANGES {
            assert!(Client::try_connect(&url(change)).await.is_err(), "not in the file yet");
            write(&tokens_file(&[&token(change)]));
            process.signal("HUP").await;
            let frame = inside.closed().await;
            assert_eq!(u16::from(frame.code), 4001, "{frame:?}");
            assert!(Client::try_connect(&url(change - 1)).await.is_err(), "it is out of the file");
            inside = Client::connect(&url(change)).await;
        }
        inside
    };
    let changed = tokio::time::timeout(ALL_WITHIN, changing).await;
    let mut inside = changed.expect("the signal, and not the next look, has it read");
    let reloads = async |outcome: &str| {
        process.metric(&format!("blockcast_auth_reloads_total{{outcome=\"{outcome}\"}}")).await
    };
    assert_eq!(reloads("loaded").await, CHANGES as f64);

    write("wallet 12\n");
    process.signal("HUP").await;
    eventually("the bad file is read", async || reloads("failed").await == 1.0).await;
    let mut newcomer = Client::connect(&url(CHANGES)).await;
    publish(&config, [body(1, "x")]).await;
    for client in [&mut inside, &mut newcomer] {
        client.text().await;
    }
    assert_eq!(reloads("loaded").await, CHANGES as f64);
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_stream_whose_token_is_taken_out_ends_with_an_event_and_returns_to_a_refusal() {
    let [wallet, explorer] = TOKENS;
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), tokens_file(&[wallet, explorer])).expect("written");
    let mut config = config(Broker::shared());
    config.server.auth.tokens_file = Some(file.path().into());
    let replica = Replica::start_ready(&config).await;
    let by_query = format!("access_token={wallet}");
    let by_header = format!("Authorization: Bearer {explorer}\r\n");
    let (_, mut revoked) = EventStream::open(&replica, &by_query, "").await;
    let (_, mut kept) = EventStream::open(&replica, "", &by_header).await;
    publish(&config, [body(1, "x")]).await;
    for stream in [&mut revoked, &mut kept] {
        assert!(stream.event().await.starts_with("retry: "));
        assert!(stream.event().await.starts_with("id: 1.0\n"));
    }
    std::fs::write(file.path(), tokens_file(&[explorer])).expect("written");
    let close = "id: 1\nevent: close\n\
        data: {\"type\": \"close\", \"code\": 4001, \"reason\": \"after=1 token revoked\"}";
    assert_eq!(revoked.event().await, close);
    revoked.is_over().await;
    let ended = "blockcast_disconnects_total{reason=\"not_authorized\"}";
    eventually("it is counted", async || replica.metric(ended).await == 1.0).await;

    // A browser comes back by itself, until it is told a status.
    let again = "Last-Event-ID: 1\r\nConnection: close\r\n";
    let answer = event_client::ask(&replica, &by_query, again).await;
    assert_eq!((answer.status, answer.headers["www-authenticate"].as_str()), (401, "Bearer"));
    publish(&config, [body(2, "x")]).await;
    assert!(kept.event().await.starts_with("id: 2.0\n"));
    drop(kept);
    replica.stop().await.expect("drained");
}

/// A secret, and a configuration that takes what is signed with it.
fn signed(file: &tempfile::NamedTempFile) -> (&'static [u8], Config) {
    let secret = b"a secret of thirty-two bytes, no less";
    std::fs::write(file.path(), secret).expect("written");
    let mut config = config(Broker::shared());
    config.server.auth.jwt.algorithm = JwtAlgorithm::HS256;
    config.server.auth.jwt.key = Some(file.path().into());
    config.server.auth.jwt.audience = Some("chain".into());
    config.server.auth.jwt.leeway = Duration::from_secs(5);
    (secret, config)
}

/// Past, but within what clocks may differ: what is left is a moment.
fn expires_soon(secret: &[u8]) -> String {
    hs256(secret, &format!("{{\"exp\":{},\"aud\":\"chain\"}}", now_seconds()))
}

fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_stream_ends_when_its_signed_token_expires_and_one_that_waits_has_a_status() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let (secret, config) = signed(&file);
    let replica = Replica::start_ready(&config).await;
    publish(&config, [body(1, "x")]).await;
    eventually("the block is there", async || replica.status().await["tip_height"] == 1).await;
    let token = expires_soon(secret);
    let ask = async |start: &str| {
        event_client::ask(&replica, &format!("{start}&access_token={token}"), "").await
    };
    // The chain does not get to the one's start: nothing is sent to it before it is refused.
    let (begun, waiting) = tokio::join!(ask("from_height=oldest"), ask("from_height=50"));
    let events: Vec<_> = begun.body.trim_end().split("\n\n").collect();
    let close = "id: 1\nevent: close\n\
        data: {\"type\": \"close\", \"code\": 4001, \"reason\": \"after=1 token expired\"}";
    assert_eq!((begun.status, events.len(), events.last()), (200, 3, Some(&close)), "{begun:?}");
    assert_eq!((waiting.status, waiting.headers["www-authenticate"].as_str()), (401, "Bearer"));
    assert!(waiting.body.contains("after=49 token expired"), "{waiting:?}");
    let ended = "blockcast_disconnects_total{reason=\"not_authorized\"}";
    eventually("both are counted", async || replica.metric(ended).await == 2.0).await;
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_when_its_signed_token_expires() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let (secret, config) = signed(&file);
    let replica = Replica::start_ready(&config).await;
    publish(&config, [body(1, "x")]).await;
    eventually("the block is there", async || replica.status().await["tip_height"] == 1).await;
    let token = expires_soon(secret);
    let url = format!("{}?from_height=oldest&access_token={token}", replica.url("valid_blocks"));
    let frame = Client::connect(&url).await.closed().await;
    let told = (4001, "after=1 token expired");
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), told);
    let ended = "blockcast_disconnects_total{reason=\"not_authorized\"}";
    eventually("it is counted", async || replica.metric(ended).await == 1.0).await;
    let stranger = hs256(secret, &format!("{{\"exp\":{},\"aud\":\"x\"}}", now_seconds() + 60));
    let (status, answer) = upgrade(replica.address, &format!("?access_token={stranger}"), "").await;
    assert!(status == 401 && answer.contains("`aud`"), "{answer}");
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_is_for_new_requests_and_who_is_in_stays() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let (old, config) = signed(&file);
    let new = b"another secret of thirty-two bytes";
    let replica = Replica::start_ready(&config).await;
    let claims = format!("{{\"exp\":{},\"aud\":\"chain\"}}", now_seconds() + 3_600);
    let url = |secret: &[u8]| {
        format!("{}?access_token={}", replica.url("valid_blocks"), hs256(secret, &claims))
    };
    let mut inside = Client::connect(&url(old)).await;
    assert!(Client::try_connect(&url(new)).await.is_err());
    std::fs::write(file.path(), new).expect("written");
    let loaded = "blockcast_auth_reloads_total{outcome=\"loaded\"}";
    eventually("the new key is read", async || replica.metric(loaded).await == 1.0).await;
    assert!(Client::try_connect(&url(old)).await.is_err(), "no request with the old one");
    let mut newcomer = Client::connect(&url(new)).await;
    publish(&config, [body(1, "x")]).await;
    for client in [&mut inside, &mut newcomer] {
        client.text().await;
    }
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_on_the_admin_address_by_the_clients_own() {
    let token = "wallet-token-71";
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), tokens_file(&[token])).expect("written");
    let mut config = config(Broker::shared());
    config.admin.listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)).into());
    config.server.auth.tokens_file = Some(file.path().into());
    config.server.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    config.server.max_connections_per_address = 1;
    let replica = Replica::start_ready(&config).await;
    let admin = replica.admin.expect("an admin address");
    let connect = async |client: &str, query: &str| {
        let url = format!("{}?access_token={token}{query}", replica.url("valid_transactions"));
        let mut request = url.into_client_request().expect("a request");
        let told = format!("6.6.6.6, {client}").parse().expect("a header");
        request.headers_mut().insert("x-forwarded-for", told);
        connect_async(request).await
    };
    let close = "Connection: close\r\n";
    let listed = async || {
        let answer = ask(admin, "/sessions", close).await;
        assert!(!answer.body.contains(token), "{answer:?}");
        serde_json::from_str::<serde_json::Value>(&answer.body).expect("JSON")
    };
    let age = |listed: &serde_json::Value, at: usize| listed[at]["age_seconds"].as_u64();
    let _one = connect("198.51.100.1", "&operation=CREATE").await.expect("connected");
    // Whoever comes now is younger by a second, whenever it is asked.
    eventually("it grows old", async || age(&listed().await, 0) >= Some(1)).await;
    let _other = connect("198.51.100.2", "").await.expect("another address");
    assert!(connect("198.51.100.2", "").await.is_err(), "one place per address");
    publish(&config, [body(1, "x")]).await;
    eventually("both are behind block 1", async || {
        let listed = listed().await;
        (0..2).all(|at| listed[at]["next_height"] == 2 && listed[at]["lag_blocks"] == 0)
    })
    .await;
    let listed = listed().await;
    for (at, address, filter, sent) in [
        (0, "198.51.100.1", serde_json::json!("operation=CREATE"), 0),
        (1, "198.51.100.2", serde_json::Value::Null, 1),
    ] {
        let one = &listed[at];
        assert_eq!((&one["address"], &one["filter"]), (&address.into(), &filter));
        assert_eq!(
            (&one["stream"], &one["sent_messages"]),
            (&"valid_transactions".into(), &sent.into())
        );
    }
    let [Some(older), Some(younger)] = [0, 1].map(|at| age(&listed, at)) else {
        panic!("without an age: {listed}")
    };
    assert!(older > younger, "the oldest first: {listed}");
    assert_eq!(listed.as_array().map(Vec::len), Some(2));
    assert_eq!(replica.get("/sessions").await.status, 404);
    for at in [replica.address, admin] {
        for path in ["/metrics", "/api/v1/status"] {
            assert!(!ask(at, path, close).await.body.contains(token));
        }
    }
    replica.stop().await.expect("drained");
}
