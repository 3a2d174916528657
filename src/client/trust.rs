//! Whom a client believes that a server is who it says: the authorities of a file, instead of the
//! system's.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};

use super::BuildError;
use crate::pem::PemFile;

#[derive(Clone)]
pub struct Trust(Arc<ClientConfig>);

impl Trust {
    /// Reads a PEM file of authorities, and blocks for as long as that takes.
    ///
    /// # Errors
    /// The file is of no use; says why.
    pub fn read(path: &Path) -> Result<Self, BuildError> {
        let mut roots = RootCertStore::empty();
        for certificate in PemFile::read(path)?.certificates()? {
            let bad = |why: rustls::Error| BuildError::BadAuthority {
                path: path.into(),
                why: why.to_string(),
            };
            roots.add(certificate).map_err(bad)?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("bug: the provider has suites for TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    pub fn config(self) -> Arc<ClientConfig> {
        self.0
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trust")
    }
}
