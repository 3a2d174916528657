//! From a message body to a block's frames, on one core: how many transactions a second.
//!
//! Bodies are those of the recorded chain, and one block of 1,000 of its transactions. Every round
//! is checked by what it counted; the time decides nothing.

#![expect(clippy::print_stdout, reason = "what a bench is for")]
#![expect(clippy::disallowed_methods, reason = "the file is the recorded chain")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use blockcast::block::{Block, DecodeRules, Decoded, decode};
use blockcast::config::{Dialect, Heights, Hold};
use blockcast::frame::{Encoding, encode, encode_as};
use blockcast::sequence::{self, OfferedBlock, SequenceStart, Sequencer, Step};

const ROUNDS: usize = 9;
/// A round is about a fifth of a second.
const ROUND_BYTES: usize = 200_000_000;
const BIG_BLOCK_TRANSACTIONS: usize = 1_000;

const RULES: DecodeRules = DecodeRules {
    dialect: Dialect::Bigchaindb,
    body_bytes_max: 16 << 20,
    encoded_bytes_max: 64 << 20,
};

/// A sequencer that is offered block after block, whatever heights they say.
struct Order {
    sequencer: Sequencer<Block>,
    next_height: u64,
    steps: Vec<Step<Block>>,
}

/// Message bodies, and how many transactions are in them.
struct Bodies {
    name: &'static str,
    bodies: Vec<Vec<u8>>,
    transactions: usize,
}

fn main() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/chain.ndjson");
    let chain = std::fs::read_to_string(path).expect("the recorded chain is there");
    for bodies in [recorded(&chain), big_block(&chain)] {
        bodies.measure("decode", |body| block_of(body).fields.len());
        let mut order = Order::new();
        bodies.measure("decode, sequence, encode", |body| {
            let block = order.put(block_of(body));
            black_box(encode(block, RULES.dialect)).events_len()
        });
        bodies.measure("the same, and compress", |body| {
            let encoded = encode(order.put(block_of(body)), RULES.dialect);
            black_box(encode_as(&encoded, Encoding::DeflateEvents));
            encoded.events_len()
        });
    }
    let [events, batches] = compressed(&recorded(&chain));
    println!(
        "permessage-deflate leaves {events:.2} of the recorded chain's events, {batches:.2} with batch=block"
    );
}

/// What compression leaves of the plain bytes: of events, and of the same in batches.
fn compressed(bodies: &Bodies) -> [f64; 2] {
    let mut order = Order::new();
    let blocks = bodies.bodies.iter().map(|body| encode(order.put(block_of(body)), RULES.dialect));
    let blocks: Vec<_> = blocks.collect();
    let bytes = |encoding| -> usize {
        blocks.iter().map(|block| encode_as(block, encoding).bytes.len()).sum()
    };
    let events: usize = blocks.iter().map(|block| block.events.len()).sum();
    let ratio = |encoding, plain: usize| bytes(encoding) as f64 / plain as f64;
    [ratio(Encoding::DeflateEvents, events), ratio(Encoding::DeflateBatch, bytes(Encoding::Batch))]
}

fn recorded(chain: &str) -> Bodies {
    let bodies: Vec<Vec<u8>> = chain.lines().map(|line| line.as_bytes().to_vec()).collect();
    let transactions = transactions_of(chain).len();
    Bodies { name: "recorded chain", bodies, transactions }
}

fn big_block(chain: &str) -> Bodies {
    let transactions = transactions_of(chain);
    let texts: Vec<&str> = transactions.iter().map(String::as_str).collect();
    let texts = &texts[..BIG_BLOCK_TRANSACTIONS];
    let body = format!("{{\"height\": 1, \"transactions\": [{}]}}", texts.join(", "));
    Bodies {
        name: "block of 1,000",
        bodies: vec![body.into_bytes()],
        transactions: BIG_BLOCK_TRANSACTIONS,
    }
}

/// The chain's transactions as they stand in it.
fn transactions_of(chain: &str) -> Vec<String> {
    #[derive(serde::Deserialize)]
    struct Line {
        transactions: Vec<Box<serde_json::value::RawValue>>,
    }
    let lines = chain.lines().map(|line| serde_json::from_str::<Line>(line).expect("a block"));
    lines.flat_map(|line| line.transactions).map(|raw| raw.get().to_owned()).collect()
}

fn block_of(body: &[u8]) -> Block {
    match decode(body, &RULES) {
        Ok(Decoded::Block(block)) => block,
        other => panic!("not a block: {other:?}"),
    }
}

impl Order {
    fn new() -> Self {
        let hold = Hold::For(Duration::from_secs(1));
        let rules = sequence::SequenceRules {
            heights: Heights::Dense,
            hold,
            hold_bytes: 64 << 20,
            jump_max: 1_000,
            doubt: None,
        };
        let sequencer = Sequencer::new(rules, SequenceStart::AtFirstMessage);
        Self { sequencer, next_height: 1, steps: Vec::new() }
    }

    fn put(&mut self, mut block: Block) -> Block {
        let height = self.next_height;
        block.height = height;
        self.next_height += 1;
        let (content, bytes) = (block.content(), block.bytes() as u64);
        let offer = OfferedBlock { height, content, bytes, item: block };
        self.sequencer.offer(offer, Instant::now(), &mut self.steps);
        self.sequencer.forget_below(height.saturating_sub(1_000));
        match self.steps.pop() {
            Some(Step::Publish { item, .. }) if self.steps.is_empty() => item,
            step => panic!("the next height was not published: {step:?}"),
        }
    }
}

impl Bodies {
    /// Prints the median round of `step`, which yields how many transactions it saw in a body.
    fn measure(&self, step_name: &str, mut step: impl FnMut(&[u8]) -> usize) {
        let bytes: usize = self.bodies.iter().map(Vec::len).sum();
        let repeats = ROUND_BYTES.div_ceil(bytes);
        let mut seconds: Vec<f64> = (0..=ROUNDS)
            .map(|_| {
                let start = Instant::now();
                let bodies = std::iter::repeat_n(&self.bodies, repeats).flatten();
                let seen: usize = bodies.map(|body| step(black_box(body))).sum();
                assert_eq!(seen, self.transactions * repeats, "transactions were lost or made up");
                start.elapsed().as_secs_f64()
            })
            .skip(1) // the first warms up
            .collect();
        seconds.sort_unstable_by(f64::total_cmp);
        let median = seconds[ROUNDS / 2];
        let rate = (self.transactions * repeats) as f64 / median;
        let megabytes = (bytes * repeats) as f64 / median / 1e6;
        println!("{:15} {step_name:24} {rate:9.0} transactions/s {megabytes:5.0} MB/s", self.name);
    }
}
