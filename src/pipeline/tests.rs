//! The loop between a source and a history that tests play, under paused time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::amqp::{DeadLetters, Signs, Source};
use crate::config::{Config, Hold};
use crate::history::History;
use crate::metrics::Metrics;
use crate::operator_status::OperatorStatus;
use crate::readiness::Readiness;

const HOLD: Duration = Duration::from_secs(1);

/// A pipeline, and the source's end of it.
struct Bench {
    inputs: mpsc::Sender<Input>,
    history: Arc<History>,
    metrics: Arc<Metrics>,
    _source: Source,
}

impl Bench {
    fn new() -> Self {
        Self::of(QueueMode::Stream)
    }

    fn of(mode: QueueMode) -> Self {
        let mut config = Config::default();
        config.amqp.queue.mode = mode;
        config.amqp.dead_letter.exchange = None;
        config.blocks.hold = Hold::For(HOLD);
        let (amqp, metrics) = (Arc::new(config.amqp), Arc::new(Metrics::new()));
        let readiness = Arc::new(Readiness::new(HOLD));
        let history = Arc::new(History::new(usize::MAX));
        let signs = Signs {
            metrics: Arc::clone(&metrics),
            readiness: Arc::clone(&readiness),
            operator_status: Arc::default(),
        };
        let (source, link) = Source::new(Arc::clone(&amqp), signs);
        let pipeline = Pipeline::new(PipelineContext {
            blocks: config.blocks,
            queue_mode: amqp.queue.mode,
            queue_name: "blocks".to_owned(),
            encoded_bytes_max: 1 << 20,
            link,
            dead_letters: Arc::new(DeadLetters::new(amqp)),
            history: Arc::clone(&history),
            metrics: Arc::clone(&metrics),
            readiness,
            operator_status: Arc::new(OperatorStatus::default()),
        });
        let (inputs, taken) = mpsc::channel(1);
        tokio::spawn(pipeline.run(taken, CancellationToken::new()));
        Self { inputs, history, metrics, _source: source }
    }

    async fn say(&self, input: Input) {
        self.inputs.send(input).await.expect("the pipeline runs");
    }

    async fn deliver(&self, height: u64, id: &str) {
        self.say(Input::Delivery(block(height, id))).await;
    }

    /// Waits until everything said so far has been dealt with.
    async fn rest(&self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn block(height: u64, id: &str) -> Delivery {
    let body = format!("{{\"height\": {height}, \"transactions\": [{{\"id\": \"{id}\"}}]}}");
    Delivery::detached(body, Some(1))
}

#[tokio::test(start_paused = true)]
async fn what_waited_since_an_earlier_stream_vouches_for_no_stream_made_anew() {
    for waits in [Duration::ZERO, 2 * HOLD] {
        let bench = Bench::new();
        bench.say(Input::Begin { from_first: true }).await;
        bench.deliver(1, "a").await;
        bench.say(Input::CaughtUp).await;
        bench.deliver(3, "c").await;
        bench.rest().await;
        let cursor = bench.history.live_cursor();
        bench.say(Input::Anew).await;
        tokio::time::sleep(waits).await;
        // The third is given out meanwhile, or waits.
        assert_eq!(bench.history.summary().tip, Some(if waits.is_zero() { 1 } else { 3 }));
        bench.deliver(1, "of another chain").await;
        bench.rest().await;
        assert!(!bench.history.is_of(cursor), "another chain is told, {waits:?} later");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_made_anew_that_goes_on_is_the_same_chain() {
    for known in [[1, 2], [2, 3]] {
        let bench = Bench::new();
        bench.say(Input::Begin { from_first: true }).await;
        bench.deliver(1, "1").await;
        bench.deliver(2, "2").await;
        bench.say(Input::CaughtUp).await;
        bench.rest().await;
        let cursor = bench.history.live_cursor();
        bench.say(Input::Anew).await;
        for height in known {
            bench.deliver(height, &height.to_string()).await;
        }
        bench.deliver(1, "a conflict").await;
        bench.say(Input::CaughtUp).await;
        bench.rest().await;
        assert!(bench.history.is_of(cursor), "{known:?} vouch for it");
    }
}

#[tokio::test(start_paused = true)]
async fn every_delivery_has_an_outcome_also_around_new_starts() {
    let bench = Bench::new();
    bench.deliver(1, "before anything began").await;
    bench.say(Input::Begin { from_first: true }).await;
    bench.deliver(1, "a").await;
    bench.say(Input::CaughtUp).await;
    bench.say(Input::Echo(block(1, "a"))).await;
    bench.say(Input::Anew).await;
    bench.deliver(1, "of another chain").await;
    bench.deliver(2, "of another chain").await;
    bench.say(Input::Begin { from_first: true }).await;
    bench.deliver(1, "of another chain").await;
    bench.rest().await;
    for (outcome, deliveries) in [
        (DeliveryOutcome::Published, 2),
        (DeliveryOutcome::Duplicate, 1),
        (DeliveryOutcome::Conflict, 1),
        (DeliveryOutcome::Old, 2),
    ] {
        assert_eq!(bench.metrics.deliveries.get(outcome), deliveries, "{outcome:?}");
    }
}

/// Unacked for 30 minutes, it would have the broker close a queue's channel. In a stream an ack is only
/// credit, and a doubted block may wait.
#[tokio::test(start_paused = true)]
async fn a_doubted_block_waits_ten_minutes_in_a_queue_and_for_ever_in_a_stream() {
    let ten_minutes = Duration::from_secs(600);
    for (mode, invalid_then) in [(QueueMode::Queue, 1), (QueueMode::Stream, 0)] {
        let bench = Bench::of(mode);
        let invalid = || bench.metrics.deliveries.get(DeliveryOutcome::Invalid);
        bench.say(Input::Begin { from_first: true }).await;
        bench.deliver(1, "a").await;
        bench.say(Input::CaughtUp).await;
        bench.deliver(1_000_000, "doubted").await;
        tokio::time::sleep(ten_minutes - HOLD).await;
        assert_eq!(invalid(), 0, "{mode:?}");
        tokio::time::sleep(2 * HOLD).await;
        assert_eq!(invalid(), invalid_then, "{mode:?}");
        tokio::time::sleep(2 * ten_minutes).await;
        assert_eq!(invalid(), invalid_then, "{mode:?}");
        // Two more that go on from it have it believed where it still waits.
        bench.deliver(1_000_001, "b").await;
        bench.deliver(1_000_002, "c").await;
        bench.rest().await;
        let expected = if mode == QueueMode::Stream { 1_000_002 } else { 1 };
        assert_eq!(bench.history.summary().tip, Some(expected), "{mode:?}");
    }
}
