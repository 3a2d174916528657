//! What a stream's URL asks for: parsed whole or refused by name, so that nobody believes a parameter
//! was understood which was not. Pure.

use std::borrow::Cow;
use std::fmt::{self, Display};

use super::filter::{FilterName, FilterParameter};
use super::number::{height, number};
use super::parameter::{
    ACCESS_TOKEN, AFTER, BATCH, BATCH_BLOCK, CONTROL, FROM_HEIGHT, LIMIT, NO, QueryError, SINGLE,
    UNTIL_HEIGHT, YES,
};
use super::start::Start;
use super::stream::Stream;

/// A stream's parameters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query {
    /// Where the stream begins.
    pub start: Start,
    /// Values that events are to have; none: every event is wanted.
    pub filters: Vec<FilterParameter>,
    /// The last block wanted.
    pub until_height: Option<u64>,
    /// Data messages wanted; at least 1.
    pub limit: Option<u64>,
    /// A block's events are wanted as one message.
    pub batch: bool,
    /// Control messages are wanted.
    pub control: bool,
}

/// A parameter's name and value, percent-decoded.
pub type QueryPair<'a> = (Cow<'a, str>, Cow<'a, str>);

impl Query {
    /// Reads a URL's query, percent-encoded, without the question mark. Parameters in `ignored` are
    /// passed over.
    ///
    /// # Errors
    /// An unknown parameter, one given twice that may stand once, a bad value, or two that exclude
    /// each other: the client mends its URL.
    pub fn parse(query: &str, stream: Stream, ignored: &[String]) -> Result<Self, QueryError> {
        let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
        Self::of(&pairs, stream, ignored)
    }

    /// As [`Query::parse`], of names and values that are decoded already.
    ///
    /// # Errors
    /// As [`Query::parse`].
    pub fn of(
        pairs: &[QueryPair<'_>],
        stream: Stream,
        ignored: &[String],
    ) -> Result<Self, QueryError> {
        let mut values: [Option<String>; SINGLE.len()] = Default::default();
        let mut filters = Vec::new();
        for (name, value) in pairs {
            if let Some(place) = SINGLE.iter().position(|single| single == name) {
                if values[place].replace(value.clone().into_owned()).is_some() {
                    return Err(QueryError::twice(name));
                }
            } else if let Some(filter) = FilterName::of(name) {
                if stream == Stream::Blocks {
                    return Err(QueryError::transactions_only(name));
                }
                FilterParameter::new(filter, value)?.add_to(&mut filters)?;
            } else if name != ACCESS_TOKEN && !ignored.iter().any(|ignored| ignored == name) {
                return Err(QueryError::unknown(name, value));
            }
        }
        let [from_height, after, until_height, limit, batch, control] = values;
        let start = match (from_height, after) {
            (None, None) => Start::Live,
            (Some(from), None) => Start::from_height(&from)?,
            (None, Some(after)) => Start::after(&after, stream)?,
            (Some(_), Some(_)) => {
                return Err(QueryError::exclusive(FROM_HEIGHT, AFTER));
            }
        };
        let batch = match batch.as_deref() {
            None => false,
            Some(_) if stream == Stream::Blocks => {
                return Err(QueryError::transactions_only(BATCH));
            }
            Some(BATCH_BLOCK) => true,
            Some(other) => return Err(QueryError::bad(BATCH, other, "`block`")),
        };
        let control = match control.as_deref() {
            None | Some(NO) => false,
            Some(YES) => true,
            Some(other) => return Err(QueryError::bad(CONTROL, other, "`true` or `false`")),
        };
        let until_height = until_height.map(|text| {
            height(&text).ok_or_else(|| QueryError::bad(UNTIL_HEIGHT, &text, "a height"))
        });
        let limit = limit.map(|text| {
            let wanted = "a number of messages, at least 1";
            messages(&text).ok_or_else(|| QueryError::bad(LIMIT, &text, wanted))
        });
        let (until_height, limit) = (until_height.transpose()?, limit.transpose()?);
        Ok(Self { start, filters, until_height, limit, batch, control })
    }

    /// The filters alone, as they stand in a URL.
    pub fn filter_text(&self) -> String {
        self.filters.iter().map(ToString::to_string).collect::<Vec<_>>().join("&")
    }

    /// What [`Query::parse`] reads, one parameter each; none of a value that says nothing.
    pub fn parameters(&self) -> Vec<String> {
        let Self { start, filters, until_height, limit, batch, control } = self;
        let mut parameters = Vec::from_iter(start.to_query());
        parameters.extend(filters.iter().map(ToString::to_string));
        parameters.extend(until_height.map(|height| format!("{UNTIL_HEIGHT}={height}")));
        parameters.extend(limit.map(|limit| format!("{LIMIT}={limit}")));
        parameters.extend(batch.then(|| format!("{BATCH}={BATCH_BLOCK}")));
        parameters.extend(control.then(|| format!("{CONTROL}={YES}")));
        parameters
    }
}

/// As it stands in a URL, behind the question mark.
impl Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.parameters().join("&"))
    }
}

/// The value of `limit`: at least 1.
pub fn messages(text: &str) -> Option<u64> {
    number(text).filter(|messages| *messages > 0)
}

#[cfg(test)]
mod tests {
    use super::super::filter::tests::any_filter;
    use super::super::start::tests::any_start;
    use super::super::{HEIGHT_MAX, Position, Within, unknown_parameter};
    use super::*;
    use proptest::option;
    use proptest::prelude::*;

    const KEY: &str = "DJgnirZfikN3zr2pW9yTFM39t8EbTPZ9oSZjf3pRYHEa";

    fn parse(query: &str) -> Result<Query, QueryError> {
        Query::parse(query, Stream::Transactions, &["session".to_owned()])
    }

    proptest! {
        #[test]
        fn a_query_is_read_as_it_is_written(
            start in prop_oneof![Just(Start::Live), any_start()],
            filters in prop::collection::vec(any_filter(), 0..5),
            until_height in option::of(0..=HEIGHT_MAX),
            limit in option::of(1..=u64::MAX),
            batch: bool,
            control: bool,
        ) {
            let query = Query { start, filters, until_height, limit, batch, control };
            let text = query.to_string();
            prop_assert_eq!(Query::parse(&text, Stream::Transactions, &[]), Ok(query.clone()));
            let filters: Vec<String> = query.filters.iter().map(ToString::to_string).collect();
            prop_assert_eq!(query.filter_text(), filters.join("&"));
        }

        #[test]
        fn a_query_for_blocks_is_read_as_it_is_written(
            start in prop_oneof![Just(Start::Live), any_start()],
            until_height in option::of(0..=HEIGHT_MAX),
            limit in option::of(1..=u64::MAX),
            control: bool,
        ) {
            let is_inside = start.is_inside_block();
            let query = Query { start, until_height, limit, control, ..Query::default() };
            let read = Query::parse(&query.to_string(), Stream::Blocks, &[]);
            prop_assert_eq!(read.ok(), (!is_inside).then_some(query));
        }

        #[test]
        fn the_name_of_an_unknown_parameter_is_read_as_it_is_written(name in "[a-z_]{1,32}") {
            let is_known = SINGLE.contains(&&*name) || FilterName::of(&name).is_some();
            prop_assume!(!is_known && name != ACCESS_TOKEN);
            let error = parse(&format!("{name}=1&session=1")).expect_err("unknown").to_string();
            prop_assert_eq!(unknown_parameter(&error), Some(&*name));
        }
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
            ("after=42", Start::After(Position::after_block(42))),
            (&format!("after={max}"), Start::After(Position::after_block(max))),
            ("after=42.7", Start::After(Position::after_event(42, 7))),
            (
                &format!("after=42.{}", id.to_uppercase()),
                Start::After(Position::new(42, Within::transaction(&id))),
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
        assert!(query.batch && query.control && !query.filters.is_empty());
        let query = parse("control=false").expect("a query");
        assert!(!query.batch && !query.control && query.filters.is_empty());
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
        assert_eq!(
            parse("after=4&limit=1").expect("a query").start,
            Start::After(Position::after_block(4))
        );
        assert!(parse("control=true&until_height=7").is_ok());
        for query in ["operation=CREATE", "batch=block", "after=4.1"] {
            let error = parse(query).expect_err(query).to_string();
            assert!(error.contains("valid_blocks"), "{query}: {error}");
        }
    }
}
