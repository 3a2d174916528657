//! A request for a stream, parsed once: the transport that it wants, the credential that it brings, what it
//! asks for, and from where on. Decides nothing.

use std::borrow::Cow;
use std::net::IpAddr;

use data_encoding::BASE64URL_NOPAD;
use hyper::header::{self, HeaderName};
use hyper::{Method, Request, Version};
use hyper_tungstenite::tungstenite::handshake::derive_accept_key;

use super::head::{Accepted, switching_head};
use super::refused::{BadUpgrade, Refused, WEBSOCKET_VERSION};
use crate::filter::Filter;
use crate::frame::Framing;
use crate::protocol::{ACCESS_TOKEN, Query, QueryError, QueryPair, Start, Stream};
use crate::server::auth::NotAuthorized;
use crate::server::cors::Readers;
use crate::server::extensions;
use crate::session::{Pass, SessionRequest, Subscription};

/// A stream by its name, for clients that must have one.
const SUBPROTOCOL: &str = "blockcast";

/// A request for a stream.
pub struct StreamRequest<'r> {
    /// Whether a web page sent it.
    is_of_page: bool,
    /// The token that the request brings, if it brings one. An error: it cannot be read.
    pub credential: Result<Option<Cow<'r, str>>, NotAuthorized>,
    pub asked: Result<Asked, QueryError>,
    pub transport: WantedTransport,
}

/// What is asked for, over whatever transport.
pub struct Asked {
    pub stream: Stream,
    pub query: Query,
    /// Where a browser's `EventSource` goes on by itself; it wins over the query.
    last_event_id: Option<Start>,
}

/// What the stream is to go over.
pub enum WantedTransport {
    WebSocket(Upgrade),
    /// Server-Sent Events, as the WHATWG's HTML standard has them.
    EventStream {
        accepts_gzip: bool,
    },
    /// Neither was asked for.
    None,
}

/// The request's side of a WebSocket handshake (RFC 6455 section 4.2.1).
#[derive(Debug, Clone)]
pub struct Upgrade {
    /// What RFC 6455 section 4.2.2 wants back for the key.
    accept: Result<String, BadUpgrade>,
    /// What is to be used beside RFC 6455, as the answer says it.
    extension: Option<String>,
    subprotocol: Option<&'static str>,
}

impl<'r> StreamRequest<'r> {
    /// Reads a request's head. Query parameters in `ignored` are passed over.
    pub fn of<B>(request: &'r Request<B>, stream: Stream, ignored: &[String]) -> Self {
        let text = request.uri().query().unwrap_or("");
        let pairs: Vec<QueryPair<'r>> = form_urlencoded::parse(text.as_bytes()).collect();
        let transport = WantedTransport::of(request);
        let is_event_stream = matches!(transport, WantedTransport::EventStream { .. });
        Self {
            is_of_page: request.headers().contains_key(header::ORIGIN),
            credential: credential(request, &pairs),
            asked: Query::of(&pairs, stream, ignored)
                .and_then(|query| Asked::of(request, stream, query, is_event_stream)),
            transport,
        }
    }

    /// The WebSocket handshake of a web page, which cannot read a refusal over HTTP.
    pub fn page_upgrade(&self) -> Option<Upgrade> {
        match &self.transport {
            WantedTransport::WebSocket(upgrade) if self.is_of_page => Some(upgrade.clone()),
            _ => None,
        }
    }
}

impl Asked {
    fn of<B>(
        request: &Request<B>,
        stream: Stream,
        query: Query,
        is_event_stream: bool,
    ) -> Result<Self, QueryError> {
        let id = request.headers().get("last-event-id").filter(|id| !id.is_empty());
        let id = id.filter(|_| is_event_stream).map(|id| id.to_str().unwrap_or("not text"));
        let last_event_id = id.map(|id| Start::of_last_event_id(id, stream)).transpose()?;
        Ok(Self { stream, query, last_event_id })
    }

    /// Whether it is of a browser that comes back after all that it asked for.
    pub fn is_over(&self) -> bool {
        let next = self.last_event_id.as_ref().and_then(Start::first_wanted);
        self.query.until_height.zip(next).is_some_and(|(until, next)| next > until)
    }

    /// What its session is to do.
    pub fn session(
        self,
        accepted: Accepted,
        pass: Option<Pass>,
        network: IpAddr,
    ) -> SessionRequest {
        let Self { stream, query, last_event_id } = self;
        let (start, fallback) = match (last_event_id, query.start) {
            (Some(last), start @ (Start::Oldest | Start::Latest)) => (last, Some(start)),
            (Some(last), _) => (last, None),
            (None, start) => (start, None),
        };
        let has_filter = !query.filters.is_empty();
        // Such batches are put together per client, and what is compressed is shared.
        let is_own_batch = query.batch && (has_filter || start.is_inside_block());
        let (wire, is_compressed) = match &accepted {
            Accepted::WebSocket { is_deflated, .. } => (Framing::WebSocket, *is_deflated),
            Accepted::EventStream { accepts_gzip, .. } => {
                (Framing::EventStream, *accepts_gzip && !is_own_batch)
            }
        };
        let subscription = Subscription {
            stream,
            wire,
            is_compressed,
            is_batch: query.batch,
            has_control: query.control,
            filter: Filter::of(query.filters),
        };
        SessionRequest {
            head: accepted.head(&subscription),
            subscription,
            until_height: query.until_height,
            messages_max: query.limit,
            start,
            fallback,
            pass,
            network,
        }
    }
}

impl WantedTransport {
    fn of<B>(request: &Request<B>) -> Self {
        let is_get = request.method() == Method::GET;
        // RFC 6455 section 4.1 wants HTTP/1.1.
        let is_websocket = hyper_tungstenite::is_upgrade_request(request);
        match () {
            () if is_get && is_websocket && request.version() == Version::HTTP_11 => {
                Self::WebSocket(Upgrade::of(request))
            }
            () if is_get && accepts(request, header::ACCEPT, "text/event-stream") => {
                let accepts_gzip = accepts(request, header::ACCEPT_ENCODING, "gzip");
                Self::EventStream { accepts_gzip }
            }
            () => Self::None,
        }
    }

    /// The transport as this server accepts it; `readers` may read an event stream.
    ///
    /// # Errors
    /// There is none, or its handshake is not right.
    pub fn accept(self, readers: Readers) -> Result<Accepted, Refused> {
        match self {
            Self::WebSocket(upgrade) => {
                let accept = upgrade.accept.map_err(Refused::bad_upgrade)?;
                let extension = upgrade.extension.as_deref();
                let head = switching_head(&accept, extension, upgrade.subprotocol);
                Ok(Accepted::WebSocket { head, is_deflated: extension.is_some() })
            }
            Self::EventStream { accepts_gzip } => {
                Ok(Accepted::EventStream { accepts_gzip, readers })
            }
            Self::None => Err(Refused::no_upgrade()),
        }
    }
}

impl Upgrade {
    fn of<B>(request: &Request<B>) -> Self {
        let headers = request.headers();
        let key = headers.get(header::SEC_WEBSOCKET_KEY).map(|key| key.as_bytes());
        let accept = match (headers.get(header::SEC_WEBSOCKET_VERSION), key) {
            (version, _) if version != Some(&WEBSOCKET_VERSION) => Err(BadUpgrade::Version),
            (_, Some(key)) if is_key(key) => Ok(derive_accept_key(key)),
            _ => Err(BadUpgrade::Key),
        };
        let values = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS).into_iter();
        let extension = extensions::agree(values.filter_map(|value| value.to_str().ok()));
        Self { accept, extension, subprotocol: subprotocol(request) }
    }

    /// The head for a WebSocket that is only opened to tell why it is refused; none for one that cannot
    /// be.
    pub fn refusal_head(&self) -> Option<Vec<u8>> {
        let accept = self.accept.as_ref().ok()?;
        Some(switching_head(accept, None, self.subprotocol))
    }
}

/// Whether the header names `wanted` itself, and not with a quality of 0 (RFC 9110 section 12.4.2).
/// A wildcard is no wish: every browser's address line sends one.
fn accepts<B>(request: &Request<B>, name: HeaderName, wanted: &str) -> bool {
    let values = request.headers().get_all(name).into_iter();
    let values = values.filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|choice| {
        let mut parts = choice.split(';').map(str::trim);
        let is_named = parts.next().is_some_and(|named| named.eq_ignore_ascii_case(wanted));
        let quality = parts.find_map(|part| part.strip_prefix("q="));
        is_named && quality.is_none_or(|quality| quality.parse::<f32>().is_ok_and(|q| q > 0.0))
    })
}

/// Whether these are 16 bytes in base64. Bits beyond the last byte are passed over: nobody decodes it.
fn is_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
    key.strip_suffix(b"==").is_some_and(|digits| digits.len() == 22 && digits.iter().all(is_digit))
}

/// The request's credential, by the way that is named first: `Authorization: Bearer`, a subprotocol, or
/// `?access_token=` for what can set neither.
///
/// # Errors
/// A subprotocol that cannot be read.
fn credential<'r, B>(
    request: &'r Request<B>,
    pairs: &[QueryPair<'r>],
) -> Result<Option<Cow<'r, str>>, NotAuthorized> {
    let authorization = request.headers().get(header::AUTHORIZATION);
    let bearer = authorization.and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    if let Some(bearer) = bearer {
        return Ok(Some(Cow::Borrowed(bearer)));
    }
    if let Some(offered) = protocols(request).find_map(offered_token) {
        return offered.map(Some);
    }
    let named = pairs.iter().find(|(name, _)| name == ACCESS_TOKEN);
    Ok(named.map(|(_, value)| value.clone()))
}

/// A token in a subprotocol: `bearer.TOKEN`, or `bearer64.` and the token in base64url, since `=`, `/`
/// and others are no characters of a subprotocol (RFC 6455 section 4.1). None: it holds none.
fn offered_token(protocol: &str) -> Option<Result<Cow<'_, str>, NotAuthorized>> {
    if let Some(token) = protocol.strip_prefix("bearer.") {
        return Some(Ok(Cow::Borrowed(token)));
    }
    let encoded = protocol.strip_prefix("bearer64.")?;
    // No browser lets padding through; other clients may leave it.
    let token = BASE64URL_NOPAD.decode(encoded.trim_end_matches('=').as_bytes()).ok();
    let token = token.and_then(|token| String::from_utf8(token).ok());
    Some(token.map(Cow::Owned).ok_or(NotAuthorized::NotBase64))
}

/// The subprotocol that is answered: our own name, if the client offers it. A browser that offers any
/// wants one of them back, and a credential is never it.
fn subprotocol<B>(request: &Request<B>) -> Option<&'static str> {
    protocols(request).any(|protocol| protocol == SUBPROTOCOL).then_some(SUBPROTOCOL)
}

fn protocols<B>(request: &Request<B>) -> impl Iterator<Item = &str> {
    let values = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter();
    let values = values.filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}
