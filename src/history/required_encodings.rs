//! Encodings that a client requires of a block beside its plain frames. Plain values.

use crate::frame::Encoding;

const INDEX_PLACE: usize = Encoding::ALL.len();

/// How many a reader requires of one block: its data, the mark of its end, and the index.
pub(super) const FORMS_TAKEN_MAX: usize = 3;

/// A set of forms of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequiredEncodings(u16);

/// One form of a block beside its plain frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Encoding(Encoding),
    /// What filters look things up in.
    Index,
}

impl Form {
    /// Its place among all.
    pub(super) fn place(self) -> usize {
        match self {
            Self::Encoding(encoding) => encoding.index(),
            Self::Index => INDEX_PLACE,
        }
    }
}

impl RequiredEncodings {
    pub const NONE: Self = Self(0);
    pub const INDEX: Self = Self(1 << INDEX_PLACE);

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

    pub fn forms(self) -> impl Iterator<Item = Form> {
        let encodings = Encoding::ALL.into_iter().map(Form::Encoding);
        encodings.chain([Form::Index]).filter(move |form| self.contains(*form))
    }

    pub(super) fn contains(self, form: Form) -> bool {
        self.0 & 1 << form.place() != 0
    }

    /// Those that are not among the others.
    pub(super) fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    pub(super) fn only(form: Form) -> Self {
        Self(1 << form.place())
    }

    /// Those that are in both.
    pub(super) fn among(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }
}
