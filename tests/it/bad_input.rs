//! Every line of the bad-input list: one dead letter, its body untouched, the next good block streamed.

use blockcast::config::Config;
use bytesize::ByteSize;

use crate::support::amqp_client::Client as AmqpClient;
use crate::support::broker::Broker;
use crate::support::chain::{body, event, publish};
use crate::support::client::Client;
use crate::support::eventually::eventually;
use crate::support::letters::Letters;
use crate::support::replica::{Replica, config};

const HISTORY: ByteSize = ByteSize::kib(256);
/// Their body is below its bound, and their frames are below half of the history.
const SHORT_IDS: usize = 1_800;

fn nested(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

/// The list; every `@` in a body is the height that is due.
fn bad_bodies() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let with_height = |height: &str| format!(r#"{{"height": {height}, "transactions": []}}"#);
    let with_transactions =
        |transactions: &str| format!(r#"{{"height": @, "transactions": {transactions}}}"#);
    let text = |name, text: String, reason| (name, text.into_bytes(), reason);
    vec![
        text("empty body", String::new(), "not_json"),
        (
            "not UTF-8",
            b"{\"height\": @, \"transactions\": [], \"x\": \"\xff\"}".to_vec(),
            "not_utf8",
        ),
        text("truncated JSON", r#"{"height": @, "transactions": ["#.into(), "not_json"),
        text("trailing bytes", with_transactions("[]") + "x", "not_json"),
        text("an array", "[]".into(), "wrong_shape"),
        text("an array in an object's place", "[5, []]".into(), "wrong_shape"),
        text("no height", r#"{"transactions": []}"#.into(), "bad_height"),
        text("negative height", with_height("-1"), "bad_height"),
        text("height 1.5", with_height("1.5"), "bad_height"),
        text("height \"abc\"", with_height("\"abc\""), "bad_height"),
        text("height null", with_height("null"), "bad_height"),
        text("height 2^63", with_height("9223372036854775808"), "bad_height"),
        text("height 10^40", with_height(&format!("1{}", "0".repeat(40))), "bad_height"),
        text("transactions an object", with_transactions("{}"), "wrong_shape"),
        text("a transaction a string", with_transactions("[\"x\"]"), "wrong_shape"),
        text("a transaction an array", with_transactions("[[\"x\"]]"), "wrong_shape"),
        text(
            "a transaction without id",
            with_transactions(r#"[{"id": "ok"}, {"asset": {}}]"#),
            "wrong_shape",
        ),
        text("an empty id", with_transactions(r#"[{"id": ""}]"#), "wrong_shape"),
        text("an id that is a number", with_transactions(r#"[{"id": 5}]"#), "wrong_shape"),
        text(
            "10,000 deep in a transaction's place",
            with_transactions(&format!("[{}]", nested(10_000))),
            "wrong_shape",
        ),
        text("a lone surrogate in an id", with_transactions(r#"[{"id": "\ud800"}]"#), "not_json"),
        text("over blocks.max_bytes", with_transactions("[]") + &" ".repeat(100_000), "too_large"),
        text(
            "over half of history.max_bytes when it is encoded",
            with_transactions(&format!("[{}]", vec![r#"{"id":"a"}"#; SHORT_IDS].join(","))),
            "too_large",
        ),
        text(
            "the same height, other content",
            r#"{"height": 1, "transactions": [{"id": "other"}]}"#.into(),
            "conflict",
        ),
        text("height 10^12", with_height("1000000000000"), "implausible_height"),
    ]
}

fn limits() -> Config {
    let mut config = config(Broker::shared());
    config.blocks.max_bytes = ByteSize::kib(64);
    config.history.max_bytes = HISTORY;
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn each_bad_body_is_dead_lettered_once_untouched_and_the_next_block_streams() {
    let config = limits();
    let letters = Letters::of(Broker::shared(), config.amqp.dead_letter.exchange.as_deref()).await;
    let replica = Replica::start_ready(&config).await;
    let mut client = Client::connect(&replica.url("valid_transactions")).await;
    publish(&config, [body(1, "x")]).await;
    assert_eq!(client.text().await, event(1, "x"));

    for (due, (name, bad, reason)) in (2..).zip(bad_bodies()) {
        let bad = replace(&bad, b"@", due.to_string().as_bytes());
        publish(&config, [bad.clone(), body(due, "x")]).await;
        assert_eq!(client.text().await, event(due, "x"), "after {name}");
        let letter = letters.take().await;
        assert!(letter.body == bad, "{name}: the body is untouched");
        assert_eq!(letter.header("x-blockcast-reason").as_deref(), Some(reason), "{name}");
        assert_eq!(letters.count().await, 0, "{name}: one letter, not two");
        let rejected = &replica.status().await["last_rejected"];
        assert_eq!(rejected["reason"], reason, "{name}");
    }
    assert!(replica.metric("blockcast_history_bytes").await <= HISTORY.0 as f64);
    let count = bad_bodies().len() as f64;
    let conflicts = replica.metric("blockcast_deliveries_total{outcome=\"conflict\"}").await;
    let invalid = replica.metric("blockcast_deliveries_total{outcome=\"invalid\"}").await;
    assert_eq!((conflicts, invalid), (1.0, count - 1.0));
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_looks_bad_is_streamed() {
    let config = limits();
    let replica = Replica::start_ready(&config).await;
    let mut client = Client::connect(&replica.url("valid_blocks")).await;
    let deep = nested(10_000);
    let bodies = [
        format!(r#"{{"height": 1, "transactions": [], "future": {deep}}}"#),
        r#"{"height": "2", "transactions": null}"#.to_owned(),
        r#"{"data": {"height": 3, "hash": "abc", "transactions": [{"id": "ü"}]}, "type": "BLOCK_VALID"}"#.to_owned(),
        r#"{"type": 2, "data": {"height": 4, "transactions": []}}"#.to_owned(),
        r#"{"type": 1, "data": {"height": 4, "transactions": []}}"#.to_owned(),
    ];
    publish(&config, bodies.map(String::into_bytes)).await;
    assert_eq!(
        client.texts(4).await,
        [
            r#"{"height": 1, "hash": null, "transaction_ids": []}"#,
            r#"{"height": 2, "hash": null, "transaction_ids": []}"#,
            r#"{"height": 3, "hash": "abc", "transaction_ids": ["\u00fc"]}"#,
            r#"{"height": 4, "hash": null, "transaction_ids": []}"#,
        ]
    );
    assert_eq!(replica.metric("blockcast_deliveries_total{outcome=\"marked_invalid\"}").await, 1.0);
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_twenty_conflicts_no_more_letters_but_a_flag() {
    let config = limits();
    let letters = Letters::of(Broker::shared(), config.amqp.dead_letter.exchange.as_deref()).await;
    let replica = Replica::start_ready(&config).await;
    publish(&config, (1..=30).map(|height| body(height, "ours"))).await;
    publish(&config, (1..=30).map(|height| body(height, "theirs"))).await;
    eventually("all conflicts are counted", async || {
        replica.metric("blockcast_deliveries_total{outcome=\"conflict\"}").await == 30.0
    })
    .await;
    assert_eq!(letters.count().await, 20);
    assert_eq!(replica.status().await["another_chain_published"], true);
    publish(&config, [body(31, "ours")]).await;
    eventually("our chain goes on", async || replica.status().await["tip_height"] == 31).await;
    assert_eq!(replica.status().await["another_chain_published"], false);
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_messages_met_in_warm_up_are_counted_not_written_again() {
    let config = limits();
    let letters = Letters::of(Broker::shared(), config.amqp.dead_letter.exchange.as_deref()).await;
    let live = Replica::start_ready(&config).await;
    publish(&config, [body(1, "x"), b"bad".to_vec(), body(2, "x")]).await;
    eventually("the letter is written", async || letters.count().await == 1).await;
    let late = Replica::start_ready(&config).await;
    assert_eq!(late.metric("blockcast_dead_letters_total{reason=\"not_json\"}").await, 1.0);
    assert_eq!(late.status().await["tip_height"], 2);
    assert_eq!(letters.count().await, 1);
    for replica in [live, late] {
        replica.stop().await.expect("drained");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_cannot_be_written_is_counted_and_the_feed_goes_on() {
    let config = limits();
    let replica = Replica::start_ready(&config).await;
    let mut client = Client::connect(&replica.url("valid_transactions")).await;
    let dead = config.amqp.dead_letter.exchange.as_deref();
    // The first shows that the queue is set up, and bound, before it goes.
    publish(&config, [b"bad too".to_vec()]).await;
    assert_eq!(Letters::of(Broker::shared(), dead).await.take().await.body, b"bad too");
    let dead = dead.expect("dead letters are on");
    AmqpClient::connect(&Broker::shared().uri()).await.delete_queue(dead).await;
    // A producer that declared anything would make the queue again.
    let mut producer = config.clone();
    producer.amqp.declare = false;
    publish(&producer, [body(1, "x"), b"bad".to_vec(), body(2, "x")]).await;
    assert_eq!(client.texts(2).await, [event(1, "x"), event(2, "x")]);
    assert_eq!(replica.metric("blockcast_dead_letters_failed_total").await, 1.0);
    replica.stop().await.expect("drained");
}

fn replace(body: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    match body.windows(from.len()).position(|window| window == from) {
        Some(at) => [&body[..at], to, &body[at + from.len()..]].concat(),
        None => body.to_vec(),
    }
}
