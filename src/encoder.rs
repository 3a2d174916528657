//! Makers of encodings which only some clients require: batches, Server-Sent Events, compressed frames, the
//! filters' index. Each is made once per block.
//!
//! New blocks are encoded as the present readers require, older ones when a reader asks. The makers are
//! neither a session's nor the pipeline's, so neither waits for a large block. They know of no client.

use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::history::{Encodings, History};

/// Does the encode jobs of `history`, and of those that share its encodings, until `shutdown`: as many at a time as there are cores to spare.
pub async fn run(history: Arc<History>, shutdown: CancellationToken) {
    let cores = available_parallelism().map_or(1, NonZero::get);
    let makers = (0..makers_for(cores)).map(|_| make_jobs(history.encodings(), &shutdown));
    join_all(makers).await;
}

/// One core is left to those who write, if there is another.
fn makers_for(cores: usize) -> usize {
    cores.saturating_sub(1).max(1)
}

async fn make_jobs(encodings: &Arc<Encodings>, shutdown: &CancellationToken) {
    while let Some(mut job) = shutdown.run_until_cancelled(encodings.next_job()).await {
        let making = tokio::task::spawn_blocking(|| {
            job.make();
            job
        });
        making.await.expect("bug: encoding a block panicked").finish();
    }
}

#[cfg(test)]
mod tests {
    use super::makers_for;

    #[test]
    fn one_core_is_left_to_others() {
        let makers = [1, 2, 3, 8].map(makers_for);
        assert_eq!(makers, [1, 1, 2, 7]);
    }
}
