//! `publish --node`: how many listed transactions a node is asked for at a time.

use crate::support::broker::Broker;
use crate::support::eventually::eventually;
use crate::support::node::{Held, Node};
use crate::support::publishing::listing;
use crate::support::publishing::publish;
use crate::support::replica::config;

const FOR_A_BLOCK: usize = 8;
const IN_ALL: usize = 16;
/// Of each block that lists any.
const TRANSACTIONS: usize = 30;
/// Blocks without any, which lead to as many heights being asked for at a time.
const EMPTY: std::ops::RangeInclusive<u64> = 2..=9;
const LAST: u64 = 17;

/// Has the answers given one by one, once as many are due as may be, so that whatever else would be
/// asked for has the time to be.
async fn one_by_one(held: &Held, answers: usize, most_due: usize) {
    let before = held.counts().answered;
    eventually("as many are due as may be", async || held.counts().due == most_due).await;
    for answered in 1..=answers {
        held.let_go(1);
        eventually("one is answered", async || held.counts().answered == before + answered).await;
    }
    assert_eq!(held.counts().most_due, most_due);
}

#[tokio::test]
async fn transactions_are_asked_for_several_at_a_time_and_never_more() {
    let config = config(Broker::shared());
    let node = Node::start([]).await;
    for height in (1..=LAST).filter(|height| !EMPTY.contains(height)) {
        let ids = Vec::from_iter((0..TRANSACTIONS).map(|index| format!("{height}x{index}")));
        for id in &ids {
            node.put_transaction(id, format!("{{\"id\": \"{id}\"}}").as_bytes());
        }
        node.put(height, listing(height, &Vec::from_iter(ids.iter().map(String::as_str))));
    }
    node.set_tip(LAST);
    let held = node.hold_transactions();
    let heights = format!("1..{LAST}");
    let running =
        publish(&config, &node.url(), &["--heights", &heights, "--timeout", "60s"]).start();

    // The first block is alone: the next is asked for when it is there.
    one_by_one(&held, TRANSACTIONS, FOR_A_BLOCK).await;
    one_by_one(&held, 2 * TRANSACTIONS, IN_ALL).await;
    held.let_go(TRANSACTIONS * LAST as usize);
    running.ended().await.with_code(0).telling(&["17 blocks (heights 1 to 17)"]);
    assert_eq!(held.counts().most_due, IN_ALL);
}
