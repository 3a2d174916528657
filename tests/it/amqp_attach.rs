//! Connections: TLS with a private authority and a client's certificate.

use blockcast::config::AmqpUri;

use crate::amqp_client::{Client, Running, bodies, config};
use crate::broker::Broker;

#[tokio::test]
async fn amqps_with_a_private_authority_and_a_client_certificate() {
    let broker = Broker::shared();
    let mut config = config(broker);
    config.uris = vec![AmqpUri::new(broker.tls_uri())];
    config.tls.ca = Some(broker.file("ca.pem"));
    config.tls.certificate = Some(broker.file("client.pem"));
    config.tls.key = Some(broker.file("client.key"));
    let mut source = Running::start(&config);
    assert!(source.begin().await);
    source.caught_up().await;
    let client = Client::connect(&broker.uri()).await;
    client.publish(&config.exchange, bodies(0..2)).await;
    source.takes(bodies(0..2)).await;
    source.stop().await;
}

#[tokio::test]
async fn amqps_without_what_the_peers_ask_for_is_refused() {
    let broker = Broker::shared();
    let mut config = config(broker);
    config.uris = vec![AmqpUri::new(broker.tls_uri())];
    config.tls.ca = Some(broker.file("ca.pem"));
    // In TLS 1.3 a client's first words may be on their way when the broker refuses it; unread, they
    // make its kernel reset the connection, and the reset may overtake the alert.
    let mut reasons = Vec::new();
    while reasons.len() < 20 && !reasons.iter().any(|text: &String| text.contains("alert")) {
        reasons.push(refused(&config).await);
    }
    let told = reasons.last().expect("one attempt");
    let alert = "received fatal alert: CertificateRequired (see amqp.tls.certificate)";
    assert!(told.ends_with(alert), "{reasons:?}");

    config.tls.ca = Some(broker.file("client.pem"));
    config.tls.certificate = Some(broker.file("client.pem"));
    config.tls.key = Some(broker.file("client.key"));
    let told = refused(&config).await;
    let unknown = "invalid peer certificate: UnknownIssuer (see amqp.tls.ca)";
    assert!(told.ends_with(unknown), "{told}");
}

async fn refused(config: &blockcast::config::Amqp) -> String {
    let error = blockcast::amqp::Publisher::connect(config).await.err().expect("refused");
    let text = error.to_string();
    assert!(text.contains("no broker is reachable"), "{text}");
    text
}
