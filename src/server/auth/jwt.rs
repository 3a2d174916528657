//! JSON Web Tokens (RFC 7519): whose signature is believed, and until when a token lets in.
//!
//! `jsonwebtoken` reads and judges the claims. The signatures are checked by our own verifier over `ring`
//! (`signature`), which is in the program for TLS anyway: each of the backends that the crate offers would
//! bring a second set of cryptography.

mod keys;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::error::NotAuthorized;
use super::signature;
use crate::config::{Jwt, JwtAlgorithm};
use keys::{JwtKey, KeySet};

/// No session lasts so long; a clock can count it.
const SESSION_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// The keys that are believed, and what else a token must say.
pub struct JwtKeys {
    keys: Vec<JwtKey>,
    validation: Validation,
    /// See [`KeySet::faulty`].
    faulty: Vec<String>,
}

#[derive(Deserialize)]
struct Claims {
    exp: f64,
}

impl JwtKeys {
    /// Reads the file that `jwt` names: a set where it names one, else a key.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(bytes: &[u8], jwt: &Jwt) -> Result<Self, String> {
        signature::install();
        let KeySet { keys, faulty } = match jwt.jwks {
            Some(_) => keys::set(bytes, jwt.algorithm)?,
            None => {
                let key = JwtKey { id: None, key: keys::one(bytes, jwt.algorithm)? };
                KeySet { keys: vec![key], faulty: Vec::new() }
            }
        };
        let mut validation = Validation::new(algorithm(jwt.algorithm));
        validation.leeway = jwt.leeway.as_secs();
        validation.validate_nbf = true;
        match &jwt.audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                validation.set_required_spec_claims(&["exp", "aud"]);
            }
            None => validation.validate_aud = false,
        }
        Ok(Self { keys, validation, faulty })
    }

    /// Keys of the set that are meant for the algorithm and cannot be used, and why.
    pub fn faulty(&self) -> &[String] {
        &self.faulty
    }

    /// Until when `token` lets in.
    ///
    /// # Errors
    /// Why it does not.
    pub fn verify(&self, token: &str) -> Result<Instant, NotAuthorized> {
        let header = decode_header(token).map_err(|_| NotAuthorized::Unknown)?;
        if wants_extension(token) {
            return Err(NotAuthorized::Extension);
        }
        let named = |key: &&JwtKey| match (&header.kid, &key.id) {
            (Some(wanted), Some(id)) => wanted == id,
            _ => true,
        };
        let mut refused = NotAuthorized::Unknown;
        for key in self.keys.iter().filter(named) {
            match decode::<Claims>(token, &key.key, &self.validation) {
                Ok(token) => return self.until(token.claims.exp),
                Err(error) => match not_authorized(error.kind()) {
                    NotAuthorized::Unknown => {}
                    signed => refused = signed,
                },
            }
        }
        Err(refused)
    }

    fn until(&self, exp: f64) -> Result<Instant, NotAuthorized> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let exp = Duration::try_from_secs_f64(exp).map_err(|_| NotAuthorized::Claims)?;
        let leeway = Duration::from_secs(self.validation.leeway);
        let left = exp.saturating_add(leeway).saturating_sub(now);
        Ok(Instant::now() + left.min(SESSION_MAX))
    }
}

/// Whether the header asks for what RFC 7519 does not say. RFC 7515 section 4.1.11: who does not understand
/// all that `crit` lists must refuse, and here nothing is; a `crit` that lists nothing is malformed. RFC
/// 7797: with `b64` false, what is signed is not what is read here.
fn wants_extension(token: &str) -> bool {
    let header = token.split('.').next().unwrap_or_default();
    let header = BASE64URL_NOPAD.decode(header.as_bytes()).unwrap_or_default();
    let header: Map<String, Value> = serde_json::from_slice(&header).unwrap_or_default();
    header.contains_key("crit") || header.get("b64").is_some_and(|b64| *b64 != true)
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

fn algorithm(algorithm: JwtAlgorithm) -> Algorithm {
    match algorithm {
        JwtAlgorithm::HS256 => Algorithm::HS256,
        JwtAlgorithm::EdDSA => Algorithm::EdDSA,
        JwtAlgorithm::RS256 => Algorithm::RS256,
        JwtAlgorithm::ES256 => Algorithm::ES256,
    }
}

#[cfg(test)]
mod tests;
