use super::*;
use crate::config::AmqpUri;
use crate::config::Hold;

fn load(environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let owned = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    };
    Config::load(&Layers { file: None, environment: owned(environment), flags: owned(flags) })
}

fn load_file(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), text).expect("written");
    let environment = environment.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    Config::load(&Layers { file: Some(file.path().into()), environment, flags: vec![] })
}

#[test]
fn nothing_set_yields_the_defaults() {
    assert_eq!(load(&[], &[]).expect("loads"), Config::default());
}

#[test]
fn later_layers_win() {
    let file = "[server]\nlisten = \"127.0.0.1:1\"\nmax_connections = 5\n";
    let config = load_file(file, &[("BLOCKCAST_SERVER__MAX_CONNECTIONS", "7")]).expect("loads");
    assert_eq!(config.server.listen.port(), 1);
    assert_eq!(config.server.max_connections, 7);
    let env = [("BLOCKCAST_BLOCKS__HOLD", "2s")];
    let config = load(&env, &[("blocks.hold", "forever")]).expect("loads");
    assert_eq!(config.blocks.hold, Hold::Forever);
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    let refused = |result: Result<Config, ConfigError>| result.expect_err("refused").to_string();
    let file = refused(load_file("[server]\nlisen = \"x\"\n", &[]));
    assert!(file.contains("`server.lisen`") && file.contains("`server.listen`"), "{file}");
    let env = refused(load(&[("BLOCKCAST_AMQP__QUEUE__MOD", "queue")], &[]));
    assert!(
        env.contains("`amqp.queue.mode`") && env.contains("BLOCKCAST_AMQP__QUEUE__MOD"),
        "{env}"
    );
}

#[test]
fn a_bad_value_is_refused_and_named() {
    for (key, value, told) in [
        ("server.max_connections", "many", "max_connections"),
        ("server.max_connections", "0", "max_connections"),
        ("amqp.prefetch", "70000", "prefetch"),
        ("amqp.quiet_after", "0s", "longer than nothing"),
        ("amqp.uris", "", "amqp.uris"),
        ("amqp.uris", "amqp://a,amqp://u:p@ss/w#rd@b/%2f", "`amqp.uris`, number 2"),
        ("amqp.tls.server_name", "not a name", "`amqp.tls.server_name` is \"not a name\""),
        ("amqp.tls.server_name", "https://broker", "`amqp.tls.server_name`"),
        ("amqp.uris", "http://x", "amqp://"),
        ("blocks.hold", "soon", "hold"),
        ("blocks.max_bytes", "2 GiB", "blocks.max_bytes"),
        ("blocks.max_bytes", "512 MiB", "below 512 MiB"),
        ("blocks.max_bytes", "300 MiB", "history.max_bytes"),
        ("amqp.queue.expires", "0s", "x-expires"),
        ("amqp.queue.expires", "50d", "x-expires"),
        ("amqp.queue.segment_bytes", "3 GiB", "at most 3 GB"),
        ("history.encodings_max_bytes", "0", "history.encodings_max_bytes"),
        ("amqp.queue.max_age", "7 days", "max_age"),
        ("server.advertised_scheme", "http", "ws or wss"),
        ("server.tls.certificate", "server.pem", "server.tls.key"),
        ("server.tls.key", "server.key", "server.tls.key"),
        ("amqp.queue.mode", "steam", "mode"),
        ("server.listen", "node:9985", "localhost:PORT"),
        ("admin.listen", "9986", "localhost:PORT"),
        ("server.head_max_bytes", "4 KiB", "8 KiB to 1 MiB"),
        ("server.head_max_bytes", "2 MiB", "8 KiB to 1 MiB"),
        ("server.auth.jwt.algorithm", "HS256", "`server.auth.jwt.algorithm`"),
        ("server.auth.jwt.audience", "chain", "`server.auth.jwt.audience`"),
    ] {
        let message = load(&[], &[(key, value)]).expect_err(value).to_string();
        assert!(message.contains(told), "{key} = {value}: {message}");
    }
}

#[test]
fn a_queue_that_could_jam_is_refused() {
    for hold in ["forever", "601s", "10m 1ms", "1d"] {
        let flags = [("blocks.hold", hold), ("amqp.queue.mode", "queue")];
        let message = load(&[], &flags).expect_err(hold).to_string();
        for part in ["`blocks.hold` is ", "consumer_timeout", "at most 10m", "use a stream"] {
            assert!(message.contains(part), "{part:?} not in {message}");
        }
        assert!(load(&[], &flags[..1]).is_ok());
    }
    assert!(load(&[], &[("blocks.hold", "10m"), ("amqp.queue.mode", "queue")]).is_ok());
    let flags = [("amqp.prefetch", "16"), ("amqp.queue.mode", "queue")];
    let message = load(&[], &flags).expect_err("refused").to_string();
    assert!(message.contains("`amqp.prefetch`"), "{message}");
}

#[test]
fn the_brokers_own_arguments_may_have_any_key() {
    let file = "[amqp.queue.arguments]\nx-initial-cluster-size = 3\nx-queue-leader-locator = \"least-leaders\"\n";
    let arguments = load_file(file, &[]).expect("loads").amqp.queue.arguments;
    assert_eq!(arguments["x-initial-cluster-size"], crate::config::Argument::Integer(3));
}

#[test]
fn a_file_of_uris_is_read_and_the_higher_layer_wins() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let path = file.path().to_str().expect("UTF-8");
    let write = |text: &str| std::fs::write(file.path(), text).expect("written");
    write("\u{feff}# ours\n\n  amqp://u:hunter@a \r\namqps://b/");
    let from_file = ("amqp.uris_file", path);
    let config = load(&[], &[from_file]).expect("loads");
    let uris: Vec<&str> = config.amqp.uris.iter().map(AmqpUri::expose).collect();
    assert_eq!(uris, ["amqp://u:hunter@a", "amqps://b/"]);
    let printed = config.to_toml();
    assert!(printed.contains(": amqp://u:***@a\n") && !printed.contains("hunter"), "{printed}");
    assert_eq!(load_file(&printed, &[]).expect("loads again"), config);

    let by_environment = [("BLOCKCAST_AMQP__URIS_FILE", path)];
    let listed = "[amqp]\nuris = [\"amqp://c\"]\n";
    assert_eq!(load_file(listed, &by_environment).expect("loads").amqp, config.amqp);
    let flags = [("amqp.uris", "amqp://c")];
    let listed = load(&by_environment, &flags).expect("loads").amqp;
    assert_eq!((listed.uris.as_slice(), listed.uris_file), (&[AmqpUri::new("amqp://c")][..], None));
    for (text, told) in [
        ("amqp://a\namqp://u:hunt/er@b\n", ", line 2: a user or a password with one of"),
        ("# nothing\n", "holds no URI"),
        ("amqp://a,amqp://b", "commas separate"),
    ] {
        write(text);
        let error = load(&[], &[from_file]).expect_err(text).to_string();
        assert!(error.contains(told) && !error.contains("hunt"), "{error}");
    }
    let error = load(&[], &[from_file, flags[0]]).expect_err("both").to_string();
    assert!(error.contains("both set in the command line"), "{error}");
    for (missing, told) in
        [(format!("{path}-none"), "-none cannot be read"), ("u:hunter@host".to_owned(), "no file")]
    {
        let error = load(&[], &[("amqp.uris_file", &missing)]).expect_err("none").to_string();
        assert!(error.contains("amqp.uris_file: ") && error.contains(told), "{error}");
        assert!(!error.contains("hunter"), "{error}");
    }
}

#[test]
fn a_byte_order_mark_is_skipped() {
    let config = load_file("\u{feff}[server]\nmax_connections = 7\n", &[]).expect("loads");
    assert_eq!(config.server.max_connections, 7);
}

#[test]
fn what_is_wrong_in_a_file_is_told_without_a_piece_of_it() {
    for (text, told) in [
        ("[amqp]\nuris = \"amqp://u:hunter@host\"\n", &["`amqp.uris`", "uris = [\"...\"]"][..]),
        ("[amqp]\nuris = [\"amqp://u:hunter@host\", 7]\n", &["`amqp.uris`"]),
        ("[amqp]\nuris = [[\"amqp://u:hunter@host\"]]\n", &["`amqp.uris`"]),
        ("[amqp]\nuris = { a = \"amqp://u:hunter@host\" }\n", &["`amqp.uris.a`"]),
        ("[amqp]\nuris = [\"amqp://u:hunt@er@host\"]\n", &["`amqp.uris`, number 1", "%40"]),
        ("[amqp]\n  uris = [amqp://u:hunter@host]\n", &["line 2, column 11"]),
        ("[amqp]\nuris = [\"amqp://u:hunter@host]\n", &["line 2"]),
        ("[amqp]\nuris = [\"amqp://u:hu\\nter@host\"]\n", &["`amqp.uris`, number 1"]),
        ("[amqp]\n\"amqp://u:hunter@host\" = 1\n", &["unknown key"]),
        ("[server]\nlisten = \"amqp://u:hunter@host\"\n", &["server.listen"]),
        ("[blocks]\nhold = \"amqp://u:hun\\\"ter@host\"\n", &["hold", "://***@host"]),
        ("[amqp]\ntls = \"amqp://u:hunter@host\"\n", &["tls"]),
        ("amqp = \"amqp://u:hunter@host\"\n", &["amqp"]),
        ("[amqp.queue.arguments]\n\"amqp://u:hunter@host\" = [1]\n", &["arguments"]),
        ("[amqp.queue.arguments]\n\"amqp://u:hunter@host\".x = 1\n", &["arguments"]),
        ("[amqp.queue.arguments]\n\"amqp://u:hunter@host\" = 1\n", &["`amqp.queue.arguments`"]),
        ("[amqp.tls]\nserver_name = \"amqp://u:hunter@host\"\n", &["`amqp.tls.server_name`"]),
    ] {
        let error = load_file(text, &[]).expect_err(text).to_string();
        for part in told {
            assert!(error.contains(part), "{part:?} not in {error}");
        }
        assert!(!error.contains("hunt") && !error.contains("ter@"), "{text}: {error}");
    }
}

#[test]
fn what_is_printed_loads_again() {
    let printed = Config::default().to_toml().replace("guest:***", "guest:guest");
    assert_eq!(load_file(&printed, &[]).expect("loads"), Config::default());
}
