//! A replica in this process, on a port of its own, and what one asks it over HTTP.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use blockcast::bridge::{Bridge, BridgeError};
use blockcast::config::{AmqpUri, Config, Hold};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::broker::{Broker, unique};
use super::eventually::eventually;

pub struct Replica {
    pub address: SocketAddr,
    pub admin: Option<SocketAddr>,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), BridgeError>>,
}

/// An answer to a plain request.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

/// A configuration with names of its own on `broker` and quick ends.
pub fn config(broker: &Broker) -> Config {
    let mut config = Config::default();
    let name = unique("blocks");
    config.amqp.uris = vec![AmqpUri::new(broker.uri())];
    config.amqp.exchange = format!("{name}.exchange");
    config.amqp.dead_letter.exchange = Some(format!("{name}.dead"));
    config.amqp.queue.name = Some(name);
    config.blocks.hold = Hold::For(Duration::from_millis(300));
    config.server.listen = SocketAddr::from(([127, 0, 0, 1], 0)).into();
    config.server.drain_delay = Duration::ZERO;
    config.server.drain = Duration::ZERO;
    config
}

impl Replica {
    /// Starts a replica; it may still be warming.
    pub async fn start(config: &Config) -> Self {
        let bridge = Bridge::bind(config.clone()).await.expect("bound");
        let addresses = bridge.addresses();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(bridge.run(shutdown.clone()));
        Self { address: addresses.server, admin: addresses.admin, shutdown, task }
    }

    /// Starts a replica and waits until it takes clients.
    pub async fn start_ready(config: &Config) -> Self {
        let replica = Self::start(config).await;
        replica.ready().await;
        replica
    }

    pub async fn ready(&self) {
        eventually("the replica is ready", async || self.get("/health/ready").await.status == 200)
            .await;
    }

    pub fn url(&self, stream: &str) -> String {
        format!("ws://{}/api/v1/streams/{stream}", self.address)
    }

    pub async fn get(&self, path: &str) -> Answer {
        request(
            self.address,
            &format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address),
        )
        .await
    }

    pub async fn status(&self) -> Value {
        serde_json::from_str(&self.get("/api/v1/status").await.body).expect("the status is JSON")
    }

    /// One metric's value by its name and labels as the text has them.
    pub async fn metric(&self, name: &str) -> f64 {
        metric_in(&self.get("/metrics").await.body, name)
    }

    /// Tells the replica to end, without waiting for it.
    pub fn begin_stop(&self) {
        self.shutdown.cancel();
    }

    pub async fn stop(self) -> Result<(), BridgeError> {
        self.shutdown.cancel();
        self.ended().await
    }

    /// How the replica ended, by itself or told to.
    pub async fn ended(self) -> Result<(), BridgeError> {
        let ended = tokio::time::timeout(Duration::from_secs(30), self.task).await;
        ended.expect("the replica ends in time").expect("the replica did not panic")
    }
}

/// One metric's value by its name and labels as `text` has them.
pub fn metric_in(text: &str, name: &str) -> f64 {
    known_metric_in(text, name).unwrap_or_else(|| panic!("no {name} in\n{text}"))
}

/// The same of a metric that is absent before it has a value.
pub fn known_metric_in(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map(|value| value.parse().expect("a number"))
}

/// Sends `text` as it is and reads to the end of the stream.
pub async fn request(address: SocketAddr, text: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.write_all(text.as_bytes()).await.expect("written");
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
    read.expect("an answer in time").expect("read");
    parse(&String::from_utf8(answer).expect("text"))
}

fn parse(answer: &str) -> Answer {
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status line");
    let mut headers = BTreeMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        // Several lines are one list (RFC 9110 section 5.3).
        let told = headers.entry(name.to_lowercase()).or_insert_with(String::new);
        *told += if told.is_empty() { "" } else { ", " };
        *told += value;
    }
    let is_chunked = headers.get("transfer-encoding").is_some_and(|it| it == "chunked");
    let body = if is_chunked { unchunked(body) } else { body.to_owned() };
    Answer { status: status.parse().expect("a status"), headers, body }
}

/// RFC 9112 section 7.1, of bodies in ASCII.
fn unchunked(mut chunked: &str) -> String {
    let mut body = String::new();
    loop {
        let (bytes, rest) = chunked.split_once("\r\n").expect("a chunk's size");
        let bytes = usize::from_str_radix(bytes, 16).expect("hexadecimal");
        let (chunk, rest) = rest.split_at(bytes);
        if bytes == 0 {
            return body;
        }
        body += chunk;
        chunked = rest.strip_prefix("\r\n").expect("a chunk's end");
    }
}
