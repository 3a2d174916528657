//! A node's HTTP API, as far as it gives blocks: `GET {URL}/api/v1/blocks/{height}`.
//!
//! A node before Planetmint 2.2 answers with the whole block. From 2.2 on it lists the transactions'
//! ids, and the block is put together from an answer for each. Absent here: asking again, and which
//! height is next.

mod address;
mod answer;
mod error;
mod http;
mod url;
mod wake;

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

pub use error::NodeError;
pub use url::{NodeText, NodeUrl};
pub use wake::Wake;

use crate::block::{self, DecodeRules, Decoded};
use crate::client::Trust;
use answer::Listing;
use http::{Budget, Http};

/// A whole block may take so many times what one of its answers' parts may.
const PARTS: u32 = 10;
/// Transactions asked for at once for one block: enough to hide a node's answer time.
const TRANSACTIONS_AT_ONCE: usize = 8;
/// The same for all blocks that are under way: few enough not to weigh on a node.
const TRANSACTIONS_AT_ONCE_IN_ALL: usize = 16;
/// A block may be there some moments before its transactions. How long they are waited for.
const TRANSACTION_WITHIN: Duration = Duration::from_secs(5);
const TRANSACTION_FIRST_WAIT: Duration = Duration::from_millis(20);
const TRANSACTION_LONGEST_WAIT: Duration = Duration::from_millis(500);

/// A client of one node.
pub struct Node {
    url: NodeUrl,
    http: Http,
    trust: Option<Trust>,
    /// For an answer's head, and for each silence in its body.
    answer_within: Duration,
    transactions: Semaphore,
    /// What a replica accepts.
    rules: DecodeRules,
}

/// How a node is asked, and what its blocks must keep to.
pub struct Asking {
    pub url: NodeUrl,
    /// The authorities to trust instead of the system's.
    pub trust: Option<Trust>,
    pub answer_within: Duration,
    pub rules: DecodeRules,
}

impl Node {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// `https` without any certificate to trust on this machine.
    pub fn new(asking: Asking) -> anyhow::Result<Self> {
        let Asking { url, trust, answer_within, rules } = asking;
        let http = Http::new(&url, trust.clone(), answer_within)?;
        let transactions = Semaphore::new(TRANSACTIONS_AT_ONCE_IN_ALL);
        Ok(Self { url, http, trust, answer_within, transactions, rules })
    }

    pub fn url(&self) -> &NodeUrl {
        &self.url
    }

    /// The longest block that a replica reads.
    pub fn block_bytes_max(&self) -> usize {
        self.rules.body_bytes_max
    }

    /// The block at `height`, one that a replica can read: as the node words it, or put together
    /// from the node's words. `None` when the node has none there (yet). Never takes more than
    /// `bytes_max` bytes from the node.
    ///
    /// # Errors
    /// See [`NodeError`].
    pub async fn block(&self, height: u64, bytes_max: usize) -> Result<Option<Vec<u8>>, NodeError> {
        let within = self.answer_within * PARTS;
        let slow = || NodeError::Slow { url: self.url.block(height), within };
        timeout(within, self.whole_block(height, bytes_max)).await.unwrap_or_else(|_| Err(slow()))
    }

    /// Whether the node has a block at `height`, of whatever kind.
    ///
    /// # Errors
    /// See [`NodeError`].
    pub async fn has(&self, height: u64) -> Result<bool, NodeError> {
        let url = self.url.block(height);
        match self.http.get(&url, &Budget::new(self.rules.body_bytes_max)).await {
            Ok(Some(body)) => self.expect_height(url, height, &body).map(|()| true),
            Ok(None) => Ok(false),
            Err(NodeError::TooLong { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The newest height, by a node that says it: `blocks/latest`, as Planetmint has it. `None` when
    /// the node has no such thing, or no block.
    ///
    /// # Errors
    /// The node does not answer.
    pub async fn latest(&self) -> Result<Option<u64>, NodeError> {
        let url = self.url.latest();
        match self.http.get(&url, &Budget::new(self.rules.body_bytes_max)).await {
            Ok(body) => Ok(body.and_then(|body| block::height_of(&body))),
            // What has no such path says so in its own way, or takes the word for a bad height.
            Err(NodeError::Status { .. } | NodeError::TooLong { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn whole_block(
        &self,
        height: u64,
        bytes_max: usize,
    ) -> Result<Option<Vec<u8>>, NodeError> {
        let url = self.url.block(height);
        let budget = Budget::new(bytes_max);
        let Some(body) = self.http.get(&url, &budget).await? else { return Ok(None) };
        self.expect_height(url.clone(), height, &body)?;
        let unreadable = |why| NodeError::Unreadable { url: url.clone(), height, why };
        let Some(listing) = Listing::of(&body) else {
            block::decode(&body, &self.rules).map_err(unreadable)?;
            return Ok(Some(body));
        };
        let transactions = self.transactions(&listing, &budget).await?;
        let whole = listing.whole(height, &transactions);
        if let Decoded::Block(block) = block::decode(&whole, &self.rules).map_err(unreadable)? {
            let ids = (0..block.fields.len()).map(|index| block.fields.transaction_id(index));
            if !ids.eq(listing.ids()) {
                return Err(NodeError::OtherTransactions { url });
            }
        }
        Ok(Some(whole))
    }

    fn expect_height(&self, url: String, height: u64, body: &[u8]) -> Result<(), NodeError> {
        match block::height_of(body) {
            Some(said) if said == height => Ok(()),
            Some(said) => Err(NodeError::OtherHeight { url, height: said }),
            None => {
                let why = block::decode(body, &self.rules).err().map(|error| error.to_string());
                Err(NodeError::NoBlock { url, why: why.unwrap_or_default() })
            }
        }
    }

    /// The listed transactions, in the listing's order.
    async fn transactions(
        &self,
        listing: &Listing<'_>,
        budget: &Budget,
    ) -> Result<Vec<Vec<u8>>, NodeError> {
        let urls: Vec<String> = listing.ids().map(|id| self.url.transaction(id)).collect();
        let answers = urls.into_iter().map(|url| self.transaction(url, budget));
        stream::iter(answers).buffered(TRANSACTIONS_AT_ONCE).try_collect().await
    }

    async fn transaction(&self, url: String, budget: &Budget) -> Result<Vec<u8>, NodeError> {
        let deadline = Instant::now() + TRANSACTION_WITHIN;
        let mut wait = TRANSACTION_FIRST_WAIT;
        loop {
            let answer = {
                let _turn = self.transactions.acquire().await.expect("bug: it is never closed");
                self.http.get(&url, budget).await?
            };
            match answer {
                Some(body) if answer::is_object(&body) => return Ok(body),
                Some(_) => return Err(NodeError::OtherTransactions { url }),
                None if Instant::now() >= deadline => return Err(NodeError::NoTransaction { url }),
                None => tokio::time::sleep(wait).await,
            }
            wait = (wait * 2).min(TRANSACTION_LONGEST_WAIT);
        }
    }
}
