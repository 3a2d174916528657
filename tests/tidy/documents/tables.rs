//! Tables that name all of something: keys, options, metrics, reasons, close codes, parameters.

use std::collections::BTreeSet;

use blockcast::cli::command;
use blockcast::metrics::Metrics;

use super::Document;
use super::document::Cell;
use super::settings::known_keys;

/// With which the server closes.
const CLOSE_CODES: [&str; 10] =
    ["1000", "1001", "1002", "1007", "1009", "4000", "4001", "4008", "4009", "4010"];

fn document(path: &str) -> Document {
    let documents = Document::read_all();
    let found = documents.into_iter().find(|document| document.path == path);
    found.unwrap_or_else(|| panic!("no document {path}"))
}

/// The code in the first cells, each up to a space, `=` or `{`.
fn named(rows: &[Vec<Cell>]) -> BTreeSet<String> {
    let code = rows.iter().flat_map(|row| &row[0].code);
    let word = |code: &String| code.split([' ', '=', '{']).next().map(str::to_owned);
    code.filter_map(word).collect()
}

/// The first cells, as they are read.
fn first_cells(rows: &[Vec<Cell>]) -> Vec<&str> {
    rows.iter().flat_map(|row| row[0].text.split(", ")).collect()
}

#[test]
fn every_key_stands_in_the_table_of_keys() {
    let document = document("deploy/README.md");
    assert_eq!(named(document.table("key")), known_keys());
}

#[test]
fn every_option_stands_in_the_table_of_its_command() {
    for (path, header, name, elsewhere) in [
        // What goes with FILE, with settings and with help stands in the help.
        (
            "deploy/README.md",
            "publish option",
            "publish",
            &["config", "set", "listen", "amqp-uri", "rate", "loop", "no-retry"][..],
        ),
        ("src/client/README.md", "option", "tail", &[]),
    ] {
        let document = document(path);
        let told = named(document.table(header));
        let told: BTreeSet<&str> =
            told.iter().filter_map(|option| option.strip_prefix("--")).collect();
        let command = command();
        let command = command.find_subcommand(name).expect("a command");
        let known = command.get_arguments().filter_map(clap::Arg::get_long);
        let known: BTreeSet<&str> = known.filter(|option| !elsewhere.contains(option)).collect();
        assert_eq!(told, known, "of {name}");
    }
}

/// Names of metrics and values of labels, as a scrape has them.
fn exposed() -> String {
    let metrics = Metrics::new();
    // Absent until they are known.
    for gauge in [
        &metrics.block_height,
        &metrics.first_height,
        &metrics.last_block_timestamp,
        &metrics.history_oldest_timestamp,
        &metrics.tls_certificate_expiry,
    ] {
        gauge.set(Some(1));
    }
    metrics.to_text()
}

#[test]
fn every_metric_stands_in_the_table_of_metrics() {
    let document = document("deploy/README.md");
    let exposed = exposed();
    let names = exposed.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names = names.filter_map(|line| line.split(' ').next()?.strip_prefix("blockcast_"));
    let mut known: BTreeSet<String> = names.map(str::to_owned).collect();
    known.insert("process_*".into());
    assert_eq!(named(document.table("metric")), known);
}

/// Each value of a label stands beside its metric, or in the tables that the row points to.
#[test]
fn every_value_of_a_label_is_told() {
    let document = document("deploy/README.md");
    let code = |rows: &[Vec<Cell>], column: usize| -> BTreeSet<String> {
        rows.iter().flat_map(|row| row[column].code.clone()).collect()
    };
    let reasons = code(document.table("reason"), 0);
    let limits = code(document.table("limit"), 2);
    for row in document.table("metric") {
        let mut told: BTreeSet<String> = row[1].code.iter().cloned().collect();
        for metric in row[0].code.iter().filter(|metric| metric.contains('{')) {
            let name = metric.split('{').next().unwrap_or_default();
            match name {
                "decode_errors_total" | "dead_letters_total" => told.extend(reasons.clone()),
                "handshakes_refused_total" => told.extend(limits.clone()),
                _ => {}
            }
            let exposed = exposed();
            let begin = format!("blockcast_{name}{{");
            let values: Vec<&str> = exposed
                .lines()
                .filter(|line| line.starts_with(&begin))
                .filter_map(|line| line.split('"').nth(1))
                .collect();
            assert!(!values.is_empty(), "{metric} has no values");
            for value in values {
                assert!(told.contains(value), "{metric}: {value:?} is told nowhere");
            }
        }
    }
}

#[test]
fn the_front_page_and_the_wire_name_the_same() {
    let [front, wire] = ["README.md", "src/protocol/README.md"].map(document);
    assert_eq!(named(front.table("parameter")), named(wire.table("parameter")));
    let of_server = |document: &Document, header: &str| -> BTreeSet<String> {
        let codes = first_cells(document.table(header));
        codes.into_iter().filter(|code| code.parse::<u16>().is_ok()).map(str::to_owned).collect()
    };
    let codes = CLOSE_CODES.map(str::to_owned).into();
    assert_eq!(of_server(&front, "close code"), codes);
    assert_eq!(of_server(&wire, "code"), codes);
}
