//! A connection that may have few channels: who finds none waits, and nobody else's reading ends.

use blockcast::config::{AmqpUri, Config};
use bytesize::ByteSize;
use tokio::task::block_in_place;

use crate::support::broker::{Broker, unique};
use crate::support::chain::{body, event, publish};
use crate::support::client::Client;
use crate::support::replica::{Replica, config};

/// Read back at 5,000 a second at most: for so long does each client have its channel.
const BLOCKS: u64 = 10_000;
const CLIENTS: u64 = 5;

#[tokio::test(flavor = "multi_thread")]
async fn without_a_free_channel_a_reading_waits_and_ends_no_other() {
    let broker = Broker::shared();
    let mut config = config(broker);
    config.amqp.uris = vec![AmqpUri::new(format!("{}?channel_max=3", broker.uri()))];
    let replica = all_read_back(config).await;
    assert_eq!(replica.metric("blockcast_deep_read_connections_total").await, 1.0);
    replica.stop().await.expect("drained");
}

/// The broker says so by closing the connection: with all that is read over it, but once only.
#[tokio::test(flavor = "multi_thread")]
async fn a_users_own_limit_is_met_once_and_then_kept() {
    let broker = Broker::shared();
    let user = unique("channels");
    let operator = |arguments: &[&str]| block_in_place(|| broker.rabbitmqctl(arguments));
    operator(&["add_user", &user, "word"]);
    operator(&["set_permissions", &user, ".*", ".*", ".*"]);
    let mut config = config(broker);
    // One for the feed, one for dead letters, and as many as two readings and a look have.
    operator(&["set_user_limits", &user, r#"{"max-channels": 5}"#]);
    let uri = format!("amqp://{user}:word@127.0.0.1:{}/%2f", broker.port());
    config.amqp.uris = vec![AmqpUri::new(uri)];
    let replica = all_read_back(config).await;
    let connections = replica.metric("blockcast_deep_read_connections_total").await;
    assert!((2.0..=3.0).contains(&connections), "{connections} connections");
    replica.stop().await.expect("drained");
}

/// Has all clients read the whole chain back, and returns the replica.
async fn all_read_back(mut config: Config) -> Replica {
    let mut producer = config.clone();
    producer.amqp.uris = vec![AmqpUri::new(Broker::shared().uri())];
    config.history.deep_reads = CLIENTS as usize;
    config.history.max_bytes = ByteSize::kib(64);
    config.blocks.max_bytes = ByteSize::kib(32);
    publish(&producer, (1..=BLOCKS).map(|height| body(height, "x"))).await;
    let replica = Replica::start_ready(&config).await;

    let clients: Vec<_> = (1..=CLIENTS)
        .map(|first| {
            let url = replica.url("valid_transactions");
            tokio::spawn(async move {
                let url = format!("{url}?from_height={first}&until_height={BLOCKS}");
                let mut client = Client::connect(&url).await;
                for height in first..=BLOCKS {
                    assert_eq!(client.text().await, event(height, "x"));
                }
                assert_eq!(client.closed().await.reason.as_str(), "after=10000 done");
            })
        })
        .collect();
    for client in clients {
        client.await.expect("all came, once and in order");
    }
    assert!(replica.metric("blockcast_deep_reads_busy_total").await > 0.0);
    assert_eq!(replica.metric("blockcast_amqp_reconnects_total").await, 0.0);
    replica
}
