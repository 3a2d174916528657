//! Clients that come and go: whatever they asked for, wherever they were cut, on whichever of two
//! replicas they went on, and whichever of these was made anew meanwhile, what they received, joined
//! at their cursors, is a plain filter over the chain. Nothing twice, and nothing missing but what
//! they were told as a gap.

use std::collections::BTreeSet;

use fastrand::Rng;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::support::broker::Broker;
use crate::support::chain::publish;
use crate::support::client::Client;
use crate::support::eventually::eventually;
use crate::support::replica::{Replica, config};

const ROUNDS: usize = 12;
const BLOCKS_PER_ROUND: u64 = 10;
const CLIENTS: usize = 10;
const KEYS: [&str; 3] = [
    "DJgnirZfikN3zr2pW9yTFM39t8EbTPZ9oSZjf3pRYHEa",
    "EdQy52gnioDHns8BZMS8E9UG8NYD2BYeeJKTfrahSaK8",
    "Bz7TAYPtk7ruDonue7kswQLWPsCaBqk3k6Kb7D9xRdjY",
];

/// A transaction of the chain.
#[derive(Debug, Clone)]
struct Transaction {
    id: String,
    operation: &'static str,
    owners: Vec<&'static str>,
    spent_by: Option<&'static str>,
}

#[derive(Debug, Clone)]
struct Block {
    height: u64,
    transactions: Vec<Transaction>,
}

/// One client through all its connections.
struct Visitor {
    public_key: Option<&'static str>,
    operation: Option<&'static str>,
    is_batch: bool,
    has_control: bool,
    /// The query's start.
    start: String,
    /// Height and id of each event received.
    received: Vec<(u64, String)>,
    gaps: BTreeSet<u64>,
    connections: usize,
}

impl Transaction {
    fn random(random: &mut Rng) -> Self {
        let operation = *random.choice(&["CREATE", "TRANSFER"]).expect("one");
        let owners = KEYS.into_iter().filter(|_| random.u8(0..3) == 0).collect();
        let spent_by = random.bool().then(|| *random.choice(&KEYS).expect("one"));
        let id = format!("{:032x}{:032x}", random.u128(..), random.u128(..));
        Self { id, operation, owners, spent_by }
    }

    fn json(&self) -> Value {
        json!({
            "id": self.id,
            "operation": self.operation,
            "asset": { "data": null },
            "inputs": [{ "owners_before": self.spent_by.as_slice() }],
            "outputs": [{ "public_keys": self.owners }],
        })
    }
}

impl Block {
    fn random(height: u64, random: &mut Rng) -> Self {
        let count = if random.u8(0..4) == 0 { 0 } else { random.usize(1..8) };
        let transactions = (0..count).map(|_| Transaction::random(random)).collect();
        Self { height, transactions }
    }

    fn body(&self) -> Vec<u8> {
        let transactions: Vec<_> = self.transactions.iter().map(Transaction::json).collect();
        json!({ "height": self.height, "transactions": transactions }).to_string().into_bytes()
    }
}

impl Visitor {
    fn random(random: &mut Rng) -> Self {
        Self {
            public_key: random.bool().then(|| *random.choice(&KEYS).expect("one")),
            operation: random.bool().then_some("TRANSFER"),
            is_batch: random.bool(),
            has_control: random.bool(),
            start: "from_height=1".into(),
            received: Vec::new(),
            gaps: BTreeSet::new(),
            connections: 0,
        }
    }

    fn is_filtered(&self) -> bool {
        self.public_key.is_some() || self.operation.is_some()
    }

    fn wants(&self, transaction: &Transaction) -> bool {
        self.public_key.is_none_or(|key| transaction.owners.contains(&key))
            && self.operation.is_none_or(|operation| transaction.operation == operation)
    }

    fn url(&self, replica: &Replica, until_height: u64) -> String {
        let mut url = replica.url("valid_transactions");
        url.push_str(&format!("?{}&until_height={until_height}", self.start));
        let options = [
            self.public_key.map(|key| format!("public_key={key}")),
            self.operation.map(|operation| format!("operation={operation}")),
            self.is_batch.then(|| "batch=block".into()),
            self.has_control.then(|| "control=true".into()),
        ];
        options.into_iter().flatten().for_each(|option| url.push_str(&format!("&{option}")));
        url
    }

    /// Reads up to `messages_max` messages, or to the end, and remembers where it was.
    async fn visit(&mut self, url: &str, until_height: u64, messages_max: usize, random: &mut Rng) {
        let mut client = Client::connect(url).await;
        self.connections += 1;
        for _ in 0..messages_max {
            match client.message().await {
                Ok(Message::Text(text)) => {
                    let message = serde_json::from_str(&text).expect("JSON");
                    self.take(&message, random);
                }
                Ok(Message::Close(Some(frame))) => {
                    assert_eq!(u16::from(frame.code), 1000, "{}: {}", url, frame.reason);
                    self.start = format!("after={until_height}");
                    return;
                }
                Err(Error::ConnectionClosed) => panic!("{url}: no close"),
                other => panic!("{url}: {other:?}"),
            }
        }
    }

    fn take(&mut self, message: &Value, random: &mut Rng) {
        let number = |key: &str| message[key].as_u64().expect("a number");
        let place = match message["type"].as_str() {
            Some("position" | "filled") => return,
            Some("block" | "heartbeat") => number("height").to_string(),
            Some("gap") => {
                self.gaps.extend(number("from_height")..=number("to_height"));
                number("to_height").to_string()
            }
            Some(other) => panic!("{other}"),
            None => match message["events"].as_array() {
                Some(events) => {
                    events.iter().for_each(|event| self.take_event(event));
                    number("height").to_string()
                }
                None => {
                    self.take_event(message);
                    self.place_of_last(random)
                }
            },
        };
        self.start = format!("after={place}");
    }

    fn take_event(&mut self, event: &Value) {
        let id = event["transaction_id"].as_str().expect("an id");
        self.received.push((event["height"].as_u64().expect("a height"), id.to_owned()));
    }

    /// Behind the last event, by its index where that is known, else by its id.
    fn place_of_last(&self, random: &mut Rng) -> String {
        let (height, id) = self.received.last().expect("an event");
        let of_block = self.received.iter().filter(|(other, _)| other == height).count();
        match !self.is_filtered() && random.bool() {
            true => format!("{height}.{}", of_block - 1),
            false => format!("{height}.{id}"),
        }
    }

    /// Compares with the chain; `ever_missing` were gaps for a while.
    fn check(&self, chain: &[Block], ever_missing: &BTreeSet<u64>, seed: u64) {
        assert!(self.gaps.is_subset(ever_missing), "seed {seed}: gaps that were none");
        // Without control messages a client is not told of gaps.
        let heights: BTreeSet<u64> = self.received.iter().map(|(height, _)| *height).collect();
        let is_told = |height: &u64| match self.has_control {
            true => self.gaps.contains(height),
            false => ever_missing.contains(height) && !heights.contains(height),
        };
        let blocks = chain.iter().filter(|block| !is_told(&block.height));
        let expected: Vec<_> = blocks
            .flat_map(|block| {
                let wanted = block.transactions.iter().filter(|one| self.wants(one));
                wanted.map(|one| (block.height, one.id.clone()))
            })
            .collect();
        assert_eq!(self.received, expected, "seed {seed}, {} connections", self.connections);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_received_joined_at_its_cursors_is_a_filter_over_the_chain() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = Rng::with_seed(seed);
    let config = config(Broker::shared());
    let mut replicas = [Replica::start_ready(&config).await, Replica::start_ready(&config).await];
    let mut visitors: Vec<_> = (0..CLIENTS).map(|_| Visitor::random(&mut random)).collect();
    let (mut chain, mut ever_missing, mut missing) = (Vec::new(), BTreeSet::new(), Vec::new());
    for round in 0..ROUNDS {
        let first = round as u64 * BLOCKS_PER_ROUND + 1;
        let tip = first + BLOCKS_PER_ROUND - 1;
        let blocks: Vec<_> =
            (first..=tip).map(|height| Block::random(height, &mut random)).collect();
        // A height in the middle that comes late, if at all: some wait for the test's end.
        let late = (random.u8(0..3) == 0).then(|| random.u64(first + 1..tip));
        ever_missing.extend(late);
        let (held, sent): (Vec<_>, Vec<_>) =
            blocks.iter().cloned().partition(|block| Some(block.height) == late);
        chain.extend(blocks);
        missing.extend(held);
        publish(&config, sent.iter().map(Block::body)).await;
        for replica in &replicas {
            eventually("the tip is there", async || replica.status().await["tip_height"] == tip)
                .await;
        }
        for visitor in &mut visitors {
            while random.u8(0..3) > 0 {
                let url = visitor.url(random.choice(&replicas).expect("one"), tip);
                let messages_max = random.usize(0..40);
                visitor.visit(&url, tip, messages_max, &mut random).await;
            }
        }
        if random.bool() {
            let late: Vec<_> = std::mem::take(&mut missing);
            publish(&config, late.iter().map(Block::body)).await;
            for replica in &replicas {
                eventually("all gaps are filled", async || {
                    replica.status().await["gaps"] == json!([])
                })
                .await;
            }
        }
        if random.u8(0..3) == 0 {
            let place = random.usize(0..2);
            let fresh = Replica::start_ready(&config).await;
            std::mem::replace(&mut replicas[place], fresh).stop().await.expect("drained");
        }
    }
    let tip = chain.last().expect("a tip").height;
    publish(&config, missing.iter().map(Block::body)).await;
    for visitor in &mut visitors {
        while visitor.start != format!("after={tip}") {
            let url = visitor.url(random.choice(&replicas).expect("one"), tip);
            visitor.visit(&url, tip, random.usize(1..200), &mut random).await;
        }
        visitor.check(&chain, &ever_missing, seed);
    }
    assert!(visitors.iter().any(|visitor| visitor.connections > 5), "seed {seed}: no cuts");
    for replica in replicas {
        replica.stop().await.expect("drained");
    }
}
