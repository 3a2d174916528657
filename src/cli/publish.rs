//! `publish`: block messages from lines into the exchange, in order, each confirmed. The messages
//! are not checked; that is the bridge's part.

mod blocks;
mod pace;
mod progress;
mod publication;

use std::time::Duration;

use super::arguments::PublishOptions;
use super::signals::Signals;
use super::{Failure, Outcome};
use crate::config::Config;
use blocks::Blocks;
use pace::Pace;
use progress::Progress;
use publication::Publication;

/// How long an interrupted run waits for the confirms under way.
const LAST_CONFIRMS: Duration = Duration::from_secs(5);

/// Publishes all lines, or until SIGTERM or SIGINT, which is no failure.
///
/// # Errors
/// The lines cannot be read, no broker is reachable at the start, it refuses, or no queue is bound to
/// take the messages; with `--no-retry` also a lost connection.
pub async fn run(config: Config, options: PublishOptions) -> Outcome {
    let mut signals = Signals::new()?;
    let blocks = Blocks::open(&options.file, options.repeat).await.map_err(Failure::Usage)?;
    let progress = Progress::new(blocks.bytes_total());
    let mut publication = Publication::new(&config.amqp, !options.no_retry, progress);
    let pace = Pace::new(options.rate.map(|period| period.0));
    let outcome = tokio::select! {
        outcome = publication.publish_all(blocks, pace) => outcome,
        _ = signals.next() => Ok(()),
    };
    if outcome.is_ok() {
        // A second signal cuts it short; what is unconfirmed is told by the summary.
        tokio::select! {
            _ = tokio::time::timeout(LAST_CONFIRMS, publication.confirm_rest()) => {}
            _ = signals.next() => {}
        }
    }
    publication.finish();
    publication.close().await;
    Ok(outcome?)
}
