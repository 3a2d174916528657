//! The one table: a row per server and shape, each figure with its ratio to the plain write loop's.

use std::time::Duration;

use super::peers::{Entrant, Round, Shape};

/// A column: what a round says, and how it reads.
struct Column {
    title: &'static str,
    value: fn(&Round) -> f64,
    decimals: usize,
    /// Whether the rounds' ratios are told from the least to the greatest.
    has_spread: bool,
}

const COLUMNS: [Column; 5] = [
    Column {
        title: "million messages/s",
        value: |round| round.messages_per_second / 1e6,
        decimals: 3,
        has_spread: false,
    },
    // Per message in microseconds is per million messages in seconds.
    Column {
        title: "CPU seconds per million",
        value: |round| round.cpu_seconds * 1e6,
        decimals: 3,
        has_spread: true,
    },
    Column {
        title: "resident MiB",
        value: |round| round.resident_bytes as f64 / f64::from(1 << 20),
        decimals: 1,
        has_spread: false,
    },
    Column {
        title: "p50 ms",
        value: |round| quantile(&round.latencies, 0.5),
        decimals: 1,
        has_spread: false,
    },
    Column {
        title: "p99 ms",
        value: |round| quantile(&round.latencies, 0.99),
        decimals: 1,
        has_spread: false,
    },
];

pub fn print_head() {
    let titles = COLUMNS.map(|column| format!(" {} |", column.title)).concat();
    println!("| server |{titles}");
    println!("|---|{}", "---:|".repeat(COLUMNS.len()));
}

/// The rows of one shape, each figure the median of the rounds; the first entrant is what the others
/// are compared with, round by round.
pub fn print(shape: &Shape, entrants: &[Entrant]) {
    println!("| {} |{}", described(shape), " |".repeat(COLUMNS.len()));
    let base = &entrants.first().expect("the write loop").rounds;
    for entrant in entrants {
        if let Some(failure) = entrant.failure() {
            println!("| {}: skipped, {failure:#} |{}", entrant.name, " |".repeat(COLUMNS.len()));
            continue;
        }
        let load = &entrant.rounds.first().expect("a round").load;
        let figures = COLUMNS.map(|column| figure(&column, &entrant.rounds, base)).concat();
        println!("| {}{} |{figures}", entrant.name, differences(load, shape));
    }
}

fn figure(column: &Column, rounds: &[Round], base: &[Round]) -> String {
    let value = median(rounds.iter().map(column.value));
    let pairs = rounds.iter().zip(base);
    let ratios = pairs.map(|(round, base)| (column.value)(round) / (column.value)(base));
    let ratios = sorted(ratios);
    let ratio = ratios[ratios.len() / 2];
    let decimals = column.decimals;
    // Two digits that say something, of a thousandth as of a thousand.
    let ratio_decimals = match ratio {
        10.0.. => 0,
        0.1.. => 2,
        _ => 4,
    };
    let spread = match (column.has_spread, &ratios[..]) {
        (true, [least, .., greatest]) if least < greatest => {
            format!("; {least:.ratio_decimals$} to {greatest:.ratio_decimals$}")
        }
        _ => String::new(),
    };
    format!(" {value:.decimals$} ({ratio:.ratio_decimals$}{spread}) |")
}

fn described(shape: &Shape) -> String {
    let Shape { clients, transactions, blocks, stalled } = shape;
    let beside =
        if *stalled > 0 { format!(" beside {stalled} that never read") } else { "".into() };
    format!("**{clients} clients x {transactions} transactions**{beside}, {blocks} blocks")
}

/// Where a row's load has less than its shape.
fn differences(load: &Shape, shape: &Shape) -> String {
    let differences = [
        (load.clients != shape.clients).then(|| format!(", clients: {}", load.clients)),
        (load.blocks != shape.blocks).then(|| format!(", blocks: {}", load.blocks)),
        (load.stalled != shape.stalled).then(|| ", without those that never read".to_owned()),
    ];
    differences.into_iter().flatten().collect()
}

/// Milliseconds, by the nearest rank.
fn quantile(sorted: &[Duration], share: f64) -> f64 {
    let rank = (sorted.len() as f64 * share).ceil().max(1.0) as usize;
    sorted[rank - 1].as_secs_f64() * 1e3
}

pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let values = sorted(values);
    values[values.len() / 2]
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}
