//! `publish --node` as tests run it, and the nodes that it follows.

use blockcast::amqp::Publisher;
use blockcast::config::Config;

use super::chain::{body, height_of};
use super::client::Client;
use super::eventually::eventually;
use super::node::Node;
use super::program::{Ended, Program, Running};

const BLOCK: &str = include_str!("../../data/planetmint-2.5.3-block.json");
pub const TRANSACTION: &str = include_str!("../../data/planetmint-2.5.3-transaction.json");
pub const FIRST: &str = "672d3316b9a2f2169c52422da40a71bea51d72eef6fd27f78fd47673ce70df0a";
pub const SECOND: &str = "da828638a4c4fa226e23f6bd2b13f110dd83ec9417ecdb867eb517d34e69435f";

pub fn publish(config: &Config, url: &str, arguments: &[&str]) -> Program {
    let often: &[&str] = if arguments.contains(&"--poll") { &[] } else { &["--poll", "20ms"] };
    let arguments = [&["publish", "--node", url], often, arguments].concat();
    Program::new(arguments).config(config)
}

pub async fn interrupted(running: Running) -> Ended {
    running.signal("TERM").await;
    running.ended().await.with_code(0)
}

/// Waits until this height is in the RabbitMQ stream.
pub async fn is_published(config: &Config, height: u64) {
    let publisher = Publisher::connect(&config.amqp).await.expect("connected");
    eventually("it is published", async || {
        let messages = publisher.tail_messages().await.expect("read");
        messages.iter().any(|message| blockcast::block::height_of(&message.body) == Some(height))
    })
    .await;
}

pub async fn heights(client: &mut Client, count: usize) -> Vec<u64> {
    client.texts(count).await.iter().map(|text| height_of(text)).collect()
}

/// Three blocks, as a node would hold them.
pub async fn node_of_three() -> Node {
    Node::start((1..=3).map(|height| body(height, "noded"))).await
}

/// A transaction in a form that no other program would write.
pub fn second() -> String {
    format!("\n {{ \"n\" : 1.50e3,\t\"s\":\"\\u00e4\u{e4}\",\n \"id\":\"{SECOND}\"}}\n")
}

pub fn listing(height: u64, ids: &[&str]) -> Vec<u8> {
    serde_json::json!({ "app_hash": "", "height": height, "transaction_ids": ids })
        .to_string()
        .into_bytes()
}

pub async fn published(config: &Config) -> Vec<String> {
    let publisher = Publisher::connect(&config.amqp).await.expect("connected");
    let messages = publisher.tail_messages().await.expect("read");
    messages.into_iter().map(|message| String::from_utf8(message.body).expect("text")).collect()
}

/// A node at height 5, as Planetmint 2.5.3 answers for it; without the second transaction.
pub async fn node_of_five() -> Node {
    let node = Node::start([]).await;
    node.set_tip(5);
    node.put(5, BLOCK.into());
    node.put_transaction(FIRST, TRANSACTION.as_bytes());
    node
}
