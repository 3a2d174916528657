//! Which file imports which. A name that a roof hands on (`pub use`) is an import of the file that has it.

use std::collections::BTreeMap;

use super::room::Import;
use super::source::Source;
use super::token::{Token, follow};

/// Names that lead from one `pub use` to the next at most.
const HANDED_ON_MAX: usize = 8;

/// A module's path, from the crate's root on.
type Path = Vec<String>;

/// A path that stands in a file, in full.
struct Mention {
    path: Path,
    line: usize,
}

/// What one file says of others.
struct FileMentions<'a> {
    source: &'a Source,
    mentions: Vec<Mention>,
    /// Of `pub use`: by the name in this file, what it names.
    handed_on: BTreeMap<String, Mention>,
    /// Names that stand in it outside of `use` and `mod`.
    names: Vec<&'a str>,
}

/// The imports between these files, `room::file` by `room::file`; `lib.rs` and `main.rs` are left out.
pub fn file_imports<'a>(files: &'a [(&'a Source, Vec<Token>)]) -> Vec<Import<'a>> {
    let files = files.iter().filter_map(|(source, tokens)| Some((module(source)?, source, tokens)));
    let files: BTreeMap<Path, _> =
        files.map(|(path, source, tokens)| (path, (*source, tokens))).collect();
    let is_file = |path: &[String]| files.contains_key(path);
    let read = |(path, (source, tokens)): (&Path, &(&'a Source, &'a Vec<Token>))| {
        (path.clone(), mentions(path, source, tokens, &is_file))
    };
    let read: BTreeMap<Path, FileMentions<'a>> = files.iter().map(read).collect();
    let mut imports = Vec::new();
    for (from, file) in &read {
        let used = file.handed_on.iter().filter(|(name, _)| file.names.contains(&name.as_str()));
        let mentions = file.mentions.iter().chain(used.map(|(_, mention)| mention));
        for Mention { path, line } in mentions {
            let to = home(path, &read);
            if let Some(to) = to.filter(|to| to != from) {
                imports.push(Import::new(file.source, *line, from.join("::"), to.join("::")));
            }
        }
    }
    imports
}

/// The file that has what this path names.
fn home(path: &[String], files: &BTreeMap<Path, FileMentions<'_>>) -> Option<Path> {
    let mut path = path.to_vec();
    for _ in 0..HANDED_ON_MAX {
        let depth = (1..=path.len()).rev().find(|depth| files.contains_key(&path[..*depth]))?;
        let (file, rest) = path.split_at(depth);
        let next = rest.split_first().and_then(|(name, behind)| {
            let named = &files[file].handed_on.get(name)?.path;
            Some([named.as_slice(), behind].concat())
        });
        match next {
            Some(next) => path = next,
            None => return Some(file.to_vec()),
        }
    }
    None
}

fn module(source: &Source) -> Option<Path> {
    source.room().filter(|room| *room != "main")?;
    let inside = source.path.strip_prefix("src/")?.strip_suffix(".rs")?;
    Some(inside.split('/').map(str::to_owned).collect())
}

fn mentions<'a>(
    file: &Path,
    source: &'a Source,
    tokens: &'a [Token],
    is_file: &dyn Fn(&[String]) -> bool,
) -> FileMentions<'a> {
    let mut found = FileMentions {
        source,
        mentions: Vec::new(),
        handed_on: BTreeMap::new(),
        names: Vec::new(),
    };
    // The modules in braces that are open here, each with the depth at which it was opened.
    let (mut modules, mut depth): (Vec<(i32, &str)>, i32) = (Vec::new(), 0);
    let mut at = 0;
    while at < tokens.len() {
        let here = || {
            let inner = modules.iter().map(|(_, name)| (*name).to_owned());
            file.iter().cloned().chain(inner).collect::<Path>()
        };
        let before = at.checked_sub(1).map_or("", |before| tokens[before].text.as_str());
        match tokens[at].text.as_str() {
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                modules.pop_if(|(opened_at, _)| *opened_at == depth);
            }
            "mod" => {
                if follow(tokens, at + 2, &["{"]) {
                    modules.push((depth, &tokens[at + 1].text));
                }
                at += 1;
            }
            "use" => {
                let end = tokens[at..].iter().position(|token| token.text == ";");
                let end = end.map_or(tokens.len(), |end| at + end);
                let is_public = before == "pub" || before == ")";
                for (path, name, line) in leaves(&tokens[at + 1..end]) {
                    let Some(path) = in_full(&path, &here(), is_file) else { continue };
                    let mention = Mention { path, line };
                    match is_public {
                        true => drop(found.handed_on.insert(name, mention)),
                        false => found.mentions.push(mention),
                    }
                }
                at = end;
            }
            _ if before != "::" && follow(tokens, at + 1, &["::"]) => {
                if let Some(path) = in_full(&path_at(&tokens[at..]), &here(), is_file) {
                    found.mentions.push(Mention { path, line: tokens[at].line });
                }
                found.names.push(&tokens[at].text);
            }
            name if before != "::" && before != "." => found.names.push(name),
            _ => {}
        }
        at += 1;
    }
    found
}

/// The path that these tokens begin with.
fn path_at(tokens: &[Token]) -> Path {
    let joined = |pair: &&[Token]| pair.get(1).is_some_and(|token| token.text == "::");
    let parts = 1 + tokens.chunks(2).take_while(joined).count();
    tokens.iter().step_by(2).take(parts).map(|token| token.text.clone()).collect()
}

/// Each path of a tree of paths, with the name that it has here.
fn leaves(tree: &[Token]) -> Vec<(Path, String, usize)> {
    let (mut leaves, mut bases, mut path) = (Vec::new(), Vec::<Path>::new(), Path::new());
    let mut name = None;
    let mut line = 0;
    let mut end = |path: &mut Path, name: &mut Option<String>, line| {
        if let Some(last) = path.last().cloned() {
            leaves.push((std::mem::take(path), name.take().unwrap_or(last), line));
        }
    };
    let mut tokens = tree.iter();
    while let Some(token) = tokens.next() {
        match token.text.as_str() {
            "{" => bases.push(std::mem::take(&mut path)),
            "}" => {
                end(&mut path, &mut name, line);
                bases.pop();
            }
            "," => end(&mut path, &mut name, line),
            "::" => {}
            "as" => name = tokens.next().map(|token| token.text.clone()),
            word => {
                line = token.line;
                if path.is_empty() {
                    path = bases.last().cloned().unwrap_or_default();
                }
                path.push(word.to_owned());
            }
        }
    }
    end(&mut path, &mut name, line);
    leaves
}

/// A path from the crate's root on; none when it leads out of the crate, or nowhere else.
fn in_full(path: &[String], here: &[String], is_file: &dyn Fn(&[String]) -> bool) -> Option<Path> {
    let supers = path.iter().take_while(|part| *part == "super").count();
    match path.first()?.as_str() {
        "crate" => Some(path[1..].to_vec()),
        "super" => Some([here.get(..here.len().checked_sub(supers)?)?, &path[supers..]].concat()),
        "self" => Some([here, &path[1..]].concat()),
        first => {
            let inner = [here, &[first.to_owned()]].concat();
            is_file(&inner).then(|| [here, path].concat())
        }
    }
}
