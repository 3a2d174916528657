//! One node asked over HTTP: a GET, its answer whole and bounded. Knows of no blocks.

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Bytes};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::timeout;

use super::{NodeError, NodeUrl};
use crate::client::Trust;

const AGENT: &str = concat!("blockcast/", env!("CARGO_PKG_VERSION"));
/// For each of the host's addresses.
const CONNECT: Duration = Duration::from_secs(10);
/// A connection that is kept for the next block; the servers in use close theirs earlier.
const IDLE: Duration = Duration::from_secs(15);
/// How the TLS library begins to say that it does not trust a certificate.
const UNTRUSTED: &str = "invalid peer certificate: ";

pub struct Http {
    client: AnyClient,
    authorization: Option<String>,
    /// For an answer's head, and for each silence in its body.
    answer_within: Duration,
}

/// What all answers to one question may take up, together.
pub struct Budget {
    bytes_max: usize,
    bytes_left: AtomicUsize,
}

enum AnyClient {
    Plain(Client<HttpConnector, Empty<Bytes>>),
    Tls(Client<HttpsConnector<HttpConnector>, Empty<Bytes>>),
}

impl Budget {
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes_left: AtomicUsize::new(bytes_max) }
    }

    /// Whether there was so much left.
    fn take(&self, bytes: usize) -> bool {
        let taken = |left: usize| left.checked_sub(bytes);
        self.bytes_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }
}

impl Http {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// `https` without any certificate to trust on this machine.
    pub fn new(
        url: &NodeUrl,
        trust: Option<Trust>,
        answer_within: Duration,
    ) -> anyhow::Result<Self> {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_nodelay(true);
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_idle_timeout(IDLE).pool_timer(TokioTimer::new());
        let client = if url.is_tls() {
            connector.enforce_http(false);
            let https = match trust {
                Some(trust) => {
                    HttpsConnectorBuilder::new().with_tls_config((*trust.config()).clone())
                }
                None => HttpsConnectorBuilder::new().with_native_roots().context(
                    "no system certificates to trust the node's by; --ca FILE names its authority",
                )?,
            };
            AnyClient::Tls(
                builder.build(https.https_only().enable_http1().wrap_connector(connector)),
            )
        } else {
            AnyClient::Plain(builder.build(connector))
        };
        Ok(Self { client, authorization: url.authorization().map(str::to_owned), answer_within })
    }

    /// The answer's body; `None` when there is nothing at this path, said as a node says it.
    ///
    /// # Errors
    /// See [`NodeError`].
    pub async fn get(&self, url: &str, budget: &Budget) -> Result<Option<Vec<u8>>, NodeError> {
        let slow = || NodeError::Slow { url: url.to_owned(), within: self.answer_within };
        let answer = timeout(self.answer_within, self.request(url)).await.map_err(|_| slow())?;
        let answer = answer.map_err(|source| unreachable(url, source))?;
        let status = answer.status();
        if status != StatusCode::OK {
            let content_type = answer.headers().get(CONTENT_TYPE);
            let is_json = content_type.is_some_and(|value| {
                value.to_str().is_ok_and(|value| value.to_ascii_lowercase().contains("json"))
            });
            return match status {
                StatusCode::NOT_FOUND if is_json => Ok(None),
                _ => Err(NodeError::Status { url: url.to_owned(), status, hint: hint(status) }),
            };
        }
        let mut frames = answer.into_body();
        let bytes = frames.size_hint().exact();
        let too_long =
            || NodeError::TooLong { url: url.to_owned(), bytes, bytes_max: budget.bytes_max };
        if bytes.is_some_and(|bytes| bytes > budget.bytes_max as u64) {
            return Err(too_long());
        }
        let mut body = Vec::new();
        while let Some(frame) =
            timeout(self.answer_within, frames.frame()).await.map_err(|_| slow())?
        {
            let frame =
                frame.map_err(|source| NodeError::BrokeOff { url: url.to_owned(), source })?;
            let chunk = frame.into_data().unwrap_or_default();
            if !budget.take(chunk.len()) {
                return Err(too_long());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Some(body))
    }

    fn request(&self, url: &str) -> ResponseFuture {
        let mut request =
            Request::get(url).header(ACCEPT, "application/json").header(USER_AGENT, AGENT);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Empty::new()).expect("bug: the URL was parsed before");
        match &self.client {
            AnyClient::Plain(client) => client.request(request),
            AnyClient::Tls(client) => client.request(request),
        }
    }
}

fn unreachable(url: &str, source: hyper_util::client::legacy::Error) -> NodeError {
    let url = url.to_owned();
    let mut cause: Option<&(dyn Error + 'static)> = Some(&source);
    while let Some(error) = cause {
        if let Some(why) = error.to_string().strip_prefix(UNTRUSTED) {
            return NodeError::Untrusted { url, why: why.to_owned() };
        }
        cause = error.source();
    }
    NodeError::Unreachable { url, source }
}

/// What to do about an answer, where that is known.
fn hint(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "; credentials go into the URL, http://USER:PASSWORD@HOST"
        }
        StatusCode::NOT_FOUND => " and not as a node does, in JSON; is the URL a node's?",
        status if status.is_redirection() => "; give the address that this leads to",
        _ => "",
    }
}
