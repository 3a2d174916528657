//! Configurations, as a file and as an environment: loaded or refused with words, and what was loaded is
//! printed so that it loads again.

#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use blockcast::config::{Config, Layers};
use libfuzzer_sys::fuzz_target;

/// One file for all runs of this process.
static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    std::env::temp_dir().join(format!("blockcast-fuzz-{}.toml", std::process::id()))
});

fuzz_target!(|bytes: &[u8]| {
    let Some((first, text)) = bytes.split_first() else { return };
    let text = String::from_utf8_lossy(text);
    // Some bytes have no meaning in either.
    let layers = match first % 2 {
        0 => {
            std::fs::write(&*FILE, text.as_bytes()).expect("written");
            Layers { file: Some(FILE.clone()), ..Layers::default() }
        }
        _ => Layers { environment: environment(&text), ..Layers::default() },
    };
    match Config::load(&layers) {
        Ok(config) => loads_again(&config),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});

/// `SECTION__KEY=value`, a line each.
fn environment(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter_map(|line| line.split_once('='));
    lines.map(|(name, value)| (format!("BLOCKCAST_{name}"), value.to_owned())).collect()
}

fn loads_again(config: &Config) {
    let printed = config.to_toml();
    std::fs::write(&*FILE, &printed).expect("written");
    // Passwords are printed masked; these are given back.
    let uris: Vec<&str> = config.amqp.uris.iter().map(|uri| uri.expose()).collect();
    if config.amqp.uris_file.is_some() || uris.iter().any(|uri| uri.contains(',')) {
        return;
    }
    let flags = vec![("amqp.uris".to_owned(), uris.join(","))];
    let layers = Layers { file: Some(FILE.clone()), flags, ..Layers::default() };
    match Config::load(&layers) {
        Ok(again) => assert_eq!(again, *config, "{printed}"),
        Err(error) => panic!("{error}: {printed}"),
    }
}
