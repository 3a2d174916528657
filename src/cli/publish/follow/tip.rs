//! Where a node's tip is, and whether it has anything above a height: the node's own word where it has
//! `blocks/latest`, else a search.

use std::sync::Arc;

use anyhow::Result;

use super::super::heights::{self, FIRST, FirstHeight, TipSearch};
use super::super::node::Wake;
use super::{Follower, TipLook};

impl Follower {
    /// Looks where the node's tip is and says from where to where it goes. Returns how many blocks
    /// there are to come before the tip is passed.
    ///
    /// # Errors
    /// With `--no-retry` what the node failed with.
    pub async fn begin(&mut self, start: FirstHeight, why: &str) -> Result<u64> {
        let tip = match self.latest().await? {
            Some(latest) => latest,
            None => self.search(start).await?,
        };
        self.holes.saw(tip);
        self.next_height = match start {
            FirstHeight::At(height) => height,
            FirstHeight::Latest => tip.max(FIRST),
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
        self.wake = Some(Wake::listen(Arc::clone(&self.node), self.voice.clone()));
        Ok((tip + 1).saturating_sub(next))
    }

    /// Searches the node's tip, without its help.
    async fn search(&mut self, start: FirstHeight) -> Result<u64> {
        let before = match start {
            FirstHeight::At(height) => height.saturating_sub(1),
            FirstHeight::Latest => 0,
        };
        let is_there = before > 0 && self.ask(before).await?;
        let mut search = TipSearch::above(if is_there { before } else { 0 });
        while let Some(height) = search.next() {
            let is_there = self.ask(height).await?;
            search.learn(height, is_there);
        }
        Ok(search.tip())
    }

    /// Looks whether the node has a block above the next height.
    pub(super) async fn look_above(&mut self, look: TipLook) -> Result<()> {
        if let Some(latest) = self.latest().await? {
            self.holes.saw(latest);
            return Ok(());
        }
        let mut power = match look {
            TipLook::Passing => self.looks,
            TipLook::Whole => 0,
        };
        self.looks += 1;
        while let Some(height) = heights::beyond(self.next_height, power) {
            if self.ask(height).await? {
                self.holes.saw(height);
                return Ok(());
            }
            if look == TipLook::Passing {
                return Ok(());
            }
            power += 1;
        }
        self.looks = 0;
        Ok(())
    }

    /// The node's own word on its tip, if it has one; asks until it answers.
    async fn latest(&mut self) -> Result<Option<u64>> {
        loop {
            match self.node.latest().await {
                Ok(latest) => {
                    self.answered();
                    return Ok(latest);
                }
                Err(error) => tokio::time::sleep(self.failed(error)?).await,
            }
        }
    }

    /// Whether the node has a block at `height`; asks until it says.
    async fn ask(&mut self, height: u64) -> Result<bool> {
        loop {
            match self.node.has(height).await {
                Ok(is_there) => {
                    self.answered();
                    return Ok(is_there);
                }
                Err(error) => tokio::time::sleep(self.failed(error)?).await,
            }
        }
    }
}
