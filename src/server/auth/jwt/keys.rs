//! Keys that signatures of tokens are checked with, read from PEM, from a secret's bytes, or from a JSON
//! Web Key Set (RFC 7517). Says in words why a key is of no use, and never what is in it.

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{DecodingKey, DecodingKeyKind};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use serde_json::Value;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::RSAPublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::config::JwtAlgorithm;

/// Keys of a set; a token that names none is tried with all.
const KEYS_MAX: usize = 32;
/// RFC 7518 section 3.2.
const SECRET_BYTES_MIN: usize = 32;
const SHORT_SECRET: &str = "a secret for HS256 has at least 32 bytes";
/// RFC 7518 section 3.3, and the most that is computed here.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;
const WRONG_RSA_SIZE: &str = "an RSA key has 2,048 to 8,192 bits";
/// Of P-256 and Ed25519: a coordinate (RFC 7518 section 6.2.1.2), and a key (RFC 8037 section 2).
const COORDINATE_BYTES: usize = 32;
/// Keys that a message names.
const NAMED_MAX: usize = 4;
const NAME_CHARACTERS_MAX: usize = 64;
/// X9.62's mark of a point of which both coordinates follow.
const UNCOMPRESSED_POINT: u8 = 4;

/// A key that is believed.
pub struct JwtKey {
    /// None: it has no name, and is tried with every token.
    pub id: Option<String>,
    pub key: DecodingKey,
}

/// What is believed of a set.
pub struct KeySet {
    pub keys: Vec<JwtKey>,
    /// Names of those that are meant for the algorithm and cannot be used, and why; in words.
    pub faulty: Vec<String>,
}

/// Why a key of a set does not count.
enum NotUsed {
    /// It is for another algorithm or another use, as a provider's set often has some.
    Foreign(String),
    /// It is meant for our algorithm, and is of no use.
    Faulty(String),
}

/// The key of a file of its own.
///
/// # Errors
/// What is wrong with it, in words.
pub fn one(bytes: &[u8], wanted: JwtAlgorithm) -> Result<DecodingKey, String> {
    match wanted {
        JwtAlgorithm::HS256 => {
            // An editor's last line end is not meant.
            let secret = bytes.trim_ascii_end();
            match secret.len() < SECRET_BYTES_MIN {
                true => Err(SHORT_SECRET.to_owned()),
                false => Ok(DecodingKey::from_secret(secret)),
            }
        }
        _ => of_pem(bytes, wanted),
    }
}

/// The keys of a set that the algorithm can use. RFC 7517 section 5: keys that cannot be used are passed
/// over, and the others count.
///
/// # Errors
/// It is no set, has too many keys, or none that can be used; in words.
pub fn set(bytes: &[u8], wanted: JwtAlgorithm) -> Result<KeySet, String> {
    let set: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let members = set["keys"].as_array().ok_or(
        "it is no JSON Web Key Set: an object whose `keys` are an array (a key in PEM goes into \
         server.auth.jwt.key)",
    )?;
    let (mut keys, mut faulty, mut passed_over) = (Vec::new(), Vec::new(), Vec::new());
    for (at, member) in members.iter().enumerate() {
        let (reason, is_faulty) = match of_set(member, wanted) {
            Ok(key) => {
                keys.push(key);
                continue;
            }
            Err(NotUsed::Foreign(reason)) => (reason, false),
            Err(NotUsed::Faulty(reason)) => (reason, true),
        };
        let told = format!("{}: {reason}", name(member, at));
        faulty.extend(is_faulty.then(|| told.clone()));
        passed_over.push(told);
    }
    match keys.len() {
        0 => Err(format!(
            "it holds no key for server.auth.jwt.algorithm = \"{wanted:?}\"{}",
            listed(&passed_over)
        )),
        1..=KEYS_MAX => Ok(KeySet { keys, faulty }),
        _ => Err(format!("it holds more than {KEYS_MAX} keys")),
    }
}

/// The first of some reasons, behind a colon.
fn listed(reasons: &[String]) -> String {
    let more = reasons.len().saturating_sub(NAMED_MAX);
    let named = reasons[..reasons.len().min(NAMED_MAX)].join("; ");
    match (reasons.is_empty(), more) {
        (true, _) => String::new(),
        (false, 0) => format!(": {named}"),
        (false, more) => format!(": {named}; and {more} more"),
    }
}

/// By its `kid`, else by its place in the set.
fn name(member: &Value, at: usize) -> String {
    match member["kid"].as_str() {
        Some(id) => format!("key {:?}", id.chars().take(NAME_CHARACTERS_MAX).collect::<String>()),
        None => format!("key {} of the set", at + 1),
    }
}

fn of_set(member: &Value, wanted: JwtAlgorithm) -> Result<JwtKey, NotUsed> {
    let faulty = |reason: &str| NotUsed::Faulty(reason.to_owned());
    let foreign = |reason: String| Err(NotUsed::Foreign(reason));
    let text = |name: &str| member[name].as_str();
    let (wanted_type, wanted_curve) = match wanted {
        JwtAlgorithm::HS256 => ("oct", None),
        JwtAlgorithm::RS256 => ("RSA", None),
        JwtAlgorithm::ES256 => ("EC", Some("P-256")),
        JwtAlgorithm::EdDSA => ("OKP", Some("Ed25519")),
    };
    let key_type = text("kty").ok_or_else(|| faulty("it has no type (`kty`)"))?;
    if key_type != wanted_type {
        return foreign(format!("its type (`kty`) is {}", shown(key_type)));
    }
    if let Some(curve) = wanted_curve {
        match text("crv") {
            Some(named) if named == curve => {}
            Some(other) => {
                let other = shown(other);
                return foreign(format!(
                    "its curve (`crv`) is {other}: only {curve} is understood"
                ));
            }
            None => return Err(faulty("it has no curve (`crv`)")),
        }
    }
    if let Some(other) = text("alg").filter(|alg| *alg != format!("{wanted:?}")) {
        return foreign(format!("it is for {} (`alg`)", shown(other)));
    }
    for_signatures(member)?;
    let id = match &member["kid"] {
        Value::Null => None,
        Value::String(id) => Some(id.clone()),
        _ => return Err(faulty("its `kid` is no string")),
    };
    let bytes = |name: &str| {
        let decoded = text(name).and_then(|text| BASE64URL_NOPAD.decode(text.as_bytes()).ok());
        decoded.ok_or_else(|| NotUsed::Faulty(format!("its `{name}` is missing or no base64url")))
    };
    let coordinate = |name: &str| match bytes(name)? {
        bytes if bytes.len() == COORDINATE_BYTES => Ok(bytes),
        _ => Err(NotUsed::Faulty(format!("its `{name}` is not of {COORDINATE_BYTES} bytes"))),
    };
    let key = match wanted {
        JwtAlgorithm::HS256 => match bytes("k")? {
            secret if secret.len() < SECRET_BYTES_MIN => return Err(faulty(SHORT_SECRET)),
            secret => DecodingKey::from_secret(&secret),
        },
        JwtAlgorithm::RS256 => {
            let (modulus, exponent) = (bytes("n")?, bytes("e")?);
            let leading = modulus.iter().take_while(|byte| **byte == 0).count();
            let modulus = &modulus[leading..];
            let first = modulus.first().map_or(8, |first| first.leading_zeros() as usize);
            if !RSA_BITS.contains(&(modulus.len() * 8).saturating_sub(first)) {
                return Err(faulty(WRONG_RSA_SIZE));
            }
            DecodingKey::from_rsa_raw_components(modulus, &exponent)
        }
        JwtAlgorithm::ES256 => {
            let point = [vec![UNCOMPRESSED_POINT], coordinate("x")?, coordinate("y")?].concat();
            DecodingKey::from_ec_der(&point)
        }
        JwtAlgorithm::EdDSA => DecodingKey::from_ed_der(&coordinate("x")?),
    };
    Ok(JwtKey { id, key })
}

/// Whether a key may check signatures (RFC 7517 sections 4.2 and 4.3).
fn for_signatures(member: &Value) -> Result<(), NotUsed> {
    let foreign = |reason: String| Err(NotUsed::Foreign(reason));
    let faulty = |reason: &str| Err(NotUsed::Faulty(reason.to_owned()));
    match &member["use"] {
        Value::Null => {}
        Value::String(purpose) if purpose == "sig" => {}
        Value::String(other) => return foreign(format!("its `use` is {}", shown(other))),
        _ => return faulty("its `use` is no string"),
    }
    match &member["key_ops"] {
        Value::Null => Ok(()),
        Value::Array(all) if all.iter().any(|one| one == "verify") => Ok(()),
        Value::Array(_) => foreign("its `key_ops` have no `verify`".to_owned()),
        _ => faulty("its `key_ops` are no array"),
    }
}

/// Text of a file, so that no message grows with it.
fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(NAME_CHARACTERS_MAX).collect::<String>())
}

/// A public key, or the one of a certificate.
fn of_pem(bytes: &[u8], wanted: JwtAlgorithm) -> Result<DecodingKey, String> {
    let text = String::from_utf8_lossy(bytes);
    if text.contains("PRIVATE KEY-----") {
        return Err(
            "it is a private key, which belongs to whoever signs: here goes the public one \
            (openssl pkey -in KEY -pubout)"
                .to_owned(),
        );
    }
    if wanted == JwtAlgorithm::RS256 && text.contains("-----BEGIN RSA PUBLIC KEY-----") {
        let key = DecodingKey::from_rsa_pem(bytes).map_err(|_| "it cannot be read as PEM")?;
        return match key.kind() {
            DecodingKeyKind::SecretOrDer(der) => rsa(der),
            DecodingKeyKind::RsaModulusExponent { .. } => Ok(key),
        };
    }
    let unreadable = || "it is no public key in PEM (-----BEGIN PUBLIC KEY-----)".to_owned();
    if let Ok(info) = SubjectPublicKeyInfoDer::from_pem_slice(bytes) {
        let (_, info) = SubjectPublicKeyInfo::from_der(&info).map_err(|_| unreadable())?;
        return of_info(&info, wanted);
    }
    let certificate = CertificateDer::from_pem_slice(bytes).map_err(|_| unreadable())?;
    let (_, certificate) = X509Certificate::from_der(&certificate).map_err(|_| unreadable())?;
    of_info(certificate.public_key(), wanted)
}

fn of_info(info: &SubjectPublicKeyInfo<'_>, wanted: JwtAlgorithm) -> Result<DecodingKey, String> {
    let algorithm = &info.algorithm;
    let curve = || algorithm.parameters.as_ref()?.as_oid().ok().map(|oid| oid.to_id_string());
    // RFC 5480, RFC 8017 and RFC 8410.
    let (found, key_type) = match algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.113549.1.1.1" => (Some(JwtAlgorithm::RS256), "RSA".to_owned()),
        "1.3.101.112" => (Some(JwtAlgorithm::EdDSA), "Ed25519".to_owned()),
        "1.3.101.113" => (None, "Ed448".to_owned()),
        "1.2.840.10045.2.1" => match curve().as_deref() {
            Some("1.2.840.10045.3.1.7") => (Some(JwtAlgorithm::ES256), "ECDSA P-256".to_owned()),
            Some("1.3.132.0.34") => (None, "ECDSA P-384".to_owned()),
            Some("1.3.132.0.35") => (None, "ECDSA P-521".to_owned()),
            Some("1.3.132.0.10") => (None, "ECDSA secp256k1".to_owned()),
            _ => (None, "ECDSA, on another curve than P-256".to_owned()),
        },
        other => (None, format!("unknown ({other})")),
    };
    let data = &info.subject_public_key.data;
    match wanted {
        _ if found != Some(wanted) => Err(format!(
            "its type is {key_type}, which server.auth.jwt.algorithm = \"{wanted:?}\" cannot use: \
             RS256 takes RSA, ES256 takes ECDSA P-256, EdDSA takes Ed25519"
        )),
        JwtAlgorithm::RS256 => rsa(data),
        JwtAlgorithm::ES256 => Ok(DecodingKey::from_ec_der(data)),
        _ => Ok(DecodingKey::from_ed_der(data)),
    }
}

/// PKCS#1 (RFC 8017 appendix A.1.1).
fn rsa(der: &[u8]) -> Result<DecodingKey, String> {
    let (_, key) = RSAPublicKey::from_der(der).map_err(|_| "it is no RSA key")?;
    match RSA_BITS.contains(&key.key_size()) {
        true => Ok(DecodingKey::from_rsa_der(der)),
        false => Err(WRONG_RSA_SIZE.to_owned()),
    }
}

#[cfg(test)]
mod tests;
