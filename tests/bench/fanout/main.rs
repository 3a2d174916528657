//! Fan-out over real sockets: this service beside a plain `write()` loop, in one run.
//!
//! `cargo bench --bench fanout` starts a private broker, the service and the write loop, each server
//! pinned to core 0 and the load client to core 1, lets 1,000 clients read blocks of 1,000 real
//! transactions in lockstep (the next block when the last client has the one before), counts every
//! frame, and prints the CPU of each whole server process per message and the ratio. It ends with 1
//! on a wrong count, never on a time.

#![expect(clippy::print_stdout, reason = "what a bench is for")]

mod broker;
mod deep;
#[path = "../../it/eventually.rs"]
mod eventually;
mod filters;
mod load;
mod process;
mod service;
mod write_loop;

use load::Clients;
use process::Measured;

const CLIENTS: usize = 1_000;
const TRANSACTIONS: usize = 1_000;
const ROUNDS: usize = 3;
/// Blocks per round, the first not measured.
const BLOCKS: u64 = 20;

/// What may be named to run only that.
const PARTS: [&str; 3] = ["rounds", "filters", "deep"];

/// What one server needed for one round.
struct Row {
    messages: f64,
    cpu_seconds: f64,
    wall_seconds: f64,
    resident_bytes: u64,
}

impl Row {
    fn cpu_microseconds_per_message(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.messages
    }
}

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "write-loop") {
        return write_loop::serve(arguments[at + 1].parse().expect("bytes of a block"));
    }
    process::pin_self_to(1);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run());
}

/// Runs the parts that the arguments name, or all.
async fn run() {
    rlimit::increase_nofile_limit(u64::MAX).expect("descriptors");
    let named: Vec<_> = std::env::args().skip(1).filter(|name| PARTS.contains(&&**name)).collect();
    let runs = |part: &str| named.is_empty() || named.iter().any(|name| name == part);
    if runs("rounds") {
        compare_with_write_loop().await;
    }
    if runs("filters") {
        let service = service::Service::start().await;
        let bodies = service::bodies(TRANSACTIONS, filters::BODIES);
        let cost = filters::measure(&service, &mut bodies.into_iter()).await;
        service.stop().await;
        println!(
            "{} clients that filter for other keys: {:.2} CPU microseconds per block for each, beside {:.0} for the block of {TRANSACTIONS} and its index",
            filters::CLIENTS,
            cost.client_microseconds,
            cost.block_microseconds
        );
    }
    if runs("deep") {
        let service = service::Service::start_with(&deep::SETTINGS).await;
        let cost = deep::measure(&service).await;
        service.stop().await;
        println!(
            "beside {} clients that resume far back ({:.0} blocks read back per second), 99% of live blocks are written within {:.2} ms, alone within {:.2} ms: {:.2} times",
            deep::RESUMERS,
            cost.read_blocks_per_second,
            cost.beside * 1e3,
            cost.alone * 1e3,
            cost.beside / cost.alone
        );
    }
}

async fn compare_with_write_loop() {
    let bodies = service::bodies(TRANSACTIONS, BLOCKS * ROUNDS as u64);
    let frames_bytes = service::frames_bytes(&bodies);
    println!(
        "{CLIENTS} clients x blocks of {TRANSACTIONS} transactions ({frames_bytes} bytes of frames), {ROUNDS} rounds of {} blocks",
        BLOCKS - 1
    );
    let mut bodies = bodies.into_iter();
    let service = service::Service::start().await;
    let (mut plain, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        plain.push(measure_write_loop(frames_bytes).await);
        ours.push(measure_service(&service, bodies.by_ref().take(BLOCKS as usize)).await);
    }
    service.stop().await;
    print("plain write() loop", &plain);
    print("blockcast", &ours);
    let ratio = |(plain, ours): (&Row, &Row)| {
        ours.cpu_microseconds_per_message() / plain.cpu_microseconds_per_message()
    };
    let mut ratios: Vec<_> = plain.iter().zip(&ours).map(ratio).collect();
    ratios.sort_by(f64::total_cmp);
    println!(
        "server CPU per message, blockcast / write() loop: {ratios:.2?}, median {:.2}",
        ratios[ROUNDS / 2]
    );
}

async fn measure_write_loop(block_bytes: usize) -> Row {
    let mut server = write_loop::Server::start(block_bytes).await;
    let mut clients = Clients::connect_plain(server.address, CLIENTS).await;
    server.write_block();
    clients.all_have(TRANSACTIONS).await;
    let measured = Measured::begin(server.pid());
    for _ in 1..BLOCKS {
        server.write_block();
        clients.all_have(TRANSACTIONS).await;
    }
    row(&measured)
}

async fn measure_service(service: &service::Service, bodies: impl Iterator<Item = Vec<u8>>) -> Row {
    let mut clients = Clients::connect_websocket(service.address, CLIENTS).await;
    let mut measured = None;
    for body in bodies {
        service.publish(body).await;
        clients.all_have(TRANSACTIONS).await;
        measured.get_or_insert_with(|| Measured::begin(service.pid()));
    }
    row(&measured.expect("blocks"))
}

fn row(measured: &Measured) -> Row {
    let (cpu_seconds, wall_seconds) = measured.so_far();
    let messages = ((BLOCKS - 1) as usize * CLIENTS * TRANSACTIONS) as f64;
    Row { messages, cpu_seconds, wall_seconds, resident_bytes: measured.resident_bytes() }
}

fn print(name: &str, rows: &[Row]) {
    for row in rows {
        println!(
            "{name:<20} {:>7.2} million messages/s  {:.4} CPU microseconds per message  {:>6.1} MiB resident",
            row.messages / row.wall_seconds / 1e6,
            row.cpu_microseconds_per_message(),
            row.resident_bytes as f64 / f64::from(1 << 20),
        );
    }
}
