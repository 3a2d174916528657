//! Who may open a stream: files of token hashes and of keys. Without one, everybody may.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::value;

#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// One `name hash` per line, the hash a token's SHA-256 in hex; `#` begins a comment.
    #[serde(with = "value::optional")]
    pub tokens_file: Option<PathBuf>,
    pub jwt: Jwt,
}

/// JSON Web Tokens that somebody else hands out.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Jwt {
    /// The only one that is taken, whatever a token says of itself.
    pub algorithm: JwtAlgorithm,
    /// A public key in PEM; for HS256 the secret, as the bytes of the file.
    #[serde(with = "value::optional")]
    pub key: Option<PathBuf>,
    /// A JSON Web Key Set, instead of `key`.
    #[serde(with = "value::optional")]
    pub jwks: Option<PathBuf>,
    /// What `aud` must hold; none to pass `aud` over.
    #[serde(with = "value::optional")]
    pub audience: Option<String>,
    /// By how much the issuer's clock and ours may differ; whole seconds count.
    #[serde(with = "value::duration")]
    pub leeway: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
pub enum JwtAlgorithm {
    HS256,
    #[default]
    EdDSA,
    RS256,
    ES256,
}

impl Default for Jwt {
    fn default() -> Self {
        Self {
            algorithm: JwtAlgorithm::default(),
            key: None,
            jwks: None,
            audience: None,
            leeway: Duration::from_secs(60),
        }
    }
}

impl Auth {
    /// Whether nobody is asked for anything.
    pub fn is_off(&self) -> bool {
        self.tokens_file.is_none() && self.jwt.key.is_none() && self.jwt.jwks.is_none()
    }
}
