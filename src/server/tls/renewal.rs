//! Reads the certificate again when it is asked for, and when its files change. A bad one changes
//! nothing: it is logged once, counted, and the old one goes on.

use std::convert::Infallible;

use tracing::{error, info};

use super::Tls;
use super::identity::IdentityFiles;
use crate::metrics::{Metrics, TlsReload};
use crate::reload::Requests;
use crate::watched::Change;

impl Tls {
    /// Keeps the certificate as its files are.
    ///
    /// # Cancel safety
    /// A pair is taken as a whole or not at all.
    pub async fn renew(&self, requests: Requests, metrics: &Metrics) -> Infallible {
        metrics.tls_certificate_expiry.set(Some(self.expiry_timestamp()));
        self.identity.keep(requests, |change| tell(change, metrics)).await
    }
}

fn tell(change: Change<IdentityFiles>, metrics: &Metrics) {
    match change {
        Ok(identity) => {
            let expiry_timestamp = identity.expiry_timestamp();
            metrics.tls_certificate_expiry.set(Some(expiry_timestamp));
            metrics.tls_reloads.add(TlsReload::Loaded);
            info!(expiry_timestamp, "TLS certificate loaded");
        }
        Err(error) => {
            metrics.tls_reloads.add(TlsReload::Failed);
            error!(%error, "the new TLS certificate is bad; the old one is kept");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::watched::Occasion;

    struct Pair {
        certificate: String,
        key: String,
    }

    fn issue(year: i32) -> Pair {
        let mut params = rcgen::CertificateParams::new(["localhost".into()]).expect("names");
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate").pem();
        Pair { certificate, key: key.serialize_pem() }
    }

    #[test]
    fn a_changed_pair_is_taken_when_good_and_told_once_when_it_stays_bad() {
        let directory = tempfile::tempdir().expect("a directory");
        let (certificate, key) = (directory.path().join("c.pem"), directory.path().join("k.pem"));
        let write = |pair: &Pair| {
            std::fs::write(&certificate, &pair.certificate).expect("written");
            std::fs::write(&key, &pair.key).expect("written");
        };
        write(&issue(3000));
        let paths = (Some(certificate.clone()), Some(key.clone()));
        let config = config::ServerTls { certificate: paths.0, key: paths.1 };
        let tls = Tls::load(&config).expect("good").expect("configured");
        let metrics = Metrics::new();
        let look = |occasion, loaded: u64, failed: u64, why: &str| {
            tls.identity.look(occasion).into_iter().for_each(|change| tell(change, &metrics));
            assert_eq!(metrics.tls_reloads.get(TlsReload::Loaded), loaded, "loaded: {why}");
            assert_eq!(metrics.tls_reloads.get(TlsReload::Failed), failed, "failed: {why}");
            tls.expiry_timestamp()
        };
        let first = look(Occasion::Time, 0, 0, "nothing changed");
        assert_eq!(look(Occasion::Asked, 1, 0, "asked for"), first);

        let next = issue(3001);
        std::fs::write(&certificate, &next.certificate).expect("written");
        assert_eq!(look(Occasion::Time, 1, 0, "its key is still to come"), first);
        write(&next);
        let second = look(Occasion::Time, 2, 0, "a new pair");
        assert!(second > first);

        for (bad, why) in [
            (Pair { key: issue(3002).key, ..issue(3002) }, "another key"),
            (Pair { certificate: "none".into(), ..issue(3002) }, "no certificate"),
            (issue(2001), "expired"),
        ] {
            write(&bad);
            let failed = metrics.tls_reloads.get(TlsReload::Failed);
            assert_eq!(look(Occasion::Time, 2, failed, why), second);
            for _ in 0..3 {
                assert_eq!(look(Occasion::Time, 2, failed + 1, why), second);
            }
            assert_eq!(look(Occasion::Asked, 2, failed + 2, why), second);
        }
        std::fs::remove_file(&key).expect("removed");
        look(Occasion::Time, 2, 6, "gone");
        look(Occasion::Time, 2, 7, "still gone");
        look(Occasion::Time, 2, 7, "gone for good");
        write(&next);
        assert_eq!(look(Occasion::Time, 2, 7, "what is in use is back"), second);
    }
}
