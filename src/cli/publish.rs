//! `publish`: block messages into the exchange, in order, each confirmed: from lines, which are not
//! checked, for that is the bridge's part, or from a node's HTTP API.

mod advice;
mod blocks;
mod follow;
pub mod heights;
mod hole;
pub mod node;
mod pace;
mod progress;
mod publication;
mod source;
mod state;
mod stoppage;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};

use super::arguments::{NodeOptions, PublishOptions};
use super::outcome::{Failure, Outcome, say_warnings};
use super::signals::Signals;
use crate::block::DecodeRules;
use crate::client::Trust;
use crate::config::Config;
use blocks::BlockReader;
use follow::{Follower, Following};
use heights::{FirstHeight, HeightRange};
use node::{Asking, Node, NodeUrl};
use pace::Pace;
use progress::Extent;
use publication::Publication;
use source::BlockSupply;
use state::PublishState;

/// How long an interrupted run waits for the confirms under way.
const LAST_CONFIRMS: Duration = Duration::from_secs(5);

/// Publishes all blocks, or until SIGTERM or SIGINT, which is no failure.
///
/// # Errors
/// The lines cannot be read, no broker is reachable at the start, it refuses, or no queue is bound to
/// take the messages; a height of `--heights` that the node does not have; with `--no-retry` also a
/// lost connection and a node that fails.
pub async fn run(config: Config, options: PublishOptions) -> Outcome {
    say_warnings(&config);
    let mut signals = Signals::new()?;
    let url = match &options.node.node {
        Some(text) => Some(text.parse().map_err(|why| Failure::Usage(anyhow!("--node: {why}")))?),
        None => None,
    };
    let state = match (&options.node.state, &url) {
        (Some(path), Some(url)) => Some(PublishState::open(path, &url.to_string())).transpose(),
        _ => Ok(None),
    };
    let state = state.map_err(Failure::Usage)?;
    let mut publication = Publication::new(Arc::new(config.amqp.clone()), !options.no_retry, state)
        .map_err(Failure::Usage)?;
    let mut source = match (&options.file, url) {
        (_, Some(url)) => BlockSupply::Node(follower(
            asking(url, &options.node, &config)?,
            &options,
            &mut publication,
        )?),
        (Some(file), None) => BlockSupply::Lines(
            BlockReader::open(file, options.repeat).await.map_err(Failure::Usage)?,
        ),
        (None, None) => unreachable!("bug: the arguments ask for a file or a node"),
    };
    let pace = Pace::new(options.rate.map(|period| period.0));
    let all = async {
        begin(&mut source, &options.node, &mut publication).await?;
        publication.publish_all(&mut source, pace).await
    };
    let outcome = tokio::select! {
        outcome = all => outcome,
        _ = signals.next() => Ok(()),
    };
    if outcome.is_ok() {
        // A second signal cuts it short; what is unconfirmed is told by the summary.
        tokio::select! {
            _ = tokio::time::timeout(LAST_CONFIRMS, publication.confirm_rest()) => {}
            _ = signals.next() => {}
        }
    }
    let remembered = publication.finish();
    publication.close().await;
    outcome?;
    Ok(remembered?)
}

fn asking(url: NodeUrl, options: &NodeOptions, config: &Config) -> Result<Asking, Failure> {
    let trust = options.ca.as_deref().map(Trust::read).transpose();
    let trust = trust.map_err(|error| Failure::Usage(anyhow!("--ca: {error}")))?;
    let rules = DecodeRules::of(&config.blocks, config.history.block_bytes_max());
    Ok(Asking { url, trust, answer_within: options.timeout, rules })
}

fn follower(
    asking: Asking,
    options: &PublishOptions,
    publication: &mut Publication,
) -> Result<Follower> {
    let mut follower = Follower::new(Following {
        node: Node::new(asking)?,
        retry: !options.no_retry,
        poll: options.node.poll,
        skip_missing: options.node.skip_missing,
        voice: publication.progress().voice(),
    });
    if let Some(HeightRange(heights)) = &options.node.heights {
        follower.only(*heights.start(), *heights.end());
    }
    Ok(follower)
}

/// What must be known before the first block: what is published already, and how much there is.
async fn begin(
    source: &mut BlockSupply,
    options: &NodeOptions,
    publication: &mut Publication,
) -> Result<()> {
    let extent = match (source, &options.heights) {
        (BlockSupply::Lines(blocks), _) => {
            if blocks.repeats() {
                for height in publication.tail_heights().await? {
                    blocks.know(height);
                }
            }
            blocks.bytes_total().map_or(Extent::Unknown, Extent::Bytes)
        }
        (BlockSupply::Node(_), Some(HeightRange(heights))) => {
            Extent::BlockReader((heights.end() - heights.start()).saturating_add(1))
        }
        (BlockSupply::Node(follower), None) => {
            let (start, why) = start(options, publication).await?;
            match follower.begin(start, why).await? {
                0 => Extent::Unknown,
                blocks => Extent::BlockReader(blocks),
            }
        }
    };
    publication.progress().expect(extent);
    Ok(())
}

/// Where following begins, and who says so.
async fn start(
    options: &NodeOptions,
    publication: &mut Publication,
) -> Result<(FirstHeight, &'static str)> {
    if let Some(start) = options.from_height {
        return Ok((start, "--from-height"));
    }
    if let Some(height) = publication.remembered_height() {
        return Ok((FirstHeight::At(height.saturating_add(1)), "above the state's"));
    }
    let heights = publication.tail_heights().await?;
    Ok(match heights.into_iter().max() {
        Some(newest) => {
            (FirstHeight::At(newest.saturating_add(1)), "above the RabbitMQ stream's newest")
        }
        None => (FirstHeight::Latest, "the node's tip"),
    })
}
