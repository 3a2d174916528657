//! `publish --node` that listens to the node's own event stream.

use crate::support::broker::Broker;
use crate::support::client::Client;
use crate::support::eventually::eventually;
use crate::support::node::Node;
use crate::support::program::Running;
use crate::support::publishing::{heights, interrupted, is_published, node_of_three, publish};
use crate::support::replica::{Replica, config};

/// Asked so seldom, a block comes in time only when the stream says so.
const SELDOM: [&str; 4] = ["--poll", "1h", "--from-height", "1"];

const AT_TIP: &str = "up to the tip; waiting for height 4";

async fn at_tip(running: &mut Running, node: &Node) {
    running.says(AT_TIP).await;
    eventually("it listens", async || node.listeners() == 1).await;
}

#[tokio::test]
async fn a_block_is_published_when_the_nodes_stream_says_something() {
    let config = config(Broker::shared());
    let replica = Replica::start_ready(&config).await;
    let mut blocks = Client::connect(&replica.url("valid_blocks")).await;
    let mut node = node_of_three().await;
    node.open_stream().await;
    let mut running = publish(&config, &node.url(), &SELDOM).start();
    at_tip(&mut running, &node).await;
    assert_eq!(heights(&mut blocks, 3).await, [1, 2, 3]);
    for height in 4..=20 {
        node.commit(height);
        assert_eq!(heights(&mut blocks, 1).await, [height]);
    }
    interrupted(running).await.telling(&["20 blocks (heights 1 to 20)"]);
    replica.stop().await.expect("stopped");
}

#[tokio::test]
async fn a_block_that_comes_behind_its_event_is_asked_for_again_soon() {
    let config = config(Broker::shared());
    let mut node = node_of_three().await;
    node.open_stream().await;
    let mut running = publish(&config, &node.url(), &SELDOM).start();
    at_tip(&mut running, &node).await;
    node.lose([4]);
    let asked = node.requests(4);
    node.commit(4);
    eventually("it is woken", async || node.requests(4) > asked + 1).await;
    node.find(4);
    is_published(&config, 4).await;
    interrupted(running).await.telling(&["4 blocks (heights 1 to 4)"]);
}

#[tokio::test]
async fn a_lost_stream_is_found_again_and_nothing_is_missed_meanwhile() {
    let config = config(Broker::shared());
    let mut node = node_of_three().await;
    let port = node.open_stream().await;
    let mut running = publish(&config, &node.url(), &SELDOM).start();
    let listening = format!("listening to ws://127.0.0.1:{port}/api/v1/streams/valid_tr");
    running.says_each(&[&listening, AT_TIP]).await;
    node.close_stream().await;
    running.says(&format!("no event stream of {} to hear of new blocks", node.url())).await;
    node.commit(4);
    let port = node.open_stream().await;
    running.says(&format!("listening to ws://127.0.0.1:{port}/")).await;
    is_published(&config, 4).await;
    node.commit(5);
    is_published(&config, 5).await;
    interrupted(running).await.telling(&["5 blocks (heights 1 to 5)"]);
}

#[tokio::test]
async fn a_stream_at_a_host_that_cannot_be_meant_is_found_at_the_nodes_own() {
    let config = config(Broker::shared());
    for host in ["0.0.0.0", "[::]", "no-such-host.invalid"] {
        let mut node = node_of_three().await;
        let port = node.open_stream().await;
        node.advertise(&format!("ws://{host}:{port}/api/v1/streams/valid_transactions"));
        let url = format!("http://me:s3cret@{}", node.address);
        let mut running = publish(&config, &url, &SELDOM).start();
        let listening = format!("listening to ws://127.0.0.1:{port}/");
        running.says_each(&[&listening, AT_TIP]).await;
        assert_eq!(node.stream_authorization().as_deref(), Some("Basic bWU6czNjcmV0"));
        let ended = interrupted(running).await;
        assert!(!ended.stderr.contains("s3cret"), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn without_a_stream_it_says_so_once_and_polls() {
    let config = config(Broker::shared());
    for streams in [None, Some("nonsense"), Some("ws://127.0.0.1:1/none")] {
        let node = node_of_three().await;
        streams.into_iter().for_each(|streams| node.advertise(streams));
        let mut running = publish(&config, &node.url(), &["--from-height", "1"]).start();
        running.says_each(&["no event stream of", AT_TIP]).await;
        node.set_tip(4);
        is_published(&config, 4).await;
        let ended = interrupted(running).await;
        let ended = ended.telling(&["4 blocks (heights 1 to 4)"]);
        assert!(!ended.stderr.contains("no event stream"), "said again: {}", ended.stderr);
    }
}
