//! What `publish` declares at a broker that has nothing yet, and what it leaves to the replicas.

use blockcast::config::{AmqpUri, QueueMode};
use tokio::task::block_in_place;

use crate::support::amqp_client::Client;
use crate::support::broker::Broker;
use crate::support::eventually::eventually;
use crate::support::program::Program;
use crate::support::replica::{Replica, config};

const CHAIN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/chain.ndjson");

#[tokio::test(flavor = "multi_thread")]
async fn it_declares_no_dead_letters_and_no_replicas_queue() {
    let broker = Broker::shared();
    let uri = block_in_place(|| broker.uri_of_new_host("classic"));
    let client = Client::connect(&uri).await;
    for mode in [QueueMode::Stream, QueueMode::Queue] {
        let mut config = config(broker);
        config.amqp.uris = vec![AmqpUri::new(uri.as_str())];
        config.amqp.queue.mode = mode;
        let queue = config.amqp.queue.resolved_name();
        let exchange = config.amqp.exchange.clone();
        let dead = config.amqp.dead_letter.exchange.clone().expect("dead letters are on");
        let ended = Program::new(["publish", CHAIN]).config(&config).run().await;
        match mode {
            QueueMode::Stream => ended.with_code(0),
            QueueMode::Queue => ended.with_code(1).telling(&[
                &format!("no queue is bound to exchange {exchange:?}"),
                "each replica has a queue of its own: start one before",
            ]),
        };
        assert!(client.has_exchange(&exchange).await, "{mode:?}");
        assert_eq!(client.has_queue(&queue).await, mode == QueueMode::Stream, "{mode:?}");
        assert!(!client.has_exchange(&dead).await && !client.has_queue(&dead).await, "{mode:?}");

        // A replica does declare them, and then nothing is returned.
        let replica = Replica::start_ready(&config).await;
        eventually("all is there", async || {
            client.has_exchange(&dead).await
                && client.has_queue(&dead).await
                && client.has_queue(&queue).await
        })
        .await;
        Program::new(["publish", CHAIN]).config(&config).run().await.with_code(0);
        replica.stop().await.expect("stopped");
        assert_eq!(client.has_queue(&queue).await, mode == QueueMode::Stream, "{mode:?}");
    }
}
