//! Certificates and keys in PEM files: read, and each error naming its file. Of a key it is judged only
//! whether its type is understood at all.

use std::io;
use std::path::{Path, PathBuf};

use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::file_name::UnreadableFile;
use crate::small_file;

/// A system's whole bundle of authorities has about 250 KiB.
pub const FILE_BYTES_MAX: u64 = 4 << 20;

/// Key types that people have and that `ring` does not, by the DER of their object identifiers
/// (RFC 5480 section 2.1.1.1, RFC 8410 section 3, RFC 3279 section 2.3.2, SEC 2).
const KEY_TYPES_UNKNOWN: [(&[u8], &str); 5] = [
    (&[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23], "ECDSA P-521"),
    (&[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x21], "ECDSA P-224"),
    (&[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a], "ECDSA secp256k1"),
    (&[0x06, 0x03, 0x2b, 0x65, 0x71], "Ed448"),
    (&[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x38, 0x04, 0x01], "DSA"),
];
/// PKCS#8's mark, and that of OpenSSL's own older form (RFC 1421 section 4.6.1.1).
const ENCRYPTED: [&str; 2] = ["-----BEGIN ENCRYPTED PRIVATE KEY-----", "Proc-Type: 4,ENCRYPTED"];

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    #[error(transparent)]
    Unreadable(#[from] UnreadableFile),
    /// Without the library's own words: they quote the file, and so a private key.
    #[error("{} cannot be read as PEM: {fault}", path.display())]
    Malformed { path: PathBuf, fault: &'static str },
    #[error("{} holds no certificate", path.display())]
    NoCertificate { path: PathBuf },
    #[error("{} holds no private key", path.display())]
    NoKey { path: PathBuf },
    #[error(
        "{} is encrypted, and nobody is asked for its password: write it without one \
         (openssl pkey -in ENCRYPTED -out KEY)",
        path.display()
    )]
    Encrypted { path: PathBuf },
    #[error(
        "{} holds a key of type {key_type}, which is not understood: use ECDSA P-256 or P-384, \
         Ed25519, or RSA of at least 2,048 bits",
        path.display()
    )]
    KeyType { path: PathBuf, key_type: &'static str },
}

/// A file as it was read.
#[derive(Debug, Clone)]
pub struct PemFile {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl PemFile {
    /// Reads a small file, and blocks for as long as that takes.
    ///
    /// # Errors
    /// It is missing, not ours to read, or larger than any such file.
    pub fn read(path: &Path) -> Result<Self, PemError> {
        Self::of(path, small_file::read(path, FILE_BYTES_MAX))
    }

    /// A file that has been read.
    ///
    /// # Errors
    /// It could not be read.
    pub fn of(path: &Path, read: io::Result<Vec<u8>>) -> Result<Self, PemError> {
        let bytes = read.map_err(|source| UnreadableFile::new(path, source))?;
        Ok(Self { path: path.into(), bytes })
    }

    /// All certificates in it, in its order; at least one.
    ///
    /// # Errors
    /// There is none, or something that is not PEM.
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, PemError> {
        let certificates = CertificateDer::pem_slice_iter(&self.bytes);
        let certificates =
            certificates.collect::<Result<Vec<_>, _>>().map_err(|error| self.malformed(&error))?;
        match certificates.is_empty() {
            true => Err(PemError::NoCertificate { path: self.path.clone() }),
            false => Ok(certificates),
        }
    }

    /// The first private key in it: PKCS#1, PKCS#8 or SEC1, not encrypted.
    ///
    /// # Errors
    /// There is none, it is encrypted or of a type that is not understood, or it is not PEM.
    pub fn private_key(&self) -> Result<PrivateKeyDer<'static>, PemError> {
        let path = self.path.clone();
        let text = String::from_utf8_lossy(&self.bytes);
        if ENCRYPTED.iter().any(|mark| text.contains(mark)) {
            return Err(PemError::Encrypted { path });
        }
        let key = PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|error| match error {
            pem::Error::NoItemsFound => PemError::NoKey { path: path.clone() },
            error => self.malformed(&error),
        })?;
        match unknown_type(key.secret_der()) {
            Some(key_type) => Err(PemError::KeyType { path, key_type }),
            None => Ok(key),
        }
    }

    fn malformed(&self, error: &pem::Error) -> PemError {
        PemError::Malformed { path: self.path.clone(), fault: fault(error) }
    }
}

/// What is wrong, in words that hold nothing of the file.
fn fault(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => {
            "a line -----END ...----- is missing; each of the two marks is a line of its own"
        }
        pem::Error::IllegalSectionStart { .. } => {
            "a line that begins with -----BEGIN does not end with -----"
        }
        pem::Error::Base64Decode(_) => "what stands between the two marks is no base64",
        pem::Error::SectionTooLarge => "a part of it is too large",
        pem::Error::NoItemsFound => "nothing is in it",
        _ => "it breaks off",
    }
}

/// The type that a key's DER names, if it is one of those that are not understood. Such an identifier is
/// not looked for in its place: it is too long to stand in a key by chance.
fn unknown_type(der: &[u8]) -> Option<&'static str> {
    let names = |identifier: &[u8]| der.windows(identifier.len()).any(|bytes| bytes == identifier);
    KEY_TYPES_UNKNOWN.iter().find(|(identifier, _)| names(identifier)).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `openssl genpkey -algorithm Ed448`, and `openssl ecparam -name secp521r1 -genkey`.
    const ED448: &str = "-----BEGIN PRIVATE KEY-----\nMEcCAQAwBQYDK2VxBDsEOUbXdFg4Ez9DaqQ+8myfyJhk9ppkc6IG0wyUUeXFfqsh\nUt0Myu+CMxzUM5L311xmJ9GQ9mD2B95KZw==\n-----END PRIVATE KEY-----";
    const P_521: &str = "-----BEGIN EC PRIVATE KEY-----\nMIHcAgEBBEIAkJc+c9HqyiUPdYI+yUfcJEHoTJTS8Du58ty13AP8CijJ8ki6MXZF\ns3lU08NBoYPe+3Hknp//f2AQUaets40ZOm6gBwYFK4EEACOhgYkDgYYABABpGzWr\nPoOy8/LOLF8bJZR5Gq2If9/ssr9cQvl1z+/6jCzQD8HoaO16zaCvvVoWajMmMzpK\nwXYI+w3HSouE98v+BwC2bRchYwaLX3vEUl80MbaLbyfT6/+gyeAySOkEOPsEFkLT\nbBhrNKImwHkPYuQnwfNzYHbeE4sOTXmHvgNRiNSsRA==\n-----END EC PRIVATE KEY-----";

    /// A file's text may be a private key, and a library may print it in numbers.
    #[track_caller]
    fn shows_nothing_of(text: &str, error: &str) {
        for piece in text.split("-----").flat_map(str::lines).filter(|piece| piece.len() > 30) {
            for at in [0, piece.len() - 8] {
                let bytes = &piece.as_bytes()[at..at + 8];
                let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
                let shown = [String::from_utf8_lossy(bytes).into_owned(), numbers.join(", ")];
                assert!(!shown.iter().any(|shown| error.contains(shown)), "{error}");
            }
        }
    }

    #[test]
    fn what_is_no_certificate_or_key_is_named_with_its_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("some.pem");
        let issued = rcgen::generate_simple_self_signed(["broker".into()]).expect("a certificate");
        let (certificate, key) = (issued.cert.pem(), issued.signing_key.serialize_pem());
        let broken = certificate.replace("MII", "M*I");
        let encrypted = key.replace("PRIVATE", "ENCRYPTED PRIVATE");
        let older = key.replacen("-----\n", "-----\nProc-Type: 4,ENCRYPTED\n", 1);
        let one_line = key.replace('\n', "");
        let one_line_with_end = format!("{one_line}\n-----END PRIVATE KEY-----\n");
        let with_one_dash_less = key.replacen("KEY-----\n", "KEY----\n", 1);
        let joined_to_its_mark = key.replacen("KEY-----\n", "KEY", 1);
        let without_last_dashes = key.trim_end().trim_end_matches('-');
        let without_end = &key[..key.find("-----END").expect("an end")];
        let half = &key[..key.len() / 2];
        let junk_inside = key.replacen("-----\n", "-----\n*", 1);
        let junk_behind = format!("{key}-----BEGIN {}\n", one_line);
        for (text, of_certificates, of_key) in [
            (one_line.as_str(), "as PEM", "as PEM"),
            (&one_line_with_end, "as PEM", "as PEM"),
            (&with_one_dash_less, "as PEM", "as PEM"),
            (&joined_to_its_mark, "as PEM", "as PEM"),
            (without_last_dashes, "as PEM", "as PEM"),
            (without_end, "as PEM", "as PEM"),
            (half, "as PEM", "as PEM"),
            (&junk_inside, "as PEM", "as PEM"),
            (&junk_behind, "as PEM", ""),
            (certificate.as_str(), "", "no private key"),
            (key.as_str(), "no certificate", ""),
            (&[certificate.as_str(), &key].concat(), "", ""),
            (&format!("\u{feff}{certificate}"), "", "no private key"),
            (&format!("\u{feff}{key}"), "no certificate", ""),
            (&encrypted, "no certificate", "is encrypted"),
            (&older, "as PEM", "is encrypted"),
            (ED448, "no certificate", "of type Ed448"),
            (P_521, "no certificate", "of type ECDSA P-521"),
            (&broken, "as PEM", "as PEM"),
            ("no PEM here", "no certificate", "no private key"),
            ("", "no certificate", "no private key"),
        ] {
            std::fs::write(&path, text).expect("written");
            let file = PemFile::read(&path).expect("read");
            let told = [
                (file.certificates().err().map(|error| error.to_string()), of_certificates),
                (file.private_key().err().map(|error| error.to_string()), of_key),
            ];
            for (error, expected) in told {
                let error = error.unwrap_or_default();
                assert_eq!(error.is_empty(), expected.is_empty(), "{text}: {error:?}");
                assert!(error.contains(expected), "{text}: {error:?}");
                assert!(error.is_empty() || error.contains("some.pem"), "{error}");
                shows_nothing_of(text, &error);
            }
        }
        let missing = PemFile::read(&directory.path().join("missing.pem")).expect_err("missing");
        assert!(missing.to_string().contains("missing.pem"), "{missing}");
    }
}
