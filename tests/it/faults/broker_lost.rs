//! The broker's ends.

use std::time::Duration;

use blockcast::config::AmqpUri;
use tokio::task::block_in_place;

use crate::support::broker::Broker;
use crate::support::load::{Pace, Producer, all_have_the_chain, followers};
use crate::support::process::Process;
use crate::support::replica::config;

/// Takes the place of two kills in one process, which cost 25 s of their own.
const KILLS: u64 = 10;
const PACE: Pace = Pace { blocks: 10, every: Duration::from_millis(20) };

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_killed_ten_times_under_publishing_costs_no_block() {
    let broker = Broker::start_own();
    let config = config(&broker);
    let replicas = [Process::start_ready(&config).await, Process::start_ready(&config).await];
    let urls = replicas.each_ref().map(|replica| replica.url("valid_transactions"));
    let mut producer = Producer::start(&config, PACE);
    let clients = followers(&urls, 20);
    for kill in 0..KILLS {
        let confirmed = producer.confirms(50).await;
        // Every other kill meets them wherever they are on their way back.
        if kill % 2 == 0 {
            for replica in &replicas {
                replica.reaches(confirmed).await;
            }
        }
        block_in_place(|| broker.kill());
        for replica in &replicas {
            assert_eq!(replica.get("/health/live").await.status, 200, "life needs no broker");
        }
        block_in_place(|| broker.restart());
    }
    producer.confirms(50).await;
    let last = producer.end().await;
    let followed = all_have_the_chain(clients, last).await;
    assert!(followed.iter().all(|client| client.connected_at.len() == 1), "no client was cut");
    for replica in replicas {
        let reconnects = replica.metric("blockcast_amqp_reconnects_total").await;
        assert!(reconnects >= (KILLS / 2) as f64, "{reconnects} reconnects");
        assert_eq!(replica.metric("blockcast_missing_blocks_total").await, 0.0);
        assert_eq!(replica.metric("blockcast_stream_resets_total").await, 0.0);
        replica.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_a_cluster_killed_sends_the_replica_to_the_next_and_costs_no_block() {
    let mut nodes = block_in_place(Broker::start_cluster);
    let mut config = config(&nodes[0]);
    config.amqp.uris = nodes.iter().map(|node| AmqpUri::new(node.uri())).collect();
    let replica = Process::start_ready(&config).await;
    // One that the kill does not touch.
    config.amqp.uris.rotate_left(1);
    let other = Process::start_ready(&config).await;
    let urls = [&replica, &other].map(|replica| replica.url("valid_transactions"));
    let mut producer = Producer::start(&config, PACE);
    let clients = followers(&urls, 10);
    producer.confirms(50).await;
    block_in_place(|| nodes[0].kill());
    replica.reaches(producer.confirms(50).await).await;
    let consuming = replica.logged("consuming");
    let last = consuming.last().expect("it says where from");
    assert!(!last.contains(&nodes[0].port().to_string()), "moved on: {consuming:?}");
    all_have_the_chain(clients, producer.end().await).await;
    assert!(replica.metric("blockcast_amqp_reconnects_total").await >= 1.0);
    for replica in [replica, other] {
        assert_eq!(replica.metric("blockcast_missing_blocks_total").await, 0.0);
        assert_eq!(replica.metric("blockcast_stream_resets_total").await, 0.0);
        replica.stop().await;
    }
    // The first one's end takes the files of all.
    nodes.reverse();
}
