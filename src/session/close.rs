//! Every way in which the server ends a session: code, reason, metric.
//!
//! The reason begins with where to go on, ready to be put into the next URL, then says why.

use super::pass::Over;
use crate::metrics::Disconnect;

/// RFC 6455 section 5.5: 125 bytes of payload, two of them the code.
const REASON_BYTES_MAX: usize = 123;
const FIN_CLOSE: u8 = 0x88;
/// RFC 6455 section 7.4.1: a message is too big for whoever says it.
const TOO_BIG: u16 = 1009;

/// Why the server closes a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// 1000: the client has all that it asked for.
    Done,
    /// 1001: this replica ends.
    Draining,
    /// 1001: nothing was heard for too long.
    NoPong,
    /// 1002.
    Protocol(&'static str),
    /// 1007.
    NotUtf8,
    /// 1009.
    TooBig,
    /// 4000: what a handshake with an `Origin` asked for is refused in-band.
    BadRequest(String),
    /// 4001: what a handshake with an `Origin` is refused for in-band: the credential.
    NotAuthorized(String),
    /// 4001: what let the client in does so no more.
    Over(Over),
    /// 4008: its next block has left the history.
    TooSlow,
    /// 4009: where the client wants to begin is older than all there is.
    NotAvailable { first_height: Option<u64> },
    /// 4009: the chain did not get to where the client wants to begin.
    Ahead { tip: u64 },
    /// 4010: another chain took the place of this one.
    AnotherChain,
}

impl Cause {
    pub fn code(&self) -> u16 {
        match self {
            Self::Done => 1000,
            Self::Draining | Self::NoPong => 1001,
            Self::Protocol(_) => 1002,
            Self::NotUtf8 => 1007,
            Self::TooBig => TOO_BIG,
            Self::BadRequest(_) => 4000,
            Self::NotAuthorized(_) | Self::Over(_) => 4001,
            Self::TooSlow => 4008,
            Self::NotAvailable { .. } | Self::Ahead { .. } => 4009,
            Self::AnotherChain => 4010,
        }
    }

    pub fn disconnect(&self) -> Disconnect {
        match self {
            Self::Done => Disconnect::Done,
            Self::NotAvailable { .. } | Self::Ahead { .. } => Disconnect::NotAvailable,
            Self::Draining => Disconnect::Drained,
            Self::NoPong => Disconnect::NoPong,
            Self::Protocol(_) | Self::NotUtf8 | Self::BadRequest(_) => Disconnect::Protocol,
            Self::NotAuthorized(_) | Self::Over(_) => Disconnect::NotAuthorized,
            Self::TooBig => Disconnect::TooBig,
            Self::TooSlow => Disconnect::Slow,
            Self::AnotherChain => Disconnect::Reset,
        }
    }

    /// Where to go on, and why this is the end. `position` is what the session's place is in a URL.
    pub fn reason(&self, position: &str) -> String {
        let why = match self {
            Self::Done => "done",
            Self::Draining => "draining",
            Self::NoPong => "no pong",
            Self::Protocol(fault) => fault,
            Self::NotUtf8 => "text that is not UTF-8",
            Self::TooBig => "message too big",
            // Nothing has been sent.
            Self::BadRequest(message) | Self::NotAuthorized(message) => return message.clone(),
            Self::Over(Over::Expired) => "token expired",
            Self::Over(Over::Revoked) => "token revoked",
            Self::TooSlow => "too slow",
            Self::NotAvailable { first_height: Some(first) } => {
                return format!("from_height={first}");
            }
            Self::NotAvailable { first_height: None } => return "from_height=oldest".to_owned(),
            Self::Ahead { tip } => return format!("tip={tip}"),
            // No height of the old chain means anything on the new one.
            Self::AnotherChain => return "from_height=oldest another chain".to_owned(),
        };
        format!("{position} {why}")
    }

    /// The close frame, whole.
    pub fn frame(&self, position: &str) -> Vec<u8> {
        close_frame(Some(self.code()), &self.reason(position))
    }
}

/// How a session ended that its client closed with `code`.
pub fn by_client(code: Option<u16>) -> Disconnect {
    match code {
        Some(TOO_BIG) => Disconnect::ClientLimit,
        _ => Disconnect::Client,
    }
}

/// The answer to a client's own close: its code again, or none.
pub fn echo_frame(code: Option<u16>) -> Vec<u8> {
    close_frame(code, "")
}

fn close_frame(code: Option<u16>, reason: &str) -> Vec<u8> {
    let reason = &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)];
    let mut payload = Vec::with_capacity(2 + reason.len());
    payload.extend(code.map(u16::to_be_bytes).into_iter().flatten());
    payload.extend_from_slice(reason.as_bytes());
    let mut frame = vec![FIN_CLOSE, payload.len() as u8];
    frame.append(&mut payload);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_is_the_position_then_why() {
        let frame = Cause::TooSlow.frame("after=42.7");
        assert_eq!(&frame[..4], [0x88, 21, 0x0f, 0xa8]);
        assert_eq!(&frame[4..], b"after=42.7 too slow");
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let frame = Cause::BadRequest("ü".repeat(100)).frame("after=1");
        assert_eq!(frame.len(), 2 + 2 + 122);
        assert!(std::str::from_utf8(&frame[4..]).is_ok());
    }

    #[test]
    fn a_clients_close_without_code_is_answered_without_one() {
        assert_eq!(echo_frame(None), [0x88, 0]);
        assert_eq!(echo_frame(Some(3000)), [0x88, 2, 0x0b, 0xb8]);
    }
}
