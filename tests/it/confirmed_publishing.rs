//! The producer's side.

use blockcast::amqp::{PublishError, Publisher};

use crate::support::amqp_client::{Client, bodies, config};
use crate::support::broker::Broker;

#[tokio::test]
async fn messages_are_confirmed_and_the_tail_is_read_back() {
    let broker = Broker::shared();
    let config = config(broker);
    let publisher = Publisher::connect(&config).await.expect("connected");
    assert!(publisher.tail_messages().await.expect("readable").is_empty());
    let mut under_way = Vec::new();
    for body in bodies(0..20) {
        under_way.push(publisher.publish(body.into_bytes()).await.expect("sent"));
    }
    for confirm in under_way {
        confirm.wait().await.expect("confirmed");
    }
    let tail = publisher.tail_messages().await.expect("readable");
    assert_eq!(tail.last().map(|message| &*message.body), Some(b"block 19".as_slice()));
    publisher.close().await;
}

#[tokio::test]
async fn a_message_that_no_queue_takes_is_not_published() {
    let broker = Broker::shared();
    let mut config = config(broker);
    config.declare = false;
    let client = Client::connect(&broker.uri()).await;
    client.declare_exchange(&config.exchange).await;
    let publisher = Publisher::connect(&config).await.expect("connected");
    let confirm = publisher.publish(b"block".to_vec()).await.expect("sent");
    let error = confirm.wait().await.expect_err("no queue");
    assert!(matches!(error, PublishError::Unroutable { .. }), "{error}");
    publisher.close().await;

    config.exchange = crate::support::broker::unique("missing");
    let publisher = Publisher::connect(&config).await.expect("connected");
    let confirm = publisher.publish(b"block".to_vec()).await.expect("sent");
    let error = confirm.wait().await.expect_err("no exchange").to_string();
    assert!(error.contains("404") && error.contains(&config.exchange), "{error}");
}

#[tokio::test]
async fn a_reply_that_the_broker_cuts_inside_a_character_is_told() {
    /// What the broker leaves of a reply, and what it writes before the name.
    const REPLY_BYTES_MAX: usize = 252;
    const BEFORE: &str = "NOT_FOUND - no exchange '";
    let mut config = config(Broker::shared());
    config.declare = false;
    let mut name = crate::support::broker::unique("missing");
    if (REPLY_BYTES_MAX - BEFORE.len() - name.len()).is_multiple_of(2) {
        name.push('x');
    }
    name.push_str(&"é".repeat((255 - name.len()) / 2));
    config.exchange = name;
    let publisher = Publisher::connect(&config).await.expect("connected");
    let confirm = publisher.publish(b"block".to_vec()).await.expect("sent");
    let error = confirm.wait().await.expect_err("no exchange").to_string();
    // RabbitMQ 4.0 does not cut it: its own connection fails at what it cannot write.
    let is_cut = error.contains("404") && error.contains(BEFORE) && error.contains("é?...");
    assert!(is_cut || error.contains("INTERNAL_ERROR (541)"), "{error}");
}
