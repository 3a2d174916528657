//! The rejection of bad input: it is counted, told, dead-lettered and settled.
//!
//! The feed never waits longer than the dead-letter publisher's own deadline. Nothing is lost in
//! silence.

use std::sync::Arc;
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use tracing::{error, warn};

use super::context::PipelineContext;
use crate::amqp::{DeadLetter, DeadLetterError, DeadLetters, Delivery};
use crate::config::QueueMode;
use crate::metrics::{DeadLetterReason, DecodeErrorKind, DeliveryOutcome, Label, Metrics};
use crate::operator_status::OperatorStatus;

/// After a letter that took its whole deadline: as long as the feed was held up it goes on undisturbed.
const PAUSE: Duration = Duration::from_secs(10);

pub struct Rejections {
    dead_letters: Arc<DeadLetters>,
    metrics: Arc<Metrics>,
    operator_status: Arc<OperatorStatus>,
    queue_name: String,
    queue_mode: QueueMode,
    /// How many so far in warm-up: the replica that met them live has written them.
    in_warm_up: Option<u64>,
    /// After one that took its whole deadline, none is tried until then: each would hold the feed up.
    not_before: Option<Instant>,
}

impl Rejections {
    pub fn new(context: &PipelineContext) -> Self {
        Self {
            dead_letters: Arc::clone(&context.dead_letters),
            metrics: Arc::clone(&context.metrics),
            operator_status: Arc::clone(&context.operator_status),
            queue_name: context.queue_name.clone(),
            queue_mode: context.queue_mode,
            in_warm_up: None,
            not_before: None,
        }
    }

    /// From here on bad messages are only counted. A queue has no warm-up: each is met once.
    pub fn begin_warm_up(&mut self) {
        self.in_warm_up = (self.queue_mode == QueueMode::Stream).then_some(0);
    }

    pub fn end_warm_up(&mut self) {
        if let Some(rejected @ 1..) = self.in_warm_up.take() {
            warn!(
                rejected,
                "bad messages in warm-up; dead-lettered when they were met live, not again"
            );
        }
    }

    /// Takes a delivery that cannot be streamed: its only way out from here is settled.
    pub async fn reject(&mut self, mut delivery: Delivery, reason: DeadLetterReason, detail: &str) {
        self.metrics.dead_letters.add(reason);
        self.metrics.deliveries.add(match reason {
            DeadLetterReason::Conflict => DeliveryOutcome::Conflict,
            _ => DeliveryOutcome::Invalid,
        });
        match &mut self.in_warm_up {
            Some(rejected) => *rejected += 1,
            None => {
                self.operator_status.record_rejected(reason);
                self.publish(&delivery, reason, detail).await;
            }
        }
        delivery.settle().await;
    }

    async fn publish(&mut self, delivery: &Delivery, reason: DeadLetterReason, detail: &str) {
        let letter = DeadLetter { delivery, reason: reason.name(), detail };
        let (offset, queue) = (delivery.offset, self.queue_name.as_str());
        let published = match self.not_before {
            Some(not_before) if Instant::now() < not_before => Err(DeadLetterError::NotTried),
            _ => {
                let published = self.dead_letters.publish(letter).await;
                let timed_out = matches!(published, Err(DeadLetterError::Deadline { .. }));
                self.not_before = timed_out.then(|| Instant::now() + PAUSE);
                published
            }
        };
        match published {
            Ok(()) => {
                warn!(queue, offset, reason = reason.name(), detail, "bad message dead-lettered")
            }
            Err(DeadLetterError::TurnedOff) => {
                warn!(queue, offset, reason = reason.name(), detail, "bad message passed over");
            }
            Err(error) => {
                self.metrics.dead_letters_failed.inc();
                let sha256 = HEXLOWER.encode(&Sha256::digest(&delivery.body));
                error!(queue, offset, reason = reason.name(), detail, sha256, %error, "bad message passed over: it could not be dead-lettered");
            }
        }
    }
}

impl From<DecodeErrorKind> for DeadLetterReason {
    fn from(kind: DecodeErrorKind) -> Self {
        match kind {
            DecodeErrorKind::NotUtf8 => Self::NotUtf8,
            DecodeErrorKind::NotJson => Self::NotJson,
            DecodeErrorKind::WrongShape => Self::WrongShape,
            DecodeErrorKind::BadHeight => Self::BadHeight,
            DecodeErrorKind::TooLarge => Self::TooLarge,
            DecodeErrorKind::UnknownEncoding => Self::UnknownEncoding,
            DecodeErrorKind::CorruptEncoding => Self::CorruptEncoding,
            DecodeErrorKind::AmqpValue => Self::AmqpValue,
        }
    }
}
