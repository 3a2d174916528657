//! Dead letters where the broker makes them hard: other default queue types, and nodes that are gone.

use blockcast::amqp::Publisher;
use blockcast::config::{AmqpUri, Config, QueueMode};
use tokio::task::block_in_place;

use crate::support::amqp_client::Client as AmqpClient;
use crate::support::broker::Broker;
use crate::support::chain::{body, event, publish};
use crate::support::client::Client;
use crate::support::eventually::eventually;
use crate::support::letters::Letters;
use crate::support::process::Process;
use crate::support::replica::{Replica, config};

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_kept_whatever_type_the_virtual_host_gives_its_queues() {
    let broker = Broker::shared();
    for default_type in ["classic", "quorum", "stream"] {
        let uri = block_in_place(|| broker.uri_of_new_host(default_type));
        for mode in [QueueMode::Stream, QueueMode::Queue] {
            let mut config = config(broker);
            config.amqp.uris = vec![AmqpUri::new(uri.as_str())];
            config.amqp.queue.mode = mode;
            let replica = Replica::start_ready(&config).await;
            let mut client = Client::connect(&replica.url("valid_transactions")).await;
            publish(&config, [body(1, "x"), b"no block".to_vec(), body(2, "x")]).await;
            assert_eq!(client.texts(2).await, [event(1, "x"), event(2, "x")]);
            let letters = Letters::at(&uri, config.amqp.dead_letter.exchange.as_deref()).await;
            let letter = letters.take().await;
            assert_eq!(letter.body, b"no block", "{default_type}, {mode:?}");
            replica.stop().await.expect("drained");
        }
    }
}

/// Publishes once. A cluster that has just lost a node may refuse, with 541 too.
async fn is_taken(config: &Config, body: Vec<u8>) -> bool {
    let publishing = async {
        let publisher = Publisher::connect(&config.amqp).await?;
        publisher.publish(body).await?.wait().await
    };
    publishing.await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_kept_without_a_node_and_never_hold_up_the_feed() {
    let mut nodes = block_in_place(Broker::start_cluster);
    // A queue that is declared now is there while two of three nodes are.
    let mut newer = config(&nodes[0]);
    newer.amqp.uris = nodes.iter().map(|node| AmqpUri::new(node.uri())).collect();
    let replica = Process::start_ready(&newer).await;
    publish(&newer, [b"no block".to_vec(), body(1, "x")]).await;
    replica.reaches(1).await;
    block_in_place(|| nodes[0].kill());
    let exchange = newer.amqp.dead_letter.exchange.as_deref();
    let letters = Letters::of(&nodes[1], exchange).await;
    assert_eq!(letters.take().await.body, b"no block");
    // The queue has a leader again: a letter waits for one for 10 s, and a busy machine may take longer.
    for body in [b"no block either".to_vec(), body(2, "x")] {
        eventually("the cluster takes it", async || is_taken(&newer, body.clone()).await).await;
    }
    replica.reaches(2).await;
    assert_eq!(letters.take().await.body, b"no block either");
    assert_eq!(replica.metric("blockcast_dead_letters_failed_total").await, 0.0);
    replica.stop().await;
    block_in_place(|| nodes[0].restart());

    // A classic queue, as earlier versions declared it, on a node that goes.
    let mut older = config(&nodes[0]);
    let dead = older.amqp.dead_letter.exchange.clone().expect("dead letters are on");
    older.amqp.uris = nodes[..2].iter().map(|node| AmqpUri::new(node.uri())).collect();

    let client = AmqpClient::connect(&nodes[2].uri()).await;
    client.declare_exchange(&dead).await;
    client.declare_queue(&dead, &dead, &[("x-queue-type", "classic")]).await;
    drop(client);
    block_in_place(|| nodes[2].kill());
    let replica = Process::start_ready(&older).await;
    // RabbitMQ 3.10 says that the queue's node is down, 4.x never answers; the feed waits for neither.
    let told = replica.logged("");
    let at = |text: &str| told.iter().position(|line| line.contains(text));
    let is_held_up = at("dead letters cannot be set up").is_some_and(|at_letters| {
        at("consuming").is_none_or(|at_consuming| at_letters < at_consuming)
    });
    assert!(!is_held_up, "{told:?}");
    for height in 1..=2 {
        eventually("the cluster takes it", async || is_taken(&older, body(height, "x")).await)
            .await;
        replica.reaches(height).await;
        // Another attachment meets the same.
        let closed = ["close_all_connections", "once"];
        for node in &nodes[..2] {
            block_in_place(|| node.rabbitmqctl(&closed));
        }
        eventually("it consumes again", async || {
            replica.metric("blockcast_amqp_reconnects_total").await >= height as f64
                && replica.metric("blockcast_amqp_connected").await == 1.0
        })
        .await;
    }
    replica.stop().await;
    // The first one's end takes the files of all.
    nodes.reverse();
}
