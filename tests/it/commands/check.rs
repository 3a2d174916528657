//! `check`, and what is refused before any command begins.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use blockcast::config::{AmqpUri, Config};

use crate::support::program::Program;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn judging(message: &Path) -> Program {
    Program::new(["check", "--message", message.to_str().expect("UTF-8")])
}

#[tokio::test]
async fn check_prints_every_key_masks_secrets_and_connects_to_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let place = listener.local_addr().expect("its address");
    let uri = format!("amqp://node:s3cret@{place}/chain");
    let ended = Program::new(["check"]).env("BLOCKCAST_AMQP__URIS", &uri).run().await.with_code(0);
    assert!(!format!("{ended:?}").contains("s3cret"), "{ended:?}");

    let printed: Config = toml::from_str(&ended.stdout).expect("a configuration");
    let mut expected = Config::default();
    expected.amqp.uris = vec![AmqpUri::new(format!("amqp://node:***@{place}/chain"))];
    assert_eq!(printed, expected);
    // None is left out for being the default, or empty.
    let keys = ["declare", "ca", "name", "expires", "exchange", "hold", "drain", "listen", "level"];
    for key in keys {
        let start = format!("{key} = ");
        assert!(ended.stdout.lines().any(|line| line.starts_with(&start)), "no {key}");
    }

    listener.set_nonblocking(true).expect("set");
    let error = listener.accept().expect_err("nobody connected");
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn an_unknown_key_is_refused_with_the_nearest_wherever_it_stands() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), "[server]\nlisen = \"127.0.0.1:0\"\n").expect("written");
    let path = file.path().to_str().expect("UTF-8");
    for program in [
        Program::new(["check", "--set", "server.lisen=127.0.0.1:0"]),
        Program::new(["check"]).env("BLOCKCAST_SERVER__LISEN", "127.0.0.1:0"),
        Program::new(["--config", path, "check"]),
    ] {
        let ended = program.run().await.with_code(64);
        ended.telling(&["`server.lisen`", "did you mean `server.listen`"]);
    }
}

#[tokio::test]
async fn bad_usage_and_bad_values_exit_64_naming_what_is_wrong() {
    for (arguments, told) in [
        (&["serf"][..], "serve"),
        (&["publish"], "<FILE>"),
        (&["publish", "/nonexistent/chain.ndjson"], "/nonexistent/chain.ndjson"),
        (&["publish", "--loop", "-"], "stdin"),
        (&["tail", "http://node:9985/x"], "ws://node:9985/x"),
        (&["serve", "--set", "server.drain=soon"], "soon"),
        (&["serve", "--config", "/nonexistent/blockcast.toml"], "/nonexistent/blockcast.toml"),
        (&["serve", "--set", "log.level=loud"], "log.level"),
    ] {
        let ended = Program::new(arguments.iter().copied()).run().await.with_code(64);
        assert_eq!(ended.stdout, "", "{arguments:?}");
        ended.telling(&[told]);
    }
}

#[tokio::test]
async fn the_cases_of_uris_are_refused_or_warned_of_before_anything_listens() {
    let cases = std::fs::read_to_string(data("broker-uris.json")).expect("read");
    let cases: Vec<UriCase> = serde_json::from_str(&cases).expect("cases");
    for UriCase { uri, code, told } in cases {
        let program = || Program::new(["check"]).env("BLOCKCAST_AMQP__URIS", &uri);
        let ended = program().run().await.with_code(code);
        ended.telling(&told.iter().map(String::as_str).collect::<Vec<_>>());
        if code != 0 {
            // Nothing listens and nothing is tried: it ends at once.
            let serve = Program::new(["serve"]).env("BLOCKCAST_AMQP__URIS", &uri);
            let ended = serve.run().await.with_code(code);
            assert!(!ended.stderr.contains("listening"), "{ended:?}");
        }
    }
}

#[tokio::test]
async fn what_no_broker_could_take_is_refused_before_anything_listens() {
    let long = "x".repeat(256);
    let place = |key: &str| format!("amqp.tls.{key}=/nowhere");
    let [ca, certificate, key] = ["ca", "certificate", "key"].map(place);
    let [exchange, queue, dead_letters, binding, argument] =
        ["exchange", "queue.name", "dead_letter.exchange", "binding_keys", "queue.arguments"]
            .map(|key| (format!("amqp.{key}={long}"), format!("`amqp.{key}`")));
    let argument = (format!("amqp.queue.arguments.{long}=1"), argument.1);
    let amqps = "amqp.uris=amqps://127.0.0.1:1";
    let mut cases: Vec<(Vec<&str>, &str)> = vec![
        (vec![amqps, &ca], "amqp.tls.ca: "),
        (vec![amqps, &certificate, &key], "amqp.tls.certificate: "),
        (vec!["amqp.exchange="], "`amqp.exchange` is empty"),
        (vec!["amqp.queue.name=amq.blocks"], "`amqp.queue.name`"),
        (vec!["amqp.queue.segment_bytes=3 GiB"], "`amqp.queue.segment_bytes`"),
    ];
    for (set, told) in [&exchange, &queue, &dead_letters, &binding, &argument] {
        cases.push((vec![set], told));
    }
    for (sets, told) in cases {
        let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
        for command in ["check", "serve"] {
            let words = [&[command, "--set", "server.listen=127.0.0.1:0"][..], &sets].concat();
            let ended = Program::new(words).run().await.with_code(64).telling(&[told]);
            assert!(!ended.stderr.contains("listening"), "{ended:?}");
        }
    }
}

#[derive(serde::Deserialize)]
struct UriCase {
    uri: String,
    code: i32,
    told: Vec<String>,
}

#[tokio::test]
async fn what_cannot_be_held_in_a_queue_is_refused_by_check_and_serve() {
    for command in ["check", "serve"] {
        let words = [command, "--set", "amqp.queue.mode=queue", "--set", "blocks.hold=11m"];
        let ended = Program::new(words).run().await.with_code(64);
        ended.telling(&["`blocks.hold` is 11m", "consumer_timeout", "at most 10m"]);
    }
}

#[tokio::test]
async fn others_variables_and_empty_ones_stop_nothing() {
    let ended = Program::new(["check"])
        .env("BLOCKCAST__X_SERVICE_HOST", "10.0.0.1")
        .env("BLOCKCAST_AMQP__URIS_PORT_5672_TCP", "tcp://10.0.0.1:5672")
        .env("BLOCKCAST_SERVER__LISTEN", "")
        .env("BLOCKCAST_AMQP__QUEUE__ARGUMENTS__X_MAX_LENGTH", "1000");
    let printed = ended.run().await.with_code(0).stdout;
    assert!(printed.contains("\nx-max-length = 1000\n"), "{printed}");
    let printed: Config = toml::from_str(&printed).expect("a configuration");
    assert_eq!(printed.server, Config::default().server);
}

#[tokio::test]
async fn an_advertised_host_where_nobody_can_connect_is_told_and_stops_nothing() {
    let check = || Program::new(["check"]);
    for program in [
        check().env("BIGCHAINDB_WSSERVER_ADVERTISED_HOST", "0.0.0.0"),
        check().env("BLOCKCAST_SERVER__ADVERTISED_HOST", "[::]"),
    ] {
        program.run().await.with_code(0).telling(&["server.advertised_host", "no client can"]);
    }
    let named = check().env("BLOCKCAST_SERVER__ADVERTISED_HOST", "10.0.0.0").run().await;
    assert_eq!(named.with_code(0).stderr, "");
}

#[tokio::test]
async fn the_version_is_told() {
    let ended = Program::new(["--version"]).run().await.with_code(0);
    assert_eq!(ended.stdout, format!("blockcast {}\n", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn check_tells_what_a_real_block_holds() {
    let ended = judging(&data("block.json")).run().await.with_code(0);
    let words: Vec<_> = ended.stdout.split_whitespace().take(6).collect();
    assert_eq!(words, ["height", "42", "hash", "none", "transactions", "6"]);
    let expected = std::fs::read_to_string(data("block.expected-2.2.2.txt")).expect("read");
    let first = expected.lines().next().expect("an event");
    assert!(ended.stdout.contains(first), "{}", ended.stdout);

    let mut piped = judging(Path::new("-")).start();
    piped.write(&std::fs::read(data("block.json")).expect("read")).await;
    assert_eq!(piped.ended().await.with_code(0).stdout, ended.stdout);
}

#[tokio::test]
async fn check_fails_on_bad_input() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let path = file.path().display().to_string();
    for (body, told) in [
        (r#"{"height": 7, "transactions": [{"id": ""}]}"#, "id"),
        (r#"{"height": -7, "transactions": []}"#, "height"),
        ("not JSON", "near byte 1"),
    ] {
        std::fs::write(file.path(), body).expect("written");
        let ended = judging(file.path()).run().await.with_code(1);
        assert_eq!(ended.stdout, "", "{body}");
        ended.telling(&[&path, "is bad input", told]);
    }
    judging(Path::new("/nonexistent")).run().await.with_code(1).telling(&["/nonexistent"]);
}

#[tokio::test]
async fn a_block_above_half_of_the_history_is_bad_input_and_check_warns_of_it() {
    let sized = |arguments: &[&str], blocks: &str| {
        let sets = ["--set", "history.max_bytes=256 KiB", "--set", blocks];
        Program::new([arguments, &sets].concat())
    };
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let path = file.path().to_str().expect("UTF-8");
    let judging = ["check", "--message", path];
    for (ids, code) in [(1_500, 0), (1_800, 1)] {
        let transactions = vec![r#"{"id":"a"}"#; ids].join(",");
        std::fs::write(path, format!(r#"{{"height":7,"transactions":[{transactions}]}}"#))
            .expect("written");
        let ended = sized(&judging, "blocks.max_bytes=64 KiB").run().await.with_code(code);
        assert_eq!(ended.stderr.contains("131072, half of history.max_bytes"), code == 1, "{ids}");
    }
    let warned = sized(&["check"], "blocks.max_bytes=64 KiB").run().await.with_code(0);
    warned.telling(&["`blocks.max_bytes`, 64.0 KiB", "16.0 KiB or less", "1.0 MiB or more"]);
    let not_warned = sized(&["check"], "blocks.max_bytes=16 KiB").run().await.with_code(0);
    assert_eq!(not_warned.stderr, "");
}

#[tokio::test]
async fn check_says_what_a_message_looks_like_and_what_would_pass() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let shapes = std::fs::read_to_string(data("no-block-shapes.ndjson")).expect("read");
    let told = [
        "a block of Tendermint's",
        "a block of Ethereum's",
        "a block of BigchainDB 1.x, which has no height",
        "`transactions` must be a list",
        "its height is in hexadecimal",
    ];
    assert_eq!(shapes.lines().count(), told.len());
    for (shape, told) in shapes.lines().zip(told) {
        std::fs::write(file.path(), shape).expect("written");
        let ended = judging(file.path()).run().await.with_code(1);
        ended.telling(&["is bad input", told, "the smallest message that passes: {\"height\": 7"]);
    }
    let smallest = r#"{"height": 7, "transactions": [{"id": "an id"}]}"#;
    for body in [smallest.to_owned(), format!("\u{feff}{smallest}")] {
        std::fs::write(file.path(), body).expect("written");
        let ended = judging(file.path()).run().await.with_code(0);
        assert!(ended.stdout.contains("\"transaction_id\": \"an id\""), "{}", ended.stdout);
    }
}

#[tokio::test]
async fn check_passes_what_is_odd_where_nothing_is_read_and_names_what_is_not() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let bodies = std::fs::read_to_string(data("bodies-that-pass.ndjson")).expect("read");
    let odd = ["NaN", "Infinity", "-Infinity", "1e999"];
    assert!(odd.iter().all(|odd| bodies.contains(odd)), "{bodies}");
    for body in bodies.lines() {
        std::fs::write(file.path(), body).expect("written");
        let ended = judging(file.path()).run().await.with_code(0);
        assert!(
            ended.stdout.starts_with("height ") && ended.stderr.is_empty(),
            "{ended:?}: {body}"
        );
    }
    for word in odd {
        let body = format!("{{\"height\": {word}, \"transactions\": []}}");
        std::fs::write(file.path(), body).expect("written");
        let ended = judging(file.path()).run().await.with_code(1);
        ended.telling(&[&format!("`height` is no integer from 0 to 2^63 - 1: {word}\n")]);
    }
}
