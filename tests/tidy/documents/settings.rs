//! Configuration: what is shown loads, and every key that is named is one.

use std::collections::BTreeSet;
use std::io::Write;

use blockcast::config::{Config, Layers};

use super::{Document, Text, assert_none, check, fault, shell_lines};
use crate::deploy::keys;

const SECTIONS: [&str; 6] = ["admin", "amqp", "blocks", "history", "log", "server"];
/// The table whose keys are the broker's own.
const ARGUMENTS: &str = "amqp.queue.arguments";
/// How the documents write any variable.
const ANY_VARIABLE: &str = "BLOCKCAST_SECTION__KEY";
/// How the documents write any key.
const ANY_KEY: &str = "section.key";

pub fn known_keys() -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    keys("", &Config::default().to_toml().parse().expect("TOML"), &mut known);
    known
}

/// Configuration that would be refused, and keys that there are not.
fn refused(document: &Document) -> Vec<String> {
    let known = known_keys();
    let mut faults = Vec::new();
    for fence in document.fences.iter().filter(|fence| fence.language == "toml") {
        let text: String = fence.lines.iter().map(|line| format!("{}\n", line.text)).collect();
        let mut file = tempfile::NamedTempFile::with_suffix(".toml").expect("a temporary file");
        file.write_all(text.as_bytes()).expect("written");
        let layers = Layers { file: Some(file.path().to_owned()), ..Layers::default() };
        faults.extend(refusal(layers).map(|refusal| fault(document, fence.line, refusal)));
    }
    for Text { line, text } in shell_lines(document).chain(document.spans.iter().cloned()) {
        faults.extend(text_refusal(&text, &known).map(|told| fault(document, line, told)));
    }
    faults
}

fn text_refusal(text: &str, known: &BTreeSet<String>) -> Option<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let is_variable = |word: &&str| word.starts_with("BLOCKCAST_") && word.contains("__");
    let variables = words.iter().take_while(|word| is_variable(word)).map(|word| {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        (name.to_owned(), value.to_owned())
    });
    let environment: Vec<_> = variables.filter(|(name, _)| name != ANY_VARIABLE).collect();
    let unknown =
        environment.iter().map(|(name, _)| key_of(name)).find(|key| !is_known(key, known));
    let options = words.windows(2).filter(|pair| pair[0] == "--set");
    let flags = options.filter_map(|pair| pair[1].split_once('='));
    let flags = flags.filter(|(key, _)| *key != ANY_KEY);
    let flags = flags.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let named = words.first().filter(|word| is_key(word));
    let unknown =
        unknown.or(named.map(|key| (*key).to_owned()).filter(|key| !is_known(key, known)));
    unknown
        .map(|key| format!("`{text}`: no key {key}"))
        .or_else(|| refusal(Layers { environment, flags, ..Layers::default() }))
}

fn refusal(layers: Layers) -> Option<String> {
    Config::load(&layers).err().map(|error| error.to_string())
}

/// The key that a variable sets.
fn key_of(variable: &str) -> String {
    let name = variable.trim_start_matches("BLOCKCAST_").to_lowercase();
    name.replace("__", ".")
}

/// Whether `word` is written as a key, or as all keys of a table.
fn is_key(word: &str) -> bool {
    let is_part =
        |part: &str| part == "*" || part.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    word.split_once('.').is_some_and(|(section, rest)| {
        SECTIONS.contains(&section) && rest.split('.').all(|part| !part.is_empty() && is_part(part))
    })
}

/// A key, or a table of keys.
fn is_known(key: &str, known: &BTreeSet<String>) -> bool {
    let table = format!("{}.", key.trim_end_matches(".*"));
    known.contains(key)
        || key.starts_with(&format!("{ARGUMENTS}."))
        || known.iter().any(|known| known.starts_with(&table))
}

#[test]
fn every_configuration_loads() {
    assert_none(Document::read_all().iter().flat_map(refused).collect());
}

#[test]
fn a_configuration_that_would_be_refused_is_found() {
    let check = |source: &str, expected: &[&str]| check(refused, source, expected);
    check("`server.listen`, `blocks.*`, `server.tls`, `block.valid`, `BLOCKCAST_AMQP__URIS`", &[]);
    check("`--set section.key=value`, `--set blocks.hold=2s`, `BLOCKCAST_SECTION__KEY`", &[]);
    check("```toml\n[blocks]\nhold = \"2s\"\n```\n```sh\nBLOCKCAST_BLOCKS__HOLD=1s\n```", &[]);
    check("`BLOCKCAST_AMQP__QUEUE__ARGUMENTS__X_MAX_LENGTH_BYTES=1000000`", &[]);
    check("`server.listens`", &["README.md:1: `server.listens`: no key server.listens"]);
    check(
        "\n`BLOCKCAST_BLOCKS__HOLT`",
        &["README.md:2: `BLOCKCAST_BLOCKS__HOLT`: no key blocks.holt"],
    );
    let is_found = |source: &str, told: &str| {
        let faults = refused(&Document::new("README.md", source));
        assert!(faults.len() == 1 && faults[0].contains(told), "{faults:?} in {source}");
    };
    is_found("```toml\n[blocks]\nholt = \"2s\"\n```", "hold");
    is_found("```sh\nBLOCKCAST_BLOCKS__HOLD=soon blockcast serve\n```", "blocks.hold");
    is_found("```sh\nblockcast --set blocks.holt=1s\n```", "blocks.holt");
}
