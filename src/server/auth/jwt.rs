//! JSON Web Tokens (RFC 7519): whose signature is believed, and until when a token lets in.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, JwkSet};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, Validation, decode, decode_header,
};
use serde::Deserialize;
use tokio::time::Instant;

use super::{NotAuthorized, signature};
use crate::config::{Jwt, JwtAlgorithm};

/// The issuer's clock and ours may differ by so much.
const LEEWAY: Duration = Duration::from_secs(5);
/// Keys of a set; a token that names none is tried with all.
const KEYS_MAX: usize = 32;
/// No session lasts so long; a clock can count it.
const SESSION_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// RFC 7518 section 3.2.
const SECRET_BYTES_MIN: usize = 32;
const SHORT_SECRET: &str = "a secret for HS256 has at least 32 bytes";

/// The keys that are believed, and what else a token must say.
pub struct Keys {
    keys: Vec<Key>,
    validation: Validation,
}

struct Key {
    id: Option<String>,
    key: DecodingKey,
}

#[derive(Deserialize)]
struct Claims {
    exp: f64,
}

impl Keys {
    /// Reads the file that `jwt` names: a set where it names one, else a key.
    ///
    /// # Errors
    /// What is wrong with it, with nothing of it.
    pub fn parse(bytes: &[u8], jwt: &Jwt) -> Result<Self, &'static str> {
        signature::install();
        let keys = match jwt.jwks {
            Some(_) => parse_set(bytes, jwt.algorithm)?,
            None => vec![Key { id: None, key: parse_key(bytes, jwt.algorithm)? }],
        };
        let mut validation = Validation::new(algorithm(jwt.algorithm));
        validation.leeway = LEEWAY.as_secs();
        validation.validate_nbf = true;
        match &jwt.audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                validation.set_required_spec_claims(&["exp", "aud"]);
            }
            None => validation.validate_aud = false,
        }
        Ok(Self { keys, validation })
    }

    /// Until when `token` lets in.
    ///
    /// # Errors
    /// Why it does not.
    pub fn verify(&self, token: &str) -> Result<Instant, NotAuthorized> {
        let header = decode_header(token).map_err(|_| NotAuthorized::Unknown)?;
        let named = |key: &&Key| match (&header.kid, &key.id) {
            (Some(wanted), Some(id)) => wanted == id,
            _ => true,
        };
        let mut refused = NotAuthorized::Unknown;
        for key in self.keys.iter().filter(named) {
            match decode::<Claims>(token, &key.key, &self.validation) {
                Ok(token) => return until(token.claims.exp),
                Err(error) => match not_authorized(error.kind()) {
                    NotAuthorized::Unknown => {}
                    signed => refused = signed,
                },
            }
        }
        Err(refused)
    }
}

fn until(exp: f64) -> Result<Instant, NotAuthorized> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let exp = Duration::try_from_secs_f64(exp).map_err(|_| NotAuthorized::Claims)?;
    let left = exp.saturating_add(LEEWAY).saturating_sub(now);
    Ok(Instant::now() + left.min(SESSION_MAX))
}

fn not_authorized(kind: &ErrorKind) -> NotAuthorized {
    match kind {
        ErrorKind::ExpiredSignature => NotAuthorized::Expired,
        ErrorKind::ImmatureSignature => NotAuthorized::NotYet,
        ErrorKind::InvalidAudience => NotAuthorized::Audience,
        // The signature is looked at before the claims are read.
        ErrorKind::MissingRequiredClaim(_)
        | ErrorKind::InvalidClaimFormat(_)
        | ErrorKind::Json(_) => NotAuthorized::Claims,
        _ => NotAuthorized::Unknown,
    }
}

fn parse_key(bytes: &[u8], algorithm: JwtAlgorithm) -> Result<DecodingKey, &'static str> {
    let key = match algorithm {
        // An editor's last line end is not meant.
        JwtAlgorithm::HS256 => {
            let secret = bytes.trim_ascii_end();
            return match secret.len() < SECRET_BYTES_MIN {
                true => Err(SHORT_SECRET),
                false => Ok(DecodingKey::from_secret(secret)),
            };
        }
        JwtAlgorithm::EdDSA => DecodingKey::from_ed_pem(bytes),
        JwtAlgorithm::RS256 => DecodingKey::from_rsa_pem(bytes),
    };
    key.map_err(|_| "it is no public key in PEM for server.auth.jwt.algorithm")
}

/// Those of a set that the algorithm can use: a provider's set often holds others.
fn parse_set(bytes: &[u8], wanted: JwtAlgorithm) -> Result<Vec<Key>, &'static str> {
    let set: JwkSet = serde_json::from_slice(bytes).map_err(|_| "it is no JSON Web Key Set")?;
    let family = match wanted {
        JwtAlgorithm::HS256 => AlgorithmFamily::Hmac,
        JwtAlgorithm::EdDSA => AlgorithmFamily::Ed,
        JwtAlgorithm::RS256 => AlgorithmFamily::Rsa,
    };
    let mut keys = Vec::new();
    for jwk in set.keys {
        let is_other = matches!(jwk.algorithm, AlgorithmParameters::Other(_));
        let is_for_another =
            jwk.common.key_algorithm.is_some_and(|name| name != algorithm(wanted).into());
        if is_other || is_for_another {
            continue;
        }
        let key = DecodingKey::from_jwk(&jwk).map_err(|_| "one of its keys is malformed")?;
        if key.family() != family {
            continue;
        }
        match key.kind() {
            DecodingKeyKind::SecretOrDer(secret)
                if family == AlgorithmFamily::Hmac && secret.len() < SECRET_BYTES_MIN =>
            {
                return Err(SHORT_SECRET);
            }
            _ => keys.push(Key { id: jwk.common.key_id, key }),
        }
    }
    match keys.len() {
        0 => Err("it holds no key for server.auth.jwt.algorithm"),
        1..=KEYS_MAX => Ok(keys),
        _ => Err("it holds more than 32 keys"),
    }
}

fn algorithm(algorithm: JwtAlgorithm) -> Algorithm {
    match algorithm {
        JwtAlgorithm::HS256 => Algorithm::HS256,
        JwtAlgorithm::EdDSA => Algorithm::EdDSA,
        JwtAlgorithm::RS256 => Algorithm::RS256,
    }
}

#[cfg(test)]
mod tests;
