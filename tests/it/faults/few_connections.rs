//! A user who may have few connections: the feed has the first.

use std::time::Duration;

use blockcast::config::AmqpUri;
use bytesize::ByteSize;
use tokio::task::block_in_place;

use crate::support::broker::{Broker, unique};
use crate::support::chain::{body, publish};
use crate::support::client::Client;
use crate::support::process::Process;
use crate::support::replica::config;

/// Each takes the connections from all, who then seek one at the same time.
const CLOSINGS: u64 = 4;
const BLOCKS: u64 = 1_000;

#[tokio::test(flavor = "multi_thread")]
async fn with_one_connection_allowed_the_feed_has_it() {
    let broker = Broker::shared();
    let user = unique("one");
    let operator = |arguments: &[&str]| block_in_place(|| broker.rabbitmqctl(arguments));
    operator(&["add_user", &user, "word"]);
    operator(&["set_permissions", &user, ".*", ".*", ".*"]);
    operator(&["set_user_limits", &user, r#"{"max-connections": 1}"#]);
    let producer = config(broker);
    let mut consumer = producer.clone();
    let uri = format!("amqp://{user}:word@127.0.0.1:{}/%2f", broker.port());
    consumer.amqp.uris = vec![AmqpUri::new(uri)];
    // A few blocks only, so that a client that starts at the first wants the reader.
    consumer.history.max_bytes = ByteSize::kib(64);
    consumer.blocks.max_bytes = ByteSize::kib(32);
    publish(&producer, (1..=BLOCKS).map(|height| body(height, "x"))).await;

    let replica = Process::start_ready(&consumer).await;
    let url = format!("{}?from_height=1", replica.url("valid_transactions"));
    let _deep = Client::connect(&url).await;
    assert!(replica.metric("blockcast_first_height").await > 1.0, "the first has left memory");
    for closing in 1..=CLOSINGS {
        operator(&["close_all_user_connections", &user, "to see who returns first"]);
        let height = BLOCKS + closing;
        publish(&producer, [body(height, "x")]).await;
        replica.reaches(height).await;
        assert_eq!(replica.metric("blockcast_amqp_connected").await, 1.0);
    }
    // A letter has no connection either; it is told, and the feed goes on.
    publish(&producer, [b"no block".to_vec(), body(BLOCKS + CLOSINGS + 1, "x")]).await;
    replica.reaches(BLOCKS + CLOSINGS + 1).await;
    assert_eq!(replica.metric("blockcast_dead_letters_failed_total").await, 1.0);

    // With room for it, who waited is served.
    operator(&["set_user_limits", &user, r#"{"max-connections": 3}"#]);
    let mut deep = Client::connect(&url).await;
    let first = tokio::time::timeout(Duration::from_secs(60), deep.text()).await;
    assert_eq!(first.expect("served in time"), crate::support::chain::event(1, "x"));
    replica.stop().await;
}
