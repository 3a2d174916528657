//! The publishing side: a connection that is made anew, and the confirms it owes.
//!
//! At least once: what was not confirmed when a connection broke is published again (the bridge
//! drops duplicates). Absent here: where blocks come from, and what they hold.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};

use super::advice::explain;
use super::blocks::{BODY_BYTES_MAX, BlockMessage};
use super::pace::Pace;
use super::progress::{Extent, Progress};
use super::source::BlockSupply;
use super::state::PublishState;
use super::stoppage::Stoppage;
use crate::amqp::{Keeper, KeeperFailure, Message, PublishError, Publisher};
use crate::block;
use crate::cli::outcome::{half_jitter, told};
use crate::config;

/// Confirms awaited at once: enough to hide a round trip, few enough to publish again.
const UNCONFIRMED_MAX: usize = 64;
/// Bodies kept for publishing again; one more may be on its way when this is reached.
const UNCONFIRMED_BYTES_MAX: usize = 64 << 20;
/// Failures in a row, each on a new connection and without a confirm in between, that are taken for
/// the broker's last word: a missing exchange closes the channel each time.
const REFUSALS_MAX: u32 = 5;
/// For the outcome of what was under way on a closed channel: it is there or comes with the closing.
const REASON: Duration = Duration::from_secs(1);

/// For a broker that does not answer our leaving.
const GOODBYE: Duration = Duration::from_secs(5);

/// The publishing side: a connection that is made anew, and what it owes us.
pub struct Publication {
    amqp: Arc<config::Amqp>,
    retry: bool,
    keeper: Keeper,
    publisher: Option<Publisher>,
    /// Whether there ever was a connection: the first attempt is the person's to repeat.
    has_attached: bool,
    refusals: u32,
    /// In the order of publishing; at most `UNCONFIRMED_MAX`.
    unconfirmed: VecDeque<Unconfirmed>,
    unconfirmed_bytes: usize,
    progress: Progress,
    stoppage: Stoppage,
    /// What is remembered of confirmed heights, if anything is.
    state: Option<PublishState>,
    /// Whether the last writing of it failed, which is said once.
    has_complained: bool,
    /// Why it ends once what came before is confirmed.
    ending: Option<anyhow::Error>,
}

type Confirming = Pin<Box<dyn Future<Output = Result<(), PublishError>> + Send>>;

struct Unconfirmed {
    block: BlockMessage,
    /// None while it is to be published (again).
    confirm: Option<Confirming>,
}

impl Publication {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// A broker's URI or a TLS file is malformed: the configuration must be mended.
    pub fn new(amqp: Arc<config::Amqp>, retry: bool, state: Option<PublishState>) -> Result<Self> {
        let keeper =
            Keeper::new(Arc::clone(&amqp)).map_err(|error| explain(error.into(), &amqp))?;
        let progress = Progress::new(Extent::Unknown);
        Ok(Self {
            amqp,
            retry,
            keeper,
            publisher: None,
            has_attached: false,
            refusals: 0,
            unconfirmed: VecDeque::new(),
            unconfirmed_bytes: 0,
            stoppage: Stoppage::new(progress.voice()),
            progress,
            state,
            has_complained: false,
            ending: None,
        })
    }

    /// Publishes all blocks, each confirmed.
    ///
    /// # Errors
    /// The source fails, no broker is reachable at the start, it refuses, or no queue takes a block.
    ///
    /// # Cancel safety
    /// What is under way is kept for [`Self::confirm_rest`].
    pub async fn publish_all(&mut self, source: &mut BlockSupply, mut pace: Pace) -> Result<()> {
        loop {
            if self.ending.is_some() {
                return self.confirm_rest().await;
            }
            let room = self.unconfirmed.len() < UNCONFIRMED_MAX
                && self.unconfirmed_bytes < UNCONFIRMED_BYTES_MAX;
            let next = async {
                pace.wait().await;
                source.next().await
            };
            tokio::select! {
                biased;
                outcome = outcome(&mut self.unconfirmed, &self.publisher, &mut self.stoppage), if !self.unconfirmed.is_empty() => {
                    self.settle(outcome).await?;
                }
                () = due(&self.state) => self.remember(),
                block = next, if room => match block {
                    Ok(Some(block)) => {
                        pace.took_one();
                        self.take(block).await?;
                    }
                    Ok(None) => return self.confirm_rest().await,
                    Err(error) => {
                        self.confirm_rest().await?;
                        return Err(error);
                    }
                },
            }
        }
    }

    /// The heights at the RabbitMQ stream's end.
    ///
    /// # Errors
    /// No broker is reachable, or the stream cannot be read.
    pub async fn tail_heights(&mut self) -> Result<Vec<u64>> {
        loop {
            self.attach().await?;
            let publisher = self.publisher.as_ref().expect("bug: `attach` has connected");
            let tail = match publisher.tail_messages().await {
                Err(error) if error.is_unreadable() => self.last_readable_messages().await,
                tail => tail,
            };
            match tail {
                Ok(messages) => return Ok(messages.iter().filter_map(height_of).collect()),
                Err(error) => self.lost(error).await?,
            }
        }
    }

    /// What can be read before the RabbitMQ stream's last entries. The connection is lost to them.
    async fn last_readable_messages(&mut self) -> Result<Vec<Message>, PublishError> {
        self.progress.say(
            "the broker cannot hand over the RabbitMQ stream's last entry (541); going on above what lies before it, so that replicas can pass it over",
        );
        let messages = Publisher::last_readable_messages(&self.keeper, &self.amqp).await?;
        self.publisher = None;
        Ok(messages)
    }

    async fn take(&mut self, block: BlockMessage) -> Result<()> {
        self.unconfirmed_bytes += block.body.len();
        self.unconfirmed.push_back(Unconfirmed { block, confirm: None });
        self.publish_waiting().await
    }

    async fn settle(&mut self, outcome: Result<(), PublishError>) -> Result<()> {
        match outcome {
            Ok(()) => {
                self.confirmed();
                Ok(())
            }
            Err(error) => {
                self.lost(error).await?;
                self.publish_waiting().await
            }
        }
    }

    /// The oldest is confirmed.
    fn confirmed(&mut self) {
        let settled = self.unconfirmed.pop_front().expect("bug: the oldest was awaited");
        self.unconfirmed_bytes -= settled.block.body.len();
        self.keeper.forget_failures();
        self.refusals = 0;
        self.progress.confirmed(&settled.block);
        if let (Some(state), Some(height)) = (&mut self.state, settled.block.height) {
            state.confirmed(height);
        }
    }

    /// Says goodbye to the broker.
    pub async fn close(self) {
        if let Some(publisher) = self.publisher {
            let _ = tokio::time::timeout(GOODBYE, publisher.close()).await;
        }
    }

    /// Tells what was done, and remembers it.
    ///
    /// # Errors
    /// The state cannot be written; the next run would begin too low, which does no harm.
    pub fn finish(&mut self) -> Result<()> {
        self.progress.finish(self.unconfirmed.len());
        self.state.as_mut().map_or(Ok(()), PublishState::write)
    }

    /// The last height that an earlier run remembered, or this one.
    pub fn remembered_height(&self) -> Option<u64> {
        self.state.as_ref()?.height()
    }

    pub fn progress(&mut self) -> &mut Progress {
        &mut self.progress
    }

    /// Writes the state; if that fails it is tried again later, for the feed matters more.
    fn remember(&mut self) {
        let written = self.state.as_mut().map_or(Ok(()), PublishState::write);
        if let Err(error) = &written
            && !self.has_complained
        {
            self.progress.say(&format!("{}; trying again", told(error)));
        }
        self.has_complained = written.is_err();
    }

    /// Waits for what is under way; an interrupted run may have kept a last block that is not.
    ///
    /// # Errors
    /// What came before cannot be confirmed, or a block that came behind can never be published.
    pub async fn confirm_rest(&mut self) -> Result<()> {
        while self.unconfirmed.front().is_some_and(|one| one.confirm.is_some()) {
            let outcome = outcome(&mut self.unconfirmed, &self.publisher, &mut self.stoppage).await;
            self.settle(outcome).await?;
        }
        self.ending.take().map_or(Ok(()), Err)
    }

    /// Publishes, in order, all that is kept and not under way.
    async fn publish_waiting(&mut self) -> Result<()> {
        loop {
            self.attach().await?;
            let publisher = self.publisher.as_ref().expect("bug: `attach` has connected");
            let waiting = self.unconfirmed.iter_mut().find(|one| one.confirm.is_none());
            let Some(waiting) = waiting else { return Ok(()) };
            let publishing = publisher.publish(waiting.block.body.clone());
            match self.stoppage.told(publisher, publishing).await {
                Ok(confirm) => waiting.confirm = Some(Box::pin(confirm.wait())),
                Err(error) => {
                    let error = self.reason(error).await;
                    self.lost(error).await?;
                }
            }
        }
    }

    /// Why publishing failed: what was under way is told why the broker closed the channel, and
    /// what comes later only that it is closed.
    async fn reason(&mut self, error: PublishError) -> PublishError {
        while self.unconfirmed.front().is_some_and(|one| one.confirm.is_some()) {
            match tokio::time::timeout(REASON, oldest(&mut self.unconfirmed)).await {
                Ok(Ok(())) => self.confirmed(),
                Ok(Err(reason)) => return reason,
                Err(_) => break,
            }
        }
        error
    }

    async fn attach(&mut self) -> Result<()> {
        while self.publisher.is_none() {
            match Publisher::attach(&self.keeper, Arc::clone(&self.amqp)).await {
                Ok(publisher) => {
                    self.publisher = Some(publisher);
                    self.has_attached = true;
                }
                Err(error) => self.lost(error).await?,
            }
        }
        Ok(())
    }

    /// Lets go of the block there and of those behind it: the broker never takes it. What came before
    /// is published again and confirmed, then it ends.
    fn end_before(&mut self, at: usize, error: PublishError) -> Result<()> {
        let behind: Vec<Unconfirmed> = self.unconfirmed.drain(at..).collect();
        let bytes: usize = behind.iter().map(|one| one.block.body.len()).sum();
        self.unconfirmed_bytes -= bytes;
        let block = &behind[0].block;
        let go_on = match (block.line, block.height) {
            (None, Some(height)) => format!(
                "--from-height {} goes on without it, whatever --state says, and clients are told of the gap",
                height.saturating_add(1)
            ),
            _ => "or leave it out, and publish what stands behind it".to_owned(),
        };
        let error = anyhow!(
            "{} is not published, nor anything behind it: {error}; let the broker take more (and blocks.max_bytes of the replicas), {go_on}",
            place(block)
        );
        match self.retry || at == 0 {
            true => self.ending = Some(error),
            false => return Err(error),
        }
        Ok(())
    }

    /// Drops the connection and waits, or fails if another attempt cannot help.
    async fn lost(&mut self, error: PublishError) -> Result<()> {
        let was_attached = self.publisher.take().is_some();
        drop(self.keeper.take());
        for one in &mut self.unconfirmed {
            one.confirm = None;
        }
        if let PublishError::TooLarge { bytes, .. } = error
            && let Some(at) =
                self.unconfirmed.iter().position(|one| one.block.body.len() as u64 == bytes)
        {
            return self.end_before(at, error);
        }
        self.refusals += u32::from(was_attached);
        let is_final =
            matches!(error, PublishError::Unroutable { .. } | PublishError::TooLarge { .. })
                || !self.has_attached
                || self.refusals >= REFUSALS_MAX;
        if !self.retry || is_final {
            return Err(explain(error, &self.amqp));
        }
        let failure = if was_attached { KeeperFailure::Lost } else { KeeperFailure::Unfit };
        let wait = self.keeper.failed(failure, half_jitter());
        self.progress.say(&format!("{error}; again in {:.1} s", wait.as_secs_f64()));
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// Where a block comes from, for a person.
fn place(block: &BlockMessage) -> String {
    let height = block.height.or_else(|| block::height_of(&block.body));
    match (block.line, height) {
        (Some(line), Some(height)) => format!("line {line}, height {height}"),
        (Some(line), None) => format!("line {line}"),
        (None, height) => format!("height {}", height.unwrap_or_default()),
    }
}

/// The outcome of the oldest confirm; meanwhile a person hears of the broker's stoppage.
///
/// # Cancel safety
/// The confirm stays where it is.
async fn outcome(
    unconfirmed: &mut VecDeque<Unconfirmed>,
    publisher: &Option<Publisher>,
    stoppage: &mut Stoppage,
) -> Result<(), PublishError> {
    match publisher {
        Some(publisher) => stoppage.told(publisher, oldest(unconfirmed)).await,
        None => oldest(unconfirmed).await,
    }
}

/// The outcome of the oldest confirm.
///
/// # Cancel safety
/// The confirm stays where it is.
async fn oldest(unconfirmed: &mut VecDeque<Unconfirmed>) -> Result<(), PublishError> {
    match unconfirmed.front_mut().and_then(|one| one.confirm.as_mut()) {
        Some(confirm) => confirm.await,
        None => std::future::pending().await,
    }
}

/// Waits until the state is to be written.
///
/// # Cancel safety
/// Waiting changes nothing.
async fn due(state: &Option<PublishState>) {
    match state {
        Some(state) => state.due().await,
        None => std::future::pending().await,
    }
}

fn height_of(message: &Message) -> Option<u64> {
    block::packed_height_of(&message.body, &message.packing, BODY_BYTES_MAX)
}
