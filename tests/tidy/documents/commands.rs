//! Command lines: those of `blockcast` parse, those of `make` name targets and variables.

use std::path::Path;

use blockcast::cli::command;
use clap::error::ErrorKind;

use super::{Document, Text, assert_none, check, fault, shell_lines};

/// How the documents run the program from a checkout.
const CARGO_RUN: &str = "cargo run -q --release -- ";

/// Command lines that would be refused.
fn refused(document: &Document) -> Vec<String> {
    let mut faults = Vec::new();
    for Text { line, text } in shell_lines(document).chain(document.spans.iter().cloned()) {
        let refusal = if let Some(words) = program_words(&text) {
            refusal(&words)
        } else if let Some(words) = text.strip_prefix("make ") {
            make_refusal(words)
        } else {
            option_refusal(&text)
        };
        faults.extend(refusal.map(|refusal| fault(document, line, refusal)));
    }
    faults
}

/// The words behind `blockcast`, if `text` is such a command. Settings of the environment before it
/// are not its own.
fn program_words(text: &str) -> Option<Vec<&str>> {
    let rest = text.strip_prefix(CARGO_RUN).or_else(|| {
        let is_setting = |word: &&str| word.starts_with("BLOCKCAST_") && word.contains('=');
        let settings: usize =
            text.split(' ').take_while(is_setting).map(|word| word.len() + 1).sum();
        let behind = text.get(settings..)?.strip_prefix("blockcast")?;
        (behind.is_empty() || behind.starts_with(' ')).then_some(behind)
    })?;
    Some(rest.split_whitespace().collect())
}

/// What stands in an example for a value of the reader's own, and such a value.
const PLACEHOLDERS: [(&str, &str); 2] = [
    ("KEY", "DJgnirZfikN3zr2pW9yTFM39t8EbTPZ9oSZjf3pRYHEa"),
    ("T", "528a2303c4a2a72d0c76e2d1c0a9e5b6d0c3b1f5a6b7c8d9e0f1a2b3c4d5f8ba"),
];

/// A command's name alone names the command; what it needs need not stand there.
fn refusal(words: &[&str]) -> Option<String> {
    let filled = words.iter().map(|word| {
        let value = PLACEHOLDERS.iter().find(|(name, _)| name == word);
        value.map_or(*word, |(_, value)| value)
    });
    let words_of_all = std::iter::once("blockcast").chain(filled);
    let error = command().try_get_matches_from(words_of_all).err()?;
    let is_name = words.len() == 1 && error.kind() == ErrorKind::MissingRequiredArgument;
    let message = error.to_string();
    let told = message.lines().next().unwrap_or_default();
    (error.use_stderr() && !is_name).then(|| format!("`blockcast {}`: {told}", words.join(" ")))
}

/// Options in a sentence, such as `--poll` or `publish --node`: there are such.
fn option_refusal(text: &str) -> Option<String> {
    let mut words = text.split_whitespace().peekable();
    let command = command();
    let named = words.next_if(|word| command.find_subcommand(word).is_some());
    let option = words.next()?.split('=').next()?.strip_prefix("--")?;
    let is_known = command
        .get_subcommands()
        .filter(|command| named.is_none_or(|name| command.get_name() == name))
        .any(|command| command.get_arguments().any(|known| known.get_long() == Some(option)));
    (!is_known).then(|| format!("`{text}`: no option --{option}"))
}

fn make_refusal(words: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("Makefile");
    let makefile = std::fs::read_to_string(path).expect("there is one");
    let begins = |begin: String| makefile.lines().any(|line| line.starts_with(&begin));
    let is_known = |word: &str| match word.split_once('=') {
        Some((variable, _)) => begins(format!("{variable} ?=")),
        None => begins(format!("{word}:")),
    };
    let unknown = words.split_whitespace().find(|word| !is_known(word))?;
    Some(format!("`make {words}`: no {unknown} in the Makefile"))
}

#[test]
fn every_command_line_parses() {
    assert_none(Document::read_all().iter().flat_map(refused).collect());
}

/// In the help, an example ends where two spaces begin what it is for.
#[test]
fn every_example_of_the_help_parses() {
    let help = command().get_after_help().expect("there are examples").to_string();
    let lines = help.lines().map(|line| line.trim().split("  ").next().unwrap_or_default());
    let examples: Vec<Vec<&str>> = lines.filter_map(program_words).collect();
    assert!(examples.len() >= 8, "{examples:?}");
    assert_none(examples.iter().filter_map(|words| refusal(words)).collect());
}

#[test]
fn a_command_line_that_would_be_refused_is_found() {
    let check = |source: &str, expected: &[&str]| check(refused, source, expected);
    check(
        "`blockcast`, `blockcast publish`, `blockcast tail --limit 1`, `make run LISTEN=x:1`",
        &[],
    );
    check(
        "`--poll`, `publish --node`, `--from=-100`, `tail --ca FILE`, `blockcasts are`, `make`",
        &[],
    );
    check("```sh\ncargo run -q --release -- tail   # scrolls\nmake test\n```", &[]);
    check("```sh\nBLOCKCAST_BLOCKS__HOLD=1s blockcast serve\n```", &[]);
    check(
        "`blockcast serf`",
        &["README.md:1: `blockcast serf`: error: unrecognized subcommand 'serf'"],
    );
    check(
        "```sh\n\nblockcast publish - --node http://x\n```",
        &[
            "README.md:3: `blockcast publish - --node http://x`: error: the argument '[FILE]' cannot be used with '--node <URL>'",
        ],
    );
    check("`make rum`", &["README.md:1: `make rum`: no rum in the Makefile"]);
    check(
        "`make run LISTENS=1`",
        &["README.md:1: `make run LISTENS=1`: no LISTENS=1 in the Makefile"],
    );
    check("`tail --poll`", &["README.md:1: `tail --poll`: no option --poll"]);
    check("`--pole 1s`", &["README.md:1: `--pole 1s`: no option --pole"]);
}
