//! Encodings that a client requires of a block beside its plain frames. Plain values.

use crate::frame::Encoding;

const INDEX: u16 = 1 << Encoding::ALL.len();
/// How many there are to require, the index included.
pub(super) const REQUIRED_MAX: usize = Encoding::ALL.len() + 1;

/// A set of encodings, and whether the filters' index is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequiredEncodings(u16);

impl RequiredEncodings {
    pub const NONE: Self = Self(0);
    pub const INDEX: Self = Self(INDEX);

    pub fn of(encoding: Encoding) -> Self {
        Self(1 << encoding.index())
    }

    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    pub fn wants_index(self) -> bool {
        self.0 & INDEX != 0
    }

    pub fn encodings(self) -> impl Iterator<Item = Encoding> {
        Encoding::ALL.into_iter().filter(move |encoding| self.0 & 1 << encoding.index() != 0)
    }

    pub(super) fn bits(self) -> u16 {
        self.0
    }

    pub(super) fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// The places of its members among [`REQUIRED_MAX`].
    pub(super) fn places(self) -> impl Iterator<Item = usize> {
        (0..REQUIRED_MAX).filter(move |place| self.0 & 1 << place != 0)
    }
}
