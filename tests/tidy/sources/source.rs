//! Files, what may be wrong in them, and which parts of them are tests.

use std::fmt;
use std::path::Path;

use super::token::{Token, follow};

/// A file by its path from the package's root, with `/` between the parts.
pub struct Source {
    pub path: String,
    pub text: String,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    pub path: String,
    /// From 1.
    pub line: usize,
    pub rule: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.rule)
    }
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.into(), text: text.into() }
    }

    /// All Rust files below `folder` of the package.
    pub fn read_below(folder: &str, sources: &mut Vec<Source>) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for entry in std::fs::read_dir(root.join(folder)).expect("the package has this folder") {
            let entry = entry.expect("a readable folder");
            let name = entry.file_name().into_string().expect("names are UTF-8");
            let path = format!("{folder}/{name}");
            if entry.file_type().expect("a readable folder").is_dir() {
                Self::read_below(&path, sources);
            } else if name.ends_with(".rs") {
                let text = std::fs::read_to_string(entry.path()).expect("sources are UTF-8");
                sources.push(Source { path, text });
            }
        }
    }

    pub fn is_under(&self, module: &str) -> bool {
        let behind = self.path.strip_prefix(module);
        behind.is_some_and(|behind| behind == ".rs" || behind.starts_with('/'))
    }

    /// The room it belongs to; none for `lib.rs`, which lists them, and outside `src`.
    pub fn room(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let room = inside.split('/').next()?.trim_end_matches(".rs");
        (room != "lib").then_some(room)
    }

    pub fn violation(&self, line: usize, rule: impl Into<String>) -> Violation {
        Violation { path: self.path.clone(), line, rule: rule.into() }
    }
}

/// Where `#[cfg(test)] mod name` begins and the place behind the name.
fn test_mods(tokens: &[Token]) -> impl Iterator<Item = (usize, usize)> + '_ {
    mods_for(tokens, "test")
}

/// Where `#[cfg(condition)] mod name` begins and the place behind the name.
pub fn mods_for<'a>(
    tokens: &'a [Token],
    condition: &'a str,
) -> impl Iterator<Item = (usize, usize)> + 'a {
    let mark = ["#", "[", "cfg", "(", condition, ")", "]"];
    (0..tokens.len()).filter(move |at| follow(tokens, *at, &mark)).filter_map(move |at| {
        let rest = &tokens[at + mark.len()..];
        let visible = rest.iter().take(5).position(|token| token.text == "mod")?;
        Some((at, at + mark.len() + visible + 2))
    })
}

/// The modules that `source` declares for tests only, without `.rs`.
pub fn test_modules(source: &Source, tokens: &[Token]) -> Vec<String> {
    let stem = source.path.trim_end_matches(".rs");
    let folder = stem.strip_suffix("/lib").or(stem.strip_suffix("/main")).unwrap_or(stem);
    let declared = test_mods(tokens).filter(|(_, behind)| follow(tokens, *behind, &[";"]));
    declared.map(|(_, behind)| format!("{folder}/{}", tokens[behind - 1].text)).collect()
}

/// Without the bodies of inline test modules.
pub fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut kept = tokens.to_vec();
    let bodies = test_mods(tokens).filter(|(_, behind)| follow(tokens, *behind, &["{"]));
    for (begin, behind) in bodies {
        let mut depth = 0;
        let end = tokens[behind..].iter().position(|token| {
            match token.text.as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            depth == 0
        });
        let end = end.map_or(tokens.len(), |end| behind + end);
        kept[begin..end].iter_mut().for_each(|token| token.text.clear());
    }
    kept
}
