//! Connections: TLS with a private authority and a client's certificate, and what a URI can get wrong.

use blockcast::config::{AmqpUri, Config, Layers};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::amqp_client::{Client, Running, bodies, config};
use crate::support::broker::Broker;

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

#[tokio::test]
async fn a_broker_behind_a_tunnel_is_known_by_the_name_that_is_set() {
    let broker = Broker::shared();
    let mut config = config(broker);
    config.tls.ca = Some(broker.file("ca.pem"));
    config.tls.certificate = Some(broker.file("client.pem"));
    config.tls.key = Some(broker.file("client.key"));
    let tunnel = format!("amqps://guest:guest@127.0.0.1:{}/%2f", broker.tls_port());
    config.uris = vec![AmqpUri::new(tunnel)];
    let told = refused(&config).await;
    assert!(told.ends_with("(see amqp.tls.server_name)"), "{told}");
    config.tls.server_name = Some("localhost".into());
    let publisher = blockcast::amqp::Publisher::connect(&config).await.expect("connected");
    publisher.close().await;
    config.tls.server_name = Some("other".into());
    let told = refused(&config).await;
    assert!(told.ends_with("(see amqp.tls.server_name)"), "{told}");
}

#[tokio::test]
async fn a_port_that_speaks_something_else_is_named() {
    let broker = Broker::shared();
    let mut config = config(broker);
    config.tls.ca = Some(broker.file("ca.pem"));
    let http = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let http_port = http.local_addr().expect("its address").port();
    // As RabbitMQ's management does: it says nothing until there is a line.
    let serving = tokio::spawn(async move {
        loop {
            let (mut socket, _) = http.accept().await.expect("accepted");
            tokio::spawn(async move {
                let mut read = Vec::new();
                while !read.contains(&b'\n') {
                    if socket.read_buf(&mut read).await.is_ok_and(|count| count == 0) {
                        return;
                    }
                }
                let answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
                let _gone = socket.write_all(answer).await;
            });
        }
    });
    for (scheme, port, hint) in [
        ("amqp", broker.tls_port(), "this port speaks TLS: write amqps://"),
        ("amqps", broker.port(), "this port speaks AMQP without TLS: write amqp://"),
        ("amqp", http_port, "this port speaks HTTP and is no AMQP port"),
        ("amqps", http_port, "this port speaks HTTP and is no AMQP port"),
    ] {
        config.uris = vec![AmqpUri::new(format!("{scheme}://u:hunter@localhost:{port}/%2f"))];
        let told = refused(&config).await;
        assert!(told.contains(hint) && !told.contains("hunter"), "{scheme} {port}: {told}");
    }
    serving.abort();
}

#[tokio::test]
async fn a_slash_at_the_end_is_the_vhost_with_that_name() {
    let mut config = config(Broker::shared());
    let uri = Broker::shared().uri().replace("%2f", "");
    assert!(uri.ends_with('/'), "{uri}");
    config.uris = vec![AmqpUri::new(uri)];
    let publisher = blockcast::amqp::Publisher::connect(&config).await.expect("connected");
    publisher.close().await;
}

#[tokio::test]
async fn arguments_of_the_environment_are_taken_by_the_broker() {
    let mut config = config(Broker::shared());
    let set = |name: &str, value: &str| {
        (format!("BLOCKCAST_AMQP__QUEUE__ARGUMENTS__{name}"), value.to_owned())
    };
    let environment =
        vec![set("X_INITIAL_CLUSTER_SIZE", "1"), set("X-MAX-LENGTH-BYTES", "9000000")];
    let loaded = Config::load(&Layers { environment, ..Layers::default() }).expect("loads");
    config.queue.arguments = loaded.amqp.queue.arguments;
    assert_eq!(config.queue.arguments.len(), 2);
    let mut source = Running::start(&config);
    assert!(source.begin().await);
    // RabbitMQ refuses a declaration with a text in a number's place.
    let told = Broker::shared().rabbitmqctl(&["list_queues", "name", "arguments"]);
    let queue = config.queue.resolved_name();
    let line = told.lines().find(|line| line.starts_with(&queue)).expect("it is declared");
    for argument in [r#""x-initial-cluster-size",1"#, r#""x-max-length-bytes",9000000"#] {
        assert!(line.replace(' ', "").contains(argument), "{argument} not in {line}");
    }
    source.stop().await;
}

async fn refused(config: &blockcast::config::Amqp) -> String {
    let error = blockcast::amqp::Publisher::connect(config).await.err().expect("refused");
    let text = error.to_string();
    assert!(text.contains("no broker is reachable"), "{text}");
    text
}
