//! Relative links, their anchors, and paths of this package that are named in code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use super::{Document, assert_none, fault};

/// The folders whose files are named by their whole path.
const FOLDERS: [&str; 3] = ["deploy/", "src/", "tests/"];

/// Links that lead nowhere. `anchors` are those of each document, by its path.
fn dead_links(document: &Document, anchors: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut faults = Vec::new();
    for link in &document.links {
        if link.text.contains("://") {
            continue;
        }
        let (path, anchor) = link.text.split_once('#').unwrap_or((&link.text, ""));
        let target = if path.is_empty() { document.path.clone() } else { target(document, path) };
        if !exists(&target) {
            faults.push(fault(document, link.line, format!("no file {target}")));
        } else if !anchor.is_empty()
            && !anchors.get(&target).is_some_and(|anchors| anchors.contains(anchor))
        {
            faults.push(fault(document, link.line, format!("no heading #{anchor} in {target}")));
        }
    }
    faults
}

/// Paths in code that do not exist.
fn dead_paths(document: &Document) -> Vec<String> {
    let is_path = |text: &str| FOLDERS.iter().any(|folder| text.starts_with(folder));
    let named = document.spans.iter().filter(|span| is_path(&span.text));
    let dead = named.filter(|span| !exists(&span.text));
    dead.map(|span| fault(document, span.line, format!("no file {}", span.text))).collect()
}

/// From the root of the package.
fn target(document: &Document, link: &str) -> String {
    let mut target = PathBuf::from(&document.path);
    target.pop();
    for part in Path::new(link).components() {
        match part {
            Component::ParentDir => drop(target.pop()),
            part => target.push(part),
        }
    }
    target.to_str().expect("names are UTF-8").to_owned()
}

fn exists(path: &str) -> bool {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists()
}

fn anchors(documents: &[Document]) -> BTreeMap<String, BTreeSet<String>> {
    let of = |document: &Document| (document.path.clone(), document.anchors.clone());
    documents.iter().map(of).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let documents = Document::read_all();
    let anchors = anchors(&documents);
    let found = documents
        .iter()
        .flat_map(|document| [dead_links(document, &anchors), dead_paths(document)].concat());
    assert_none(found.collect());
}

#[test]
fn the_front_page_leads_to_every_document() {
    let documents = Document::read_all();
    let mut linked = BTreeSet::from(["README.md".to_owned()]);
    for link in &documents[0].links {
        linked.insert(target(&documents[0], link.text.split('#').next().unwrap_or_default()));
    }
    let unlinked = documents.iter().filter(|document| !linked.contains(&document.path));
    assert_none(
        unlinked.map(|document| fault(document, 1, "README.md has no link to it")).collect(),
    );
}

#[test]
fn a_dead_link_is_found() {
    let check = |source: &str, expected: &[&str]| {
        let document = Document::new("tests/README.md", source);
        let anchors = anchors(std::slice::from_ref(&document));
        let faults = [dead_links(&document, &anchors), dead_paths(&document)].concat();
        assert_eq!(faults, expected, "in {source}");
    };
    check("# Run one\n[a](#run-one), [b](../Makefile), [c](tidy/main.rs), [d](https://x.y)", &[]);
    check("`src/main.rs`, `tests/it/`, `main.rs`, `a/b`", &[]);
    check("[a](#run)", &["tests/README.md:1: no heading #run in tests/README.md"]);
    check("\n[a](none.md)", &["tests/README.md:2: no file tests/none.md"]);
    check("[a](../Makefile#all)", &["tests/README.md:1: no heading #all in Makefile"]);
    check("`src/attic.rs`", &["tests/README.md:1: no file src/attic.rs"]);
}
