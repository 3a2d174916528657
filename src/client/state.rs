//! The file that remembers a cursor: one line of JSON, replaced as a whole.
//!
//! `{"stream": "/api/v1/streams/valid_transactions?operation=CREATE", "cursor": "42.7"}`. The stream
//! is named by its path and filters, without the server's address: a cursor is good on any replica.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{FilterName, Position, StateError};
use crate::record::RecordFile;
use crate::secret;

const WRITTEN: &str = "{\"stream\": ..., \"cursor\": ...}";

#[derive(Debug)]
pub(super) struct StateFile {
    file: RecordFile,
    stream: String,
    /// What the file says now.
    saved: Option<Position>,
}

#[derive(Serialize, Deserialize)]
struct Content {
    stream: String,
    cursor: String,
}

/// Whether it is a path with no parameters but filters, as this program writes it: whoever changed it may
/// have put a token there.
fn is_stream(text: &str) -> bool {
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let is_filter = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        FilterName::of(name).is_some() && !value.contains(['?', '=', '@'])
    };
    secret::masked(path) == path && query.split('&').filter(|pair| !pair.is_empty()).all(is_filter)
}

impl StateFile {
    /// A file that does not exist yet, or is empty, remembers nothing. That it can be written is proven
    /// here, since a stream may come far before its first cursor is saved.
    pub fn open(path: PathBuf, stream: String) -> Result<Self, StateError> {
        let mut file = RecordFile::new(path.clone());
        let text = match file.read() {
            Ok(text) => text,
            Err(source) => return Err(StateError::Read { path, source }),
        };
        let saved = text.map(|text| remembered(&path, &text, &stream)).transpose()?;
        file.prove().map_err(|source| StateError::Write { path, source })?;
        Ok(Self { file, stream, saved })
    }

    pub fn cursor(&self) -> Option<&Position> {
        self.saved.as_ref()
    }

    /// Writes, unless the file says so already. A crash leaves the old file or the new one.
    pub fn save(&mut self, cursor: &Position) -> Result<(), StateError> {
        if self.saved.as_ref() == Some(cursor) {
            return Ok(());
        }
        let content = Content { stream: self.stream.clone(), cursor: cursor.to_string() };
        let mut line = serde_json::to_string(&content).expect("bug: two strings are JSON");
        line.push('\n');
        self.file
            .write(&line)
            .map_err(|source| StateError::Write { path: self.file.path().into(), source })?;
        self.saved = Some(cursor.clone());
        Ok(())
    }
}

/// The cursor in the text of a state file.
fn remembered(path: &Path, text: &str, stream: &str) -> Result<Position, StateError> {
    let malformed = |why| StateError::Malformed { path: path.into(), why };
    // Without the library's own words, which quote values: another file may hold a secret.
    let content: Content = serde_json::from_str(text).map_err(|error| {
        malformed(format!("line {}, column {}: it is no {WRITTEN}", error.line(), error.column()))
    })?;
    let cursor: Position = content
        .cursor
        .parse()
        .map_err(|_| malformed("its `cursor` is no cursor, such as 42 or 42.7".to_owned()))?;
    if content.stream != stream {
        let found = match is_stream(&content.stream) {
            true => content.stream,
            false => secret::masked(&content.stream),
        };
        let (path, wanted) = (path.into(), stream.to_owned());
        return Err(StateError::OtherStream { path, cursor, found, wanted });
    }
    Ok(cursor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn open(path: &Path, stream: &str) -> Result<StateFile, StateError> {
        StateFile::open(path.to_owned(), stream.to_owned())
    }

    #[test]
    fn what_was_saved_is_remembered_as_one_line() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state");
        let mut state = open(&path, "/x").expect("a new file");
        assert_eq!(state.cursor(), None);
        for cursor in ["42", "42.7"] {
            let cursor = cursor.parse().expect("a cursor");
            state.save(&cursor).expect("saved");
            assert_eq!(open(&path, "/x").expect("opened").cursor(), Some(&cursor));
        }
        let text = fs::read_to_string(&path).expect("read");
        assert_eq!(text, "{\"stream\":\"/x\",\"cursor\":\"42.7\"}\n");
        let files = fs::read_dir(directory.path()).expect("listed").count();
        assert_eq!(files, 1, "nothing is left beside it");
    }

    #[test]
    fn a_file_that_cannot_be_meant_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state");
        for (text, told) in [
            ("{}", "is no state file"),
            ("{\"stream\":\"/x\",\"cursor\":\"hunter\"}", "`cursor` is no cursor"),
            ("\"hunter\"", "line 1, column "),
            ("{\"stream\":[\"hunter\"],\"cursor\":\"42\"}", "is no state file"),
            ("{\"stream\":\"/x?access_token=hunter\",\"cursor\":\"42\"}", "of /x?***, not of /x"),
            ("{\"stream\":\"/x?hunter\",\"cursor\":\"42\"}", "of /x?***, not of /x"),
            ("{\"stream\":\"ws://u:hunter@h/x\",\"cursor\":\"42\"}", "of ws://***@h/x, not"),
            (
                "{\"stream\":\"/x?operation=CREATE\",\"cursor\":\"42\"}",
                "42 of /x?operation=CREATE, not of /x",
            ),
            ("{\"stream\":\"/y\",\"cursor\":\"42\"}", "remembers 42 of /y, not of /x"),
        ] {
            fs::write(&path, text).expect("written");
            let error = open(&path, "/x").expect_err(text).to_string();
            assert!(error.contains(told) && !error.contains("hunter"), "{error}");
        }
        let error = open(directory.path(), "/x").expect_err("a directory").to_string();
        assert!(error.contains("cannot read"), "{error}");
    }

    #[test]
    fn an_empty_file_remembers_nothing() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        assert_eq!(open(file.path(), "/x").expect("opened").cursor(), None);
    }

    #[test]
    fn a_byte_order_mark_before_it_is_skipped() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let text = "\u{feff}{\"stream\":\"/x\",\"cursor\":\"42.7\"}\n";
        fs::write(file.path(), text).expect("written");
        let cursor = "42.7".parse().expect("a cursor");
        assert_eq!(open(file.path(), "/x").expect("opened").cursor(), Some(&cursor));
    }

    #[test]
    fn a_file_that_cannot_be_written_is_refused_with_the_way_out() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("none").join("state");
        let error = open(&path, "/x").expect_err("there is no directory").to_string();
        assert!(error.contains("cannot write") && error.contains("name a file in"), "{error}");
    }

    #[test]
    fn a_failure_to_write_is_told_and_tried_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let place = directory.path().join("sometimes");
        fs::create_dir(&place).expect("made");
        let path = place.join("state");
        let mut state = open(&path, "/x").expect("a new file");
        fs::remove_dir(&place).expect("removed");
        let cursor = Position::after_block(1);
        let error = state.save(&cursor).expect_err("there is no directory").to_string();
        assert!(error.contains("cannot write") && error.contains("name a file in"), "{error}");
        fs::create_dir(&place).expect("made");
        state.save(&cursor).expect("saved");
        assert!(path.exists());
    }
}
