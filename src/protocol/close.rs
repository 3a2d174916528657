//! Every way in which a server ends a stream: close codes and their reasons.
//!
//! A reason begins with where to go on, ready to be put into the next URL, then says why.

use std::borrow::Cow;

use super::number::height;
use super::parameter::FROM_HEIGHT;
use super::start::Start;

const DONE: u16 = 1000;
const GOING_AWAY: u16 = 1001;
const PROTOCOL: u16 = 1002;
const NOT_UTF8: u16 = 1007;
/// RFC 6455 section 7.4.1: a message is too big for whoever says it.
pub const TOO_BIG: u16 = 1009;
const BAD_REQUEST: u16 = 4000;
const NOT_AUTHORIZED: u16 = 4001;
const TOO_SLOW: u16 = 4008;
const NOT_AVAILABLE: u16 = 4009;
const ANOTHER_CHAIN: u16 = 4010;

const TIP: &str = "tip";

/// Why a server closes a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// 1000: the client has all that it asked for.
    Done,
    /// 1001: this replica ends.
    Draining,
    /// 1001: nothing was heard for too long.
    NoPong,
    /// 1002.
    Protocol(Cow<'static, str>),
    /// 1007.
    NotUtf8,
    /// 1009.
    TooBig,
    /// 4000: what a handshake with an `Origin` asked for is refused in-band.
    BadRequest(String),
    /// 4001: what a handshake with an `Origin` is refused for in-band: the credential.
    NotAuthorized(String),
    /// 4001: the token that let the client in has come to its end.
    TokenExpired,
    /// 4001: the token that let the client in was taken back.
    TokenRevoked,
    /// 4008: its next block has left the history.
    TooSlow,
    /// 4009: where the client wants to begin is older than all there is.
    NotAvailable {
        /// The oldest height that could be had.
        first_height: Option<u64>,
    },
    /// 4009: the chain did not get to where the client wants to begin.
    Ahead {
        /// The newest height.
        tip: u64,
    },
    /// 4010: another chain took the place of this one.
    AnotherChain,
}

/// What a close says, as its reader finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseReason {
    /// Why the connection ends.
    pub cause: Cause,
    /// Where the client goes on, if the reason says it.
    pub start: Option<Start>,
}

impl Cause {
    /// The close code: RFC 6455's, or one from 4000 on.
    pub fn code(&self) -> u16 {
        match self {
            Self::Done => DONE,
            Self::Draining | Self::NoPong => GOING_AWAY,
            Self::Protocol(_) => PROTOCOL,
            Self::NotUtf8 => NOT_UTF8,
            Self::TooBig => TOO_BIG,
            Self::BadRequest(_) => BAD_REQUEST,
            Self::NotAuthorized(_) | Self::TokenExpired | Self::TokenRevoked => NOT_AUTHORIZED,
            Self::TooSlow => TOO_SLOW,
            Self::NotAvailable { .. } | Self::Ahead { .. } => NOT_AVAILABLE,
            Self::AnotherChain => ANOTHER_CHAIN,
        }
    }

    /// Where to go on, and why this is the end. `position` is where the client would go on.
    pub fn reason(&self, position: &Start) -> String {
        match self {
            // Nothing has been sent.
            Self::BadRequest(message) | Self::NotAuthorized(message) => message.clone(),
            Self::NotAvailable { first_height: Some(first) } => format!("{FROM_HEIGHT}={first}"),
            Self::NotAvailable { first_height: None } => format!("{FROM_HEIGHT}=oldest"),
            Self::Ahead { tip } => format!("{TIP}={tip}"),
            // No height of the old chain means anything on the new one.
            Self::AnotherChain => format!("{FROM_HEIGHT}=oldest {}", self.why()),
            _ => match position.to_query() {
                Some(position) => format!("{position} {}", self.why()),
                None => self.why().to_owned(),
            },
        }
    }

    /// Whether the reason says the client's own position.
    pub fn tells_position(&self) -> bool {
        !matches!(
            self,
            Self::BadRequest(_)
                | Self::NotAuthorized(_)
                | Self::NotAvailable { .. }
                | Self::Ahead { .. }
                | Self::AnotherChain
        )
    }

    fn why(&self) -> &str {
        match self {
            Self::Done => "done",
            Self::Draining => "draining",
            Self::NoPong => "no pong",
            Self::Protocol(fault) => fault,
            Self::NotUtf8 => "text that is not UTF-8",
            Self::TooBig => "message too big",
            Self::TokenExpired => "token expired",
            Self::TokenRevoked => "token revoked",
            Self::TooSlow => "too slow",
            Self::AnotherChain => "another chain",
            Self::BadRequest(message) | Self::NotAuthorized(message) => message,
            Self::NotAvailable { .. } | Self::Ahead { .. } => "",
        }
    }
}

impl CloseReason {
    /// Reads a close's code and reason. None: no Blockcast closes with this code.
    ///
    /// The code decides. A reason may say more than it does today, or less: what is not understood
    /// of it is passed over.
    pub fn parse(code: u16, reason: &str) -> Option<Self> {
        let (first, rest) = reason.split_once(' ').unwrap_or((reason, ""));
        let start = Start::of_query(first);
        let why = if start.is_some() { rest } else { reason };
        let says = |cause: &Cause| start.is_some() && cause.why() == why;
        let cause = match code {
            DONE => Cause::Done,
            GOING_AWAY if says(&Cause::NoPong) => Cause::NoPong,
            GOING_AWAY => Cause::Draining,
            PROTOCOL => Cause::Protocol(why.to_owned().into()),
            NOT_UTF8 => Cause::NotUtf8,
            TOO_BIG => Cause::TooBig,
            BAD_REQUEST => return Some(Cause::BadRequest(reason.to_owned()).into()),
            NOT_AUTHORIZED if says(&Cause::TokenExpired) => Cause::TokenExpired,
            NOT_AUTHORIZED if says(&Cause::TokenRevoked) => Cause::TokenRevoked,
            NOT_AUTHORIZED => return Some(Cause::NotAuthorized(reason.to_owned()).into()),
            TOO_SLOW => Cause::TooSlow,
            NOT_AVAILABLE => not_available(reason),
            ANOTHER_CHAIN => Cause::AnotherChain,
            _ => return None,
        };
        Some(Self { cause, start })
    }
}

impl From<Cause> for CloseReason {
    fn from(cause: Cause) -> Self {
        Self { cause, start: None }
    }
}

fn not_available(reason: &str) -> Cause {
    match (height_in(reason, FROM_HEIGHT), height_in(reason, TIP)) {
        (None, Some(tip)) => Cause::Ahead { tip },
        (first_height, _) => Cause::NotAvailable { first_height },
    }
}

/// A height that a reason names, such as `from_height=3` or `tip=9`.
fn height_in(reason: &str, name: &str) -> Option<u64> {
    let value = |word: &str| word.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
    let value = reason.split_whitespace().find_map(value)?;
    height(value.trim_end_matches([',', ';']))
}

#[cfg(test)]
mod tests {
    use super::super::start::tests::any_start;
    use super::super::{HEIGHT_MAX, Position};
    use super::*;
    use proptest::option;
    use proptest::prelude::*;

    fn any_cause() -> impl Strategy<Value = Cause> {
        let height = || 0..=HEIGHT_MAX;
        prop_oneof![
            prop::sample::select(vec![
                Cause::Done,
                Cause::Draining,
                Cause::NoPong,
                Cause::NotUtf8,
                Cause::TooBig,
                Cause::TokenExpired,
                Cause::TokenRevoked,
                Cause::TooSlow,
                Cause::AnotherChain,
            ]),
            any::<String>().prop_map(|fault| Cause::Protocol(fault.into())),
            any::<String>().prop_map(Cause::BadRequest),
            any::<String>().prop_map(Cause::NotAuthorized),
            option::of(height()).prop_map(|first_height| Cause::NotAvailable { first_height }),
            height().prop_map(|tip| Cause::Ahead { tip }),
        ]
    }

    proptest! {
        #[test]
        fn a_close_is_read_as_it_is_written(cause in any_cause(), start in any_start()) {
            let reason = cause.reason(&start);
            let close = CloseReason::parse(cause.code(), &reason).expect("one of ours");
            let expected = match &cause {
                Cause::BadRequest(_) | Cause::NotAuthorized(_) | Cause::Ahead { .. } => None,
                Cause::NotAvailable { first_height: Some(first) } => Some(Start::Height(*first)),
                Cause::NotAvailable { first_height: None } | Cause::AnotherChain => {
                    Some(Start::Oldest)
                }
                _ => Some(start),
            };
            prop_assert_eq!(close, CloseReason { cause, start: expected }, "{}", reason);
        }
    }

    #[test]
    fn reason_is_the_position_then_why() {
        for (cause, code, reason) in [
            (Cause::Done, 1000, "after=42.7 done"),
            (Cause::Draining, 1001, "after=42.7 draining"),
            (Cause::NoPong, 1001, "after=42.7 no pong"),
            (Cause::Protocol("reserved opcode".into()), 1002, "after=42.7 reserved opcode"),
            (Cause::NotUtf8, 1007, "after=42.7 text that is not UTF-8"),
            (Cause::TooBig, 1009, "after=42.7 message too big"),
            (Cause::BadRequest("bad".into()), 4000, "bad"),
            (Cause::NotAuthorized("who?".into()), 4001, "who?"),
            (Cause::TokenExpired, 4001, "after=42.7 token expired"),
            (Cause::TokenRevoked, 4001, "after=42.7 token revoked"),
            (Cause::TooSlow, 4008, "after=42.7 too slow"),
            (Cause::NotAvailable { first_height: Some(3) }, 4009, "from_height=3"),
            (Cause::NotAvailable { first_height: None }, 4009, "from_height=oldest"),
            (Cause::Ahead { tip: 9 }, 4009, "tip=9"),
            (Cause::AnotherChain, 4010, "from_height=oldest another chain"),
        ] {
            let position = Start::After(Position::after_event(42, 7));
            assert_eq!((cause.code(), cause.reason(&position).as_str()), (code, reason));
        }
    }

    #[test]
    fn a_reason_that_says_more_or_less_is_read_by_its_code() {
        let cause = |code, reason| CloseReason::parse(code, reason).map(|close| close.cause);
        assert_eq!(cause(1000, ""), Some(Cause::Done));
        assert_eq!(cause(1001, "maintenance"), Some(Cause::Draining));
        assert_eq!(cause(4009, ""), Some(Cause::NotAvailable { first_height: None }));
        assert_eq!(cause(4009, "tip=9 ahead"), Some(Cause::Ahead { tip: 9 }));
        let first_height = Some(3);
        assert_eq!(cause(4009, "gone; from_height=3;"), Some(Cause::NotAvailable { first_height }));
        assert_eq!(cause(1011, "after=1 done"), None);
    }
}
