//! The certificates for `amqps`: read from the configured PEM files, each error naming its key.
//!
//! They are read for each connection that is made, and not watched: a bad file fails that attempt, and the
//! next one finds the file as it is then.

use std::path::Path;

use lapin::tcp::{RustlsConnector, RustlsConnectorConfig};
use rustls::{AlertDescription, CertificateError};

use crate::config;
use crate::pem::{PemError, PemFile};

/// Why `amqps` cannot be spoken with the configured files.
#[derive(Debug, thiserror::Error)]
pub enum BrokerTlsError {
    #[error("{key}: {source}")]
    File { key: &'static str, source: PemError },
    #[error("the system's certificates cannot be read (amqp.tls.ca names others): {0}")]
    System(std::io::Error),
    #[error("amqp.tls.certificate and amqp.tls.key do not fit: {0}")]
    Identity(std::io::Error),
}

/// Judges the files that the configuration names, where a broker is spoken to in `amqps` at all. Connects
/// to nothing; blocks for as long as reading small files takes.
///
/// # Errors
/// One of them is of no use: mend `amqp.tls`.
pub fn check(config: &config::Amqp) -> Result<(), BrokerTlsError> {
    let is_spoken = |uri: &config::AmqpUri| uri.parse().is_ok_and(|uri| uri.is_tls);
    match config.uris.iter().any(is_spoken) {
        true => connector(&config.tls).map(drop),
        false => Ok(()),
    }
}

/// Reads the files and makes a connector that trusts `amqp.tls.ca` alone, or else the system's
/// certificates, and presents `amqp.tls.certificate` when there is one.
///
/// Reads small files, and blocks for as long as that takes.
///
/// # Errors
/// A file that is missing or malformed: a new certificate may be in the making, so a running
/// program tries again; a starting one ends.
pub fn connector(tls: &config::AmqpTls) -> Result<RustlsConnector, BrokerTlsError> {
    let config = match &tls.ca {
        None => RustlsConnectorConfig::new_with_native_certs().map_err(BrokerTlsError::System)?,
        Some(path) => {
            let mut config = RustlsConnectorConfig::default();
            config.add_parsable_certificates(read("amqp.tls.ca", path, PemFile::certificates)?);
            config
        }
    };
    match (&tls.certificate, &tls.key) {
        (Some(certificate), Some(key)) => {
            let chain = read("amqp.tls.certificate", certificate, PemFile::certificates)?;
            let key = read("amqp.tls.key", key, PemFile::private_key)?;
            config.connector_with_single_cert(chain, key).map_err(BrokerTlsError::Identity)
        }
        _ => config.connector_with_no_client_auth().map_err(BrokerTlsError::Identity),
    }
}

/// The key that is at fault when there is no TLS with a broker, where the error tells.
pub fn key_to_mend(error: &lapin::Error) -> Option<&'static str> {
    let lapin::ErrorKind::IOError(error) = error.kind() else { return None };
    match error.get_ref()?.downcast_ref()? {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => Some("amqp.tls.ca"),
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => Some("amqp.tls.server_name"),
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown,
        ) => Some("amqp.tls.certificate"),
        _ => None,
    }
}

fn read<T>(
    key: &'static str,
    path: &Path,
    parse: impl Fn(&PemFile) -> Result<T, PemError>,
) -> Result<T, BrokerTlsError> {
    let parsed = PemFile::read(path).and_then(|file| parse(&file));
    parsed.map_err(|source| BrokerTlsError::File { key, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tls: config::AmqpTls, expected: &[&str]) {
        let error = connector(&tls).expect_err("refused").to_string();
        for part in expected {
            assert!(error.contains(part), "{part:?} not in {error:?}");
        }
    }

    #[test]
    fn errors_name_the_key_and_the_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let empty = directory.path().join("empty.pem");
        std::fs::write(&empty, "no PEM here").expect("written");
        let missing = directory.path().join("missing.pem");
        let issued = rcgen::generate_simple_self_signed(["broker".into()]).expect("a certificate");
        let good = directory.path().join("good.pem");
        std::fs::write(&good, issued.cert.pem()).expect("written");

        let with = |ca: &Path| config::AmqpTls { ca: Some(ca.into()), ..Default::default() };
        check(with(&missing), &["amqp.tls.ca", "missing.pem"]);
        check(with(&empty), &["amqp.tls.ca", "empty.pem", "no certificate"]);
        let no_key = config::AmqpTls {
            certificate: Some(good.clone()),
            key: Some(empty.clone()),
            ..with(&good)
        };
        check(no_key, &["amqp.tls.key", "empty.pem"]);
        assert!(connector(&with(&good)).is_ok());
    }
}
