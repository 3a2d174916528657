//! Why a stream ends, or cannot begin: one variant per decision of the caller.

use std::io;
use std::path::PathBuf;

use super::Position;
use crate::pem::PemError;
use crate::protocol::QueryError;
use crate::record::WAY_OUT;

/// Why a stream ends although more was to come. A connection that cannot be made, or breaks, is none
/// of these: the stream connects again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server refuses this request, and would again: mend the request. `status` is HTTP's, or
    /// the close code 4000 (bad request) or 4001 (not authorized).
    #[error("refused with {status}{}{message}", if message.is_empty() { "" } else { ": " })]
    Refused {
        /// HTTP's, or a close code.
        status: u16,
        /// The server's words.
        message: String,
    },
    /// What comes next is older than all that the server still has. What lies before `first_height`
    /// is lost to this stream: begin there, and know it.
    #[error(
        "the position is not available any more; the first height that is: {}",
        shown(*first_height)
    )]
    Gone {
        /// The oldest block that can be had, if the server says it.
        first_height: Option<u64>,
    },
    /// What comes next lies far behind the newest block there is: the server lags, or the position is
    /// of another chain.
    #[error(
        "the position lies ahead of the newest block, at height {}; is it of another chain?",
        shown(*tip_height)
    )]
    Ahead {
        /// The newest block that there is, if the server says it.
        tip_height: Option<u64>,
    },
    /// Another chain has taken the place of this one. No position of the old one means anything on it:
    /// forget them and begin anew.
    #[error("another chain has taken the place of this one; cursors of the old one are void")]
    AnotherChain,
    /// The server is a Blockcast without control messages and positions: use a newer one.
    #[error(
        "this Blockcast is too old for this client: it does not know the parameter `control` ({message})"
    )]
    Outdated {
        /// The server's words.
        message: String,
    },
    /// The server passes over the request's parameters, as a BigchainDB or Planetmint node does:
    /// follow it live, without any, or follow a Blockcast.
    #[error(
        "this server passes over the parameters it is given (a BigchainDB or Planetmint node?): it can only be followed live, without a start, a filter, an end or a batch"
    )]
    NotUnderstood,
    /// The server cannot be trusted: its certificate is out of its time, of an authority that is not
    /// trusted here, or another's. Name the authority, or mend the server.
    #[error("the server's certificate is not trusted: {why}")]
    Untrusted {
        /// What is wrong with the certificate.
        why: String,
    },
    /// The server does not keep to the protocol: one of the two has a fault. Nothing was skipped or
    /// repeated up to the position.
    #[error("{0}")]
    Protocol(String),
}

/// Why there is no stream: what was asked for cannot be meant.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The address is no URL of a stream.
    #[error("{0}")]
    Address(String),
    /// A parameter has a value that it cannot have.
    #[error("{parameter}={value} cannot be: {wanted}")]
    Value {
        /// The name.
        parameter: String,
        /// What was asked for.
        value: String,
        /// What can be asked for.
        wanted: String,
    },
    /// A parameter is set in the URL and on the builder.
    #[error("`{parameter}` stands both in the URL and beside it; leave one out")]
    Twice {
        /// The name.
        parameter: String,
    },
    /// The URL has a parameter twice.
    #[error("`{parameter}` stands more than once in the URL")]
    Repeated {
        /// The name.
        parameter: String,
    },
    /// Two parameters say where to begin.
    #[error("`from_height` and `after` both say where to begin; leave one out")]
    TwoStarts,
    /// What no server serves: a value out of its bounds, or what is not for this stream.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The state file is of no use.
    #[error(transparent)]
    State(#[from] StateError),
    /// The file of authorities cannot be read.
    #[error("the authorities to trust: {0}")]
    Authorities(#[from] PemError),
    /// The file of authorities holds something else.
    #[error("the authorities to trust: {} holds a certificate that is none: {why}", path.display())]
    BadAuthority {
        /// The file.
        path: PathBuf,
        /// What is wrong with the certificate.
        why: String,
    },
}

/// What is wrong with the file that remembers a position.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// It is there and cannot be read.
    #[error("cannot read the state file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It cannot be written.
    #[error("cannot write the state file {}: {source}; {WAY_OUT}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It holds something else.
    #[error("{} is no state file: {why}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with its text.
        why: String,
    },
    /// Going on from there would skip or repeat in silence.
    #[error(
        "{} remembers {cursor} of {found}, not of {wanted}; use another file for another stream or filter",
        path.display()
    )]
    OtherStream {
        /// The file.
        path: PathBuf,
        /// The position in it.
        cursor: Position,
        /// The stream that the position is of, with its filter.
        found: String,
        /// The stream that was asked for, with its filter.
        wanted: String,
    },
}

fn shown(height: Option<u64>) -> String {
    height.map_or_else(|| "unknown".to_owned(), |height| height.to_string())
}
