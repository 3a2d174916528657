//! The files of `deploy/` say what the code does.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use blockcast::cli::command;
use blockcast::config::{Config, Layers};

fn deployed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(deployed(name)).expect("readable")
}

/// The keys of a table and of all tables in it, `section.key`.
pub fn keys(prefix: &str, table: &toml::Table, found: &mut BTreeSet<String>) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            toml::Value::Table(inner) if !inner.is_empty() => keys(&key, inner, found),
            _ => drop(found.insert(key)),
        }
    }
}

#[test]
fn the_annotated_configuration_is_the_default_one() {
    let file = Some(deployed("blockcast.toml"));
    let loaded = Config::load(&Layers { file, ..Layers::default() }).expect("loads");
    assert_eq!(loaded, Config::default());
}

#[test]
fn the_annotated_configuration_names_every_key() {
    let (mut written, mut known) = (BTreeSet::new(), BTreeSet::new());
    keys("", &text("blockcast.toml").parse().expect("TOML"), &mut written);
    keys("", &Config::default().to_toml().parse().expect("TOML"), &mut known);
    assert_eq!(written, known);
}

#[test]
fn every_key_of_the_annotated_configuration_is_explained() {
    let text = text("blockcast.toml");
    let lines: Vec<&str> = text.lines().collect();
    for (above, line) in lines.iter().zip(&lines[1..]) {
        if !line.starts_with('#') && line.contains(" = ") {
            assert!(above.starts_with("# "), "no comment above: {line}");
        }
    }
}

#[test]
fn the_compose_file_sets_keys_that_exist() {
    let text = text("compose.yaml");
    let environment: Vec<(String, String)> = text
        .lines()
        .filter_map(|line| line.trim().split_once(": "))
        .filter(|(name, _)| name.starts_with("BLOCKCAST_"))
        .map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned()))
        .collect();
    for (name, _) in &environment {
        assert!(name.contains("__"), "{name} is no configuration key, so it would be passed over");
    }
    let loaded = Config::load(&Layers { environment, ..Layers::default() }).expect("loads");
    assert_eq!(loaded.amqp.uris[0].expose(), "amqp://blockcast:blockcast@rabbitmq:5672/%2f");
}

#[test]
fn the_compose_file_runs_a_command_that_parses() {
    let text = text("compose.yaml");
    let words =
        text.lines().find_map(|line| line.trim().strip_prefix("command: [")?.strip_suffix(']'));
    let words =
        words.expect("the publisher has one").split(", ").map(|word| word.trim_matches('"'));
    let words = std::iter::once("blockcast").chain(words);
    command().try_get_matches_from(words).expect("parses");
}

#[test]
fn the_image_serves_where_the_default_configuration_listens() {
    let port = Config::default().server.listen.port();
    let dockerfile = text("Dockerfile");
    for told in [format!("EXPOSE {port}"), format!("/dev/tcp/127.0.0.1/{port}")] {
        assert!(dockerfile.contains(&told), "{told}");
    }
    assert!(text("compose.yaml").contains(&format!(":{port}:{port}")));
}
