//! What one writes in JavaScript first: a bridge with amqplib and ws, in `tests/bench/peers/node`.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::ensure;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::blocks::Blocks;
use super::exchange::Exchange;
use super::load::Greeting;
use super::peer::{Bounds, Peer};
use super::process::{self, Server};

/// Six seconds of it.
const MESSAGES: usize = 1_000_000;
const ROUTING_KEY: &str = "block.valid";

pub struct Node {
    server: Server,
    exchange: Exchange,
    blocks: Blocks,
}

impl Node {
    /// For blocks from an exchange of this name.
    pub async fn start(uri: &str, name: &str, transactions: usize) -> anyhow::Result<Self> {
        let bridge = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/bench/node");
        ensure!(bridge.join("node_modules/ws").exists(), "`make peers` could not install it");
        let exchange = Exchange::declare(uri, name).await?;
        let mut command = process::pinned(0, "node");
        let command = command.arg(bridge).env("URI", uri).env("EXCHANGE", name);
        Ok(Self { server: Server::start(command)?, exchange, blocks: Blocks::of(transactions) })
    }
}

impl Peer for Node {
    fn bounds(&self) -> Bounds {
        Bounds { messages: MESSAGES, warm_up: 1, ..Bounds::default() }
    }

    fn pids(&self) -> Vec<u32> {
        vec![self.server.pid()]
    }

    fn address(&self) -> SocketAddr {
        self.server.address
    }

    fn greeting(&self) -> Greeting {
        Greeting::to("/")
    }

    fn send(&mut self) -> LocalBoxFuture<'_, anyhow::Result<()>> {
        let body = self.blocks.next().expect("a block");
        async move { self.exchange.publish(ROUTING_KEY, &body).await }.boxed_local()
    }
}
