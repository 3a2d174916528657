//! Producers that differ, die, mix up heights or begin again.

use std::time::Duration;

use blockcast::config::Hold;

use crate::support::broker::Broker;
use crate::support::chain::publish;
use crate::support::load::{
    Pace, Producer, all_have_the_chain, body, follow, followers, transactions,
};
use crate::support::process::Process;
use crate::support::replica::config;

#[tokio::test(flavor = "multi_thread")]
async fn producers_at_different_speeds_that_die_or_begin_again_make_one_chain() {
    let config = config(Broker::shared());
    let replicas = [Process::start_ready(&config).await, Process::start_ready(&config).await];
    let urls = replicas.each_ref().map(|replica| replica.url("valid_transactions"));
    let clients = followers(&urls, 10);
    let mut fast = Producer::start(&config, Pace { blocks: 20, every: Duration::from_millis(10) });
    let mut slow = Producer::start(&config, Pace { blocks: 3, every: Duration::from_millis(10) });
    fast.confirms(200).await;
    slow.confirms(1).await;
    // Wherever it is in its burst.
    let died_at = fast.die();
    while slow.confirmed() < died_at + 50 {
        slow.confirms(10).await;
    }
    let mut again = Producer::start(&config, Pace { blocks: 20, every: Duration::from_millis(10) });
    again.confirms(100).await;
    again.die();
    all_have_the_chain(clients, slow.end().await).await;
    for replica in replicas {
        let duplicates = replica.metric("blockcast_deliveries_total{outcome=\"duplicate\"}").await;
        assert!(duplicates >= (died_at + 100) as f64, "{duplicates}");
        assert_eq!(replica.metric("blockcast_missing_blocks_total").await, 0.0);
        replica.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heights_mixed_up_within_the_hold_are_put_in_order_and_only_a_missing_one_is_a_gap() {
    const WINDOW: usize = 16;
    const MISSING: std::ops::RangeInclusive<u64> = 321..=323;
    const LAST: u64 = 500;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut config = config(Broker::shared());
    config.blocks.hold = Hold::For(Duration::from_secs(2));
    let replica = Process::start_ready(&config).await;
    let client = tokio::spawn(follow(replica.url("valid_transactions")));
    let is_published = |height: &u64| !MISSING.contains(height);
    // The first and the last stay in their places: they say where the chain begins and ends.
    let mut heights: Vec<u64> = (2..LAST).filter(is_published).collect();
    heights.chunks_mut(WINDOW).for_each(|window| random.shuffle(window));
    publish(&config, [body(1, "x")]).await;
    publish(&config, heights.iter().map(|height| body(*height, "x"))).await;
    publish(&config, [body(LAST, "end")]).await;

    let followed = client.await.expect("it gets to the end");
    let heights = (1..LAST).filter(is_published);
    let before = heights.flat_map(|height| transactions(height, "x"));
    let expected = Vec::from_iter(before.chain(transactions(LAST, "end")));
    assert_eq!(followed.received, expected);
    assert_eq!(followed.gaps, [(*MISSING.start(), *MISSING.end())]);
    assert_eq!(replica.metric("blockcast_missing_blocks_total").await, MISSING.count() as f64);
    replica.logs("heights given up").await;
    replica.stop().await;
}
