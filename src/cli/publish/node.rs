//! A node's HTTP API, as far as it gives blocks: `GET {URL}/api/v1/blocks/{height}`.
//!
//! Absent here: asking again, and which height is next.

mod url;

use std::time::Duration;

use anyhow::Context;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::timeout;

pub use url::{NodeText, NodeUrl};

use crate::block;

const AGENT: &str = concat!("blockcast/", env!("CARGO_PKG_VERSION"));
/// For each of the host's addresses.
const CONNECT: Duration = Duration::from_secs(10);
/// A connection that is kept for the next block; the servers in use close theirs earlier.
const IDLE: Duration = Duration::from_secs(15);
/// A whole answer may take so many times what its parts may: 128 MiB in five minutes by default.
const PARTS: u32 = 10;

/// A client of one node.
pub struct Node {
    url: NodeUrl,
    client: AnyClient,
    /// For an answer's head, and for each silence in its body.
    answer_within: Duration,
}

enum AnyClient {
    Plain(Client<HttpConnector, Empty<Bytes>>),
    Tls(Client<HttpsConnector<HttpConnector>, Empty<Bytes>>),
}

/// Why a node did not give a block. Every one may pass: the caller asks again.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error("{url}: no answer: {source}")]
    Unreachable { url: String, source: hyper_util::client::legacy::Error },
    #[error("{url}: the answer broke off: {source}")]
    BrokeOff { url: String, source: hyper::Error },
    #[error("{url}: no answer within {within:?}")]
    Slow { url: String, within: Duration },
    #[error("{url}: answered {status}{hint}")]
    Status { url: String, status: StatusCode, hint: &'static str },
    #[error("{url}: the answer is longer than {bytes_max} bytes")]
    TooLong { url: String, bytes_max: usize },
    #[error("{url}: the answer is no block")]
    NoBlock { url: String },
    #[error("{url}: the answer is block {height}, which was not asked for")]
    OtherHeight { url: String, height: u64 },
}

impl Node {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// `https` without any certificate to trust on this machine.
    pub fn new(url: NodeUrl, answer_within: Duration) -> anyhow::Result<Self> {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_nodelay(true);
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_idle_timeout(IDLE).pool_timer(TokioTimer::new());
        let client = if url.is_tls() {
            connector.enforce_http(false);
            let https = HttpsConnectorBuilder::new()
                .with_native_roots()
                .context("no system certificates to trust the node's by")?
                .https_only()
                .enable_http1()
                .wrap_connector(connector);
            AnyClient::Tls(builder.build(https))
        } else {
            AnyClient::Plain(builder.build(connector))
        };
        Ok(Self { url, client, answer_within })
    }

    pub fn url(&self) -> &NodeUrl {
        &self.url
    }

    /// The block at `height` as the node words it, at most `bytes_max` bytes of it; `None` when the
    /// node has none there (yet).
    ///
    /// # Errors
    /// See [`NodeError`].
    pub async fn block(&self, height: u64, bytes_max: usize) -> Result<Option<Vec<u8>>, NodeError> {
        let url = self.url.block(height);
        let within = self.answer_within * PARTS;
        let body = match timeout(within, self.get(&url, bytes_max)).await {
            Ok(body) => body?,
            Err(_) => return Err(NodeError::Slow { url, within }),
        };
        let Some(body) = body else { return Ok(None) };
        match block::height_of(&body) {
            Some(said) if said == height => Ok(Some(body)),
            Some(said) => Err(NodeError::OtherHeight { url, height: said }),
            None => Err(NodeError::NoBlock { url }),
        }
    }

    async fn get(&self, url: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, NodeError> {
        let slow = || NodeError::Slow { url: url.to_owned(), within: self.answer_within };
        let answer = timeout(self.answer_within, self.request(url)).await.map_err(|_| slow())?;
        let answer =
            answer.map_err(|source| NodeError::Unreachable { url: url.to_owned(), source })?;
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
        let mut body = Vec::new();
        while let Some(frame) =
            timeout(self.answer_within, frames.frame()).await.map_err(|_| slow())?
        {
            let frame =
                frame.map_err(|source| NodeError::BrokeOff { url: url.to_owned(), source })?;
            let chunk = frame.into_data().unwrap_or_default();
            if body.len() + chunk.len() > bytes_max {
                return Err(NodeError::TooLong { url: url.to_owned(), bytes_max });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Some(body))
    }

    fn request(&self, url: &str) -> ResponseFuture {
        let mut request =
            Request::get(url).header(ACCEPT, "application/json").header(USER_AGENT, AGENT);
        if let Some(authorization) = self.url.authorization() {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Empty::new()).expect("bug: the URL was parsed before");
        match &self.client {
            AnyClient::Plain(client) => client.request(request),
            AnyClient::Tls(client) => client.request(request),
        }
    }
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
