//! `serve`: how the process ends.

use std::net::{SocketAddr, TcpListener};

use blockcast::config::QueueMode;

use crate::support::amqp_client;
use crate::support::broker::Broker;
use crate::support::chain::{body, event, publish};
use crate::support::client::Client;
use crate::support::process::Process;
use crate::support::program::Program;
use crate::support::replica::config;

#[tokio::test]
async fn sigterm_drains_the_clients_and_exits_0() {
    let config = config(Broker::shared());
    let process = Process::start_ready(&config).await;
    let mut client = Client::connect(&process.url("valid_transactions")).await;
    publish(&config, [body(1, "last")]).await;
    assert_eq!(client.text().await, event(1, "last"));
    let ((), close) = tokio::join!(process.stop(), client.closed());
    assert_eq!(u16::from(close.code), 1001);
    assert!(close.reason.contains("after=1"), "{close:?}");
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("its address").to_string();
    for key in ["server", "admin"] {
        let mut config = config(Broker::shared());
        config.server.listen = SocketAddr::from(([127, 0, 0, 1], 0)).into();
        let setting = format!("{key}.listen={address}");
        let ended = Program::new(["serve", "--set", &setting]).config(&config).run().await;
        let ended = ended.with_code(1).telling(&[&address, &format!("set {key}.listen")]);
        assert_eq!(ended.stderr.matches("in use").count(), 1, "{}", ended.stderr);
    }
}

#[tokio::test]
async fn what_may_not_be_meant_is_logged_at_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("its address").to_string();
    let uri = "amqps://u:hunter@broker/?verify=verify_none";
    let serve = Program::new(["serve", "--listen", &address]).env("BLOCKCAST_AMQP__URIS", uri);
    let ended = serve.run().await.with_code(1);
    assert!(!format!("{ended:?}").contains("hunter"), "{ended:?}");
    ended.telling(&["WARN", "number 1", "the vhost", "its parameter verify has no effect"]);
}

#[tokio::test]
async fn a_queue_of_another_type_is_named() {
    let broker = Broker::shared();
    let config = config(broker);
    let queue = config.amqp.queue.resolved_name();
    let client = amqp_client::Client::connect(&broker.uri()).await;
    client.declare_exchange(&config.amqp.exchange).await;
    client.declare_queue(&queue, &config.amqp.exchange, &[("x-queue-type", "classic")]).await;
    let ended = Program::new(["serve"]).config(&config).run().await.with_code(1);
    ended.telling(&[&queue, "classic", "stream"]);
}

#[tokio::test]
async fn a_queue_of_which_each_replica_would_get_a_part_ends_it_and_is_named() {
    let broker = Broker::shared();
    let mut config = config(broker);
    config.amqp.queue.mode = QueueMode::Queue;
    config.amqp.declare = false;
    let queue = config.amqp.queue.resolved_name();
    let client = amqp_client::Client::connect(&broker.uri()).await;
    client.declare_exchange(&config.amqp.exchange).await;
    client.declare_queue(&queue, &config.amqp.exchange, &[("x-queue-type", "quorum")]).await;
    let ended = Program::new(["serve"]).config(&config).run().await.with_code(1);
    ended.telling(&[&queue, "is shared by all who consume it", "a classic queue for each"]);
}
