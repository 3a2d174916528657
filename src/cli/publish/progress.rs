//! What a person sees of a publication: a bar on a terminal, lines, and a summary at the end.

use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::blocks::BlockMessage;
use crate::cli::outcome::say;

/// Between lines about a long catch-up where there is no terminal for a bar.
const LINE_INTERVAL: Duration = Duration::from_secs(30);

pub struct Progress {
    bar: ProgressBar,
    extent: Extent,
    begun: Instant,
    line_at: Instant,
    blocks: u64,
    bytes: u64,
    /// The lowest and the highest height, where heights are looked at.
    heights: Option<(u64, u64)>,
}

/// How much there is to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Extent {
    Unknown,
    Bytes(u64),
    BlockReader(u64),
}

/// Says lines that do not break the bar.
#[derive(Clone)]
pub struct Voice(ProgressBar);

impl Progress {
    /// A bar on stderr if that is a terminal: of all there is to do where that is known, else of
    /// what went so far.
    pub fn new(extent: Extent) -> Self {
        let bar = ProgressBar::no_length();
        bar.set_draw_target(ProgressDrawTarget::stderr());
        let now = Instant::now();
        let mut progress =
            Self { bar, extent, begun: now, line_at: now, blocks: 0, bytes: 0, heights: None };
        progress.expect(extent);
        progress
    }

    /// So much is to come; what went so far counts.
    pub fn expect(&mut self, extent: Extent) {
        self.extent = extent;
        let template = match extent {
            Extent::Bytes(_) => "{wide_bar} {binary_bytes}/{binary_total_bytes}, {msg}, {eta} left",
            Extent::BlockReader(_) => "{wide_bar} {pos}/{len}, {msg}, {eta} left",
            Extent::Unknown => "{spinner} {msg}, {elapsed}",
        };
        match extent {
            Extent::Bytes(total) | Extent::BlockReader(total) => self.bar.set_length(total),
            Extent::Unknown => self.bar.unset_length(),
        }
        self.bar.set_style(ProgressStyle::with_template(template).expect("bug: it is ours"));
    }

    pub fn confirmed(&mut self, block: &BlockMessage) {
        self.blocks += 1;
        self.bytes += block.body.len() as u64;
        if let Some(height) = block.height {
            let (low, high) = self.heights.unwrap_or((height, height));
            self.heights = Some((low.min(height), high.max(height)));
        }
        match self.extent {
            Extent::BlockReader(total) if self.blocks >= total => self.expect(Extent::Unknown),
            Extent::BlockReader(total) => {
                self.bar.inc(1);
                self.say_now_and_then(total);
            }
            _ => self.bar.inc(block.read_bytes),
        }
        let bytes = HumanBytes(self.bytes);
        self.bar.set_message(match block.height {
            Some(height) => format!("{} blocks, {bytes}, at height {height}", self.blocks),
            None => format!("{} blocks, {bytes}", self.blocks),
        });
    }

    pub fn voice(&self) -> Voice {
        Voice(self.bar.clone())
    }

    /// A line that does not break the bar.
    pub fn say(&self, line: &str) {
        self.voice().say(line);
    }

    /// Takes the bar away and tells what was done.
    pub fn finish(&self, unconfirmed: usize) {
        self.bar.finish_and_clear();
        let seconds = self.begun.elapsed().as_secs_f64();
        let heights = match self.heights {
            Some((low, high)) => format!(" (heights {low} to {high})"),
            None => String::new(),
        };
        let rest = match unconfirmed {
            0 => String::new(),
            more => format!("; {more} more were not confirmed"),
        };
        say(&format!(
            "published and confirmed: {} blocks{heights}, {} in {seconds:.1} s{rest}",
            self.blocks,
            HumanBytes(self.bytes),
        ));
    }

    fn say_now_and_then(&mut self, total: u64) {
        if self.bar.is_hidden() && self.line_at.elapsed() >= LINE_INTERVAL {
            self.line_at = Instant::now();
            self.say(&format!("{} of {total} blocks are published", self.blocks));
        }
    }
}

impl Voice {
    pub fn say(&self, line: &str) {
        self.0.suspend(|| say(line));
    }
}
