//! The consumer task: attached to the queue for as long as the program runs.
//!
//! One loop ([`feed`]) heals everything that can heal:
//!
//! 1. It connects, and checks the topology.
//! 2. It finds the place to read from ([`attach`]).
//! 3. It reads ([`read`]; [`careful`] where the broker cannot hand an entry over) until that ends or falls
//!    silent ([`silence`]).
//! 4. It waits, and begins again.
//!
//! Absent here: what messages say, and when they are settled.

mod attach;
mod careful;
mod feed;
mod interruption;
mod read;
mod silence;

use std::sync::Arc;

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::Input;
use super::keeper::Keeper;
use super::precedence::Precedence;
use super::topology::Topology;
use super::unreadable::UnreadableEntries;
use super::unreadable::lanes::Lanes;
use crate::config;
use crate::metrics::Metrics;
use crate::operator_status::OperatorStatus;
use crate::readiness::Readiness;
use feed::{Feed, SourcePlace};

pub use interruption::SourceError;

/// The consumer task, before it runs.
pub struct Source {
    config: Arc<config::Amqp>,
    signs: Signs,
    link: SourceLink,
}

/// Where the source tells people how it fares.
#[derive(Clone)]
pub struct Signs {
    pub metrics: Arc<Metrics>,
    pub readiness: Arc<Readiness>,
    pub operator_status: Arc<OperatorStatus>,
}

/// A handle to the running source, for the pipeline, and for those who have a connection beside it.
#[derive(Clone)]
pub struct SourceLink {
    start_over: Arc<Notify>,
    pub(super) precedence: Arc<Precedence>,
    pub(super) unreadable: Arc<UnreadableEntries>,
    pub(super) metrics: Arc<Metrics>,
}

impl SourceLink {
    /// Tells the source that another chain is published: it goes through its start procedure again
    /// and says [`Input::Begin`]. Inputs before that are of the old reading, to be discarded.
    pub fn start_over(&self) {
        self.start_over.notify_one();
    }
}

impl Source {
    pub fn new(config: Arc<config::Amqp>, signs: Signs) -> (Self, SourceLink) {
        let unreadable =
            UnreadableEntries::new(Arc::clone(&signs.metrics), Arc::clone(&signs.operator_status));
        let link = SourceLink {
            start_over: Arc::new(Notify::new()),
            precedence: Arc::new(Precedence::new()),
            unreadable: Arc::new(unreadable),
            metrics: Arc::clone(&signs.metrics),
        };
        (Self { config, signs, link: link.clone() }, link)
    }

    /// Consumes until `shutdown`, or until `inputs` is closed, sending what happens in order. When
    /// `inputs` is full it waits, and the broker with it, `amqp.prefetch` messages further on.
    ///
    /// # Errors
    /// What cannot heal; see [`SourceError`]. Everything else is retried for ever, and logged once
    /// per change of state.
    pub async fn run(
        self,
        inputs: mpsc::Sender<Input>,
        shutdown: CancellationToken,
    ) -> Result<(), SourceError> {
        let topology = Topology::new(Arc::clone(&self.config))?;
        let mut feed = Feed {
            keeper: Keeper::new(Arc::clone(&self.config))?
                .counting(Arc::clone(&self.signs.metrics)),
            lanes: Lanes::new(
                &self.config,
                &Arc::new(Precedence::none()),
                topology.queue().clone(),
                Arc::clone(&self.link.unreadable),
            )?,
            dead_letter_queue: Arc::new(topology.dead_letter_queue()),
            topology,
            precedence: self.link.precedence,
            config: self.config,
            metrics: self.signs.metrics,
            readiness: self.signs.readiness,
            unreadable: self.link.unreadable,
            operator_status: self.signs.operator_status,
            start_over: self.link.start_over,
            inputs,
            is_attached: false,
            place: SourcePlace::Fresh,
            tail: None,
            is_tail_unknown: false,
            is_careful: false,
            queue_doubted: None,
            passed_over_at: None,
        };
        let ended = shutdown.run_until_cancelled(feed.follow()).await;
        feed.leave().await;
        ended.unwrap_or(Ok(()))
    }
}
