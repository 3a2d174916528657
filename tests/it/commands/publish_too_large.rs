//! `publish` of a block that is larger than the broker takes.

use crate::support::broker::Broker;
use crate::support::chain::body;
use crate::support::client::Client;
use crate::support::node::Node;
use crate::support::program::Program;
use crate::support::publishing::{heights, interrupted, publish};
use crate::support::replica::{Replica, config};

const LIMIT: usize = 20_000;

/// A block of this many bytes.
fn block_of(height: u64, bytes: usize) -> Vec<u8> {
    let mut block = body(height, "large");
    block.resize(bytes, b' ');
    block
}

#[tokio::test]
async fn a_block_above_the_brokers_limit_is_told_once_with_the_way_on() {
    let broker = Broker::start_with("[].\n", &format!("max_message_size = {LIMIT}\n"));
    let mut config = config(&broker);
    let replica = Replica::start_ready(&config).await;
    let mut blocks = Client::connect(&replica.url("valid_blocks")).await;
    let size = format!("a message of {} bytes is larger than the broker's", LIMIT + 1);
    let limit = format!("max_message_size of {LIMIT}");

    let node = Node::start((1..=9).map(|height| match height {
        4 => block_of(height, LIMIT + 1),
        5 => block_of(height, LIMIT),
        _ => body(height, "small"),
    }))
    .await;
    let directory = tempfile::tempdir().expect("a directory");
    let state = directory.path().join("state");
    let state = ["--state", state.to_str().expect("UTF-8")];
    let go_on = "--from-height 5 goes on without it";
    let from_first = [&state[..], &["--from-height", "1"]].concat();
    let ended = publish(&config, &node.url(), &from_first).run().await.with_code(1);
    let ended = ended.telling(&["height 4 is not published", &size, &limit, go_on]);
    ended.telling(&["3 blocks (heights 1 to 3)"]);
    let ended = publish(&config, &node.url(), &state).run().await.with_code(1);
    let ended = ended.telling(&["height 4 is not published", &size, &limit, go_on]);
    assert!(!ended.stderr.contains("again in"), "tried again: {}", ended.stderr);
    let on = [&state[..], &["--from-height", "5"]].concat();
    let mut running = publish(&config, &node.url(), &on).start();
    running.says("up to the tip; waiting for height 10").await;
    interrupted(running).await.telling(&["5 blocks (heights 5 to 9)"]);
    assert_eq!(heights(&mut blocks, 8).await, [1, 2, 3, 5, 6, 7, 8, 9]);

    // From lines: by their number, after what stands before is confirmed.
    config.amqp.queue.name = Some(crate::support::broker::unique("lines"));
    config.amqp.exchange = crate::support::broker::unique("lines");
    let mut lines: Vec<Vec<u8>> = (1..=40).map(|height| body(height, "line")).collect();
    let padded =
        format!("{{\"height\": 30, \"transactions\": [], \"p\": \"{}\"}}", "p".repeat(LIMIT));
    lines[29] = padded.clone().into_bytes();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), lines.join(&b'\n')).expect("written");
    let path = file.path().to_str().expect("UTF-8");
    let ended = Program::new(["publish", path]).config(&config).run().await.with_code(1);
    ended.telling(&[
        "line 30, height 30 is not published, nor anything behind it",
        &format!("a message of {} bytes", padded.len()),
        &limit,
        "published and confirmed: 29 blocks",
    ]);
    replica.stop().await.expect("stopped");
}
