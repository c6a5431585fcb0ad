//! `swbench all` and `swbench report` as programs: what fails is named and does not end the rest.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const SWBENCH: &str = env!("CARGO_BIN_EXE_swbench");

/// A directory of one test, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn make(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("swbench-test-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a directory");
        Directory(path)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Runs swbench with these words and this directory for --out.
    fn swbench(&self, words: &str) -> Output {
        let mut command = Command::new(SWBENCH);
        command.args(words.split(' ')).arg("--out").arg(&self.0).output().expect("swbench")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What was written on stderr.
fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_campaign_measures_reports_names_what_fails_and_goes_on() {
    let switchd = Path::new(SWBENCH).with_file_name("switchd");
    if let Err(why) = bench::rig::check_machine() {
        println!("SKIPPED: bench: a campaign of all tests: {why}");
        return;
    }
    if !switchd.exists() {
        println!("SKIPPED: bench: a campaign of all tests: {} is not built", switchd.display());
        return;
    }
    let dir = Directory::make("all");
    let quickest = "all --quick --runs 1 --devices switchd,bridge --tests";

    let first = dir.swbench(&format!("{quickest} run,rtt"));
    assert!(first.status.success(), "{}", said(&first));
    assert!(said(&first).contains("2 tests, devices: 2, runs of each: 1; about "), "{}", said(&first));
    let page = dir.text("report.md");
    for part in ["## run\n", "### socket Mpps", "### flood Mpps", "## rtt\n", "### RTT p50 us", "`swbench rtt --count"]
    {
        assert!(page.contains(part), "{part} in {page}");
    }
    // Both devices under socket load with two sizes, and both figures of the round trip.
    assert_eq!(page.matches("| bridge | ").count(), 1 + 2 + 2, "{page}");
    assert!(dir.text("run-socket-mpps.svg").contains("frame size, bytes"));

    // Of these only `run` is there; the two others fail, one after the other.
    std::fs::write(dir.0.join("rtt.json"), "{").expect("a broken file");
    let second = dir.swbench(&format!("{quickest} run,tcp,rtt --resume --device-core 1 --traffic-core 1"));
    let text = said(&second);
    assert_eq!(second.status.code(), Some(1), "{text}");
    for part in
        ["run: there already", "measured again: ", "== tcp: FAILED", "== rtt: FAILED", "of 2 tests failed: tcp, rtt"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    let page = dir.text("report.md");
    assert!(page.contains("## run\n") && !page.contains("## rtt\n") && !dir.0.join("rtt.json").exists(), "{page}");
}

#[test]
fn every_broken_file_has_one_line_and_the_others_are_reported() {
    let dir = Directory::make("report");
    let (good, bad) = (dir.0.join("good.json"), dir.0.join("bad.json"));
    let setup = serde_json::json!({"swbench": "0.1.0", "mtu": 1500, "device_core": 0, "traffic_core": 1,
        "socket_ring": 2048, "burst": 64, "flows": 1});
    let facts = serde_json::json!({"machine": bench::facts::Machine::here(0), "setup": setup, "devices": {}});
    let rows =
        bench::report::rows("x Mpps", bench::device::Kind::Wire, &[(bench::device::Kind::Wire, 1.0)], |_| "".into());
    bench::report::write_json(&good, &facts, &rows, &[()]).expect("a result file");
    std::fs::write(&bad, "[]").expect("a file");
    let words =
        |files: &[&Path]| files.iter().fold("report".to_owned(), |all, file| format!("{all} {}", file.display()));

    let mixed = dir.swbench(&words(&[&bad, &good, &dir.0.join("none.json")]));
    let text = said(&mixed);
    assert_eq!((mixed.status.code(), text.lines().count()), (Some(1), 2), "{text}");
    assert!(text.contains("bad.json: no schema number") && text.contains("none.json: No such file"), "{text}");
    assert!(dir.text("report.md").contains("| wire | 1.000 |") && dir.text("good-x-mpps.svg").contains("</svg>"));

    let fine = dir.swbench(&words(&[&good]));
    assert!(fine.status.success() && said(&fine).is_empty(), "{}", said(&fine));
    assert!(String::from_utf8_lossy(&fine.stdout).contains("report.md"));
}
