//! The report from files that the real types made.

use super::*;
use crate::device::Kind;
use crate::facts::{Device, Machine, Setup};
use crate::report::{Row, rows, write_json};

fn facts(kernel: &str, mtu: u16) -> Facts {
    let machine = Machine { cpu: "Some Processor".into(), cores: 2, kernel: kernel.into(), ..Machine::default() };
    let (swbench, generator) = ("0.1.0".to_owned(), (2048, 64, 1));
    let (socket_ring, burst, flows) = generator;
    let setup = Setup { swbench, mtu, device_core: 0, traffic_core: 1, socket_ring, burst, flows };
    let device = |version: &str| Device {
        version: version.into(),
        offloads: [("a0".to_owned(), "generic-receive-offload".to_owned())].into(),
        threads: vec!["worker on 0 nice -20".into()],
        ..Device::default()
    };
    let devices = [("switchd", "1.0"), ("bridge", "a|b")].map(|(name, version)| (name.to_owned(), device(version)));
    Facts { machine, setup, devices: devices.into() }
}

fn figure(name: &str, switchd: f64, bridge: f64) -> Vec<Row> {
    let spread = |kind, median: f64| [0.9, 1.0, 1.1].map(|share| (kind, median * share));
    let values = [spread(Kind::Switchd, switchd), spread(Kind::Bridge, bridge)].concat();
    rows(name, Kind::Switchd, &values, |kind| format!("loss of {} | 0 %", kind.name()))
}

/// A directory of this test alone, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn make(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("swbench-test-publish-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    /// A result file as a test writes it, read again.
    fn results(&self, name: &str, facts: &Facts, rows: &[Row]) -> Results {
        let path = self.0.join(format!("{name}.json"));
        write_json(&path, facts, rows, &[()]).unwrap();
        Results::read(&path).unwrap()
    }

    /// The page of these results, and the names of the charts in its directory.
    fn page(&self, results: &[Results]) -> (String, Vec<String>) {
        let out = self.0.join("out");
        let page = std::fs::read_to_string(write(results, &out).unwrap()).unwrap();
        let files = std::fs::read_dir(&out).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap());
        let mut charts: Vec<String> = files.filter(|name| name != PAGE).collect();
        charts.sort();
        (page, charts)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_page_has_facts_tables_and_a_chart_for_every_group() {
    let dir = Directory::make("page");
    let rates = [figure("socket Mpps, 60", 1.5, 1.0), figure("socket Mpps, 1514", 0.75, 1.0)].concat();
    let rates = dir.results("run", &facts("6.18", 1500), &rates);
    let mut with_ovs = facts("6.18", 1500);
    with_ovs.devices.insert("ovs".into(), Device { fault: Some("no answer".into()), ..Device::default() });
    let tcp = dir.results("tcp", &with_ovs, &figure("TCP Gbit/s, MTU 1500", 4.0, 16.0));
    let (page, charts) = dir.page(&[rates, tcp]);
    assert_eq!(charts, ["run-socket-mpps.svg", "tcp-tcp-gbit-s-mtu-1500.svg"]);
    for chart in &charts {
        assert!(page.contains(&format!("]({chart})")), "{chart} in {page}");
    }
    for line in [
        "| frame size, bytes without FCS | device | median | min - max | n | switchd/it | remark |",
        "| 60 | bridge | 1.000 | 0.900 - 1.100 | 3 | 1.50 | loss of bridge \\| 0 % |",
        "| 1514 | switchd | 0.750 | 0.675 - 0.825 | 3 |  | loss of switchd \\| 0 % |",
        "| bridge | 16.000 | 14.400 - 17.600 | 3 | 0.25 | loss of bridge \\| 0 % |",
        "| bridge | a\\|b | worker on 0 nice -20 | a0: gro | none |  |",
        "| processor | Some Processor |",
        "| ovs |  | in the kernel |  | none | no answer |",
        "No figure of ovs.",
        "### socket Mpps, by frame size",
        "### TCP Gbit/s, MTU 1500",
    ] {
        assert!(page.lines().any(|l| l == line), "{line} in {page}");
    }
    assert_eq!((page.matches("Some Processor").count(), page.matches("No figure of").count()), (1, 1), "{page}");
    assert!(!page.contains("Warning") && !page.contains("Note"), "{page}");
}

#[test]
fn a_new_page_takes_the_place_of_the_old_one_and_its_charts() {
    let dir = Directory::make("again");
    let (old, new) = (figure("old Mpps", 1.0, 1.0), figure("new Mpps", 1.0, 1.0));
    let (_, charts) = dir.page(&[dir.results("run", &facts("6.18", 1500), &old)]);
    assert_eq!(charts, ["run-old-mpps.svg"]);
    std::fs::write(dir.0.join("out/of-others.svg"), "x").unwrap();
    let (_, charts) = dir.page(&[dir.results("run", &facts("6.18", 1500), &new)]);
    assert_eq!(charts, ["of-others.svg", "run-new-mpps.svg"]);
}

#[test]
fn without_the_subject_there_is_no_column_of_ratios() {
    let dir = Directory::make("subject");
    let alone = rows("flood Mpps, 60", Kind::Switchd, &[(Kind::Bridge, 1.0)], |_| String::new());
    let (page, _) = dir.page(&[dir.results("run", &facts("6.18", 1500), &alone)]);
    assert!(page.contains("\n| bridge | 1.000 | 1.000 - 1.000 | 1 |  |\n\nNo figure of switchd.\n"), "{page}");
    assert!(!page.contains("/it"), "{page}");
}

#[test]
fn files_of_different_machines_are_warned_of_and_other_set_ups_noted() {
    let dir = Directory::make("differ");
    let first = dir.results("run", &facts("6.18", 1500), &[]);
    let mut other = facts("6.1", 9000);
    other.devices.remove("bridge");
    if let Some(device) = other.devices.get_mut("switchd") {
        device.version = "1.1".into();
        device.threads.clear();
    }
    let (page, _) = dir.page(&[first, dir.results("tcp", &other, &[])]);
    let warnings: Vec<&str> = page.lines().filter(|line| line.starts_with('>')).collect();
    assert_eq!(
        warnings,
        [
            "> **Warning: do not compare.** tcp: devices.switchd.version is 1.1; in run it is 1.0",
            "> **Warning: do not compare.** tcp: machine.kernel is 6.1; in run it is 6.18",
            "> Note: tcp: setup.mtu is 9000; in run it is 1500",
        ]
    );
    assert_eq!(page.matches("No figures.").count(), 2, "{page}");
}

#[test]
fn a_broken_or_foreign_file_is_named_with_a_reason() {
    let dir = Directory::make("broken");
    let path = dir.0.join("x.json");
    let refused = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Results::read(&path).unwrap_err().to_string()
    };
    let schema = report::SCHEMA;
    for (text, why) in [
        ("{\"schema\": 2, \"fac", "no JSON"),
        ("{\"name\": \"foreign\"}", "no schema number"),
        ("{\"schema\": 1}", "schema 1; this swbench reads"),
        (&format!("{{\"schema\": {schema}, \"summary\": []}}"), "no result file of swbench"),
    ] {
        let said = refused(text);
        assert!(said.contains("x.json") && said.contains(why) && said.lines().count() == 1, "{said}");
    }
    assert!(Results::read(&dir.0.join("none.json")).unwrap_err().to_string().contains("none.json: No such file"));
}

#[test]
fn names_of_charts_are_plain_and_never_taken_twice() {
    let mut names = BTreeSet::new();
    assert_eq!(slug("p99.9 us at 10 % of NDR, 60 "), "p99.9-us-at-10-of-ndr-60");
    assert_eq!(unused(&slug("../a b"), &mut names), "a-b.svg");
    assert_eq!(unused("x", &mut names), "x.svg");
    assert_eq!(unused("x", &mut names), "x-2.svg");
}

#[test]
fn paths_are_no_part_of_the_command() {
    let dir = Directory::make("command");
    let mut results = dir.results("rtt", &facts("6.18", 1500), &[]);
    let words = ["/opt/x/swbench", "rtt", "--json", "/opt/x/a.json", "--runs", "5", "--switchd=/opt/x/switchd"];
    results.command = words.map(str::to_owned).to_vec();
    let (page, _) = dir.page(&[results]);
    assert!(page.contains("`swbench rtt --runs 5`") && !page.contains("/opt"), "{page}");
}
