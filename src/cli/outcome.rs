//! The outcome of a command, and what a command says to the person at the terminal.

use std::io::Write;

use crate::config::Config;

/// Why a command ends other than with 0, by the exit code it ends with.
#[derive(Debug)]
pub enum Failure {
    /// The arguments or the configuration: starting again as it is cannot help.
    Usage(anyhow::Error),
    Runtime(anyhow::Error),
}

pub type Outcome = Result<(), Failure>;

/// An error with its causes, outermost first. A cause that an error quotes is not said again.
pub fn told(error: &anyhow::Error) -> String {
    let mut told = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !told.contains(&cause) {
            told.push_str(": ");
            told.push_str(&cause);
        }
    }
    told
}

/// What may not be meant, a line each on stderr.
pub fn say_warnings(config: &Config) {
    for warning in config.warnings() {
        say(&format!("blockcast: warning: {warning}"));
    }
}

/// A line on stderr for the person at the terminal; lost if stderr is closed.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Runtime(error)
    }
}

/// Chance for a wait of a command: half of it to all. A person is watching, so never none.
pub fn half_jitter() -> f64 {
    1.0 - fastrand::f64() / 2.0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::backoff::Backoff;

    #[test]
    fn a_commands_waits_grow_to_a_bound_and_are_never_none() {
        const FIRST: Duration = Duration::from_millis(250);
        const LONGEST: Duration = Duration::from_secs(15);
        let mut backoff = Backoff::default();
        let mut next_wait = || backoff.next(half_jitter());
        assert!(next_wait() <= FIRST);
        for _ in 0..100 {
            let wait = next_wait();
            assert!(FIRST <= wait && wait <= LONGEST, "{wait:?}");
        }
        assert!(next_wait() >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.next(half_jitter()) <= FIRST);
    }

    #[test]
    fn a_cause_is_told_once_whether_or_not_it_is_quoted() {
        let error = anyhow::anyhow!("no route").context("cannot connect").context("cannot start");
        assert_eq!(told(&error), "cannot start: cannot connect: no route");
        let error = anyhow::anyhow!("no route").context("cannot connect: no route");
        assert_eq!(told(&error), "cannot connect: no route");
    }
}
