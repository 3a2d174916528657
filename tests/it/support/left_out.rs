//! Tests that cannot be run here say so by name.

use std::io::Write;

/// Says that the test of this thread is left out, and why. The harness keeps what a test prints to
/// itself; this it does not see.
pub fn say(why: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    writeln!(std::io::stderr(), "left out: {test}: {why}").expect("written");
}
