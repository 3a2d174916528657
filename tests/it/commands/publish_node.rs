//! `publish --node`, against a stand-in for the node, watched by a client of a replica.

use crate::support::broker::Broker;
use crate::support::chain::{self, body, real_bodies, real_events};
use crate::support::client::Client;
use crate::support::eventually::eventually;
use crate::support::node::{Fault, Node};
use crate::support::program::Program;
use crate::support::publishing::{heights, interrupted, node_of_three, publish};
use crate::support::replica::{Replica, config};

#[tokio::test]
async fn the_real_chain_is_followed_to_its_tip_and_beyond_it() {
    let config = config(Broker::shared());
    let replica = Replica::start_ready(&config).await;
    let mut events = Client::connect(&replica.url("valid_transactions")).await;
    let mut blocks = Client::connect(&replica.url("valid_blocks")).await;
    let node = Node::start(real_bodies()).await;
    let mut running = publish(&config, &node.url(), &["--from-height", "1"]).start();
    let tip = real_bodies().len() as u64;
    running.says(&format!("following {} from height 1 (--from-height); its", node.url())).await;
    running.says(&format!("up to the tip; waiting for height {}", tip + 1)).await;
    let expected = real_events();
    assert_eq!(events.texts(expected.len()).await, expected);

    for height in tip + 1..tip + 40 {
        node.set_tip(height);
        if height % 8 == 0 {
            let asked = node.requests(height + 1);
            eventually("it polls", async || node.requests(height + 1) > asked).await;
        }
    }
    let all: Vec<u64> = (1..tip + 40).collect();
    assert_eq!(heights(&mut blocks, all.len()).await, all, "empty blocks too");
    let told = format!("published and confirmed: {0} blocks (heights 1 to {0})", tip + 39);
    interrupted(running).await.telling(&[&told]);
    replica.stop().await.expect("stopped");
}

#[tokio::test]
async fn a_node_that_fails_is_asked_again_until_it_answers() {
    let config = config(Broker::shared());
    let replica = Replica::start_ready(&config).await;
    let mut blocks = Client::connect(&replica.url("valid_blocks")).await;
    let mut node = Node::start((1..=12).map(|height| body(height, "noded"))).await;
    node.set_tip(4);
    let arguments = ["--from-height", "1", "--timeout", "300ms"];
    let mut running = publish(&config, &node.url(), &arguments).start();
    running.says("up to the tip; waiting for height 5").await;
    // What it asked for ahead is answered, and no fault is spent on it.
    let asked = node.requests(5);
    eventually("it polls", async || node.requests(5) >= asked + 3).await;
    let url = node.url();
    let block = |height: u64| format!("{url}/api/v1/blocks/{height}");
    node.fail(5, [Fault::Status(503), Fault::Status(503), Fault::Status(404)]);
    node.fail(6, [Fault::Silence]);
    node.fail(7, [Fault::Body(body(6, "noded")), Fault::Body(b"<html>".to_vec())]);
    node.set_tip(8);
    running.says(&format!("{}: answered 503", block(5))).await;
    running.says(&format!("{} answers again", node.url())).await;
    running.says(&format!("{}: no answer within 300ms", block(6))).await;
    running.says(&format!("{}: the answer is block 6, which was not", block(7))).await;
    running.says(&format!("{}: the answer is no block", block(7))).await;
    running.says(&format!("{} answers again", node.url())).await;
    assert_eq!(heights(&mut blocks, 8).await, (1..=8).collect::<Vec<_>>());

    node.stop().await;
    running.says(&format!("{}: no answer: ", block(9))).await;
    node.set_tip(2); // it lost its tip, and gets it back
    node.restart().await;
    running.says(&format!("{} answers again", node.url())).await;
    let asked = node.requests(9);
    eventually("it waits", async || node.requests(9) >= asked + 3).await;
    node.set_tip(12);
    assert_eq!(heights(&mut blocks, 4).await, [9, 10, 11, 12]);
    interrupted(running).await.telling(&["12 blocks (heights 1 to 12)"]);
    assert_eq!(replica.status().await["tip_height"], 12);
    assert_eq!(replica.metric("blockcast_dead_letters_total{reason=\"not_json\"}").await, 0.0);
    replica.stop().await.expect("stopped");
}

#[tokio::test]
async fn no_retry_fails_with_what_the_node_failed_with() {
    let config = config(Broker::shared());
    let node = node_of_three().await;
    node.fail(2, [Fault::Status(500)]);
    let arguments = ["--no-retry", "--heights", "1..3"];
    let ended = publish(&config, &node.url(), &arguments).run().await.with_code(1);
    let block = format!("{}/api/v1/blocks/2: answered 500", node.url());
    ended.telling(&["published and confirmed: 1 blocks (heights 1 to 1)", &block]);
}

#[tokio::test]
async fn following_begins_above_the_streams_newest_or_else_at_the_nodes_tip() {
    let config = config(Broker::shared());
    let node = Node::start((1..=9).map(|height| body(height, "noded"))).await;
    let mut running = publish(&config, &node.url(), &[]).start();
    running.says(&format!("following {} from height 9 (the node's tip)", node.url())).await;
    running.says("up to the tip; waiting for height 10").await;
    interrupted(running).await.telling(&["1 blocks (heights 9 to 9)"]);

    node.set_tip(11);
    let mut running = publish(&config, &node.url(), &[]).start();
    running.says(&format!("following {} from height 10 (above the Rabbit", node.url())).await;
    running.says("up to the tip; waiting for height 12").await;
    interrupted(running).await.telling(&["2 blocks (heights 10 to 11)"]);

    node.set_tip(5);
    let mut running = publish(&config, &node.url(), &[]).start();
    running.says(&format!("{} has blocks up to 5 only; waiting for height 12", node.url())).await;
    interrupted(running).await.telling(&["0 blocks"]);
}

#[tokio::test]
async fn a_killed_run_goes_on_without_a_missing_height() {
    let config = config(Broker::shared());
    let replica = Replica::start_ready(&config).await;
    let mut blocks = Client::connect(&replica.url("valid_blocks")).await;
    let node = Node::start(real_bodies()).await;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("state");
    let state = path.to_str().expect("UTF-8");
    let remembered = || {
        let text = std::fs::read_to_string(&path).ok()?;
        text.lines().find_map(|line| line.strip_prefix("height = "))?.parse::<u64>().ok()
    };
    const TIP: u64 = 1_000;
    node.set_tip(TIP);
    for kill in 0..3 {
        // The first run would begin at the tip.
        let from: &[&str] = if kill == 0 { &["--from-height", "1"] } else { &[] };
        let arguments = [&["--state", state, "--rate", "100"], from].concat();
        let running = publish(&config, &node.url(), &arguments).start();
        let before = remembered().unwrap_or(0);
        eventually("it remembers more", async || remembered() > Some(before + 10)).await;
        running.signal("KILL").await;
        running.ended().await;
    }
    assert!(remembered() < Some(TIP), "killed before the tip");
    let mut running = publish(&config, &node.url(), &["--state", state]).start();
    let told = format!("following {} from height {}", node.url(), remembered().expect("some") + 1);
    running.says(&told).await;
    running.says(&format!("up to the tip; waiting for height {}", TIP + 1)).await;
    interrupted(running).await;
    assert_eq!(remembered(), Some(TIP));
    let all: Vec<u64> = (1..=TIP).collect();
    assert_eq!(heights(&mut blocks, all.len()).await, all);
    let status = replica.status().await;
    assert_eq!(status["gaps"], serde_json::json!([]), "{status}");

    let other = node_of_three().await;
    let ended = publish(&config, &other.url(), &["--state", state]).run().await.with_code(64);
    ended.telling(&[state, &node.url(), &other.url()]);
    replica.stop().await.expect("stopped");
}

#[tokio::test]
async fn heights_published_again_fill_a_gap() {
    let config = config(Broker::shared());
    let replica = Replica::start_ready(&config).await;
    chain::publish(&config, [1, 2, 5].map(|height| body(height, "noded"))).await;
    eventually("the gap is told", async || {
        let status = replica.status().await;
        status["tip_height"] == 5 && status["gaps"] != serde_json::json!([])
    })
    .await;
    let node = Node::start((1..=5).map(|height| body(height, "noded"))).await;
    let ended = publish(&config, &node.url(), &["--heights", "3..4"]).run().await.with_code(0);
    ended.telling(&["published and confirmed: 2 blocks (heights 3 to 4)"]);
    eventually("the gap is filled", async || {
        replica.status().await["gaps"] == serde_json::json!([])
    })
    .await;
    let ended = publish(&config, &node.url(), &["--heights", "4..7"]).run().await.with_code(1);
    ended.telling(&[
        "2 blocks (heights 4 to 5)",
        "no block at height 6",
        "6..7 were not published",
    ]);
    replica.stop().await.expect("stopped");
}

#[tokio::test]
async fn credentials_are_sent_and_never_told() {
    let config = config(Broker::shared());
    let mut node = node_of_three().await;
    let url = format!("http://me:s3cret@{}/", node.address);
    let arguments = ["--no-retry", "--heights", "2"];
    let ended = publish(&config, &url, &arguments).run().await.with_code(0);
    assert_eq!(node.authorization().as_deref(), Some("Basic bWU6czNjcmV0"));
    assert!(!ended.stderr.contains("s3cret"), "{}", ended.stderr);
    node.stop().await;
    let ended = publish(&config, &url, &arguments).run().await.with_code(1);
    let ended = ended.telling(&[&format!("http://{}/api/v1/blocks/2", node.address)]);
    assert!(!ended.stderr.contains("s3cret"), "{}", ended.stderr);
    let ended = Program::new(["publish", "--node", "htp://me:s3cret@node"]).run().await;
    let ended = ended.with_code(64).telling(&["--node", "http://"]);
    assert!(!ended.stderr.contains("s3cret"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_node_whose_blocks_hold_nan_is_followed_and_followed_on() {
    let config = config(Broker::shared());
    let replica = Replica::start_ready(&config).await;
    let mut events = Client::connect(&replica.url("valid_transactions")).await;
    let odd = |height: u64| {
        let body = String::from_utf8(body(height, "x")).expect("text");
        body.replacen('{', "{\"x\": [NaN, -Infinity], ", 1).into_bytes()
    };
    let node = Node::start((1..=4).map(odd)).await;
    for (tip, arguments) in [(2, &["--from-height", "1"][..]), (4, &[])] {
        node.set_tip(tip);
        let running = publish(&config, &node.url(), arguments).start();
        let expected = [tip - 1, tip].map(|height| chain::event(height, "x"));
        assert_eq!(events.texts(2).await, expected);
        // The second began above the newest height that it found in the RabbitMQ stream.
        let told = format!("2 blocks (heights {} to {tip})", tip - 1);
        interrupted(running).await.telling(&[&told]);
    }
    replica.stop().await.expect("stopped");
}
