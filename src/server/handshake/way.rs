//! What a request for a stream says of itself: over what it wants the stream, and from where on.

use std::borrow::Cow;

use data_encoding::BASE64URL_NOPAD;
use hyper::body::Incoming;
use hyper::header::{self, HeaderName};
use hyper::{Method, Request, StatusCode, Version};
use hyper_tungstenite::tungstenite::handshake::derive_accept_key;

use super::refused::{Refused, WEBSOCKET_VERSION};
use crate::metrics::HandshakeRefusal;
use crate::server::auth::NotAuthorized;
use crate::server::extensions;
use crate::server::form::Stream;
use crate::server::query::{ACCESS_TOKEN, Start};

/// A stream by its name, for clients that must have one.
const SUBPROTOCOL: &str = "blockcast";

/// Over what the stream is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    WebSocket,
    /// Server-Sent Events, as the WHATWG's HTML standard has them.
    EventStream,
    /// Neither was asked for.
    None,
}

pub fn way(request: &Request<Incoming>) -> Way {
    let is_get = request.method() == Method::GET;
    // RFC 6455 section 4.1 wants HTTP/1.1.
    let is_websocket = hyper_tungstenite::is_upgrade_request(request);
    match () {
        () if is_get && is_websocket && request.version() == Version::HTTP_11 => Way::WebSocket,
        () if is_get && accepts(request, header::ACCEPT, "text/event-stream") => Way::EventStream,
        () => Way::None,
    }
}

/// Whether the header names `wanted` itself, and not with a quality of 0 (RFC 9110 section 12.4.2).
/// A wildcard is no wish: every browser's address line sends one.
pub fn accepts(request: &Request<Incoming>, name: HeaderName, wanted: &str) -> bool {
    let values = request.headers().get_all(name).into_iter();
    let values = values.filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|choice| {
        let mut parts = choice.split(';').map(str::trim);
        let is_named = parts.next().is_some_and(|named| named.eq_ignore_ascii_case(wanted));
        let quality = parts.find_map(|part| part.strip_prefix("q="));
        is_named && quality.is_none_or(|quality| quality.parse::<f32>().is_ok_and(|q| q > 0.0))
    })
}

/// Where a browser's `EventSource` goes on by itself; it wins over the query.
pub fn last_event_id(
    request: &Request<Incoming>,
    stream: Stream,
    way: Way,
) -> Result<Option<Start>, Refused> {
    let id = request.headers().get("last-event-id").filter(|id| !id.is_empty());
    let Some(id) = id.filter(|_| way == Way::EventStream) else { return Ok(None) };
    let id = id.to_str().unwrap_or("not text");
    Start::of_last_event_id(id, stream).map(Some).map_err(Refused::bad_query)
}

/// What RFC 6455 section 4.2.2 wants back for the request's key.
pub fn accept_key(request: &Request<Incoming>) -> Result<String, Refused> {
    let version = request.headers().get(header::SEC_WEBSOCKET_VERSION);
    if version != Some(&WEBSOCKET_VERSION) {
        let message = "only version 13 of the WebSocket protocol is spoken here";
        return Err(Refused::new(
            StatusCode::UPGRADE_REQUIRED,
            HandshakeRefusal::BadRequest,
            message,
        ));
    }
    match request.headers().get(header::SEC_WEBSOCKET_KEY) {
        Some(key) if is_key(key.as_bytes()) => Ok(derive_accept_key(key.as_bytes())),
        _ => {
            let message = "Sec-WebSocket-Key must be 16 bytes in base64";
            Err(Refused::new(StatusCode::BAD_REQUEST, HandshakeRefusal::BadRequest, message))
        }
    }
}

/// Whether these are 16 bytes in base64. Bits beyond the last byte are passed over: nobody decodes it.
fn is_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
    key.strip_suffix(b"==").is_some_and(|digits| digits.len() == 22 && digits.iter().all(is_digit))
}

/// What a WebSocket is to use beside RFC 6455, as its answer says it.
pub fn extension(request: &Request<Incoming>, way: Way) -> Option<String> {
    let values = request.headers().get_all(header::SEC_WEBSOCKET_EXTENSIONS).into_iter();
    let agreed = extensions::agree(values.filter_map(|value| value.to_str().ok()));
    agreed.filter(|_| way == Way::WebSocket)
}

/// The request's credential, by the way that is named first: `Authorization: Bearer`, a subprotocol, or
/// `?access_token=` for what can set neither.
///
/// # Errors
/// A subprotocol that cannot be read.
pub fn credential(request: &Request<Incoming>) -> Result<Option<Cow<'_, str>>, NotAuthorized> {
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
    let query = request.uri().query().unwrap_or("");
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    Ok(pairs.find_map(|(name, value)| (name == ACCESS_TOKEN).then_some(value)))
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
pub fn subprotocol(request: &Request<Incoming>) -> Option<&'static str> {
    protocols(request).any(|protocol| protocol == SUBPROTOCOL).then_some(SUBPROTOCOL)
}

fn protocols(request: &Request<Incoming>) -> impl Iterator<Item = &str> {
    let values = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter();
    let values = values.filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}
