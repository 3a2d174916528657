//! An object's keys, compared as they stand in the text, so that a key that nobody reads may hold
//! anything that JSON allows, a lone surrogate too.

use std::borrow::Cow;

use serde::de::{DeserializeSeed, Error, MapAccess};
use serde_json::value::RawValue;

/// A key's name; empty for one that is no text, which is none of ours.
pub(super) struct Key<'de>(Cow<'de, str>);

impl<'de> Key<'de> {
    /// The next key of an object, or none at its end.
    pub(super) fn next<A: MapAccess<'de>>(object: &mut A) -> Result<Option<Self>, A::Error> {
        Ok(object.next_key::<&RawValue>()?.map(|raw| Self::of(raw.get())))
    }

    pub(super) fn name(&self) -> &str {
        &self.0
    }

    fn of(raw: &'de str) -> Self {
        let inner = raw.get(1..raw.len() - 1).expect("bug: a key without quotes");
        // A loop, since keys are shorter than what a search is made for.
        match inner.bytes().fold(false, |found, byte| found | (byte == b'\\')) {
            false => Self(Cow::Borrowed(inner)),
            true => Self(Cow::Owned(serde_json::from_str(raw).unwrap_or_default())),
        }
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
