//! The forms that single values take in a file, in the environment and in `check`'s print-out.
//!
//! The forms are written here and not taken from `humantime-serde` and `serde_with`: the errors of those
//! leave out the value, the reason and an example of what would be right.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::file_name;

/// How long a block waits for a missing height before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    For(Duration),
    Forever,
}

/// A value of the broker's own arguments table.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Argument {
    Boolean(bool),
    Integer(i64),
    Text(String),
}

impl Argument {
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Boolean(_) | Self::Integer(_) => None,
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::For(time) => humantime::format_duration(*time).fmt(f),
            Self::Forever => f.write_str("\"forever\""),
        }
    }
}

impl Serialize for Hold {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::For(time) => duration::serialize(time, serializer),
            Self::Forever => serializer.serialize_str("forever"),
        }
    }
}

impl<'de> Deserialize<'de> for Hold {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "forever" => Ok(Self::Forever),
            text => duration::parse(text).map(Self::For).map_err(D::Error::custom),
        }
    }
}

/// A duration as people write it: `500ms`, `10s`, `1d`; `0s` is zero.
pub mod duration {
    use super::*;

    pub fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*time))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).map_err(D::Error::custom)
    }

    pub fn parse(text: &str) -> Result<Duration, String> {
        humantime::parse_duration(text).map_err(|error| {
            format!("{text:?} is not a duration such as \"10s\" or \"500ms\": {error}")
        })
    }
}

/// A number of bytes as people write it: `64 KiB`, `20 MB`; printed exactly, unlike `ByteSize`'s own.
pub mod size {
    use super::*;
    use bytesize::ByteSize;

    const UNITS: [(u64, &str); 6] = [
        (1 << 30, "GiB"),
        (1_000_000_000, "GB"),
        (1 << 20, "MiB"),
        (1_000_000, "MB"),
        (1 << 10, "KiB"),
        (1_000, "kB"),
    ];

    pub fn serialize<S: Serializer>(size: &ByteSize, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = size.as_u64();
        let exact = UNITS.iter().find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit));
        match exact {
            Some((unit, name)) => serializer.collect_str(&format_args!("{} {name}", bytes / unit)),
            None => serializer.collect_str(&format_args!("{bytes} B")),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| {
            D::Error::custom(format!("{text:?} is not a size such as \"64 KiB\" or \"20 MB\""))
        })
    }
}

/// A value that may be absent, which an empty string says.
pub mod optional {
    use super::*;

    /// A type that is written as a string.
    pub trait Text: Sized {
        fn to_text(&self) -> String;
        fn from_text(text: &str) -> Result<Self, String>;
    }

    impl Text for std::path::PathBuf {
        fn to_text(&self) -> String {
            file_name::shown(self)
        }
        fn from_text(text: &str) -> Result<Self, String> {
            // What is in a file may be a secret, and an address may have one.
            let is_content = text.contains(['\n', '\0']) || text.trim_start().starts_with('{');
            match is_content || text.contains("-----BEGIN") || text.contains("://") {
                true => Err("write the path of a file, not what is in it, nor a URL".to_owned()),
                false => Ok(text.into()),
            }
        }
    }

    macro_rules! text_by_from_str {
        ($($type:ty),*) => {$(
            impl Text for $type {
                fn to_text(&self) -> String {
                    self.to_string()
                }
                fn from_text(text: &str) -> Result<Self, String> {
                    <$type>::from_str(text).map_err(|error| format!("{text:?}: {error}"))
                }
            }
        )*};
    }
    text_by_from_str!(String, u16, crate::config::listen::Listen);

    pub fn serialize<T: Text, S: Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&value.as_ref().map(Text::to_text).unwrap_or_default())
    }

    pub fn deserialize<'de, T: Text, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<T>, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "" => Ok(None),
            text => T::from_text(text).map(Some).map_err(D::Error::custom),
        }
    }
}
