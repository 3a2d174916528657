//! What a stream is asked for: an address, where to begin, what to leave out, where to end.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::address::Address;
use super::error::BuildError;
use super::request::RequestTemplate;
use super::state::StateFile;
use super::subscriber::Subscriber;
use super::tracker::Tracker;
use super::trust::Trust;
use crate::protocol::{
    AFTER, BATCH, BATCH_BLOCK, CONTROL, FROM_HEIGHT, FilterName, FilterParameter, LIMIT, Query,
    QueryError, Start, StartError, Stream, UNTIL_HEIGHT, YES, height, messages,
};
use crate::secret;

const HEIGHT_WANTED: &str = "write a whole number from 0 to 2^63 - 1";
const LIMIT_WANTED: &str = "write a whole number, at least 1";

/// What a [`Subscriber`] is to ask for, before it is one. Connects to nothing.
///
/// StreamParameters that the URL has already are understood; setting one of them here too is refused by
/// [`Builder::build`]. Others in the URL are sent as they are.
#[derive(Clone)]
pub struct Builder {
    address: Address,
    in_url: StreamParameters,
    beside: StreamParameters,
    /// Of the URL, not ours, and as they stand there.
    others: Vec<String>,
    state_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
}

/// The parameters that this client knows.
#[derive(Debug, Clone, Default)]
struct StreamParameters {
    start: Option<Start>,
    filters: Vec<FilterParameter>,
    until_height: Option<u64>,
    limit: Option<u64>,
    is_batch: bool,
}

impl Builder {
    /// A stream at `url`, `ws://...` or `wss://...`.
    ///
    /// # Errors
    /// Another kind of address, or a parameter in it that cannot be meant; says what to write.
    pub fn new(url: &str) -> Result<Self, BuildError> {
        let (address, query) = Address::parse(url)?;
        let mut builder = Self {
            address,
            in_url: StreamParameters::default(),
            beside: StreamParameters::default(),
            others: Vec::new(),
            state_file: None,
            ca_file: None,
        };
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        pairs.into_iter().try_for_each(|pair| builder.take_from_url(pair))?;
        Ok(builder)
    }

    /// Where to begin; [`Start::Live`] if not set. A state file that remembers a position wins.
    pub fn start(mut self, start: Start) -> Self {
        self.beside.start = Some(start);
        self
    }

    /// Adds a value that events are to have; at most 100 in all. On `valid_transactions` only.
    pub fn filter(mut self, filter: FilterParameter) -> Self {
        self.beside.filters.push(filter);
        self
    }

    /// Ends the stream behind the block of this height.
    pub fn until_height(mut self, height: u64) -> Self {
        self.beside.until_height = Some(height);
        self
    }

    /// Ends the stream behind so many events, summaries or batches: at least one.
    pub fn limit(mut self, messages: u64) -> Self {
        self.beside.limit = Some(messages);
        self
    }

    /// Yields [`Batch`](super::Batch)es instead of events. On `valid_transactions` only.
    pub fn batch(mut self) -> Self {
        self.beside.is_batch = true;
        self
    }

    /// Begins at the position that this file remembers, if it exists; [`Subscriber::save`] writes it.
    pub fn state_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.state_file = Some(path.into());
        self
    }

    /// Trusts the authorities in this PEM file instead of the system's, for `wss://`. It is read by
    /// [`Builder::build`].
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// The address without query and password: what may be shown.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// A subscriber, not yet connected: [`Subscriber::next`] does that.
    ///
    /// # Errors
    /// What was set does not go together or no server serves it, or the state file or that of authorities
    /// cannot be used.
    pub fn build(self) -> Result<Subscriber, BuildError> {
        let Self { address, in_url, beside, others, state_file, ca_file } = self;
        let trust = ca_file.map(|path| Trust::read(&path)).transpose()?;
        let StreamParameters { start, mut filters, until_height, limit, is_batch } =
            joined(in_url, beside)?;
        filters.sort();
        filters.dedup();
        let start = start.unwrap_or_default();
        let query = Query { start, filters, until_height, limit, batch: is_batch, control: true };
        let stream = Stream::at(address.path());
        // What a server reads of it: nothing is sent that every server refuses.
        Query::parse(&query.to_string(), stream.unwrap_or(Stream::Transactions), &[])?;
        let mut request = RequestTemplate { address, stream, query, others, trust };
        let state = state_file.map(|path| StateFile::open(path, request.name())).transpose()?;
        if let Some(remembered) = state.as_ref().and_then(StateFile::cursor) {
            request.query.start = Start::After(remembered.clone());
        }
        let tracker = Tracker::new(&request);
        Ok(Subscriber::new(request, tracker, state))
    }

    fn take_from_url(&mut self, pair: &str) -> Result<(), BuildError> {
        let Some((name, value)) = form_urlencoded::parse(pair.as_bytes()).next() else {
            return Ok(());
        };
        let wrong = |wanted: &str| BuildError::Value {
            parameter: name.clone().into_owned(),
            value: secret::excerpt(&value),
            wanted: wanted.to_owned(),
        };
        let asked = &mut self.in_url;
        let is_repeated = match &*name {
            FROM_HEIGHT | AFTER => {
                let start = match &*name {
                    AFTER => value.parse().map(Start::After).map_err(|error| format!("{error}")),
                    _ => value.parse().map_err(|error: StartError| error.to_string()),
                };
                match asked.start.replace(start.map_err(|wanted| wrong(&wanted))?) {
                    Some(Start::After(_)) if name == FROM_HEIGHT => {
                        return Err(BuildError::TwoStarts);
                    }
                    Some(other) if name == AFTER && !matches!(other, Start::After(_)) => {
                        return Err(BuildError::TwoStarts);
                    }
                    earlier => earlier.is_some(),
                }
            }
            UNTIL_HEIGHT => {
                let height = height(&value).ok_or_else(|| wrong(HEIGHT_WANTED))?;
                asked.until_height.replace(height).is_some()
            }
            LIMIT => {
                let limit = messages(&value).ok_or_else(|| wrong(LIMIT_WANTED))?;
                asked.limit.replace(limit).is_some()
            }
            BATCH if value == BATCH_BLOCK => std::mem::replace(&mut asked.is_batch, true),
            BATCH => return Err(wrong("write batch=block")),
            CONTROL if value == YES => false,
            CONTROL => return Err(wrong("this client asks for control messages itself")),
            _ => {
                match FilterName::of(&name) {
                    Some(filter) => asked
                        .filters
                        .push(FilterParameter::new(filter, &value).map_err(QueryError::from)?),
                    None => self.others.push(pair.to_owned()),
                }
                false
            }
        };
        match is_repeated {
            true => Err(BuildError::Repeated { parameter: name.into_owned() }),
            false => Ok(()),
        }
    }
}

// Parameters that are not ours may hold a token.
impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, in_url, beside, others, state_file, ca_file } = self;
        let others = others.len();
        write!(f, "Builder {address:?} {in_url:?} {beside:?} +{others} {state_file:?} {ca_file:?}")
    }
}

impl FromStr for Builder {
    type Err = BuildError;

    fn from_str(url: &str) -> Result<Self, BuildError> {
        Self::new(url)
    }
}

fn joined(
    in_url: StreamParameters,
    beside: StreamParameters,
) -> Result<StreamParameters, BuildError> {
    let twice = |parameter: &str| BuildError::Twice { parameter: parameter.to_owned() };
    match (&in_url.start, &beside.start) {
        (Some(Start::After(_)), Some(Start::After(_))) => return Err(twice(AFTER)),
        (Some(Start::After(_)), Some(_)) | (Some(_), Some(Start::After(_))) => {
            return Err(BuildError::TwoStarts);
        }
        (Some(_), Some(_)) => return Err(twice(FROM_HEIGHT)),
        _ => {}
    }
    if in_url.until_height.is_some() && beside.until_height.is_some() {
        return Err(twice(UNTIL_HEIGHT));
    }
    if in_url.limit.is_some() && beside.limit.is_some() {
        return Err(twice(LIMIT));
    }
    let named: Vec<FilterName> = in_url.filters.iter().map(FilterParameter::name).collect();
    if let Some(filter) = beside.filters.iter().find(|filter| named.contains(&filter.name())) {
        return Err(twice(filter.name().as_str()));
    }
    Ok(StreamParameters {
        start: in_url.start.or(beside.start),
        filters: in_url.filters.into_iter().chain(beside.filters).collect(),
        until_height: in_url.until_height.or(beside.until_height),
        limit: in_url.limit.or(beside.limit),
        is_batch: in_url.is_batch || beside.is_batch,
    })
}

#[cfg(test)]
mod tests;
