//! The two streams of the API: their names and paths.

use super::path::plain;

const TRANSACTIONS_PATH: &str = "/api/v1/streams/valid_transactions";
const BLOCKS_PATH: &str = "/api/v1/streams/valid_blocks";

/// Which of the two streams a client reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// One message per transaction.
    Transactions,
    /// One message per block.
    Blocks,
}

impl Stream {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Transactions, Self::Blocks];

    /// The last part of the path.
    pub fn name(self) -> &'static str {
        let path = self.path();
        path.rsplit_once('/').map_or(path, |(_, name)| name)
    }

    /// Where a server has it.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Transactions => TRANSACTIONS_PATH,
            Self::Blocks => BLOCKS_PATH,
        }
    }

    /// The stream that a client finds at `path`. A proxy may have a prefix in front, and a server
    /// another path: what counts is the name at the end.
    pub fn at(path: &str) -> Option<Self> {
        let path = plain(path);
        let (_, name) = path.rsplit_once('/')?;
        Self::ALL.into_iter().find(|stream| stream.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_stream_is_found_at_its_path_behind_any_prefix(
            stream in prop::sample::select(&Stream::ALL),
            prefix in "(/[a-z0-9.]{1,8}){0,3}",
            end in "/{0,2}",
        ) {
            let path = format!("{prefix}{}{end}", stream.path());
            prop_assert_eq!(Stream::at(&path), Some(stream));
            let encoded = path.replace('_', "%5F");
            prop_assert_eq!(Stream::at(&encoded), Some(stream));
        }
    }

    #[test]
    fn names_are_the_apis() {
        assert_eq!(Stream::ALL.map(Stream::name), ["valid_transactions", "valid_blocks"]);
        for path in ["", "/", "valid_blocks", "/api/v1/streams", "/streams/not_valid_blocks"] {
            assert_eq!(Stream::at(path), None, "{path}");
        }
    }
}
