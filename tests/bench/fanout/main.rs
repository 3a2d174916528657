//! Fan-out over real sockets: this service beside a plain `write()` loop and beside others, in one
//! run, what idle clients, buffers, TLS, filters, deep readers and attackers cost, and what the bridge adds to a
//! block's way.
//!
//! `cargo bench --bench fanout` starts private brokers and the servers. The server that is measured has
//! core 0 for itself; the load client has core 1, with the broker that feeds the servers and those that
//! wait for their turn. It counts every frame, and measures whole processes. It ends with 1 on a wrong
//! count, never on a time. What it cannot find (`make peers` installs it) has a row that says so.

#![expect(clippy::print_stdout, reason = "what a bench is for")]
#![expect(
    clippy::disallowed_methods,
    reason = "its tasks end with their runtime, and it may block"
)]

mod attackers;
mod blocks;
mod broker;
mod buffers;
mod deep;
#[path = "../../it/support/eventually.rs"]
mod eventually;
mod exchange;
mod filters;
mod follow;
mod frames;
mod idle;
mod latency;
mod load;
mod nchan;
mod node;
mod peer;
mod peers;
mod process;
#[expect(dead_code, reason = "tests ask more of it")]
#[path = "../../it/support/node.rs"]
mod scripted_node;
mod service;
#[path = "../../it/support/sockets.rs"]
mod sockets;
mod table;
mod tls;
mod tungstenite;
mod web_stomp;
mod write_loop;

use load::Greeting;
use service::Service;

/// What may be named to run only that; `rounds` is `peers` for two servers. Behind either, shapes may be
/// named, such as `4000x10`.
const PARTS: [&str; 10] = [
    "peers",
    "rounds",
    "buffers",
    "idle",
    "tls",
    "latency",
    "follow",
    "filters",
    "deep",
    "attackers",
];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args().collect();
    if let [_, role, transactions] = &arguments[..] {
        let serve: Option<fn(usize)> = match role.as_str() {
            write_loop::ROLE => Some(write_loop::serve),
            tungstenite::ROLE => Some(tungstenite::serve),
            _ => None,
        };
        if let Some(serve) = serve {
            serve(transactions.parse()?);
            return Ok(());
        }
    }
    process::pin_to(1, &[std::process::id()]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run())
}

/// Runs the parts that the arguments name, or all.
async fn run() -> anyhow::Result<()> {
    rlimit::increase_nofile_limit(u64::MAX)?;
    let named: Vec<_> = std::env::args().skip(1).filter(|name| PARTS.contains(&&**name)).collect();
    let shapes: Vec<_> = std::env::args().filter(|name| peers::is_shape(name)).collect();
    for part in PARTS {
        // It is part of `peers`.
        let is_among_all = named.is_empty() && part != "rounds";
        if is_among_all || named.iter().any(|name| name == part) {
            run_part(part, &shapes).await?;
        }
    }
    Ok(())
}

async fn run_part(part: &str, shapes: &[String]) -> anyhow::Result<()> {
    match part {
        "peers" => peers::compare_all(shapes).await,
        "rounds" => peers::compare_two(shapes).await,
        "buffers" => buffers::compare_sizes().await,
        "idle" => {
            idle_clients().await;
            Ok(())
        }
        "tls" => tls_clients().await,
        "latency" => latency_added().await,
        "follow" => following_a_node().await,
        "filters" => {
            filtering_clients().await;
            Ok(())
        }
        "deep" => {
            deep_readers().await;
            Ok(())
        }
        "attackers" => beside_attackers().await,
        _ => unreachable!("bug: no part is called {part}"),
    }
}

async fn tls_clients() -> anyhow::Result<()> {
    let bytes = tls::compare_with_plain().await? / 1_024.0;
    println!("{} idle clients with TLS: {bytes:.1} KiB resident for each", tls::IDLE_CLIENTS);
    Ok(())
}

async fn idle_clients() {
    let service = Service::start_with(&[]).await;
    let greeting = Greeting::to(service::STREAM);
    let bytes = idle::measure(&service, &greeting, idle::CLIENTS).await;
    println!("{} idle clients: {:.2} KiB resident for each", idle::CLIENTS, bytes / 1_024.0);
}

async fn latency_added() -> anyhow::Result<()> {
    let service = Service::start_with(&[]).await;
    let latency = latency::measure(&service).await?;
    println!(
        "a block of one transaction every {} ms: a bare consumer has it after {:.2} ms, a WebSocket client after {:.2} ms, {:.2} ms later (medians)",
        latency::INTERVAL.as_millis(),
        latency.bare.as_secs_f64() * 1e3,
        latency.client.as_secs_f64() * 1e3,
        latency.more_ms,
    );
    Ok(())
}

async fn following_a_node() -> anyhow::Result<()> {
    for (wording, name) in [
        (follow::Wording::Whole, "whole blocks"),
        (follow::Wording::Listed, "blocks that list their transactions"),
    ] {
        let service = Service::start_with(&[]).await;
        let delay = follow::measure(&service, wording).await?;
        println!(
            "from a node's commit to a WebSocket client through `publish --node`, {} {name}, one every {} ms: p50 {:.1} ms, p99 {:.1} ms",
            follow::BLOCKS,
            follow::INTERVAL.as_millis(),
            delay.p50.as_secs_f64() * 1e3,
            delay.p99.as_secs_f64() * 1e3,
        );
    }
    Ok(())
}

async fn filtering_clients() {
    let service = Service::start_with(&[]).await;
    let cost = filters::measure(&service).await;
    println!(
        "{} clients that filter for other keys: {:.2} CPU microseconds per block for each, beside {:.0} for the block of {} and its index",
        filters::CLIENTS,
        cost.client_microseconds,
        cost.block_microseconds,
        filters::TRANSACTIONS,
    );
}

async fn deep_readers() {
    let service = Service::start_with(&deep::SETTINGS).await;
    let cost = deep::measure(&service).await;
    println!(
        "beside {} clients that resume far back ({:.0} blocks read back per second), 99% of live blocks are written within {:.2} ms, alone within {:.2} ms: {:.2} times",
        deep::RESUMERS,
        cost.read_blocks_per_second,
        cost.beside * 1e3,
        cost.alone * 1e3,
        cost.beside / cost.alone
    );
}

async fn beside_attackers() -> anyhow::Result<()> {
    println!("an honest client's milliseconds from a block's publication to its last byte:");
    for cost in attackers::measure().await? {
        let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
        let (alone, beside) = (cost.alone, cost.beside);
        println!(
            "blocks of {} transactions beside {}: p50 {:.1} alone, {:.1} beside ({:.2} times), p99 {:.1} alone, {:.1} beside ({:.2} times)",
            cost.transactions,
            cost.name,
            ms(alone.p50),
            ms(beside.p50),
            ms(beside.p50) / ms(alone.p50),
            ms(alone.p99),
            ms(beside.p99),
            ms(beside.p99) / ms(alone.p99),
        );
    }
    Ok(())
}
