//! Reading a RabbitMQ stream: where it begins, when it has caught up, how far it goes.

use blockcast::amqp::{Input, SourceError};

use crate::support::amqp_client::{Client, Running, bodies, config, eventually};
use crate::support::broker::Broker;

#[tokio::test]
async fn a_quiet_stream_is_read_whole_and_then_caught_up() {
    let broker = Broker::shared();
    let config = config(broker);
    let client = Client::connect(&broker.uri()).await;
    client.declare_stream(&config).await;
    client.publish(&config.exchange, bodies(0..40)).await;

    let mut source = Running::start(&config);
    assert!(source.begin().await);
    for (height, body) in bodies(0..40).enumerate() {
        let mut delivery = source.delivery().await;
        assert_eq!(delivery.offset, Some(height as u64));
        assert_eq!(delivery.body, body);
        assert_eq!(delivery.exchange, config.exchange);
        assert_eq!(delivery.routing_key, "block.valid");
        delivery.settle().await;
    }
    source.caught_up().await;
    assert!(source.readiness.is_connected());
    client.publish(&config.exchange, bodies(40..41)).await;
    source.takes(bodies(40..41)).await;
    source.stop().await;
}

#[tokio::test]
async fn an_empty_stream_is_caught_up_at_once_and_then_live() {
    let broker = Broker::shared();
    let config = config(broker);
    let mut source = Running::start(&config);
    assert!(source.begin().await);
    source.caught_up().await;
    let client = Client::connect(&broker.uri()).await;
    client.publish(&config.exchange, bodies(0..3)).await;
    source.takes(bodies(0..3)).await;
    source.stop().await;
}

#[tokio::test]
async fn warm_up_begins_that_many_messages_before_the_tail() {
    let broker = Broker::shared();
    let mut config = config(broker);
    let client = Client::connect(&broker.uri()).await;
    client.declare_stream(&config).await;
    client.publish(&config.exchange, bodies(0..50)).await;
    for (warm_up, from_first, start) in
        [(0, false, 49), (10, false, 39), (49, true, 0), (500, true, 0)]
    {
        config.queue.warm_up = warm_up;
        let mut source = Running::start(&config);
        assert_eq!(source.begin().await, from_first, "warm_up = {warm_up}");
        source.takes(bodies(start..50)).await;
        source.caught_up().await;
        source.stop().await;
    }
}

#[tokio::test]
async fn the_feed_goes_on_far_beyond_prefetch() {
    let broker = Broker::shared();
    let mut config = config(broker);
    config.prefetch = 4;
    let client = Client::connect(&broker.uri()).await;
    client.declare_stream(&config).await;
    client.publish(&config.exchange, bodies(0..500)).await;
    let mut source = Running::start(&config);
    assert!(source.begin().await);
    source.takes(bodies(0..500)).await;
    source.caught_up().await;
    source.stop().await;
}

#[tokio::test]
async fn a_new_start_begins_again() {
    let broker = Broker::shared();
    let config = config(broker);
    let client = Client::connect(&broker.uri()).await;
    client.declare_stream(&config).await;
    client.publish(&config.exchange, bodies(0..5)).await;
    let mut source = Running::start(&config);
    assert!(source.begin().await);
    source.takes(bodies(0..2)).await;
    source.link.start_over();
    while !matches!(source.next().await, Input::Begin { from_first: true }) {}
    source.takes(bodies(0..5)).await;
    source.caught_up().await;
    assert_eq!(source.metrics.amqp_reconnects.get(), 0, "over the same connection");
    source.stop().await;
}

#[tokio::test]
async fn a_stream_declared_with_other_arguments_is_used_as_it_is() {
    let broker = Broker::shared();
    let config = config(broker);
    let client = Client::connect(&broker.uri()).await;
    client.declare_exchange(&config.exchange).await;
    let arguments = [("x-queue-type", "stream"), ("x-max-age", "1h")];
    client.declare_queue(&config.queue.resolved_name(), &config.exchange, &arguments).await;
    client.publish(&config.exchange, bodies(0..2)).await;
    let mut source = Running::start(&config);
    assert!(source.begin().await);
    source.takes(bodies(0..2)).await;
    source.stop().await;
}

#[tokio::test]
async fn a_queue_of_another_type_is_refused_for_good_and_left_untouched() {
    let broker = Broker::shared();
    for declare in [true, false] {
        let mut config = config(broker);
        config.declare = declare;
        let queue = config.queue.resolved_name();
        let client = Client::connect(&broker.uri()).await;
        client.declare_exchange(&config.exchange).await;
        client.declare_queue(&queue, &config.exchange, &[]).await;
        client.publish(&config.exchange, bodies(0..1)).await;
        let error = Running::start(&config).gives_up().await;
        assert!(matches!(error, SourceError::QueueType(_)), "{error}");
        let text = error.to_string();
        assert!(text.contains(&queue) && text.contains("amqp.queue.mode"), "{text}");
        let kept = client.get(&queue).await.expect("the message is still there");
        assert_eq!(kept.data, b"block 0", "declare = {declare}");
    }
}

#[tokio::test]
async fn without_declare_a_missing_queue_is_waited_for() {
    let broker = Broker::shared();
    let mut config = config(broker);
    config.declare = false;
    let mut source = Running::start(&config);
    let client = Client::connect(&broker.uri()).await;
    // A second connection shows that the first failure has been survived.
    eventually(|| source.metrics.amqp_reconnects.get() > 0).await;
    client.declare_stream(&config).await;
    client.publish(&config.exchange, bodies(0..2)).await;
    source.begin().await;
    source.takes(bodies(0..2)).await;
    source.stop().await;
}

#[tokio::test]
async fn shutdown_ends_a_source_that_waits_for_its_reader_or_for_a_broker() {
    let broker = Broker::shared();
    let full = config(broker);
    let client = Client::connect(&broker.uri()).await;
    client.declare_stream(&full).await;
    client.publish(&full.exchange, bodies(0..10)).await;
    let mut source = Running::start(&full);
    source.begin().await;
    source.stop().await;

    let mut nowhere = config(broker);
    nowhere.uris = vec![blockcast::config::AmqpUri::new("amqp://127.0.0.1:1")];
    let source = Running::start(&nowhere);
    tokio::task::yield_now().await;
    source.stop().await;
}
