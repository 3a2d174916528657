//! Keeps what credentials are compared with as new as the files.

use std::sync::Arc;

use tracing::{error, info};

use super::Guard;
use crate::config;
use crate::history::History;
use crate::metrics::{AuthReload, Metrics};
use crate::reload::Requests;
use crate::watched::Change;

/// Reads the files again whenever they change, or at once when it is asked for (SIGHUP), until
/// the task is dropped. Sessions of tokens that are gone are woken, and end.
pub async fn watch(
    guard: Arc<Guard>,
    reload: Requests,
    metrics: Arc<Metrics>,
    history: Arc<History>,
) {
    if guard.is_off() {
        return std::future::pending().await;
    }
    let tell = |change: Change<config::Auth>| match change {
        Ok(known) => {
            let revoked = known.revoked;
            metrics.auth_reloads.add(AuthReload::Loaded);
            info!(revoked, "credentials read again");
            if revoked > 0 {
                history.wake_readers();
            }
        }
        Err(error) => {
            metrics.auth_reloads.add(AuthReload::Failed);
            error!(%error, "cannot use the new credentials; the old ones stay in force");
        }
    };
    match guard.files.keep(reload, tell).await {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reload::Reload;
    use crate::watched::LOOK_INTERVAL;

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
        tokio::time::sleep(LOOK_INTERVAL / 2).await;
        assert_eq!(loaded(), 1, "it was asked for");
        write("third");
        tokio::time::sleep(LOOK_INTERVAL / 4).await;
        assert_eq!(loaded(), 1, "nobody has looked");
        tokio::time::sleep(LOOK_INTERVAL * 2).await;
        assert_eq!(loaded(), 2);
        watching.abort();
    }
}
