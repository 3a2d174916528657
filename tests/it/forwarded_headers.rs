//! What is believed of a proxy's word, and of a stranger's.

use std::net::{IpAddr, Ipv4Addr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use crate::support::broker::Broker;
use crate::support::eventually::eventually;
use crate::support::process::Process;
use crate::support::replica::{Replica, config, request};

/// Addresses of this machine, like all below 127.
const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// The API root as it is told to one at `from` that sends these header lines.
async fn root(replica: &Replica, from: Ipv4Addr, headers: &str) -> serde_json::Value {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((from, 0).into()).expect("an address of loopback");
    let mut stream = socket.connect(replica.address).await.expect("connected");
    let head = format!(
        "GET /api/v1 HTTP/1.1\r\nHost: chain.example\r\nConnection: close\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("read");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
    serde_json::from_str(body).expect("JSON")
}

/// The scheme of the streams, as it is told.
async fn told(replica: &Replica, from: Ipv4Addr, headers: &str) -> String {
    let root = root(replica, from, headers).await;
    let (scheme, rest) =
        root["streams"].as_str().expect("a URL").split_once(':').expect("a scheme");
    assert_eq!(rest, "//chain.example/api/v1/streams/valid_transactions");
    let blocks = root["streamedblocks"].as_str().expect("a URL");
    assert_eq!(blocks.split_once(':').expect("a scheme").0, scheme);
    scheme.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scheme_that_a_proxy_tells_is_believed_of_those_that_are_trusted() {
    let proto = |text: &str| format!("X-Forwarded-Proto: {text}\r\n");
    let for_whom = |text: &str| format!("X-Forwarded-For: {text}\r\n");
    let mut config = config(Broker::shared());
    config.server.trusted_proxies = vec!["127.0.0.2/32".parse().expect("a network")];
    let replica = Replica::start(&config).await;
    for (from, headers, scheme) in [
        (PROXY, String::new(), "ws"),
        (PROXY, proto("https"), "wss"),
        (PROXY, proto("HTTPS"), "wss"),
        (PROXY, proto("wss"), "wss"),
        (PROXY, proto("ws"), "ws"),
        (PROXY, "Forwarded: for=198.51.100.1;proto=https\r\n".to_owned(), "wss"),
        (PROXY, proto("http"), "ws"),
        // The first is what the client asked the outermost for.
        (PROXY, proto("https, http"), "wss"),
        (PROXY, proto("http, https"), "ws"),
        (PROXY, proto("gopher"), "ws"),
        // It is the proxy's word, not its client's.
        (PROXY, proto("https") + &for_whom("198.51.100.1"), "wss"),
        (STRANGER, String::new(), "ws"),
        (STRANGER, proto("https"), "ws"),
        (STRANGER, "Forwarded: for=198.51.100.1;proto=https\r\n".to_owned(), "ws"),
        (STRANGER, proto("https") + &for_whom("127.0.0.2"), "ws"),
    ] {
        assert_eq!(told(&replica, from, &headers).await, scheme, "{from} {headers}");
    }
    replica.stop().await.expect("drained");

    config.server.advertised_scheme = Some("wss".into());
    let replica = Replica::start(&config).await;
    for from in [PROXY, STRANGER] {
        assert_eq!(told(&replica, from, &proto("http")).await, "wss", "what is set wins");
    }
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_that_says_for_whom_it_comes_is_told_of_once_and_counted_as_itself() {
    const REQUESTS: usize = 50;
    let mut config = config(Broker::shared());
    config.server.trusted_proxies = vec!["127.0.0.2/32".parse().expect("a network")];
    config.log.level = "info,blockcast=debug".into();
    let process = Process::start_ready(&config).await;
    let at = process.address;
    let ask = move |number: usize| async move {
        let path = ["/api/v1", "/api/v1/status", "/api/v1/streams/valid_blocks"][number % 3];
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        // Of several proxies each may say something else.
        let name = ["For", "Host", "Proto"][number % 3];
        request(at, &format!("{head}X-Forwarded-{name}: 198.51.100.{number}\r\n\r\n")).await;
    };
    let asking: Vec<_> = (0..REQUESTS).map(|number| tokio::spawn(ask(number))).collect();
    for asked in asking {
        asked.await.expect("an answer");
    }
    // Each refused stream has a line behind what is looked for.
    let refused = REQUESTS / 3;
    eventually("all is logged", async || process.logged("stream refused").len() == refused).await;
    let told = process.logged("X-Forwarded-");
    let [line] = told.as_slice() else { panic!("one line was due: {told:?}") };
    let stranger = IpAddr::V4(Ipv4Addr::LOCALHOST).to_string();
    assert!(
        line.contains("\"level\":\"WARN\"") && line.contains("server.trusted_proxies"),
        "{line}"
    );
    assert!(line.contains(&format!("\"peer\":\"{stranger}\"")), "{line}");
    assert_eq!(process.logged("198.51.100."), [""; 0], "nothing of what it says is taken for true");
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_proxy_was_asked_is_told_to_those_behind_one_that_is_trusted() {
    let mut config = config(Broker::shared());
    config.server.trusted_proxies = vec!["127.0.0.2/32".parse().expect("a network")];
    let replica = Replica::start(&config).await;
    let ports = "X-Forwarded-Host: a.example\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: ";
    for (headers, expected) in [
        ("X-Forwarded-Host: a.example\r\n".to_owned(), "ws://a.example"),
        ("X-Forwarded-Host: a.example:8443, b.example\r\n".to_owned(), "ws://a.example:8443"),
        (format!("{ports}8443\r\n"), "wss://a.example:8443"),
        (format!("{ports}443\r\n"), "wss://a.example"),
        // Of a proxy behind the one that speaks TLS.
        (format!("{ports}80\r\n"), "wss://a.example"),
        ("X-Forwarded-Port: 8080\r\n".to_owned(), "ws://chain.example:8080"),
        ("X-Forwarded-Prefix: /node\r\n".to_owned(), "ws://chain.example/node"),
        (
            "Forwarded: for=198.51.100.1;host=\"a.example:8443\";proto=https\r\n".to_owned(),
            "wss://a.example:8443",
        ),
        (
            "Forwarded: host=b.example\r\nX-Forwarded-Host: a.example\r\n".to_owned(),
            "ws://a.example",
        ),
        ("X-Forwarded-Host: [2001:db8::1]:81\r\n".to_owned(), "ws://[2001:db8::1]:81"),
        ("X-Forwarded-Host: 0.0.0.0:81\r\n".to_owned(), "ws://127.0.0.1:81"),
        ("X-Forwarded-Host: a b\r\n".to_owned(), "ws://chain.example"),
    ] {
        let told = root(&replica, PROXY, &headers).await;
        assert_eq!(told["streams"], format!("{expected}/api/v1/streams/valid_transactions"));
        let prefix = if expected.ends_with("/node") { "/node" } else { "" };
        assert_eq!(told["status"], format!("{prefix}/api/v1/status"), "{headers}");
        let told = root(&replica, STRANGER, &headers).await;
        let own = "ws://chain.example/api/v1/streams/valid_transactions";
        assert_eq!((&told["streams"], &told["status"]), (&own.into(), &"/api/v1/status".into()));
    }
    replica.stop().await.expect("drained");
}
