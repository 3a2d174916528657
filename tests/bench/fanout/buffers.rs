//! What `server.send_buffer_bytes` is worth and what it costs: CPU where every client reads, and the
//! kernel's memory for one that never does.

use std::rc::Rc;

use super::broker::Broker;
use super::load::connect_stalled;
use super::peer::Peer;
use super::peers::{Entrant, SHAPES, compare};
use super::process::{Measured, quiet};
use super::service::Blockcast;
use super::sockets::socket_bytes;
use super::table;
use super::write_loop::WriteLoop;

/// What it is called, and how it is set; 0 leaves it to the system, which lets it grow.
const SIZES: [(&str, &str); 6] = [
    ("64 KiB", "64KiB"),
    ("128 KiB", "128KiB"),
    ("256 KiB (the default)", "256KiB"),
    ("512 KiB", "512KiB"),
    ("1 MiB", "1MiB"),
    ("the system's own", "0"),
];
const STALLED: usize = 20;
/// Twice what the largest buffer takes.
const STALLED_BLOCKS: usize = 50;

/// A table of the first shape, a service per size, and a line per size.
pub async fn compare_sizes() -> anyhow::Result<()> {
    let broker = Rc::new(Broker::start().await);
    let [shape, ..] = SHAPES;
    let mut entrants =
        vec![Entrant::new("plain `write()` loop", WriteLoop::start(shape.transactions))];
    let mut costs = Vec::new();
    for (number, (name, setting)) in SIZES.into_iter().enumerate() {
        let setting = format!("server.send_buffer_bytes={setting}");
        let queue = format!("buffers-{number}");
        let [mut plain, _] =
            Blockcast::start(&broker, shape.transactions, &queue, &[&setting]).await;
        costs.push((name, stalled_bytes(&mut plain).await?));
        entrants.push(Entrant::new(name, Ok(plain)));
    }
    table::print_head();
    compare(&shape, entrants).await?;
    for (name, bytes) in costs {
        let kib = bytes / 1_024;
        println!("send buffer {name}: a client that never reads takes {kib} KiB of the kernel's");
    }
    Ok(())
}

/// The kernel's memory for each client that never reads, at most.
async fn stalled_bytes(service: &mut Blockcast) -> anyhow::Result<u64> {
    let before = socket_bytes();
    let stalled = connect_stalled(service.address(), &service.greeting(), STALLED).await?;
    for _ in 0..STALLED_BLOCKS {
        service.send().await?;
    }
    quiet(&Measured::begin(service.pids())).await;
    let more = socket_bytes().saturating_sub(before);
    drop(stalled);
    Ok(more / STALLED as u64)
}
