//! The kept inputs of each fuzz target (`tests/fuzz/corpus`), which cargo-fuzz found to reach code that
//! no other does. `tests/fuzz/README.md` says how they come there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use host_tests::fuzz::{TARGETS, Target, chips::CHIPS, drivers::DRIVERS, xen::XEN};

/// Bytes that the corpus has at most, and one input of it.
const ALL: u64 = 400 << 10;
const ONE: u64 = 2 << 10;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus")
}

fn targets() -> impl Iterator<Item = &'static Target> {
    TARGETS.iter().chain(CHIPS).chain(DRIVERS).chain(XEN)
}

/// The files below a directory, in the order of their names.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_target_takes_the_inputs_that_are_kept_for_it() {
    for (name, entry) in targets() {
        let inputs = files(&corpus().join(name));
        assert!(!inputs.is_empty(), "{name} has no inputs");
        for input in inputs {
            let bytes = fs::read(&input).unwrap();
            let taken = std::panic::catch_unwind(|| entry(&bytes));
            assert!(taken.is_ok(), "target {name}, input {}", input.display());
        }
    }
}

#[test]
fn there_is_a_directory_for_each_target_and_each_target_has_its_file_for_cargo_fuzz() {
    let names: BTreeSet<String> = targets().map(|target| target.0.to_owned()).collect();
    let stem = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let kept: BTreeSet<String> = files(&corpus()).iter().map(stem).collect();
    let fuzzed: BTreeSet<String> =
        files(&corpus().join("../fuzz_targets")).iter().map(stem).collect();
    assert_eq!(kept, names);
    assert_eq!(fuzzed, names);
}

#[test]
fn the_corpus_is_small() {
    let dirs = files(&corpus());
    let sizes: Vec<(PathBuf, u64)> = dirs
        .iter()
        .flat_map(|dir| files(dir))
        .map(|file| (file.clone(), fs::metadata(&file).unwrap().len()))
        .collect();
    for (file, bytes) in &sizes {
        assert!(*bytes <= ONE, "{}: {bytes} bytes", file.display());
    }
    let all: u64 = sizes.iter().map(|(_, bytes)| bytes).sum();
    assert!(all <= ALL, "{all} bytes in all");
}
