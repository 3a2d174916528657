//! The parameters that filter events: their names, and the values that a transaction can have.

use std::fmt;

use super::position::ID_DIGITS;
use crate::secret;

/// Values of one filter in all: each costs a look-up in every block.
const VALUES_MAX: usize = 100;
/// An Ed25519 key of 32 bytes in base58; fewer characters would have to begin with zero bytes.
const KEY_CHARS: std::ops::RangeInclusive<usize> = 43..=44;
/// Far above any operation there is, so that new ones pass.
const OPERATION_CHARS_MAX: usize = 64;

/// What of an event is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FilterName {
    /// Any owner of any output: a public key in base58.
    PublicKey,
    /// Any owner that an input spends from: a public key in base58.
    OwnerBefore,
    /// The event's asset, 64 hex digits; of a CREATE the transaction itself.
    AssetId,
    /// The transaction itself: 64 hex digits.
    TransactionId,
    /// `CREATE`, `TRANSFER`, or what else the chain has.
    Operation,
}

/// One value that events are to have. Of several, those with one name are alternatives, and each
/// name given must agree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FilterParameter {
    name: FilterName,
    value: Box<str>,
}

/// A value that no transaction could have, or one too many.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// No transaction could have this value.
    #[error("`{name}`: {value:?} is not {wanted}")]
    Value {
        /// Of the parameter.
        name: FilterName,
        /// An excerpt of what was written.
        value: String,
        /// What it should look like, in words.
        wanted: &'static str,
    },
    /// One filter's values are bounded.
    #[error("more than {VALUES_MAX} values to filter by; ask for the rest on another connection")]
    TooMany,
}

impl FilterName {
    /// Every one that there is.
    pub const ALL: [Self; 5] =
        [Self::PublicKey, Self::OwnerBefore, Self::AssetId, Self::TransactionId, Self::Operation];

    /// As the URL has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PublicKey => "public_key",
            Self::OwnerBefore => "owner_before",
            Self::AssetId => "asset_id",
            Self::TransactionId => "transaction_id",
            Self::Operation => "operation",
        }
    }

    /// None: no filter is called so.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|filter| filter.as_str() == name)
    }

    /// The value as transactions have it, or what it should look like.
    fn value(self, value: &str) -> Result<String, &'static str> {
        let is_base58 = |byte: u8| byte.is_ascii_alphanumeric() && !b"0OIl".contains(&byte);
        let is_name = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        let all = |is_one: &dyn Fn(u8) -> bool| value.bytes().all(is_one);
        match self {
            Self::PublicKey | Self::OwnerBefore => {
                let is_key = KEY_CHARS.contains(&value.len()) && all(&is_base58);
                is_key.then(|| value.to_owned()).ok_or("a public key, 43 or 44 base58 characters")
            }
            Self::AssetId | Self::TransactionId => {
                let is_id = value.len() == ID_DIGITS && all(&|byte| byte.is_ascii_hexdigit());
                is_id.then(|| value.to_ascii_lowercase()).ok_or("an id, 64 hexadecimal digits")
            }
            Self::Operation => {
                let is_operation =
                    (1..=OPERATION_CHARS_MAX).contains(&value.len()) && all(&is_name);
                is_operation.then(|| value.to_owned()).ok_or("an operation, such as TRANSFER")
            }
        }
    }
}

impl FilterParameter {
    /// # Errors
    /// No transaction could have this value.
    pub fn new(name: FilterName, value: &str) -> Result<Self, FilterError> {
        match name.value(value) {
            Ok(value) => Ok(Self { name, value: value.into() }),
            Err(wanted) => {
                let value = secret::excerpt(value);
                Err(FilterError::Value { name, value, wanted })
            }
        }
    }

    /// What the value is of.
    pub fn name(&self) -> FilterName {
        self.name
    }

    /// As transactions have it.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Adds it to those of one filter.
    ///
    /// # Errors
    /// There are [`VALUES_MAX`] already.
    pub fn add_to(self, filters: &mut Vec<Self>) -> Result<(), FilterError> {
        if filters.len() >= VALUES_MAX {
            return Err(FilterError::TooMany);
        }
        filters.push(self);
        Ok(())
    }
}

impl fmt::Display for FilterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// As it stands in a URL: no value has a character that must be escaped.
impl fmt::Display for FilterParameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALICE: &str = "DJgnirZfikN3zr2pW9yTFM39t8EbTPZ9oSZjf3pRYHEa";

    /// Any value that a filter may have.
    pub fn any_filter() -> impl Strategy<Value = FilterParameter> {
        let value = |name| match name {
            FilterName::PublicKey | FilterName::OwnerBefore => "[1-9A-HJ-NP-Za-km-z]{43,44}",
            FilterName::AssetId | FilterName::TransactionId => "[0-9a-f]{64}",
            FilterName::Operation => "[A-Z0-9_]{1,64}",
        };
        prop::sample::select(&FilterName::ALL).prop_flat_map(move |name| {
            value(name).prop_map(move |value| FilterParameter::new(name, &value).expect("a value"))
        })
    }

    proptest! {
        #[test]
        fn a_filter_is_read_as_it_is_written(filter in any_filter()) {
            let text = filter.to_string();
            let mut pairs = form_urlencoded::parse(text.as_bytes());
            let (name, value) = pairs.next().expect("a parameter");
            let name = FilterName::of(&name).expect("a filter's");
            prop_assert_eq!(FilterParameter::new(name, &value), Ok(filter));
            prop_assert_eq!(pairs.next(), None);
        }
    }

    #[test]
    fn what_no_transaction_could_have_is_refused_by_name() {
        let check = |name: FilterName, value: &str, told: &str| {
            let error = FilterParameter::new(name, value).expect_err(value).to_string();
            assert!(error.contains(name.as_str()) && error.contains(told), "{error}");
        };
        check(FilterName::PublicKey, "", "43 or 44 base58");
        check(FilterName::PublicKey, &ALICE[..42], "43 or 44 base58");
        check(FilterName::OwnerBefore, &ALICE.replace('J', "0"), "43 or 44 base58");
        check(FilterName::OwnerBefore, &ALICE.replace('J', "l"), "43 or 44 base58");
        check(FilterName::AssetId, &"a".repeat(63), "64 hexadecimal");
        check(FilterName::TransactionId, &"g".repeat(64), "64 hexadecimal");
        check(FilterName::Operation, "transfer", "such as TRANSFER");
        check(FilterName::Operation, &"A".repeat(65), "such as TRANSFER");
        let long = "ü".repeat(10_000);
        let error = FilterParameter::new(FilterName::Operation, &long).expect_err("refused");
        assert!(error.to_string().chars().count() < 200, "only a part is quoted");
    }

    #[test]
    fn a_filter_has_room_for_100_values() {
        let mut filters = Vec::new();
        let create = FilterParameter::new(FilterName::Operation, "CREATE").expect("a value");
        for _ in 0..VALUES_MAX {
            create.clone().add_to(&mut filters).expect("room");
        }
        let error = create.add_to(&mut filters).expect_err("full").to_string();
        assert!(error.contains("more than 100 values"), "{error}");
    }
}
