//! `tail`: the text messages of a stream, one a line. After a lost connection it connects again to
//! the same address; it does not resume, so what was sent in between is not shown.

mod ending;

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::http;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use super::signals::Signals;
use super::{Outcome, say};
use crate::backoff::Backoff;
use ending::{Ending, Next};

/// A stream's address, `ws://...` or `wss://...`.
pub type StreamUrl = http::Uri;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Connecting, with the TLS and WebSocket handshakes.
const CONNECT: Duration = Duration::from_secs(10);
/// Silence after which we ask whether the server is there; it pings idle clients every 25 s itself.
const SILENCE: Duration = Duration::from_secs(40);
/// How long an answer to that, or to our close, may take.
const ANSWER: Duration = Duration::from_secs(10);
/// A block as one message, `batch=block`, is the largest there is; history.max_bytes bounds it to
/// 256 MiB, but one of 64 MiB would hold 300,000 events already.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Prints until the server says that the stream is done, stdout is closed, or SIGTERM or SIGINT.
///
/// # Errors
/// The server refuses in a way that asking again cannot change, or stdout cannot be written.
pub async fn run(url: &StreamUrl) -> Outcome {
    let mut signals = Signals::new()?;
    let mut backoff = Backoff::default();
    loop {
        let attempt = async {
            let mut socket = match connect(url).await {
                Ok(socket) => socket,
                Err(ending) => return Ok(ending),
            };
            say(&format!("connected to {}", shown(url)));
            print(&mut socket, &mut backoff).await
        };
        let ending: Ending = tokio::select! {
            ending = attempt => ending?,
            _ = signals.next() => return Ok(()),
        };
        let retry_after = match ending.next {
            Next::Done => return Ok(()),
            Next::Fail => return Err(anyhow!("{}", ending.why).into()),
            Next::Again { not_before } => not_before,
        };
        let wait = backoff.next(super::half_jitter()).max(retry_after);
        say(&format!("{}; again in {:.1} s", ending.why, wait.as_secs_f64()));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = signals.next() => return Ok(()),
        }
    }
}

async fn connect(url: &StreamUrl) -> Result<Socket, Ending> {
    let config = WebSocketConfig::default()
        .read_buffer_size(64 << 10)
        .write_buffer_size(0)
        .max_write_buffer_size(64 << 10)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    match timeout(CONNECT, connect_async_with_config(url, Some(config), true)).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(error)) => Err(ending::of_connect(&error)),
        Err(_) => Err(ending::again(format!("no connection within {} s", CONNECT.as_secs()))),
    }
}

/// Prints the socket's messages until it ends.
///
/// # Errors
/// Stdout cannot be written; a closed one is an ending like any other.
async fn print(socket: &mut Socket, backoff: &mut Backoff) -> Result<Ending> {
    let mut asked = false;
    loop {
        let wait = if asked { ANSWER } else { SILENCE };
        let message = match timeout(wait, socket.next()).await {
            Ok(Some(Ok(message))) => message,
            Ok(Some(Err(error))) => return Ok(ending::of_failure(&error)),
            Ok(None) => return Ok(ending::again("the connection ended without a close".into())),
            Err(_) if asked => return Ok(ending::again("the server is silent".into())),
            Err(_) => {
                asked = true;
                // A failure to send shows when reading.
                let _ = timeout(ANSWER, socket.send(Message::Ping(Bytes::new()))).await;
                continue;
            }
        };
        asked = false;
        match message {
            Message::Text(text) => {
                if !print_line(&text).context("cannot write to stdout")? {
                    close(socket).await;
                    return Ok(ending::done());
                }
                backoff.reset();
            }
            Message::Close(frame) => {
                let _ = timeout(ANSWER, socket.flush()).await;
                return Ok(ending::of_close(frame.as_ref()));
            }
            // Pings are answered by the library as it reads on.
            _ => {}
        }
    }
}

/// One message on one line, at once; `false` when nobody reads stdout any more.
fn print_line(text: &str) -> std::io::Result<bool> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.write_all(b"\n"))
        .and_then(|()| stdout.flush());
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

async fn close(socket: &mut Socket) {
    let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    let _ = timeout(ANSWER, socket.close(Some(frame))).await;
}

/// The address without what may stand before the host: a password.
fn shown(url: &StreamUrl) -> String {
    let scheme = url.scheme_str().unwrap_or("ws");
    let place = url.authority().map_or("", |authority| authority.as_str());
    let place = place.rsplit('@').next().unwrap_or(place);
    format!("{scheme}://{place}{}", url.path())
}

/// An address as it is typed; one for HTTP is refused with what was meant.
pub fn stream_url(text: &str) -> Result<StreamUrl, String> {
    let url: StreamUrl = text.parse().map_err(|error| format!("{error}"))?;
    match url.scheme_str() {
        Some("ws" | "wss") => Ok(url),
        Some("http") => Err(format!("write ws{}", text.trim_start_matches("http"))),
        Some("https") => Err(format!("write wss{}", text.trim_start_matches("https"))),
        _ => Err("a stream's address begins with ws:// or wss://".into()),
    }
}
