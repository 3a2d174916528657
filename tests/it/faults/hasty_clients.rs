//! Clients that ask for the whole chain and reset their connections, one after the other, as fast as
//! they can.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytesize::ByteSize;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::broker::Broker;
use crate::support::chain::{body, event, publish};
use crate::support::client::Client;
use crate::support::eventually::eventually;
use crate::support::replica::{Replica, config};

const BLOCKS: u64 = 20_000;
const HASTY: usize = 4;
/// What one of them reads before it leaves: less than the answer's head.
const READ_BYTES: usize = 100;
/// Asked in vain before the honest client comes.
const BEFORE: u64 = 200;

struct Hasty {
    asked: AtomicU64,
    is_over: AtomicBool,
}

impl Hasty {
    async fn ask(&self, replica: &Replica) {
        let mut socket = asking(replica, "192.0.2.1").await;
        SockRef::from(&socket).set_linger(Some(Duration::ZERO)).expect("an option");
        socket.read_exact(&mut [0; READ_BYTES]).await.expect("an answer");
        self.asked.fetch_add(1, Ordering::Relaxed);
    }
}

/// A client that has asked for the whole chain, through a proxy that says where it comes from.
async fn asking(replica: &Replica, address: &str) -> TcpStream {
    let mut socket = TcpStream::connect(replica.address).await.expect("accepted");
    let head = format!(
        "GET /api/v1/streams/valid_transactions?from_height=1 HTTP/1.1\r\nHost: x\r\n\
        Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Forwarded-For: {address}\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.expect("sent");
    socket
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_another_address_comes_before_many_of_one() {
    const MANY: usize = 30;
    let mut config = config(Broker::shared());
    config.server.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    config.history.deep_reads = 1;
    config.history.max_bytes = ByteSize::kib(64);
    config.blocks.max_bytes = ByteSize::kib(32);
    publish(&config, (1..=BLOCKS).map(|height| body(height, "x"))).await;
    let replica = Replica::start_ready(&config).await;
    // None of them reads: each has its turn for a second, and then asks no more.
    let mut many = Vec::new();
    for _ in 0..MANY {
        many.push(asking(&replica, "192.0.2.1").await);
    }
    eventually("one has its turn, and the others wait", async || {
        replica.metric("blockcast_deep_read_turns_total").await >= 1.0
            && replica.metric("blockcast_sessions").await == MANY as f64
    })
    .await;

    let mut one = asking(&replica, "192.0.2.2").await;
    let first = event(1, "x");
    let mut seen = Vec::new();
    while !seen.windows(first.len()).any(|part| part == first.as_bytes()) {
        let read = one.read_buf(&mut seen).await.expect("served");
        assert!(read > 0, "the end");
    }
    let waiting = replica.metric("blockcast_deep_reads_waiting").await;
    assert!(waiting > 0.0, "it is served behind all of them");
    drop(many);
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_and_leaves_takes_no_channels_from_an_honest_reader() {
    let mut config = config(Broker::shared());
    config.history.max_bytes = ByteSize::kib(64);
    config.blocks.max_bytes = ByteSize::kib(32);
    publish(&config, (1..=BLOCKS).map(|height| body(height, "x"))).await;
    let replica = Arc::new(Replica::start_ready(&config).await);
    let hasty = Arc::new(Hasty { asked: AtomicU64::new(0), is_over: AtomicBool::new(false) });
    let asking: Vec<_> = (0..HASTY)
        .map(|_| {
            let (hasty, replica) = (Arc::clone(&hasty), Arc::clone(&replica));
            tokio::spawn(async move {
                while !hasty.is_over.load(Ordering::Relaxed) {
                    hasty.ask(&replica).await;
                }
            })
        })
        .collect();
    eventually("they have begun", async || hasty.asked.load(Ordering::Relaxed) >= BEFORE).await;

    let url = replica.url("valid_transactions");
    let url = format!("{url}?from_height=1&until_height={BLOCKS}");
    let mut honest = Client::connect(&url).await;
    for height in 1..=BLOCKS {
        assert_eq!(honest.text().await, event(height, "x"));
    }
    assert_eq!(honest.closed().await.reason.as_str(), "after=20000 done");
    hasty.is_over.store(true, Ordering::Relaxed);
    for asking in asking {
        asking.await.expect("served to the end");
    }

    let asked = hasty.asked.load(Ordering::Relaxed);
    let turns = replica.metric("blockcast_deep_read_turns_total").await;
    let channels = replica.metric("blockcast_deep_read_channels_total").await;
    println!("{asked} asked in vain: {turns} turns, {channels} channels");
    // Above a thousand ask in a second, and 20 turns begin.
    assert!(turns <= asked as f64 / 2.0 + 10.0, "who has left has none");
    // One for each turn, and what all know is asked and looked for once: not three and more, and a
    // search, for each.
    assert!(channels <= 1.5 * turns + 150.0, "{channels} channels in {turns} turns");
    assert_eq!(replica.metric("blockcast_deep_read_connections_total").await, 1.0);
    assert_eq!(replica.metric("blockcast_deep_reads_busy_total").await, 0.0);
    let replica = Arc::into_inner(replica).expect("nobody else has it");
    replica.stop().await.expect("drained");
}
