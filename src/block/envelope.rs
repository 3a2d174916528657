//! The object around the transactions, plain or as the data of BigchainDB's event, its keys in any
//! order.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::config::Dialect;
use crate::metrics::DecodeErrorKind;

use super::error::DecodeError;
use super::fields::FieldsBuilder;
use super::height::{self, Raw};
use super::key::KeyReading;
use super::transaction::Transactions;

/// What an object says at its top level. Which of it counts shows only at its end, so repeats and
/// wrong shapes are kept until then.
#[derive(Default)]
pub(super) struct Envelope<'de> {
    height: Given<'de>,
    hash: Given<'de>,
    kind: Given<'de>,
    data: Given<'de>,
    transactions: Given<'de>,
    /// This object's text, and the byte of all that is read at which it begins.
    at: usize,
    text: &'de str,
}

/// Whether an object is a block or stands around one.
pub(super) enum Marked<'de> {
    Plain,
    /// An event around the block in `data`, which begins at byte `at` of what is read.
    Valid {
        data: &'de str,
        at: usize,
    },
    Invalid,
}

/// A key's values.
#[derive(Default)]
enum Given<'de> {
    #[default]
    Never,
    /// The transactions, which were read at once, are an empty text.
    Once(&'de str),
    Twice,
}

/// Reads an envelope; the transactions into `fields`, or not at all.
struct EnvelopeReader<'a> {
    fields: Option<(&'a mut FieldsBuilder, Dialect)>,
    keys: KeyReading,
    key: &'a mut Option<&'static str>,
}

impl<'de> Envelope<'de> {
    /// Reads `text`, which begins at byte `at` of what is read; its transactions into `fields`, which
    /// must be empty, or, without, not at all.
    pub(super) fn read(
        text: &'de str,
        at: usize,
        mut fields: Option<(&mut FieldsBuilder, Dialect)>,
    ) -> Result<Self, DecodeError> {
        let mut read = |keys| {
            let fields = fields.as_mut().map(|(builder, dialect)| {
                builder.clear();
                (&mut **builder, *dialect)
            });
            Self::read_with(keys, text, at, fields)
        };
        match read(KeyReading::Text) {
            Err(error) if error.kind == DecodeErrorKind::NotJson => read(KeyReading::Raw),
            read => read,
        }
    }

    fn read_with(
        keys: KeyReading,
        text: &'de str,
        at: usize,
        mut fields: Option<(&mut FieldsBuilder, Dialect)>,
    ) -> Result<Self, DecodeError> {
        let mut key = None;
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let fields_again = fields.as_mut().map(|(builder, dialect)| (&mut **builder, *dialect));
        let read = EnvelopeReader { fields: fields_again, keys, key: &mut key }
            .deserialize(&mut deserializer)
            .and_then(|envelope| deserializer.end().map(|()| envelope));
        match read {
            Ok(envelope) => Ok(Envelope { at, text, ..envelope }),
            Err(error) => {
                let index = fields.map_or(0, |(builder, _)| builder.len());
                let place = match key {
                    None => String::new(),
                    Some("") => format!("transaction {index}: "),
                    Some(key) => format!("transaction {index}, key `{key}`: "),
                };
                Err(DecodeError::json(&error, text, at, &place))
            }
        }
    }

    /// Which of the two shapes this is.
    ///
    /// # Errors
    /// Neither.
    pub(super) fn marked(&self) -> Result<Marked<'de>, DecodeError> {
        if !matches!((&self.height, &self.transactions), (Given::Never, Given::Never)) {
            return Ok(Marked::Plain);
        }
        let Some(kind) = self.kind.once("type")? else {
            let what = "neither a block (no `height`, no `transactions`) nor an event (no `type`)";
            return Err(DecodeError::shape(what));
        };
        let name = serde_json::from_str::<String>(kind);
        match (kind, name.as_deref()) {
            ("1", _) | (_, Ok("BLOCK_VALID")) => match self.data.once("data")? {
                Some(data) => Ok(Marked::Valid { data, at: self.byte_of(data) }),
                None => Err(DecodeError::shape("an event without `data`")),
            },
            ("2", _) | (_, Ok("BLOCK_INVALID")) => Ok(Marked::Invalid),
            _ => Err(DecodeError::shape(format!("`type` is not an event's of a block: {kind}"))),
        }
    }

    pub(super) fn height(&self) -> Result<u64, DecodeError> {
        height::parse(self.raw_height()?.text)
    }

    pub(super) fn raw_height(&self) -> Result<Raw<'de>, DecodeError> {
        match self.height {
            Given::Once(text) => Ok(Raw { text, at: self.byte_of(text) }),
            Given::Never => Err(height::bad("no `height`".to_owned())),
            Given::Twice => Err(given_twice("height")),
        }
    }

    pub(super) fn hash(&self) -> Result<Option<Box<str>>, DecodeError> {
        let Some(raw) = self.hash.once("hash")? else { return Ok(None) };
        let place = "key `hash`: ";
        serde_json::from_str(raw)
            .map_err(|error| DecodeError::json(&error, raw, self.byte_of(raw), place))
    }

    pub(super) fn require_transactions(&self) -> Result<(), DecodeError> {
        match self.transactions.once("transactions")? {
            Some(_) => Ok(()),
            None => Err(DecodeError::shape("an object without `transactions` is no block")),
        }
    }

    /// The byte of what is read at which `part`, a slice of this object's text, begins.
    fn byte_of(&self, part: &str) -> usize {
        self.at + (part.as_ptr().addr() - self.text.as_ptr().addr())
    }
}

impl<'de> Given<'de> {
    fn give(&mut self, value: &'de str) {
        *self = match self {
            Given::Never => Given::Once(value),
            Given::Once(_) | Given::Twice => Given::Twice,
        };
    }

    fn once(&self, key: &str) -> Result<Option<&'de str>, DecodeError> {
        match self {
            Given::Never => Ok(None),
            Given::Once(value) => Ok(Some(value)),
            Given::Twice => Err(given_twice(key)),
        }
    }
}

impl<'de> DeserializeSeed<'de> for EnvelopeReader<'_> {
    type Value = Envelope<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for EnvelopeReader<'_> {
    type Value = Envelope<'de>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a block's object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut envelope = Envelope::default();
        while let Some(key) = self.keys.next(&mut object)? {
            let given = match key.name() {
                "height" => &mut envelope.height,
                "hash" => &mut envelope.hash,
                "type" => &mut envelope.kind,
                "data" => &mut envelope.data,
                "transactions" => {
                    envelope.transactions.give("");
                    self.read_transactions(&mut object)?;
                    continue;
                }
                _ => {
                    object.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            given.give(object.next_value::<&RawValue>()?.get());
        }
        Ok(envelope)
    }
}

impl EnvelopeReader<'_> {
    /// Reads them the first time; a second list makes the block bad in the end, so it is skipped.
    fn read_transactions<'de, A: MapAccess<'de>>(
        &mut self,
        object: &mut A,
    ) -> Result<(), A::Error> {
        match self.fields.take() {
            Some((fields, dialect)) => object.next_value_seed(Transactions {
                fields,
                dialect,
                keys: self.keys,
                key: self.key,
            }),
            None => object.next_value::<IgnoredAny>().map(drop),
        }
    }
}

fn given_twice(key: &str) -> DecodeError {
    DecodeError::shape(format!("the key `{key}` is given twice"))
}
