//! What is published, and what of it the replica is handed over, in which order.

use std::time::Duration;

use tokio::time::Instant;

use super::World;
use crate::amqp::{Delivery, Input};
use crate::simulation::chain::Chain;

/// What the broker has.
#[derive(Debug, Clone)]
pub enum Queued {
    Begin,
    CaughtUp,
    Anew,
    Block {
        chain: usize,
        height: u64,
    },
    /// What must not show anywhere.
    Noise(Vec<u8>),
}

/// What the pipeline is about to take.
#[derive(Debug)]
pub enum Sent {
    Block { chain: usize, height: u64, hold: Duration },
    Other,
}

const QUEUED_MAX: usize = 60;
/// Blocks that must be there before heights far off are mistakes.
const VOUCHED: usize = 5;

impl World {
    /// A new chain is read from its first message on.
    pub(super) fn begin_chain(&mut self) {
        self.chains.push(Chain::new(self.chains.len() as u64 + 1));
        self.next_height = self.random.u64(0..30);
        self.missing.clear();
        self.queue.push_back(Queued::Begin);
        let stored = self.random.u8(0..10);
        for _ in 0..stored {
            self.publish();
        }
        self.queue.push_back(Queued::CaughtUp);
    }

    /// The next block, or what a producer makes of it.
    pub(super) fn publish(&mut self) {
        if self.queue.len() >= QUEUED_MAX {
            return;
        }
        let height = self.next_height;
        self.next_height += 1;
        match self.random.u8(0..40) {
            0 => self.missing.push(height),
            1 => {
                let more = self.random.u64(1..6);
                self.missing.extend(height..=height + more);
                self.next_height += more;
            }
            2..7 => {
                // Behind by a little: those after it overtake it.
                self.queue_block(height);
                let mut at = self.queue.len() - 1;
                for _ in 0..self.random.u8(1..5) {
                    let is_block = |queued: &Queued| matches!(queued, Queued::Block { .. });
                    if at == 0 || !is_block(&self.queue[at - 1]) {
                        break;
                    }
                    self.queue.swap(at - 1, at);
                    at -= 1;
                }
            }
            7..10 => {
                self.queue_block(height);
                self.queue_block(height);
            }
            _ => self.queue_block(height),
        }
    }

    /// A block that was missing is published after all, or one that was not is again.
    pub(super) fn fill(&mut self) {
        if self.queue.len() >= QUEUED_MAX {
            return;
        }
        if self.missing.is_empty() || self.random.u8(0..4) == 0 {
            let back = self.random.u64(1..40);
            if let Some(height) = self.next_height.checked_sub(back)
                && !self.missing.contains(&height)
            {
                self.queue_block(height);
            }
            return;
        }
        let at = self.random.usize(0..self.missing.len());
        let height = self.missing.swap_remove(at);
        self.queue_block(height);
    }

    /// Something comes that is no block of this chain.
    pub(super) fn disturb(&mut self) {
        let chain = &self.chains[self.current];
        if chain.arrivals() < VOUCHED || self.current + 1 < self.chains.len() {
            return;
        }
        let noise = match self.random.u8(0..4) {
            0 => b"no JSON".to_vec(),
            1 => chain.body(self.random.u64(1 << 40..1 << 62)),
            2 => b"{\"type\": 2, \"data\": {\"height\": 1}}".to_vec(),
            _ => self.conflict(),
        };
        self.queue.push_back(Queued::Noise(noise));
    }

    /// The stream is made anew and holds another chain.
    pub(super) fn reset_chain(&mut self) {
        if self.current + 1 < self.chains.len() || self.chains[self.current].arrivals() < VOUCHED {
            return;
        }
        let conflict = self.conflict();
        // What was still to be read of the old stream is gone with it.
        let is_read = self.random.bool();
        if !is_read {
            self.queue.clear();
        }
        self.queue.push_back(Queued::Anew);
        self.queue.push_back(Queued::Noise(conflict));
        self.queue.push_back(Queued::CaughtUp);
        self.begin_chain();
    }

    /// Hands over what comes next, if the pipeline has room for it.
    pub(super) fn deliver(&mut self) {
        if !self.replica.has_taken() || self.sent.is_some() {
            return;
        }
        let Some(queued) = self.queue.pop_front() else { return };
        let delivery = |body: Vec<u8>| Input::Delivery(Delivery::detached(body, Some(1)));
        let mut sent = Sent::Other;
        match queued {
            Queued::Begin => self.stream.clear(),
            Queued::Block { .. } | Queued::Noise(_) => self.stream.push(queued.clone()),
            Queued::CaughtUp | Queued::Anew => {}
        }
        let input = match queued {
            Queued::Begin => {
                self.is_warming = true;
                Input::Begin { from_first: true }
            }
            Queued::CaughtUp => {
                self.is_warming = false;
                Input::CaughtUp
            }
            Queued::Anew => Input::Anew,
            Queued::Block { chain, height } => {
                let hold = if self.is_warming { Duration::ZERO } else { self.hold };
                sent = Sent::Block { chain, height, hold };
                delivery(self.chains[chain].body(height))
            }
            Queued::Noise(body) => delivery(body),
        };
        self.replica.inputs.try_send(input).expect("bug: there was room");
        self.sent = Some((sent, Instant::now()));
    }

    /// A known height with other content.
    fn conflict(&self) -> Vec<u8> {
        let height = self.replica.history.summary().tip.unwrap_or(self.next_height);
        format!("{{\"height\":{height},\"transactions\":[{{\"id\":\"of another\"}}]}}").into_bytes()
    }

    fn queue_block(&mut self, height: u64) {
        let chain = self.chains.len() - 1;
        self.queue.push_back(Queued::Block { chain, height });
    }
}
