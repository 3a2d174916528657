//! Where what is for tests lies, and what it is called.

use std::collections::BTreeSet;

use super::source::{Source, Violation, mods_for};
use super::token::{Token, follow};

/// What the names of modules say of who compiles them. A file of `src` that is no part of the program has one of
/// these names, or lies in a folder of that name.
const FOR_TESTS: [(&str, &[&str]); 2] = [
    // Tests of the file beside it, with what only they use; what other rooms' tests need of a room; a room of its own.
    ("test", &["tests", "testing", "simulation"]),
    // What a room opens to `tests/fuzz`.
    ("fuzzing", &["fuzzed"]),
];

/// Files that only tests compile, and no others, have the names for that.
pub fn name_rules(source: &Source, tokens: &[Token]) -> Vec<Violation> {
    let mut found = Vec::new();
    for (condition, names) in FOR_TESTS {
        let marked: BTreeSet<usize> =
            mods_for(tokens, condition).map(|(_, behind)| behind - 1).collect();
        for at in (1..tokens.len()).filter(|at| tokens[at - 1].text == "mod") {
            let name = &tokens[at];
            let rule = match (marked.contains(&at), names.contains(&name.text.as_str())) {
                (true, false) => {
                    format!("with cfg({condition}) a module is {}", names.join(" or "))
                }
                (false, true) => format!("`{}` is for cfg({condition})", name.text),
                _ => continue,
            };
            found.push(source.violation(name.line, rule));
        }
    }
    found
}

/// What integration tests share is in their support, and no test is.
pub fn support_rules(source: &Source, tokens: &[Token]) -> Vec<Violation> {
    const SUPPORT: &str = "tests/it/support";
    if !source.path.starts_with("tests/it/") {
        return Vec::new();
    }
    let found = (0..tokens.len()).filter_map(|at| {
        let is_elsewhere = follow(tokens, at, &["crate", "::"])
            && tokens.get(at + 2).is_none_or(|room| room.text != "support");
        let is_test = follow(tokens, at, &["#", "[", "test", "]"])
            || follow(tokens, at, &["#", "[", "tokio", "::", "test"]);
        let rule = match (is_elsewhere, is_test && source.is_under(SUPPORT)) {
            (true, _) => format!("tests share what is under {SUPPORT}"),
            (_, true) => format!("a test under {SUPPORT}"),
            _ => return None,
        };
        Some(source.violation(tokens[at].line, rule))
    });
    found.collect()
}

#[test]
fn a_file_for_tests_under_another_name_is_found() {
    use super::check;

    let named = "src/block.rs:2: with cfg(test) a module is tests or testing or simulation";
    check(&[("src/block.rs", "#[cfg(test)]\nmod sample;")], &[named]);
    check(&[("src/block.rs", "#[cfg(test)]\npub(crate) mod sample { fn f() {} }")], &[named]);
    check(
        &[("src/amqp.rs", "mod testing;\n#[cfg(fuzzing)] pub mod opened;\npub mod fuzzed;")],
        &[
            "src/amqp.rs:1: `testing` is for cfg(test)",
            "src/amqp.rs:2: with cfg(fuzzing) a module is fuzzed",
            "src/amqp.rs:3: `fuzzed` is for cfg(fuzzing)",
        ],
    );
    let tests = ("src/amqp/tests.rs", "mod sample;");
    check(
        &[("src/amqp.rs", "#[cfg(test)] mod tests;\n#[cfg(fuzzing)] pub mod fuzzed;"), tests],
        &[],
    );
}

#[test]
fn what_is_in_the_wrong_place_among_integration_tests_is_found() {
    use super::check;

    let shared = "tests/it/tls.rs:1: tests share what is under tests/it/support";
    check(&[("tests/it/tls.rs", "use crate::access::hs256;")], &[shared]);
    check(&[("tests/it/tls.rs", "use crate::support::client::Client; use super::a;")], &[]);
    let test = "tests/it/support/node.rs:2: a test under tests/it/support";
    check(
        &[("tests/it/support/node.rs", "\n#[tokio::test(start_paused = true)] fn f() {}")],
        &[test],
    );
    check(&[("tests/it/support/node.rs", "fn f() {}\n#[test]\nfn g() {}")], &[test]);
    check(&[("tests/it/tls.rs", "#[test] fn f() {}")], &[]);
}
