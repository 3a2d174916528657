//! What is wrong with a credential, or with a file of them. Holds nothing of either.

use std::path::PathBuf;

use crate::file_name::UnreadableFile;

/// What is wrong with a request's credential, in words that hold nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAuthorized {
    #[error(
        "a token is needed: `Authorization: Bearer TOKEN`, the subprotocols `blockcast` and \
         `bearer.TOKEN` (or `bearer64.` and the token in base64url), or `?access_token=TOKEN`"
    )]
    Missing,
    #[error("what follows `bearer64.` is no text in base64url")]
    NotBase64,
    #[error("this token is not known here")]
    Unknown,
    #[error("this token has expired")]
    Expired,
    #[error("this token is not valid yet")]
    NotYet,
    #[error("this token is meant for others (`aud`)")]
    Audience,
    #[error(
        "this token's header asks for an extension that is not understood here (`crit`, `b64`)"
    )]
    Extension,
    #[error("this token has no `exp`, or another of its claims is not what it must be")]
    Claims,
}

/// A file of credentials that cannot be used: mend it.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    #[error("{key}: {source}")]
    Unreadable { key: &'static str, source: UnreadableFile },
    #[error("{path}, line {line}: {fault}")]
    BadLine { path: PathBuf, line: usize, fault: &'static str },
    #[error("{path}: {fault}")]
    BadFile { path: PathBuf, fault: String },
}
