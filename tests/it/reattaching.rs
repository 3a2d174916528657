//! What becomes of the feed when its connection, its stream or its broker goes away.

use blockcast::config::AmqpUri;

use crate::support::amqp_client::{Client, Running, bodies, config};
use crate::support::broker::Broker;

#[tokio::test]
async fn a_stream_deleted_and_declared_again_is_read_from_its_first_message() {
    let broker = Broker::shared();
    let config = config(broker);
    let client = Client::connect(&broker.uri()).await;
    client.declare_stream(&config).await;
    client.publish(&config.exchange, bodies(0..10)).await;
    let mut source = Running::start(&config);
    source.begin().await;
    source.takes(bodies(0..10)).await;
    source.caught_up().await;

    // At "last + 1" a consumer of the new stream would be mute and look healthy.
    client.delete_queue(&config.queue.resolved_name()).await;
    client.declare_stream(&config).await;
    client.publish(&config.exchange, bodies(100..103)).await;
    source.anew().await;
    source.takes_and_catches_up(bodies(100..103)).await;
    assert_eq!(source.metrics.stream_resets.get(), 1);
    client.publish(&config.exchange, bodies(103..104)).await;
    source.takes(bodies(103..104)).await;
    source.stop().await;
}

#[tokio::test]
async fn a_new_stream_that_has_grown_past_the_old_place_is_known_by_its_content() {
    let broker = Broker::shared();
    let mut config = config(broker);
    config.declare = false;
    let client = Client::connect(&broker.uri()).await;
    client.declare_stream(&config).await;
    client.publish(&config.exchange, bodies(0..5)).await;
    let mut source = Running::start(&config);
    source.begin().await;
    source.takes(bodies(0..5)).await;
    source.caught_up().await;

    client.delete_queue(&config.queue.resolved_name()).await;
    client.declare_stream(&config).await;
    client.publish(&config.exchange, bodies(100..120)).await;
    source.anew().await;
    source.takes_and_catches_up(bodies(100..120)).await;
    source.stop().await;
}

#[tokio::test]
async fn a_stream_made_anew_in_warm_up_is_still_caught_up_with() {
    let broker = Broker::shared();
    let mut config = config(broker);
    config.prefetch = 2;
    let client = Client::connect(&broker.uri()).await;
    client.declare_stream(&config).await;
    // One chunk each, since a chunk is delivered whole, whatever the prefetch.
    for body in bodies(0..30) {
        client.publish(&config.exchange, [body]).await;
    }
    let mut source = Running::start(&config);
    source.begin().await;
    source.takes(bodies(0..5)).await;
    client.delete_queue(&config.queue.resolved_name()).await;
    client.declare_stream(&config).await;
    client.publish(&config.exchange, bodies(100..103)).await;
    loop {
        match source.next().await {
            blockcast::amqp::Input::Delivery(mut delivery) => delivery.settle().await,
            blockcast::amqp::Input::CaughtUp => panic!("caught up before the stream was made anew"),
            other => break assert!(matches!(other, blockcast::amqp::Input::Anew), "{other:?}"),
        }
    }
    source.takes_and_catches_up(bodies(100..103)).await;
    source.stop().await;
}

#[tokio::test]
async fn nothing_is_lost_or_repeated_when_the_broker_is_closed_killed_and_restarted() {
    let broker = Broker::start_own();
    let mut config = config(&broker);
    // The first is dead; the second leads to ::1, where nobody listens, and to 127.0.0.1.
    config.uris = vec![
        AmqpUri::new("amqp://guest:guest@127.0.0.1:1/%2f"),
        AmqpUri::new(format!("amqp://guest:guest@localhost:{}/%2f", broker.port())),
    ];
    let client = Client::connect(&broker.uri()).await;
    client.declare_stream(&config).await;
    client.publish(&config.exchange, bodies(0..20)).await;
    let mut source = Running::start(&config);
    source.begin().await;
    source.takes(bodies(0..20)).await;
    source.caught_up().await;

    broker.rabbitmqctl(&["close_all_connections", "the operator says so"]);
    source.echo(19).await; // So the stream is there again.
    let client = Client::connect(&broker.uri()).await;
    client.publish(&config.exchange, bodies(20..30)).await;
    source.takes(bodies(20..30)).await;

    broker.kill();
    broker.restart();
    source.echo(29).await;
    let client = Client::connect(&broker.uri()).await;
    client.publish(&config.exchange, bodies(30..40)).await;
    source.takes(bodies(30..40)).await;
    assert_eq!(source.metrics.stream_resets.get(), 0);
    assert!(source.metrics.amqp_reconnects.get() >= 2);
    source.stop().await;
}
