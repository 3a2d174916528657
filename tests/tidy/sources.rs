//! Rules about the sources that a reader relies on: which room may import which, where untrusted
//! bytes are parsed, which crates stay at the edges. Nothing is compiled; words are looked at.

mod file_imports;
mod for_tests;
mod pure;
mod room;
mod source;
mod token;

use std::collections::BTreeSet;
use std::io::{Write, stderr};
use std::process::Command;

use file_imports::file_imports;
use for_tests::{name_rules, support_rules};
use pure::pure_rules;
use room::{cycles, declaration_rules, import_rules};
use source::{Source, Violation, test_modules, without_tests};
use token::{Token, follow, tokens};

const LINES_MAX: usize = 500;

/// What is in version control, as far as its first names go.
const TOP_LEVEL: [&str; 14] = [
    ".cargo",
    ".ci",
    ".clippy.toml",
    ".dockerignore",
    ".gitignore",
    ".rustfmt.toml",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "Makefile",
    "README.md",
    "deploy",
    "src",
    "tests",
];

/// Words that may stand only under some paths.
const ENCLOSED: [Enclosed; 7] = [
    Enclosed { words: &["jsonwebtoken"], under: &["src/server/auth"] },
    Enclosed { words: &["lapin", "amq_protocol", "async_rs"], under: &["src/amqp"] },
    Enclosed {
        words: &["hyper", "hyper_rustls", "hyper_util", "http_body_util"],
        under: &["src/server", "src/client", "src/cli/publish/node"],
    },
    // Of it a session uses the frame header only.
    Enclosed {
        words: &["hyper_tungstenite", "tungstenite", "tokio_tungstenite"],
        under: &["src/server", "src/session/inbound", "src/client", "src/cli/publish/node"],
    },
    Enclosed {
        words: &["rustls", "tokio_rustls"],
        under: &["src/server/tls", "src/amqp/tls", "src/client"],
    },
    Enclosed { words: &["x509_parser"], under: &["src/server/tls", "src/server/auth/jwt"] },
    // What the wall's clock says is told, and decides nothing: it may be set back at any time.
    Enclosed {
        words: &["SystemTime"],
        under: &[
            "src/operator_status",
            "src/history",
            "src/server/status",
            "src/amqp/dead_letter",
            "src/server/tls",
            "src/server/auth",
        ],
    },
];
const PARSERS: [&str; 6] =
    ["from_str", "from_slice", "from_reader", "Deserializer", "StreamDeserializer", "*"];
/// Where JSON is parsed: bodies in `block`, a server's words in `protocol` and its data in the client, a
/// node's in its own, a set of keys. Tests may parse what they like.
const PARSING: &[&str] =
    &["src/block", "src/protocol", "src/client", "src/cli/publish/node", "src/server/auth/jwt"];

struct Enclosed {
    words: &'static [&'static str],
    /// Modules: the file `x.rs` and all below `x/`.
    under: &'static [&'static str],
}

/// Everything that breaks a rule, in the order of files and lines.
fn violations(sources: &[Source]) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut imports = Vec::new();
    let cut: Vec<(&Source, Vec<Token>)> =
        sources.iter().map(|source| (source, tokens(&source.text))).collect();
    let test_modules: BTreeSet<String> =
        cut.iter().flat_map(|(source, tokens)| test_modules(source, tokens)).collect();
    for (source, tokens) in &cut {
        found.extend(file_rules(source));
        found.extend(word_rules(source, tokens));
        found.extend(support_rules(source, tokens));
        if !source.path.starts_with("src/") {
            continue;
        }
        found.extend(enclosed_rules(source, tokens));
        if !test_modules.iter().any(|module| source.is_under(module)) {
            let tokens_of_program = without_tests(tokens);
            found.extend(parsing_rules(source, &tokens_of_program));
            found.extend(pure_rules(source, &tokens_of_program));
            found.extend(name_rules(source, tokens));
        }
        imports.extend(import_rules(source, tokens, &mut found));
    }
    let of_program =
        cut.iter().filter(|(source, _)| !test_modules.iter().any(|module| source.is_under(module)));
    let of_program: Vec<(&Source, Vec<Token>)> =
        of_program.map(|(source, tokens)| (*source, without_tests(tokens))).collect();
    // Roofs that import each other do so as rooms and as files.
    let cycles: BTreeSet<Violation> =
        cycles(&imports).into_iter().chain(cycles(&file_imports(&of_program))).collect();
    found.extend(cycles);
    found.sort();
    found
}

fn file_rules(source: &Source) -> Vec<Violation> {
    let lines = source.text.lines().count();
    let is_long = source.path.starts_with("src/") && lines > LINES_MAX;
    let long = is_long.then(|| source.violation(lines, format!("more than {LINES_MAX} lines")));
    let is_mod = source.path.ends_with("/mod.rs");
    let named = is_mod.then(|| source.violation(1, "a module is x.rs beside x/, not mod.rs"));
    long.into_iter().chain(named).collect()
}

fn word_rules(source: &Source, tokens: &[Token]) -> Vec<Violation> {
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let rule = match token.text.as_str() {
            "unsafe" => "`unsafe` is forbidden",
            "todo" | "unimplemented" if follow(tokens, at + 1, &["!"]) => "unfinished code",
            "ignore" if at >= 2 && follow(tokens, at - 2, &["#", "["]) => "an ignored test",
            _ => continue,
        };
        found.push(source.violation(token.line, rule));
    }
    found
}

fn enclosed_rules(source: &Source, tokens: &[Token]) -> Vec<Violation> {
    let mut found = Vec::new();
    for Enclosed { words, under } in ENCLOSED {
        if under.iter().any(|module| source.is_under(module)) {
            continue;
        }
        for token in tokens.iter().filter(|token| words.contains(&token.text.as_str())) {
            let rule = format!("`{}` stands only under {}", token.text, under.join(" and "));
            found.push(source.violation(token.line, rule));
        }
    }
    found
}

fn parsing_rules(source: &Source, tokens: &[Token]) -> Vec<Violation> {
    if PARSING.iter().any(|module| source.is_under(module)) {
        return Vec::new();
    }
    let after = |words: &[&str]| -> Vec<usize> {
        let starts = (0..tokens.len()).filter(|at| follow(tokens, *at, words));
        starts.map(|at| at + words.len()).collect()
    };
    let by_name = after(&["serde_json", "::"]).into_iter().flat_map(|at| path_tree(&tokens[at..]));
    let by_name = by_name.filter(|token| PARSERS.contains(&token.text.as_str()));
    let by_type = after(&["parse", "::", "<"]).into_iter().flat_map(|at| path_tree(&tokens[at..]));
    let by_type = by_type.filter(|token| token.text == "Value");
    let rule = format!("JSON is parsed only under {}", PARSING.join(" and "));
    by_name.chain(by_type).map(|token| source.violation(token.line, rule.clone())).collect()
}

/// The words of a path or of a tree of paths in braces, up to its end.
fn path_tree(tokens: &[Token]) -> impl Iterator<Item = &Token> {
    let (mut depth, mut before) = (0, "::");
    tokens.iter().take_while(move |token| {
        let opens = token.text == "{" && before == "::";
        before = match token.text.as_str() {
            "::" => "::",
            _ => "",
        };
        match token.text.as_str() {
            "{" if opens => depth += 1,
            "}" => depth -= 1,
            "," => return depth > 0,
            "::" | "*" => return true,
            word => {
                return word.starts_with(|letter: char| letter.is_alphabetic() || letter == '_');
            }
        }
        depth > 0
    })
}

#[test]
fn nothing_else_lies_at_the_top() {
    let files = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR"), "ls-files"])
        .output()
        .ok()
        .filter(|output| output.status.success());
    let Some(files) = files else {
        let told = "left out: nothing_else_lies_at_the_top: no version control here";
        return writeln!(stderr(), "{told}").expect("written");
    };
    let files = String::from_utf8(files.stdout).expect("names are UTF-8");
    let first = |path: &str| path.split('/').next().unwrap_or_default().to_owned();
    let found: BTreeSet<String> = files.lines().map(first).collect();
    assert_eq!(Vec::from_iter(&found), TOP_LEVEL);
}

#[test]
fn the_sources_keep_the_rules() {
    let mut sources = Vec::new();
    Source::read_below("src", &mut sources);
    Source::read_below("tests", &mut sources);
    let root = sources.iter().find(|source| source.path == "src/lib.rs").expect("it looks here");
    let mut found = violations(&sources);
    found.extend(declaration_rules(root, &tokens(&root.text)));
    let found: Vec<String> = found.iter().map(Violation::to_string).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[track_caller]
fn check(files: &[(&str, &str)], expected: &[&str]) {
    let sources: Vec<Source> = files.iter().map(|(path, text)| Source::new(path, text)).collect();
    let found: Vec<String> = violations(&sources).iter().map(Violation::to_string).collect();
    assert_eq!(found, expected, "in {files:?}");
}

#[test]
fn a_crate_outside_its_room_is_found() {
    let lapin = "src/block.rs:2: `lapin` stands only under src/amqp";
    check(&[("src/block.rs", "\nuse lapin::Channel;")], &[lapin]);
    check(&[("src/amqp.rs", "use lapin::Channel;"), ("src/amqp/tls.rs", "use lapin;")], &[]);
    check(&[("src/block.rs", "// lapin\n/* lapin */ fn f() { g(\"lapin\"); lapin_like() }")], &[]);
    let hyper = "src/amqp.rs:1: `hyper_util` stands only under src/server and src/client and src/cli/publish/node";
    check(&[("src/amqp.rs", "fn f(x: ::hyper_util::X) {}")], &[hyper]);
    let tungstenite = "src/cli.rs:1: `tungstenite` stands only under src/server and src/session/inbound and src/client and src/cli/publish/node";
    check(&[("src/cli.rs", "use x::{y, tungstenite::Z};")], &[tungstenite]);
    check(&[("src/client/a.rs", "use tungstenite::X;"), ("src/server/a.rs", "use hyper::X;")], &[]);
    let rustls = "src/server/a.rs:1: `rustls` stands only under src/server/tls and src/amqp/tls and src/client";
    check(
        &[("src/server/a.rs", "use rustls::X;"), ("src/server/tls/a.rs", "use rustls::X;")],
        &[rustls],
    );
    let clock = "src/sequence.rs:1: `SystemTime` stands only under src/operator_status and src/history and src/server/status and src/amqp/dead_letter and src/server/tls and src/server/auth";
    check(&[("src/sequence.rs", "use std::time::{Duration, SystemTime};")], &[clock]);
}

#[test]
fn json_that_is_parsed_outside_the_decoder_is_found() {
    let found = "src/server.rs:1: JSON is parsed only under src/block and src/protocol and src/client and src/cli/publish/node and src/server/auth/jwt";
    for text in [
        "fn f() { serde_json::from_slice::<X>(y) }",
        "use serde_json::{Value, de::{from_str as g}};",
        "use serde_json::Deserializer;",
        "use serde_json::*;",
        "fn f() { x.parse::<serde_json::Value>() }",
    ] {
        check(&[("src/server.rs", text)], &[found]);
    }
    for text in [
        "fn f() -> serde_json::Value { from_str(*x) }",
        "use serde_json::{Value, json}; use toml::from_str;",
        "#[cfg(test)] mod tests { use serde_json::from_str; }",
    ] {
        check(&[("src/server.rs", text)], &[]);
    }
    let behind = "#[cfg(test)]\nmod tests { fn f() {} }\nuse serde_json::from_str;";
    check(
        &[("src/frame.rs", behind)],
        &[
            "src/frame.rs:3: JSON is parsed only under src/block and src/protocol and src/client and src/cli/publish/node and src/server/auth/jwt",
        ],
    );
    let tests = ("src/frame/tests.rs", "use serde_json::from_str;");
    check(&[("src/frame.rs", "#[cfg(test)] pub(crate) mod tests;"), tests], &[]);
    check(
        &[("src/frame.rs", "mod tests;"), tests],
        &[
            "src/frame.rs:1: `tests` is for cfg(test)",
            "src/frame/tests.rs:1: JSON is parsed only under src/block and src/protocol and src/client and src/cli/publish/node and src/server/auth/jwt",
        ],
    );
    check(&[("src/block/key.rs", "use serde_json::from_str;")], &[]);
}

#[test]
fn an_import_that_runs_up_is_found() {
    let up = |path: &str, from: &str, to: &str| {
        format!("{path}:1: `{from}` must not import `{to}`: imports run down")
    };
    for (path, text, from, to) in [
        ("src/block.rs", "use crate::frame::X;", "block", "frame"),
        ("src/block/key.rs", "use crate::{config::Dialect, event::{X, config}};", "block", "event"),
        ("src/server/a.rs", "fn f() { crate::amqp::g() }", "server", "amqp"),
        ("src/amqp.rs", "pub use super::server::X;", "amqp", "server"),
        ("src/metrics.rs", "type X = crate::history::X;", "metrics", "history"),
        ("src/cli.rs", "use blockcast::main::X;", "cli", "main"),
        ("src/server/a.rs", "use super::super::amqp;", "server", "amqp"),
        ("src/frame/a.rs", "mod t { use super::super::super::{server}; }", "frame", "server"),
    ] {
        check(&[(path, text)], &[&up(path, from, to)]);
    }
    for text in ["use super::amqp;", "mod t { fn f() {} } mod amqp { use super::super::block; }"] {
        check(&[("src/server/a.rs", text)], &[]);
    }
    check(&[("src/attic.rs", "")], &["src/attic.rs:1: `attic` has no place among the rooms"]);
    check(&[("src/block.rs", "use crate::*;")], &["src/block.rs:1: name the room, not all"]);
    check(&[("src/main.rs", "use blockcast::{cli, bridge};"), ("src/lib.rs", "pub mod x;")], &[]);
    check(
        &[("src/block.rs", "//! See [`crate::server`].\nuse crate::config; pub(crate) fn f() {}")],
        &[],
    );
}

#[test]
fn a_room_out_of_its_place_is_found() {
    let root = include_str!("../../src/lib.rs");
    let find = |text: &str| {
        let root = Source::new("src/lib.rs", text);
        let found = declaration_rules(&root, &tokens(&root.text));
        found.iter().map(|violation| violation.rule.clone()).collect::<Vec<_>>()
    };
    assert!(find(root).is_empty());
    assert_eq!(find(&root.replace("mod tickets;", "")), ["there is no room `tickets`"]);
    let swapped = root.replace("mod frame;", "mod _;").replace("mod event;", "mod frame;");
    let swapped = swapped.replace("mod _;", "mod event;");
    assert_eq!(find(&swapped), ["`frame` stands too low"]);
}

#[test]
fn a_cycle_is_found() {
    check(
        &[
            ("src/config.rs", "use crate::metrics::X;"),
            ("src/metrics.rs", "use crate::telemetry::X;"),
            ("src/telemetry.rs", "\nuse crate::config::X;"),
            ("src/operator_status.rs", "use crate::metrics::X;"),
        ],
        &[
            "src/config.rs:1: `config` and `metrics` import each other, in a cycle",
            "src/metrics.rs:1: `metrics` and `telemetry` import each other, in a cycle",
            "src/telemetry.rs:2: `telemetry` and `config` import each other, in a cycle",
        ],
    );
}

#[test]
fn a_cycle_of_files_is_found() {
    let cycle = |path: &str, line: usize, from: &str, to: &str| {
        format!("{path}:{line}: `{from}` and `{to}` import each other, in a cycle")
    };
    let (a, b) = ("src/frame/a.rs", "src/frame/b.rs");
    let found = |files: &[(&str, &str)], expected: &[String]| {
        check(files, &expected.iter().map(String::as_str).collect::<Vec<_>>());
    };
    let both = [cycle(a, 1, "frame::a", "frame::b"), cycle(b, 1, "frame::b", "frame::a")];
    let roof = ("src/frame.rs", "mod a; mod b; pub use a::X as Y; pub use b::Z;");
    for (in_a, in_b) in [
        ("use super::b::Z;", "use super::a::X;"),
        ("use super::Z;", "use crate::frame::Y;"),
        ("use super::{b::{Z as W, z}, c};", "fn f() { super::a::g() }"),
        ("mod inner { use super::super::b::Z; }", "mod inner { fn f(x: crate::frame::Y) {} }"),
    ] {
        found(&[roof, (a, in_a), (b, in_b)], &both);
    }
    for (in_a, in_b) in [
        ("use super::b::Z;", "use super::W;"),
        ("use super::b::Z;", "// super::a::X\nuse other::a::X;"),
        ("use super::b::Z;", "#[cfg(test)] mod tests { use super::super::a::X; }"),
        ("#[cfg(test)] mod tests { use super::*; } mod c { use super::X; }", "use super::a;"),
    ] {
        found(&[roof, (a, in_a), (b, in_b)], &[]);
    }
    // A roof that works with what it hands on imports it.
    let working = ("src/frame.rs", "mod a;\npub use a::X;\nfn f(x: X) {} pub struct W;");
    let (up, down) =
        (cycle(a, 1, "frame::a", "frame"), cycle("src/frame.rs", 2, "frame", "frame::a"));
    found(&[working, (a, "use super::W;")], &[down, up]);
    found(&[("src/frame.rs", "mod a; pub use a::X; pub struct W;"), (a, "use super::W;")], &[]);
}

#[test]
fn an_untidy_file_is_found() {
    check(
        &[("src/block/mod.rs", "")],
        &["src/block/mod.rs:1: a module is x.rs beside x/, not mod.rs"],
    );
    check(&[("src/block.rs", &"\n".repeat(501))], &["src/block.rs:501: more than 500 lines"]);
    check(&[("src/block.rs", &"\n".repeat(500))], &[]);
    check(
        &[(
            "tests/it/a.rs",
            "\n#[ignore = \"slow\"]\nfn f() { unsafe { todo!() } unimplemented!(\"x\") }",
        )],
        &[
            "tests/it/a.rs:2: an ignored test",
            "tests/it/a.rs:3: `unsafe` is forbidden",
            "tests/it/a.rs:3: unfinished code",
            "tests/it/a.rs:3: unfinished code",
        ],
    );
    check(&[("src/lib.rs", "#![forbid(unsafe_code)] // todo!()\nfn f() { g(ignore, todo) }")], &[]);
}
