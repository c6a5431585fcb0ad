//! Bad input: one clear line, the right exit code, running traffic untouched.

use std::fs;
use std::time::Duration;

use tests::net::process::Output;
use tests::net::switchd::{configuration, pods, switchd_output};
use tests::net::traffic::{Stream, wait_reachable};
use tests::net::{Lab, Link, Switchd, stretched};

/// What is wrong, the configuration's `[switch]` lines, the rest of it, and words of the message.
type Case = (&'static str, &'static str, String, &'static [&'static str]);

fn cases() -> Vec<Case> {
    let one = || pods(&["a0"]);
    let with = |more: &str| format!("{}{more}\n", pods(&["a0"]));
    let trunk =
        |vlan: &str| format!("{}[[port]]\ninterface = \"b0\"\ntrunk = {{ {vlan} = \"pods\" }}\n", pods(&["a0"]));
    let fdb = |mac: &str, port: &str| with(&format!("[[fdb]]\nmac = \"{mac}\"\nbridge = \"pods\"\nport = \"{port}\""));
    vec![
        ("unknown key", "wrokers = [0]", one(), &["wrokers", "workers", ".toml:3"]),
        ("unknown key of a port", "", with("colour = \"red\""), &["colour", "a0"]),
        ("wrong type", "workers = \"0\"", one(), &["workers", "[0, 1]"]),
        ("no TOML", "", with("[[port"), &["TOML"]),
        (
            "a port in two bridges",
            "",
            with("[[bridge]]\nname = \"x\"\n[[port]]\ninterface = \"a0\"\nbridge = \"x\""),
            &["a0", "already"],
        ),
        ("a bridge that does not exist", "", with("[[port]]\ninterface = \"b0\"\nbridge = \"pod\""), &["pod", "pods"]),
        ("VLAN 0", "", trunk("0"), &["VLAN", "\"0\""]),
        ("VLAN 4095", "", trunk("4095"), &["VLAN", "\"4095\""]),
        ("a core that does not exist", "workers = [4000]", one(), &["4000", "workers"]),
        ("too few frames", "frames = 16", one(), &["frames", "1024"]),
        ("too large a table", "fdb_entries = 2000000", one(), &["fdb_entries", "1048576"]),
        (
            "an ageing time below the standard's",
            "",
            one().replace("\"pods\"\n[[", "\"pods\"\nageing_seconds = 9\n[["),
            &["ageing_seconds", "10"],
        ),
        ("a static group address", "", fdb("01:00:5e:00:00:01", "a0"), &["multicast"]),
        ("a static entry on no port", "", fdb("02:00:00:00:00:01", "zz0"), &["zz0"]),
        (
            "a name that no interface has",
            "",
            with("[[port]]\ninterface = \"a-name-far-too-long\"\nbridge = \"pods\""),
            &["15 bytes"],
        ),
        ("a word for poll", "poll = \"fast\"", one(), &["poll", "adaptive"]),
        ("a group that does not exist", "control_group = \"no-such-group\"", one(), &["no-such-group", "groupadd"]),
    ]
}

/// One line on standard error that starts with the program's name and holds the words.
fn assert_refused(what: &str, done: &Output, code: i32, program: &str, words: &[&str]) {
    assert_eq!((done.code, done.stderr.lines().count()), (code, 1), "{what}: {}", done.stderr);
    assert!(done.stderr.starts_with(&format!("{program}: ")), "{what}: {}", done.stderr);
    assert!(!done.stderr.contains("panicked"), "{what}: {}", done.stderr);
    for word in words {
        assert!(done.stderr.contains(word), "{what}: no {word:?} in {}", done.stderr);
    }
}

#[test]
fn bad_configurations_are_refused_in_one_line() {
    let Some(mut lab) = Lab::new("bad_configurations_are_refused_in_one_line") else { return };
    let _a = lab.container("a0", &Link::default());
    let path = lab.files().join("bad.toml");
    let file = path.to_str().expect("a path in ASCII").to_owned();
    for (what, keys, body, words) in cases() {
        fs::write(&path, configuration(&lab.files().join("bad.sock"), keys, &body)).expect("it can be written");
        let started = switchd_output(&lab, &[], &["--config", &file, "--log", "error"]);
        assert_refused(what, &started, 1, "switchd", words);
        assert!(!lab.files().join("bad.sock").exists(), "{what}: no socket is left");
    }
    fs::write(&path, "[switch]\ncontrol_socket = \"run/x.sock\"\n").expect("it can be written");
    let relative = switchd_output(&lab, &[], &["--config", &file, "--log", "error"]);
    assert_refused("a relative socket path", &relative, 1, "switchd", &["absolute"]);
}

#[test]
fn bad_command_lines_are_refused_in_one_line() {
    let Some(lab) = Lab::new("bad_command_lines_are_refused_in_one_line") else { return };
    let missing = lab.files().join("missing.toml");
    let missing = missing.to_str().expect("a path in ASCII");
    let cases: [(&[&str], i32, &[&str]); 5] = [
        (&["--config", missing], 1, &["cannot read", "missing.toml"]),
        (&["--config", missing, "--check"], 1, &["cannot read", "missing.toml"]),
        (&[], 2, &["--config"]),
        (&["--confg", missing], 2, &["--confg"]),
        (&["--config"], 2, &["--config"]),
    ];
    for (arguments, code, words) in cases {
        let done = switchd_output(&lab, &[], arguments);
        assert_refused(&arguments.join(" "), &done, code, "switchd", words);
    }
    assert_eq!(switchd_output(&lab, &[], &["--version"]).code, 0);
    assert_eq!(switchd_output(&lab, &[], &["--help"]).code, 0);
}

#[test]
fn check_reads_a_configuration_and_starts_nothing() {
    let Some(lab) = Lab::new("check_reads_a_configuration_and_starts_nothing") else { return };
    let (path, socket) = (lab.files().join("good.toml"), lab.files().join("good.sock"));
    let file = path.to_str().expect("a path in ASCII");
    fs::write(&path, configuration(&socket, "", &pods(&["a0"]))).expect("it can be written");
    let done = switchd_output(&lab, &[], &["--config", file, "--check"]);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    assert!(!socket.exists());
}

#[test]
fn missing_privileges_and_foreign_files_are_named() {
    let Some(mut lab) = Lab::new("missing_privileges_and_foreign_files_are_named") else { return };
    let _a = lab.container("a0", &Link::default());
    let (path, socket) = (lab.files().join("good.toml"), lab.files().join("good.sock"));
    let file = path.to_str().expect("a path in ASCII");
    fs::write(&path, configuration(&socket, "", &pods(&["a0"]))).expect("it can be written");
    let start = ["--config", file, "--log", "error"];
    for (dropped, word) in [
        ("-net_admin,-sys_admin", "CAP_NET_ADMIN"),
        ("-bpf,-sys_admin,-perfmon", "CAP_BPF"),
        ("-net_raw", "CAP_NET_RAW"),
    ] {
        let bounding = format!("--bounding-set={dropped}");
        let done = switchd_output(&lab, &["setpriv", &bounding, "--inh-caps=-all", "--"], &start);
        assert_refused(dropped, &done, 1, "switchd", &[word]);
    }
    fs::write(&socket, "a file of somebody else").expect("it can be written");
    let done = switchd_output(&lab, &[], &start);
    assert_refused("a file in place of the socket", &done, 1, "switchd", &["not a socket", "good.sock"]);
    assert_eq!(fs::read_to_string(&socket).expect("it is still there"), "a file of somebody else");
}

#[test]
fn bad_requests_are_refused_and_traffic_goes_on() {
    let Some(mut lab) = Lab::new("bad_requests_are_refused_and_traffic_goes_on") else { return };
    let [a, b] = ["a0", "b0"].map(|end| lab.container(end, &Link::default()));
    let switch = Switchd::start(&lab, "", &pods(&["a0", "b0"]));
    wait_reachable(&a, b.v4());
    let stream = Stream::start(&a, &b, 1000);
    let cases: [(&[&str], i32, &[&str]); 14] = [
        (&["add-port", "a0", "--bridge", "pods"], 1, &["a0", "already"]),
        (&["add-port", "c0", "--bridge", "nobody"], 1, &["nobody", "pods"]),
        (&["add-port", "c0"], 2, &["bridge"]),
        (&["add-port", "c0", "--trunk", "0=pods"], 2, &["0"]),
        (&["add-port", "c0", "--trunk", "4095=pods"], 2, &["4095"]),
        (&["add-port", "lo", "--bridge", "pods"], 1, &["lo"]),
        (&["del-port", "c0"], 1, &["c0"]),
        (&["set-port", "c0", "--learning", "off"], 1, &["c0"]),
        (&["set-port", "a0", "--learning", "maybe"], 2, &["maybe"]),
        (&["add-fdb", "ff:ff:ff:ff:ff:ff", "--port", "a0"], 2, &["ff:ff:ff:ff:ff:ff"]),
        (&["add-fdb", "02:00:00:00:00:01", "--port", "c0"], 1, &["c0"]),
        (&["del-fdb", "02:00:00:00:00:01"], 1, &["02:00:00:00:00:01"]),
        (&["show-fdb", "--vlan", "5000"], 2, &["5000"]),
        (&["dance"], 2, &["dance"]),
    ];
    for (arguments, code, words) in cases {
        assert_refused(&arguments.join(" "), &switch.switchctl(arguments), code, "switchctl", words);
    }
    std::thread::sleep(stretched(Duration::from_millis(200)));
    let (sent, received) = stream.stop();
    assert_eq!((received.count, received.misordered), (sent, 0), "counted:\n{}", switch.losses());
    assert_eq!(switch.ports().len(), 2);
}
