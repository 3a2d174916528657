//! The end of a session: the close frame, and what a close counts as.

use super::pass::Over;
use crate::metrics::Disconnect;
use crate::protocol::{Cause, Start, TOO_BIG};

/// RFC 6455 section 5.5: 125 bytes of payload, two of them the code.
const REASON_BYTES_MAX: usize = 123;
const FIN_CLOSE: u8 = 0x88;

impl Cause {
    pub fn disconnect(&self) -> Disconnect {
        match self {
            Self::Done => Disconnect::Done,
            Self::NotAvailable { .. } | Self::Ahead { .. } => Disconnect::NotAvailable,
            Self::Draining => Disconnect::Drained,
            Self::NoPong => Disconnect::NoPong,
            Self::Protocol(_) | Self::NotUtf8 | Self::BadRequest(_) => Disconnect::Protocol,
            Self::NotAuthorized(_) | Self::TokenExpired | Self::TokenRevoked => {
                Disconnect::NotAuthorized
            }
            Self::TooBig => Disconnect::TooBig,
            Self::TooSlow => Disconnect::Slow,
            Self::AnotherChain => Disconnect::Reset,
        }
    }

    /// The close frame, whole.
    pub fn frame(&self, position: &Start) -> Vec<u8> {
        close_frame(Some(self.code()), &self.reason(position))
    }
}

impl From<Over> for Cause {
    fn from(over: Over) -> Self {
        match over {
            Over::Expired => Self::TokenExpired,
            Over::Revoked => Self::TokenRevoked,
        }
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
    use crate::protocol::Position;

    #[test]
    fn reason_is_the_position_then_why() {
        let frame = Cause::TooSlow.frame(&Start::After(Position::after_event(42, 7)));
        assert_eq!(&frame[..4], [0x88, 21, 0x0f, 0xa8]);
        assert_eq!(&frame[4..], b"after=42.7 too slow");
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let frame = Cause::BadRequest("ü".repeat(100)).frame(&Start::Live);
        assert_eq!(frame.len(), 2 + 2 + 122);
        assert!(std::str::from_utf8(&frame[4..]).is_ok());
    }

    #[test]
    fn a_clients_close_without_code_is_answered_without_one() {
        assert_eq!(echo_frame(None), [0x88, 0]);
        assert_eq!(echo_frame(Some(3000)), [0x88, 2, 0x0b, 0xb8]);
    }
}
