//! Keeps what credentials are compared with as new as the files.

use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info};

use super::{Guard, Reread};
use crate::history::History;
use crate::metrics::{AuthReload, Metrics};
use crate::reload::Requests;

/// How long a change of a file may go unseen.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Reads the files again whenever they change, or at once when it is asked for (SIGHUP), until
/// the task is dropped. Sessions of tokens that are gone are woken, and end.
pub async fn watch(
    guard: Arc<Guard>,
    mut reload: Requests,
    metrics: Arc<Metrics>,
    history: Arc<History>,
) {
    if guard.is_off() {
        return std::future::pending().await;
    }
    loop {
        tokio::select! {
            () = reload.next() => {}
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
        let reading = Arc::clone(&guard);
        let reread = tokio::task::spawn_blocking(move || reading.reread()).await;
        match reread.expect("bug: reading the files panicked") {
            Reread::Unchanged => {}
            Reread::Loaded { revoked } => {
                metrics.auth_reloads.add(AuthReload::Loaded);
                info!(revoked, "credentials read again");
                if revoked > 0 {
                    history.wake_readers();
                }
            }
            Reread::Failed(error) => {
                metrics.auth_reloads.add(AuthReload::Failed);
                error!(%error, "cannot use the new credentials; the old ones stay in force");
            }
        }
    }
}
