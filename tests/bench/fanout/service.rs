//! The service under test, as operators run it: the release binary with a real broker before it.

use std::cell::RefCell;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::rc::Rc;

use blockcast::amqp::Publisher;
use blockcast::config::{AmqpUri, Config};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use serde_json::Value;

use super::blocks::Blocks;
use super::broker::Broker;
use super::eventually::eventually;
use super::load::Greeting;
use super::peer::Peer;
use super::process;

pub const STREAM: &str = "/api/v1/streams/valid_transactions";

pub struct Service {
    pub address: SocketAddr,
    /// Where it is asked about itself.
    asked_at: SocketAddr,
    child: Child,
    publisher: Publisher,
    broker: Rc<Broker>,
    queue: String,
}

/// The service beside others, for clients that offer compression or do not.
pub struct Blockcast {
    service: Rc<Service>,
    blocks: Rc<RefCell<Blocks>>,
    greeting: Greeting,
}

impl Service {
    /// Before a broker of its own, with these keys set beside those that every bench needs.
    pub async fn start_with(settings: &[&str]) -> Self {
        Self::start_on(&Rc::new(Broker::start().await), "blocks", settings).await
    }

    /// Before a broker that others use too: exchange and queue have this name.
    pub async fn start_on(broker: &Rc<Broker>, name: &str, settings: &[&str]) -> Self {
        let mut config = Config::default();
        config.amqp.uris = vec![AmqpUri::new(broker.uri.clone())];
        config.amqp.exchange = name.to_owned();
        config.amqp.queue.name = Some(name.to_owned());
        let mut child = process::pinned(0, env!("CARGO_BIN_EXE_blockcast"))
            .args(["--set", "server.listen=127.0.0.1:0"])
            .args(["--set", "server.max_connections=15000"])
            .args(["--set", &format!("amqp.exchange={name}")])
            .args(["--set", &format!("amqp.queue.name={name}")])
            .args(settings.iter().flat_map(|setting| ["--set", setting]))
            .arg("serve")
            .env("BLOCKCAST_AMQP__URIS", &broker.uri)
            .env("BLOCKCAST_LOG__FORMAT", "json")
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let mut lines = BufReader::new(child.stderr.take().expect("its log")).lines();
        let [address, asked_at]: [SocketAddr; 2] = loop {
            let line = lines.next().expect("it says where it listens").expect("read");
            let line: Value = serde_json::from_str(&line).expect("a JSON line");
            if let Some(address) = line["server"].as_str() {
                let admin = line["admin"].as_str().unwrap_or(address);
                break [address, admin].map(|address| address.parse().expect("an address"));
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        eventually("the service is ready", async || is_ready(asked_at).await).await;
        let publisher = Publisher::connect(&config.amqp).await.expect("connected");
        let (broker, queue) = (Rc::clone(broker), name.to_owned());
        Self { address, asked_at, child, publisher, broker, queue }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn broker_uri(&self) -> &str {
        &self.broker.uri
    }

    /// The RabbitMQ stream that it reads.
    pub fn queue(&self) -> &str {
        &self.queue
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
        get(self.asked_at, "/metrics").await.expect("an answer")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Blockcast {
    /// One process: for plain clients, and for those that offer compression.
    pub async fn start(
        broker: &Rc<Broker>,
        transactions: usize,
        name: &str,
        settings: &[&str],
    ) -> [Self; 2] {
        let service = Rc::new(Service::start_on(broker, name, settings).await);
        let blocks = Rc::new(RefCell::new(Blocks::of(transactions)));
        let headers =
            "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n";
        let plain = Greeting::to(STREAM);
        let compressed = Greeting { headers, answer: "permessage-deflate", ..plain.clone() };
        [plain, compressed].map(|greeting| Self {
            service: Rc::clone(&service),
            blocks: Rc::clone(&blocks),
            greeting,
        })
    }

    /// One process for clients that speak TLS.
    pub fn over_tls(service: &Rc<Service>, transactions: usize, greeting: Greeting) -> Self {
        let (service, blocks) = (Rc::clone(service), RefCell::new(Blocks::of(transactions)));
        Self { service, blocks: Rc::new(blocks), greeting }
    }
}

impl Peer for Blockcast {
    fn pids(&self) -> Vec<u32> {
        vec![self.service.pid()]
    }

    fn address(&self) -> SocketAddr {
        self.service.address
    }

    fn greeting(&self) -> Greeting {
        self.greeting.clone()
    }

    fn send(&mut self) -> LocalBoxFuture<'_, anyhow::Result<()>> {
        let body = self.blocks.borrow_mut().next().expect("a block");
        async {
            self.service.publish(body).await;
            Ok(())
        }
        .boxed_local()
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
