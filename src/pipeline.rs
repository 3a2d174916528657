//! The one loop. It decodes a delivery, puts its block in order, encodes and appends it, and then
//! settles or dead-letters the delivery.
//!
//! Deliveries are settled here and nowhere else, each exactly once. This room knows nothing of
//! clients: the history takes a block without waiting for any.

mod chain_check;
mod context;
mod missing;
mod redelivered;
mod rejection;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, trace, warn};

use crate::amqp::{Delivery, Input};
use crate::block::{self, Block, Decoded};
use crate::config::{QUEUE_UNACKED_MAX, QueueMode};
use crate::frame;
use crate::metrics::{DeadLetterReason, DeliveryOutcome};
use crate::sequence::{OfferedBlock, SequenceRules, SequenceStart, Sequencer, Step};
use chain_check::{AnotherChain, Arrival, ChainCheck, StreamNumber};
pub use context::PipelineContext;
use missing::{report_gap, report_gaps_of_warm_up};
use redelivered::{DuplicateDelivery, RedeliveredCopies};
use rejection::Rejections;

/// Conflicts in a row after which another chain is published here.
const CONFLICTS_MAX: u32 = 20;

/// Everything between the source of deliveries and the history, before it runs.
pub struct Pipeline {
    context: PipelineContext,
    decode_rules: block::DecodeRules,
    rejections: Rejections,
    /// None until the source says where it begins, and again while it starts over.
    chain: Option<CarriedChain>,
    steps: Vec<Step<Item>>,
}

/// The chain that is carried, from a start of the source until it starts over.
struct CarriedChain {
    sequencer: Sequencer<Item>,
    /// Set until the tail found at start has been read.
    is_warming: bool,
    check: ChainCheck,
    redelivered: RedeliveredCopies<Delivery>,
}

/// What the sequencer carries: a block, and the delivery that brought it.
struct Item {
    block: Block,
    delivery: Delivery,
    stream: StreamNumber,
}

impl Pipeline {
    pub fn new(context: PipelineContext) -> Self {
        let decode_rules = block::DecodeRules::of(&context.blocks, context.encoded_bytes_max);
        let rejections = Rejections::new(&context);
        Self { context, decode_rules, rejections, chain: None, steps: Vec::new() }
    }

    /// Runs until `shutdown`, or until the source is gone.
    pub async fn run(mut self, inputs: mpsc::Receiver<Input>, shutdown: CancellationToken) {
        self.carry(inputs, shutdown).await;
        self.context.dead_letters.close().await;
    }

    async fn carry(&mut self, mut inputs: mpsc::Receiver<Input>, shutdown: CancellationToken) {
        loop {
            let deadline = self.chain.as_ref().and_then(|chain| chain.sequencer.deadline());
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
                () = self.context.dead_letters.give_way() => {}
            }
        }
    }

    async fn take(&mut self, input: Input) {
        match input {
            Input::Begin { from_first } => self.begin(from_first),
            Input::Delivery(delivery) => self.deliver(delivery).await,
            Input::Echo(delivery) => self.settle_as(delivery, DeliveryOutcome::Duplicate).await,
            Input::CaughtUp => self.catch_up().await,
            Input::Anew => {
                if let Some(chain) = &mut self.chain {
                    chain.check.stream_made_anew();
                }
            }
        }
    }

    fn begin(&mut self, from_first: bool) {
        let start =
            if from_first { SequenceStart::AtFirstMessage } else { SequenceStart::AfterProbation };
        let blocks = &self.context.blocks;
        let rules = SequenceRules {
            heights: blocks.heights,
            hold: blocks.hold,
            hold_bytes: blocks.hold_bytes.as_u64(),
            jump_max: blocks.jump_max,
            // From a stream a waiting block is settled when it is taken; in a queue only later.
            doubt: (self.context.queue_mode == QueueMode::Queue).then_some(QUEUE_UNACKED_MAX),
        };
        let sequencer = Sequencer::new(rules, start);
        self.chain = Some(CarriedChain {
            sequencer,
            is_warming: true,
            check: ChainCheck::default(),
            redelivered: RedeliveredCopies::new(self.context.queue_mode),
        });
        self.rejections.begin_warm_up();
    }

    async fn deliver(&mut self, delivery: Delivery) {
        if self.chain.is_none() {
            // The source has not heard yet that it starts over; what follows is read again.
            return self.settle_as(delivery, DeliveryOutcome::Old).await;
        }
        let rules = &self.decode_rules;
        let body = block::unpack(&delivery.body, &delivery.packing, rules.body_bytes_max);
        match body.and_then(|body| block::decode(&body, rules)) {
            Ok(Decoded::Block(block)) => self.offer(block, delivery).await,
            Ok(Decoded::MarkedInvalid) => {
                self.settle_as(delivery, DeliveryOutcome::MarkedInvalid).await;
            }
            Err(error) => {
                self.context.metrics.decode_errors.add(error.kind);
                self.rejections.reject(delivery, error.kind.into(), &error.to_string()).await;
            }
        }
    }

    async fn offer(&mut self, block: Block, mut delivery: Delivery) {
        let Some(chain) = &mut self.chain else { return };
        let height = block.height;
        match chain.check.block_came(height, chain.sequencer.first_height()) {
            Arrival::InOrder => {}
            Arrival::Old => return self.settle_as(delivery, DeliveryOutcome::Old).await,
            Arrival::OfAnotherChain(found) => {
                self.settle_as(delivery, DeliveryOutcome::Old).await;
                return self.start_over(found).await;
            }
        }
        trace!(height, offset = delivery.offset, "block taken");
        if self.context.queue_mode == QueueMode::Stream {
            // From a stream an ack is only credit: kept back, nothing would come from behind.
            delivery.settle().await;
        }
        let offer = OfferedBlock {
            height,
            content: block.content(),
            bytes: (block.bytes() + delivery.body.len()) as u64,
            item: Item { block, delivery, stream: chain.check.stream() },
        };
        chain.sequencer.offer(offer, now(), &mut self.steps);
        self.apply_steps().await;
    }

    async fn expire(&mut self) {
        let Some(chain) = &mut self.chain else { return };
        chain.sequencer.expire(now(), &mut self.steps);
        self.apply_steps().await;
    }

    async fn catch_up(&mut self) {
        let Some(chain) = &mut self.chain else { return };
        if let Some(found) = chain.check.stream_read() {
            return self.start_over(found).await;
        }
        if !std::mem::replace(&mut chain.is_warming, false) {
            return;
        }
        chain.sequencer.end_warm_up(now(), &mut self.steps);
        self.apply_steps().await;
        let summary = self.context.history.summary();
        if let Some(chain) = &self.chain {
            report_gaps_of_warm_up(chain.sequencer.gaps(), &self.context.metrics);
        }
        self.rejections.end_warm_up();
        self.context.readiness.set_warm(true);
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
        let first_height = self.context.history.first_height();
        if let (Some(chain), Some(first_height)) = (&mut self.chain, first_height) {
            chain.sequencer.forget_below(first_height);
        }
    }

    async fn apply(&mut self, step: Step<Item>) {
        match step {
            Step::Publish { item, .. } => {
                self.confirm_chain(item.stream);
                self.context.operator_status.set_another_chain_published(false);
                self.keep(item, DeliveryOutcome::Published).await;
            }
            Step::Fill { item, .. } => self.keep(item, DeliveryOutcome::Filled).await,
            Step::Gap { from_height, to_height, cause } => {
                self.context.history.append_gap(from_height, to_height);
                report_gap((from_height, to_height), cause, &self.context.metrics);
            }
            Step::Duplicate { item } => self.duplicate(item).await,
            Step::Old { item } => {
                self.settle_redelivered(item.block.height).await;
                self.pass(item, DeliveryOutcome::Old).await;
            }
            Step::Conflict { height, item, in_a_row } => {
                self.conflict(height, item, in_a_row).await
            }
            Step::StartOver => {
                warn!(
                    "the one block so far was a mistake: the chain that came instead begins the history anew"
                );
                self.context.history.start_over();
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
    async fn keep(&mut self, item: Item, outcome: DeliveryOutcome) {
        let Item { block, mut delivery, .. } = item;
        let metrics = &self.context.metrics;
        let height = block.height;
        let encoded = frame::encode(block, self.context.blocks.dialect);
        let events = encoded.events_len();
        match outcome {
            DeliveryOutcome::Filled => {
                let is_kept = self.context.history.fill(encoded);
                info!(height, is_kept, "gap filled");
            }
            _ => self.context.history.append(encoded),
        }
        metrics.blocks.inc();
        metrics.events.inc_by(events as u64);
        metrics.delivery_to_append_seconds.observe(delivery.received_at.elapsed().as_secs_f64());
        metrics.deliveries.add(outcome);
        debug!(height, events, "block kept");
        delivery.settle().await;
        self.settle_redelivered(height).await;
    }

    /// Counts a copy of a known block, and settles it now or with the block that waits.
    async fn duplicate(&mut self, item: Item) {
        self.confirm_chain(item.stream);
        self.context.metrics.deliveries.add(DeliveryOutcome::Duplicate);
        let Item { block, delivery, .. } = item;
        let (height, is_redelivered) = (block.height, delivery.is_redelivered);
        let to_settle = match &mut self.chain {
            Some(chain) => {
                let duplicate = DuplicateDelivery { height, is_redelivered, delivery };
                chain.redelivered.keep(duplicate, chain.sequencer.next_height())
            }
            None => Some(delivery),
        };
        if let Some(mut delivery) = to_settle {
            delivery.settle().await;
        }
    }

    async fn settle_redelivered(&mut self, height: u64) {
        let copy = self.chain.as_mut().and_then(|chain| chain.redelivered.take(height));
        if let Some(mut delivery) = copy {
            delivery.settle().await;
        }
    }

    /// Takes note that a block of this stream continues the chain.
    fn confirm_chain(&mut self, stream: StreamNumber) {
        if let Some(chain) = &mut self.chain {
            chain.check.block_confirmed(stream);
        }
    }

    async fn pass(&self, item: Item, outcome: DeliveryOutcome) {
        self.settle_as(item.delivery, outcome).await;
    }

    async fn settle_as(&self, mut delivery: Delivery, outcome: DeliveryOutcome) {
        self.context.metrics.deliveries.add(outcome);
        delivery.settle().await;
    }

    async fn conflict(&mut self, height: u64, item: Item, in_a_row: u32) {
        if let Some(found) = self.chain.as_ref().and_then(|chain| chain.check.block_conflicted()) {
            self.pass(item, DeliveryOutcome::Conflict).await;
            return self.start_over(found).await;
        }
        if in_a_row == CONFLICTS_MAX {
            error!(
                conflicts = in_a_row,
                "another chain is published here: a chain reset needs a deleted stream or a new queue name"
            );
            self.context.operator_status.set_another_chain_published(true);
        }
        if in_a_row > CONFLICTS_MAX {
            return self.pass(item, DeliveryOutcome::Conflict).await;
        }
        if self.chain.as_ref().is_some_and(|chain| !chain.is_warming) {
            let offset = item.delivery.offset;
            error!(height, offset, "another block for a known height; the first one stays");
        }
        let detail = format!("height {height} is known with other content");
        self.rejections.reject(item.delivery, DeadLetterReason::Conflict, &detail).await;
    }

    /// Empties the history for another chain: its readers are told, and the source begins again.
    async fn start_over(&mut self, found: AnotherChain) {
        let Some(chain) = self.chain.take() else { return };
        warn!(why = found.reason(), "another chain: starting over");
        for item in chain.sequencer.into_waiting() {
            self.pass(item, DeliveryOutcome::Old).await;
        }
        self.context.readiness.set_warm(false);
        self.context.history.start_over();
        self.context.link.start_over();
    }
}

/// The clock that tokio's timers go by: where that is paused, holds are paused with it.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

#[cfg(test)]
mod tests;
