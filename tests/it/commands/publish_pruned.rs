//! `publish --node` of a node that has a block and no longer all the transactions that it lists.

use crate::support::broker::Broker;
use crate::support::chain::body;
use crate::support::eventually::eventually;
use crate::support::node::Node;
use crate::support::publishing::{SECOND, node_of_five, published, second};
use crate::support::publishing::{interrupted, publish};
use crate::support::replica::config;

const PASSED_OVER: &str =
    "has no block, or not all of its transactions, at height 5, and one at 6: passed over";

/// What is said of the fifth block.
fn told(node: &Node) -> String {
    let url = node.url();
    format!(
        "{url}/api/v1/transactions/{SECOND}: the node does not have this transaction, which a block of its own lists (--skip-missing or --from-height goes on without the block); asking again"
    )
}

/// The node of [`node_of_five`], with one more block, which is whole.
async fn node_of_six() -> Node {
    let node = node_of_five().await;
    node.put(6, body(6, "noded"));
    node.set_tip(6);
    node
}

fn sixth() -> String {
    String::from_utf8(body(6, "noded")).expect("text")
}

#[tokio::test]
async fn without_leave_it_is_told_and_asked_for_again() {
    let config = config(Broker::shared());
    let node = node_of_six().await;
    let mut running = publish(&config, &node.url(), &["--from-height", "5"]).start();
    running.says(&told(&node)).await;
    let asked = node.asked_for(SECOND);
    eventually("it asks again", async || node.asked_for(SECOND) > asked).await;
    assert_eq!(published(&config).await, [""; 0], "nothing behind it is published");
    node.put_transaction(SECOND, second().as_bytes());
    running.says("up to the tip; waiting for height 7").await;
    interrupted(running).await.telling(&["2 blocks (heights 5 to 6)"]);

    // Or the person goes on behind it.
    let mut running = publish(&config, &node.url(), &["--from-height", "6"]).start();
    running.says("up to the tip; waiting for height 7").await;
    interrupted(running).await.telling(&["1 blocks (heights 6 to 6)"]);
}

#[tokio::test]
async fn with_leave_it_is_passed_over_once_a_higher_block_is_there() {
    for has_latest in [false, true] {
        let config = config(Broker::shared());
        let node = node_of_six().await;
        node.set_tip(5);
        if has_latest {
            node.tell_latest();
        }
        let arguments = ["--from-height", "5", "--skip-missing"];
        let mut running = publish(&config, &node.url(), &arguments).start();
        running.says(&told(&node)).await;
        node.set_tip(6);
        running.says(&format!("{} {PASSED_OVER}", node.url())).await;
        running.says("up to the tip; waiting for height 7").await;
        interrupted(running).await.telling(&["1 blocks (heights 6 to 6)"]);
        assert_eq!(published(&config).await, [sixth()]);
    }
}

#[tokio::test]
async fn with_leave_wanted_heights_go_on_without_it() {
    let config = config(Broker::shared());
    let node = node_of_six().await;
    let arguments = ["--heights", "5..6", "--skip-missing"];
    let ended = publish(&config, &node.url(), &arguments).run().await.with_code(0);
    ended.telling(&[&told(&node), PASSED_OVER]);
    assert_eq!(published(&config).await, [sixth()]);
}
