//! A Markdown file, as far as the checks ask: its anchors, links, code and tables.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

const CRATE: &str = "src/lib.rs";

#[derive(Default)]
pub struct Document {
    /// From the root of the package, with `/` between the parts.
    pub path: String,
    /// What `#...` in a link can name, as GitHub and rustdoc make it of a heading.
    pub anchors: BTreeSet<String>,
    pub links: Vec<Text>,
    /// Code inside a sentence or a table.
    pub spans: Vec<Text>,
    pub fences: Vec<Fence>,
    pub tables: Vec<Table>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// From 1.
    pub line: usize,
    pub text: String,
}

pub struct Fence {
    /// From 1.
    pub line: usize,
    /// What stands behind the three backticks.
    pub language: String,
    /// Without blank lines.
    pub lines: Vec<Text>,
}

/// The first row is the header.
#[derive(Default)]
pub struct Table {
    pub rows: Vec<Vec<Cell>>,
}

#[derive(Default)]
pub struct Cell {
    pub text: String,
    /// The code in it.
    pub code: Vec<String>,
}

/// A document that is being read.
#[derive(Default)]
struct Reading {
    document: Document,
    /// How often a heading has had this text.
    repeats: BTreeMap<String, usize>,
    heading: Option<String>,
    cell: Option<Cell>,
    is_fenced: bool,
}

impl Document {
    pub fn new(path: &str, source: &str) -> Self {
        let mut reading = Reading::default();
        reading.document.path = path.to_owned();
        for (event, at) in Parser::new_ext(source, Options::ENABLE_TABLES).into_offset_iter() {
            reading.take(event, 1 + source[..at.start].matches('\n').count());
        }
        reading.document
    }

    /// All Markdown files of the package, the front page first, and the documentation of the crate.
    pub fn read_all() -> Vec<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut paths = vec!["README.md".to_owned()];
        for folder in ["deploy", "src", "tests"] {
            paths_below(root, folder, &mut paths);
        }
        let text = |path: &str| {
            std::fs::read_to_string(root.join(path)).expect("documents and sources are UTF-8")
        };
        let read = paths.iter().map(|path| Self::new(path, &text(path)));
        // Other lines become blank ones, so that lines keep their numbers.
        let of_crate = text(CRATE).lines().map(documented).collect::<Vec<_>>().join("\n");
        read.chain([Self::new(CRATE, &of_crate)]).collect()
    }

    /// The table whose header begins with this, the header itself left out.
    #[track_caller]
    pub fn table(&self, header: &str) -> &[Vec<Cell>] {
        let is_it = |table: &&Table| table.rows[0][0].text == header;
        let table = self.tables.iter().find(is_it);
        &table.unwrap_or_else(|| panic!("no table of {header:?} in {}", self.path)).rows[1..]
    }
}

impl Reading {
    fn take(&mut self, event: Event<'_>, line: usize) {
        let Document { links, spans, fences, tables, .. } = &mut self.document;
        match event {
            Event::Start(Tag::Heading { .. }) => self.heading = Some(String::new()),
            Event::End(TagEnd::Heading(_)) => self.end_heading(),
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                links.push(Text { line, text: dest_url.to_string() });
            }
            Event::Start(Tag::CodeBlock(kind)) => {
                let language = match kind {
                    CodeBlockKind::Fenced(language) => language.to_string(),
                    CodeBlockKind::Indented => String::new(),
                };
                fences.push(Fence { line, language, lines: Vec::new() });
                self.is_fenced = true;
            }
            Event::End(TagEnd::CodeBlock) => self.is_fenced = false,
            Event::Start(Tag::Table(_)) => tables.push(Table::default()),
            Event::Start(Tag::TableHead | Tag::TableRow) => {
                tables.last_mut().expect("it began").rows.push(Vec::new());
            }
            Event::Start(Tag::TableCell) => self.cell = Some(Cell::default()),
            Event::End(TagEnd::TableCell) => {
                let rows = &mut tables.last_mut().expect("it began").rows;
                rows.last_mut().expect("it began").extend(self.cell.take());
            }
            Event::Text(text) if self.is_fenced => {
                let lines = (line..).zip(text.lines()).filter(|(_, text)| !text.is_empty());
                let lines = lines.map(|(line, text)| Text { line, text: text.to_owned() });
                fences.last_mut().expect("it began").lines.extend(lines);
            }
            Event::Text(text) => self.write(&text),
            Event::Code(text) => {
                spans.push(Text { line, text: text.to_string() });
                if let Some(cell) = &mut self.cell {
                    cell.code.push(text.to_string());
                }
                self.write(&text);
            }
            _ => {}
        }
    }

    fn write(&mut self, text: &str) {
        let cell = self.cell.as_mut().map(|cell| &mut cell.text);
        if let Some(open) = self.heading.as_mut().or(cell) {
            open.push_str(text);
        }
    }

    fn end_heading(&mut self) {
        let anchor = anchor(&self.heading.take().expect("it began"));
        let repeats = self.repeats.entry(anchor.clone()).or_default();
        self.document.anchors.insert(match *repeats {
            0 => anchor,
            repeats => format!("{anchor}-{repeats}"),
        });
        *repeats += 1;
    }
}

/// What a line of the source says in the documentation of its module.
fn documented(line: &str) -> &str {
    let text = line.strip_prefix("//!").unwrap_or_default();
    text.strip_prefix(' ').unwrap_or(text)
}

fn anchor(heading: &str) -> String {
    let is_kept = |letter: &char| letter.is_alphanumeric() || " -_".contains(*letter);
    let kept = heading.chars().filter(is_kept).flat_map(char::to_lowercase);
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

fn paths_below(root: &Path, folder: &str, paths: &mut Vec<String>) {
    for entry in std::fs::read_dir(root.join(folder)).expect("the package has this folder") {
        let entry = entry.expect("a readable folder");
        let path = format!("{folder}/{}", entry.file_name().to_str().expect("names are UTF-8"));
        if entry.file_type().expect("a readable folder").is_dir() {
            paths_below(root, &path, paths);
        } else if path.ends_with(".md") {
            paths.push(path);
        }
    }
}

#[test]
fn a_document_is_cut_into_what_is_checked() {
    let source = "\
# Memory: what `x` bounds

## Twice

[a](b.md#c) and `code`

## Twice

```sh
make run

make test # all
```

| key | default |
|---|---|
| `a`, `b` | c |

`behind`
";
    let document = Document::new("x.md", source);
    let anchors: Vec<&str> = document.anchors.iter().map(String::as_str).collect();
    assert_eq!(anchors, ["memory-what-x-bounds", "twice", "twice-1"]);
    assert_eq!(document.links, [Text { line: 5, text: "b.md#c".into() }]);
    let spans: Vec<&str> = document.spans.iter().map(|span| span.text.as_str()).collect();
    assert_eq!(spans, ["x", "code", "a", "b", "behind"]);
    let [fence] = &document.fences[..] else { panic!("one fence") };
    let lines: Vec<(usize, &str)> =
        fence.lines.iter().map(|line| (line.line, line.text.as_str())).collect();
    assert_eq!((fence.language.as_str(), fence.line), ("sh", 9));
    assert_eq!(lines, [(10, "make run"), (12, "make test # all")]);
    let [row] = document.table("key") else { panic!("one row") };
    assert_eq!((&row[0].code[..], row[1].text.as_str()), (&["a".into(), "b".into()][..], "c"));
}
