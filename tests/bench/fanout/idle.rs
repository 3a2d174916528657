//! What a client costs that only waits: resident memory of the service, less what it has without
//! clients. The kernel's own memory for a socket does not show in it.

use std::iter::repeat_n;

use super::blocks::Blocks;
use super::load::{Clients, Greeting};
use super::process::{Measured, quiet};
use super::service::Service;

pub const CLIENTS: usize = 15_000;

/// Resident bytes per client of so many.
pub async fn measure(service: &Service, greeting: &Greeting, clients: usize) -> f64 {
    let measured = Measured::begin(vec![service.pid()]);
    let connect = async |count| {
        let greetings = repeat_n(greeting.clone(), count);
        Clients::connect(service.address, greetings).await.expect("clients")
    };
    // One first: what all share is there then.
    let mut one = connect(1).await;
    let mut blocks = Blocks::of(1);
    let publish = async {
        service.publish(blocks.next().expect("a block")).await;
        Ok(())
    };
    one.all_have(1, publish).await.expect("a block");
    drop(one);
    quiet(&measured).await;
    let before = measured.resident_bytes();
    let _all = connect(clients).await;
    quiet(&measured).await;
    measured.resident_bytes().saturating_sub(before) as f64 / clients as f64
}
