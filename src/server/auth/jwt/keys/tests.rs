use serde_json::json;

use super::*;

/// A point's and a key's size of zeros.
const ZEROS: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn refused(bytes: &[u8], wanted: JwtAlgorithm) -> String {
    one(bytes, wanted).map(drop).expect_err("refused")
}

/// RFC 5480: a SubjectPublicKeyInfo whose algorithm has these bytes.
fn public_pem(algorithm: &[u8], key_bytes: usize) -> String {
    let tlv = |tag: u8, value: &[u8]| {
        let length = u8::try_from(value.len()).expect("short");
        let long = (length > 127).then_some(0x81);
        [&[tag][..], long.as_slice(), &[length], value].concat()
    };
    let bits = tlv(0x03, &vec![0; key_bytes + 1]);
    let der = tlv(0x30, &[tlv(0x30, algorithm), bits].concat());
    let text = data_encoding::BASE64.encode(&der);
    format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
}

#[test]
fn keys_of_other_types_are_refused_by_name() {
    // RFC 5480 section 2.1.1: id-ecPublicKey, then the curve. RFC 8410 section 3: id-Ed448.
    const EC: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    let p_521 = [EC, &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23]].concat();
    let secp256k1 = [EC, &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a]].concat();
    let ed448 = [0x06, 0x03, 0x2b, 0x65, 0x71];
    for (pem, wanted, name) in [
        (public_pem(&p_521, 133), JwtAlgorithm::ES256, "ECDSA P-521"),
        (public_pem(&secp256k1, 65), JwtAlgorithm::ES256, "ECDSA secp256k1"),
        (public_pem(&ed448, 57), JwtAlgorithm::EdDSA, "Ed448"),
    ] {
        let error = refused(pem.as_bytes(), wanted);
        assert!(error.contains(&format!("its type is {name}, which")), "{error}");
    }
    let issued = rcgen::generate_simple_self_signed(["issuer".into()]).expect("a certificate");
    let error = refused(issued.signing_key.public_key_pem().as_bytes(), JwtAlgorithm::EdDSA);
    assert!(error.contains("ECDSA P-256, which server.auth.jwt.algorithm = \"EdDSA\""), "{error}");
    let private = issued.signing_key.serialize_pem();
    for pem in [private.replace("PRIVATE", "ENCRYPTED PRIVATE"), private] {
        let error = refused(pem.as_bytes(), JwtAlgorithm::ES256);
        assert!(error.contains("private key") && error.contains("openssl pkey"), "{error}");
    }
    for text in ["", "no PEM", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
        let error = refused(text.as_bytes(), JwtAlgorithm::ES256);
        assert!(error.contains("no public key in PEM"), "{error}");
    }
}

#[test]
fn keys_of_a_set_that_cannot_be_used_are_passed_over_and_the_others_count() {
    let good = json!({ "kty": "EC", "crv": "P-256", "x": ZEROS, "y": ZEROS, "kid": "good" });
    let with = |member: &str, value: serde_json::Value| {
        let mut key = good.clone();
        key[member] = value;
        key
    };
    // Beside the good one: what is meant for another algorithm, and what is of no use.
    for (other, reason, is_faulty) in [
        (json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB" }), "its type (`kty`) is \"RSA\"", false),
        (json!({ "kty": "AKP", "alg": "ML-DSA-44" }), "its type (`kty`) is \"AKP\"", false),
        (with("crv", json!("P-521")), "its curve (`crv`) is \"P-521\"", false),
        (with("use", json!("enc")), "its `use` is \"enc\"", false),
        (with("alg", json!("ES512")), "it is for \"ES512\" (`alg`)", false),
        (with("key_ops", json!(["sign"])), "no `verify`", false),
        (json!({ "x": ZEROS }), "it has no type (`kty`)", true),
        (json!("text"), "it has no type (`kty`)", true),
        (with("crv", json!(null)), "no curve", true),
        (with("y", json!(null)), "its `y` is missing", true),
        (with("x", json!("A+A")), "its `x` is missing or no base64url", true),
        (with("x", json!("AAAA")), "its `x` is not of 32 bytes", true),
        (with("kid", json!(7)), "its `kid` is no string", true),
        (with("use", json!(["sig"])), "its `use` is no string", true),
        (with("key_ops", json!("verify")), "its `key_ops` are no array", true),
    ] {
        let text = json!({ "keys": [other, good] }).to_string();
        let read = set(text.as_bytes(), JwtAlgorithm::ES256).expect("a set");
        assert_eq!(read.keys.len(), 1, "{text}");
        assert_eq!(read.keys[0].id.as_deref(), Some("good"));
        assert_eq!(read.faulty.len(), usize::from(is_faulty), "{text}");
        assert!(read.faulty.iter().all(|fault| fault.contains(reason)), "{:?}", read.faulty);

        let alone = json!({ "keys": [other] }).to_string();
        let error = set(alone.as_bytes(), JwtAlgorithm::ES256).map(drop).expect_err("refused");
        assert!(error.contains("no key for server.auth.jwt.algorithm = \"ES256\""), "{error}");
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn sizes_of_keys_in_sets_are_looked_at() {
    let encode = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
    let rsa = |bytes: usize| json!({ "kty": "RSA", "n": encode(&vec![0xff; bytes]), "e": "AQAB" });
    let secret = |bytes: usize| json!({ "kty": "oct", "k": encode(&vec![1; bytes]) });
    let point = |x: &str| json!({ "kty": "OKP", "crv": "Ed25519", "x": x });
    for (key, wanted, is_good) in [
        (rsa(256), JwtAlgorithm::RS256, true),
        (rsa(255), JwtAlgorithm::RS256, false),
        (rsa(1_025), JwtAlgorithm::RS256, false),
        (secret(32), JwtAlgorithm::HS256, true),
        (secret(31), JwtAlgorithm::HS256, false),
        (point(ZEROS), JwtAlgorithm::EdDSA, true),
        (point("AAAA"), JwtAlgorithm::EdDSA, false),
    ] {
        let text = json!({ "keys": [key] }).to_string();
        assert_eq!(set(text.as_bytes(), wanted).is_ok(), is_good, "{text}");
    }
}

#[test]
fn a_message_names_a_few_keys_and_shows_no_secret() {
    let keys: Vec<Value> = (0..6)
        .map(|id| json!({ "kty": "oct", "k": "c2VjcmV0", "kid": format!("k{id}") }))
        .collect();
    let text = json!({ "keys": keys }).to_string();
    let error = set(text.as_bytes(), JwtAlgorithm::HS256).map(drop).expect_err("refused");
    assert!(error.contains("key \"k3\": a secret for HS256"), "{error}");
    assert!(error.ends_with("; and 2 more"), "{error}");
    assert!(!error.contains("c2VjcmV0"), "{error}");
    let long = json!({ "keys": [{ "kty": "x".repeat(9_000), "kid": "y".repeat(9_000) }] });
    let error = set(long.to_string().as_bytes(), JwtAlgorithm::HS256).map(drop);
    assert!(error.expect_err("refused").len() < 500);
    for text in ["", "{}", "[]", "{\"keys\": {}}", "-----BEGIN PUBLIC KEY-----"] {
        let error = set(text.as_bytes(), JwtAlgorithm::HS256).map(drop).expect_err("refused");
        assert!(error.contains("it is no JSON Web Key Set"), "{text}: {error}");
    }
}
