//! A broker's side of AMQP connections, frame by frame: which channels consume, and, where a test wants
//! it, without what is delivered on those. Heartbeats and all other channels go on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const METHOD: u8 = 1;
const HEAD_BYTES: usize = 7;
/// The protocol's classes and methods.
const QUEUE_DECLARE_OK: [u8; 4] = [0, 50, 0, 11];
const CONSUME_OK: [u8; 4] = [0, 60, 0, 21];
const DELIVER: [u8; 4] = [0, 60, 0, 60];
const CHANNEL_CLOSE: [u8; 4] = [0, 20, 0, 40];
const CHANNEL_CLOSE_OK: [u8; 4] = [0, 20, 0, 41];

/// Counted over all connections of a proxy.
#[derive(Debug, Default)]
pub struct Counts {
    /// Consumers that the broker took on, and queues that it described.
    pub looks: AtomicU64,
    /// Messages that were withheld.
    pub withheld: AtomicU64,
}

/// What is withheld.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withheld {
    Nothing,
    /// What is delivered to those who consume when this begins.
    OfThoseWhoConsume,
    All,
}

/// What one connection's broker says.
pub struct Deliveries {
    counts: Arc<Counts>,
    /// The beginning of a frame that is not whole.
    held: Vec<u8>,
    /// Channels with a consumer.
    consuming: BTreeSet<u16>,
    /// The same when they were silenced; none while those are not.
    silenced: Option<BTreeSet<u16>>,
    /// Silenced channels on which a message is under way.
    withholding: BTreeSet<u16>,
}

impl Deliveries {
    pub fn new(counts: Arc<Counts>) -> Self {
        Self {
            counts,
            held: Vec::new(),
            consuming: BTreeSet::new(),
            silenced: None,
            withholding: BTreeSet::new(),
        }
    }

    /// The whole frames of what came so far that are handed on.
    pub fn pass(&mut self, bytes: &[u8], withheld: Withheld) -> Vec<u8> {
        match withheld {
            Withheld::OfThoseWhoConsume => {
                self.silenced.get_or_insert_with(|| self.consuming.clone());
            }
            Withheld::Nothing | Withheld::All => self.silenced = None,
        }
        self.held.extend_from_slice(bytes);
        let mut passed = Vec::new();
        while let Some(head) = self.held.first_chunk::<HEAD_BYTES>() {
            let len = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
            let len = HEAD_BYTES + len + 1;
            if self.held.len() < len {
                break;
            }
            let frame: Vec<u8> = self.held.drain(..len).collect();
            if self.is_passed(&frame, withheld == Withheld::All) {
                passed.extend_from_slice(&frame);
            }
        }
        passed
    }

    fn is_passed(&mut self, frame: &[u8], is_mute: bool) -> bool {
        let channel = u16::from_be_bytes([frame[1], frame[2]]);
        if frame[0] != METHOD {
            return !self.withholding.contains(&channel);
        }
        self.withholding.remove(&channel);
        match *frame[HEAD_BYTES..].first_chunk().expect("a method") {
            QUEUE_DECLARE_OK => drop(self.counts.looks.fetch_add(1, Ordering::Relaxed)),
            CONSUME_OK => {
                self.counts.looks.fetch_add(1, Ordering::Relaxed);
                self.consuming.insert(channel);
            }
            CHANNEL_CLOSE | CHANNEL_CLOSE_OK => {
                self.consuming.remove(&channel);
                // Its number may be that of another one next.
                if let Some(silenced) = &mut self.silenced {
                    silenced.remove(&channel);
                }
            }
            DELIVER
                if is_mute
                    || self.silenced.as_ref().is_some_and(|them| them.contains(&channel)) =>
            {
                self.counts.withheld.fetch_add(1, Ordering::Relaxed);
                self.withholding.insert(channel);
                return false;
            }
            _ => {}
        }
        true
    }
}
