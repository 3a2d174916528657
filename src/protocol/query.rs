//! What a stream's URL asks for: parsed whole or refused by name, so that nobody believes a parameter
//! was understood which was not. Pure.

use std::fmt::Display;

use super::stream::Stream;
use crate::block::HEIGHT_MAX;
use crate::filter::{Filter, Parameter};
use crate::secret;

/// Parameters beside the filters.
const SINGLE: [&str; 6] = ["from_height", "after", "until_height", "limit", "batch", "control"];
/// A credential, which is read elsewhere; passed over here, and where nobody is asked for one.
pub const ACCESS_TOKEN: &str = "access_token";
const FILTERS: [Parameter; 5] = [
    Parameter::PublicKey,
    Parameter::OwnerBefore,
    Parameter::AssetId,
    Parameter::TransactionId,
    Parameter::Operation,
];
const IGNORED: &str = "server.ignored_parameters lists what is passed over";
/// Names further off than this are not taken for a slip of the pen.
const SIMILARITY_MIN: f64 = 0.75;
const TRANSACTION_ID_DIGITS: usize = 64;

/// A stream's parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    pub start: Start,
    /// The last block wanted.
    pub until_height: Option<u64>,
    /// Data messages wanted; at least 1.
    pub limit: Option<u64>,
    pub filter: Filter,
    pub batch: bool,
    pub control: bool,
}

/// Where a client wants to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// With what comes from now on.
    Live,
    /// With this block.
    Height(u64),
    /// With the block so many before the tip.
    BeforeTip(u64),
    Oldest,
    /// With the tip.
    Latest,
    /// Behind an event, by its place among all of its block.
    AfterEvent {
        height: u64,
        index: u64,
    },
    /// Behind a transaction, 64 hex digits in lower case.
    AfterTransaction {
        height: u64,
        id: Box<str>,
    },
}

/// A query that cannot be served, in a sentence that names the parameter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct QueryError(String);

impl Query {
    /// Reads a URL's query, percent-encoded, without the question mark. Parameters in `ignored` are
    /// passed over.
    ///
    /// # Errors
    /// An unknown parameter, one given twice that may stand once, a bad value, or two that exclude
    /// each other: the client mends its URL.
    pub fn parse(query: &str, stream: Stream, ignored: &[String]) -> Result<Self, QueryError> {
        let mut values: [Option<String>; SINGLE.len()] = Default::default();
        let mut filter = Filter::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if let Some(place) = SINGLE.iter().position(|single| *single == name) {
                if values[place].replace(value.into_owned()).is_some() {
                    return Err(QueryError(format!("`{name}` is given twice")));
                }
            } else if let Some(parameter) = FILTERS.iter().find(|filter| filter.name() == name) {
                if stream == Stream::Blocks {
                    return Err(transactions_only(&name));
                }
                let added = filter.add(*parameter, &value);
                added.map_err(|error| QueryError(error.to_string()))?;
            } else if name != ACCESS_TOKEN && !ignored.iter().any(|ignored| *ignored == name) {
                return Err(unknown(&name, &value));
            }
        }
        let [from_height, after, until_height, limit, batch, control] = values;
        let start = match (from_height, after) {
            (None, None) => Start::Live,
            (Some(from), None) => start_from(&from)?,
            (None, Some(after)) => start_after(&after, stream, "after")?,
            (Some(_), Some(_)) => {
                return Err(QueryError("`from_height` and `after` exclude each other".into()));
            }
        };
        let batch = match batch.as_deref() {
            None => false,
            Some(_) if stream == Stream::Blocks => return Err(transactions_only("batch")),
            Some("block") => true,
            Some(other) => return Err(bad("batch", other, "`block`")),
        };
        let control = match control.as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(other) => return Err(bad("control", other, "`true` or `false`")),
        };
        let until_height = until_height
            .map(|text| height(&text).ok_or_else(|| bad("until_height", &text, "a height")));
        let limit = limit.map(|text| {
            let limit = number(&text).filter(|limit| *limit > 0);
            limit.ok_or_else(|| bad("limit", &text, "a number of messages, at least 1"))
        });
        let (until_height, limit) = (until_height.transpose()?, limit.transpose()?);
        Ok(Self { start, until_height, limit, filter, batch, control })
    }
}

/// The filters of a URL's query, as they stand there.
pub fn filter_text(query: &str) -> String {
    let is_filter = |name: &str| FILTERS.iter().any(|filter| filter.name() == name);
    let pairs = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| is_filter(name));
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

impl Start {
    /// Reads the `Last-Event-ID` header of Server-Sent Events: `H` or `H.I`.
    ///
    /// # Errors
    /// It is not one of ours.
    pub fn of_last_event_id(text: &str, stream: Stream) -> Result<Self, QueryError> {
        match start_after(text, stream, "Last-Event-ID")? {
            Self::AfterTransaction { .. } => Err(bad("Last-Event-ID", text, "`H` or `H.I`")),
            start => Ok(start),
        }
    }

    /// As a URL's query says it, if it names a place.
    pub fn in_url(&self) -> Option<String> {
        Some(match self {
            Self::Live => return None,
            Self::Height(0) => "from_height=0".to_owned(),
            Self::Height(height) => format!("after={}", height - 1),
            Self::BeforeTip(blocks) => format!("from_height=-{blocks}"),
            Self::Oldest => "from_height=oldest".to_owned(),
            Self::Latest => "from_height=latest".to_owned(),
            Self::AfterEvent { height, index } => format!("after={height}.{index}"),
            Self::AfterTransaction { height, id } => format!("after={height}.{id}"),
        })
    }

    /// The first height of which the client has not had everything, where it names one.
    pub fn first_wanted(&self) -> Option<u64> {
        match self {
            Self::Height(height)
            | Self::AfterEvent { height, .. }
            | Self::AfterTransaction { height, .. } => Some(*height),
            Self::Live | Self::BeforeTip(_) | Self::Oldest | Self::Latest => None,
        }
    }

    /// Whether it means the oldest there is where that much is not to be had.
    pub fn is_as_far_as_there_is(&self) -> bool {
        matches!(self, Self::Oldest | Self::BeforeTip(_))
    }
}

fn start_from(text: &str) -> Result<Start, QueryError> {
    let start = match text {
        "oldest" => Some(Start::Oldest),
        "latest" => Some(Start::Latest),
        text => match text.strip_prefix('-') {
            Some(blocks) => number(blocks).map(Start::BeforeTip),
            None => height(text).map(Start::Height),
        },
    };
    let wanted = "a height, `-N` for N blocks before the tip, `oldest` or `latest`";
    start.ok_or_else(|| bad("from_height", text, wanted))
}

fn start_after(text: &str, stream: Stream, name: &str) -> Result<Start, QueryError> {
    let (block, within) = match text.split_once('.') {
        Some((block, within)) => (block, Some(within)),
        None => (text, None),
    };
    if within.is_some() && stream == Stream::Blocks {
        return Err(bad(name, text, "a height: a block is one message on `valid_blocks`"));
    }
    let start = height(block).and_then(|height| match within {
        None => Some(Start::Height(height + 1)),
        Some(id) if id.len() == TRANSACTION_ID_DIGITS => {
            let is_hex = id.bytes().all(|byte| byte.is_ascii_hexdigit());
            let id = is_hex.then(|| id.to_ascii_lowercase().into_boxed_str())?;
            Some(Start::AfterTransaction { height, id })
        }
        Some(index) => number(index).map(|index| Start::AfterEvent { height, index }),
    });
    let wanted = "`H`, `H.I` (event I of block H) or `H.T` (a transaction's 64 hex digits)";
    start.ok_or_else(|| bad(name, text, wanted))
}

fn height(text: &str) -> Option<u64> {
    number(text).filter(|height| *height <= HEIGHT_MAX)
}

/// Decimal digits and nothing else.
fn number(text: &str) -> Option<u64> {
    let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_digits)
}

fn bad(name: &str, value: &str, wanted: impl Display) -> QueryError {
    QueryError(format!("`{name}`: {:?} is not {wanted}", secret::excerpt(value)))
}

fn transactions_only(name: &str) -> QueryError {
    QueryError(format!("`{name}` is for `valid_transactions`; `valid_blocks` sends every block"))
}

/// A token may stand in a name's place: `?TOKEN`, or `?access_token%3DTOKEN`. The client is told without it,
/// since what it is told is logged, here and on the way.
fn unknown(name: &str, value: &str) -> QueryError {
    let known = SINGLE.into_iter().chain(FILTERS.map(Parameter::name)).chain([ACCESS_TOKEN]);
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
    QueryError(format!("unknown parameter {quoted}{hint}{IGNORED}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "DJgnirZfikN3zr2pW9yTFM39t8EbTPZ9oSZjf3pRYHEa";

    fn parse(query: &str) -> Result<Query, QueryError> {
        Query::parse(query, Stream::Transactions, &["session".to_owned()])
    }

    #[test]
    fn starts_are_read() {
        let id = "ab".repeat(32);
        let max = HEIGHT_MAX;
        for (query, expected) in [
            ("", Start::Live),
            ("session=x&&session=y", Start::Live),
            ("from_height=0", Start::Height(0)),
            ("from_height=42", Start::Height(42)),
            ("from_height=-7", Start::BeforeTip(7)),
            ("from_height=oldest", Start::Oldest),
            ("from_height=latest", Start::Latest),
            ("from%5Fheight=%34%32", Start::Height(42)),
            ("after=42", Start::Height(43)),
            (&format!("after={max}"), Start::Height(max + 1)),
            ("after=42.7", Start::AfterEvent { height: 42, index: 7 }),
            (
                &format!("after=42.{}", id.to_uppercase()),
                Start::AfterTransaction { height: 42, id: id.clone().into() },
            ),
        ] {
            assert_eq!(parse(query).expect(query).start, expected, "{query}");
        }
    }

    #[test]
    fn the_others_are_read() {
        let query = parse(&format!(
            "until_height=9&limit=3&batch=block&control=true&public_key={KEY}&public_key={KEY}"
        ))
        .expect("a query");
        assert_eq!((query.until_height, query.limit), (Some(9), Some(3)));
        assert!(query.batch && query.control && !query.filter.is_empty());
        let query = parse("control=false").expect("a query");
        assert!(!query.batch && !query.control && query.filter.is_empty());
    }

    #[test]
    fn what_cannot_be_served_is_refused_by_name() {
        for (query, told) in [
            ("from=1", "unknown parameter `from`"),
            ("t=1", "unknown parameter `t`; server.ignored_parameters lists"),
            (
                "api_key=1",
                "unknown parameter `api_key`; is `public_key` meant? server.ignored_parameters",
            ),
            (
                "form_height=1",
                "unknown parameter `form_height`; is `from_height` meant? server.ignored_parameters",
            ),
            ("from_height=", "`from_height`: \"\" is not a height"),
            ("from_height=+1", "`from_height`"),
            ("from_height=-", "`from_height`"),
            ("from_height=1e3", "`from_height`"),
            ("from_height=9223372036854775808", "`from_height`"),
            ("from_height=1&from_height=1", "`from_height` is given twice"),
            ("from_height=1&after=1", "exclude each other"),
            ("after=x", "`after`: \"x\" is not `H`"),
            ("after=1.", "`after`"),
            ("after=1.2.3", "`after`"),
            (&format!("after=1.{}", "g".repeat(64)), "`after`"),
            ("until_height=-1", "`until_height`"),
            ("limit=0", "`limit`: \"0\" is not a number of messages, at least 1"),
            ("batch=event", "`batch`"),
            ("control=1", "`control`"),
            ("public_key=x", "public_key"),
        ] {
            let error = parse(query).expect_err(query).to_string();
            assert!(error.contains(told), "{query}: {error}");
        }
    }

    #[test]
    fn the_longest_unknown_name_leaves_room_for_the_key_in_a_close_frame() {
        for (name, quoted) in [
            ("x".repeat(32), true),
            (format!("transaction_id{}", "d".repeat(18)), true),
            ("x".repeat(33), false),
            ("ü".repeat(16), false),
            (format!("transaction_id{}", "d".repeat(19)), false),
        ] {
            let error = parse(&format!("{name}=1")).expect_err("unknown").to_string();
            let told = &error[..error.floor_char_boundary(123)];
            assert_eq!(told.contains(&name), quoted, "{told}");
            assert!(told.contains("server.ignored_parameters"), "{told}");
        }
    }

    #[test]
    fn a_token_in_a_wrong_place_is_not_repeated() {
        for query in [
            "hunter",
            "hunter=",
            "hunter==",
            "access_token%3Dhunter",
            "access_token%3Dhunter=1",
            "?access_token=hunter",
            "access_token:hunter",
            "from_height=5?access_token=hunter",
            "from_height=5%26access_token=hunter",
            "limit=1;access_token=hunter",
            "public_key=x?access_token=hunter",
            "batch=block?access_token=hunter",
        ] {
            let error = parse(query).expect_err(query).to_string();
            assert!(!error.contains("hunter"), "{query}: {error}");
        }
    }

    #[test]
    fn blocks_have_no_filter_no_batch_and_no_events() {
        let parse = |query: &str| Query::parse(query, Stream::Blocks, &[]);
        assert_eq!(parse("after=4&limit=1").expect("a query").start, Start::Height(5));
        assert!(parse("control=true&until_height=7").is_ok());
        for query in ["operation=CREATE", "batch=block", "after=4.1"] {
            let error = parse(query).expect_err(query).to_string();
            assert!(error.contains("valid_blocks"), "{query}: {error}");
        }
    }

    #[test]
    fn a_browsers_last_event_is_read() {
        let check = |text: &str, stream| Start::of_last_event_id(text, stream).ok();
        assert_eq!(check("42", Stream::Blocks), Some(Start::Height(43)));
        let within = Start::AfterEvent { height: 42, index: 7 };
        assert_eq!(check("42.7", Stream::Transactions), Some(within));
        assert_eq!(check("42.7", Stream::Blocks), None);
        assert_eq!(check(&format!("42.{}", "a".repeat(64)), Stream::Transactions), None);
        assert_eq!(check("x", Stream::Transactions), None);
    }
}
