//! What a person sees of a publication: a bar on a terminal, and a summary line at the end.

use std::time::Instant;

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::blocks::Block;

pub struct Progress {
    bar: ProgressBar,
    begun: Instant,
    blocks: u64,
    bytes: u64,
    /// The lowest and the highest height, where heights are looked at.
    heights: Option<(u64, u64)>,
}

impl Progress {
    /// A bar on stderr if that is a terminal: of all bytes where their number is known, else of
    /// what went so far.
    pub fn new(bytes_total: Option<u64>) -> Self {
        let (bar, template) = match bytes_total {
            Some(total) => (
                ProgressBar::new(total),
                "{wide_bar} {binary_bytes}/{binary_total_bytes}, {msg}, {eta} left",
            ),
            None => (ProgressBar::no_length(), "{spinner} {binary_bytes}, {msg}, {elapsed}"),
        };
        bar.set_draw_target(ProgressDrawTarget::stderr());
        bar.set_style(ProgressStyle::with_template(template).expect("bug: the template is ours"));
        Self { bar, begun: Instant::now(), blocks: 0, bytes: 0, heights: None }
    }

    pub fn confirmed(&mut self, block: &Block) {
        self.blocks += 1;
        self.bytes += block.body.len() as u64;
        if let Some(height) = block.height {
            let (low, high) = self.heights.unwrap_or((height, height));
            self.heights = Some((low.min(height), high.max(height)));
        }
        self.bar.inc(block.read_bytes);
        self.bar.set_message(match block.height {
            Some(height) => format!("{} blocks, at height {height}", self.blocks),
            None => format!("{} blocks", self.blocks),
        });
    }

    /// A line that does not break the bar.
    pub fn say(&self, line: &str) {
        self.bar.suspend(|| super::super::say(line));
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
        super::super::say(&format!(
            "published and confirmed: {} blocks{heights}, {} in {seconds:.1} s{rest}",
            self.blocks,
            HumanBytes(self.bytes),
        ));
    }
}
