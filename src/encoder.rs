//! The task that makes encodings which only some clients require: batches, Server-Sent Events,
//! compressed frames, the filters' index. Each is made once per block.
//!
//! New blocks are encoded as the present readers require, older ones when a reader asks. The task
//! is neither a session's nor the pipeline's, so neither waits for a large block. It knows of no client.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::history::History;

/// Does the jobs of `history`'s encode queue until `shutdown`.
pub async fn run(history: Arc<History>, shutdown: CancellationToken) {
    while let Some(jobs) = shutdown.run_until_cancelled(history.next_encode_jobs()).await {
        let making = tokio::task::spawn_blocking(|| {
            jobs.iter().for_each(crate::history::EncodeJob::make);
            jobs
        });
        history.count_encoded(making.await.expect("bug: encoding a block panicked"));
    }
}
