//! Addresses with secrets in the place of a name, and those that another program says: canaries in each,
//! and what the program says searched for them.

use crate::support::broker::Broker;
use crate::support::canaries::{file, said, shows_nothing};
use crate::support::publishing::{interrupted, node_of_three, publish};
use crate::support::replica::config;

/// Addresses that people put into the wrong line.
const MISPLACED: [&str; 4] = [
    "amqp://u:kanarivogelx@127.0.0.1:1",
    "amqp://kanarivogelx@127.0.0.1:1",
    "u:kanarivogelx@127.0.0.1",
    "http://127.0.0.1:1/x?access_token=kanarivogelx",
];

#[tokio::test]
async fn an_address_with_a_password_is_no_name_and_is_not_shown() {
    let blocks = file("{}\n");
    let blocks = blocks.path().to_str().expect("UTF-8");
    for address in MISPLACED {
        for (line, told) in [
            (format!("amqp.exchange = '{address}'"), "`amqp.exchange`"),
            (format!("amqp.queue.name = '{address}'"), "`amqp.queue.name`"),
            (format!("amqp.binding_keys = ['block.#', '{address}']"), "`amqp.binding_keys`"),
            (format!("amqp.dead_letter.exchange = '{address}'"), "`amqp.dead_letter.exchange`"),
            (format!("amqp.queue.arguments.'{address}' = 1"), "`amqp.queue.arguments`"),
            (format!("amqp.queue.arguments.x = '{address}'"), "`amqp.queue.arguments`"),
            (format!("server.advertised_host = '{address}'"), "`server.advertised_host`"),
        ] {
            let file = file(&line);
            let path = file.path().to_str().expect("UTF-8");
            for words in [&["check"][..], &["serve"], &["publish", blocks]] {
                let (code, said) = said(words, &[("BLOCKCAST_CONFIG", path)]).await;
                assert_eq!(code, Some(64), "{line}: {said}");
                assert!(said.contains(told) && !said.contains("listening"), "{line}: {said}");
                shows_nothing(&said, &line);
            }
        }
        for assignment in [
            format!("amqp.queue.arguments.{address}=1"),
            format!("amqp.queue.arguments.x={address}"),
            format!("amqp.exchange={address}"),
        ] {
            let (code, said) = said(&["check", "--set", &assignment], &[]).await;
            assert_eq!(code, Some(64), "{assignment}: {said}");
            shows_nothing(&said, &assignment);
        }
        // Where a text may be anything, it is masked in print.
        for line in [
            format!("server.ignored_parameters = ['{address}']"),
            format!("server.auth.jwt.audience = '{address}'\nserver.auth.jwt.jwks = 'KEYS'"),
        ] {
            let keys = file(&format!(
                r#"{{"keys": [{{"kty": "OKP", "crv": "Ed25519", "x": "{}"}}]}}"#,
                "A".repeat(43)
            ));
            let file = file(&line.replace("KEYS", &keys.path().display().to_string()));
            let path = file.path().to_str().expect("UTF-8");
            let (code, printed) = said(&["check"], &[("BLOCKCAST_CONFIG", path)]).await;
            assert_eq!(code, Some(0), "{line}: {printed}");
            shows_nothing(&printed, &line);
        }
    }
}

#[tokio::test]
async fn a_token_in_a_uri_of_a_broker_is_not_shown() {
    for uri in [
        "amqp://kanarivogelx@127.0.0.1:1",
        "amqp://kanari%2Fvogelx@127.0.0.1:1/%2f",
        "amqp://127.0.0.1:1?kanarivogelx",
        "amqp://127.0.0.1:1?kanarivogelx==",
        "amqp://127.0.0.1:1?token=kanarivogelx",
        "amqp://127.0.0.1:1?access_token%3Dkanarivogelx",
    ] {
        let (code, printed) = said(&["check"], &[("BLOCKCAST_AMQP__URIS", uri)]).await;
        assert_eq!(code, Some(0), "{uri}: {printed}");
        assert!(printed.contains("127.0.0.1:1"), "{printed}");
        shows_nothing(&printed, uri);
        let environment = [("BLOCKCAST_AMQP__URIS", uri)];
        let (code, failed) = said(&["publish", "--no-retry", "-"], &environment).await;
        shows_nothing(&failed, &format!("{uri}, ended with {code:?}"));
    }
}

#[tokio::test]
async fn a_token_in_a_wrong_place_of_a_streams_url_is_not_shown() {
    for url in [
        "ws://127.0.0.1:1/x?from_height=5?access_token=kanarivogelx",
        "ws://127.0.0.1:1/x?limit=1&from_height=5?access_token=kanarivogelx",
        "ws://127.0.0.1:1/x?limit=1&after=5?access_token=kanarivogelx",
        "ws://127.0.0.1:1/x?batch=block&until_height=5;access_token=kanarivogelx",
        "ws://127.0.0.1:1/x?limit=1&control=true?access_token=kanarivogelx",
    ] {
        let (code, said) = said(&["tail", url], &[]).await;
        assert_eq!(code, Some(64), "{url}: {said}");
        shows_nothing(&said, url);
    }
}

#[tokio::test]
async fn what_a_nodes_root_says_of_its_stream_is_shown_without_a_secret() {
    let config = config(Broker::shared());
    let mut node = node_of_three().await;
    let port = node.open_stream().await;
    for (streams, told) in [
        ("http://u:kanarivogelx@h/s?access_token=kanarivogelx".to_owned(), "no event stream of"),
        ("u:kanarivogelx@h".to_owned(), "no event stream of"),
        ("ws://u:kanari/vogelx@h".to_owned(), "no event stream of"),
        (
            "ws://u:kanarivogelx@127.0.0.1:1/s?access_token=kanarivogelx".to_owned(),
            "no event stream",
        ),
        (
            format!("ws://u:kanarivogelx@127.0.0.1:{port}/s?access_token=kanarivogelx"),
            "listening to ws://127.0.0.1:",
        ),
    ] {
        node.advertise(&streams);
        let mut running = publish(&config, &node.url(), &["--from-height", "1"]).start();
        let line = running.says(told).await;
        shows_nothing(&line, &streams);
        let ended = interrupted(running).await;
        shows_nothing(&format!("{ended:?}"), &streams);
    }
}
