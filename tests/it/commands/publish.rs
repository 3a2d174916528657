//! `publish`, watched by a client of a replica.

use crate::support::amqp_client;
use crate::support::broker::Broker;
use crate::support::chain::{self, body, event, height_of, real_bodies, real_events};
use crate::support::client::Client;
use crate::support::program::{Program, unanswered};
use crate::support::replica::{Replica, config};

const CHAIN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/chain.ndjson");

fn lines(bodies: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    bodies.into_iter().flat_map(|body| [body, b"\n".to_vec()].concat()).collect()
}

#[tokio::test]
async fn a_published_file_is_streamed_whole() {
    let config = config(Broker::shared());
    let replica = Replica::start_ready(&config).await;
    let mut client = Client::connect(&replica.url("valid_transactions")).await;
    let ended = Program::new(["publish", CHAIN]).config(&config).run().await.with_code(0);
    assert_eq!(ended.stdout, "");
    ended.telling(&[&format!("published and confirmed: {} blocks", real_bodies().len())]);
    let expected = real_events();
    assert_eq!(client.texts(expected.len()).await, expected);
    replica.stop().await.expect("stopped");
}

#[tokio::test]
async fn stdin_is_published_line_by_line_while_it_is_open() {
    let config = config(Broker::shared());
    let replica = Replica::start_ready(&config).await;
    let mut client = Client::connect(&replica.url("valid_transactions")).await;
    let mut publish = Program::new(["publish", "-"]).config(&config).start();
    for height in 1..=3 {
        publish.write(&lines([body(height, "piped")])).await;
        assert_eq!(client.text().await, event(height, "piped"));
    }
    publish.write(&body(4, "without an end of line")).await;
    publish.ended().await.with_code(0).telling(&["published and confirmed: 4 blocks"]);
    assert_eq!(client.text().await, event(4, "without an end of line"));
    replica.stop().await.expect("stopped");
}

#[tokio::test]
async fn a_block_that_no_queue_takes_fails_naming_the_exchange() {
    let broker = Broker::shared();
    let mut config = config(broker);
    config.amqp.declare = false;
    let client = amqp_client::Client::connect(&broker.uri()).await;
    client.declare_exchange(&config.amqp.exchange).await;
    let ended = Program::new(["publish", CHAIN]).config(&config).run().await.with_code(1);
    let queue = config.amqp.queue.resolved_name();
    ended.telling(&[
        &format!("exchange {:?}", config.amqp.exchange),
        &format!("bind queue {queue:?}"),
        "amqp.declare=true",
    ]);
}

#[tokio::test]
async fn an_exchange_that_is_missing_fails_by_name() {
    let mut config = config(Broker::shared());
    config.amqp.declare = false;
    let arguments = ["publish", "--no-retry", CHAIN];
    let ended = Program::new(arguments).config(&config).run().await.with_code(1);
    ended.telling(&["404", &config.amqp.exchange]);
}

#[tokio::test]
async fn a_looped_file_goes_on_above_the_newest_height_without_a_gap() {
    let config = config(Broker::shared());
    let replica = Replica::start_ready(&config).await;
    let mut client = Client::connect(&replica.url("valid_blocks")).await;
    chain::publish(&config, (1..=5).map(|height| body(height, "before"))).await;
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let blocks = (1..=3).map(|height| body(height, "looped"));
    std::fs::write(file.path(), lines(blocks)).expect("written");
    let path = file.path().to_str().expect("UTF-8");
    let publish = Program::new(["publish", "--loop", "--rate", "50", path]).config(&config).start();

    // Three passes and a part of the fourth.
    let texts = client.texts(5 + 10).await;
    let heights: Vec<_> = texts.iter().map(|text| height_of(text)).collect();
    assert_eq!(heights, (1..=15).collect::<Vec<_>>());
    for (at, text) in texts[5..].iter().enumerate() {
        let id = chain::id(1 + at as u64 % 3, "looped");
        assert!(text.contains(&id), "not the file's block, {id}: {text}");
    }
    publish.signal("INT").await;
    publish.ended().await.with_code(0).telling(&["published and confirmed", "(heights 6 to "]);
    replica.stop().await.expect("stopped");
}

#[tokio::test]
async fn a_broker_that_is_not_there_fails_without_telling_the_password() {
    let (_reserved, address) = unanswered();
    let uri = format!("amqp://node:s3cret@{address}/%2f");
    let ended = Program::new(["publish", "--amqp-uri", &uri, CHAIN]).run().await.with_code(1);
    let ended = ended.telling(&[&address.to_string(), "published and confirmed: 0 blocks"]);
    assert!(!ended.stderr.contains("s3cret"), "{}", ended.stderr);
}
