//! The one loop: a delivery is decoded, put in order, encoded and appended, then settled or
//! dead-lettered. Deliveries are settled here and nowhere else, each exactly once.
//!
//! This room knows nothing of clients: the history takes a block without waiting for any.

mod context;
mod rejection;

use std::collections::BTreeMap;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, trace, warn};

use crate::amqp::{Delivery, Input};
use crate::block::{self, Block, Message};
use crate::config::{QUEUE_UNACKED_MAX, QueueMode};
use crate::frame;
use crate::metrics::{DeadLetterReason, Outcome};
use crate::sequence::{GapCause, Offer, Rules, Sequencer, Start, Step};
pub use context::Parts;
use rejection::Rejections;

/// Conflicts in a row after which another chain is published here.
const CONFLICTS_MAX: u32 = 20;

pub struct Pipeline {
    parts: Parts,
    decode_rules: block::Rules,
    rejections: Rejections,
    /// None until the source says where it begins, and again while it starts over.
    feed: Option<Feed>,
    steps: Vec<Step<Item>>,
}

/// The blocks of one start of the source.
struct Feed {
    sequencer: Sequencer<Item>,
    /// Until the tail found at start has been read.
    is_warming: bool,
    /// While a stream made anew, or shortened, is read over: it may hold another chain.
    anew: Option<Anew>,
    /// How many times the stream was made anew since this start.
    streams: u64,
    /// `queue` mode: what the broker handed over again, after a reconnect, of blocks that still
    /// wait. Their first delivery cannot be settled any more; these are, with the block. At most one
    /// per waiting height, so `amqp.prefetch` bounds them.
    redelivered: BTreeMap<u64, Delivery>,
}

/// What has been seen of a stream made anew, before a known height or a new one decided.
#[derive(Debug, Default, Clone, Copy)]
struct Anew {
    /// Heights below what is known: perhaps only older than the history, perhaps another chain.
    saw_lower: bool,
    /// All that it held when it was found has been read.
    is_read: bool,
}

/// What the sequencer carries: a block, and the delivery that brought it.
struct Item {
    block: Block,
    delivery: Delivery,
    /// Of which stream it was: [`Feed::streams`] when it came.
    stream: u64,
}

impl Pipeline {
    pub fn new(parts: Parts) -> Self {
        let decode_rules = block::Rules::of(&parts.blocks, parts.encoded_bytes_max);
        let rejections = Rejections::new(&parts);
        Self { parts, decode_rules, rejections, feed: None, steps: Vec::new() }
    }

    /// Runs until `shutdown`, or until the source is gone.
    pub async fn run(mut self, inputs: mpsc::Receiver<Input>, shutdown: CancellationToken) {
        self.carry(inputs, shutdown).await;
        self.parts.dead_letters.close().await;
    }

    async fn carry(&mut self, mut inputs: mpsc::Receiver<Input>, shutdown: CancellationToken) {
        loop {
            let deadline = self.feed.as_ref().and_then(|feed| feed.sequencer.deadline());
            if deadline.is_some_and(|deadline| deadline <= now()) {
                self.expire().await;
                continue;
            }
            let hold_over = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                input = inputs.recv() => match input {
                    Some(input) => self.take(input).await,
                    None => return,
                },
                () = hold_over => {}
                () = self.parts.dead_letters.give_way() => {}
            }
        }
    }

    async fn take(&mut self, input: Input) {
        match input {
            Input::Begin { from_first } => self.begin(from_first),
            Input::Delivery(delivery) => self.deliver(delivery).await,
            Input::Echo(delivery) => self.settle_as(delivery, Outcome::Duplicate).await,
            Input::CaughtUp => self.catch_up().await,
            Input::Anew => {
                if let Some(feed) = &mut self.feed {
                    feed.anew = Some(Anew::default());
                    feed.streams += 1;
                }
            }
        }
    }

    fn begin(&mut self, from_first: bool) {
        let start = if from_first { Start::AtFirstMessage } else { Start::AfterProbation };
        let blocks = &self.parts.blocks;
        let rules = Rules {
            heights: blocks.heights,
            hold: blocks.hold,
            hold_bytes: blocks.hold_bytes.as_u64(),
            jump_max: blocks.jump_max,
            // From a stream a waiting block is settled when it is taken; in a queue only later.
            doubt: (self.parts.queue_mode == QueueMode::Queue).then_some(QUEUE_UNACKED_MAX),
        };
        let sequencer = Sequencer::new(rules, start);
        self.feed = Some(Feed {
            sequencer,
            is_warming: true,
            anew: None,
            streams: 0,
            redelivered: BTreeMap::new(),
        });
        self.rejections.begin_warm_up();
    }

    async fn deliver(&mut self, delivery: Delivery) {
        if self.feed.is_none() {
            // The source has not heard yet that it starts over; what follows is read again.
            return self.settle_as(delivery, Outcome::Old).await;
        }
        let rules = &self.decode_rules;
        let body = block::unpack(&delivery.body, &delivery.packing, rules.body_bytes_max);
        match body.and_then(|body| block::decode(&body, rules)) {
            Ok(Message::Block(block)) => self.offer(block, delivery).await,
            Ok(Message::MarkedInvalid) => {
                self.settle_as(delivery, Outcome::MarkedInvalid).await;
            }
            Err(error) => {
                self.parts.metrics.decode_errors.add(error.kind);
                self.rejections.reject(delivery, error.kind.into(), &error.to_string()).await;
            }
        }
    }

    async fn offer(&mut self, block: Block, mut delivery: Delivery) {
        let Some(feed) = &mut self.feed else { return };
        let height = block.height;
        if let Some(anew) = &mut feed.anew
            && feed.sequencer.first_height().is_some_and(|first| height < first)
        {
            // What is older than the history may lie before what it knows; behind it, or come live,
            // it is another chain.
            anew.saw_lower = true;
            let is_read = anew.is_read;
            self.settle_as(delivery, Outcome::Old).await;
            if is_read {
                self.start_over("the stream made anew goes on below what is known").await;
            }
            return;
        }
        trace!(height, offset = delivery.offset, "block taken");
        if self.parts.queue_mode == QueueMode::Stream {
            // From a stream an ack is only credit: kept back, nothing would come from behind.
            delivery.settle().await;
        }
        let offer = Offer {
            height,
            content: block.content(),
            bytes: (block.bytes() + delivery.body.len()) as u64,
            item: Item { block, delivery, stream: feed.streams },
        };
        feed.sequencer.offer(offer, now(), &mut self.steps);
        self.apply_steps().await;
    }

    async fn expire(&mut self) {
        let Some(feed) = &mut self.feed else { return };
        feed.sequencer.expire(now(), &mut self.steps);
        self.apply_steps().await;
    }

    async fn catch_up(&mut self) {
        let Some(feed) = &mut self.feed else { return };
        if let Some(anew) = &mut feed.anew {
            anew.is_read = true;
            if anew.saw_lower {
                return self.start_over("the stream made anew holds only lower heights").await;
            }
        }
        if !std::mem::replace(&mut feed.is_warming, false) {
            return;
        }
        feed.sequencer.end_warm_up(now(), &mut self.steps);
        self.apply_steps().await;
        let summary = self.parts.history.summary();
        self.report_missing();
        self.rejections.end_warm_up();
        self.parts.readiness.set_warm(true);
        info!(
            first_height = summary.first_height,
            tip = summary.tip,
            blocks = summary.blocks,
            "caught up with the tail"
        );
    }

    async fn apply_steps(&mut self) {
        let mut steps = std::mem::take(&mut self.steps);
        for step in steps.drain(..) {
            self.apply(step).await;
        }
        self.steps = steps;
        let first_height = self.parts.history.first_height();
        if let (Some(feed), Some(first_height)) = (&mut self.feed, first_height) {
            feed.sequencer.forget_below(first_height);
        }
    }

    async fn apply(&mut self, step: Step<Item>) {
        match step {
            Step::Publish { item, .. } => {
                self.know_the_chain(item.stream);
                self.parts.notices.set_another_chain_published(false);
                self.keep(item, Outcome::Published).await;
            }
            Step::Fill { item, .. } => self.keep(item, Outcome::Filled).await,
            Step::Gap { from_height, to_height, cause } => {
                self.give_up(from_height, to_height, cause)
            }
            Step::Duplicate { item } => self.duplicate(item).await,
            Step::Old { item } => {
                self.settle_redelivered(item.block.height).await;
                self.pass(item, Outcome::Old).await;
            }
            Step::Conflict { height, item, in_a_row } => {
                self.conflict(height, item, in_a_row).await
            }
            Step::StartOver => {
                warn!(
                    "the one block so far was a mistake: the chain that came instead begins the history anew"
                );
                self.parts.history.start_over();
            }
            Step::Implausible { height, item } => {
                let detail =
                    format!("height {height} is too far above the tip, and nothing confirmed it");
                let reason = DeadLetterReason::ImplausibleHeight;
                self.settle_redelivered(height).await;
                self.rejections.reject(item.delivery, reason, &detail).await;
            }
        }
    }

    /// Encodes a block, once, and puts it into the history; only then is a queue's delivery settled.
    async fn keep(&mut self, item: Item, outcome: Outcome) {
        let Item { block, mut delivery, .. } = item;
        let metrics = &self.parts.metrics;
        let height = block.height;
        let encoded = frame::encode(block, self.parts.blocks.dialect);
        let events = encoded.events_len();
        match outcome {
            Outcome::Filled => {
                let is_kept = self.parts.history.fill(encoded);
                info!(height, is_kept, "gap filled");
            }
            _ => self.parts.history.append(encoded),
        }
        metrics.blocks.inc();
        metrics.events.inc_by(events as u64);
        metrics.delivery_to_append_seconds.observe(delivery.received_at.elapsed().as_secs_f64());
        metrics.deliveries.add(outcome);
        debug!(height, events, "block kept");
        delivery.settle().await;
        self.settle_redelivered(height).await;
    }

    /// A copy of a block: what came before stays. The stream is of the chain that we know.
    async fn duplicate(&mut self, item: Item) {
        self.know_the_chain(item.stream);
        let height = item.block.height;
        let is_queue = self.parts.queue_mode == QueueMode::Queue;
        if let Some(feed) = &mut self.feed
            && is_queue
            && item.delivery.is_redelivered
            && feed.sequencer.next_height().is_none_or(|next| next <= height)
        {
            self.parts.metrics.deliveries.add(Outcome::Duplicate);
            // One that was kept so far is of less use: of an older connection, or a copy.
            if let Some(mut replaced) = feed.redelivered.insert(height, item.delivery) {
                replaced.settle().await;
            }
            return;
        }
        self.pass(item, Outcome::Duplicate).await;
    }

    async fn settle_redelivered(&mut self, height: u64) {
        let copy = self.feed.as_mut().and_then(|feed| feed.redelivered.remove(&height));
        if let Some(mut delivery) = copy {
            delivery.settle().await;
        }
    }

    /// A block that goes on with the chain: what it was read from is a stream of it. Blocks that waited
    /// since an earlier stream say nothing of the one made anew.
    fn know_the_chain(&mut self, stream: u64) {
        if let Some(feed) = self.feed.as_mut().filter(|feed| feed.streams == stream) {
            feed.anew = None;
        }
    }

    async fn pass(&self, item: Item, outcome: Outcome) {
        self.settle_as(item.delivery, outcome).await;
    }

    async fn settle_as(&self, mut delivery: Delivery, outcome: Outcome) {
        self.parts.metrics.deliveries.add(outcome);
        delivery.settle().await;
    }

    fn give_up(&self, from_height: u64, to_height: u64, cause: GapCause) {
        self.parts.history.append_gap(from_height, to_height);
        match cause {
            GapCause::WarmUp => debug!(from_height, to_height, "not there yet in warm-up"),
            GapCause::HoldOver | GapCause::HoldBytes => {
                self.parts.metrics.missing_blocks.inc_by(to_height - from_height + 1);
                error!(
                    from_height,
                    to_height,
                    ?cause,
                    "heights given up; publish these blocks again to fill the gap"
                );
            }
        }
    }

    /// Counts and tells what warm-up has not found: nothing was held, so only its end decides.
    fn report_missing(&self) {
        let gaps = self.feed.iter().flat_map(|feed| feed.sequencer.gaps());
        let (ranges, heights) = gaps.fold((0_u64, 0_u64), |(ranges, heights), (from, to)| {
            (ranges + 1, heights.saturating_add(to - from + 1))
        });
        if heights > 0 {
            self.parts.metrics.missing_blocks.inc_by(heights);
            error!(
                heights,
                ranges,
                "heights missing in the stream; publish these blocks again to fill the gaps"
            );
        }
    }

    async fn conflict(&mut self, height: u64, item: Item, in_a_row: u32) {
        if self.feed.as_ref().is_some_and(|feed| feed.anew.is_some()) {
            self.pass(item, Outcome::Conflict).await;
            return self
                .start_over("the stream made anew holds other blocks at known heights")
                .await;
        }
        if in_a_row == CONFLICTS_MAX {
            error!(
                conflicts = in_a_row,
                "another chain is published here: a chain reset needs a deleted stream or a new queue name"
            );
            self.parts.notices.set_another_chain_published(true);
        }
        if in_a_row > CONFLICTS_MAX {
            return self.pass(item, Outcome::Conflict).await;
        }
        if self.feed.as_ref().is_some_and(|feed| !feed.is_warming) {
            let offset = item.delivery.offset;
            error!(height, offset, "another block for a known height; the first one stays");
        }
        let detail = format!("height {height} is known with other content");
        self.rejections.reject(item.delivery, DeadLetterReason::Conflict, &detail).await;
    }

    /// Another chain: the history is emptied, its readers are told, and the source begins again.
    async fn start_over(&mut self, why: &'static str) {
        let Some(feed) = self.feed.take() else { return };
        warn!(why, "another chain: starting over");
        for item in feed.sequencer.into_waiting() {
            self.pass(item, Outcome::Old).await;
        }
        self.parts.readiness.set_warm(false);
        self.parts.history.start_over();
        self.parts.link.start_over();
    }
}

/// The clock that tokio's timers go by: where that is paused, holds are paused with it.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

#[cfg(test)]
mod tests;
