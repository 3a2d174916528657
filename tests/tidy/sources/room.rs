//! Who may import whom.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Source, Violation};
use super::token::{Token, follow};

/// The rooms from the top down. Those of one line never import each other, except the leaves.
const ROOMS: [&[&str]; 17] = [
    &["main"],
    &["cli"],
    &["bridge"],
    &["simulation"],
    &["pipeline", "backfill"],
    &["amqp", "client", "server"],
    &["session"],
    &["tickets"],
    &["encoder"],
    &["history"],
    &["filter"],
    &["frame"],
    &["event"],
    &["sequence"],
    &["block"],
    &["protocol"],
    LEAVES,
];
const LEAVES: &[&str] = &[
    "backoff",
    "byte_order_mark",
    "config",
    "file_name",
    "metrics",
    "operator_status",
    "packing",
    "pem",
    "readiness",
    "record",
    "reload",
    "secret",
    "shutdown",
    "small_file",
    "telemetry",
    "watched",
    "web_address",
];

/// An import of room or file `to` in room or file `from`.
pub struct Import<'a> {
    source: &'a Source,
    line: usize,
    from: String,
    to: String,
}

impl<'a> Import<'a> {
    pub fn new(source: &'a Source, line: usize, from: String, to: String) -> Self {
        Self { source, line, from, to }
    }
}

/// Whether the crate's root declares all rooms, from the top down.
pub fn declaration_rules(root: &Source, tokens: &[Token]) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut left: BTreeSet<&str> = ROOMS.iter().copied().flatten().copied().collect();
    left.remove("main");
    let mut rank_before = 0;
    let names = tokens.windows(2).filter(|pair| pair[0].text == "mod").map(|pair| &pair[1]);
    for name in names {
        let Some(rank) = rank(&name.text) else { continue };
        if rank < rank_before {
            found.push(root.violation(name.line, format!("`{}` stands too low", name.text)));
        }
        rank_before = rank_before.max(rank);
        left.remove(name.text.as_str());
    }
    found.extend(left.iter().map(|room| root.violation(1, format!("there is no room `{room}`"))));
    found
}

/// Returns the imports between rooms; those that do not run downwards are added to `found`.
pub fn import_rules<'a>(
    source: &'a Source,
    tokens: &[Token],
    found: &mut Vec<Violation>,
) -> Vec<Import<'a>> {
    let Some(from) = source.room() else { return Vec::new() };
    let Some(from_rank) = rank(from) else {
        found.push(source.violation(1, format!("`{from}` has no place among the rooms")));
        return Vec::new();
    };
    let mut imports = Vec::new();
    for at in roots(source, tokens) {
        for room in heads(&tokens[at..]) {
            if room.text == "*" {
                found.push(source.violation(room.line, "name the room, not all"));
            }
            let Some(to_rank) = rank(&room.text).filter(|_| room.text != from) else { continue };
            let is_downwards = from_rank < to_rank || from_rank == to_rank && is_leaf(from);
            if !is_downwards {
                let rule = format!("`{from}` must not import `{}`: imports run down", room.text);
                found.push(source.violation(room.line, rule));
            }
            imports.push(Import::new(source, room.line, from.to_owned(), room.text.clone()));
        }
    }
    imports
}

/// The places behind `crate::`, and behind as many `super::` as lead up to the crate.
fn roots(source: &Source, tokens: &[Token]) -> Vec<usize> {
    let file_depth = source.path.matches('/').count();
    let (mut braces, mut modules, mut roots) = (0, Vec::new(), Vec::new());
    for (at, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "{" => {
                if at >= 2 && tokens[at - 2].text == "mod" {
                    modules.push(braces);
                }
                braces += 1;
            }
            "}" => {
                braces -= 1;
                modules.pop_if(|opened_at| *opened_at == braces);
            }
            "crate" | "blockcast" if follow(tokens, at + 1, &["::"]) => roots.push(at + 2),
            "super" if at == 0 || tokens[at - 1].text != "::" => {
                let is_super = |step: &usize| follow(tokens, at + 2 * step, &["super", "::"]);
                let steps = (0..).take_while(is_super).count();
                if steps == file_depth + modules.len() {
                    roots.push(at + 2 * steps);
                }
            }
            _ => {}
        }
    }
    roots
}

/// One violation per import that leads back to the room or file it is in.
pub fn cycles(imports: &[Import<'_>]) -> Vec<Violation> {
    let mut below: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for import in imports {
        below.entry(&import.from).or_default().insert(&import.to);
    }
    let reaches = |from: &str, to: &str| {
        let (mut seen, mut left) = (BTreeSet::new(), vec![from]);
        while let Some(room) = left.pop() {
            if seen.insert(room) {
                left.extend(below.get(room).into_iter().flatten());
            }
        }
        seen.contains(to)
    };
    let closing = imports.iter().filter(|import| reaches(&import.to, &import.from));
    closing
        .map(|Import { source, line, from, to }| {
            source.violation(*line, format!("`{from}` and `{to}` import each other, in a cycle"))
        })
        .collect()
}

fn rank(room: &str) -> Option<usize> {
    ROOMS.iter().position(|rooms| rooms.contains(&room))
}

fn is_leaf(room: &str) -> bool {
    LEAVES.contains(&room)
}

/// The first name of a path, or of each path in a group in braces.
fn heads(tokens: &[Token]) -> Vec<&Token> {
    if tokens.first().is_none_or(|token| token.text != "{") {
        return tokens.first().into_iter().collect();
    }
    let (mut depth, mut heads) = (0, Vec::new());
    for pair in tokens.windows(2) {
        match pair[0].text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        match depth {
            0 => break,
            1 if ["{", ","].contains(&pair[0].text.as_str()) => heads.push(&pair[1]),
            _ => {}
        }
    }
    heads
}
