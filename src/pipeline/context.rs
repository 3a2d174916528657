//! The parts of a replica that the loop and its rooms share.

use std::sync::Arc;

use crate::amqp::{DeadLetters, SourceLink};
use crate::config::{Blocks, QueueMode};
use crate::history::History;
use crate::metrics::Metrics;
use crate::operator_status::OperatorStatus;
use crate::readiness::Readiness;

/// What the loop works with.
pub struct PipelineContext {
    pub blocks: Blocks,
    pub queue_mode: QueueMode,
    pub queue_name: String,
    /// A block that would keep more is bad input: beside it a history would hold next to nothing.
    pub encoded_bytes_max: u64,
    pub link: SourceLink,
    pub dead_letters: Arc<DeadLetters>,
    pub history: Arc<History>,
    pub metrics: Arc<Metrics>,
    pub readiness: Arc<Readiness>,
    pub operator_status: Arc<OperatorStatus>,
}
