//! No piece of a secret is ever shown, wherever it was written and however wrongly: canaries in every
//! place that can hold one, and everything that the program says searched for them.

use blockcast::config::{AmqpUri, JwtAlgorithm};
use tokio::task::block_in_place;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::support::broker::{Broker, unique};
use crate::support::canaries::{HALVES, file, said, shows_nothing};
use crate::support::chain::{body, event, publish};
use crate::support::client::Client;
use crate::support::letters::Letters;
use crate::support::process::Process;
use crate::support::program::Program;
use crate::support::replica::{config, request};

const BETWEEN: [&str; 15] =
    ["", "/", "#", "?", "@", "%", "%zz", ":", ",", " ", "\"", "\\", "&", "=", "ä"];
/// What must be encoded in a URI's password.
const REFUSED: [&str; 7] = ["/", "#", "?", "@", "%", "%zz", " "];

/// Queries with a token where none is looked for.
const MISPLACED_TOKENS: [&str; 7] = [
    "access_token%3Dkanarivogelx",
    "access_token:kanarivogelx",
    "kanarivogelx",
    "kanarivogelx==",
    "?access_token=kanarivogelx",
    "from_height=5?access_token=kanarivogelx",
    "operation=CREATE;access_token=kanarivogelx",
];

fn tokens_of(token: &str) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
    let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("wallet {hash}\n")
}

/// How a page is refused, which is let in by its token.
async fn closed_as_page(url: &str, token: &str) -> CloseFrame {
    let mut request = url.into_client_request().expect("a request");
    let protocols = format!("blockcast, bearer.{token}");
    for (name, value) in [("origin", "http://x"), ("sec-websocket-protocol", &protocols)] {
        request.headers_mut().insert(name, value.parse().expect("a header"));
    }
    let (socket, _) = connect_async(request).await.expect("the socket opens");
    Client::from(socket).closed().await
}

#[tokio::test]
async fn no_piece_of_a_brokers_password_is_shown_whatever_is_wrong_with_it() {
    for between in BETWEEN {
        let uri = format!("amqp://u:{}{between}{}@127.0.0.1:1/%2f", HALVES[0], HALVES[1]);
        let uri = uri.as_str();
        let expected = if REFUSED.contains(&between) { 64 } else { 0 };
        let set = format!("amqp.uris={uri}");
        let by_file = format!("[amqp]\nuris = ['{uri}']\n");
        let (by_file, uris) = (file(&by_file), file(uri));
        let by_file = by_file.path().to_str().expect("UTF-8");
        let uris = uris.path().to_str().expect("UTF-8");
        for (words, environment) in [
            (&["check"][..], &[("BLOCKCAST_AMQP__URIS", uri)][..]),
            (&["check"], &[("BLOCKCAST_AMQP__URIS_FILE", uris)]),
            (&["check", "--set", &set], &[]),
            (&["check", "--amqp-uri", uri], &[]),
            (&["--config", by_file, "check"], &[]),
        ] {
            let (code, said) = said(words, environment).await;
            assert_eq!(code, Some(expected), "{words:?} {environment:?}: {said}");
            shows_nothing(&said, uri);
        }
        let misplaced = file(&format!("[amqp]\nexchange = '{uri}'\nbinding_keys = ['{uri}']\n"));
        let misplaced = misplaced.path().to_str().expect("UTF-8");
        let (code, text) = said(&["check"], &[("BLOCKCAST_CONFIG", uri)]).await;
        assert_eq!(code, Some(64), "{text}");
        shows_nothing(&text, uri);
        let (code, refused) = said(&["check"], &[("BLOCKCAST_CONFIG", misplaced)]).await;
        assert_eq!(code, Some(64), "{refused}");
        shows_nothing(&refused, uri);
        for text in [
            format!("[amqp]\nuris = '{uri}'\n"),
            format!("[amqp]\nuris = [{uri}]\n"),
            format!("[amqp]\nuris = ['{uri}]\n"),
            format!("[amqp]\nuris = ['{uri}', 1]\n"),
            format!("[amqp]\nuris = ['{uri}']\nuris = ['{uri}']\n"),
            format!("[amqp]\nuri = ['{uri}']\n"),
            format!("[amqp]\n'{uri}' = 1\n"),
            format!("[amqp]\n{uri}\n"),
            format!("[{uri}]\n"),
            format!("amqp = '{uri}'\n"),
            format!("[server]\nlisten = '{uri}'\n"),
            format!("[server]\ntrusted_proxies = ['{uri}']\n"),
            format!("[server]\nallowed_origins = ['{uri}']\n"),
            format!("[amqp.queue]\nmax_age = '{uri}'\n"),
            format!("[amqp.queue]\nmode = '{uri}'\n"),
            format!("[log]\nlevel = '{uri}'\n"),
            format!("[amqp]\nuris_file = '{uri}'\n"),
            format!("[amqp.tls]\nserver_name = '{uri}'\n"),
            format!("[server.tls]\ncertificate = '{uri}'\nkey = '{uri}'\n"),
            format!("[server.auth]\ntokens_file = '{uri}'\n"),
        ] {
            let bad = file(&text);
            let bad = bad.path().to_str().expect("UTF-8");
            let (code, said) = said(&["check"], &[("BLOCKCAST_CONFIG", bad)]).await;
            assert_eq!(code, Some(64), "{text}: {said}");
            shows_nothing(&said, &text);
        }
    }
}

#[tokio::test]
async fn no_piece_of_an_argument_that_holds_a_secret_is_shown() {
    let nowhere = ("BLOCKCAST_AMQP__URIS", "amqp://127.0.0.1:1");
    for between in BETWEEN {
        let secret = format!("{}{between}{}", HALVES[0], HALVES[1]);
        let uri = format!("amqp://u:{secret}@127.0.0.1:1/x");
        let node = format!("http://u:{secret}@127.0.0.1:1");
        let assignment = format!("server.listen={uri}");
        let unknown = format!("amqp.url={uri}");
        let key = format!("{uri}=x");
        let glued = format!("--amqp-url={uri}");
        let token = format!("http://127.0.0.1:1/x?access_token={secret}");
        let bare = format!("u:{secret}@127.0.0.1:1");
        // With an @ in it, the second half would be the host.
        let no_host = format!("wss://u:{}", secret.replace('@', "/"));
        for words in [
            &[uri.as_str()][..],
            &["serve", &uri],
            &["serve", &glued],
            &["serve", "--listen", &uri],
            &["serve", "--set", &uri],
            &["serve", "--set", &key],
            &["check", "--set", &assignment],
            &["check", "--set", &unknown],
            &["check", "--config", &uri],
            &["publish", &uri],
            &["publish", "--rate", &uri, "-"],
            &["publish", "--node", &uri],
            &["publish", "--node", &bare],
            &["publish", "--node", &node, "--heights", "1", "--no-retry"],
            &["publish", "--node", &node, "--heights", &node],
            &["publish", "--node", "http://127.0.0.1:1", "--from-height", &uri],
            &["tail", &uri],
            &["tail", &bare],
            &["tail", &token],
            &["tail", &no_host],
            &["tail", "--ca", &uri],
            &["tail", "--from", &uri],
            &["tail", "--after", &uri],
        ] {
            let (code, said) = said(words, &[nowhere]).await;
            assert_ne!(code, Some(0), "{words:?}: {said}");
            shows_nothing(&said, &format!("{words:?}"));
        }
    }
}

#[tokio::test]
async fn a_tail_that_cannot_connect_shows_where_to_and_no_secret() {
    for url in [
        "ws://u:kanari%2Fvogelx@127.0.0.1:1/x?access_token=kanarivogelx",
        "ws://u:kanari,vogelx@127.0.0.1:1/x",
    ] {
        let mut tail = Program::new(["tail", url]).start();
        let line = tail.says("").await;
        shows_nothing(&line, url);
        tail.signal("INT").await;
        let ended = tail.ended().await;
        shows_nothing(&format!("{ended:?}"), url);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_serves_shows_none_of_its_secrets() {
    const PASSWORD: &str = "kanari/vogelx";
    let broker = Broker::shared();
    let user = unique("user");
    block_in_place(|| {
        broker.rabbitmqctl(&["add_user", &user, PASSWORD]);
        broker.rabbitmqctl(&["set_permissions", &user, ".*", ".*", ".*"]);
    });
    let secret = file("\u{feff}kanarivogelx-kanarivogelx-kanarivogelx\n");
    let tokens = file(&tokens_of("kanarivogelx-token"));
    let mut config = config(broker);
    config.server.auth.tokens_file = Some(tokens.path().into());
    let place = format!("127.0.0.1:{}", broker.port());
    config.amqp.uris = vec![
        AmqpUri::new(format!("amqp://{user}:kanarivogelx@{place}/?password=kanari")),
        AmqpUri::new(format!("amqp://{user}:kanari%2Fvogelx@{place}/%2f")),
    ];
    config.server.auth.jwt.algorithm = JwtAlgorithm::HS256;
    config.server.auth.jwt.key = Some(secret.path().into());
    config.admin.listen = Some(std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into());
    config.log.level = "trace,lapin=trace".into();
    let replica = Process::start_ready(&config).await;
    publish(&config, [b"no block".to_vec(), body(1, "a")]).await;
    replica.reaches(1).await;
    let letters = Letters::of(broker, config.amqp.dead_letter.exchange.as_deref()).await;
    let letter = letters.take().await;
    let mut all = letter.everything();
    let url = replica.url("valid_transactions");
    let session = format!("{url}?from_height=1&access_token=kanarivogelx-token");
    let mut client = Client::connect(&session).await;
    assert_eq!(client.text().await, event(1, "a"));
    let wrong = format!("{url}?access_token=kanarivogelx");
    let (code, told) = said(&["tail", &wrong], &[]).await;
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("401"), "{told}");
    all.push_str(&told);
    all.push_str(&answers(&replica).await);
    all.push_str(&replica.logged("").concat());
    assert!(all.contains("blockcast_block_height"), "{all}");
    assert!(all.contains(r#""target":"lapin"#), "the library is heard");
    assert!(all.contains("stream refused") && all.contains("it may be a token"), "{all}");
    shows_nothing(&all, "a replica");
    drop(client);
    replica.stop().await;

    let blocks = file("{}\n");
    let blocks = blocks.path().to_str().expect("UTF-8");
    let wrong = config.amqp.uris[0].expose();
    let (code, said) = said(&["publish", blocks], &[("BLOCKCAST_AMQP__URIS", wrong)]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("ACCESS_REFUSED") && said.contains("parameter password"), "{said}");
    shows_nothing(&said, "a wrong password");
}

/// All that a replica answers: where it may be asked, with tokens in the right place and in wrong ones.
async fn answers(replica: &Process) -> String {
    let mut all = String::new();
    for path in ["/metrics", "/sessions", "/health/ready", "/health/live"] {
        let answer = replica.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        all.push_str(&format!("{answer:?}"));
    }
    let stream = "/api/v1/streams/valid_transactions";
    let with_token = format!("{stream}?access_token=kanarivogelx");
    let mut asked = Vec::new();
    for path in ["/", "/api/v1", "/api/v1/status", "/metrics", &with_token] {
        asked.extend(
            ["", "Authorization: Bearer kanari.vogelx.x\r\n"].map(|by| (path.to_owned(), by)),
        );
    }
    let known = "Authorization: Bearer kanarivogelx-token\r\n";
    asked.extend(MISPLACED_TOKENS.map(|query| (format!("{stream}?{query}"), known)));
    for (path, header) in asked {
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\n{header}Accept: text/event-stream\r\nConnection: close\r\n\r\n"
        );
        all.push_str(&format!("{:?}", request(replica.address, &head).await));
    }
    let url = replica.url("valid_transactions");
    for query in MISPLACED_TOKENS {
        let closed = closed_as_page(&format!("{url}?{query}"), "kanarivogelx-token").await;
        assert_eq!(u16::from(closed.code), 4000, "{query}: {closed:?}");
        all.push_str(&format!("{closed:?}"));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_behind_a_byte_order_mark_lets_in() {
    let token = "wallet-token";
    let tokens = file(&format!("\u{feff}{}", tokens_of(token)));
    let mut config = config(Broker::shared());
    config.server.auth.tokens_file = Some(tokens.path().into());
    let replica = Process::start_ready(&config).await;
    publish(&config, [body(1, "a")]).await;
    let url = replica.url("valid_transactions");
    let mut client = Client::connect(&format!("{url}?from_height=1&access_token={token}")).await;
    assert_eq!(client.text().await, event(1, "a"));
    drop(client);
    replica.stop().await;
}
