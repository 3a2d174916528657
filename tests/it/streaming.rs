//! From the broker to the client's socket: order, completeness, replicas, restarts.

use std::time::Duration;

use blockcast::config::{Dialect, Heights, Hold, QueueMode};
use tokio_tungstenite::tungstenite::Error;

use crate::support::amqp_client::Client as AmqpClient;
use crate::support::broker::Broker;
use crate::support::chain::{body, event, height_of, publish, real_bodies, real_events};
use crate::support::client::Client;
use crate::support::eventually::eventually;
use crate::support::replica::{Replica, config};

#[tokio::test(flavor = "multi_thread")]
async fn the_real_chain_arrives_byte_for_byte_as_bigchaindb_sent_it() {
    let config = config(Broker::shared());
    let replica = Replica::start_ready(&config).await;
    let mut transactions = Client::connect(&replica.url("valid_transactions")).await;
    let mut blocks = Client::connect(&replica.url("valid_blocks")).await;
    publish(&config, real_bodies()).await;

    let expected = real_events();
    assert_eq!(transactions.texts(expected.len()).await, expected);
    let summaries = blocks.texts(120).await;
    assert_eq!(
        summaries[0], r#"{"height": 1, "hash": null, "transaction_ids": []}"#,
        "empty blocks too"
    );
    let ids: usize = summaries.iter().map(|summary| summary.matches('"').count()).sum();
    // Six quotes of the three keys, two of each id.
    assert_eq!(ids, 120 * 6 + 2 * expected.len());
    assert_eq!(
        summaries.iter().map(|summary| height_of(summary)).collect::<Vec<_>>(),
        Vec::from_iter(1..=120)
    );

    let status = replica.status().await;
    assert_eq!(
        (status["tip_height"].as_u64(), status["first_height"].as_u64()),
        (Some(120), Some(1))
    );
    assert_eq!(replica.metric("blockcast_events_total").await, 2212.0);
    assert_eq!(replica.metric("blockcast_deliveries_total{outcome=\"published\"}").await, 120.0);
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_on_one_stream_both_give_everything_though_two_nodes_publish() {
    let config = config(Broker::shared());
    let (a, b) = tokio::join!(Replica::start_ready(&config), Replica::start_ready(&config));
    let mut clients = Vec::new();
    for replica in [&a, &b] {
        clients.push(Client::connect(&replica.url("valid_transactions")).await);
    }
    let node =
        |config| async move { publish(&config, (1..=200).map(|height| body(height, "x"))).await };
    tokio::join!(node(config.clone()), node(config.clone()));
    for client in &mut clients {
        assert_eq!(
            client.texts(200).await,
            (1..=200).map(|height| event(height, "x")).collect::<Vec<_>>()
        );
    }
    for replica in [a, b] {
        eventually("every copy is counted", async || {
            replica.metric("blockcast_deliveries_total{outcome=\"duplicate\"}").await == 200.0
        })
        .await;
        replica.stop().await.expect("drained");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_replica_takes_no_client_before_its_history_reaches_back() {
    let mut config = config(Broker::shared());
    config.amqp.queue.warm_up = 1_500;
    let first = Replica::start_ready(&config).await;
    publish(&config, (1..=2_000).map(|height| body(height, "x"))).await;
    eventually("all are in the stream", async || first.status().await["tip_height"] == 2_000).await;

    let late = Replica::start(&config).await;
    let mut refused = 0;
    let mut client = loop {
        match Client::try_connect(&late.url("valid_transactions")).await {
            Ok(client) => break client,
            Err(Error::Http(answer)) => {
                assert_eq!(answer.status(), 503);
                assert!(answer.headers().contains_key("retry-after"));
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
    };
    let status = late.status().await;
    assert!(refused > 0, "it began with no history");
    assert_eq!(status["tip_height"], 2_000, "caught up before the first client: {status}");
    let first_height = status["first_height"].as_u64().expect("a first height");
    // 1,500 messages back, and the first 64 of them are passed over: copies of them may lie before.
    assert!((500..=565).contains(&first_height), "{first_height}");
    publish(&config, [body(2_001, "x")]).await;
    assert_eq!(client.text().await, event(2_001, "x"), "nothing old is sent to a live client");
    for replica in [first, late] {
        replica.stop().await.expect("drained");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_begins_at_the_streams_first_message_has_all_of_it() {
    let config = config(Broker::shared());
    publish(&config, (1..=30).map(|height| body(height, "x"))).await;
    let replica = Replica::start_ready(&config).await;
    let status = replica.status().await;
    assert_eq!(
        (status["first_height"].as_u64(), status["tip_height"].as_u64()),
        (Some(1), Some(30))
    );
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_longer_than_the_prefetch_still_meets_what_is_missing() {
    let mut config = config(Broker::shared());
    config.amqp.prefetch = 2;
    config.blocks.hold = Hold::Forever;
    let replica = Replica::start_ready(&config).await;
    let mut client = Client::connect(&replica.url("valid_transactions")).await;
    let heights = [1].into_iter().chain(3..=60).chain([2]);
    publish(&config, heights.map(|height| body(height, "x"))).await;
    assert_eq!(
        client.texts(60).await,
        (1..=60).map(|height| event(height, "x")).collect::<Vec<_>>()
    );
    assert_eq!(replica.metric("blockcast_missing_blocks_total").await, 0.0);
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_named_and_publishing_the_block_again_repairs_it() {
    let config = config(Broker::shared());
    let replica = Replica::start_ready(&config).await;
    let mut client = Client::connect(&replica.url("valid_transactions")).await;
    publish(&config, [1, 2, 5].map(|height| body(height, "x"))).await;
    assert_eq!(client.texts(3).await, [1, 2, 5].map(|height| event(height, "x")));
    let status = replica.status().await;
    assert_eq!(status["gaps"], serde_json::json!([{ "from_height": 3, "to_height": 4 }]));
    assert_eq!(replica.metric("blockcast_missing_blocks_total").await, 2.0);

    publish(&config, [4, 3, 6].map(|height| body(height, "x"))).await;
    assert_eq!(client.text().await, event(6, "x"), "cursors past a gap are not sent what fills it");
    assert_eq!(replica.status().await["gaps"], serde_json::json!([]));
    assert_eq!(replica.metric("blockcast_deliveries_total{outcome=\"filled\"}").await, 2.0);
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn planetmints_blocks_give_lists_of_assets_and_their_hash() {
    let mut config = config(Broker::shared());
    config.blocks.dialect = Dialect::Planetmint;
    let replica = Replica::start_ready(&config).await;
    let mut transactions = Client::connect(&replica.url("valid_transactions")).await;
    let mut blocks = Client::connect(&replica.url("valid_blocks")).await;
    let body = r#"{"height": "7", "hash": "27e2", "transactions": [
        {"id": "a", "operation": "CREATE", "assets": [{"data": "x"}]},
        {"id": "b", "operation": "COMPOSE", "assets": [{"id": "p"}, {"id": "q"}]},
        {"id": "c", "operation": "TRANSFER", "asset": {"id": "p"}}]}"#;
    publish(&config, [body.as_bytes().to_vec()]).await;
    let expected = [
        r#"{"height": 7, "asset_ids": ["a"], "transaction_id": "a"}"#,
        r#"{"height": 7, "asset_ids": ["p", "q"], "transaction_id": "b"}"#,
        r#"{"height": 7, "asset_ids": ["p"], "transaction_id": "c"}"#,
    ];
    assert_eq!(transactions.texts(3).await, expected);
    let summary = r#"{"height": 7, "hash": "27e2", "transaction_ids": ["a", "b", "c"]}"#;
    assert_eq!(blocks.text().await, summary);
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_leaves_out_empty_blocks_makes_no_gaps() {
    let mut config = config(Broker::shared());
    config.blocks.heights = Heights::Sparse;
    config.blocks.hold = Hold::Forever;
    let replica = Replica::start_ready(&config).await;
    let mut client = Client::connect(&replica.url("valid_transactions")).await;
    publish(&config, [3, 40, 41, 500].map(|height| body(height, "x"))).await;
    assert_eq!(client.texts(4).await, [3, 40, 41, 500].map(|height| event(height, "x")));
    assert_eq!(replica.status().await["gaps"], serde_json::json!([]));
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_of_ones_own_carries_the_chain_too() {
    let mut config = config(Broker::shared());
    config.amqp.queue.mode = QueueMode::Queue;
    config.amqp.queue.keep = true;
    let replica = Replica::start_ready(&config).await;
    let mut client = Client::connect(&replica.url("valid_transactions")).await;
    publish(&config, (1..=100).map(|height| body(height, "x"))).await;
    assert_eq!(
        client.texts(100).await,
        (1..=100).map(|height| event(height, "x")).collect::<Vec<_>>()
    );
    replica.stop().await.expect("drained");
    // What came while nobody consumed waits in the queue; a held block is not lost with its replica.
    publish(&config, (101..=110).map(|height| body(height, "x"))).await;
    let replica = Replica::start_ready(&config).await;
    eventually("what waited is there", async || replica.status().await["tip_height"] == 110).await;
    assert_eq!(replica.status().await["first_height"], 101);
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_block_that_a_queue_hands_over_again_is_not_settled_before_it_is_kept() {
    let broker = Broker::start_own();
    let mut config = config(&broker);
    config.amqp.queue.mode = QueueMode::Queue;
    config.amqp.queue.keep = true;
    config.blocks.hold = Hold::For(Duration::from_secs(600));
    let replica = Replica::start_ready(&config).await;
    publish(&config, [1, 3].map(|height| body(height, "x"))).await;
    eventually("the first is kept", async || replica.status().await["tip_height"] == 1).await;
    broker.rabbitmqctl(&["close_all_connections", "a test"]);
    eventually("the third has come again", async || {
        replica.metric("blockcast_deliveries_total{outcome=\"duplicate\"}").await == 1.0
    })
    .await;
    replica.stop().await.expect("drained");
    let next = Replica::start_ready(&config).await;
    eventually("the queue still has it", async || next.status().await["tip_height"] == 3).await;
    next.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_chain_in_a_stream_made_anew_is_told_and_followed() {
    let broker = Broker::shared();
    let config = config(broker);
    let replica = Replica::start_ready(&config).await;
    let mut client = Client::connect(&replica.url("valid_transactions")).await;
    publish(&config, (1..=5).map(|height| body(height, "old"))).await;
    client.texts(5).await;

    AmqpClient::connect(&broker.uri()).await.delete_queue(&config.amqp.queue.resolved_name()).await;
    eventually("the reset is noticed", async || {
        replica.metric("blockcast_stream_resets_total").await == 1.0
    })
    .await;
    publish(&config, (1..=3).map(|height| body(height, "new"))).await;
    let frame = client.closed().await;
    assert_eq!(
        (u16::from(frame.code), frame.reason.as_str()),
        (4010, "from_height=oldest another chain")
    );
    replica.ready().await;
    eventually("the new chain is there", async || replica.status().await["tip_height"] == 3).await;
    let mut client = Client::connect(&replica.url("valid_transactions")).await;
    publish(&config, [body(4, "new")]).await;
    assert_eq!(client.text().await, event(4, "new"));
    eventually("the reset is counted", async || {
        replica.metric("blockcast_disconnects_total{reason=\"reset\"}").await == 1.0
    })
    .await;
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_made_anew_with_the_same_chain_goes_on() {
    let broker = Broker::shared();
    let config = config(broker);
    let replica = Replica::start_ready(&config).await;
    let mut client = Client::connect(&replica.url("valid_transactions")).await;
    publish(&config, (1..=5).map(|height| body(height, "x"))).await;
    client.texts(5).await;
    AmqpClient::connect(&broker.uri()).await.delete_queue(&config.amqp.queue.resolved_name()).await;
    eventually("the reset is noticed", async || {
        replica.metric("blockcast_stream_resets_total").await == 1.0
    })
    .await;
    publish(&config, (4..=8).map(|height| body(height, "x"))).await;
    assert_eq!(client.texts(3).await, (6..=8).map(|height| event(height, "x")).collect::<Vec<_>>());
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_made_anew_that_reaches_further_back_is_still_the_same_chain() {
    let broker = Broker::shared();
    let config = config(broker);
    let replica = Replica::start_ready(&config).await;
    let mut client = Client::connect(&replica.url("valid_transactions")).await;
    publish(&config, (100..=110).map(|height| body(height, "x"))).await;
    client.texts(11).await;
    let operator = AmqpClient::connect(&broker.uri()).await;
    operator.delete_queue(&config.amqp.queue.resolved_name()).await;
    operator.declare_stream(&config.amqp).await;
    publish(&config, (50..=111).map(|height| body(height, "x"))).await;
    assert_eq!(client.text().await, event(111, "x"), "neither cut nor sent anything twice");
    assert_eq!(replica.metric("blockcast_stream_resets_total").await, 1.0);
    replica.stop().await.expect("drained");
}
