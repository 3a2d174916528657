//! Enough of a block to tell a duplicate from a conflict, and a copy in the same order from others, in a few
//! bytes.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::OnceLock;

/// The set of a block's transaction ids and its hash, as keyed hashes. The keys are made at random
/// when the process starts, so nobody can choose two blocks that look the same; hence it means
/// nothing to another process.
#[derive(Clone, Copy, Debug)]
pub struct BlockContent {
    ids: u128,
    /// None when the message carried none.
    hash: Option<u128>,
}

/// Two keys: 64 bits are for an id within a block, 128 for a block.
struct HashKeys(RandomState, RandomState);

impl BlockContent {
    /// Order and repeats of ids do not matter.
    pub fn from_ids<'a>(ids: impl Iterator<Item = &'a str>, hash: Option<&str>) -> Self {
        let keys = HashKeys::get();
        let mut hashes: Vec<u64> = ids.map(|id| of_bytes(&keys.0, id.as_bytes())).collect();
        hashes.sort_unstable();
        hashes.dedup();
        let ids = keys.both(|hasher| hashes.iter().for_each(|hash| hasher.write_u64(*hash)));
        Self { ids, hash: hash.map(|hash| keys.both(|hasher| hasher.write(hash.as_bytes()))) }
    }

    /// Whether both may be the same block: the same set of ids, and hashes that do not differ (an
    /// absent one agrees with any).
    pub fn agrees(&self, other: &BlockContent) -> bool {
        let hashes_differ = matches!((self.hash, other.hash), (Some(a), Some(b)) if a != b);
        self.ids == other.ids && !hashes_differ
    }

    /// This content with what only `other`, which agrees with it, knows: the hash.
    pub fn merged(self, other: BlockContent) -> BlockContent {
        BlockContent { ids: self.ids, hash: self.hash.or(other.hash) }
    }
}

/// A block's transaction ids in their order and its hash, as one keyed hash of this process.
pub fn digest<'a>(ids: impl Iterator<Item = &'a str>, hash: Option<&str>) -> u64 {
    let mut hasher = HashKeys::get().0.build_hasher();
    for id in ids {
        hasher.write(id.as_bytes());
        // What no text has in it: two ids are not one.
        hasher.write_u8(0xff);
    }
    hasher.write_u8(u8::from(hash.is_some()));
    hasher.write(hash.unwrap_or_default().as_bytes());
    hasher.finish()
}

impl HashKeys {
    fn get() -> &'static HashKeys {
        static KEYS: OnceLock<HashKeys> = OnceLock::new();
        KEYS.get_or_init(|| HashKeys(RandomState::new(), RandomState::new()))
    }

    fn both(&self, write: impl Fn(&mut dyn Hasher)) -> u128 {
        let [high, low] = [&self.0, &self.1].map(|key| {
            let mut hasher = key.build_hasher();
            write(&mut hasher);
            hasher.finish()
        });
        u128::from(high) << 64 | u128::from(low)
    }
}

fn of_bytes(key: &RandomState, bytes: &[u8]) -> u64 {
    let mut hasher = key.build_hasher();
    hasher.write(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(ids: &[&str], hash: Option<&str>) -> BlockContent {
        BlockContent::from_ids(ids.iter().copied(), hash)
    }

    #[test]
    fn same_set_of_ids_agrees_in_any_order_and_with_repeats() {
        let one = content(&["a", "b", "c"], None);
        for (ids, agrees) in [
            (&["c", "a", "b"][..], true),
            (&["a", "b", "b", "c", "a"], true),
            (&["a", "b"], false),
            (&["a", "b", "d"], false),
            (&["ab", "c"], false),
            (&[], false),
        ] {
            assert_eq!(one.agrees(&content(ids, None)), agrees, "{ids:?}");
        }
        assert!(content(&[], None).agrees(&content(&[], None)));
    }

    #[test]
    fn a_digest_is_of_the_ids_in_their_order_and_of_the_hash() {
        let all = [
            (&["a", "b"][..], None),
            (&["b", "a"], None),
            (&["ab"], None),
            (&["a", "b", "b"], None),
            (&["a"], Some("b")),
            (&["a", "b"], Some("")),
            (&["a", "b"], Some("x")),
        ];
        let of = |(ids, hash): (&[&str], Option<&str>)| digest(ids.iter().copied(), hash);
        for (at, one) in all.iter().enumerate() {
            assert_eq!(of(*one), of(*one));
            assert!(all[..at].iter().all(|other| of(*other) != of(*one)), "{one:?}");
        }
    }

    #[test]
    fn absent_hash_agrees_and_is_learnt() {
        let (none, x, y) =
            (content(&["a"], None), content(&["a"], Some("x")), content(&["a"], Some("y")));
        assert!(none.agrees(&x) && x.agrees(&none) && x.agrees(&x));
        assert!(!x.agrees(&y));
        assert!(!none.merged(x).agrees(&y), "the hash that only one knew is kept");
        assert!(x.merged(none).agrees(&x));
        assert!(x.merged(y).agrees(&x), "the first wins");
    }
}
