//! Waiting for something to become true, with a deadline instead of a sleep.

use std::time::Duration;

/// Long enough for a broker's restart on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_millis(20);

/// Asks `is_so` again and again until it is; panics with `what` if it never is.
pub async fn eventually(what: &str, is_so: impl AsyncFnMut() -> bool) {
    eventually_within(DEADLINE, what, is_so).await;
}

/// The same, of what other tests beside it may hold up for longer.
pub async fn eventually_within(
    deadline: Duration,
    what: &str,
    mut is_so: impl AsyncFnMut() -> bool,
) {
    let asked = async {
        while !is_so().await {
            tokio::time::sleep(INTERVAL).await;
        }
    };
    tokio::time::timeout(deadline, asked).await.unwrap_or_else(|_| panic!("never came: {what}"));
}
