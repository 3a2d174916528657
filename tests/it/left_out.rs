//! A word on what a test left out, past the harness, which keeps the output of tests that pass.

use std::io::Write;

/// Names it, with the reason why it cannot be tested here.
pub fn left_out(what: &str, reason: &str) {
    // A closed standard error is no reason to fail.
    let _ = writeln!(std::io::stderr(), "left out, since {reason}: {what}");
}
