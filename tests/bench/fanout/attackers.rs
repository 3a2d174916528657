//! What clients cost others by what they ask for: an honest client's time from a block's publication to its
//! last byte, alone and beside such clients, on blocks of the same size.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::broker::Broker;
use super::load::{Clients, Greeting, connect_stalled};
use super::service::{STREAM, Service};

/// Owns every transaction of these blocks.
const KEY: &str = "DJgnirZfikN3zr2pW9yTFM39t8EbTPZ9oSZjf3pRYHEa";
/// Between two blocks of a run.
const EVERY: Duration = Duration::from_millis(50);
const DEFLATE: &str =
    "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n";
/// Forms of a block's bytes that clients ask for: the query, and header lines.
const FORMS: [(&str, &str); 11] = [
    ("?batch=block", ""),
    ("?control=true", ""),
    ("?operation=CREATE", ""),
    ("?batch=block", DEFLATE),
    ("", "Accept: text/event-stream\r\n"),
    ("?limit=1000000000", "Accept: text/event-stream\r\n"),
    ("?batch=block", "Accept: text/event-stream\r\n"),
    ("?control=true", "Accept: text/event-stream\r\n"),
    ("", "Accept: text/event-stream\r\nAccept-Encoding: gzip\r\n"),
    ("?limit=1000000000", "Accept: text/event-stream\r\nAccept-Encoding: gzip\r\n"),
    ("?batch=block", "Accept: text/event-stream\r\nAccept-Encoding: gzip\r\n"),
];
/// Blocks that are published first. Memory holds some hundred of them, and the RabbitMQ stream holds all.
const DEEP_BLOCKS: u64 = 20_000;
/// What a client that comes and goes reads before it resets its connection.
const READ_BYTES: usize = 100;

/// One kind of attack, and what it was measured on.
struct Attack {
    name: &'static str,
    transactions: u64,
    blocks: u64,
    settings: &'static [&'static str],
    /// Published before the honest client comes.
    before: u64,
    /// Header lines of the honest client.
    honest: &'static str,
    begin: fn(SocketAddr, &mut JoinSet<anyhow::Result<()>>),
}

pub struct Cost {
    pub name: &'static str,
    pub transactions: u64,
    pub alone: Times,
    pub beside: Times,
}

/// From a block's publication to its last byte.
#[derive(Clone, Copy)]
pub struct Times {
    pub p50: Duration,
    pub p99: Duration,
}

/// So little memory that it holds some hundred of the blocks that are published first.
const DEEP: &[&str] = &["history.max_bytes=900kB", "blocks.max_bytes=64KiB"];

const ATTACKS: [Attack; 8] = [
    Attack {
        name: "20 that never read, with two parameters and 99 values",
        transactions: 1_000,
        blocks: 100,
        settings: &[],
        before: 0,
        honest: "",
        begin: stalled_filters,
    },
    Attack {
        name: "the same",
        transactions: 10_000,
        blocks: 20,
        settings: &[],
        before: 0,
        honest: "",
        begin: stalled_filters,
    },
    Attack {
        name: "4 that read all of it (no attack: what sharing a core comes to)",
        transactions: 20_000,
        blocks: 20,
        settings: &[],
        before: 0,
        honest: "",
        begin: plain_readers,
    },
    Attack {
        name: "4 that read batches put together for them",
        transactions: 20_000,
        blocks: 20,
        settings: &[],
        before: 0,
        honest: "",
        begin: own_batches,
    },
    Attack {
        name: "4 that connect, ask for the first block and reset, all the time",
        transactions: 1,
        blocks: 100,
        settings: DEEP,
        before: DEEP_BLOCKS,
        honest: "",
        begin: come_and_go_deep,
    },
    Attack {
        name: "4 that connect, ask for one form after the other and reset",
        transactions: 1_000,
        blocks: 100,
        settings: &[],
        before: 0,
        honest: "",
        begin: come_and_go_in_forms,
    },
    Attack {
        name: "11 of other forms, beside one that offers compression",
        transactions: 1_000,
        blocks: 100,
        settings: &[],
        before: 0,
        honest: DEFLATE,
        begin: other_forms,
    },
    Attack {
        name: "the same",
        transactions: 10_000,
        blocks: 20,
        settings: &[],
        before: 0,
        honest: DEFLATE,
        begin: other_forms,
    },
];

pub async fn measure() -> anyhow::Result<Vec<Cost>> {
    let broker = Rc::new(Broker::start().await);
    let mut costs = Vec::new();
    for (number, attack) in ATTACKS.iter().enumerate() {
        costs.push(attack.measure(&broker, &format!("attack-{number}")).await?);
    }
    Ok(costs)
}

impl Attack {
    async fn measure(&self, broker: &Rc<Broker>, name: &str) -> anyhow::Result<Cost> {
        let service = Service::start_on(broker, name, self.settings).await;
        service.publish_all((1..=self.before).map(|height| body(height, 1))).await;
        if self.before > 0 {
            service.reaches(self.before).await;
        }
        let mut height = self.before;
        let alone = self.run(&service, &mut height).await?;
        let mut attackers = JoinSet::new();
        (self.begin)(service.address, &mut attackers);
        let beside = self.run(&service, &mut height).await?;
        // They go on for as long as it takes.
        if let Some(ended) = attackers.try_join_next() {
            ended??;
        }
        Ok(Cost { name: self.name, transactions: self.transactions, alone, beside })
    }

    async fn run(&self, service: &Service, height: &mut u64) -> anyhow::Result<Times> {
        let greeting = Greeting { headers: self.honest, ..Greeting::to(STREAM) };
        let mut honest = Clients::connect(service.address, [greeting]).await?;
        let mut times = Vec::new();
        let mut due = tokio::time::interval(EVERY);
        due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for number in 0..self.blocks + 2 {
            due.tick().await;
            *height += 1;
            let block = body(*height, self.transactions);
            let sending = async {
                service.publish(block).await;
                Ok(())
            };
            let time = honest.all_have(self.transactions as usize, sending).await?;
            // The first ones warm everything up.
            if number >= 2 {
                times.push(time);
            }
        }
        times.sort();
        let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
        Ok(Times { p50: at(0.5), p99: at(0.99) })
    }
}

fn body(height: u64, transactions: u64) -> Vec<u8> {
    let transaction = |number: u64| {
        let id = height << 32 | number;
        format!(
            r#"{{"id":"{id:064x}","operation":"CREATE","outputs":[{{"public_keys":["{KEY}"]}}]}}"#
        )
    };
    let transactions = (0..transactions).map(transaction).collect::<Vec<_>>().join(",");
    format!(r#"{{"height":{height},"transactions":[{transactions}]}}"#).into_bytes()
}

fn stalled_filters(address: SocketAddr, attackers: &mut JoinSet<anyhow::Result<()>>) {
    let others = (0..98).map(|number| format!("&operation=O{number}")).collect::<String>();
    let path = format!("{STREAM}?public_key={KEY}{others}&operation=CREATE");
    attackers.spawn(async move {
        let _stalled = connect_stalled(address, &Greeting::to(&path), 20).await?;
        std::future::pending().await
    });
}

fn plain_readers(address: SocketAddr, attackers: &mut JoinSet<anyhow::Result<()>>) {
    for _ in 0..4 {
        attackers.spawn(read_for_ever(address, "", ""));
    }
}

fn own_batches(address: SocketAddr, attackers: &mut JoinSet<anyhow::Result<()>>) {
    for _ in 0..4 {
        attackers.spawn(read_for_ever(address, "?operation=CREATE&batch=block", ""));
    }
}

fn other_forms(address: SocketAddr, attackers: &mut JoinSet<anyhow::Result<()>>) {
    for (query, headers) in FORMS {
        attackers.spawn(read_for_ever(address, query, headers));
    }
}

fn come_and_go_deep(address: SocketAddr, attackers: &mut JoinSet<anyhow::Result<()>>) {
    for _ in 0..4 {
        attackers.spawn(async move {
            loop {
                come_and_go(address, "?from_height=1", "").await?;
            }
        });
    }
}

fn come_and_go_in_forms(address: SocketAddr, attackers: &mut JoinSet<anyhow::Result<()>>) {
    for first in 0..4 {
        attackers.spawn(async move {
            for (query, headers) in FORMS.into_iter().cycle().skip(first * 3) {
                let query = format!(
                    "{query}{}from_height=oldest",
                    if query.is_empty() { "?" } else { "&" }
                );
                come_and_go(address, &query, headers).await?;
            }
            Ok(())
        });
    }
}

/// A client that reads as fast as it can, and throws away what it reads.
async fn read_for_ever(address: SocketAddr, query: &str, headers: &str) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    ask(&mut stream, query, headers).await?;
    let mut bytes = vec![0; 256 * 1_024];
    loop {
        ensure!(stream.read(&mut bytes).await? > 0, "it was cut: {query} {headers}");
    }
}

async fn come_and_go(address: SocketAddr, query: &str, headers: &str) -> anyhow::Result<()> {
    let began_at = Instant::now();
    let socket = TcpSocket::new_v4()?;
    let mut stream = socket.connect(address).await?;
    ask(&mut stream, query, headers).await?;
    let mut bytes = [0; READ_BYTES];
    // One that the server has no place for is answered and closed, which is as good here.
    let _ = stream.read(&mut bytes).await;
    stream.set_zero_linger()?;
    drop(stream);
    // Some hundred a second of each, not all that this core can do: the honest client shares it.
    tokio::time::sleep_until((began_at + Duration::from_millis(3)).into()).await;
    Ok(())
}

async fn ask(stream: &mut TcpStream, query: &str, headers: &str) -> anyhow::Result<()> {
    let upgrade = match headers.contains("event-stream") {
        true => "Host: x\r\n",
        false => super::load::UPGRADE,
    };
    let request = format!("GET {STREAM}{query} HTTP/1.1\r\n{upgrade}{headers}\r\n");
    Ok(stream.write_all(request.as_bytes()).await?)
}
