//! Filters in scripts name tests that exist: one that names none would run none, or leave none out.

use std::path::Path;

/// The scripts that name tests.
const SCRIPTS: [&str; 3] = ["Makefile", "tests/brokers.sh", "tests/nodes.sh"];

/// The modules that `text` names, such as `commands::check::`, as paths.
fn modules(text: &str) -> Vec<String> {
    let is_of_a_path = |letter: char| letter.is_ascii_alphanumeric() || "_:".contains(letter);
    let is_capital = |letter: char| letter.is_ascii_uppercase();
    let words = text.split(|letter| !is_of_a_path(letter));
    // What follows the last colons is a test, or its beginning.
    let modules = words.filter_map(|word| word.rsplit_once("::")).map(|(module, _)| module);
    modules.filter(|module| !module.contains(is_capital)).map(|it| it.replace("::", "/")).collect()
}

#[test]
fn scripts_name_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for script in SCRIPTS {
        let text = std::fs::read_to_string(root.join(script)).expect("readable");
        for module in modules(&text) {
            let path = format!("tests/it/{module}.rs");
            assert!(
                root.join(&path).is_file(),
                "{script} names tests of {path}, which is not there"
            );
            count += 1;
        }
    }
    assert!(count > 0, "this looks elsewhere");
}

#[test]
fn modules_are_found() {
    let check = |text: &str, expected: &[&str]| assert_eq!(modules(text), expected, "of {text}");
    check("--skip commands::check:: tls::", &["commands/check", "tls"]);
    check("-- \"nodes::${name}_\" soak:: a:b", &["nodes", "soak"]);
    check("${source:Upstream-Version} https://x.y Acquire::Check-Valid-Until", &[]);
}
