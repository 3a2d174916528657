//! What a client costs that only waits: resident memory of the service, less what it has without
//! clients. The kernel's own memory for a socket does not show in it.

use super::blocks::Blocks;
use super::load::Clients;
use super::process::{Measured, quiet};
use super::service::Service;

pub const CLIENTS: usize = 15_000;

/// Resident bytes per client.
pub async fn measure(service: &Service) -> f64 {
    let measured = Measured::begin(vec![service.pid()]);
    let queries = |count| std::iter::repeat_n(String::new(), count);
    // One first: what all share is there then.
    let mut one = Clients::connect_asking(service.address, queries(1)).await;
    let mut blocks = Blocks::of(1);
    let publish = async {
        service.publish(blocks.next().expect("a block")).await;
        Ok(())
    };
    one.all_have(1, publish).await.expect("a block");
    drop(one);
    quiet(&measured).await;
    let before = measured.resident_bytes();
    let _all = Clients::connect_asking(service.address, queries(CLIENTS)).await;
    quiet(&measured).await;
    measured.resident_bytes().saturating_sub(before) as f64 / CLIENTS as f64
}
