//! Lays the sources over one another: defaults, file, environment, flags.

use std::collections::BTreeMap;
use std::path::Path;

use config::{File, FileFormat};

use super::Config;
use super::FILE_BYTES_MAX;
use super::brokers::Brokers;
use super::environment::overrides;
use super::error::ConfigError;
use super::keys::{ARGUMENTS, Keys, Kind, Layers, Rank, flatten, known_keys};
use crate::{secret, small_file};

/// Behind this the library quotes a text without marks.
const VARIANT: &str = "does not have variant constructor ";
/// Where secrets, and files of secrets, are configured.
const SECRET_SECTIONS: [&str; 4] = ["amqp.uris", "amqp.tls", "server.tls", "server.auth"];

impl Config {
    /// Reads all layers and checks the outcome. Reads the file, and that of URIs; connects to nothing.
    ///
    /// # Errors
    /// Each names the key, the value and the place it came from; the process should end with 64.
    pub fn load(layers: &Layers) -> Result<Self, ConfigError> {
        let known = known_keys();
        let mut builder = config::Config::builder();
        let mut typed = Vec::new();
        let mut brokers = Brokers::default();
        if let Some(path) = &layers.file {
            let text = small_file::read_text(path, FILE_BYTES_MAX)
                .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
            let table: toml::Table = text.parse().map_err(|error| not_toml(path, &text, &error))?;
            let table = toml::Value::Table(table);
            let mut keys = BTreeMap::new();
            flatten("", &table, &mut keys);
            for (key, kind) in &keys {
                check_known(key, &known, &path.display().to_string())?;
                if known.get(key) == Some(&Kind::List) && *kind != Kind::List {
                    return Err(ConfigError::NotAList { key: key.clone(), path: path.clone() });
                }
            }
            brokers.note(&keys, Rank::File);
            collect(&table, &mut typed);
            builder = builder.add_source(File::from_str(&text, FileFormat::Toml));
        }
        for set in overrides(layers, &known) {
            check_known(&set.key, &known, &set.place)?;
            brokers.note(&BTreeMap::from([(set.key.clone(), Kind::Single)]), set.rank);
            let value = set.value(&known);
            let outcome = builder.set_override(&set.key, value);
            // Only for how the key is written, which the library quotes.
            builder = outcome.map_err(|_| ConfigError::NoKey {
                key: secret::masked(&set.key),
                place: set.place,
            })?;
            typed.extend([set.key, set.text]);
        }
        let built = builder.build().and_then(config::Config::try_deserialize);
        let mut config: Self = built.map_err(|error| bad_value(&error, &typed))?;
        brokers.settle(&mut config)?;
        config.check()?;
        Ok(config)
    }

    /// The whole configuration as TOML, secrets masked.
    pub fn to_toml(&self) -> String {
        const BUG: &str = "bug: every configuration value has a TOML form";
        let mut table = toml::Table::try_from(self).expect(BUG);
        let amqp = table.get_mut("amqp").and_then(toml::Value::as_table_mut).expect(BUG);
        let uris = amqp.remove("uris").expect(BUG);
        let mut printed = toml::Value::Table(table);
        let has_masked = mask(&mut printed);
        let from_file = match &self.amqp.uris_file {
            // In the order of the sections, as people know it.
            None if !has_masked => return toml::to_string(self).expect(BUG),
            None => {
                printed["amqp"].as_table_mut().expect(BUG).insert("uris".into(), uris);
                String::new()
            }
            Some(path) => {
                let uris = self.amqp.uris.iter();
                uris.map(|uri| format!("# {}: {uri}\n", path.display())).collect()
            }
        };
        format!("{from_file}{}", toml::to_string(&printed).expect(BUG))
    }
}

fn check_known(key: &str, known: &Keys, place: &str) -> Result<(), ConfigError> {
    let is_argument =
        key.strip_prefix(ARGUMENTS).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let is_section =
        known.keys().any(|name| name.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')));
    if known.contains_key(key) || is_argument || is_section {
        return Ok(());
    }
    let nearest = known
        .keys()
        .map(|name| (strsim::normalized_damerau_levenshtein(key, name), name))
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .filter(|(likeness, _)| *likeness > 0.5)
        .map(|(_, name)| name.clone());
    Err(ConfigError::UnknownKey { key: secret::masked(key), place: place.to_owned(), nearest })
}

/// All texts of a file and the names of its keys, so that none that may be a secret is quoted.
fn collect(value: &toml::Value, texts: &mut Vec<String>) {
    match value {
        toml::Value::String(text) => texts.push(text.clone()),
        toml::Value::Array(items) => items.iter().for_each(|item| collect(item, texts)),
        toml::Value::Table(table) => table.iter().for_each(|(name, item)| {
            texts.push(name.clone());
            collect(item, texts);
        }),
        _ => {}
    }
}

/// Masks what stands where no secret belongs and looks like one; returns whether there is any.
fn mask(value: &mut toml::Value) -> bool {
    match value {
        toml::Value::String(text) if secret::is_likely(text) => {
            *text = secret::masked(text);
            true
        }
        toml::Value::Array(items) => items.iter_mut().fold(false, |has, item| mask(item) | has),
        toml::Value::Table(table) => {
            table.iter_mut().fold(false, |has, (_, item)| mask(item) | has)
        }
        _ => false,
    }
}

fn bad_value(error: &config::ConfigError, typed: &[String]) -> ConfigError {
    let message = error.to_string();
    let (quoting, place) = message.split_at(message.rfind(" for key `").unwrap_or(message.len()));
    // The environment's commas may have cut an address in pieces, and one of them be quoted.
    let is_cut = |text: &&String| text.contains(',') && secret::masked(text) != **text;
    let quotes = |piece: &str| piece.len() > 2 && quoting.contains(piece.trim());
    if typed.iter().filter(is_cut).any(|text| text.split(',').any(quotes)) {
        return ConfigError::BadValue(format!("an item of a list{place}"));
    }
    if SECRET_SECTIONS.iter().any(|key| place.starts_with(&format!(" for key `{key}"))) {
        return ConfigError::BadValue(format!("{}{place}", unquoted(quoting, typed)));
    }
    ConfigError::BadValue(secret::concealed(message, typed.iter().map(String::as_str)))
}

/// The library's words without any text of the configuration: a bare token looks like anything.
fn unquoted(said: &str, typed: &[String]) -> String {
    let (before, variant) =
        said.split_at(said.find(VARIANT).map_or(said.len(), |at| at + VARIANT.len()));
    let quotes = typed.iter().flat_map(|text| [format!("{text:?}"), format!("`{text}`")]);
    let before = quotes.fold(before.to_owned(), |said, quoted| said.replace(&quoted, "***"));
    format!("{before}{}", if variant.is_empty() { "" } else { "***" })
}

fn not_toml(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let at = error.span().map_or(0, |span| span.start);
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    ConfigError::NotToml {
        path: path.to_owned(),
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        message: error.message().to_owned(),
    }
}

#[cfg(test)]
mod tests;
