//! The blocks of a node, height by height, whatever becomes of the node in between.
//!
//! Behind the tip a few heights are asked for at once; at the tip the next one is, again and again,
//! and as soon as the node's own event stream says anything. A failure is said once, and the same
//! height asked for again after a growing wait.

mod tip;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::blocks::BlockMessage;
use super::heights::FIRST;
use super::hole::{Holes, Missing};
use super::node::{Node, NodeError, Wake};
use super::progress::Voice;
use crate::backoff::Backoff;
use crate::cli::outcome::{half_jitter, told};

/// Heights asked for at once, where as many were there in a row: enough to hide a node's answer
/// time, few enough not to weigh on it.
const AHEAD_MAX: usize = 8;
/// What one block may take up before its turn; a longer one is asked for again then. So the
/// blocks waiting here take 7 times this at most, and the next one `blocks.max_bytes`.
const AHEAD_BYTES_MAX: usize = 8 << 20;
/// Woken, a block that is not there yet is asked for again after this, and after three times as long
/// each time, up to the interval of polling.
const WOKEN_FIRST_WAIT: Duration = Duration::from_millis(20);
/// However much the stream says, the next height is not asked for more often.
const WOKEN_INTERVAL: Duration = Duration::from_millis(10);
/// So many answers without a block lead to a look whether there is a higher one.
const LOOK_AFTER: u32 = 10;
/// A hole is asked for again for so many intervals of polling before it is passed over.
const HOLE_POLLS: u32 = 3;

pub struct Follower {
    node: Arc<Node>,
    retry: bool,
    poll: Duration,
    voice: Voice,
    next_height: u64,
    /// None: for ever.
    last_height: Option<u64>,
    /// From `next_height` on, without a hole; at most `AHEAD_MAX`.
    ahead: VecDeque<Fetch>,
    /// How many heights were there, or were passed over, since one was asked for again.
    in_a_row: usize,
    not_before: Option<Instant>,
    is_behind: bool,
    holes: Holes,
    /// Set when a block of the hole is there, and not all of its transactions are.
    lacks_transactions: bool,
    /// Answers in a row that had no block, at the tip.
    empty_answers: u32,
    look: Option<TipLook>,
    /// Looks without `blocks/latest`, each at another distance.
    looks: u32,
    /// None where there is an end.
    wake: Option<Wake>,
    /// The next wait of a woken follower; none when it only polls.
    woken_wait: Option<Duration>,
    asked_at: Instant,
    /// The failure that was said, until the node answers.
    trouble: Option<String>,
    backoff: Backoff,
}

/// How thoroughly a higher block is looked for.
#[derive(Clone, Copy, PartialEq)]
enum TipLook {
    /// With one question.
    Passing,
    /// At all distances.
    Whole,
}

struct Fetch {
    bytes_max: usize,
    /// The highest height that was known when this was asked for.
    seen: u64,
    answer: AbortOnDropHandle<Result<Option<Vec<u8>>, NodeError>>,
}

/// How to follow.
pub struct Following {
    pub node: Node,
    /// Fail instead of asking again.
    pub retry: bool,
    /// Between two questions for a height that is not there yet.
    pub poll: Duration,
    /// Go on without heights that are missing below one that is there.
    pub skip_missing: bool,
    pub voice: Voice,
}

impl Follower {
    /// Asks for nothing yet; from the first height on and without an end, unless told otherwise.
    pub fn new(Following { node, retry, poll, skip_missing, voice }: Following) -> Self {
        Self {
            node: Arc::new(node),
            retry,
            poll,
            voice,
            next_height: FIRST,
            last_height: None,
            ahead: VecDeque::new(),
            in_a_row: 0,
            not_before: None,
            is_behind: true,
            holes: Holes::new(skip_missing, poll * HOLE_POLLS),
            lacks_transactions: false,
            empty_answers: 0,
            look: None,
            looks: 0,
            wake: None,
            woken_wait: None,
            asked_at: Instant::now(),
            trouble: None,
            backoff: Backoff::default(),
        }
    }

    /// These heights and no others; one that the node does not have is then a failure.
    pub fn only(&mut self, first: u64, last: u64) {
        (self.next_height, self.last_height) = (first, Some(last));
    }

    /// The next height's block; `None` at the end, which only [`Self::only`] sets. Waits for as long
    /// as the node does not give it.
    ///
    /// # Errors
    /// A block that no replica could read; with `--no-retry` what the node failed with; a height of
    /// [`Self::only`] is not there.
    ///
    /// # Cancel safety
    /// What was asked for is kept for the next call.
    pub async fn next(&mut self) -> Result<Option<BlockMessage>> {
        let bytes_max = self.node.block_bytes_max();
        loop {
            self.rest().await;
            if let Some(look) = self.look {
                // That other questions are answered does not end what the next height fails with.
                let trouble = self.trouble.take();
                self.look_above(look).await?;
                self.trouble = self.trouble.take().or(trouble);
                self.look = None;
            }
            self.fetch();
            let Some(fetch) = self.ahead.front_mut() else { return Ok(None) };
            let answer = (&mut fetch.answer).await;
            let answer = answer.expect("bug: a fetch does not panic, and nobody aborts it");
            let (seen, fetch_bytes_max) = (fetch.seen, fetch.bytes_max);
            self.ahead.pop_front();
            match answer {
                Ok(Some(body)) => return Ok(Some(self.took(body))),
                Ok(None) => self.missing(seen)?,
                Err(NodeError::TooLong { .. }) if fetch_bytes_max < bytes_max => {
                    self.ahead.push_front(self.fetched(self.next_height, bytes_max));
                }
                Err(error @ NodeError::NoTransaction { .. }) if self.holes.skips() => {
                    self.pruned(seen, error)?;
                }
                Err(error) if error.is_final() => return Err(self.unpublishable(error)),
                Err(error) => {
                    let wait = self.failed(error)?;
                    self.start_over(wait);
                }
            }
        }
    }

    /// Waits until the next question is due: at once when the node says something meanwhile.
    async fn rest(&mut self) {
        let Some(at) = self.not_before else { return };
        tokio::select! {
            () = tokio::time::sleep_until(at) => self.not_before = None,
            () = woken(&self.wake), if self.trouble.is_none() => {
                self.woken_wait = Some(WOKEN_FIRST_WAIT);
                let earliest = self.asked_at + WOKEN_INTERVAL;
                self.not_before = Some(earliest.min(at));
                tokio::time::sleep_until(earliest.min(at)).await;
                self.not_before = None;
            }
        }
    }

    /// Asks for as many heights as may be under way.
    fn fetch(&mut self) {
        let count_max = self.in_a_row.clamp(1, AHEAD_MAX);
        let bytes_max = self.node.block_bytes_max();
        self.asked_at = Instant::now();
        while self.ahead.len() < count_max {
            let height = self.next_height + self.ahead.len() as u64;
            if self.last_height.is_some_and(|last| height > last) {
                break;
            }
            let is_next = self.ahead.is_empty();
            let bytes_max = if is_next { bytes_max } else { bytes_max.min(AHEAD_BYTES_MAX) };
            self.ahead.push_back(self.fetched(height, bytes_max));
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "its end is awaited, or it is ended, by its `Fetch`"
    )]
    fn fetched(&self, height: u64, bytes_max: usize) -> Fetch {
        let node = Arc::clone(&self.node);
        let answer = tokio::spawn(async move { node.block(height, bytes_max).await });
        Fetch { bytes_max, seen: self.holes.seen(), answer: AbortOnDropHandle::new(answer) }
    }

    fn took(&mut self, body: Vec<u8>) -> BlockMessage {
        self.answered();
        self.in_a_row += 1;
        self.is_behind |= self.in_a_row >= AHEAD_MAX;
        self.empty_answers = 0;
        self.woken_wait = None;
        let height = self.next_height;
        self.next_height += 1;
        let lacks = match std::mem::take(&mut self.lacks_transactions) {
            true => "has no block, or not all of its transactions,",
            false => "has no block",
        };
        if let Some(first) = self.holes.took(height) {
            let node = self.node.url();
            self.voice.say(&format!(
                "{node} {lacks} at {}, and one at {height}: passed over, as --skip-missing says",
                range(first, height - 1)
            ));
        }
        BlockMessage { read_bytes: body.len() as u64, height: Some(height), line: None, body }
    }

    fn missing(&mut self, seen: u64) -> Result<()> {
        self.answered();
        let height = self.next_height;
        match self.holes.missing(height, seen, std::time::Instant::now()) {
            Missing::PassOver => {
                self.next_height += 1;
                self.in_a_row += 1;
                self.empty_answers = 0;
                Ok(())
            }
            Missing::InHole { is_told } => {
                let why = format!(
                    "{} has no block at height {height}, and one at {}: it was pruned, or has lost some",
                    self.node.url(),
                    self.holes.seen(),
                );
                if self.last_height.is_some() && !self.holes.skips() {
                    return Err(anyhow!(
                        "{why}; {}; --skip-missing goes on without",
                        self.unpublished()
                    ));
                }
                if !is_told && !self.holes.skips() {
                    self.voice.say(&format!(
                        "{why}; asking again. --skip-missing goes on with the next that it has, --from-height with another: clients are told of the gap, unless blocks.heights is \"sparse\""
                    ));
                }
                self.start_over(self.poll);
                Ok(())
            }
            Missing::AboveTip => self.missing_above_tip(),
        }
    }

    /// The node does not have the whole of the next block, which may be passed over: as soon as there is
    /// a higher one.
    fn pruned(&mut self, seen: u64, error: NodeError) -> Result<()> {
        if self.holes.passes_over(self.next_height) {
            self.trouble = None;
            self.lacks_transactions = true;
            return self.missing(seen);
        }
        let wait = self.failed(error)?;
        self.look = Some(TipLook::Whole);
        self.start_over(wait);
        Ok(())
    }

    fn missing_above_tip(&mut self) -> Result<()> {
        let (node, height) = (self.node.url(), self.next_height);
        self.empty_answers += 1;
        if self.last_height.is_some() {
            if self.empty_answers > 1 {
                return Err(anyhow!(
                    "{node} has no block at height {height}, which is above its tip; {}",
                    self.unpublished()
                ));
            }
            self.look = Some(TipLook::Whole);
            self.start_over(Duration::ZERO);
            return Ok(());
        }
        if self.is_behind {
            self.voice.say(&format!("up to the tip; waiting for height {height}"));
            self.is_behind = false;
        }
        if self.empty_answers.is_multiple_of(LOOK_AFTER) {
            self.look = Some(TipLook::Passing);
        }
        let wait = self.woken_wait.unwrap_or(self.poll).min(self.poll);
        self.woken_wait = self.woken_wait.map(|wait| wait * 3).filter(|wait| *wait < self.poll);
        self.start_over(wait);
        Ok(())
    }

    /// What of the wanted heights is missing now.
    fn unpublished(&self) -> String {
        let last = self.last_height.unwrap_or(self.next_height);
        let were = if last == self.next_height { "was" } else { "were" };
        format!("{} {were} not published", range(self.next_height, last))
    }

    /// The failure for good of a block that no replica could read.
    fn unpublishable(&self, error: NodeError) -> anyhow::Error {
        let height = self.next_height;
        let is_long = matches!(error, NodeError::TooLong { .. });
        let more = match is_long {
            true => " (blocks.max_bytes, which replicas have too)",
            false => "",
        };
        let go_on = match self.last_height {
            Some(_) => self.unpublished(),
            None => format!(
                "--from-height {} goes on without it, whatever --state says, and clients are told of the gap",
                height.saturating_add(1)
            ),
        };
        anyhow!("height {height} is not published: {error}{more}; {go_on}")
    }

    fn start_over(&mut self, wait: Duration) {
        self.ahead.clear();
        self.in_a_row = 0;
        self.not_before = Some(Instant::now() + wait);
    }

    fn answered(&mut self) {
        self.backoff.reset();
        if self.trouble.take().is_some() {
            self.voice.say(&format!("{} answers again", self.node.url()));
        }
    }

    /// How long to wait before asking again, or the failure itself if that is not wanted.
    fn failed(&mut self, error: NodeError) -> Result<Duration> {
        let error = anyhow::Error::new(error);
        if !self.retry {
            return Err(error);
        }
        let told = told(&error);
        if self.trouble.as_ref() != Some(&told) {
            self.voice.say(&format!("{told}; asking again"));
            self.trouble = Some(told);
        }
        Ok(self.backoff.next(half_jitter()))
    }
}

/// Waits until the node's event stream says something; for ever without one.
///
/// # Cancel safety
/// No waking is lost.
async fn woken(wake: &Option<Wake>) {
    match wake {
        Some(wake) => wake.woken().await,
        None => std::future::pending().await,
    }
}

fn range(first: u64, last: u64) -> String {
    match first == last {
        true => format!("height {first}"),
        false => format!("heights {first}..{last}"),
    }
}
