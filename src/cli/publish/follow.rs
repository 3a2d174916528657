//! The blocks of a node, height by height, whatever becomes of the node in between.
//!
//! Behind the tip a few heights are asked for at once; at the tip the next one is, again and again.
//! A failure is said once, and the same height asked for again after a growing wait.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::blocks::{BODY_BYTES_MAX, Block};
use super::heights::{FIRST, Start, TipSearch};
use super::node::{Node, NodeError};
use super::progress::Voice;
use crate::backoff::Backoff;

/// Heights asked for at once, where as many were there in a row: enough to hide a node's answer
/// time, few enough not to weigh on it.
const AHEAD_MAX: usize = 8;
/// What one answer may take up before its turn; a longer one is asked for again then. So the
/// blocks waiting here take 7 times this at most, and the next one `BODY_BYTES_MAX`.
const AHEAD_BYTES_MAX: usize = 8 << 20;

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
    /// How many heights were there since one was not.
    in_a_row: usize,
    not_before: Option<Instant>,
    is_behind: bool,
    /// The failure that was said, until the node answers.
    trouble: Option<String>,
    backoff: Backoff,
}

struct Fetch {
    bytes_max: usize,
    answer: AbortOnDropHandle<Result<Option<Vec<u8>>, NodeError>>,
}

/// How to follow.
pub struct Following {
    pub node: Node,
    /// Fail instead of asking again.
    pub retry: bool,
    /// Between two questions for a height that is not there yet.
    pub poll: Duration,
    pub voice: Voice,
}

impl Follower {
    /// Asks for nothing yet; from the first height on and without an end, unless told otherwise.
    pub fn new(Following { node, retry, poll, voice }: Following) -> Self {
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
            trouble: None,
            backoff: Backoff::default(),
        }
    }

    /// These heights and no others; one that the node does not have is then a failure.
    pub fn only(&mut self, first: u64, last: u64) {
        (self.next_height, self.last_height) = (first, Some(last));
    }

    /// Looks where the node's tip is and says from where to where it goes. Returns how many blocks
    /// there are to come before the tip is passed.
    ///
    /// # Errors
    /// With `--no-retry` what the node failed with.
    pub async fn begin(&mut self, start: Start, why: &str) -> Result<u64> {
        let before = match start {
            Start::At(height) => height.saturating_sub(1),
            Start::Latest => 0,
        };
        let is_there = before > 0 && self.ask(before).await?;
        let mut search = TipSearch::above(if is_there { before } else { 0 });
        while let Some(height) = search.next() {
            let is_there = self.ask(height).await?;
            search.learn(height, is_there);
        }
        let tip = search.tip();
        self.next_height = match start {
            Start::At(height) => height,
            Start::Latest => tip.max(FIRST),
        };
        let (node, next) = (self.node.url(), self.next_height);
        self.voice.say(&match tip {
            0 => format!("{node} has no block yet; waiting for height {next} ({why})"),
            tip if tip + 1 < next => format!(
                "{node} has blocks up to {tip} only; waiting for height {next} ({why}): is it of the same chain, and has it all its blocks?"
            ),
            tip => format!("following {node} from height {next} ({why}); its tip is {tip}"),
        });
        self.is_behind = tip >= next;
        Ok((tip + 1).saturating_sub(next))
    }

    /// The next height's block; `None` at the end, which only [`Self::only`] sets. Waits for as long
    /// as the node does not give it.
    ///
    /// # Errors
    /// With `--no-retry` what the node failed with; a height of [`Self::only`] is not there.
    ///
    /// # Cancel safety
    /// What was asked for is kept for the next call.
    pub async fn next(&mut self) -> Result<Option<Block>> {
        loop {
            if let Some(at) = self.not_before {
                tokio::time::sleep_until(at).await;
                self.not_before = None;
            }
            self.fetch();
            let Some(fetch) = self.ahead.front_mut() else { return Ok(None) };
            let answer = (&mut fetch.answer).await;
            let answer = answer.expect("bug: a fetch does not panic, and nobody aborts it");
            let bytes_max = fetch.bytes_max;
            self.ahead.pop_front();
            match answer {
                Ok(Some(body)) => return Ok(Some(self.took(body))),
                Ok(None) => self.missing()?,
                Err(NodeError::TooLong { .. }) if bytes_max < BODY_BYTES_MAX => {
                    self.ahead.push_front(self.fetched(self.next_height, BODY_BYTES_MAX));
                }
                Err(error) => {
                    let wait = self.failed(error)?;
                    self.start_over(wait);
                }
            }
        }
    }

    /// Whether the node has a block at `height`; asks until it says.
    async fn ask(&mut self, height: u64) -> Result<bool> {
        loop {
            match self.node.block(height, BODY_BYTES_MAX).await {
                Ok(block) => {
                    self.answered();
                    return Ok(block.is_some());
                }
                Err(error) => tokio::time::sleep(self.failed(error)?).await,
            }
        }
    }

    /// Asks for as many heights as may be under way.
    fn fetch(&mut self) {
        let count_max = self.in_a_row.clamp(1, AHEAD_MAX);
        while self.ahead.len() < count_max {
            let height = self.next_height + self.ahead.len() as u64;
            if self.last_height.is_some_and(|last| height > last) {
                break;
            }
            let is_next = self.ahead.is_empty();
            let bytes_max = if is_next { BODY_BYTES_MAX } else { AHEAD_BYTES_MAX };
            self.ahead.push_back(self.fetched(height, bytes_max));
        }
    }

    fn fetched(&self, height: u64, bytes_max: usize) -> Fetch {
        let node = Arc::clone(&self.node);
        let answer = tokio::spawn(async move { node.block(height, bytes_max).await });
        Fetch { bytes_max, answer: AbortOnDropHandle::new(answer) }
    }

    fn took(&mut self, body: Vec<u8>) -> Block {
        self.answered();
        self.in_a_row += 1;
        self.is_behind |= self.in_a_row >= AHEAD_MAX;
        let height = self.next_height;
        self.next_height += 1;
        Block { read_bytes: body.len() as u64, height: Some(height), body }
    }

    fn missing(&mut self) -> Result<()> {
        self.answered();
        let (node, height) = (self.node.url(), self.next_height);
        if let Some(last) = self.last_height {
            let heights = match height == last {
                true => format!("height {height} was"),
                false => format!("heights {height}..{last} were"),
            };
            return Err(anyhow!(
                "{node} has no block at height {height}, which is above its tip; {heights} not published"
            ));
        }
        if self.is_behind {
            self.voice.say(&format!("up to the tip; waiting for height {height}"));
            self.is_behind = false;
        }
        self.start_over(self.poll);
        Ok(())
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
        let told = super::super::told(&error);
        if self.trouble.as_ref() != Some(&told) {
            self.voice.say(&format!("{told}; asking again"));
            self.trouble = Some(told);
        }
        Ok(self.backoff.next(super::super::half_jitter()))
    }
}
