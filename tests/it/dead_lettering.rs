//! Dead letters against a broker that has no place for them, and against one that has.

use std::sync::Arc;
use std::time::{Duration, Instant};

use blockcast::amqp::{DeadLetter, DeadLetterError, DeadLetters, Delivery, Publisher};
use blockcast::config::AmqpUri;
use lapin::types::AMQPValue;

use crate::support::amqp_client::{Client, Running, bodies, config};
use crate::support::broker::{Broker, unique};

fn letter(delivery: &Delivery) -> DeadLetter<'_> {
    DeadLetter { delivery, reason: "not_json", detail: "expected value at line 1" }
}

#[tokio::test]
async fn a_letter_carries_the_body_and_says_why_and_where_from() {
    let broker = Broker::shared();
    let config = config(broker);
    let mut source = Running::start(&config);
    source.begin().await;
    source.caught_up().await;
    let client = Client::connect(&broker.uri()).await;
    client.publish(&config.exchange, bodies(0..2)).await;
    source.takes(bodies(0..1)).await;
    let mut delivery = source.delivery().await;
    let letters = DeadLetters::beside(Arc::new(config.clone()), &source.link);
    letters.publish(letter(&delivery)).await.expect("written");

    let (queue, dead) = (config.queue.resolved_name(), config.dead_letter.exchange.expect("set"));
    let found = client.get(&dead).await.expect("a letter in the queue that was declared for it");
    assert_eq!(found.data, b"block 1");
    assert_eq!(found.exchange.as_str(), dead);
    assert_eq!(found.routing_key.as_str(), "block.valid");
    let properties = &found.properties;
    let id = properties.message_id().as_ref().expect("an id");
    assert_eq!(id.as_str(), format!("{queue}@1"));
    assert_eq!(properties.content_type().as_ref().expect("a type").as_str(), "text/x-block");
    assert_eq!(*properties.delivery_mode(), Some(2));
    let headers = properties.headers().as_ref().expect("headers").inner();
    for (name, text) in [
        ("x-blockcast-reason", "not_json"),
        ("x-blockcast-detail", "expected value at line 1"),
        ("x-blockcast-queue", &queue),
        ("x-blockcast-exchange", &config.exchange),
        ("x-blockcast-routing-key", "block.valid"),
    ] {
        assert_eq!(headers.get(name), Some(&AMQPValue::LongString(text.into())), "{name}");
    }
    assert_eq!(headers.get("x-blockcast-offset"), Some(&AMQPValue::LongLongInt(1)));
    assert!(matches!(headers.get("x-blockcast-at"), Some(AMQPValue::Timestamp(_))));
    delivery.settle().await;
    letters.close().await;
    source.stop().await;
}

#[tokio::test]
async fn a_missing_or_unbound_exchange_is_said_in_time_and_spoils_nothing() {
    let broker = Broker::shared();
    let config = config(broker);
    let dead = config.dead_letter.exchange.clone().expect("set");
    let letters = DeadLetters::new(Arc::new(config));
    let delivery = Delivery::detached("bad", Some(7));
    let started = Instant::now();
    for _ in 0..2 {
        let error = letters.publish(letter(&delivery)).await.expect_err("no exchange");
        assert!(matches!(error, DeadLetterError::Refused(_)), "{error}");
        assert!(error.to_string().contains("404"), "{error}");
    }
    let client = Client::connect(&broker.uri()).await;
    client.declare_exchange(&dead).await;
    let error = letters.publish(letter(&delivery)).await.expect_err("no queue");
    assert!(matches!(error, DeadLetterError::Unroutable { .. }), "{error}");
    client.declare_queue(&dead, &dead, &[]).await;
    letters.publish(letter(&delivery)).await.expect("written");
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(client.get(&dead).await.expect("one letter").data, b"bad");
    assert!(client.get(&dead).await.is_none(), "and only one");
}

#[tokio::test]
async fn a_forbidden_exchange_stops_neither_the_feed_nor_the_next_letter() {
    let broker = Broker::shared();
    let mut config = config(broker);
    let (user, dead) = (unique("user"), config.dead_letter.exchange.clone().expect("set"));
    let uri = format!("amqp://{user}:secret@127.0.0.1:{}/%2f", broker.port());
    config.uris = vec![AmqpUri::new(uri)];
    let allow = |pattern: &str| {
        broker.rabbitmqctl(&["set_permissions", &user, pattern, pattern, pattern]);
    };
    broker.rabbitmqctl(&["add_user", &user, "secret"]);
    allow("^(exchange|queue)\\..*");

    let mut source = Running::start(&config);
    source.begin().await;
    source.caught_up().await;
    let letters = DeadLetters::new(Arc::new(config.clone()));
    let delivery = Delivery::detached("bad", Some(7));
    let error = letters.publish(letter(&delivery)).await.expect_err("not allowed");
    let client = Client::connect(&broker.uri()).await;
    client.declare_exchange(&dead).await;
    client.declare_queue(&dead, &dead, &[]).await;
    let forbidden = letters.publish(letter(&delivery)).await.expect_err("not allowed");
    for error in [error, forbidden] {
        assert!(matches!(error, DeadLetterError::Refused(_)), "{error}");
    }
    allow(".*");
    letters.close().await; // The broker remembers a permission for each channel.
    letters.publish(letter(&delivery)).await.expect("written");
    client.publish(&config.exchange, bodies(0..1)).await;
    source.takes(bodies(0..1)).await;
    source.stop().await;
}

#[tokio::test]
async fn without_a_broker_a_letter_is_given_up_after_ten_seconds() {
    let uris = vec![AmqpUri::new("amqp://127.0.0.1:1")];
    let config = blockcast::config::Amqp { uris, ..Default::default() };
    let letters = DeadLetters::new(Arc::new(config.clone()));
    tokio::time::pause();
    let delivery = Delivery::detached("bad", None);
    let started = tokio::time::Instant::now();
    let error = letters.publish(letter(&delivery)).await.expect_err("no broker");
    assert!(matches!(error, DeadLetterError::Deadline { .. }), "{error}");
    assert_eq!(started.elapsed().as_secs(), 10);
    assert!(Publisher::connect(&config).await.is_err());
}
