//! What a stream is asked for: an address, where to begin, what to leave out, where to end.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::address::Address;
use super::cursor::digits;
use super::state::StateFile;
use super::tracker::{Place, Resume};
use super::trust::Trust;
use super::{BuildError, Cursor, Stream};
use crate::secret;

/// RFC 3986 section 2.3: what needs no escape.
const ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b',');
const WHOLE_NUMBER: &str = "write a whole number from 0 to 2^63 - 1";

/// Where a stream begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Start {
    /// With the first block committed from now on.
    #[default]
    Live,
    /// With the newest block there is.
    Latest,
    /// With the oldest block that can be had.
    Oldest,
    /// With this height. One that is not available any more ends with
    /// [`Error::Gone`](super::Error::Gone).
    Height(u64),
    /// With the block that lies so many before the newest.
    BeforeTip(u64),
    /// Behind what a cursor says.
    After(Cursor),
}

/// One value that events are to have. Of several, those with one name are alternatives, and each
/// name given must agree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Filter {
    /// Any owner of any output: a public key in base58.
    PublicKey(String),
    /// Any owner that an input spends from: a public key in base58.
    OwnerBefore(String),
    /// The event's asset: 64 hex digits.
    AssetId(String),
    /// The transaction itself: 64 hex digits.
    TransactionId(String),
    /// `CREATE`, `TRANSFER`, or what else the chain has.
    Operation(String),
}

/// What a [`Stream`] is to be, before it is one. Connects to nothing.
///
/// Parameters that the URL has already are understood; setting one of them here too is refused by
/// [`Builder::build`]. Others in the URL are sent as they are.
#[derive(Clone)]
pub struct Builder {
    address: Address,
    in_url: Parameters,
    beside: Parameters,
    /// Of the URL, not ours, and as they stand there.
    others: Vec<String>,
    state_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
}

/// The parameters that this client knows.
#[derive(Debug, Clone, Default)]
struct Parameters {
    start: Option<Start>,
    filters: Vec<Filter>,
    until_height: Option<u64>,
    limit: Option<u64>,
    is_batch: bool,
}

/// What every connection of a stream asks for.
pub(super) struct Request {
    address: Address,
    filters: Vec<Filter>,
    until_height: Option<u64>,
    is_batch: bool,
    others: Vec<String>,
    /// None for the system's authorities.
    trust: Option<Trust>,
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
            in_url: Parameters::default(),
            beside: Parameters::default(),
            others: Vec::new(),
            state_file: None,
            ca_file: None,
        };
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        pairs.into_iter().try_for_each(|pair| builder.take_from_url(pair))?;
        Ok(builder)
    }

    /// Where to begin; [`Start::Live`] if not set. A state file that remembers a cursor wins.
    pub fn start(mut self, start: Start) -> Self {
        self.beside.start = Some(start);
        self
    }

    /// Adds a value that events are to have; at most 100 in all. On `valid_transactions` only.
    pub fn filter(mut self, filter: Filter) -> Self {
        self.beside.filters.push(filter);
        self
    }

    /// Ends the stream behind the block of this height.
    pub fn until_height(mut self, height: u64) -> Self {
        self.beside.until_height = Some(height);
        self
    }

    /// Ends the stream behind so many events, summaries or batches.
    pub fn limit(mut self, messages: u64) -> Self {
        self.beside.limit = Some(messages);
        self
    }

    /// Yields [`Batch`](super::Batch)es instead of events. On `valid_transactions` only.
    pub fn batch(mut self) -> Self {
        self.beside.is_batch = true;
        self
    }

    /// Begins behind the cursor that this file remembers, if it exists; [`Stream::save`] writes it.
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

    /// A stream, not yet connected: [`Stream::next`] does that.
    ///
    /// # Errors
    /// What was set does not go together, or the state file or that of authorities cannot be used.
    pub fn build(self) -> Result<Stream, BuildError> {
        let Self { address, in_url, beside, others, state_file, ca_file } = self;
        let trust = ca_file.map(|path| Trust::read(&path)).transpose()?;
        let mut asked = joined(in_url, beside)?;
        asked.filters.sort();
        asked.filters.dedup();
        let request = Request {
            address,
            filters: asked.filters,
            until_height: asked.until_height,
            is_batch: asked.is_batch,
            others,
            trust,
        };
        let state = state_file.map(|path| StateFile::open(path, request.name())).transpose()?;
        let remembered = state.as_ref().and_then(|state| state.cursor().cloned());
        let start = remembered.map_or(asked.start.unwrap_or_default(), Start::After);
        let place = Place::new(&request, start, asked.limit);
        Ok(Stream::new(request, place, state))
    }

    fn take_from_url(&mut self, pair: &str) -> Result<(), BuildError> {
        let (name, raw) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_decode_str(raw).decode_utf8_lossy().into_owned();
        let wrong = |wanted: &str| BuildError::Value {
            parameter: name.to_owned(),
            value: secret::excerpt(&value),
            wanted: wanted.to_owned(),
        };
        let number = || digits(&value).ok_or_else(|| wrong(WHOLE_NUMBER));
        let asked = &mut self.in_url;
        let is_repeated = match name {
            "from_height" | "after" => {
                let start = match name {
                    "after" => value.parse().map(Start::After).map_err(|error| format!("{error}")),
                    _ => value.parse(),
                };
                match asked.start.replace(start.map_err(|wanted| wrong(&wanted))?) {
                    Some(Start::After(_)) if name == "from_height" => {
                        return Err(BuildError::TwoStarts);
                    }
                    Some(other) if name == "after" && !matches!(other, Start::After(_)) => {
                        return Err(BuildError::TwoStarts);
                    }
                    earlier => earlier.is_some(),
                }
            }
            "until_height" => asked.until_height.replace(number()?).is_some(),
            "limit" => asked.limit.replace(number()?).is_some(),
            "batch" if value == "block" => std::mem::replace(&mut asked.is_batch, true),
            "batch" => return Err(wrong("write batch=block")),
            "control" if value == "true" => false,
            "control" => return Err(wrong("this client asks for control messages itself")),
            _ => {
                match Filter::named(name, value.clone()) {
                    Some(filter) => asked.filters.push(filter),
                    None => self.others.push(pair.to_owned()),
                }
                false
            }
        };
        match is_repeated {
            true => Err(BuildError::Repeated { parameter: name.to_owned() }),
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

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, filters, until_height, is_batch, others, trust: _ } = self;
        let others = others.len();
        write!(f, "Request {address:?} {filters:?} {until_height:?} {is_batch} +{others}")
    }
}

impl FromStr for Builder {
    type Err = BuildError;

    fn from_str(url: &str) -> Result<Self, BuildError> {
        Self::new(url)
    }
}

impl Request {
    pub fn address(&self) -> &Address {
        &self.address
    }

    pub fn trust(&self) -> Option<Trust> {
        self.trust.clone()
    }

    pub fn is_filtered(&self) -> bool {
        !self.filters.is_empty()
    }

    pub fn is_batch(&self) -> bool {
        self.is_batch
    }

    pub fn until_height(&self) -> Option<u64> {
        self.until_height
    }

    /// What to connect to, to go on from `resume` for `limit` messages at most.
    pub fn url(&self, resume: &Resume, limit: Option<u64>) -> String {
        let mut pairs = match resume {
            Resume::Start(Start::Live) => Vec::new(),
            Resume::Start(Start::After(cursor)) | Resume::After(cursor) => {
                vec![format!("after={cursor}")]
            }
            Resume::Start(start) => vec![format!("from_height={start}")],
        };
        pairs.extend(self.filters.iter().map(ToString::to_string));
        pairs.extend(self.until_height.map(|height| format!("until_height={height}")));
        pairs.extend(limit.map(|limit| format!("limit={limit}")));
        pairs.extend(self.is_batch.then(|| "batch=block".to_owned()));
        pairs.extend_from_slice(&self.others);
        pairs.push("control=true".to_owned());
        format!("{}?{}", self.address.url(), pairs.join("&"))
    }

    /// The stream's name in a state file: what its cursors are cursors of.
    fn name(&self) -> String {
        let filters: Vec<String> = self.filters.iter().map(ToString::to_string).collect();
        match filters.is_empty() {
            true => self.address.path().to_owned(),
            false => format!("{}?{}", self.address.path(), filters.join("&")),
        }
    }
}

fn joined(in_url: Parameters, beside: Parameters) -> Result<Parameters, BuildError> {
    let twice = |parameter: &str| BuildError::Twice { parameter: parameter.to_owned() };
    match (&in_url.start, &beside.start) {
        (Some(Start::After(_)), Some(Start::After(_))) => return Err(twice("after")),
        (Some(Start::After(_)), Some(_)) | (Some(_), Some(Start::After(_))) => {
            return Err(BuildError::TwoStarts);
        }
        (Some(_), Some(_)) => return Err(twice("from_height")),
        _ => {}
    }
    if in_url.until_height.is_some() && beside.until_height.is_some() {
        return Err(twice("until_height"));
    }
    if in_url.limit.is_some() && beside.limit.is_some() {
        return Err(twice("limit"));
    }
    let named: Vec<&str> = in_url.filters.iter().map(Filter::name).collect();
    if let Some(filter) = beside.filters.iter().find(|filter| named.contains(&filter.name())) {
        return Err(twice(filter.name()));
    }
    Ok(Parameters {
        start: in_url.start.or(beside.start),
        filters: in_url.filters.into_iter().chain(beside.filters).collect(),
        until_height: in_url.until_height.or(beside.until_height),
        limit: in_url.limit.or(beside.limit),
        is_batch: in_url.is_batch || beside.is_batch,
    })
}

impl Filter {
    /// The URL parameter.
    pub fn name(&self) -> &'static str {
        match self {
            Self::PublicKey(_) => "public_key",
            Self::OwnerBefore(_) => "owner_before",
            Self::AssetId(_) => "asset_id",
            Self::TransactionId(_) => "transaction_id",
            Self::Operation(_) => "operation",
        }
    }

    fn value(&self) -> &str {
        match self {
            Self::PublicKey(value)
            | Self::OwnerBefore(value)
            | Self::AssetId(value)
            | Self::TransactionId(value)
            | Self::Operation(value) => value,
        }
    }

    pub(super) fn named(name: &str, value: String) -> Option<Self> {
        let kinds: [fn(String) -> Self; 5] = [
            Self::PublicKey,
            Self::OwnerBefore,
            Self::AssetId,
            Self::TransactionId,
            Self::Operation,
        ];
        kinds.iter().map(|kind| kind(value.clone())).find(|filter| filter.name() == name)
    }
}

/// As it stands in a URL.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name(), utf8_percent_encode(self.value(), ESCAPED))
    }
}

/// The values of `from_height`; a cursor as the value of `after`.
impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Live => f.write_str("live"),
            Self::Latest => f.write_str("latest"),
            Self::Oldest => f.write_str("oldest"),
            Self::Height(height) => write!(f, "{height}"),
            Self::BeforeTip(blocks) => write!(f, "-{blocks}"),
            Self::After(cursor) => write!(f, "{cursor}"),
        }
    }
}

/// From a value of `from_height`: `oldest`, `latest`, a height, or `-N`.
impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let start = match text {
            "oldest" => Some(Self::Oldest),
            "latest" => Some(Self::Latest),
            _ => match text.strip_prefix('-') {
                Some(blocks) => digits(blocks).map(Self::BeforeTip),
                None => digits(text).map(Self::Height),
            },
        };
        start.ok_or_else(|| {
            "write oldest, latest, a height, or -N for N blocks before the newest".to_owned()
        })
    }
}

#[cfg(test)]
mod tests;
