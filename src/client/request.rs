//! What the connections of a stream ask for: all the same, but for where they begin and what is left of
//! a limit.

use std::fmt;

use super::address::Address;
use super::trust::Trust;
use crate::protocol::{Query, Start, Stream};

/// What every connection of a stream asks for.
pub(super) struct RequestTemplate {
    pub address: Address,
    /// None where the path is no server's own, so that it cannot be told.
    pub stream: Option<Stream>,
    /// Where the first connection begins, and all that every connection asks for.
    pub query: Query,
    pub others: Vec<String>,
    /// None for the system's authorities.
    pub trust: Option<Trust>,
}

impl RequestTemplate {
    pub fn trust(&self) -> Option<Trust> {
        self.trust.clone()
    }

    pub fn stream(&self) -> Option<Stream> {
        self.stream
    }

    pub fn query(&self) -> &Query {
        &self.query
    }

    /// What to connect to, to go on from `resume` for `limit` messages at most.
    pub fn url(&self, resume: Start, limit: Option<u64>) -> String {
        let query = Query { start: resume, limit, control: false, ..self.query.clone() };
        let mut parameters = query.parameters();
        parameters.extend_from_slice(&self.others);
        parameters.extend(Query { control: true, ..Query::default() }.parameters());
        format!("{}?{}", self.address.url(), parameters.join("&"))
    }

    /// The stream's name in a state file: what its positions are positions of.
    pub fn name(&self) -> String {
        let filters: Vec<String> = self.query.filters.iter().map(ToString::to_string).collect();
        match filters.is_empty() {
            true => self.address.path().to_owned(),
            false => format!("{}?{}", self.address.path(), filters.join("&")),
        }
    }
}

impl fmt::Debug for RequestTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, stream: _, query, others, trust: _ } = self;
        let others = others.len();
        write!(f, "RequestTemplate {address:?} {query:?} +{others}")
    }
}
