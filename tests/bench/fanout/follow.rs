//! What following a node costs in time: from the node's commit until a WebSocket client of the bridge
//! has the block, by way of `publish --node`, which the node's own event stream wakes.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::blocks::Blocks;
use super::eventually::eventually;
use super::frames::Frames;
use super::load::Greeting;
use super::process;
use super::scripted_node::Node;
use super::service::{STREAM, Service};

pub const INTERVAL: Duration = Duration::from_millis(20);
pub const BLOCKS: usize = 500;
/// Not counted: connections and caches get warm.
const WARM_UP: usize = 20;

/// How a node words its blocks.
#[derive(Clone, Copy, PartialEq)]
pub enum Wording {
    /// As BigchainDB and Planetmint before 2.2.
    Whole,
    /// As Planetmint from 2.2 on: each transaction is asked for.
    Listed,
}

/// From a block's commit.
pub struct Delay {
    pub p50: Duration,
    pub p99: Duration,
}

struct Follower(Child);

pub async fn measure(service: &Service, wording: Wording) -> anyhow::Result<Delay> {
    let mut node = Node::start([]).await;
    node.open_stream().await;
    let _follower = Follower::start(service, &node);
    eventually("the follower listens", async || node.listeners() == 1).await;
    let mut client = TcpStream::connect(service.address).await?;
    Greeting::to(STREAM).greet(&mut client).await?;
    let mut frames = Frames::default();
    let mut delays = Vec::new();
    let mut interval = tokio::time::interval(INTERVAL);
    for (number, body) in Blocks::of(1).take(WARM_UP + BLOCKS).enumerate() {
        let height = number as u64 + 1;
        put(&node, height, body, wording);
        interval.tick().await;
        let committed_at = Instant::now();
        node.commit(height);
        frames.receive(&client, number + 1).await?;
        if number >= WARM_UP {
            delays.push(committed_at.elapsed());
        }
    }
    delays.sort();
    Ok(Delay { p50: delays[BLOCKS / 2], p99: delays[BLOCKS * 99 / 100] })
}

fn put(node: &Node, height: u64, body: Vec<u8>, wording: Wording) {
    if wording == Wording::Whole {
        return node.put(height, body);
    }
    let block: Value = serde_json::from_slice(&body).expect("JSON");
    let transactions = block["transactions"].as_array().expect("a list");
    let id = |transaction: &Value| transaction["id"].as_str().expect("an id").to_owned();
    for transaction in transactions {
        node.put_transaction(&id(transaction), transaction.to_string().as_bytes());
    }
    let ids: Vec<_> = transactions.iter().map(id).collect();
    let listing = json!({ "app_hash": "00", "height": height, "transaction_ids": ids });
    node.put(height, listing.to_string().into_bytes());
}

impl Follower {
    fn start(service: &Service, node: &Node) -> Self {
        let child = process::pinned(1, env!("CARGO_BIN_EXE_blockcast"))
            .args(["--set", &format!("amqp.exchange={}", service.queue())])
            .args(["--set", &format!("amqp.queue.name={}", service.queue())])
            .args(["publish", "--from-height", "1", "--node", &node.url()])
            .env("BLOCKCAST_AMQP__URIS", service.broker_uri())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        Self(child)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        process::end(&mut self.0);
    }
}
