//! The forms that single values take in a file, in the environment and in `check`'s print-out.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A broker's URI, `amqp://user:password@host:port/vhost`. Printed with its password masked.
#[derive(Clone, PartialEq, Eq)]
pub struct AmqpUri(String);

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

impl AmqpUri {
    pub fn new(uri: impl Into<String>) -> Self {
        Self(uri.into())
    }

    /// RabbitMQ on this machine with its stock user, who may only log in from here.
    pub fn local() -> Self {
        Self::new("amqp://guest:guest@127.0.0.1:5672/%2f")
    }

    /// The URI with its credentials. Never for a log, a metric or an answer.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AmqpUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("", &self.0));
        let bare = |place: &str| place.split(['?', '#']).next().unwrap_or("").to_owned();
        // First the credentials, since a password that was not escaped may hold `?` or `#`.
        match rest.rsplit_once('@') {
            Some((credentials, place)) => {
                let place = bare(place);
                let user = credentials.split(':').next().unwrap_or("");
                write!(f, "{scheme}://{user}:***@{place}")
            }
            None => write!(f, "{scheme}://{}", bare(rest)),
        }
    }
}

impl fmt::Debug for AmqpUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for AmqpUri {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AmqpUri {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let uri = String::deserialize(deserializer)?;
        if !uri.starts_with("amqp://") && !uri.starts_with("amqps://") {
            return Err(D::Error::custom("a broker's URI begins with amqp:// or amqps://"));
        }
        Ok(Self(uri))
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
            self.display().to_string()
        }
        fn from_text(text: &str) -> Result<Self, String> {
            Ok(text.into())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_masked_however_the_uri_is_printed() {
        for password in ["s3:cr@et", "s3#cret", "s3?cret", "s3/cret"] {
            is_masked(&AmqpUri::new(format!(
                "amqps://node:{password}@broker:5671/chain?password=x"
            )));
        }
    }

    fn is_masked(uri: &AmqpUri) {
        for print in
            [uri.to_string(), format!("{uri:?}"), serde_json::to_string(&uri).expect("a string")]
        {
            assert!(
                !print.contains("s3") && !print.contains("et@") && !print.contains("password"),
                "{print}"
            );
            assert!(print.contains("amqps://node:***@broker:5671/chain"), "{print}");
        }
    }
}
