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
        let mut socket = TcpStream::connect(replica.address).await.expect("accepted");
        SockRef::from(&socket).set_linger(Some(Duration::ZERO)).expect("an option");
        let head = "GET /api/v1/streams/valid_transactions?from_height=1 HTTP/1.1\r\nHost: x\r\n\
            Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        socket.write_all(head.as_bytes()).await.expect("sent");
        socket.read_exact(&mut [0; READ_BYTES]).await.expect("an answer");
        self.asked.fetch_add(1, Ordering::Relaxed);
    }
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
    crate::support::eventually::eventually("they have begun", async || {
        hasty.asked.load(Ordering::Relaxed) >= BEFORE
    })
    .await;

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
    assert!(turns <= asked as f64 + 10.0, "who has left has none");
    // One for each turn, and what all know is asked and looked for once: not three and more, and a
    // search, for each.
    assert!(channels <= 1.5 * turns + 150.0, "{channels} channels in {turns} turns");
    assert_eq!(replica.metric("blockcast_deep_read_connections_total").await, 1.0);
    assert_eq!(replica.metric("blockcast_deep_reads_busy_total").await, 0.0);
    let replica = Arc::into_inner(replica).expect("nobody else has it");
    replica.stop().await.expect("drained");
}
