//! What clients that resume far back cost those that are live: the service's own time from a block in
//! its history to a session's socket, the 99th percentile, without and beside deep reads.

use std::time::Duration;

use super::load::Clients;
use super::service::Service;

/// A history that holds some 1,000 of these blocks.
pub const SETTINGS: [&str; 2] = ["history.max_bytes=900kB", "blocks.max_bytes=64KiB"];
const BLOCKS: u64 = 50_000;
const LIVE: usize = 500;
pub const RESUMERS: usize = 20;
/// Live blocks in each half, one every so often.
const LIVE_BLOCKS: u64 = 200;
const EVERY: Duration = Duration::from_millis(20);

/// Seconds.
pub struct Cost {
    pub alone: f64,
    pub beside: f64,
    pub read_blocks_per_second: f64,
}

/// Needs a service with [`SETTINGS`].
pub async fn measure(service: &Service) -> Cost {
    service.publish_all((1..=BLOCKS).map(body)).await;
    service.reaches(BLOCKS).await;
    let mut live = Clients::connect_asking(service.address, vec![String::new(); LIVE]).await;
    let before = service.metrics().await;
    run(service, &mut live, BLOCKS + 1).await;
    let between = service.metrics().await;
    let mut random = fastrand::Rng::with_seed(1);
    let queries = (0..RESUMERS).map(|_| format!("?from_height={}", random.u64(1..BLOCKS / 2)));
    let mut resumers = Clients::connect_asking(service.address, queries).await;
    resumers.read_during(run(service, &mut live, BLOCKS + LIVE_BLOCKS + 1)).await;
    let after = service.metrics().await;
    let read = |text: &str| value(text, "blockcast_deep_read_blocks_total");
    let seconds = EVERY.as_secs_f64() * LIVE_BLOCKS as f64;
    Cost {
        alone: p99(&before, &between),
        beside: p99(&between, &after),
        read_blocks_per_second: (read(&after) - read(&between)) / seconds,
    }
}

async fn run(service: &Service, live: &mut Clients, first: u64) {
    let mut due = tokio::time::interval(EVERY);
    for height in first..first + LIVE_BLOCKS {
        due.tick().await;
        let sending = async {
            service.publish(body(height)).await;
            Ok(())
        };
        live.all_have(1, sending).await.expect("a block");
    }
}

fn body(height: u64) -> Vec<u8> {
    format!("{{\"height\": {height}, \"transactions\": [{{\"id\": \"{height:064x}\"}}]}}")
        .into_bytes()
}

fn value(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.expect("the metric").parse().expect("a number")
}

/// Of what was observed between two looks, as Prometheus' `histogram_quantile` has it.
fn p99(before: &str, after: &str) -> f64 {
    let buckets = |text: &str| -> Vec<(f64, f64)> {
        let name = "blockcast_append_to_write_seconds_bucket{le=\"";
        let lines = text.lines().filter_map(|line| line.strip_prefix(name)?.split_once("\"} "));
        lines
            .map(|(bound, count)| {
                (bound.parse().unwrap_or(f64::INFINITY), count.parse().expect("a number"))
            })
            .collect()
    };
    let counts: Vec<(f64, f64)> = buckets(before)
        .iter()
        .zip(buckets(after))
        .map(|(before, after)| (after.0, after.1 - before.1))
        .collect();
    let rank = 0.99 * counts.last().expect("a bucket").1;
    let mut below = (0.0, 0.0);
    for (bound, count) in counts {
        if count >= rank {
            return below.0 + (bound - below.0) * (rank - below.1) / (count - below.1);
        }
        below = (bound, count);
    }
    unreachable!("bug: the last bucket holds all")
}
