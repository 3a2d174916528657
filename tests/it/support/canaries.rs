//! Secrets with two halves that tests can search for, and what the program says.

use std::io::Write;

use tempfile::NamedTempFile;

use super::program::Program;

/// A secret's two halves, with something between them that some grammar cuts at.
pub const HALVES: [&str; 2] = ["kanari", "vogelx"];

/// As text, and as bytes are printed: by the AMQP library's trace lines, for one.
#[track_caller]
pub fn shows_nothing(said: &str, of: &str) {
    for half in HALVES {
        let numbers: Vec<String> = half.bytes().map(|byte| byte.to_string()).collect();
        let hex: String = half.bytes().map(|byte| format!("{byte:02x}")).collect();
        for form in [half, &numbers.join(", "), &numbers.join(","), &hex] {
            assert!(!said.contains(form), "{form} of {of}: {said}");
        }
    }
}

pub fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("written");
    file
}

/// Runs it to its end, with no broker to be found where it looks for one.
pub async fn said(words: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut program = Program::new(words.iter().copied());
    for (name, value) in environment {
        program = program.env(name, value);
    }
    let ended = program.run().await;
    (ended.status.code(), format!("{}{}", ended.stdout, ended.stderr))
}
