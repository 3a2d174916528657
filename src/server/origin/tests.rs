use super::*;
use crate::server::answer;
use crate::server::cors::Readers;

const LISTED: &str = "https://app.example.org";
const AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";

fn limits(listed: &[&str], advertised: Option<(&str, Option<u16>)>) -> config::ServerConfig {
    config::ServerConfig {
        allowed_origins: listed.iter().map(|text| text.parse().expect("an origin")).collect(),
        advertised_host: advertised.map(|(host, _)| host.to_owned()),
        advertised_port: advertised.and_then(|(_, port)| port),
        ..config::ServerConfig::default()
    }
}

fn request(headers: &[(&'static str, &str)]) -> Request<()> {
    let mut request = Request::new(());
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().expect("a header"));
    }
    request
}

fn origins(limits: &config::ServerConfig, is_tls: bool) -> Origins<'_> {
    Origins { limits, local: Some(([10, 0, 0, 5], 9985).into()), is_tls }
}

#[test]
fn all_origins_of_a_request_must_be_allowed() {
    for (named, listed, expected) in [
        (&[][..], &[LISTED][..], true),
        (&[LISTED], &[LISTED], true),
        (&["https://b.example"], &[LISTED], false),
        (&["https://app.example.org.evil.com"], &[LISTED], false),
        (&["null"], &[LISTED], false),
        (&["null"], &[LISTED, "null"], true),
        (&["file://"], &[LISTED], false),
        (&["file://"], &[LISTED, "file://"], true),
        (&["tauri://localhost"], &[LISTED, "tauri://localhost"], true),
        (&[LISTED, "https://b.example"], &[LISTED], false),
        (&["https://b.example"], &[LISTED, "*"], true),
        (&["https://b.example"], &[], true),
    ] {
        let limits = limits(listed, None);
        let headers: Vec<_> = named.iter().map(|origin| ("origin", *origin)).collect();
        let found = origins(&limits, false).allow(&request(&headers));
        assert_eq!(found, expected, "{named:?} {listed:?}");
    }
}

#[test]
fn the_own_origin_is_the_advertised_host_or_an_address_but_no_name_that_host_says() {
    let public = Some(("chain.example.org", Some(443)));
    let internal = Some(("chain.example.org", None));
    for (host, origin, advertised, is_tls, expected) in [
        // What a program writes that puts its socket's address there.
        ("10.0.0.5:9985", "http://10.0.0.5:9985", None, false, true),
        ("10.0.0.5:9985", "ws://10.0.0.5:9985", None, false, true),
        ("10.0.0.5", "http://10.0.0.5", None, false, true),
        ("[fd00::5]:9985", "http://[fd00:0::5]:9985", None, false, true),
        ("localhost:9985", "http://localhost:9985", None, false, true),
        ("LOCALHOST:9985", "http://LocalHost:9985", None, false, true),
        // Another service of this host.
        ("10.0.0.5:9985", "http://10.0.0.5:3000", None, false, false),
        ("10.0.0.5:9985", "http://10.0.0.5", None, false, false),
        ("10.0.0.5:9985", "http://10.0.0.6:9985", None, false, false),
        ("localhost:9985", "http://127.0.0.1:9985", None, false, false),
        // A name that may resolve to here for a while.
        ("evil.com:9985", "http://evil.com:9985", None, false, false),
        ("evil.com:9985", "http://evil.com:9985", public, false, false),
        ("evil.com:9985", "http://10.0.0.5:9985", None, false, false),
        ("localhost.evil.com", "http://localhost.evil.com", None, false, false),
        ("10.0.0.5.evil.com", "http://10.0.0.5.evil.com", None, false, false),
        // The advertised one, at its port or that of the listener, and where the request went.
        ("x", "https://chain.example.org", public, false, true),
        ("x", "https://chain.example.org:444", public, false, false),
        ("x", "http://chain.example.org:9985", internal, false, true),
        ("chain.example.org", "https://Chain.Example.org", internal, false, true),
        ("chain.example.org", "https://chain.example.org.evil.com", public, false, false),
        // TLS may have ended before us; none can have begun.
        ("10.0.0.5", "https://10.0.0.5", None, false, true),
        ("10.0.0.5", "https://10.0.0.5", None, true, true),
        ("10.0.0.5", "wss://10.0.0.5", None, true, true),
        ("10.0.0.5", "http://10.0.0.5", None, true, false),
        ("10.0.0.5:9985", "file://10.0.0.5:9985", None, false, false),
        ("", "http://", None, false, false),
    ] {
        let limits = limits(&[LISTED], advertised);
        let request = request(&[("host", host), ("origin", origin)]);
        let found = origins(&limits, is_tls).allow(&request);
        assert_eq!(found, expected, "{host} {origin} {advertised:?} {is_tls}");
    }
}

#[test]
fn a_page_that_does_not_say_its_origin_is_of_the_host_that_it_asks() {
    for (host, headers, expected) in [
        // Programs.
        ("evil.com", &[][..], true),
        ("chain.internal:9985", &[("user-agent", "curl/7.88.1")], true),
        ("evil.com", &[("sec-websocket-key", "x"), ("user-agent", AGENT)], true),
        // Pages, by what only a browser sends.
        ("evil.com", &[("sec-fetch-site", "same-origin")], false),
        ("evil.com", &[("user-agent", AGENT)], false),
        ("10.0.0.5:9985", &[("sec-fetch-site", "same-origin")], true),
        ("10.0.0.5:9985", &[("user-agent", AGENT)], true),
        ("app.example.org", &[("sec-fetch-site", "same-origin")], true),
        ("app.example.org:8443", &[("sec-fetch-site", "same-origin")], false),
        ("chain.example.org", &[("user-agent", AGENT)], true),
        // Another's page that cannot read the answer, and a person's own request.
        ("10.0.0.5:9985", &[("sec-fetch-site", "cross-site")], false),
        ("app.example.org", &[("sec-fetch-site", "same-site")], false),
        ("evil.com", &[("sec-fetch-site", "none"), ("user-agent", AGENT)], true),
    ] {
        let limits = limits(&[LISTED], Some(("chain.example.org", None)));
        let all: Vec<_> = headers.iter().copied().chain([("host", host)]).collect();
        let found = origins(&limits, false).allow(&request(&all));
        assert_eq!(found, expected, "{host} {headers:?}");
    }
    let open = limits(&[], None);
    let rebound = request(&[("host", "evil.com"), ("sec-fetch-site", "same-origin")]);
    assert!(origins(&open, false).allow(&rebound), "no list: every page is let in");
}

#[test]
fn an_answer_names_the_page_that_may_read_it() {
    let (open, all) = (limits(&[], None), limits(&[LISTED, "*"], None));
    let listed = limits(&[LISTED, "null", "file://"], None);
    for (origin, limits, told, with_credentials) in [
        (None, &open, Some("*"), false),
        (Some("https://b.example"), &open, Some("*"), false),
        (Some(LISTED), &all, Some("*"), false),
        (None, &listed, None, false),
        (Some("https://b.example"), &listed, None, false),
        (Some(LISTED), &listed, Some(LISTED), true),
        (Some("file://"), &listed, Some("file://"), true),
        (Some("http://10.0.0.5:9985"), &listed, Some("http://10.0.0.5:9985"), true),
        // Every page can open a frame without an origin.
        (Some("null"), &listed, Some("null"), false),
    ] {
        let headers: Vec<_> = origin.map(|origin| ("origin", origin)).into_iter().collect();
        let headers = [&headers[..], &[("host", "10.0.0.5:9985")]].concat();
        let readers = Readers::of(&request(&headers), origins(limits, false));
        let mut answer = answer::preflight();
        readers.tell(&mut answer);
        let header =
            |name| answer.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
        assert_eq!(header("access-control-allow-origin").as_deref(), told, "{origin:?}");
        let credentials = header("access-control-allow-credentials");
        assert_eq!(credentials.as_deref(), with_credentials.then_some("true"), "{origin:?}");
        let varies = limits.allowed_origins.len() == 3;
        assert_eq!(header("vary").as_deref(), varies.then_some("Origin"), "{origin:?}");
        let exposed = header("access-control-expose-headers");
        assert_eq!(exposed.as_deref(), told.and(Some("Retry-After")), "{origin:?}");
        // In a head that is not HTTP's own the same lines stand.
        let lines = String::from_utf8(readers.lines()).expect("text");
        let told_line =
            lines.lines().find_map(|line| line.strip_prefix("Access-Control-Allow-Origin: "));
        assert_eq!(told_line, told, "{lines}");
        assert_eq!(lines.contains("Credentials: true\r\n"), with_credentials, "{lines}");
    }
}
