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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::reload::Reload;

    /// Time stands still while something is done, the reading of files too.
    #[tokio::test(start_paused = true)]
    async fn files_are_read_when_it_is_asked_for_and_otherwise_at_the_next_look() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let write = |name: &str| {
            let line = format!("{name} {}\n", "ab".repeat(32));
            std::fs::write(file.path(), line).expect("written");
        };
        write("first");
        let files = config::Auth { tokens_file: Some(file.path().into()), ..Default::default() };
        let guard = Arc::new(Guard::load(&files).expect("loads"));
        let (reload, metrics) = (Reload::default(), Arc::new(Metrics::new()));
        let history = Arc::new(History::new(usize::MAX));
        let watching = watch(guard, reload.subscribe(), Arc::clone(&metrics), history);
        let watching = tokio::spawn(watching);
        let loaded = || metrics.auth_reloads.get(AuthReload::Loaded);

        write("second");
        reload.ask();
        tokio::time::sleep(POLL_INTERVAL / 2).await;
        assert_eq!(loaded(), 1, "it was asked for");
        write("third");
        tokio::time::sleep(POLL_INTERVAL / 4).await;
        assert_eq!(loaded(), 1, "nobody has looked");
        tokio::time::sleep(POLL_INTERVAL * 2).await;
        assert_eq!(loaded(), 2);
        watching.abort();
    }
}
