//! What the server says over plain HTTP, and how it refuses.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use crate::support::broker::Broker;
use crate::support::chain::{body, publish};
use crate::support::client::Client;
use crate::support::eventually::eventually;
use crate::support::replica::{Answer, Replica, config, metric_in, request};

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";

fn json(answer: &Answer) -> serde_json::Value {
    assert_eq!(answer.headers["content-type"], "application/json");
    serde_json::from_str(&answer.body).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_root_has_bigchaindbs_shape_and_the_requests_own_address() {
    let replica = Replica::start(&config(Broker::shared())).await;
    let at = replica.address;
    let expected = format!(
        r#"{{"status":"/api/v1/status","streamedblocks":"ws://{at}/api/v1/streams/valid_blocks","streams":"ws://{at}/api/v1/streams/valid_transactions"}}"#
    );
    for path in ["/api/v1", "/api/v1/"] {
        let answer = replica.get(path).await;
        assert_eq!((answer.status, answer.body.trim_end()), (200, expected.as_str()));
        assert_eq!(answer.headers["access-control-allow-origin"], "*");
    }
    let root = json(&replica.get("/").await);
    assert_eq!(root["software"], "Blockcast");
    assert_eq!(
        root["api"]["v1"]["streams"],
        format!("ws://{at}/api/v1/streams/valid_transactions")
    );

    let behind_proxy = "GET /api/v1 HTTP/1.1\r\nHost: chain.example\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n";
    let answer = json(&request(at, behind_proxy).await);
    assert_eq!(answer["streams"], "wss://chain.example/api/v1/streams/valid_transactions");
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_are_found_however_their_slashes_are_written_or_the_right_one_is_told() {
    let mut config = config(Broker::shared());
    let replica = Replica::start_ready(&config).await;
    let stream = "/api/v1/streams/valid_transactions";
    for (path, status) in [
        ("//", 200),
        ("/api/v1//", 200),
        ("//api//v1", 200),
        ("/api/v1/status/", 200),
        ("/health/live/", 200),
        ("//health//ready", 200),
        ("/api/v1/streams/valid_transactions/", 426),
        ("/api/v1/streams//valid_transactions?limit=1", 426),
        ("/api/v1/streams/valid%5Fblocks/", 426),
        ("http://chain.example//api/v1/", 200),
    ] {
        assert_eq!(replica.get(path).await.status, status, "{path}");
    }
    let url = format!("{}/?limit=1", replica.url("valid%5Ftransactions"));
    Client::connect(&url).await;
    for (path, told) in [
        ("/chain/api/v1/streams/valid_transactions", stream),
        ("/api/v1/streams/valid-transactions", stream),
        ("/api/v1/streams/", stream),
        // Proxies keep it from clients by its name.
        ("/metrics/", "/metrics"),
        ("//metrics", "/metrics"),
        ("/%6Detrics", "/metrics"),
    ] {
        let answer = replica.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(
            json(&answer)["message"],
            format!("there is nothing at this path; is `{told}` meant?")
        );
    }
    let answer = replica.get("/sessions/").await;
    assert_eq!(json(&answer)["message"], "there is nothing at this path");
    replica.stop().await.expect("drained");

    config.admin.listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)).into());
    let replica = Replica::start(&config).await;
    for path in ["/metrics/", "//metrics", "/sessions/", "/%73essions", "/health/live/"] {
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = request(replica.admin.expect("an admin address"), &head).await;
        assert_eq!(answer.status, 200, "{path}");
    }
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_where_nobody_can_connect_is_not_told() {
    let mut config = config(Broker::shared());
    for host in ["0.0.0.0", "[::]", "::"] {
        config.server.advertised_host = Some(host.into());
        let replica = Replica::start(&config).await;
        let port = replica.address.port();
        for (asked, expected) in [
            ("chain.example".to_owned(), "chain.example".to_owned()),
            (format!("0.0.0.0:{port}"), format!("127.0.0.1:{port}")),
            (format!("[::]:{port}"), format!("127.0.0.1:{port}")),
            ("0.0.0.0".to_owned(), "127.0.0.1".to_owned()),
        ] {
            let head =
                format!("GET /api/v1 HTTP/1.1\r\nHost: {asked}\r\nConnection: close\r\n\r\n");
            let root = json(&request(replica.address, &head).await);
            assert_eq!(
                root["streamedblocks"],
                format!("ws://{expected}/api/v1/streams/valid_blocks"),
                "{asked}"
            );
        }
        replica.stop().await.expect("drained");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_advertised_address_wins() {
    let mut config = config(Broker::shared());
    config.server.advertised_scheme = Some("wss".into());
    config.server.advertised_host = Some("stream.example".into());
    config.server.advertised_port = Some(443);
    let replica = Replica::start(&config).await;
    let answer = json(&replica.get("/api/v1").await);
    assert_eq!(answer["streamedblocks"], "wss://stream.example:443/api/v1/streams/valid_blocks");
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_json_with_their_status() {
    let replica = Replica::start_ready(&config(Broker::shared())).await;
    let stream = "/api/v1/streams/valid_transactions";
    let ask = async |method: &str, path: &str, headers: &str| {
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
        request(replica.address, &head).await
    };
    let upgrade = async |path: &str, headers: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        request(replica.address, &head).await
    };
    let wrong_version = UPGRADE.replace("13", "8");
    let cases = [
        (ask("GET", "/api/v2", "").await, 404, "nothing at this path"),
        (ask("POST", "/api/v1", "Content-Length: 0\r\n").await, 405, "only GET"),
        (ask("DELETE", stream, "").await, 405, "only GET"),
        (ask("GET", stream, "").await, 426, "proxy"),
        (ask("GET", &format!("{stream}?from_hight=1"), "").await, 400, "`from_hight`"),
    ];
    for (answer, status, told) in &cases {
        assert_eq!(answer.status, *status, "{answer:?}");
        let body = json(answer);
        assert_eq!(body["status"], *status);
        assert!(body["message"].as_str().expect("a message").contains(told), "{body}");
        assert_eq!(answer.headers["access-control-allow-origin"], "*");
    }
    let close = "Connection: close, Upgrade\r\n";
    let answer = upgrade(stream, &wrong_version.replace("Connection: Upgrade\r\n", close)).await;
    assert_eq!((answer.status, answer.headers["sec-websocket-version"].as_str()), (426, "13"));
    // Too short, not base64, and base64 of 18 bytes.
    for key in ["short", "AAAAAAAAAA!AAAAAAAAAAA==", "AAAAAAAAAAAAAAAAAAAAAAAA"] {
        let no_key = UPGRADE
            .replace("AAAAAAAAAAAAAAAAAAAAAA==", key)
            .replace("Connection: Upgrade\r\n", close);
        assert_eq!(upgrade(stream, &no_key).await.status, 400, "{key}");
    }
    assert_eq!(ask("GET", stream, "").await.headers["upgrade"], "websocket");
    assert_eq!(ask("OPTIONS", "/api/v1", "").await.status, 204);
    let head = ask("HEAD", "/api/v1", "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert!(
        replica.metric("blockcast_handshakes_refused_total{reason=\"no_upgrade\"}").await >= 2.0
    );
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_is_told_in_band_what_it_asked_wrongly() {
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;
    let replica = Replica::start_ready(&config(Broker::shared())).await;
    let mut request = format!("{}?limt=5", replica.url("valid_transactions"))
        .into_client_request()
        .expect("a request");
    request.headers_mut().insert("origin", "https://app.example".parse().expect("a header"));
    let (socket, _) = tokio_tungstenite::connect_async(request).await.expect("the socket opens");
    let frame = Client::from(socket).closed().await;
    let told = "unknown parameter `limt`; is `limit` meant? server.ignored_parameters lists what is \
        passed over";
    let told = (4000, told);
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), told);
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn ignored_parameters_are_passed_over() {
    let mut config = config(Broker::shared());
    config.server.ignored_parameters = vec!["utm_source".into()];
    let replica = Replica::start_ready(&config).await;
    Client::connect(&format!("{}?utm_source=x", replica.url("valid_blocks"))).await;
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_life_from_readiness() {
    let mut config = config(Broker::shared());
    let port_of_nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let nobody = port_of_nobody.local_addr().expect("an address");
    config.amqp.uris =
        vec![blockcast::config::AmqpUri::new(format!("amqp://guest:secret@{nobody}"))];
    let replica = Replica::start(&config).await;
    assert_eq!(replica.get("/health/live").await.status, 200);
    let ready = replica.get("/health/ready").await;
    assert_eq!(ready.status, 503);
    assert_eq!(json(&ready)["message"], "warming");
    let status = replica.get("/api/v1/status").await.body;
    assert!(
        status.contains("\"broker\":\"lost\"")
            && !status.contains("secret")
            && !status.contains("guest"),
        "{status}"
    );
    let refused = replica.get("/api/v1/streams/valid_blocks").await;
    assert_eq!((refused.status, refused.headers["retry-after"].as_str()), (503, "5"));
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_move_to_the_admin_address_and_health_is_on_both() {
    let mut config = config(Broker::shared());
    config.admin.listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)).into());
    let replica = Replica::start_ready(&config).await;
    let admin = replica.admin.expect("an admin address");
    let get = async |at, path: &str| {
        request(at, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
            .await
            .status
    };
    assert_eq!(get(replica.address, "/metrics").await, 404);
    assert_eq!(get(admin, "/metrics").await, 200);
    for at in [replica.address, admin] {
        assert_eq!((get(at, "/health/live").await, get(at, "/health/ready").await), (200, 200));
    }
    assert_eq!(get(admin, "/api/v1/streams/valid_blocks").await, 404);
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_has_nothing_to_say_about_the_metrics() {
    let config = config(Broker::shared());
    let replica = Replica::start_ready(&config).await;
    let _client = Client::connect(&replica.url("valid_blocks")).await;
    publish(&config, [body(1, "x"), b"bad".to_vec(), body(2, "x")]).await;
    eventually("blocks are there", async || replica.status().await["tip_height"] == 2).await;
    let text = replica.get("/metrics").await.body;
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool: `make test` installs Debian's `prometheus` for it");
    std::io::Write::write_all(&mut promtool.stdin.take().expect("its input"), text.as_bytes())
        .expect("written");
    let output = promtool.wait_with_output().expect("it ends");
    let told = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && told.is_empty(), "{}", String::from_utf8_lossy(&told));
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_say_nothing_of_the_chain_before_there_is_a_block() {
    let config = config(Broker::shared());
    let replica = Replica::start_ready(&config).await;
    let names = [
        "blockcast_block_height",
        "blockcast_first_height",
        "blockcast_last_block_timestamp_seconds",
        "blockcast_history_oldest_timestamp_seconds",
    ];
    let text = replica.get("/metrics").await.body;
    for name in names {
        assert!(!text.contains(name), "{name} is there without a block:\n{text}");
    }
    publish(&config, [body(0, "x")]).await;
    eventually("the block is there", async || replica.status().await["tip_height"] == 0).await;
    let text = replica.get("/metrics").await.body;
    let [tip, first, appended, oldest] = names.map(|name| metric_in(&text, name));
    assert_eq!((tip, first), (0.0, 0.0));
    assert!(appended > 1.7e9 && oldest == appended, "{appended} {oldest}");
    replica.stop().await.expect("drained");
}
