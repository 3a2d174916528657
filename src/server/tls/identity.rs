//! A certificate with its key, from two files: whether they can be read, belong together, and are in
//! their time.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use x509_parser::prelude::{FromDer, Validity, X509Certificate};
use x509_parser::time::ASN1Time;

use crate::config;
use crate::pem::{self, PemError, PemFile};
use crate::watched::FileSet;

/// All that is spoken here (RFC 7301).
const HTTP_1_1: &[u8] = b"http/1.1";
const CERTIFICATE: &str = "server.tls.certificate";
const KEY: &str = "server.tls.key";

/// Where a pair is read from.
#[derive(Debug, Clone)]
pub struct IdentityFiles {
    certificate: PathBuf,
    key: PathBuf,
}

/// A pair that can be served with.
pub struct Identity {
    server_config: Arc<ServerConfig>,
    certificate_path: PathBuf,
    validity: Validity,
}

/// Why a pair is of no use.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{key}: {source}")]
    File { key: &'static str, source: PemError },
    #[error("server.tls.certificate: {} holds a malformed certificate: {reason}", path.display())]
    Malformed { path: PathBuf, reason: String },
    #[error(
        "server.tls.certificate {} and server.tls.key {} do not fit: {source}",
        certificate.display(), key.display()
    )]
    Pair { certificate: PathBuf, key: PathBuf, source: rustls::Error },
    #[error("server.tls.certificate: {} is valid from {from} to {to}, which is not now", path.display())]
    OutOfTime { path: PathBuf, from: ASN1Time, to: ASN1Time },
}

impl IdentityFiles {
    /// None without TLS.
    pub fn of(config: &config::ServerTls) -> Option<Self> {
        let (certificate, key) = config.certificate.clone().zip(config.key.clone())?;
        Some(Self { certificate, key })
    }
}

impl FileSet for IdentityFiles {
    type Value = Identity;
    type Error = TlsError;

    const FILE_BYTES_MAX: u64 = pem::FILE_BYTES_MAX;
    const ARE_REPLACED_IN_TURN: bool = true;
    const DEPEND_ON_TIME: bool = true;

    fn paths(&self) -> Vec<&Path> {
        vec![&self.certificate, &self.key]
    }

    /// A new pair must be in its time, too: the old one can hardly be worse.
    fn parse(
        &self,
        read: Vec<io::Result<Vec<u8>>>,
        in_force: Option<&Identity>,
    ) -> Result<Identity, TlsError> {
        let Self { certificate, key } = self;
        let [certificate_read, key_read] = read.try_into().expect("bug: each path was read");
        let chain = parse(CERTIFICATE, certificate, certificate_read, PemFile::certificates)?;
        let private_key = parse(KEY, key, key_read, PemFile::private_key)?;
        let validity = match X509Certificate::from_der(&chain[0]) {
            Ok((_, leaf)) => leaf.validity.clone(),
            Err(error) => {
                let (path, reason) = (certificate.clone(), error.to_string());
                return Err(TlsError::Malformed { path, reason });
            }
        };
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("bug: the provider has suites for TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(chain, private_key)
            .map_err(|source| TlsError::Pair {
                certificate: certificate.clone(),
                key: key.clone(),
                source,
            })?;
        config.alpn_protocols = vec![HTTP_1_1.to_vec()];
        let certificate_path = certificate.clone();
        let identity = Identity { server_config: Arc::new(config), certificate_path, validity };
        match in_force {
            Some(_) => identity.check_time().map(|()| identity),
            None => Ok(identity),
        }
    }
}

impl Identity {
    /// # Errors
    /// The certificate is not valid yet, or not any more.
    pub fn check_time(&self) -> Result<(), TlsError> {
        if self.validity.is_valid() {
            return Ok(());
        }
        let (from, to) = (self.validity.not_before, self.validity.not_after);
        Err(TlsError::OutOfTime { path: self.certificate_path.clone(), from, to })
    }

    pub fn server_config(&self) -> &Arc<ServerConfig> {
        &self.server_config
    }

    /// In seconds since 1970.
    pub fn expiry_timestamp(&self) -> i64 {
        self.validity.not_after.timestamp()
    }
}

/// What is in a file.
fn parse<T>(
    key: &'static str,
    path: &Path,
    read: io::Result<Vec<u8>>,
    parse: impl Fn(&PemFile) -> Result<T, PemError>,
) -> Result<T, TlsError> {
    let parsed = PemFile::of(path, read).and_then(|file| parse(&file));
    parsed.map_err(|source| TlsError::File { key, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(certificate: &Path, key: &Path, expected: &[&str]) {
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        let config = config::ServerTls { certificate: Some(certificate), key: Some(key) };
        let error = crate::server::tls::check(&config).err().map(|error| error.to_string());
        match error {
            Some(error) => {
                assert!(!expected.is_empty(), "{error}");
                for part in expected {
                    assert!(error.contains(part), "{part:?} not in {error:?}");
                }
            }
            None => assert!(expected.is_empty(), "not refused: {expected:?}"),
        }
    }

    #[test]
    fn errors_name_the_key_and_the_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        let issue = |name: &str, year: i32| {
            let mut params = rcgen::CertificateParams::new(["localhost".into()]).expect("names");
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            let key = rcgen::KeyPair::generate().expect("a key");
            let certificate = params.self_signed(&key).expect("a certificate");
            std::fs::write(path(&format!("{name}.pem")), certificate.pem()).expect("written");
            std::fs::write(path(&format!("{name}.key")), key.serialize_pem()).expect("written");
        };
        issue("good", 4000);
        issue("other", 4000);
        issue("expired", 2001);
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        std::fs::write(path("broken.pem"), broken).expect("written");
        let (pem, key) = (path("good.pem"), path("good.key"));
        check(&pem, &key, &[]);
        check(&path("none.pem"), &key, &["server.tls.certificate", "none.pem", "cannot be read"]);
        check(&pem, &path("none.key"), &["server.tls.key", "none.key", "cannot be read"]);
        check(&key, &key, &["server.tls.certificate", "good.key", "no certificate"]);
        check(&pem, &pem, &["server.tls.key", "good.pem", "no private key"]);
        check(&path("broken.pem"), &key, &["server.tls.certificate", "broken.pem", "malformed"]);
        check(&pem, &path("other.key"), &["good.pem", "server.tls.key", "other.key", "not fit"]);
        check(&path("expired.pem"), &path("expired.key"), &["expired.pem", "2001", "not now"]);
    }
}
