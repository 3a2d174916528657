//! What TLS costs: CPU where every client reads, beside plain connections, and memory for one that only
//! waits.

use std::rc::Rc;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

use super::broker::Broker;
use super::idle;
use super::load::Greeting;
use super::peers::{Entrant, SHAPES, compare};
use super::service::{Blockcast, STREAM, Service};
use super::table;
use super::write_loop::WriteLoop;

/// Each is a handshake of both sides.
pub const IDLE_CLIENTS: usize = 4_000;

/// A pair for this machine, and clients that trust it.
struct Trusted {
    directory: tempfile::TempDir,
    clients: Arc<ClientConfig>,
}

/// A table of the first two shapes. Yields the resident bytes of an idle client.
///
/// # Errors
/// A server failed, such as by a wrong count.
pub async fn compare_with_plain() -> anyhow::Result<f64> {
    let broker = Rc::new(Broker::start().await);
    let trusted = Trusted::new()?;
    let settings = trusted.settings();
    let settings: Vec<_> = settings.iter().map(String::as_str).collect();
    let greeting = Greeting { tls: Some(Arc::clone(&trusted.clients)), ..Greeting::to(STREAM) };
    table::print_head();
    for (number, shape) in SHAPES.into_iter().take(2).enumerate() {
        let transactions = shape.transactions;
        let [plain, _] =
            Blockcast::start(&broker, transactions, &format!("plain-{number}"), &[]).await;
        let service = Service::start_on(&broker, &format!("tls-{number}"), &settings).await;
        let over_tls = Blockcast::over_tls(&Rc::new(service), transactions, greeting.clone());
        let entrants = vec![
            Entrant::new("plain `write()` loop", WriteLoop::start(transactions)),
            Entrant::new("**Blockcast**", Ok(plain)),
            Entrant::new("**Blockcast**, TLS 1.3", Ok(over_tls)),
        ];
        compare(&shape, entrants).await?;
    }
    let service = Service::start_on(&broker, "tls-idle", &settings).await;
    Ok(idle::measure(&service, &greeting, IDLE_CLIENTS).await)
}

impl Trusted {
    fn new() -> anyhow::Result<Self> {
        let names = ["127.0.0.1".to_owned()];
        let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names)?;
        let directory = tempfile::tempdir()?;
        std::fs::write(directory.path().join("server.pem"), cert.pem())?;
        std::fs::write(directory.path().join("server.key"), signing_key.serialize_pem())?;
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone())?;
        let clients = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Ok(Self { directory, clients: Arc::new(clients) })
    }

    /// For a service that shows it, and says elsewhere how it is.
    fn settings(&self) -> [String; 3] {
        let file = |name: &str| self.directory.path().join(name).display().to_string();
        [
            format!("server.tls.certificate={}", file("server.pem")),
            format!("server.tls.key={}", file("server.key")),
            "admin.listen=127.0.0.1:0".to_owned(),
        ]
    }
}
