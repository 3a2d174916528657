//! RabbitMQ streams with entries that the broker cannot hand over.

use std::sync::LazyLock;

use blockcast::config::Config;
use bytesize::ByteSize;
use tokio::task::block_in_place;

use super::broker::Broker;
use super::chain::{body, publish};
use super::eventually::eventually;
use super::process::Process;
use super::replica::config;
use super::stream_writer::{Entry, Writer};

/// With the port of its stream protocol.
static BROKER: LazyLock<(Broker, u16)> = LazyLock::new(Broker::start_with_stream_protocol);

/// The broker, its stream protocol's port.
pub fn broker() -> (&'static Broker, u16) {
    let (broker, port) = &*BROKER;
    (broker, *port)
}

/// A stream with this many good blocks, and one that writes into it whatever it likes.
pub async fn stream(blocks: u64) -> (Config, Writer) {
    let (broker, port) = broker();
    let mut config = config(broker);
    config.history.max_bytes = ByteSize::kib(64);
    config.blocks.max_bytes = ByteSize::kib(32);
    let queue = config.amqp.queue.resolved_name();
    // The replica that comes first declares it.
    Process::start_ready(&config).await.stop().await;
    publish(&config, (1..=blocks).map(|height| body(height, "x"))).await;
    (config, block_in_place(|| Writer::connect(port, &queue)))
}

pub fn garbage(writer: &mut Writer, count: usize) {
    block_in_place(|| writer.write((0..count).map(|_| Entry::Garbage)));
}

pub async fn stands_before_it(replica: &Process) {
    eventually("it stands before the entry", async || {
        let ready = replica.get("/health/ready").await;
        ready.status == 503 && ready.body.contains("unreadable entry")
    })
    .await;
}
