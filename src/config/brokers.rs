//! Which brokers are meant: a list of URIs, or a file of them.

use std::path::Path;

use super::error::ConfigError;
use super::keys::{Keys, Rank};
use super::{AmqpUri, Config, FILE_BYTES_MAX};
use crate::file_name::UnreadableFile;
use crate::small_file;

/// Which layer names the brokers: they are a list or a file, and the higher layer wins.
#[derive(Default)]
pub(super) struct Brokers {
    uris: Option<Rank>,
    file: Option<Rank>,
}

impl Brokers {
    /// Notes what a layer sets. Called for the layers from the lowest up.
    pub fn note(&mut self, keys: &Keys, rank: Rank) {
        for (key, place) in [("amqp.uris", &mut self.uris), ("amqp.uris_file", &mut self.file)] {
            if keys.contains_key(key) {
                *place = Some(rank);
            }
        }
    }

    /// Reads the file of URIs, where that is what counts.
    ///
    /// # Errors
    /// One layer sets both, or the file is of no use.
    pub fn settle(&self, config: &mut Config) -> Result<(), ConfigError> {
        let Some(path) = &config.amqp.uris_file else { return Ok(()) };
        match (self.uris, self.file) {
            (Some(uris), Some(file)) if uris == file => Err(ConfigError::BothUris(file)),
            (Some(uris), Some(file)) if uris > file => {
                config.amqp.uris_file = None;
                Ok(())
            }
            _ => {
                config.amqp.uris = uris_of(path)?;
                Ok(())
            }
        }
    }
}

/// A URI per line; blank lines and comments are passed over.
fn uris_of(path: &Path) -> Result<Vec<AmqpUri>, ConfigError> {
    let text = small_file::read_text(path, FILE_BYTES_MAX)
        .map_err(|source| ConfigError::UnreadableUrisFile(UnreadableFile::new(path, source)))?;
    let mut uris = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let uri = AmqpUri::new(line);
        let place = || format!("amqp.uris_file {}, line {}", path.display(), index + 1);
        uri.parse().map_err(|source| ConfigError::Uri { place: place(), source })?;
        uris.push(uri);
    }
    match uris.is_empty() {
        true => Err(ConfigError::NoUri { path: path.to_owned() }),
        false => Ok(uris),
    }
}
