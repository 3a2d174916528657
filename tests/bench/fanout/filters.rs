//! What a block costs for each client that it does not concern: 10,000 clients filter for as many
//! keys, none of them in the block, and are sent nothing.
//!
//! The CPU of the whole service for some blocks with these clients, less that for as many blocks
//! without: decoding, AMQP and the index come out, waking and looking up stay.

use super::blocks::Blocks;
use super::load::Clients;
use super::process::{Measured, quiet};
use super::service::Service;

pub const CLIENTS: usize = 10_000;
const BLOCKS: usize = 30;
pub const TRANSACTIONS: usize = 1_000;
const BASE58: &[u8] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/// CPU microseconds per block: of the service alone, and more for each client beside it.
pub struct Cost {
    pub block_microseconds: f64,
    pub client_microseconds: f64,
}

pub async fn measure(service: &Service) -> Cost {
    let mut blocks = Blocks::of(TRANSACTIONS);
    // One client that filters, so that the block has its index in both.
    let mut random = fastrand::Rng::with_seed(1);
    let mut query = || {
        let key: String =
            (0..44).map(|_| char::from(*random.choice(BASE58).expect("one"))).collect();
        format!("?public_key={key}")
    };
    let _one = Clients::connect_asking(service.address, [query()]).await;
    service.publish(blocks.next().expect("a block")).await;
    let alone = cpu_seconds(service, &mut blocks).await;
    let _all = Clients::connect_asking(service.address, (0..CLIENTS).map(|_| query())).await;
    let with_all = cpu_seconds(service, &mut blocks).await;
    let microseconds = |seconds: f64| seconds * 1e6 / BLOCKS as f64;
    Cost {
        block_microseconds: microseconds(alone),
        client_microseconds: microseconds(with_all - alone) / CLIENTS as f64,
    }
}

async fn cpu_seconds(service: &Service, blocks: &mut Blocks) -> f64 {
    quiet(&Measured::begin(vec![service.pid()])).await;
    let measured = Measured::begin(vec![service.pid()]);
    for body in blocks.take(BLOCKS) {
        service.publish(body).await;
        quiet(&measured).await;
    }
    measured.so_far().0
}
