use super::*;

use crate::client::Position;

const URL: &str = "ws://host/api/v1/streams/valid_transactions";
const KEY: &str = "DJgnirZfikN3zr2pW9yTFM39t8EbTPZ9oSZjf3pRYHEa";

fn filter(name: FilterName, value: &str) -> FilterParameter {
    FilterParameter::new(name, value).expect("a value")
}

fn url_of(builder: Builder) -> String {
    let url = builder.build().expect("a stream").asks();
    url.strip_prefix(&format!("{URL}?")).expect("the same address").to_owned()
}

#[test]
fn what_is_set_is_asked_for_and_control_always() {
    let builder = || Builder::new(URL).expect("a URL");
    let cursor: Position = "42.7".parse().expect("a cursor");
    for (builder, query) in [
        (builder(), "control=true"),
        (builder().start(Start::Oldest), "from_height=oldest&control=true"),
        (builder().start(Start::Latest), "from_height=latest&control=true"),
        (builder().start(Start::Height(3)), "from_height=3&control=true"),
        (builder().start(Start::BeforeTip(9)), "from_height=-9&control=true"),
        (builder().start(Start::After(cursor)), "after=42.7&control=true"),
        (
            builder().until_height(9).limit(5).batch(),
            "until_height=9&limit=5&batch=block&control=true",
        ),
        (
            builder()
                .filter(filter(FilterName::Operation, "TRANSFER"))
                .filter(filter(FilterName::PublicKey, KEY))
                .filter(filter(FilterName::PublicKey, KEY)),
            &format!("public_key={KEY}&operation=TRANSFER&control=true"),
        ),
    ] {
        assert_eq!(url_of(builder), query);
    }
}

#[test]
fn parameters_in_the_url_are_understood_and_others_sent_as_they_are() {
    let id = "ab".repeat(32);
    for (given, query) in [
        ("token=%41&&control=true", "token=%41&control=true"),
        ("from_height=-3&limit=2", "from_height=-3&limit=2&control=true"),
        ("from%5Fheight=-3&limi%74=2", "from_height=-3&limit=2&control=true"),
        (
            &*format!("after=4&operation=TRANS%46ER&asset_id={id}"),
            &*format!("after=4&asset_id={id}&operation=TRANSFER&control=true"),
        ),
        ("batch=block&until_height=7", "until_height=7&batch=block&control=true"),
    ] {
        assert_eq!(url_of(Builder::new(&format!("{URL}?{given}")).expect("a URL")), query);
    }
}

#[test]
fn what_cannot_be_meant_is_refused_by_name() {
    for (query, told) in [
        ("from_height=soon", "from_height=soon cannot be: write oldest"),
        ("from_height=--1", "cannot be"),
        ("after=x", "is no cursor"),
        ("limit=-1", "limit=-1 cannot be: write a whole number"),
        ("limit=0", "limit=0 cannot be: write a whole number, at least 1"),
        ("until_height=9223372036854775808", "write a whole number from 0 to 2^63 - 1"),
        ("operation=transfer", "`operation`: \"transfer\" is not an operation"),
        ("public_key=k", "`public_key`: \"k\" is not a public key"),
        ("limit=1&limit=2", "`limit` stands more than once"),
        ("after=1&after=1", "`after` stands more than once"),
        ("from_height=1&after=2", "both say where to begin"),
        ("after=1&from_height=2", "both say where to begin"),
        ("batch=blocks", "write batch=block"),
        ("control=false", "asks for control messages itself"),
    ] {
        let error = Builder::new(&format!("{URL}?{query}")).expect_err(query).to_string();
        assert!(error.contains(told), "{query}: {error}");
    }
}

#[test]
fn a_parameter_in_the_url_and_beside_it_is_refused() {
    let after = || Start::After(Position::after_block(1));
    let builder = |query: &str| Builder::new(&format!("{URL}?{query}")).expect("a URL");
    for (builder, told) in [
        (builder("from_height=1").start(Start::Oldest), "`from_height` stands both"),
        (builder("after=1").start(after()), "`after` stands both"),
        (builder("from_height=1").start(after()), "both say where to begin"),
        (builder("after=1").start(Start::Latest), "both say where to begin"),
        (builder("limit=1").limit(1), "`limit` stands both"),
        (builder("until_height=1").until_height(1), "`until_height` stands both"),
        (
            builder("operation=A").filter(filter(FilterName::Operation, "B")),
            "`operation` stands both",
        ),
    ] {
        let error = builder.build().expect_err(told).to_string();
        assert!(error.contains(told), "{error}");
    }
    let both =
        builder(&format!("public_key={KEY}")).filter(filter(FilterName::Operation, "CREATE"));
    assert_eq!(url_of(both), format!("public_key={KEY}&operation=CREATE&control=true"));
}

/// What the server would refuse is refused before it is asked.
#[test]
fn what_no_server_serves_is_no_stream() {
    let blocks = || Builder::new(&URL.replace("transactions", "blocks")).expect("a URL");
    let events = || Builder::new(URL).expect("a URL");
    let inside = || Start::After(Position::after_event(4, 1));
    let too_many = (0..101).fold(events(), |builder, number| {
        builder.filter(filter(FilterName::AssetId, &format!("{number:064x}")))
    });
    for (builder, told) in [
        (events().limit(0), "`limit`: \"0\" is not a number of messages, at least 1"),
        (events().until_height(u64::MAX), "`until_height`"),
        (events().start(Start::Height(u64::MAX)), "`from_height`"),
        (events().start(Start::After(Position::after_block(u64::MAX))), "`after`"),
        (too_many, "more than 100 values"),
        (blocks().start(inside()), "`after`: \"4.1\" is not a height"),
        (blocks().batch(), "`batch` is for `valid_transactions`"),
        (
            blocks().filter(filter(FilterName::Operation, "CREATE")),
            "`operation` is for `valid_transactions`",
        ),
    ] {
        let error = builder.build().expect_err(told).to_string();
        assert!(error.contains(told), "{error}");
    }
    assert!(events().limit(u64::MAX).start(inside()).batch().build().is_ok());
}

#[test]
fn a_state_file_wins_over_the_start_and_knows_its_stream() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("state");
    let build = |query: &str| {
        let builder = Builder::new(&format!("{URL}?{query}")).expect("a URL");
        builder.start(Start::Oldest).state_file(&path).build()
    };
    let mut stream = build("operation=B&operation=A").expect("no file is no fault");
    assert!(stream.asks().contains("from_height=oldest"));
    stream.save_at(&Position::after_block(5)).expect("saved");
    let stream = build("operation=A&operation=B&limit=3").expect("the same stream");
    assert!(stream.asks().contains("?after=5&operation=A&operation=B&limit=3"));
    assert_eq!(stream.position(), Some(Position::after_block(5)));
    let error = build("operation=A").expect_err("another filter").to_string();
    assert!(error.contains("valid_transactions?operation=A&operation=B"), "{error}");
}
