//! Modules that depend on nothing but their arguments. Clippy knows no rooms: it cannot ban a clock in one and
//! allow it in another.

use super::source::{Source, Violation};
use super::token::{Token, follow};

/// Modules whose outcome depends on their arguments only. Time is an argument, too.
const PURE: [&str; 18] = [
    "src/backoff",
    "src/block",
    "src/byte_order_mark",
    "src/event",
    "src/filter",
    "src/frame",
    "src/packing",
    "src/pipeline/chain_check",
    "src/pipeline/redelivered",
    "src/protocol",
    "src/sequence",
    "src/session/close",
    "src/session/cursor",
    "src/session/inbound",
    "src/session/liveness",
    "src/session/subscription",
    "src/session/view",
    "src/session/writer",
];
/// What would make them wait, or depend on something else: a clock, chance, the system, another task.
const IMPURE: [&[&str]; 12] = [
    &["Instant", "::", "now"],
    &["Mutex"],
    &["RwLock"],
    &["async"],
    &["await"],
    &["env", "::"],
    &["fastrand"],
    &["fs"],
    &["net"],
    &["thread"],
    &["tokio"],
    &["tracing"],
];

pub fn pure_rules(source: &Source, tokens: &[Token]) -> Vec<Violation> {
    if !PURE.iter().any(|module| source.is_under(module)) {
        return Vec::new();
    }
    let found = (0..tokens.len()).filter_map(|at| {
        // A value like any other; only its `now` asks a clock.
        if follow(tokens, at, &["tokio", "::", "time", "::", "Instant"]) {
            return None;
        }
        let words = IMPURE.iter().find(|words| follow(tokens, at, words))?;
        let rule = format!("`{}` in a module that is pure", words.concat());
        Some(source.violation(tokens[at].line, rule))
    });
    found.collect()
}

#[test]
fn what_is_not_pure_in_a_pure_module_is_found() {
    use super::check;

    let of = |word: &str| format!("src/sequence/hold.rs:2: `{word}` in a module that is pure");
    for (text, word) in [
        ("fn f() { Instant::now() }", "Instant::now"),
        ("use std::sync::{Arc, Mutex};", "Mutex"),
        ("use tokio::time::sleep;", "tokio"),
        ("use std::{fs, io};", "fs"),
    ] {
        check(&[("src/sequence/hold.rs", &format!("\n{text}"))], &[&of(word)]);
        check(&[("src/readiness.rs", text)], &[]);
        check(&[("src/sequence/hold.rs", &format!("#[cfg(test)] mod tests {{ {text} }}"))], &[]);
    }
    for text in ["use tokio::time::Instant;", "fn f(now: Instant) -> Instant { now + g() }"] {
        check(&[("src/sequence/hold.rs", text)], &[]);
    }
}
