//! What the comparison asks of a server, whoever wrote it.

use std::net::SocketAddr;

use futures_util::future::LocalBoxFuture;

use super::load::Greeting;

/// A server that runs, for blocks of one size. It ends when it is dropped.
pub trait Peer {
    /// How much of a shape it gets.
    fn bounds(&self) -> Bounds {
        Bounds::default()
    }

    /// All its processes.
    fn pids(&self) -> Vec<u32>;

    fn address(&self) -> SocketAddr;

    fn greeting(&self) -> Greeting;

    /// Hands it the next block, as those who use such a server do.
    fn send(&mut self) -> LocalBoxFuture<'_, anyhow::Result<()>>;

    /// All its clients have gone, should it not see that itself.
    fn forget_clients(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}

/// What keeps a round of a slow server to some seconds.
pub struct Bounds {
    pub clients: usize,
    /// Messages per round, in whole blocks and at least one.
    pub messages: usize,
    /// Blocks before those that are measured.
    pub warm_up: usize,
    /// Whether clients that never read leave it alive.
    pub takes_stalled: bool,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { clients: usize::MAX, messages: usize::MAX, warm_up: 2, takes_stalled: true }
    }
}
