//! Sessions on real sockets: limits, closes, drain, and a client that never reads.

use std::time::Duration;

use bytesize::ByteSize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::support::broker::Broker;
use crate::support::chain::{body, event, publish};
use crate::support::client::Client;
use crate::support::eventually::eventually;
use crate::support::process::Process;
use crate::support::replica::{Replica, config};

#[tokio::test(flavor = "multi_thread")]
async fn a_full_replica_refuses_and_takes_the_next_when_one_leaves() {
    let mut config = config(Broker::shared());
    config.server.max_connections = 2;
    let replica = Replica::start_ready(&config).await;
    let url = replica.url("valid_transactions");
    let first = Client::connect(&url).await;
    let _second = Client::connect(&url).await;
    match Client::try_connect(&url).await {
        Err(Error::Http(answer)) => assert_eq!(
            (answer.status().as_u16(), answer.headers()["retry-after"].to_str().ok()),
            (503, Some("5"))
        ),
        other => panic!("{:?}", other.map(|_| "connected")),
    }
    assert_eq!(replica.get("/health/ready").await.status, 200, "probes and scrapes still get in");
    drop(first);
    eventually("a place is free", async || Client::try_connect(&url).await.is_ok()).await;
    assert!(replica.metric("blockcast_handshakes_refused_total{reason=\"full\"}").await >= 1.0);
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_gets_no_more_than_its_share() {
    let mut config = config(Broker::shared());
    config.server.max_connections_per_address = 1;
    let replica = Replica::start_ready(&config).await;
    let url = replica.url("valid_transactions");
    let _first = Client::connect(&url).await;
    match Client::try_connect(&url).await {
        Err(Error::Http(answer)) => assert_eq!(
            (answer.status().as_u16(), answer.headers()["retry-after"].to_str().ok()),
            (429, Some("5"))
        ),
        other => panic!("{:?}", other.map(|_| "connected")),
    }
    let refused = "blockcast_handshakes_refused_total{reason=\"address\"}";
    assert_eq!(replica.metric(refused).await, 1.0);
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_ignored_and_a_too_large_one_is_closed() {
    let mut config = config(Broker::shared());
    config.server.max_message_bytes = ByteSize::b(1_000);
    let replica = Replica::start_ready(&config).await;
    let mut client = Client::connect(&replica.url("valid_transactions")).await;
    client.send(Message::text("x".repeat(1_000))).await;
    client.send(Message::binary(vec![0; 1_000])).await;
    publish(&config, [body(1, "x")]).await;
    assert_eq!(client.text().await, event(1, "x"));
    client.send(Message::text("x".repeat(1_001))).await;
    let frame = client.closed().await;
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (1009, "after=1 message too big"));
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_close_is_answered_and_counted() {
    let replica = Replica::start_ready(&config(Broker::shared())).await;
    let client = Client::connect(&replica.url("valid_transactions")).await;
    let frame = CloseFrame { code: CloseCode::Library(3001), reason: "bye".into() };
    let answer = client.close(frame).await.expect("an answer");
    assert_eq!(u16::from(answer.code), 3001);
    eventually("it is counted", async || {
        replica.metric("blockcast_disconnects_total{reason=\"client\"}").await == 1.0
    })
    .await;
    assert_eq!(replica.status().await["sessions"], 0);
    // What clients say when a message is above their own limit.
    let client = Client::connect(&replica.url("valid_blocks")).await;
    let frame = CloseFrame { code: CloseCode::Size, reason: "message too big".into() };
    client.close(frame).await.expect("an answer");
    eventually("it is counted apart", async || {
        replica.metric("blockcast_disconnects_total{reason=\"client_limit\"}").await == 1.0
    })
    .await;
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_is_told_first_then_spread_and_clients_know_their_place() {
    let mut config = config(Broker::shared());
    config.server.drain_delay = Duration::from_millis(800);
    config.server.drain = Duration::from_millis(500);
    let replica = Replica::start_ready(&config).await;
    let url = replica.url("valid_transactions");
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(Client::connect(&url).await);
    }
    replica.begin_stop();
    eventually("unready at once", async || replica.get("/health/ready").await.status == 503).await;
    clients.push(Client::connect(&url).await);
    publish(&config, [body(1, "x")]).await;
    for client in &mut clients {
        assert_eq!(client.text().await, event(1, "x"), "still delivering");
        let frame = client.closed().await;
        assert_eq!((u16::from(frame.code), frame.reason.as_str()), (1001, "after=1 draining"));
    }
    drop(clients);
    replica.ended().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn late_in_the_drain_newcomers_are_told_so() {
    let config = config(Broker::shared());
    let replica = Replica::start_ready(&config).await;
    // It does not answer its close, so the drain lasts as long as a close may.
    let silent = Client::connect(&replica.url("valid_transactions")).await;
    replica.begin_stop();
    eventually("clients are refused", async || {
        let answer = replica.get("/api/v1/streams/valid_blocks").await;
        answer.status == 503 && answer.body.contains("draining")
    })
    .await;
    for _ in 0..20 {
        assert_eq!(replica.get("/health/live").await.status, 200, "probes are answered");
    }
    assert!(replica.metric("blockcast_handshakes_refused_total{reason=\"draining\"}").await >= 1.0);
    drop(silent);
    replica.ended().await.expect("drained");
}

/// A client that completes the handshake and never reads again, with a small receive window.
async fn never_reading(replica: &Process) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("set");
    let mut stream = socket.connect(replica.address).await.expect("connected");
    let request = "GET /api/v1/streams/valid_transactions HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("the answer"));
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_does_not_read_costs_the_others_nothing_and_gets_all_when_it_does() {
    const READERS: usize = 100;
    const BLOCKS: u64 = 300;
    const EVENTS: usize = 100;
    /// Blocks published at a time; the next when every reader has them.
    const BATCH: usize = 10;
    /// Half of what the chain takes.
    const HISTORY_BYTES: u64 = 8 << 20;
    /// Of 101 sessions, with what the allocator keeps: half of it is usual. What is queued for the one would come
    /// on top of that, 5 MiB.
    const SESSIONS_BYTES: u64 = 6 << 20;
    let mut config = config(Broker::shared());
    config.history.max_bytes = ByteSize::b(HISTORY_BYTES);
    config.blocks.max_bytes = ByteSize::mib(1);
    config.blocks.hold_bytes = ByteSize::mib(1);
    // Nothing else ends it.
    config.server.write_stall_timeout = Duration::from_secs(3_600);
    config.server.ping_interval = Duration::from_secs(3_600);
    let replica = Process::start_ready(&config).await;
    let at_rest = replica.metric("process_resident_memory_bytes").await as u64;
    let mut stalled = never_reading(&replica).await;
    let (done, mut all_done) = tokio::sync::mpsc::channel(READERS);
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut client = Client::connect(&replica.url("valid_transactions")).await;
        let done = done.clone();
        readers.push(tokio::spawn(async move {
            for height in 1..=BLOCKS {
                for index in 0..EVENTS {
                    let text = client.text().await;
                    let expected =
                        format!("{{\"height\": {height}, \"asset_id\": \"{index:064x}\"");
                    assert!(text.starts_with(&expected), "{text}");
                }
                if height % BATCH as u64 == 0 {
                    done.send(()).await.expect("somebody waits");
                }
            }
        }));
    }
    let ids = (0..EVENTS).map(|index| format!("{{\"id\": \"{index:064x}\"}}"));
    let transactions = ids.collect::<Vec<_>>().join(",");
    let block = |height| {
        format!("{{\"height\": {height}, \"transactions\": [{transactions}]}}").into_bytes()
    };
    for heights in Vec::from_iter(1..=BLOCKS).chunks(BATCH) {
        publish(&config, heights.iter().map(block)).await;
        for _ in 0..READERS {
            all_done.recv().await.expect("a reader has the batch");
        }
    }
    for reader in readers {
        reader.await.expect("a reader has every block");
    }
    let resident = replica.metric("process_resident_memory_bytes").await as u64;
    let grown = resident.saturating_sub(at_rest);
    assert!(grown < HISTORY_BYTES + SESSIONS_BYTES, "{grown} bytes more than at rest");
    assert!(replica.metric("blockcast_history_bytes").await <= HISTORY_BYTES as f64);
    assert!(replica.metric("blockcast_first_height").await > 1.0, "the one has fallen off");
    for height in 1..=BLOCKS {
        for index in 0..EVENTS {
            let mut head = [0; 4];
            stalled.read_exact(&mut head).await.expect("a header");
            assert_eq!(head[..3], [0x81, 126, 0]);
            let mut text = vec![0; usize::from(head[3])];
            stalled.read_exact(&mut text).await.expect("an event");
            let expected = format!("{{\"height\": {height}, \"asset_id\": \"{index:064x}\"");
            assert!(text.starts_with(expected.as_bytes()), "{}", text.escape_ascii());
        }
    }
    assert_eq!(replica.metric("blockcast_falls_total").await, 1.0);
    drop(stalled);
    replica.stop().await;
}
