//! Server-Sent Events on real sockets: the head, a browser's way to go on, ends, and compression.

use std::io::Read;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::broker::Broker;
use crate::support::chain::{body, event, publish};
use crate::support::client::UPGRADE;
use crate::support::event_client::{EventStream, ask, head};
use crate::support::eventually::eventually;
use crate::support::replica::{Replica, config};

/// A replica with the blocks of these heights, one event each.
async fn replica_with(
    heights: std::ops::RangeInclusive<u64>,
) -> (Replica, blockcast::config::Config) {
    let config = config(Broker::shared());
    let replica = Replica::start_ready(&config).await;
    let tip = *heights.end();
    publish(&config, heights.map(|height| body(height, "x"))).await;
    eventually("the tip is there", async || replica.status().await["tip_height"] == tip).await;
    (replica, config)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_was_cut_goes_on_where_it_was() {
    let (replica, config) = replica_with(1..=3).await;
    let (head, mut stream) = EventStream::open(&replica, "from_height=oldest", "").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    for line in [
        "Content-Type: text/event-stream",
        "Cache-Control: no-store, no-transform",
        "X-Accel-Buffering: no",
        "Access-Control-Allow-Origin: *",
    ] {
        assert!(head.lines().any(|found| found == line), "{line} not in {head}");
    }
    let retry = stream.event().await;
    let retry_ms: u64 = retry.strip_prefix("retry: ").expect("when").parse().expect("a number");
    assert!((1_000..=3_000).contains(&retry_ms), "{retry}");
    for height in 1..=2 {
        let expected = format!("id: {height}.0\ndata: {}", event(height, "x"));
        assert_eq!(stream.event().await, expected);
    }
    drop(stream);
    publish(&config, [body(4, "x")]).await;
    let (_, mut stream) =
        EventStream::open(&replica, "from_height=oldest", "Last-Event-ID: 2.0\r\n").await;
    stream.event().await;
    for height in 3..=4 {
        let expected = format!("id: {height}.0\ndata: {}", event(height, "x"));
        assert_eq!(stream.event().await, expected);
    }
    drop(stream);
    assert_eq!(replica.metric("blockcast_resumes_total{outcome=\"served\"}").await, 2.0);
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_is_an_event_and_whoever_returns_after_it_is_sent_away_for_good() {
    let (replica, _) = replica_with(1..=3).await;
    let answer = ask(&replica, "from_height=2&until_height=3", "").await;
    assert_eq!(answer.status, 200);
    let close = "id: 3\nevent: close\n\
        data: {\"type\": \"close\", \"code\": 1000, \"reason\": \"after=3 done\"}";
    let events: Vec<_> = answer.body.trim_end().split("\n\n").collect();
    assert_eq!(events.last(), Some(&close));
    assert_eq!(events.len(), 4, "retry, two events, the end: {events:?}");
    let again = ask(
        &replica,
        "from_height=2&until_height=3",
        "Last-Event-ID: 3.0\r\nConnection: close\r\n",
    )
    .await;
    assert_eq!(again.status, 200, "3.0 is the last event, but block 3 may have had more");
    let again =
        ask(&replica, "from_height=2&until_height=3", "Last-Event-ID: 3\r\nConnection: close\r\n")
            .await;
    assert_eq!((again.status, again.body.as_str()), (204, ""));
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_gone_or_wrong_has_a_status() {
    let (replica, _) = replica_with(5..=7).await;
    let close = "Connection: close\r\n";
    let answer = ask(&replica, "from_height=4", close).await;
    assert_eq!(answer.status, 410, "{answer:?}");
    let message: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
    assert!(message["message"].as_str().expect("text").ends_with("from_height=5"), "{message}");
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
    let answer = ask(&replica, "", "Last-Event-ID: x\r\nConnection: close\r\n").await;
    assert_eq!(answer.status, 400, "{answer:?}");
    assert!(answer.body.contains("Last-Event-ID"), "{answer:?}");
    let (_, mut stream) =
        EventStream::open(&replica, "from_height=oldest", "Last-Event-ID: 2.5\r\n").await;
    stream.event().await;
    assert_eq!(
        stream.event().await,
        "id: 4\nevent: gap\ndata: {\"type\": \"gap\", \"from_height\": 2, \"to_height\": 4}"
    );
    assert!(stream.event().await.starts_with("id: 5.0\n"));
    drop(stream);
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_compression_carries_the_same_events() {
    let (replica, _) = replica_with(1..=30).await;
    let plain = ask(&replica, "after=1.0&until_height=30&control=true", "").await;
    let mut socket = TcpStream::connect(replica.address).await.expect("connected");
    let asked =
        head("after=1.0&until_height=30&control=true", "Accept-Encoding: br, gzip;q=0.5\r\n");
    socket.write_all(asked.as_bytes()).await.expect("written");
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.expect("read");
    let end = answer.windows(4).position(|here| here == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8_lossy(&answer[..end]);
    assert!(head.contains("Content-Encoding: gzip"), "{head}");
    let mut text = String::new();
    let decoded = flate2::read::GzDecoder::new(&answer[end + 4..]).read_to_string(&mut text);
    let without_retry = |text: &str| text.split_once("\n\n").map(|(_, rest)| rest.to_owned());
    assert_eq!(without_retry(&text), without_retry(&plain.body));
    drop(decoded);
    replica.stop().await.expect("drained");
}

/// A client that has sent its request and says nothing more, as `nc -N` does.
async fn half_closed(replica: &Replica, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(replica.address).await.expect("connected");
    stream.write_all(request.as_bytes()).await.expect("written");
    stream.shutdown().await.expect("shut");
    stream
}

/// What still comes until all of these have, in any order.
async fn up_to(stream: &mut TcpStream, awaited: &[&str]) -> String {
    let mut text = String::new();
    while !awaited.iter().all(|awaited| text.contains(awaited)) {
        text.push(stream.read_u8().await.expect("more").into());
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_nothing_more_gets_its_answer() {
    let (replica, _) = replica_with(1..=3).await;
    for path in ["/health/live", "/metrics", "/api/v1/status", "/nothing"] {
        for version in ["1.0", "1.1"] {
            let request = format!("GET {path} HTTP/{version}\r\nHost: x\r\n\r\n");
            let mut stream = half_closed(&replica, &request).await;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("an answer and an end");
            let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
            assert!(head.starts_with(&format!("HTTP/{version} ")), "{head}");
            let length = format!("content-length: {}", body.len());
            assert!(head.lines().any(|line| line == length), "{path}: {head}");
        }
    }
    // A browser's way: nothing is over but its WebSocket.
    let mut websocket = half_closed(&replica, UPGRADE).await;
    let ended = websocket.read_to_end(&mut Vec::new()).await;
    ended.expect("ended by the server");
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_nothing_more_has_its_event_stream_until_it_is_gone() {
    let (replica, config) = replica_with(1..=3).await;
    for (version, headers) in [("1.0", ""), ("1.1", ""), ("1.1", "Accept-Encoding: gzip\r\n")] {
        let request =
            head("from_height=2", headers).replace("HTTP/1.1", &format!("HTTP/{version}"));
        let mut stream = half_closed(&replica, &request).await;
        let told = up_to(&mut stream, &["\r\n\r\n"]).await;
        assert!(told.starts_with("HTTP/1.1 200"), "{told}");
        let is_plain = headers.is_empty();
        if is_plain {
            let tip = replica.status().await["tip_height"].as_u64().expect("a height");
            up_to(&mut stream, &["\n:\n\n", "id: 2.0\n", &format!("id: {tip}.0\n")]).await;
            publish(&config, [body(tip + 1, "x")]).await;
            up_to(&mut stream, &[&format!("id: {}.0\n", tip + 1)]).await;
        }
        assert_eq!(replica.metric("blockcast_sessions").await, 1.0);
        drop(stream);
        eventually("it is found to be gone", async || {
            replica.metric("blockcast_sessions").await == 0.0
        })
        .await;
    }
    // With nothing unread, so that no reset says so before it is written to.
    let mut stream = half_closed(&replica, &head("", "")).await;
    up_to(&mut stream, &["\n:\n\n"]).await;
    drop(stream);
    let (_, quiet) = EventStream::open(&replica, "", "").await;
    drop(quiet);
    eventually("both are found to be gone", async || {
        replica.metric("blockcast_sessions").await == 0.0
    })
    .await;
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deep_reader_that_says_nothing_more_gets_all_of_it() {
    const TIP: u64 = 1_000;
    // All of it has left the memory.
    const UNTIL: u64 = 500;
    let mut config = config(Broker::shared());
    config.history.max_bytes = bytesize::ByteSize::kib(64);
    config.blocks.max_bytes = bytesize::ByteSize::kib(32);
    let replica = Replica::start_ready(&config).await;
    publish(&config, (1..=TIP).map(|height| body(height, "x"))).await;
    eventually("the tip is there", async || replica.status().await["tip_height"] == TIP).await;
    eventually("it is known where the stream begins", async || {
        replica.status().await["broker_first_height"] == 1
    })
    .await;
    let request = head(&format!("from_height=1&until_height={UNTIL}"), "");
    let mut stream = half_closed(&replica, &request).await;
    let mut told = String::new();
    stream.read_to_string(&mut told).await.expect("an end");
    let ids: Vec<&str> = told.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
    let expected: Vec<String> = (1..=UNTIL).map(|height| format!("{height}.0")).collect();
    assert_eq!(ids[..expected.len()], expected);
    assert!(told.contains("event: close"), "{told}");
    replica.stop().await.expect("drained");
}
