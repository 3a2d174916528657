//! Places of a transaction where any shape passes and one is read.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::key::KeyReading;

/// What is read in a place; every shape that is not taken up is passed over.
pub(super) trait LenientPlace<'de>: Sized {
    type Found: Default;

    fn text(self, _text: Cow<'de, str>) -> Self::Found {
        Self::Found::default()
    }

    fn list<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Found, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Self::Found::default())
    }

    fn object<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Found, A::Error> {
        while KeyReading::Raw.next(&mut object)?.is_some() {
            object.next_value::<IgnoredAny>()?;
        }
        Ok(Self::Found::default())
    }

    fn null(self) -> Self::Found {
        Self::Found::default()
    }
}

/// Reads a place with serde.
pub(super) struct Lenient<P>(pub P);

/// A string, if it is one.
pub(super) struct LenientText;

impl<'de> LenientPlace<'de> for LenientText {
    type Found = Option<Cow<'de, str>>;

    fn text(self, text: Cow<'de, str>) -> Self::Found {
        Some(text)
    }
}

impl<'de, P: LenientPlace<'de>> DeserializeSeed<'de> for Lenient<P> {
    type Value = P::Found;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<P::Found, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, P: LenientPlace<'de>> Visitor<'de> for Lenient<P> {
    type Value = P::Found;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<P::Found, E> {
        Ok(self.0.text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<P::Found, E> {
        Ok(self.0.text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<P::Found, A::Error> {
        self.0.list(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<P::Found, A::Error> {
        self.0.object(object)
    }

    fn visit_unit<E: Error>(self) -> Result<P::Found, E> {
        Ok(self.0.null())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<P::Found, E> {
        Ok(P::Found::default())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<P::Found, E> {
        Ok(P::Found::default())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<P::Found, E> {
        Ok(P::Found::default())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<P::Found, E> {
        Ok(P::Found::default())
    }
}
