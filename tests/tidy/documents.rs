//! Documents say what there is: every link and every file that they name exists, every configuration
//! loads, every command line parses, and their tables name what the code has, all of it and nothing
//! else.
//!
//! Each rule takes documents and yields faults, so that it is tested on bad ones, too.

mod commands;
mod document;
mod links;
mod settings;
mod tables;

use std::path::Path;

use document::{Document, Text};

/// A place in a document and what is wrong there.
fn fault(document: &Document, line: usize, what: impl std::fmt::Display) -> String {
    format!("{}:{line}: {what}", document.path)
}

#[track_caller]
fn assert_none(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// The faults that `rule` finds in a document with this text.
#[track_caller]
fn check(rule: fn(&Document) -> Vec<String>, source: &str, expected: &[&str]) {
    assert_eq!(rule(&Document::new("README.md", source)), expected, "in {source}");
}

/// What a reader may copy into a shell: lines in fences of `sh`, without comments.
fn shell_lines(document: &Document) -> impl Iterator<Item = Text> + '_ {
    let fences = document.fences.iter().filter(|fence| fence.language == "sh");
    fences.flat_map(|fence| &fence.lines).filter_map(|line| {
        let text = line.text.split(" #").next().unwrap_or_default().trim();
        (!text.starts_with('#')).then(|| Text { line: line.line, text: text.to_owned() })
    })
}

#[test]
fn every_fence_says_what_it_holds() {
    const LANGUAGES: [&str; 7] = ["js", "json", "python", "rust,no_run", "sh", "text", "toml"];
    let mut faults = Vec::new();
    for document in Document::read_all() {
        for fence in &document.fences {
            if !LANGUAGES.contains(&fence.language.as_str()) {
                let what = format!("a fence of {:?}: nobody checks that", fence.language);
                faults.push(fault(&document, fence.line, what));
            }
        }
    }
    assert_none(faults);
}

#[test]
fn every_line_of_json_is_json() {
    let mut faults = Vec::new();
    for document in Document::read_all() {
        for fence in document.fences.iter().filter(|fence| fence.language == "json") {
            for line in &fence.lines {
                let parsed = serde_json::from_str::<serde_json::Value>(&line.text);
                faults.extend(parsed.err().map(|error| fault(&document, line.line, error)));
            }
        }
    }
    assert_none(faults);
}

/// In the documentation of the crate, where the next reader of the code looks.
#[test]
fn every_word_is_explained() {
    const WORDS: &str = "block, transaction, event, height, index, tip, delivery, duplicate, conflict, gap, \
                         dead letter, frame, encoding, history, cursor, position, stream, subscription, \
                         session, backfill, replica, drain";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    let source = std::fs::read_to_string(path).expect("readable");
    let explained =
        source.lines().filter_map(|line| line.strip_prefix("//! - **")?.split_once("**: "));
    let explained: Vec<(&str, &str)> = explained.collect();
    assert_eq!(explained.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", "), WORDS);
    for (word, sentence) in explained {
        assert!(sentence.ends_with('.') && !sentence.contains(". "), "{word}: not one sentence");
    }
}

#[test]
fn the_front_page_is_short() {
    const BYTES_MAX: u64 = 10_000;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let bytes = path.metadata().expect("there is one").len();
    assert!(bytes < BYTES_MAX, "README.md has {bytes} bytes");
}
