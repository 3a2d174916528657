//! The real chain of tests/data, and blocks made for a test.

use std::path::PathBuf;

use blockcast::amqp::{PublishError, Publisher};
use blockcast::config::Config;
use serde_json::json;

/// Of a broker that fails inside, one after the other.
const FAILURES_MAX: u32 = 5;

/// The bodies of the 120 real blocks, oldest first.
pub fn real_bodies() -> Vec<Vec<u8>> {
    lines("chain.ndjson").into_iter().map(String::into_bytes).collect()
}

/// What BigchainDB 2.2.2 sent for them on valid_transactions.
pub fn real_events() -> Vec<String> {
    lines("chain.expected-2.2.2.txt")
}

/// A block with one transaction whose id is made of `height` and `tag`.
pub fn body(height: u64, tag: &str) -> Vec<u8> {
    json!({ "height": height, "transactions": [{ "id": id(height, tag) }] })
        .to_string()
        .into_bytes()
}

pub fn id(height: u64, tag: &str) -> String {
    format!("{tag}-{height}")
}

/// What valid_transactions says of such a block.
pub fn event(height: u64, tag: &str) -> String {
    let id = id(height, tag);
    format!("{{\"height\": {height}, \"asset_id\": \"{id}\", \"transaction_id\": \"{id}\"}}")
}

/// The height that a message of either stream names.
pub fn height_of(message: &str) -> u64 {
    let message: serde_json::Value = serde_json::from_str(message).expect("JSON");
    message["height"].as_u64().expect("a height")
}

/// Publishes and waits for the broker's confirms. RabbitMQ sometimes fails inside (541) at what is
/// published into a stream that was declared a moment ago: as a producer does, what is not confirmed is
/// published again.
pub async fn publish(config: &Config, bodies: impl IntoIterator<Item = Vec<u8>>) {
    let bodies = Vec::from_iter(bodies);
    let mut confirmed = 0;
    let mut failures = 0;
    while let Err(error) = publish_from(config, &bodies, &mut confirmed).await {
        failures += 1;
        let has_failed_inside = error.to_string().contains("INTERNAL_ERROR");
        assert!(has_failed_inside && failures < FAILURES_MAX, "{error}");
    }
}

async fn publish_from(
    config: &Config,
    bodies: &[Vec<u8>],
    confirmed: &mut usize,
) -> Result<(), PublishError> {
    let publisher = Publisher::connect(&config.amqp).await?;
    let mut confirms = Vec::new();
    for body in &bodies[*confirmed..] {
        confirms.push(publisher.publish(body.clone()).await?);
    }
    for confirm in confirms {
        confirm.wait().await?;
        *confirmed += 1;
    }
    publisher.close().await;
    Ok(())
}

fn lines(name: &str) -> Vec<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(str::to_owned).collect()
}
