//! Brokers and connections that end while the feed stands at one place: none of it proves that an entry
//! cannot be read.

use blockcast::amqp::Publisher;
use tokio::task::{JoinHandle, block_in_place};

use super::link::behind_proxy;
use crate::amqp_unreadable::broker;
use crate::broker::Broker;
use crate::chain::{body, event, publish};
use crate::client::Client;
use crate::eventually::eventually;
use crate::process::Process;
use crate::replica::config;
use crate::stream_writer::{Entry, Writer};

const KILLS: u64 = 4;
const CUTS: u64 = 10;
const PASSED_OVER: &str = "blockcast_unreadable_entries_total";

async fn stands_before_it(replica: &Process) {
    eventually("it stands before the entry", async || {
        replica.get("/health/ready").await.body.contains("unreadable entry")
            && replica.metric("blockcast_amqp_connected").await == 1.0
    })
    .await;
}

/// A client that takes the blocks up to 9 as they come.
async fn client(replica: &Process) -> JoinHandle<Vec<String>> {
    let mut client = Client::connect(&replica.url("valid_transactions")).await;
    tokio::spawn(async move { client.texts(9).await })
}

async fn has_everything(client: JoinHandle<Vec<String>>) {
    let expected = Vec::from_iter((1..=9).map(|height| event(height, "x")));
    assert_eq!(client.await.expect("everything came"), expected);
}

/// Checks that one entry was passed over, that no block was lost, and that nothing began anew.
async fn lost_nothing(replica: &Process) {
    assert_eq!(replica.metric(PASSED_OVER).await, 1.0);
    assert_eq!(replica.metric("blockcast_missing_blocks_total").await, 0.0);
    assert_eq!(replica.metric("blockcast_stream_resets_total").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_killed_again_and_again_before_an_unreadable_entry_costs_no_block() {
    let (broker, port) = block_in_place(Broker::start_with_stream_protocol);
    let config = config(&broker);
    let replica = Process::start_ready(&config).await;
    let client = client(&replica).await;
    publish(&config, (1..=5).map(|height| body(height, "x"))).await;
    replica.reaches(5).await;
    let queue = config.amqp.queue.resolved_name();
    block_in_place(|| Writer::connect(port, &queue).write([Entry::Garbage]));
    for _ in 0..KILLS {
        stands_before_it(&replica).await;
        block_in_place(|| broker.kill());
        eventually("it is missed", async || {
            replica.metric("blockcast_amqp_connected").await == 0.0
        })
        .await;
        block_in_place(|| broker.restart());
        assert_eq!(replica.metric(PASSED_OVER).await, 0.0, "nothing is proven");
    }
    eventually("a producer is let in", async || Publisher::connect(&config.amqp).await.is_ok())
        .await;
    publish(&config, (6..=9).map(|height| body(height, "x"))).await;
    has_everything(client).await;
    lost_nothing(&replica).await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_cut_again_and_again_at_one_place_have_nothing_passed_over() {
    let (broker, port) = broker();
    let config = config(broker);
    let (proxy, through) = behind_proxy(broker, &config).await;
    let replica = Process::start_ready(&through).await;
    let client = client(&replica).await;
    publish(&config, (1..=5).map(|height| body(height, "x"))).await;
    replica.reaches(5).await;
    let reconnects = "blockcast_amqp_reconnects_total";
    for cut in 1..=CUTS {
        proxy.cut();
        eventually("it is back", async || {
            replica.metric(reconnects).await >= cut as f64
                && replica.metric("blockcast_amqp_connected").await == 1.0
        })
        .await;
    }
    assert_eq!(replica.metric(PASSED_OVER).await, 0.0);
    assert_eq!(replica.get("/health/ready").await.status, 200);

    // And before an entry that cannot be read, in the middle of the looks at it.
    let queue = config.amqp.queue.resolved_name();
    block_in_place(|| Writer::connect(port, &queue).write([Entry::Garbage]));
    for _ in 0..CUTS {
        stands_before_it(&replica).await;
        proxy.cut();
    }
    assert_eq!(replica.metric(PASSED_OVER).await, 0.0);
    publish(&config, (6..=9).map(|height| body(height, "x"))).await;
    for height in 6..=9 {
        proxy.cut();
        replica.reaches(height).await;
    }
    has_everything(client).await;
    lost_nothing(&replica).await;
    replica.stop().await;
}
