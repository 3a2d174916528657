//! An object's keys. One that nobody reads may hold anything that JSON allows, a lone surrogate too,
//! which is no text.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer;
use serde::de::{Deserialize, DeserializeSeed, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

/// How keys are read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum KeyReading {
    /// As text: the whole block is then read a fifth faster. A key that is no text is an error.
    Text,
    /// As they stand in the message: any key passes.
    Raw,
}

/// A key's text; empty for one that is none, which is not ours.
pub(super) struct ObjectKey<'de>(Cow<'de, str>);

impl KeyReading {
    /// The next key of an object, or none at its end.
    pub(super) fn next<'de, A: MapAccess<'de>>(
        self,
        object: &mut A,
    ) -> Result<Option<ObjectKey<'de>>, A::Error> {
        object.next_key_seed(self)
    }
}

impl<'de> ObjectKey<'de> {
    pub(super) fn name(&self) -> &str {
        &self.0
    }

    fn of_raw(raw: &'de str) -> Self {
        let inner = raw.get(1..raw.len() - 1).expect("bug: a key without quotes");
        match inner.as_bytes().contains(&b'\\') {
            false => Self(Cow::Borrowed(inner)),
            true => Self(Cow::Owned(serde_json::from_str(raw).unwrap_or_default())),
        }
    }
}

impl<'de> DeserializeSeed<'de> for KeyReading {
    type Value = ObjectKey<'de>;

    fn deserialize<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<ObjectKey<'de>, D::Error> {
        match self {
            KeyReading::Text => deserializer.deserialize_str(self),
            KeyReading::Raw => Ok(ObjectKey::of_raw(<&RawValue>::deserialize(deserializer)?.get())),
        }
    }
}

impl<'de> Visitor<'de> for KeyReading {
    type Value = ObjectKey<'de>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<ObjectKey<'de>, E> {
        Ok(ObjectKey(Cow::Borrowed(name)))
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<ObjectKey<'de>, E> {
        Ok(ObjectKey(Cow::Owned(name.to_owned())))
    }
}

/// Reads `key`'s value, once: which of two to believe is not ours to say.
pub(super) fn read_once<'de, A, S>(
    object: &mut A,
    key: &'static str,
    read: &mut Option<S::Value>,
    seed: S,
) -> Result<(), A::Error>
where
    A: MapAccess<'de>,
    S: DeserializeSeed<'de>,
{
    if read.is_some() {
        return Err(A::Error::custom(format_args!("the key `{key}` is given twice")));
    }
    *read = Some(object.next_value_seed(seed)?);
    Ok(())
}
