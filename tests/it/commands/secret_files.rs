//! Files with secrets in them, and secrets in the place of a file's name: canaries in both, and what the
//! program says searched for them.

use blockcast::config::{Config, ServerTls};

use crate::support::broker::Broker;
use crate::support::canaries::{file, said, shows_nothing};
use crate::support::certificates::{Authority, Pair};
use crate::support::process::Process;
use crate::support::program::Program;
use crate::support::replica::config;

/// Every key that names a file, as the environment has it.
const FILE_KEYS: [&str; 9] = [
    "amqp.uris_file",
    "amqp.tls.ca",
    "amqp.tls.certificate",
    "amqp.tls.key",
    "server.tls.certificate",
    "server.tls.key",
    "server.auth.tokens_file",
    "server.auth.jwt.key",
    "server.auth.jwt.jwks",
];
/// What people put there instead.
const MISPLACED: [&str; 6] = [
    "kanarivogelx",
    "kanari/vogelx+kanari/vogelx+kanari/vogelx=",
    "/kanarivogelx",
    "wallet kanarivogelx",
    "u:kanarivogelx@host",
    "-----BEGIN PRIVATE KEY-----kanarivogelx-----END PRIVATE KEY-----",
];

/// With a broker in `amqps` that is not there, and both halves of a pair, of which `key` is one.
fn settings(key: &str, value: &str) -> Vec<(String, String)> {
    let mut settings = vec![("server.listen".to_owned(), "127.0.0.1:0".to_owned())];
    if key != "amqp.uris_file" {
        settings.push(("amqp.uris".to_owned(), "amqps://127.0.0.1:1".to_owned()));
    }
    if let Some((section, name @ ("certificate" | "key"))) = key.rsplit_once('.')
        && section.ends_with("tls")
    {
        let other = if name == "key" { "certificate" } else { "key" };
        settings.push((format!("{section}.{other}"), value.to_owned()));
    }
    settings.push((key.to_owned(), value.to_owned()));
    settings
}

fn as_toml(settings: &[(String, String)]) -> String {
    settings
        .iter()
        .map(|(key, value)| match key.as_str() {
            "amqp.uris" => format!("{key} = ['{value}']\n"),
            _ => format!("{key} = '{value}'\n"),
        })
        .collect()
}

#[tokio::test]
async fn what_stands_in_the_place_of_a_files_name_is_not_shown() {
    let long = "kanarivogelx".repeat(40);
    for key in FILE_KEYS {
        for value in MISPLACED.into_iter().chain([long.as_str()]) {
            let settings = settings(key, value);
            let by_file = file(&as_toml(&settings));
            let by_file = by_file.path().to_str().expect("UTF-8");
            let name = |key: &str| format!("BLOCKCAST_{}", key.to_uppercase().replace('.', "__"));
            let named: Vec<(String, &str)> =
                settings.iter().map(|(key, value)| (name(key), value.as_str())).collect();
            let environment: Vec<(&str, &str)> =
                named.iter().map(|(name, value)| (name.as_str(), *value)).collect();
            let set: Vec<String> =
                settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let by_flags: Vec<&str> =
                set.iter().flat_map(|assignment| ["--set", assignment]).collect();
            for (words, environment) in [
                (vec!["check"], environment.as_slice()),
                (vec!["serve"], &environment),
                (vec!["--config", by_file, "check"], &[]),
                (vec!["--config", by_file, "serve"], &[]),
                ([&["check"][..], &by_flags].concat(), &[]),
            ] {
                let (code, said) = said(&words, environment).await;
                assert_eq!(code, Some(64), "{key} = {value}: {said}");
                // Of a pair, the first that is looked at is named.
                let pair = ["server.tls", "amqp.tls"].into_iter().find(|it| key.starts_with(it));
                assert!(said.contains(pair.unwrap_or(key)), "{key} = {value}: {said}");
                assert!(!said.contains("listening"), "{said}");
                shows_nothing(&said, key);
            }
        }
    }
    // Nobody is asked for HS256's secret under another algorithm, and the message is the same.
    let secret = [
        ("BLOCKCAST_SERVER__AUTH__JWT__ALGORITHM", "HS256"),
        ("BLOCKCAST_SERVER__AUTH__JWT__KEY", MISPLACED[1]),
    ];
    let (code, told) = said(&["check"], &secret).await;
    assert_eq!(code, Some(64), "{told}");
    assert!(told.contains("server.auth.jwt.key") && told.contains("a file's path"), "{told}");
    shows_nothing(&told, "a secret");
}

#[tokio::test]
async fn a_secret_of_the_wrong_kind_or_in_a_sections_place_is_not_shown() {
    for line in [
        "server.auth = 'kanarivogelx'",
        "server.auth.jwt = 'kanarivogelx'",
        "server.auth.jwt.algorithm = 'kanarivogelx'",
        "server.auth.jwt.leeway = 'kanarivogelx'",
        "server.auth.tokens_file = ['kanarivogelx']",
        "server.auth.tokens_file = kanarivogelx",
        "server.auth.tokens_file = wallet kanarivogelx",
        "server.auth.tokens_file = 'kanarivogelx",
        "server.auth.tokens_file = \"kanari\\vogelx\"",
        "server.tls = 'kanarivogelx'",
        "amqp.tls = 'kanarivogelx'",
        "amqp.tls.key = {a = 'kanarivogelx'}",
        "amqp.uris = 'kanarivogelx'",
        "amqp.uris = ['kanarivogelx', 1]",
        "amqp.uris = [['kanarivogelx']]",
    ] {
        let file = file(line);
        let path = file.path().to_str().expect("UTF-8");
        let (code, told) = said(&["check"], &[("BLOCKCAST_CONFIG", path)]).await;
        assert_eq!(code, Some(64), "{line}: {told}");
        shows_nothing(&told, line);
    }
    for name in ["AUTH", "AUTH__JWT", "AUTH__JWT__ALGORITHM", "AUTH__JWT__LEEWAY", "TLS"] {
        let name = format!("BLOCKCAST_SERVER__{name}");
        let (code, told) = said(&["check"], &[(&name, "kanarivogelx")]).await;
        assert_eq!(code, Some(64), "{name}: {told}");
        shows_nothing(&told, &name);
    }
}

#[tokio::test]
async fn a_file_that_is_not_used_yet_is_not_shown_by_check_either() {
    // Without a URI in amqps these are not looked at.
    for key in ["ca", "certificate", "key"] {
        let ca = format!("amqp.tls.{key}=kanarivogelx");
        let other =
            format!("amqp.tls.{}=kanarivogelx", if key == "key" { "certificate" } else { "key" });
        let words = match key {
            "ca" => vec!["check", "--set", &ca],
            _ => vec!["check", "--set", &ca, "--set", &other],
        };
        let (code, printed) = said(&words, &[]).await;
        assert_eq!(code, Some(0), "{printed}");
        assert!(printed.contains(&format!("\n{key} = \"***\"\n")), "{printed}");
        shows_nothing(&printed, key);
    }
}

#[tokio::test]
async fn what_is_in_a_file_of_credentials_is_not_shown() {
    for (key, text) in [
        ("server.auth.tokens_file", "wallet kanarivogelx\n"),
        ("server.auth.tokens_file", "kanarivogelx\n"),
        ("server.auth.jwt.key", "kanarivogelx"),
        ("server.auth.jwt.jwks", "kanarivogelx"),
        ("server.auth.jwt.jwks", r#"{"keys": ["kanarivogelx"]}"#),
        (
            "server.auth.jwt.jwks",
            r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "kanarivogelx"}]}"#,
        ),
        ("amqp.uris_file", "kanarivogelx"),
        ("amqp.uris_file", "amqp://u:kanari/vogelx@h"),
    ] {
        let named = file(text);
        let assignment = format!("{key}={}", named.path().display());
        for command in ["check", "serve"] {
            let (code, said) = said(&[command, "--set", &assignment], &[]).await;
            assert_eq!(code, Some(64), "{key}: {said}");
            let path = named.path().to_str().expect("UTF-8");
            assert!(said.contains(path), "{key}: {said}");
            shows_nothing(&said, text);
        }
    }
}

/// Keys as they are after they were copied by hand. The canary is in their base64.
fn spoilt_keys() -> Vec<String> {
    let body = "kanarivogelx".repeat(5);
    let key = format!("-----BEGIN PRIVATE KEY-----\n{body}\n{body}\n-----END PRIVATE KEY-----\n");
    vec![
        key.replace('\n', ""),
        format!("{}\n-----END PRIVATE KEY-----\n", key.replace('\n', "")),
        key.replace("KEY-----\nk", "KEYk"),
        key.replace("KEY-----\nk", "KEY----\nk"),
        key.trim_end().trim_end_matches('-').to_owned(),
        key[..100].to_owned(),
        key.replace("\n-----END PRIVATE KEY-----\n", ""),
        key.replace("\n-----END", "-----END"),
        key.replacen("kanari", "*kanari", 1),
        key.replace("-----", "- - -"),
        format!("-----BEGIN {body}\n{key}"),
        key.clone(),
    ]
}

#[tokio::test]
async fn no_private_key_is_shown_whatever_became_of_it() {
    let authority = Authority::new();
    let good = authority.issue(3000);
    for key in spoilt_keys() {
        let pair = Pair { certificate: good.certificate.clone(), key: key.clone() };
        authority.install(&pair);
        let ServerTls { certificate, key: key_file } = authority.tls();
        let (mut of_server, mut of_broker) = (Config::default(), Config::default());
        of_server.server.listen = std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into();
        of_server.server.tls = authority.tls();
        of_broker.server.listen = of_server.server.listen;
        of_broker.amqp.uris = vec![blockcast::config::AmqpUri::new("amqps://127.0.0.1:1")];
        of_broker.amqp.tls.ca = Some(authority.file("ca.pem"));
        of_broker.amqp.tls.certificate = certificate;
        of_broker.amqp.tls.key = key_file.clone();
        for (config, command, told) in [
            (&of_server, &["check"][..], "server.tls"),
            (&of_server, &["serve"], "server.tls"),
            (&of_broker, &["check"], "amqp.tls"),
            (&of_broker, &["serve"], "amqp.tls"),
            (&of_broker, &["publish", "-"], "amqp.tls"),
        ] {
            let ended = Program::new(command.iter().copied()).config(config).run().await;
            let ended = ended.with_code(64).telling(&[told]);
            assert!(!ended.stderr.contains("listening"), "{ended:?}");
            shows_nothing(&format!("{ended:?}"), &key);
        }
        // The wrong file of a pair.
        let ca = key_file.expect("a key");
        let ca = ca.to_str().expect("UTF-8");
        for words in [
            &["tail", "--ca", ca, "wss://127.0.0.1:1/x"][..],
            &["publish", "--node", "https://127.0.0.1:1", "--ca", ca],
        ] {
            let (code, said) = said(words, &[]).await;
            assert_eq!(code, Some(64), "{words:?}: {said}");
            shows_nothing(&said, &key);
        }
    }
}

#[tokio::test]
async fn a_running_replica_shows_no_private_key_that_it_reads_again() {
    let authority = Authority::new();
    authority.install(&authority.issue(3000));
    let mut config = config(Broker::shared());
    config.server.tls = authority.tls();
    config.admin.listen = Some(std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into());
    config.log.level = "debug".into();
    let replica = Process::start_ready(&config).await;
    for (refused, key) in spoilt_keys().into_iter().enumerate() {
        std::fs::write(authority.key_file(), key).expect("written");
        replica.signal("HUP").await;
        crate::support::eventually::eventually("it is refused", async || {
            replica.logged("the new TLS certificate is bad").len() > refused
        })
        .await;
    }
    shows_nothing(&replica.logged("").concat(), "a replica");
    shows_nothing(&replica.metrics().await, "its metrics");
    replica.stop().await;
}

#[tokio::test]
async fn what_a_state_file_holds_is_not_shown() {
    let token = "{\"stream\": \"/x?access_token=kanarivogelx\", \"cursor\": \"42\"}";
    for text in [
        token,
        "{\"stream\": \"/x?kanarivogelx\", \"cursor\": \"42\"}",
        "{\"stream\": \"ws://u:kanarivogelx@h/x\", \"cursor\": \"42\"}",
        "{\"stream\": \"/x\", \"cursor\": \"kanarivogelx\"}",
        "{\"stream\": [\"kanarivogelx\"], \"cursor\": \"42\"}",
        "{\"stream\": \"/x\", \"cursor\": {\"kanarivogelx\": 1}}",
        "\"kanarivogelx\"",
        "node = 'http://u:kanarivogelx@h'\nheight = 1\n",
        "node = 'u:kanarivogelx@h'\nheight = 1\n",
        "node = 'http://127.0.0.1:1'\nheight = 'kanarivogelx'\n",
        "node = ['kanarivogelx']\nheight = 1\n",
        "kanarivogelx = 1\n",
        "uris = ['amqp://u:kanarivogelx@h']\n",
        "amqp://u:kanarivogelx@h\n",
    ] {
        let state = file(text);
        let path = state.path().to_str().expect("UTF-8");
        for words in [
            &["tail", "--state", path, "ws://127.0.0.1:1/x"][..],
            &["publish", "--node", "http://127.0.0.1:1", "--state", path],
        ] {
            let (code, said) = said(words, &[]).await;
            assert_eq!(code, Some(64), "{text}: {said}");
            assert!(said.contains(path), "{said}");
            shows_nothing(&said, text);
        }
    }
}
