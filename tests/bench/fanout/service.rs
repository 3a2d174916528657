//! The service under test, as operators run it: the release binary with a real broker before it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use blockcast::amqp::Publisher;
use blockcast::block::{self, Message};
use blockcast::config::{AmqpUri, Config, Dialect};
use blockcast::frame;
use serde_json::{Value, json};

use super::broker::Broker;
use super::eventually::eventually;
use super::process;

pub struct Service {
    pub address: SocketAddr,
    child: Child,
    publisher: Publisher,
    _broker: Broker,
}

impl Service {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With these keys set, beside those that every bench needs.
    pub async fn start_with(settings: &[&str]) -> Self {
        let broker = Broker::start().await;
        let mut config = Config::default();
        config.amqp.uris = vec![AmqpUri::new(broker.uri.clone())];
        let mut child = process::pinned(0, env!("CARGO_BIN_EXE_blockcast"))
            .args(["--set", "server.listen=127.0.0.1:0"])
            .args(["--set", "server.max_connections=15000"])
            .args(settings.iter().flat_map(|setting| ["--set", setting]))
            .arg("serve")
            .env("BLOCKCAST_AMQP__URIS", &broker.uri)
            .env("BLOCKCAST_LOG__FORMAT", "json")
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let mut lines = BufReader::new(child.stderr.take().expect("its log")).lines();
        let address: SocketAddr = loop {
            let line = lines.next().expect("it says where it listens").expect("read");
            let line: Value = serde_json::from_str(&line).expect("a JSON line");
            if let Some(address) = line["server"].as_str() {
                break address.parse().expect("an address");
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        eventually("the service is ready", async || is_ready(address).await).await;
        let publisher = Publisher::connect(&config.amqp).await.expect("connected");
        Self { address, child, publisher, _broker: broker }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub async fn publish(&self, body: Vec<u8>) {
        let confirm = self.publisher.publish(body).await.expect("published");
        confirm.wait().await.expect("confirmed");
    }

    /// Many under way at a time.
    pub async fn publish_all(&self, bodies: impl Iterator<Item = Vec<u8>>) {
        let mut confirms = std::collections::VecDeque::new();
        for body in bodies {
            confirms.push_back(self.publisher.publish(body).await.expect("published"));
            if confirms.len() > 256 {
                confirms.pop_front().expect("one").wait().await.expect("confirmed");
            }
        }
        for confirm in confirms {
            confirm.wait().await.expect("confirmed");
        }
    }

    /// Waits until the history's tip is at `height`.
    pub async fn reaches(&self, height: u64) {
        let line = format!("blockcast_block_height {height}");
        eventually("the tip", async || self.metrics().await.lines().any(|found| found == line))
            .await;
    }

    pub async fn metrics(&self) -> String {
        get(self.address, "/metrics").await.expect("an answer")
    }

    pub async fn stop(mut self) {
        self.publisher.close().await;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `count` blocks of `transactions` real transactions each.
pub fn bodies(transactions: usize, count: u64) -> Vec<Vec<u8>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/chain.ndjson");
    let chain = std::fs::read_to_string(path).expect("the real chain");
    let blocks = chain.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let all: Vec<Value> = blocks
        .flat_map(|block| block["transactions"].as_array().expect("a list").clone())
        .collect();
    let some = &all[..transactions];
    (1..=count)
        .map(|height| json!({ "height": height, "transactions": some }).to_string().into_bytes())
        .collect()
}

/// The bytes that each client gets for the newest of `bodies`.
pub fn frames_bytes(bodies: &[Vec<u8>]) -> usize {
    let rules = block::Rules {
        dialect: Dialect::Bigchaindb,
        body_bytes_max: usize::MAX,
        encoded_bytes_max: u64::MAX,
    };
    let newest = bodies.last().expect("a block");
    match block::decode(newest, &rules).expect("a real block") {
        Message::Block(block) => frame::encode(block, Dialect::Bigchaindb).events.len(),
        Message::MarkedInvalid => unreachable!("bug: no envelope was made"),
    }
}

async fn is_ready(address: SocketAddr) -> bool {
    get(address, "/health/ready").await.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// The whole answer, head and body.
async fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
