use ring::hmac;
use ring::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::json;

use super::*;

const SECRET: &[u8] = b"a secret of thirty-two bytes, no less";
/// Made with openssl: a public key, its modulus, and a token that it signed, good until 2100.
const RSA_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAq9py7r8p9kctyxeqGUGj\n8o+xLAXO6ujkq6HLfslWkEPhEjJrG8A91NwpNFREeVVQV0tHjDunvIscWmf9TfXz\n2AtyfsorBIP9qP+LCKYlHGJBoHp90Vs0MWvycPNLq9L13OJwTuN8xPoACOfgG1nH\nU7/+FKC/PdqS2VcOXnmsP/2XZ7wLe+yZGte5t8cVYlBaVJpIh1V29hmiWByFoyqa\nwRqCJITcuhCFKQqrwt0a8/2M/HPGunjcRWUyfY66htXOLR693wuHw5ufuzJc4JSH\nNfXQxqlST7E0TecaQz5OyFvn0tr8X5rpNzGmO1NCO2AXlL2Bp2fZiR41KdfOPdh7\n9wIDAQAB\n-----END PUBLIC KEY-----";
const RSA_MODULUS: &str = "q9py7r8p9kctyxeqGUGj8o-xLAXO6ujkq6HLfslWkEPhEjJrG8A91NwpNFREeVVQV0tHjDunvIscWmf9TfXz2AtyfsorBIP9qP-LCKYlHGJBoHp90Vs0MWvycPNLq9L13OJwTuN8xPoACOfgG1nHU7_-FKC_PdqS2VcOXnmsP_2XZ7wLe-yZGte5t8cVYlBaVJpIh1V29hmiWByFoyqawRqCJITcuhCFKQqrwt0a8_2M_HPGunjcRWUyfY66htXOLR693wuHw5ufuzJc4JSHNfXQxqlST7E0TecaQz5OyFvn0tr8X5rpNzGmO1NCO2AXlL2Bp2fZiR41KdfOPdh79w";
const RSA_TOKEN: &str = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjQxMDI0NDQ4MDAsInN1YiI6InRlc3QifQ.ZtoHpUj3y9itevnqxHE6wwxtwGL5JljQsC5vkI6m5vJGXFHzfU9pFVfLRmbSV992hfN7utrZSnIaGq95oeW8pCJPbg5PqVnHZm7poJ80eeRuG7oxBh4jxuIdUc11DRT1IZNHtteKLAcimwehxuoHucTPiv_gVTNk0KsP9zGlAZL1zsyQ8D8pqCoF1qlMi6TKQqYAyJxdJDWGaLgydZ9Kvqc0VhoMoecHGXY6pXwJmroaU_W8ASLHoGK1coccGGKzx8mM3wpffdUa5YV_Pbc00t6bEa3j5heuWg2boPyAyU7XP8T0XCRLwLBeRNIFjX9CuaaYQ07DljM6SqmsG0S45w";

fn signed(header: Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let encode = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
    let (header, claims) = (header.to_string(), claims.to_string());
    let message = format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()));
    let signature = encode(&sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn hs256(claims: &Value) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    signed(json!({ "alg": "HS256" }), claims, |message| hmac::sign(&key, message).as_ref().to_vec())
}

fn keys(bytes: &[u8], algorithm: JwtAlgorithm, is_set: bool) -> Result<JwtKeys, String> {
    let file = Some("unread".into());
    let (key, jwks) = if is_set { (None, file) } else { (file, None) };
    JwtKeys::parse(bytes, &Jwt { algorithm, key, jwks, ..Jwt::default() })
}

/// Seconds since 1970, so many from now.
fn at(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    now.as_secs() as i64 + seconds
}

#[test]
fn claims_are_looked_at_behind_the_signature() {
    let keys_of = |audience: Option<&str>| {
        let audience = audience.map(str::to_owned);
        let jwt = Jwt { algorithm: JwtAlgorithm::HS256, audience, ..Jwt::default() };
        JwtKeys::parse(SECRET, &jwt).expect("a secret")
    };
    let check = |audience, claims: Value, expected: Result<(), NotAuthorized>| {
        let found = keys_of(audience).verify(&hs256(&claims)).map(drop);
        assert_eq!(found, expected, "{audience:?} {claims}");
    };
    check(None, json!({ "exp": at(60) }), Ok(()));
    check(None, json!({ "exp": at(60), "aud": "anyone" }), Ok(()));
    check(None, json!({ "exp": at(-50) }), Ok(()));
    check(None, json!({ "exp": at(-70) }), Err(NotAuthorized::Expired));
    check(None, json!({ "sub": "for ever" }), Err(NotAuthorized::Claims));
    check(None, json!({ "exp": at(60), "nbf": at(70) }), Err(NotAuthorized::NotYet));
    check(None, json!({ "exp": at(60), "nbf": at(50) }), Ok(()));
    check(None, json!({ "exp": at(60), "nbf": at(-30) }), Ok(()));
    check(Some("us"), json!({ "exp": at(60), "aud": ["them", "us"] }), Ok(()));
    check(Some("us"), json!({ "exp": at(60), "aud": "them" }), Err(NotAuthorized::Audience));
    check(Some("us"), json!({ "exp": at(60) }), Err(NotAuthorized::Claims));
}

#[test]
fn a_header_that_asks_for_an_extension_is_refused() {
    let keys = keys(SECRET, JwtAlgorithm::HS256, false).expect("a secret");
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let verify = |header: &Value| {
        let sign = |message: &[u8]| hmac::sign(&key, message).as_ref().to_vec();
        keys.verify(&signed(header.clone(), &json!({ "exp": at(60) }), sign)).map(drop)
    };
    for header in [
        json!({ "alg": "HS256", "crit": ["b64"], "b64": false }),
        json!({ "alg": "HS256", "crit": ["b64"], "b64": true }),
        json!({ "alg": "HS256", "crit": ["exp"], "exp": 1 }),
        json!({ "alg": "HS256", "crit": [] }),
        json!({ "alg": "HS256", "crit": null }),
        json!({ "alg": "HS256", "b64": false }),
        json!({ "alg": "HS256", "b64": "false" }),
    ] {
        assert_eq!(verify(&header), Err(NotAuthorized::Extension), "{header}");
    }
    // No array of names: it cannot be read at all.
    assert!(verify(&json!({ "alg": "HS256", "crit": "exp" })).is_err());
    for header in [
        json!({ "alg": "HS256", "typ": "at+jwt", "cty": "x", "new": { "of": ["some", 1] } }),
        json!({ "alg": "HS256", "b64": true }),
    ] {
        assert_eq!(verify(&header), Ok(()), "{header}");
    }
}

#[test]
fn only_the_configured_algorithm_is_believed() {
    let keys = keys(SECRET, JwtAlgorithm::HS256, false).expect("a secret");
    let claims = json!({ "exp": at(60) });
    assert!(keys.verify(&hs256(&claims)).is_ok());
    let mut forged = hs256(&claims);
    forged.replace_range(forged.len() - 4.., "AAAA");
    assert_eq!(keys.verify(&forged), Err(NotAuthorized::Unknown));
    let unsigned = signed(json!({ "alg": "none" }), &claims, |_| Vec::new());
    assert_eq!(keys.verify(&unsigned), Err(NotAuthorized::Unknown));
    for text in ["", ".", "..", "a.b.c", "secret"] {
        assert_eq!(keys.verify(text), Err(NotAuthorized::Unknown), "{text}");
    }
    // The oldest trick: a public key taken for a secret.
    let public = super::tests::keys(RSA_PUBLIC.as_bytes(), JwtAlgorithm::RS256, false);
    let key = hmac::Key::new(hmac::HMAC_SHA256, RSA_PUBLIC.as_bytes());
    let sign = |message: &[u8]| hmac::sign(&key, message).as_ref().to_vec();
    let confused = signed(json!({ "alg": "HS256" }), &claims, sign);
    assert_eq!(public.expect("a key").verify(&confused), Err(NotAuthorized::Unknown));
}

#[test]
fn rsa_keys_are_read_from_pem_and_from_sets() {
    let set = json!({ "keys": [
        { "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "other", "alg": "ES256" },
        { "kty": "RSA", "n": RSA_MODULUS, "e": "AQAB", "use": "sig", "alg": "RS256", "kid": "1" },
    ] });
    let set = set.to_string();
    for (bytes, is_set) in [(RSA_PUBLIC.as_bytes(), false), (set.as_bytes(), true)] {
        let keys = keys(bytes, JwtAlgorithm::RS256, is_set).expect("keys");
        assert!(keys.verify(RSA_TOKEN).is_ok(), "set: {is_set}");
        let cut = &RSA_TOKEN[..RSA_TOKEN.len() - 2];
        assert_eq!(keys.verify(cut), Err(NotAuthorized::Unknown));
    }
}

#[test]
fn a_set_gives_the_key_that_the_token_names() {
    let random = ring::rand::SystemRandom::new();
    let pair = || {
        let document = Ed25519KeyPair::generate_pkcs8(&random).expect("random bytes");
        Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("a pair")
    };
    let (old, new) = (pair(), pair());
    let jwk = |pair: &Ed25519KeyPair, id: &str| {
        let x = BASE64URL_NOPAD.encode(pair.public_key().as_ref());
        json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": id })
    };
    let set = json!({ "keys": [jwk(&old, "old"), jwk(&new, "new")] }).to_string();
    let keys = keys(set.as_bytes(), JwtAlgorithm::EdDSA, true).expect("keys");
    let claims = json!({ "exp": at(60) });
    let token = |pair: &Ed25519KeyPair, header: Value| {
        signed(header, &claims, |message| pair.sign(message).as_ref().to_vec())
    };
    assert!(keys.verify(&token(&new, json!({ "alg": "EdDSA", "kid": "new" }))).is_ok());
    assert!(keys.verify(&token(&new, json!({ "alg": "EdDSA" }))).is_ok(), "all are tried");
    let wrong = token(&new, json!({ "alg": "EdDSA", "kid": "old" }));
    assert_eq!(keys.verify(&wrong), Err(NotAuthorized::Unknown));
    let unknown = token(&pair(), json!({ "alg": "EdDSA" }));
    assert_eq!(keys.verify(&unknown), Err(NotAuthorized::Unknown));
}

#[test]
fn ed25519_keys_are_read_from_pem() {
    let random = ring::rand::SystemRandom::new();
    let document = Ed25519KeyPair::generate_pkcs8(&random).expect("random bytes");
    let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("a pair");
    // RFC 8410 section 4: all of a SubjectPublicKeyInfo before the key itself.
    let before = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    let der = [&before[..], pair.public_key().as_ref()].concat();
    let der = data_encoding::BASE64.encode(&der);
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n");
    let keys = keys(pem.as_bytes(), JwtAlgorithm::EdDSA, false).expect("a key");
    let token = |claims| {
        let sign = |message: &[u8]| pair.sign(message).as_ref().to_vec();
        signed(json!({ "alg": "EdDSA" }), &claims, sign)
    };
    assert!(keys.verify(&token(json!({ "exp": at(60) }))).is_ok());
    assert_eq!(keys.verify(&token(json!({ "exp": at(-70) }))), Err(NotAuthorized::Expired));
    assert_eq!(keys.verify(&hs256(&json!({ "exp": at(60) }))), Err(NotAuthorized::Unknown));
}

#[test]
fn ecdsa_keys_are_read_from_pem_from_certificates_and_from_sets() {
    let random = ring::rand::SystemRandom::new();
    let kind = &ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    let issued = rcgen::generate_simple_self_signed(["issuer".into()]).expect("a certificate");
    let document = issued.signing_key.serialize_der();
    let pair = EcdsaKeyPair::from_pkcs8(kind, &document, &random).expect("a pair");
    let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
    let encode = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
    let set = json!({ "keys": [
        { "kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y), "use": "sig", "kid": "1" },
    ] });
    let (pem, set) = (issued.signing_key.public_key_pem(), set.to_string());
    let certificate = issued.cert.pem();
    for (text, is_set) in [(&pem, false), (&certificate, false), (&set, true)] {
        let keys = keys(text.as_bytes(), JwtAlgorithm::ES256, is_set).expect("a key");
        let sign = |message: &[u8]| pair.sign(&random, message).expect("signed").as_ref().to_vec();
        let token =
            |algorithm| signed(json!({ "alg": algorithm }), &json!({ "exp": at(60) }), sign);
        assert_eq!(keys.verify(&token("ES256")).map(drop), Ok(()));
        assert_eq!(keys.verify(&token("ES384")).map(drop), Err(NotAuthorized::Unknown));
        let cut = token("ES256");
        assert_eq!(keys.verify(&cut[..cut.len() - 4]), Err(NotAuthorized::Unknown));
    }
}

#[test]
fn the_leeway_is_the_configured_one() {
    for (leeway, passed, expected) in [
        (0, 2, Err(NotAuthorized::Expired)),
        (300, 290, Ok(())),
        (300, 310, Err(NotAuthorized::Expired)),
    ] {
        let leeway = Duration::from_secs(leeway);
        let jwt = Jwt { algorithm: JwtAlgorithm::HS256, leeway, ..Jwt::default() };
        let keys = JwtKeys::parse(SECRET, &jwt).expect("a secret");
        let found = keys.verify(&hs256(&json!({ "exp": at(-passed) })));
        assert_eq!(found.map(drop), expected, "{leeway:?} {passed}");
    }
}

#[test]
fn secrets_are_read_from_sets() {
    let set_of = |secret: &[u8]| {
        let jwk = json!({ "kty": "oct", "k": BASE64URL_NOPAD.encode(secret), "alg": "HS256" });
        keys(json!({ "keys": [jwk] }).to_string().as_bytes(), JwtAlgorithm::HS256, true)
    };
    let token = hs256(&json!({ "exp": at(60) }));
    assert!(set_of(SECRET).expect("a secret").verify(&token).is_ok());
    let other = set_of(&[b'x'; 40]).expect("a secret");
    assert_eq!(other.verify(&token), Err(NotAuthorized::Unknown));
    let error = set_of(b"short").map(drop).expect_err("refused");
    assert!(
        error.ends_with("key 1 of the set: a secret for HS256 has at least 32 bytes"),
        "{error}"
    );
}

#[test]
fn what_is_no_key_is_refused() {
    let check = |bytes: &[u8], algorithm, is_set| {
        assert!(keys(bytes, algorithm, is_set).is_err(), "{algorithm:?} {is_set}");
    };
    check(b"short", JwtAlgorithm::HS256, false);
    check(RSA_PUBLIC.as_bytes(), JwtAlgorithm::EdDSA, false);
    check(b"", JwtAlgorithm::RS256, false);
    check(b"{}", JwtAlgorithm::RS256, true);
    check(br#"{"keys": []}"#, JwtAlgorithm::RS256, true);
}
