//! Certificates and keys in PEM files: read, and each error naming its file. Judges none of them.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::byte_order_mark;

/// A system's whole bundle of authorities has about 250 KiB.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} cannot be read as PEM: {source}", path.display())]
    Malformed { path: PathBuf, source: pem::Error },
    #[error("{} holds no certificate", path.display())]
    NoCertificate { path: PathBuf },
    #[error("{} holds no private key that can be read without a password", path.display())]
    NoKey { path: PathBuf },
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
        let unreadable = |source| PemError::Unreadable { path: path.into(), source };
        let file = File::open(path).map_err(unreadable)?;
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(unreadable(io::ErrorKind::FileTooLarge.into()));
        }
        let bytes = byte_order_mark::skipped(&bytes).to_vec();
        Ok(Self { path: path.into(), bytes })
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// All certificates in it, in its order; at least one.
    ///
    /// # Errors
    /// There is none, or something that is not PEM.
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, PemError> {
        let certificates = CertificateDer::pem_slice_iter(&self.bytes);
        let certificates = certificates
            .collect::<Result<Vec<_>, _>>()
            .map_err(|source| PemError::Malformed { path: self.path.clone(), source })?;
        match certificates.is_empty() {
            true => Err(PemError::NoCertificate { path: self.path.clone() }),
            false => Ok(certificates),
        }
    }

    /// The first private key in it: PKCS#1, PKCS#8 or SEC1, not encrypted.
    ///
    /// # Errors
    /// There is none, or something that is not PEM.
    pub fn private_key(&self) -> Result<PrivateKeyDer<'static>, PemError> {
        let path = self.path.clone();
        PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|error| match error {
            pem::Error::NoItemsFound => PemError::NoKey { path },
            source => PemError::Malformed { path, source },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_or_key_is_named_with_its_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("some.pem");
        let issued = rcgen::generate_simple_self_signed(["broker".into()]).expect("a certificate");
        let (certificate, key) = (issued.cert.pem(), issued.signing_key.serialize_pem());
        let broken = certificate.replace("MII", "M*I");
        let encrypted = key.replace("PRIVATE", "ENCRYPTED PRIVATE");
        for (text, of_certificates, of_key) in [
            (certificate.as_str(), "", "no private key"),
            (key.as_str(), "no certificate", ""),
            (&[certificate.as_str(), &key].concat(), "", ""),
            (&format!("\u{feff}{certificate}"), "", "no private key"),
            (&format!("\u{feff}{key}"), "no certificate", ""),
            (&encrypted, "no certificate", "no private key"),
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
            }
        }
        let missing = PemFile::read(&directory.path().join("missing.pem")).expect_err("missing");
        assert!(missing.to_string().contains("missing.pem"), "{missing}");
    }
}
