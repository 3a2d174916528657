//! Brokers and connections that end while the feed stands at one place: none of it proves that an entry
//! cannot be read.

use blockcast::amqp::Publisher;
use blockcast::config::QueueMode;
use tokio::task::{JoinHandle, block_in_place};

use crate::support::broker::Broker;
use crate::support::chain::{body, event, publish};
use crate::support::client::Client;
use crate::support::eventually::eventually;
use crate::support::process::Process;
use crate::support::proxy::Harm;
use crate::support::proxy::behind_proxy;
use crate::support::replica::config;
use crate::support::stream_writer::{Entry, Writer};
use crate::support::unreadable::broker;

const KILLS: u64 = 10;
const CUTS: u64 = 10;
/// Stands in block 5's message and in no other.
const BLOCK_5: &str = "\"height\":5";
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

/// RabbitMQ's nodes need not agree: what one cannot hand over, another may.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_broker_cannot_hand_over_is_asked_of_the_next() {
    let (broker, _) = broker();
    let config = config(broker);
    let (bad, mut through) = behind_proxy(broker, &config).await;
    let (good, second) = behind_proxy(broker, &config).await;
    through.amqp.uris.extend(second.amqp.uris);
    let replica = Process::start_ready(&through).await;
    let client = client(&replica).await;
    bad.harm_each(Harm::Whole, Harm::Unreadable(BLOCK_5));
    publish(&config, (1..=4).map(|height| body(height, "x"))).await;
    replica.reaches(4).await;
    publish(&config, (5..=9).map(|height| body(height, "x"))).await;
    has_everything(client).await;
    assert_eq!(replica.metric(PASSED_OVER).await, 0.0);
    assert_eq!(replica.metric("blockcast_amqp_reconnects_total").await, 1.0);
    let consuming = replica.logged("\"consuming\"");
    let last = consuming.last().expect("logged");
    assert!(last.contains(&good.address.to_string()), "{last}");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_broker_cannot_hand_over_to_who_reads_back_is_asked_of_the_next() {
    let (broker, _) = broker();
    let config = config(broker);
    let (bad, mut through) = behind_proxy(broker, &config).await;
    let (_good, second) = behind_proxy(broker, &config).await;
    through.amqp.uris.extend(second.amqp.uris);
    through.amqp.queue.warm_up = 100;
    for first in (1..=300).step_by(20) {
        publish(&config, (first..first + 20).map(|height| body(height, "x"))).await;
    }
    bad.harm_each(Harm::Whole, Harm::Unreadable("\"height\":12,"));
    let replica = Process::start_ready(&through).await;
    let url = format!("{}?from_height=10", replica.url("valid_transactions"));
    let expected = Vec::from_iter((10..=300).map(|height| event(height, "x")));
    assert_eq!(Client::connect(&url).await.texts(291).await, expected);
    assert_ne!(bad.harmed(), 0, "it is asked");
    assert_eq!(replica.metric(PASSED_OVER).await, 0.0);
    replica.stop().await;
}

/// A queue has no offsets: there is no place behind an entry to begin at.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_waits_before_what_cannot_be_handed_over_and_says_so_once() {
    let (broker, _) = broker();
    let mut config = config(broker);
    config.amqp.queue.mode = QueueMode::Queue;
    let (proxy, through) = behind_proxy(broker, &config).await;
    let replica = Process::start_ready(&through).await;
    let client = client(&replica).await;
    proxy.harm_each(Harm::Whole, Harm::Unreadable(BLOCK_5));
    publish(&config, (1..=4).map(|height| body(height, "x"))).await;
    replica.reaches(4).await;
    publish(&config, (5..=9).map(|height| body(height, "x"))).await;
    eventually("it says that it is stuck", async || {
        let ready = replica.get("/health/ready").await;
        ready.status == 503 && !replica.logged("the next message of the queue").is_empty()
    })
    .await;
    let reconnects = "blockcast_amqp_reconnects_total";
    let so_far = replica.metric(reconnects).await;
    eventually("it tries again and again", async || {
        replica.metric(reconnects).await >= so_far + 2.0
    })
    .await;
    assert_eq!(replica.logged("the next message of the queue").len(), 1);
    proxy.harm(Harm::Whole);
    has_everything(client).await;
    assert_eq!(replica.metric(PASSED_OVER).await, 0.0);
    assert_eq!(replica.metric("blockcast_missing_blocks_total").await, 0.0);
    replica.stop().await;
}
