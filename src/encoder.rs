//! Makes, once per block, what only some clients want of it: batches, Server-Sent Events, the
//! filters' index. Blocks as they come in are made ready for those who are there; older ones when
//! somebody asks.
//!
//! Off the sessions' tasks and off the pipeline, so that neither waits for a large block here. Knows
//! of no client.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::history::History;

/// Fills `history`'s orders until `shutdown`.
pub async fn run(history: Arc<History>, shutdown: CancellationToken) {
    while let Some(orders) = shutdown.run_until_cancelled(history.next_orders()).await {
        let making = tokio::task::spawn_blocking(|| {
            orders.iter().for_each(crate::history::Order::make);
            orders
        });
        history.count(making.await.expect("bug: encoding a block panicked"));
    }
}
