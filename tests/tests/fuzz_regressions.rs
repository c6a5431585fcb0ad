//! Replays the fuzzers' seeds, and every input that once broke a target, as ordinary tests.

use std::fs;
use std::path::PathBuf;

use tests::fuzz::TARGETS;

/// The files in one folder of `tests/fuzz`; none where there is no such folder.
fn inputs(kind: &str, target: &str) -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(kind).join(target);
    let files = fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut files: Vec<_> = files.filter(|path| path.is_file()).collect();
    files.sort();
    files
}

fn replay(target: &str) {
    let (_, run) = TARGETS.iter().find(|(name, _)| *name == target).expect("a fuzz target");
    let seeds = inputs("seeds", target);
    assert!(!seeds.is_empty(), "tests/fuzz/seeds/{target} is empty");
    for path in seeds.into_iter().chain(inputs("regressions", target)) {
        // Shown only when the test fails: the last one is the one that broke.
        println!("{}", path.display());
        run(&fs::read(&path).expect("a readable input"));
    }
}

#[test]
fn frame() {
    replay("frame");
}

#[test]
fn checksum() {
    replay("checksum");
}

#[test]
fn config() {
    replay("config");
}

#[test]
fn control() {
    replay("control");
}

#[test]
fn router() {
    replay("router");
}

#[test]
fn every_target_has_an_entry_point() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/src/bin");
    for (name, _) in TARGETS {
        let text = fs::read_to_string(folder.join(format!("{name}.rs"))).expect("an entry point");
        assert!(text.contains(&format!("tests::fuzz::{name}::run")), "{name}");
    }
    assert_eq!(fs::read_dir(folder).expect("entry points").count(), TARGETS.len());
}
