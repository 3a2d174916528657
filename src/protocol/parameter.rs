//! The names of a stream's parameters, and what is said of one that cannot be served.

use super::filter::{FilterError, FilterName};
use crate::secret;

/// The first block wanted: a height, `oldest`, `latest`, or `-N` for N blocks before the newest.
pub const FROM_HEIGHT: &str = "from_height";
/// The position that the client is behind.
pub const AFTER: &str = "after";
/// The last block wanted.
pub const UNTIL_HEIGHT: &str = "until_height";
/// How many data messages are wanted.
pub const LIMIT: &str = "limit";
/// Whether a block's events come as one message.
pub const BATCH: &str = "batch";
/// Whether control messages come too.
pub const CONTROL: &str = "control";
/// A credential, which is read elsewhere; passed over here, and where nobody is asked for one.
pub const ACCESS_TOKEN: &str = "access_token";
/// Parameters beside the filters.
pub(super) const SINGLE: [&str; 6] = [FROM_HEIGHT, AFTER, UNTIL_HEIGHT, LIMIT, BATCH, CONTROL];
/// The value of `batch`.
pub const BATCH_BLOCK: &str = "block";
/// The values of `control`.
pub const YES: &str = "true";
pub(super) const NO: &str = "false";
const UNKNOWN: &str = "unknown parameter ";
const IGNORED: &str = "server.ignored_parameters lists what is passed over";
/// Names further off than this are not taken for a slip of the pen.
const SIMILARITY_MIN: f64 = 0.75;

/// A query that cannot be served, in a sentence that names the parameter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct QueryError(String);

impl QueryError {
    pub(super) fn bad(name: &str, value: &str, wanted: &str) -> Self {
        Self(format!("`{name}`: {:?} is not {wanted}", secret::excerpt(value)))
    }

    pub(super) fn twice(name: &str) -> Self {
        Self(format!("`{name}` is given twice"))
    }

    pub(super) fn exclusive(name: &str, other: &str) -> Self {
        Self(format!("`{name}` and `{other}` exclude each other"))
    }

    pub(super) fn transactions_only(name: &str) -> Self {
        Self(format!("`{name}` is for `valid_transactions`; `valid_blocks` sends every block"))
    }

    /// A token may stand in a name's place: `?TOKEN`, or `?access_token%3DTOKEN`. The client is told without it,
    /// since what it is told is logged, here and on the way.
    pub(super) fn unknown(name: &str, value: &str) -> Self {
        let filters = FilterName::ALL.map(FilterName::as_str);
        let known = SINGLE.into_iter().chain(filters).chain([ACCESS_TOKEN]);
        let nearest = known
            .map(|known| (strsim::jaro_winkler(known, name), known))
            .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let hint = nearest.map_or("; ".to_owned(), |(_, known)| format!("; is `{known}` meant? "));
        // Short enough for a close frame to hold what follows, too.
        let quoted = match secret::parameter_name(name, value) {
            Some(name) => format!("`{name}`"),
            None => "(not shown: it may be a token)".to_owned(),
        };
        Self(format!("{UNKNOWN}{quoted}{hint}{IGNORED}"))
    }
}

impl From<FilterError> for QueryError {
    fn from(error: FilterError) -> Self {
        Self(error.to_string())
    }
}

/// The parameter that a refusal says is not known there.
pub fn unknown_parameter(message: &str) -> Option<&str> {
    let (name, _) = message.strip_prefix(UNKNOWN)?.strip_prefix('`')?.split_once('`')?;
    Some(name)
}
