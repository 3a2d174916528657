//! Certificates on the command line: what `check` and `serve` refuse, and whom `tail` trusts.

use std::net::SocketAddr;

use blockcast::config::Config;

use crate::support::broker::Broker;
use crate::support::certificates::Authority;
use crate::support::chain::{body, event, publish};
use crate::support::process::Process;
use crate::support::program::Program;
use crate::support::replica::config;

#[tokio::test]
async fn a_bad_pair_is_refused_before_anything_begins() {
    let authority = Authority::new();
    authority.install(&authority.issue(3000));
    let mut config = Config::default();
    config.server.listen = SocketAddr::from(([127, 0, 0, 1], 0)).into();
    config.server.tls = authority.tls();
    Program::new(["check"]).config(&config).run().await.with_code(0);
    let mut pair = authority.issue(3000);
    pair.key = authority.issue(3000).key;
    authority.install(&pair);
    for command in ["check", "serve"] {
        let ended = Program::new([command]).config(&config).run().await.with_code(64);
        ended.telling(&["server.tls.certificate", "server.key", "do not fit"]);
    }
    std::fs::remove_file(authority.key_file()).expect("removed");
    for command in ["check", "serve"] {
        let ended = Program::new([command]).config(&config).run().await.with_code(64);
        ended.telling(&["server.tls.key", "server.key", "cannot be read"]);
    }
    authority.install(&authority.issue(2001));
    let ended = Program::new(["check"]).config(&config).run().await.with_code(64);
    ended.telling(&["server.pem", "2001", "not now"]);
}

#[tokio::test]
async fn a_set_without_a_key_that_can_be_used_is_refused_before_anything_begins() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut config = Config::default();
    config.server.listen = SocketAddr::from(([127, 0, 0, 1], 0)).into();
    config.server.auth.jwt.jwks = Some(directory.path().join("keys.json"));
    let zeros = "A".repeat(43);
    let other = r#"{"kty": "OKP", "crv": "Ed448", "x": "AAAA", "kid": "old"}"#;
    let good = format!(r#"{{"kty": "OKP", "crv": "Ed25519", "x": "{zeros}"}}"#);
    let write = |keys: &str| {
        let set = format!("{{\"keys\": [{keys}]}}");
        std::fs::write(directory.path().join("keys.json"), set).expect("written");
    };
    write(other);
    for command in ["check", "serve"] {
        let ended = Program::new([command]).config(&config).run().await.with_code(64);
        ended.telling(&["keys.json", "EdDSA", "old", "Ed448", "see server.auth"]);
    }
    write(&format!("{other}, {good}"));
    Program::new(["check"]).config(&config).run().await.with_code(0);
}

#[tokio::test]
async fn tail_trusts_the_authority_it_is_given_and_ends_at_a_certificate_it_does_not_trust() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    authority.install(&authority.issue(3000));
    let mut config = config(Broker::shared());
    config.server.tls = authority.tls();
    config.admin.listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)).into());
    let process = Process::start_ready(&config).await;
    publish(&config, [body(1, "a")]).await;
    let path = format!("{}/api/v1/streams/valid_transactions", process.address);
    let (wss, ws) = (format!("wss://{path}"), format!("ws://{path}"));
    let (ca, other) = (authority.file("ca.pem"), stranger.file("ca.pem"));
    let (ca, other) = (ca.to_str().expect("UTF-8"), other.to_str().expect("UTF-8"));

    let tail = Program::new(["tail", "--ca", ca, "--from", "1", "--limit", "1", &wss]);
    assert_eq!(tail.run().await.with_code(0).stdout, event(1, "a") + "\n");

    let told = ["certificate is not trusted", "authority is not known", "--ca"];
    Program::new(["tail", "--ca", other, &wss]).run().await.with_code(1).telling(&told);
    // The system's authorities, of which there is one for this.
    let mut system = Program::new(["tail", &wss]);
    system = system.env("SSL_CERT_FILE", other);
    system.run().await.with_code(1).telling(&told);
    Program::new(["tail", &ws]).run().await.with_code(1).telling(&["400", "wss://"]);
    let no_file = Program::new(["tail", "--ca", "/nonexistent/ca.pem", &wss]).run().await;
    no_file.with_code(64).telling(&["the authorities to trust", "No such file", "a file's path"]);
    process.stop().await;
}
