//! `queue` mode: one classic queue for one replica.

use std::time::Duration;

use blockcast::amqp::SourceError;
use blockcast::config::{Hold, QueueMode};
use bytesize::ByteSize;
use lapin::options::BasicGetOptions;

use crate::support::amqp_client::{Client, Running, bodies, config, eventually};
use crate::support::broker::Broker;
use crate::support::chain::{body, publish};
use crate::support::letters::Letters;
use crate::support::replica::{self, Replica};

#[tokio::test]
async fn a_second_consumer_waits_until_the_first_leaves() {
    let broker = Broker::shared();
    let mut config = config(broker);
    config.queue.mode = QueueMode::Queue;
    config.queue.keep = true;
    let mut first = Running::start(&config);
    assert!(first.begin().await);
    first.caught_up().await;
    let client = Client::connect(&broker.uri()).await;
    client.publish(&config.exchange, bodies(0..3)).await;

    let mut second = Running::start(&config);
    first.takes(bodies(0..2)).await;
    let unsettled = first.delivery().await;
    assert_eq!((unsettled.offset, &*unsettled.body), (None, b"block 2".as_slice()));
    // It was refused once, and tries again.
    eventually(|| second.metrics.amqp_reconnects.get() > 0).await;
    assert!(second.inputs.try_recv().is_err(), "two consumers would get half each");
    first.stop().await;
    assert!(second.begin().await);
    second.caught_up().await;
    second.takes(bodies(2..3)).await;
    second.stop().await;
}

#[tokio::test]
async fn unsettled_messages_come_again_after_a_reconnect_and_settled_ones_do_not() {
    let broker = Broker::start_own();
    let mut config = config(&broker);
    config.queue.mode = QueueMode::Queue;
    let mut source = Running::start(&config);
    source.begin().await;
    source.caught_up().await;
    let client = Client::connect(&broker.uri()).await;
    client.publish(&config.exchange, bodies(0..3)).await;
    source.takes(bodies(0..1)).await;
    let mut unsettled = source.delivery().await;
    broker.rabbitmqctl(&["close_all_connections", "the operator says so"]);
    unsettled.settle().await; // Too late, and without harm.
    let third = source.delivery().await;
    assert_eq!(&*third.body, b"block 2", "it was handed over before the connection was closed");
    source.takes(bodies(1..3)).await;
    source.stop().await;
}

#[tokio::test]
async fn a_queue_that_two_replicas_would_share_is_refused_for_good() {
    let broker = Broker::shared();
    for (queue_type, declare) in [("quorum", false), ("quorum", true), ("stream", false)] {
        let mut config = config(broker);
        config.queue.mode = QueueMode::Queue;
        config.declare = declare;
        let queue = config.queue.resolved_name();
        let client = Client::connect(&broker.uri()).await;
        client.declare_exchange(&config.exchange).await;
        let arguments = [("x-queue-type", queue_type)];
        client.declare_queue(&queue, &config.exchange, &arguments).await;
        client.publish(&config.exchange, bodies(0..1)).await;
        let error = Running::start(&config).gives_up().await;
        // Which of the arguments that differ a broker names first is its own choice.
        let is_type = declare && matches!(error, SourceError::QueueType(_));
        let is_shared = matches!(error, SourceError::Shared { .. });
        assert!(is_type || is_shared, "{queue_type}, declare = {declare}: {error}");
        let text = error.to_string();
        assert!(text.contains(&queue) && text.contains("mode"), "{text}");
    }
}

#[tokio::test]
async fn a_queue_is_bounded_and_goes_with_its_replica_unless_it_is_kept() {
    let broker = Broker::shared();
    let client = Client::connect(&broker.uri()).await;
    for keep in [false, true] {
        let mut config = config(broker);
        config.queue.mode = QueueMode::Queue;
        config.queue.keep = keep;
        config.queue.max_length_bytes = ByteSize::b(700);
        let queue = config.queue.resolved_name();
        let mut source = Running::start(&config);
        assert!(source.begin().await);
        source.caught_up().await;
        source.stop().await;
        client.publish_unrouted(&config.exchange, bodies(0..100)).await;
        let found = client.count(&queue).await;
        match keep {
            // "block 10" to "block 99" have 8 bytes.
            true => assert_eq!(found, Some(87), "the oldest went"),
            false => assert_eq!(found, None, "the queue is gone"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_of_a_waiting_block_that_come_again_leave_credit_for_the_missing_one() {
    const COPIES: usize = 20;
    let broker = Broker::shared();
    let mut config = replica::config(broker);
    config.amqp.queue.mode = QueueMode::Queue;
    config.amqp.queue.keep = true;
    config.amqp.prefetch = 17;
    config.blocks.hold = Hold::For(Duration::from_secs(3_600));
    let queue = config.amqp.queue.resolved_name();
    let mut before = Running::start(&config.amqp);
    before.begin().await;
    before.stop().await;
    publish(&config, std::iter::once(body(1, "x")).chain(vec![body(3, "x"); COPIES])).await;
    // Handed over once to somebody who goes without a word.
    let gone = Client::connect(&broker.uri()).await;
    for _ in 0..=COPIES {
        let options = BasicGetOptions { no_ack: false };
        let taken = gone.channel.basic_get(queue.as_str().into(), options).await;
        assert!(taken.expect("answered").is_some());
    }
    drop(gone);

    let replica = Replica::start_ready(&config).await;
    publish(&config, [body(2, "x")]).await;
    crate::support::eventually::eventually("the missing block comes", async || {
        replica.status().await["tip_height"] == 3
    })
    .await;
    replica.stop().await.expect("drained");
    assert_eq!(Letters::of(broker, Some(&queue)).await.count().await, 0, "all are settled");
}
