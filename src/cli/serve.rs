//! `serve`: the bridge, from its start to its drained end.

use std::pin::pin;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::outcome::{Failure, Outcome};
use super::signals::{HangUps, Signals};
use crate::bridge::{Bridge, SetupError};
use crate::config::Config;
use crate::reload::Reload;
use crate::server;
use crate::telemetry;

/// Serves until the first SIGTERM or SIGINT and then drains; a second one ends at once. SIGHUP has
/// files read again.
///
/// # Errors
/// An address cannot be bound, the bridge fails, or a second signal cut the drain short.
pub async fn run(config: Config) -> Outcome {
    telemetry::init(&config.log).map_err(|error| Failure::Usage(error.into()))?;
    for warning in config.warnings() {
        warn!(%warning, "the configuration may not say what is meant");
    }
    let mut signals = Signals::new()?;
    let hang_ups = HangUps::new()?;
    let bridge = Bridge::bind(config).await.map_err(explain)?;
    let shutdown = CancellationToken::new();
    let mut reloading = pin!(pass_on(hang_ups, bridge.reload()));
    let mut running = pin!(bridge.run(shutdown.clone()));
    let signal = tokio::select! {
        outcome = &mut running => return Ok(outcome.context("the bridge failed")?),
        signal = signals.next() => signal,
        () = &mut reloading => unreachable!("bug: hang-ups have no end"),
    };
    info!(signal, "draining; a second signal ends at once");
    shutdown.cancel();
    tokio::select! {
        outcome = &mut running => outcome.context("the bridge failed while draining")?,
        signal = signals.next() => {
            return Err(anyhow!("a second signal ({signal}) ended the drain: clients were cut").into());
        }
        () = &mut reloading => unreachable!("bug: hang-ups have no end"),
    }
    info!("drained");
    Ok(())
}

/// Passes SIGHUP on to all that read files. Never returns.
async fn pass_on(mut hang_ups: HangUps, reload: Arc<Reload>) {
    loop {
        hang_ups.next().await;
        info!("SIGHUP: reading files again, where any are configured");
        reload.ask();
    }
}

/// A failure to start, with the key to change where one is at fault.
fn explain(error: SetupError) -> Failure {
    match error {
        SetupError::Listen(server::BindError::Listen { key, reason }) => {
            anyhow!("cannot start: {reason}; set {key} to another address").into()
        }
        SetupError::Listen(error @ server::BindError::Auth(_)) => {
            Failure::Usage(anyhow!("cannot start: {error}; see server.auth"))
        }
        error @ SetupError::Address(_) => anyhow!(error).context("cannot start").into(),
        SetupError::Tls(error) => Failure::Usage(anyhow!("cannot start: {error}")),
        SetupError::BrokerTls(error) => Failure::Usage(anyhow!("cannot start: {error}")),
    }
}
