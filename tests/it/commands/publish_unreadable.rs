//! `publish` into a RabbitMQ stream whose last entries the broker cannot hand over. Only what comes
//! behind them lets replicas pass them over, so it goes on above what lies before.

use crate::support::chain::{self, body};
use crate::support::client::Client;
use crate::support::eventually::eventually;
use crate::support::node::Node;
use crate::support::process::Process;
use crate::support::program::Program;
use crate::support::publishing::{heights, interrupted, publish};
use crate::support::unreadable::{garbage, stands_before_it, stream};

const TOLD: &str = "the broker cannot hand over the RabbitMQ stream's last entry (541)";

async fn is_ready(replica: &Process) {
    eventually("it is ready", async || replica.get("/health/ready").await.status == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_followed_above_the_newest_height_that_can_be_read() {
    let (config, mut writer) = stream(3).await;
    let replica = Process::start_ready(&config).await;
    let mut blocks = Client::connect(&replica.url("valid_blocks")).await;
    garbage(&mut writer, 2);
    stands_before_it(&replica).await;
    let node = Node::start((1..=6).map(|height| body(height, "x"))).await;
    let mut running = publish(&config, &node.url(), &[]).start();
    running.says(TOLD).await;
    running.says(&format!("following {} from height 4 (above the Rabbit", node.url())).await;
    running.says("up to the tip; waiting for height 7").await;
    assert_eq!(heights(&mut blocks, 3).await, [4, 5, 6]);
    is_ready(&replica).await;
    interrupted(running).await.telling(&["3 blocks (heights 4 to 6)"]);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_can_be_read_a_node_is_followed_from_its_tip() {
    let (config, mut writer) = stream(0).await;
    garbage(&mut writer, 3);
    let node = Node::start((1..=6).map(|height| body(height, "x"))).await;
    let mut running = publish(&config, &node.url(), &[]).start();
    running.says(TOLD).await;
    running.says(&format!("following {} from height 6 (the node's tip)", node.url())).await;
    running.says("up to the tip; waiting for height 7").await;
    let replica = Process::start_ready(&config).await;
    replica.reaches(6).await;
    interrupted(running).await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_looped_file_goes_on_above_the_newest_height_that_can_be_read() {
    let (config, mut writer) = stream(5).await;
    let replica = Process::start_ready(&config).await;
    let mut blocks = Client::connect(&replica.url("valid_blocks")).await;
    garbage(&mut writer, 1);
    stands_before_it(&replica).await;
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let lines = (1..=3).flat_map(|height| [chain::body(height, "looped"), b"\n".to_vec()].concat());
    std::fs::write(file.path(), Vec::from_iter(lines)).expect("written");
    let path = file.path().to_str().expect("UTF-8");
    let arguments = ["publish", "--loop", "--rate", "50", path];
    let mut running = Program::new(arguments).config(&config).start();
    running.says(TOLD).await;
    assert_eq!(heights(&mut blocks, 7).await, Vec::from_iter(6..=12));
    is_ready(&replica).await;
    interrupted(running).await;
    replica.stop().await;
}
