//! `publish --node` of a node that lacks heights below one that it has.

use crate::support::broker::Broker;
use crate::support::chain::body;
use crate::support::client::Client;
use crate::support::eventually::eventually;
use crate::support::node::Node;
use crate::support::publishing::{heights, interrupted, publish};
use crate::support::replica::{Replica, config};

async fn node_of(count: u64) -> Node {
    Node::start((1..=count).map(|height| body(height, "noded"))).await
}

#[tokio::test]
async fn a_hole_is_told_and_waited_at_until_it_is_filled() {
    for has_latest in [false, true] {
        let config = config(Broker::shared());
        let node = node_of(9).await;
        node.lose([4, 5]);
        if has_latest {
            node.tell_latest();
        }
        let mut running = publish(&config, &node.url(), &["--from-height", "1"]).start();
        running
            .says(&format!("following {} from height 1 (--from-height); its tip is 9", node.url()))
            .await;
        let told = running.says(&format!("{} has no block at height 4", node.url())).await;
        assert!(told.contains("--skip-missing") && told.contains("blocks.heights"), "{told}");
        let asked = node.requests(4);
        eventually("it asks again", async || node.requests(4) > asked + 3).await;
        node.find(4);
        running.says(&format!("{} has no block at height 5, and one at 9", node.url())).await;
        node.find(5);
        running.says("up to the tip; waiting for height 10").await;
        interrupted(running).await.telling(&["9 blocks (heights 1 to 9)"]);
    }
}

#[tokio::test]
async fn with_leave_holes_are_passed_over_and_told_as_ranges() {
    let config = config(Broker::shared());
    let replica = Replica::start_ready(&config).await;
    let mut blocks = Client::connect(&replica.url("valid_blocks")).await;
    let node = node_of(60).await;
    node.lose([1, 2, 7]);
    node.lose(20..=39);
    let arguments = ["--from-height", "1", "--skip-missing"];
    let mut running = publish(&config, &node.url(), &arguments).start();
    for range in
        ["heights 1..2, and one at 3", "height 7, and one at 8", "heights 20..39, and one at 40"]
    {
        running.says(&format!("{} has no block at {range}: passed over", node.url())).await;
    }
    running.says("up to the tip; waiting for height 61").await;
    let expected: Vec<u64> =
        (3..=60).filter(|height| *height != 7 && !(20..=39).contains(height)).collect();
    assert_eq!(heights(&mut blocks, expected.len()).await, expected);

    // One that opens at the tip.
    node.lose([61]);
    node.set_tip(62);
    running.says(&format!("{} has no block at height 61, and one at 62: passed", node.url())).await;
    assert_eq!(heights(&mut blocks, 1).await, [62]);
    interrupted(running).await;
    replica.stop().await.expect("stopped");
}

#[tokio::test]
async fn a_hole_at_the_tip_is_never_waited_at_in_silence() {
    for has_latest in [false, true] {
        let config = config(Broker::shared());
        let node = node_of(3).await;
        if has_latest {
            node.tell_latest();
        }
        let mut running = publish(&config, &node.url(), &["--from-height", "1"]).start();
        running.says("up to the tip; waiting for height 4").await;
        node.lose([4]);
        node.set_tip(9);
        running.says(&format!("{} has no block at height 4, and one at ", node.url())).await;
        interrupted(running).await;
    }
}

#[tokio::test]
async fn a_pruned_nodes_tip_is_found() {
    for has_latest in [false, true] {
        let config = config(Broker::shared());
        let node = node_of(0).await;
        node.lose(1..=1_000);
        node.set_tip(1_500);
        if has_latest {
            node.tell_latest();
        }
        let mut running = publish(&config, &node.url(), &[]).start();
        running.says(&format!("following {} from height 1500 (the node's tip)", node.url())).await;
        running.says("up to the tip; waiting for height 1501").await;
        interrupted(running).await.telling(&["1 blocks (heights 1500 to 1500)"]);
        if has_latest {
            assert_eq!(node.requests(1), 0, "nothing is searched");
        }
    }
}

#[tokio::test]
async fn heights_in_a_hole_are_a_failure_or_passed_over_with_leave() {
    let config = config(Broker::shared());
    let node = node_of(9).await;
    node.lose([4, 5]);
    let ended = publish(&config, &node.url(), &["--heights", "3..7"]).run().await.with_code(1);
    ended.telling(&[
        "no block at height 4, and one at ",
        "heights 4..7 were not published",
        "--skip-missing",
    ]);
    let arguments = ["--heights", "3..7", "--skip-missing"];
    let ended = publish(&config, &node.url(), &arguments).run().await.with_code(0);
    ended.telling(&["no block at heights 4..5, and one at 6", "3 blocks (heights 3 to 7)"]);
    let arguments = ["--heights", "9..11", "--skip-missing"];
    let ended = publish(&config, &node.url(), &arguments).run().await.with_code(1);
    ended.telling(&["at height 10, which is above its tip; heights 10..11 were not published"]);
}
