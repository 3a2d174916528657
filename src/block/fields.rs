//! What is kept of a block's transactions: one text, marks that cut it, nothing per string.

/// One string of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionField<'a> {
    TransactionId(&'a str),
    AssetId(&'a str),
    Operation(&'a str),
    /// Of any output.
    PublicKey(&'a str),
    /// Of any input.
    OwnerBefore(&'a str),
}

/// The fields of a block's transactions, in block order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Fields {
    /// Per transaction: its marks' strings in their order, then its id.
    text: Box<str>,
    marks: Box<[Mark]>,
    transactions: Box<[TransactionEnd]>,
}

/// Where a transaction ends; it begins where the one before it ends.
#[derive(Debug, Clone, Copy, PartialEq)]
struct TransactionEnd {
    id_start: u32,
    text_end: u32,
    marks_end: u32,
}

/// A field but for its text: a [`Tag`] in the top three bits, the length in the others.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Mark(u32);

/// What a mark's string is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Tag {
    AssetId,
    /// An asset without an id of its own, which goes by the transaction's: no text.
    OwnAssetId,
    Operation,
    PublicKey,
    OwnerBefore,
}

/// Fields in the making. A transaction takes effect with [`FieldsBuilder::end_transaction`].
#[derive(Debug, Default)]
pub(super) struct FieldsBuilder {
    text: String,
    marks: Vec<Mark>,
    transactions: Vec<TransactionEnd>,
}

impl Fields {
    /// Transactions.
    #[expect(clippy::len_without_is_empty, reason = "an empty block is a block like any other")]
    pub fn len(&self) -> usize {
        self.transactions.len()
    }

    /// The id of the transaction at `index`, which must be below [`Fields::len`].
    pub fn transaction_id(&self, index: usize) -> &str {
        let TransactionEnd { id_start, text_end, .. } = self.transactions[index];
        &self.text[id_start as usize..text_end as usize]
    }

    /// The fields of the transaction at `index`, which must be below [`Fields::len`]: its id, then
    /// the others as they came in the message, but those that stand for a missing asset id and the
    /// v2 `asset`'s id last. With repeats, as the message has them.
    pub fn of(&self, index: usize) -> impl Iterator<Item = TransactionField<'_>> {
        let (text_start, marks_start) = match index.checked_sub(1) {
            Some(before) => {
                (self.transactions[before].text_end, self.transactions[before].marks_end)
            }
            None => (0, 0),
        };
        let marks = &self.marks[marks_start as usize..self.transactions[index].marks_end as usize];
        let id = self.transaction_id(index);
        let mut rest = &self.text[text_start as usize..];
        let others = marks.iter().map(move |mark| {
            let (text, after) = rest.split_at(mark.text_len());
            rest = after;
            mark.field(text, id)
        });
        std::iter::once(TransactionField::TransactionId(id)).chain(others)
    }

    /// The asset ids of the transaction at `index`, which must be below [`Fields::len`].
    pub fn asset_ids(&self, index: usize) -> impl Iterator<Item = &str> {
        self.of(index).filter_map(|field| match field {
            TransactionField::AssetId(id) => Some(id),
            _ => None,
        })
    }

    /// The fields of all transactions together.
    pub fn total(&self) -> usize {
        self.marks.len() + self.transactions.len()
    }

    /// Heap bytes.
    pub fn bytes(&self) -> usize {
        self.text.len() + size_of_val(&*self.marks) + size_of_val(&*self.transactions)
    }
}

impl FieldsBuilder {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// How many transactions have ended.
    pub(super) fn len(&self) -> usize {
        self.transactions.len()
    }

    pub(super) fn add(&mut self, tag: Tag, text: &str) {
        self.marks.push(Mark::new(tag, text.len()));
        self.text.push_str(text);
    }

    pub(super) fn end_transaction(&mut self, id: &str) {
        let id_start = place(self.text.len());
        self.text.push_str(id);
        let (text_end, marks_end) = (place(self.text.len()), place(self.marks.len()));
        self.transactions.push(TransactionEnd { id_start, text_end, marks_end });
    }

    pub(super) fn build(self) -> Fields {
        Fields {
            text: self.text.into(),
            marks: self.marks.into(),
            transactions: self.transactions.into(),
        }
    }
}

impl Mark {
    const LEN_BITS: u32 = 29;

    fn new(tag: Tag, text_len: usize) -> Self {
        Self((tag as u32) << Self::LEN_BITS | place(text_len))
    }

    fn text_len(self) -> usize {
        (self.0 & ((1 << Self::LEN_BITS) - 1)) as usize
    }

    fn field<'a>(self, text: &'a str, transaction_id: &'a str) -> TransactionField<'a> {
        const ASSET_ID: u32 = Tag::AssetId as u32;
        const OWN_ASSET_ID: u32 = Tag::OwnAssetId as u32;
        const OPERATION: u32 = Tag::Operation as u32;
        const PUBLIC_KEY: u32 = Tag::PublicKey as u32;
        const OWNER_BEFORE: u32 = Tag::OwnerBefore as u32;
        match self.0 >> Self::LEN_BITS {
            ASSET_ID => TransactionField::AssetId(text),
            OWN_ASSET_ID => TransactionField::AssetId(transaction_id),
            OPERATION => TransactionField::Operation(text),
            PUBLIC_KEY => TransactionField::PublicKey(text),
            OWNER_BEFORE => TransactionField::OwnerBefore(text),
            tag => unreachable!("bug: no mark is made with tag {tag}"),
        }
    }
}

/// A length or place in a block. A text is no longer than its body, which is below 2^29 bytes, and a
/// mark takes at least two bytes of the body.
fn place(at: usize) -> u32 {
    u32::try_from(at)
        .ok()
        .filter(|at| at >> Mark::LEN_BITS == 0)
        .expect("bug: a body of 2^29 bytes or more was not refused")
}
