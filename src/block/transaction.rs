//! A block's transactions, read straight into [`FieldsBuilder`]: no tree, and no copy but that one.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::config::Dialect;

use super::fields::{FieldsBuilder, Tag};
use super::key::{Keys, read_once};
use super::lenient::{Lenient, Place, Text};

/// Reads `transactions`: a list, or null for none.
pub(super) struct Transactions<'a> {
    pub fields: &'a mut FieldsBuilder,
    pub dialect: Dialect,
    pub keys: Keys,
    /// Where the reading is, for an error's text; none outside of a transaction.
    pub key: &'a mut Option<&'static str>,
}

/// One transaction's object.
struct Transaction<'a, 'b>(&'a mut Transactions<'b>);

/// A transaction's id: text, not empty.
struct Id;

/// `asset`, an element of `assets`: its `id`.
struct Asset(Keys);

/// Planetmint's `assets`: a record for each. Of a transaction in version 2.0 its API gives one alone
/// (Planetmint 2.5.3), which counts as a list of one.
struct Assets<'a>(&'a mut FieldsBuilder, Keys);

/// `inputs`, `outputs`: of every object in the list, the texts in the list `key`.
struct Owners<'a> {
    fields: &'a mut FieldsBuilder,
    keys: Keys,
    key: &'static str,
    tag: Tag,
}

struct Owner<'a, 'b>(&'a mut Owners<'b>);

struct Texts<'a> {
    fields: &'a mut FieldsBuilder,
    tag: Tag,
}

/// What `assets` was.
#[derive(Default, PartialEq)]
enum Listed {
    #[default]
    OtherShape,
    Null,
    List,
}

impl<'de> DeserializeSeed<'de> for Transactions<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Transactions<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list of transactions, or null")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        *self.key = Some("");
        while list.next_element_seed(Transaction(&mut self))?.is_some() {
            *self.key = Some("");
        }
        *self.key = None;
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Transaction<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Transaction<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a transaction's object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        let Transactions { fields, dialect, keys, key: at } = self.0;
        let keys = *keys;
        let (mut id, mut operation, mut asset, mut assets) = (None, None, None, None);
        let (mut inputs, mut outputs) = (None, None);
        while let Some(key) = keys.next(&mut object)? {
            match (key.name(), *dialect) {
                ("id", _) => {
                    **at = Some("id");
                    read_once(&mut object, "id", &mut id, Id)?;
                }
                ("operation", _) => {
                    **at = Some("operation");
                    read_once(&mut object, "operation", &mut operation, Lenient(Text))?;
                    if let Some(Some(operation)) = &operation {
                        fields.add(Tag::Operation, operation);
                    }
                }
                ("asset", _) => {
                    **at = Some("asset");
                    read_once(&mut object, "asset", &mut asset, Lenient(Asset(keys)))?;
                }
                ("assets", Dialect::Planetmint) => {
                    **at = Some("assets");
                    let list = Lenient(Assets(fields, keys));
                    read_once(&mut object, "assets", &mut assets, list)?;
                }
                ("inputs", _) => {
                    **at = Some("inputs");
                    let owners =
                        Owners { fields, keys, key: "owners_before", tag: Tag::OwnerBefore };
                    read_once(&mut object, "inputs", &mut inputs, Lenient(owners))?;
                }
                ("outputs", _) => {
                    **at = Some("outputs");
                    let owners = Owners { fields, keys, key: "public_keys", tag: Tag::PublicKey };
                    read_once(&mut object, "outputs", &mut outputs, Lenient(owners))?;
                }
                _ => drop(object.next_value::<IgnoredAny>()?),
            }
        }
        **at = Some("id");
        let id = id.ok_or_else(|| A::Error::missing_field("id"))?;
        match (assets.unwrap_or(Listed::Null), asset.flatten()) {
            (Listed::List, _) => {}
            (Listed::Null, Some(asset_id)) if asset_id != id => fields.add(Tag::AssetId, &asset_id),
            (Listed::Null | Listed::OtherShape, _) => fields.add(Tag::OwnAssetId, ""),
        }
        fields.end_transaction(&id);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Id {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Id {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a transaction's id, which is not empty")
    }

    fn visit_borrowed_str<E: Error>(self, id: &'de str) -> Result<Self::Value, E> {
        match id.is_empty() {
            true => Err(E::invalid_value(serde::de::Unexpected::Str(id), &self)),
            false => Ok(Cow::Borrowed(id)),
        }
    }

    fn visit_str<E: Error>(self, id: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(id.to_owned()))
    }
}

impl<'de> Place<'de> for Asset {
    type Found = Option<Cow<'de, str>>;

    fn object<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Found, A::Error> {
        let mut id = None;
        while let Some(key) = self.0.next(&mut object)? {
            match key.name() {
                "id" => read_once(&mut object, "id", &mut id, Lenient(Text))?,
                _ => drop(object.next_value::<IgnoredAny>()?),
            }
        }
        Ok(id.flatten())
    }
}

impl<'de> Place<'de> for Assets<'_> {
    type Found = Listed;

    fn list<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Listed, A::Error> {
        while let Some(id) = list.next_element_seed(Lenient(Asset(self.1)))? {
            self.add(id);
        }
        Ok(Listed::List)
    }

    fn object<A: MapAccess<'de>>(mut self, object: A) -> Result<Listed, A::Error> {
        let id = Asset(self.1).object(object)?;
        self.add(id);
        Ok(Listed::List)
    }

    fn null(self) -> Listed {
        Listed::Null
    }
}

impl Assets<'_> {
    fn add(&mut self, id: Option<Cow<'_, str>>) {
        match id {
            Some(id) => self.0.add(Tag::AssetId, &id),
            None => self.0.add(Tag::OwnAssetId, ""),
        }
    }
}

impl<'de> Place<'de> for Owners<'_> {
    type Found = ();

    fn list<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Lenient(Owner(&mut self)))?.is_some() {}
        Ok(())
    }
}

impl<'de> Place<'de> for Owner<'_, '_> {
    type Found = ();

    fn object<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        let mut read = None;
        while let Some(key) = self.0.keys.next(&mut object)? {
            if key.name() == self.0.key {
                let texts = Texts { fields: self.0.fields, tag: self.0.tag };
                read_once(&mut object, self.0.key, &mut read, Lenient(texts))?;
            } else {
                object.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

impl<'de> Place<'de> for Texts<'_> {
    type Found = ();

    fn list<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(text) = list.next_element_seed(Lenient(Text))? {
            if let Some(text) = text {
                self.fields.add(self.tag, &text);
            }
        }
        Ok(())
    }
}
