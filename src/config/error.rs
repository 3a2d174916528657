//! Why a configuration cannot be used. No text of it is quoted that may hold a password.

use std::path::PathBuf;

use thiserror::Error;

use super::{Rank, UriError};
use crate::file_name::UnreadableFile;

/// Each names the key, the value or its place, and the way out: the person mends the configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {path}: {source}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// Without the line itself, which may hold a password.
    #[error("{path} is not TOML: line {line}, column {column}: {message}")]
    NotToml { path: PathBuf, line: usize, column: usize, message: String },
    #[error("unknown key `{key}` in {place}{}", nearest.as_ref().map(|key| format!("; did you mean `{key}`?")).unwrap_or_default())]
    UnknownKey { key: String, place: String, nearest: Option<String> },
    #[error("`{key}` in {place} cannot be a key: write names with a dot between each two")]
    NoKey { key: String, place: String },
    /// With what may be a secret masked, so that the library's own error is not kept.
    #[error("bad value: {0}")]
    BadValue(String),
    #[error("`{key}` in {path} is no list of texts: write {name} = [\"...\"]", name = key.rsplit('.').next().unwrap_or(key))]
    NotAList { key: String, path: PathBuf },
    /// The URI by its place: it is not printed, since it holds a password.
    #[error("{place}: {source}")]
    Uri { place: String, source: UriError },
    #[error("amqp.uris_file: {0}")]
    UnreadableUrisFile(UnreadableFile),
    #[error("amqp.uris_file {path} holds no URI: write one per line")]
    NoUri { path: PathBuf },
    #[error("`amqp.uris` and `amqp.uris_file` are both set in {0}: leave one out")]
    BothUris(Rank),
    #[error("`{key}` is {value}: {way_out}")]
    OutOfBounds { key: &'static str, value: String, way_out: &'static str },
}
