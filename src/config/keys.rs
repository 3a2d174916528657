//! The keys there are, and the layers that set them. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::Config;

/// The one table whose keys are the broker's, not ours.
pub(super) const ARGUMENTS: &str = "amqp.queue.arguments";

/// What to read, lowest first; the defaults lie under all of it.
#[derive(Default)]
pub struct Layers {
    pub file: Option<PathBuf>,
    /// Names and values, such as [`std::env::vars`] yields.
    pub environment: Vec<(String, String)>,
    /// `section.key` and value.
    pub flags: Vec<(String, String)>,
}

/// A layer; the later wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    File,
    Environment,
    Flags,
}

/// What form a key's value has, as far as the layers must know.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Single,
    /// Of texts.
    List,
}

pub(super) type Keys = BTreeMap<String, Kind>;

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "the configuration file",
            Self::Environment => "the environment",
            Self::Flags => "the command line",
        })
    }
}

/// All of them, with the form of their defaults.
pub(super) fn known_keys() -> Keys {
    let defaults = toml::Value::try_from(Config::default())
        .expect("bug: every configuration value has a TOML form");
    let mut keys = BTreeMap::new();
    flatten("", &defaults, &mut keys);
    keys
}

/// The keys of a table, those of its tables with a dot.
pub(super) fn flatten(prefix: &str, value: &toml::Value, keys: &mut Keys) {
    match value {
        toml::Value::Table(table) if !table.is_empty() => {
            for (name, value) in table {
                let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                flatten(&key, value, keys);
            }
        }
        toml::Value::Array(items) if items.iter().all(toml::Value::is_str) => {
            keys.insert(prefix.to_owned(), Kind::List);
        }
        _ => {
            keys.insert(prefix.to_owned(), Kind::Single);
        }
    }
}
