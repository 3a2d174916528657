//! This service beside others, in rounds that take turns, for clients and blocks of several sizes.
//!
//! A round connects a server's clients, lets them have some blocks in lockstep (the next when the
//! last client has the one before), and measures all but the first blocks. Servers that would take
//! minutes get fewer blocks or clients; their rows say so.

use std::iter::repeat_n;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{bail, ensure};

use super::broker::Broker;
use super::load::{Clients, connect_stalled};
use super::nchan::Nchan;
use super::node::Node;
use super::peer::Peer;
use super::process::{Measured, pin_to, quiet};
use super::service::Blockcast;
use super::table;
use super::tungstenite::Tungstenite;
use super::web_stomp::{Started, WebStomp};
use super::write_loop::WriteLoop;

const ROUNDS: usize = 3;
/// Has the one server that is measured; the other one has the rest, and the load client.
const MEASURED_CORE: usize = 0;
const RESTING_CORE: usize = 1;

/// Clients, and blocks for them.
pub struct Shape {
    pub clients: usize,
    pub transactions: usize,
    /// In a round, some seconds of the write loop.
    pub blocks: usize,
    /// Further clients, that never read.
    pub stalled: usize,
}

/// A server in the comparison for one shape.
pub struct Entrant {
    pub name: &'static str,
    /// Or why it is not there.
    peer: anyhow::Result<Box<dyn Peer>>,
    /// It may be absent.
    optional: bool,
    pub rounds: Vec<Round>,
}

/// What one server needed for one round.
pub struct Round {
    pub load: Shape,
    pub messages_per_second: f64,
    /// All its processes, per message, from one block's publication to the next one's; the median
    /// block. A burst of some other tenant of the machine multiplies a few blocks by three.
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
    /// Until the last client had a block, from the shortest to the longest.
    pub latencies: Vec<Duration>,
}

pub const SHAPES: [Shape; 4] = [
    Shape { clients: 1_000, transactions: 1_000, blocks: 20, stalled: 0 },
    Shape { clients: 4_000, transactions: 10, blocks: 60, stalled: 0 },
    Shape { clients: 15_000, transactions: 1, blocks: 20, stalled: 0 },
    Shape { clients: 100, transactions: 1_000, blocks: 150, stalled: 10 },
];

impl Shape {
    fn name(&self) -> String {
        format!("{}x{}", self.clients, self.transactions)
    }
}

impl Entrant {
    pub fn new<P: Peer + 'static>(name: &'static str, peer: anyhow::Result<P>) -> Self {
        let peer = peer.map(|peer| -> Box<dyn Peer> { Box::new(peer) });
        Self { name, peer, optional: false, rounds: Vec::new() }
    }

    fn optional(self) -> Self {
        Self { optional: true, ..self }
    }

    pub fn failure(&self) -> Option<&anyhow::Error> {
        self.peer.as_ref().err()
    }

    async fn take_turn(&mut self, shape: &Shape) {
        let Ok(peer) = &mut self.peer else { return };
        pin_to(MEASURED_CORE, &peer.pids());
        let round = round(peer.as_mut(), shape).await;
        self.rest();
        match round {
            Ok(round) => self.rounds.push(round),
            Err(failure) => self.peer = Err(failure),
        }
    }

    /// Out of the way of whoever is measured: a virtual machine is never quite idle.
    fn rest(&self) {
        if let Ok(peer) = &self.peer {
            pin_to(RESTING_CORE, &peer.pids());
        }
    }
}

pub fn is_shape(name: &str) -> bool {
    SHAPES.iter().any(|shape| shape.name() == name)
}

/// The write loop and this service alone, for the shapes that are named so, or for all.
pub async fn compare_two(named: &[String]) -> anyhow::Result<()> {
    let broker = Rc::new(Broker::start().await);
    table::print_head();
    for shape in chosen(named) {
        let name = format!("rounds-{}", shape.name());
        let [plain, _] = Blockcast::start(&broker, shape.transactions, &name, &[]).await;
        let entrants = vec![
            Entrant::new("plain `write()` loop", WriteLoop::start(shape.transactions)),
            Entrant::new("**Blockcast**", Ok(plain)),
        ];
        compare(&shape, entrants).await?;
    }
    Ok(())
}

/// All, for the shapes that are named so, or for all.
pub async fn compare_all(named: &[String]) -> anyhow::Result<()> {
    let broker = Rc::new(Broker::start().await);
    let web_stomp = Started::start().await.map(Rc::new);
    table::print_head();
    for (number, shape) in chosen(named).enumerate() {
        let transactions = shape.transactions;
        let web_stomp = match &web_stomp {
            Ok(started) => WebStomp::attach(started, transactions).await,
            Err(failure) => Err(anyhow::anyhow!("{failure}")),
        };
        let name = format!("blocks-{number}");
        let [plain, compressed] = Blockcast::start(&broker, transactions, &name, &[]).await;
        let node = Node::start(&broker.uri, &format!("node-{number}"), transactions).await;
        let entrants = vec![
            Entrant::new("plain `write()` loop", WriteLoop::start(transactions)),
            Entrant::new("tungstenite, `feed` and `flush`", Tungstenite::start(transactions)),
            Entrant::new("**Blockcast**", Ok(plain)),
            Entrant::new("**Blockcast**, permessage-deflate", Ok(compressed)),
            Entrant::new("Node, amqplib and ws", node).optional(),
            Entrant::new("nchan", Nchan::start(transactions).await).optional(),
            Entrant::new("RabbitMQ Web-STOMP", web_stomp).optional(),
        ];
        compare(&shape, entrants).await?;
    }
    Ok(())
}

fn chosen(named: &[String]) -> impl Iterator<Item = Shape> {
    let is_chosen = |shape: &Shape| named.is_empty() || named.contains(&shape.name());
    SHAPES.into_iter().filter(is_chosen)
}

/// # Errors
/// One that must be there failed, such as by a wrong count; the others' rows are printed.
pub async fn compare(shape: &Shape, mut entrants: Vec<Entrant>) -> anyhow::Result<()> {
    entrants.iter().for_each(Entrant::rest);
    for first in 0..ROUNDS {
        // Each round begins with another one: nobody always has the same one before.
        for turn in 0..entrants.len() {
            let turn = (first + turn) % entrants.len();
            entrants[turn].take_turn(shape).await;
        }
    }
    table::print(shape, &entrants);
    for entrant in &entrants {
        if let (false, Some(failure)) = (entrant.optional, entrant.failure()) {
            bail!("{}: {failure:#}", entrant.name);
        }
    }
    Ok(())
}

async fn round(peer: &mut dyn Peer, shape: &Shape) -> anyhow::Result<Round> {
    let bounds = peer.bounds();
    let clients_count = shape.clients.min(bounds.clients);
    let block_messages = clients_count * shape.transactions;
    let load = Shape {
        clients: clients_count,
        transactions: shape.transactions,
        blocks: (bounds.messages / block_messages).clamp(1, shape.blocks),
        stalled: if bounds.takes_stalled { shape.stalled } else { 0 },
    };
    let greeting = peer.greeting();
    let stalled = connect_stalled(peer.address(), &greeting, load.stalled).await?;
    let mut clients = Clients::connect(peer.address(), repeat_n(greeting, load.clients)).await?;
    for _ in 0..bounds.warm_up {
        clients.all_have(load.transactions, peer.send()).await?;
    }
    let measured = Measured::begin(peer.pids());
    let (mut latencies, mut cpu_seconds) = (Vec::new(), Vec::new());
    let mut cpu_before = 0.0;
    for _ in 0..load.blocks {
        latencies.push(clients.all_have(load.transactions, peer.send()).await?);
        let (cpu_so_far, _) = measured.so_far();
        cpu_seconds.push(cpu_so_far - cpu_before);
        cpu_before = cpu_so_far;
    }
    latencies.sort();
    let cpu_seconds = table::median(cpu_seconds.into_iter());
    let (_, wall_seconds) = measured.so_far();
    let resident_bytes = measured.resident_bytes();
    // Saying goodbye to the clients is not the next one's cost.
    drop((clients, stalled));
    peer.forget_clients()?;
    quiet(&measured).await;
    let messages = (load.blocks * block_messages) as f64;
    ensure!(cpu_seconds > 0.0, "too short to be measured");
    Ok(Round {
        load,
        messages_per_second: messages / wall_seconds,
        cpu_seconds: cpu_seconds / block_messages as f64,
        resident_bytes,
        latencies,
    })
}
