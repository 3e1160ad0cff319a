//! docs/security.md names tests: each of them must exist.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// `file#name` in code spans.
fn named(text: &str) -> Vec<(&str, &str)> {
    text.split('`').skip(1).step_by(2).filter_map(|span| span.split_once('#')).collect()
}

/// All cases of the boot suite.
fn suite() -> String {
    let files = fs::read_dir(root().join("tests/suite")).expect("the suite");
    let read = |file: std::io::Result<fs::DirEntry>| fs::read_to_string(file.expect("file").path());
    files.map(|file| read(file).expect("text")).collect()
}

fn exists(file: &str, name: &str, suite: &str) -> bool {
    if file == "tests/suite" {
        return suite.contains(&format!("\nname = \"{name}\"\n"));
    }
    let text = fs::read_to_string(root().join(file)).unwrap_or_default();
    let head = format!("fn {name}() {{");
    text.split("#[test]").skip(1).any(|test| test.trim_start().starts_with(&head))
}

#[test]
fn every_test_that_the_security_page_names_exists() {
    let page = fs::read_to_string(root().join("docs/security.md")).expect("docs/security.md");
    let suite = suite();
    let named: Vec<_> = named(&page).into_iter().filter(|(file, _)| *file != "file").collect();
    assert!(named.len() > 60, "only {} tests are named", named.len());
    let missing: Vec<_> = named.iter().filter(|(file, name)| !exists(file, name, &suite)).collect();
    assert!(missing.is_empty(), "not there: {missing:#?}");
}

#[test]
fn a_test_that_does_not_exist_is_noticed() {
    let suite = "\nname = \"own-fpu\"\n";
    assert!(exists("tests/suite", "own-fpu", suite) && !exists("tests/suite", "own", suite));
    let here = "tests/host/tests/security.rs";
    assert!(exists(here, "a_test_that_does_not_exist_is_noticed", suite));
    assert!(!exists(here, "named", suite) && !exists("nothing.rs", "named", suite));
}
