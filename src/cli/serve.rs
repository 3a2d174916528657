//! `serve`: the bridge, from its start to its drained end.

use std::pin::pin;

use anyhow::{Context, anyhow};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::signals::Signals;
use super::{Failure, Outcome};
use crate::bridge::Bridge;
use crate::config::Config;
use crate::telemetry;

/// Serves until the first SIGTERM or SIGINT and then drains; a second one ends at once.
///
/// # Errors
/// An address cannot be bound, the bridge fails, or a second signal cut the drain short.
pub async fn run(config: Config) -> Outcome {
    telemetry::init(&config.log).map_err(|error| Failure::Usage(error.into()))?;
    let mut signals = Signals::new()?;
    let bridge = Bridge::bind(config).await.context("cannot start")?;
    let shutdown = CancellationToken::new();
    let mut running = pin!(bridge.run(shutdown.clone()));
    let signal = tokio::select! {
        outcome = &mut running => return Ok(outcome.context("the bridge failed")?),
        signal = signals.next() => signal,
    };
    info!(signal, "draining; a second signal ends at once");
    shutdown.cancel();
    tokio::select! {
        outcome = &mut running => outcome.context("the bridge failed while draining")?,
        signal = signals.next() => {
            return Err(anyhow!("a second signal ({signal}) ended the drain: clients were cut").into());
        }
    }
    info!("drained");
    Ok(())
}
