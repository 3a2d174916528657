//! A user who lacks a permission: the error says which.

use std::sync::Arc;

use blockcast::amqp::{ReadError, Reader};
use blockcast::config::AmqpUri;
use tokio::task::block_in_place;

use crate::support::amqp_client::Client;
use crate::support::broker::{Broker, unique};
use crate::support::process::Process;
use crate::support::replica::config;

const LACKING: &str = "the user needs the permission `read` for the queue";

/// With the queue there and nothing to declare, reading it is all that takes a permission. RabbitMQ 4.3
/// wants one for looking it up too, and names `configure`.
#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_read_the_queue_is_told_so() {
    let broker = Broker::shared();
    let user = unique("user");
    let operator = |arguments: &[&str]| block_in_place(|| broker.rabbitmqctl(arguments));
    operator(&["add_user", &user, "word"]);
    operator(&["set_permissions", &user, "^$", "^$", "^$"]);
    let mut config = config(broker);
    Client::connect(&broker.uri()).await.declare_stream(&config.amqp).await;
    let uri = format!("amqp://{user}:word@127.0.0.1:{}/%2f", broker.port());
    config.amqp.uris = vec![AmqpUri::new(uri)];
    config.amqp.declare = false;

    let (reader, dialer) = Reader::new(Arc::new(config.amqp.clone())).expect("configured");
    let dialing = tokio::spawn(dialer.run());
    let refused = reader.bounds().await.expect_err("not allowed");
    let ReadError::Lost(told) = refused else { panic!("{refused}") };
    let queue = config.amqp.queue.resolved_name();
    assert!(told.contains(&format!("queue {queue:?}")) && told.contains(LACKING), "{told}");
    dialing.abort();

    let replica = Process::start(&config).await;
    replica.logs(LACKING).await;
    // `read` is enough.
    operator(&["set_permissions", &user, "^$", "^$", &format!("^{}$", queue.replace('.', "\\."))]);
    crate::support::eventually::eventually("it consumes", async || {
        replica.get("/health/ready").await.status == 200
    })
    .await;
    replica.stop().await;
}
