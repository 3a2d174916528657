use super::*;

fn parse(text: &str) -> Result<BrokerUri, UriError> {
    AmqpUri::new(text).parse()
}

#[test]
fn uris_are_read_with_their_defaults() {
    let check = |text: &str, host: &str, port: u16, vhost: &str, user: &str, password: &str| {
        let uri = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(
            (uri.host.as_str(), uri.port, uri.vhost.as_str()),
            (host, port, vhost),
            "{text}"
        );
        assert_eq!((uri.user.as_str(), uri.password.as_str()), (user, password), "{text}");
        assert_eq!(uri.is_tls, text.to_lowercase().starts_with("amqps"), "{text}");
        assert_eq!(uri.doubts, [], "{text}");
    };
    check("amqp://guest:guest@127.0.0.1:5672/%2f", "127.0.0.1", 5672, "/", "guest", "guest");
    check("amqp://broker", "broker", 5672, "/", "guest", "guest");
    check("AMQPS://broker:", "broker", 5671, "/", "guest", "guest");
    check("amqps://u:p@[::1]/chain", "::1", 5671, "chain", "u", "p");
    check("amqp://[fe80::1%25eth0]:5673", "fe80::1%eth0", 5673, "/", "guest", "guest");
    check(
        "amqp://u%2f:p%40%2F%3a%23@my_broker.x-y/a%2fb",
        "my_broker.x-y",
        5672,
        "a/b",
        "u/",
        "p@/:#",
    );
    check("amqp://u:pa,ss@host:5672/%2f", "host", 5672, "/", "u", "pa,ss");
    check("amqp://u:p:w@host", "host", 5672, "/", "u", "p:w");
    check("amqp://u:@host", "host", 5672, "/", "u", "");
    check("amqp://u@host", "host", 5672, "/", "u", "guest");
    check("amqp://u:pä^ß@host//", "host", 5672, "/", "u", "pä^ß");
    check("amqps://host?verify=verify_peer", "host", 5671, "/", "guest", "guest");
}

#[test]
fn what_can_be_read_in_two_ways_is_refused_without_a_piece_of_the_password() {
    for (text, told) in [
        ("amqp://u:hunt@er/w#rd@host:5672/%2f", "%2F"),
        ("amqp://u:hunt/er@host", "%2F"),
        ("amqp://u:hunt#er@host", "%23"),
        ("amqp://u:hunt?er@host", "%3F"),
        ("amqp://u:hunt@er@host", "%40"),
        ("amqp://u:hunt%er@host", "%25"),
        ("amqp://u:hunt%@host", "%25"),
        ("amqp://u:hunt%e@host", "%25"),
        ("amqp://u:hunt%zzer@host/", "%25"),
        ("amqp://u:hunt er@host", "%20"),
        ("amqp://u:hunt%fcer@host", "not UTF-8"),
        ("amqp://u:hunt\u{fffd}er@host", "not UTF-8"),
        ("amqp://u:hunt%00er@host", "%00"),
        ("amqp://host/a#hunt", "%23"),
        ("amqp://u:hunter", "port"),
        ("amqp://u:hunter@", "no host"),
        ("amqp://u:hunter@:5672/", "no host"),
        ("amqp:///hunt", "no host"),
        ("amqp://", "no host"),
        ("amqp://u:hunter@host:port", "port"),
        ("amqp://u:hunter@host:0", "port"),
        ("amqp://u:hunter@host:65536", "port"),
        ("amqp://u:hunter@host:+5672", "port"),
        ("amqp://::1", "brackets"),
        ("amqp://[::1", "no address"),
        ("amqp://[hunter]", "no address"),
        ("amqp://[::1]hunter", "no address"),
        ("amqp://a,hunter", "commas"),
        ("amqp://a,http://b", "commas"),
        ("http://u:hunter@host", "amqp:// or amqps://"),
        ("u:hunter@host", "amqp:// or amqps://"),
        ("", "amqp:// or amqps://"),
        ("amqp://host?heartbeat=hunter", "heartbeat is not a number"),
        ("amqp://host?frame_max=12", "frame_max"),
        ("amqp://host?auth_mechanism=hunter", "external"),
        ("amqp://host?heartbeat=1&heartbeat=2", "twice"),
    ] {
        let error = parse(text).expect_err(text).to_string();
        assert!(error.contains(told) && !error.contains("hunt"), "{text}: {error}");
        for print in [AmqpUri::new(text).to_string(), format!("{:?}", AmqpUri::new(text))] {
            assert!(!print.contains("hunt") && !print.contains("er@"), "{text}: {print}");
        }
    }
    assert_eq!(parse(&format!("amqp://host/{}", "v".repeat(256))), Err(UriError::LongVhost));
}

#[test]
fn what_is_probably_not_meant_is_told_with_the_way_out() {
    for (text, told) in [
        ("amqp://guest:guest@127.0.0.1:5672/", &["the vhost \"/\"", "%2f"][..]),
        ("amqp://host/?heartbeat=3", &["the vhost \"/\""]),
        ("amqp://host:5671", &["amqps://"]),
        ("amqps://host:5672", &["amqp://"]),
        ("amqp://guest:guest@127.0.0.1:15672/%2f", &["no AMQP port", "management"]),
        ("amqps://host:15671", &["no AMQP port"]),
        (
            "amqps://rabbit:5671/%2f?verify=verify_none&server_name_indication=other",
            &["verify", "server_name_indication", "amqp.tls.server_name", "always verified"],
        ),
        ("amqps://h?cacertfile=/a&certfile=/b", &["amqp.tls.ca", "amqp.tls.certificate"]),
        ("amqp://h?connection_timeout=30000", &["connection_timeout", "5 s"]),
        ("amqp://h?frameMax=9000", &["frame_max"]),
        ("amqp://h?hart_beat=3", &["hart_beat", "honoured are heartbeat"]),
    ] {
        let doubts = parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).doubts;
        let all: Vec<String> = doubts.iter().map(ToString::to_string).collect();
        for part in told {
            assert!(all.concat().contains(part), "{part:?} not in {all:?}");
        }
    }
    let slashed = parse("amqp://host/").expect("taken");
    assert_eq!((slashed.vhost.as_str(), slashed.doubts), ("/", vec![UriDoubt::EmptyVhost]));
    for odd in ["a%20b=1", "hunter", "hunter==", "access_token%3Dhunter"] {
        let doubts = parse(&format!("amqp://h?{odd}")).expect("taken").doubts;
        let told = doubts[0].to_string();
        assert!(told.contains("***") && !told.contains("hunter"), "{told}");
    }
}

#[test]
fn honoured_parameters_are_read() {
    let uri = "amqp://h/v?heartbeat=3&channel_max=9&frame_max=8192&auth_mechanism=EXTERNAL";
    let uri = parse(uri).expect("taken");
    let Parameters { heartbeat_seconds, channels_max, frame_bytes_max, mechanism } = uri.parameters;
    assert_eq!((heartbeat_seconds, channels_max), (Some(3), Some(9)));
    assert_eq!((frame_bytes_max, mechanism), (Some(8192), Some(Mechanism::External)));
    assert_eq!(uri.doubts, []);
}

#[test]
fn credentials_are_masked_however_the_uri_is_printed() {
    let whole = "amqps://node:s3:cr%40et@broker:5671/chain?password=x";
    let parsed = parse(whole).expect("a URI");
    let uri = AmqpUri::new(whole);
    for print in [uri.to_string(), format!("{uri:?}"), serde_json::to_string(&uri).expect("text")] {
        assert!(print.contains("amqps://node:***@broker:5671/chain"), "{print}");
        assert!(!print.contains("s3") && !print.contains("password"), "{print}");
    }
    assert!(!format!("{parsed:?}").contains("s3"), "{parsed:?}");
    assert_eq!(AmqpUri::new("amqp://s3#cret@broker").to_string(), "amqp://***");
    assert_eq!(AmqpUri::new("s3cret").to_string(), "***");
    assert_eq!(AmqpUri::new("amqp://s3cret@broker/v").to_string(), "amqp://***@broker/v");
    assert!(!format!("{:?}", parse("amqp://s3cret@broker/v").expect("a URI")).contains("s3cret"));
    assert_eq!(AmqpUri::new("amqp://broker/v?heartbeat=3").to_string(), "amqp://broker/v");
}
