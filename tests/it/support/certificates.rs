//! A private authority, the pairs it issues, and clients that trust it.

use std::path::PathBuf;
use std::sync::Arc;

use blockcast::config::ServerTls;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::client::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::{RootCertStore, SupportedProtocolVersion};

use super::broker::unique;

pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: tempfile::TempDir,
}

/// What a server shows and signs with, as PEM.
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, unique("authority"));
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let directory = tempfile::tempdir().expect("a directory");
        let authority = Self { issuer, directory };
        std::fs::write(authority.file("ca.pem"), authority.issuer.pem()).expect("written");
        authority
    }

    /// A pair for this machine, whose certificate expires when that year begins.
    pub fn issue(&self, expires_in_year: i32) -> Pair {
        let names = ["localhost".into(), "127.0.0.1".into()];
        let mut params = CertificateParams::new(names).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, "a server");
        params.not_after = rcgen::date_time_ymd(expires_in_year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Pair { certificate, key: key.serialize_pem() }
    }

    /// Puts the pair to where [`Authority::tls`] says, as Kubernetes does: written elsewhere, and a
    /// link swapped.
    pub fn install(&self, pair: &Pair) {
        let (place, link) = (self.file(&unique("pair")), self.file("next"));
        std::fs::create_dir(&place).expect("made");
        std::fs::write(place.join("server.pem"), &pair.certificate).expect("written");
        std::fs::write(place.join("server.key"), &pair.key).expect("written");
        std::os::unix::fs::symlink(&place, &link).expect("linked");
        std::fs::rename(&link, self.file("current")).expect("swapped");
    }

    pub fn tls(&self) -> ServerTls {
        let certificate = self.file("current/server.pem");
        ServerTls { certificate: Some(certificate), key: Some(self.key_file()) }
    }

    /// Where the key of the pair is that was installed last.
    pub fn key_file(&self) -> PathBuf {
        self.file("current/server.key")
    }

    /// `ca.pem` is the authority's own certificate.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A client that trusts this authority alone.
    pub fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.issuer.der().to_vec())).expect("an authority");
        let mut config = ClientConfig::builder_with_protocol_versions(versions)
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }
}
