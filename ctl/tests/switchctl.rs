//! The program itself against a small server of canned answers: tables, JSON, exit codes, error lines.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

use serde_json::{Value, json};

/// Answers every request for as long as the test runs.
struct Fake {
    dir: tempfile::TempDir,
}

impl Fake {
    fn start() -> Fake {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("s.sock")).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                thread::spawn(move || {
                    for line in BufReader::new(&stream).lines() {
                        let request: Value = serde_json::from_str(&line.unwrap()).unwrap();
                        // A client that went away is its own business.
                        if (&stream).write_all(answer(&request).as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Fake { dir }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("s.sock")
    }

    fn run(&self, line: &str) -> Output {
        switchctl(&self.socket(), line).output().unwrap()
    }
}

fn switchctl(socket: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchctl"));
    command.args(line.split_whitespace()).env("SWITCHD_SOCKET", socket);
    command
}

fn entry(number: u64) -> Value {
    let mac = format!("02:00:00:{:02x}:{:02x}:{:02x}", number >> 16 & 255, number >> 8 & 255, number & 255);
    json!({"mac": mac, "bridge": "pods", "vlan": 0, "port": "web0", "type": "dynamic", "sticky": false,
           "age_seconds": number})
}

fn route(number: u64) -> Value {
    let prefix = format!("10.{}.{}.0/24", number >> 8 & 255, number & 255);
    json!({"prefix": prefix, "vrf": "default", "type": "unicast", "origin": "static", "active": true,
           "next_hops": [{"via": "10.0.0.9", "interface": "pods", "weight": 1, "active": true}]})
}

fn answer(line: &Value) -> String {
    let id = &line["id"];
    assert_eq!(line["version"], 1);
    let items = |items: Vec<Value>, done: Value| {
        let items = items.into_iter().map(|item| json!({"id": id, "item": item}));
        items.chain([json!({"id": id, "done": done})]).map(|l| l.to_string() + "\n").collect::<String>()
    };
    let error =
        |code: &str, message: &str| json!({"id": id, "error": {"code": code, "message": message}}).to_string() + "\n";
    let (command, body) = line["request"].as_object().unwrap().iter().next().unwrap();
    match command.as_str() {
        "show-fdb" if body["bridge"] == "big" => items((0..50_000).map(entry).collect(), json!({"items": 50_000})),
        "show-fdb" if body["bridge"] == "none" => error("refused", "no bridge none: see switchctl show-bridges"),
        "show-fdb" if body["bridge"] == "cut" => json!({"id": id, "item": entry(1)}).to_string() + "\nnonsense\n",
        "show-fdb" => items(vec![entry(1), entry(2)], json!({"items": 2, "limit": 65536})),
        "show-drops" => {
            items(vec![json!({"reason": "own_port", "port": "web0", "count": 5, "help": "h"})], json!({"items": 1}))
        }
        "show-config" => items(
            vec![json!({"section": "switch", "values": {"frames": 16384}})],
            json!({"items": 1, "notes": ["the file has changed since: reload applies it"]}),
        ),
        "version" => items(vec![json!({"version": "9.9", "protocol": 1, "pid": 4, "uptime_seconds": 5})], json!({})),
        "add-port" => items(vec![], json!({"message": "port added: \u{1b}[2J"})),
        "flush-fdb" => items(vec![], json!({"affected": 12})),
        "del-port" => error("failed", "the kernel\nsaid no"),
        "set-port" => error("usage", "no such setting"),
        "show-routes" if body["prefix"] == "10.0.0.0/8" => items((0..50_000).map(route).collect(), json!({})),
        "show-routes" => items(vec![route(1)], json!({})),
        "show-neigh" => items(
            vec![json!({"address": "10.0.0.9", "bridge": "pods", "mac": null, "port": null, "state": "incomplete",
                        "age_seconds": 1})],
            json!({}),
        ),
        "show-host" => items(
            vec![json!({"name": "icmp_errors", "kind": "counter", "value": 7, "help": "Sent."})],
            json!({"items": 1}),
        ),
        "load-routes" => {
            let lines = body["text"].as_str().unwrap().lines().zip(body["first_line"].as_u64().unwrap()..);
            let (bad, good): (Vec<_>, Vec<_>) = lines
                .filter(|(line, _)| !line.is_empty() && !line.starts_with('#'))
                .partition(|(line, _)| line.starts_with("bad"));
            let bad = bad.into_iter().map(|(line, number)| json!({"line": number, "message": line})).collect();
            items(bad, json!({"affected": good.len()}))
        }
        "reload" => error("version", "the client speaks protocol version 1, this switchd 2"),
        _ => items(vec![], json!({})),
    }
}

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[test]
fn tables_and_json_of_the_forwarding_table() {
    let fake = Fake::start();
    let text = fake.run("show-fdb");
    assert_eq!(
        out(&text),
        "\
PORT  VLAN  MAC                AGE  TYPE     BRIDGE
web0     -  02:00:00:00:00:01    1  dynamic  pods
web0     -  02:00:00:00:00:02    2  dynamic  pods
2 entries (2 dynamic, limit 65536)
"
    );
    assert_eq!((text.status.code(), err(&text)), (Some(0), ""));
    for line in ["--json show-fdb", "show-fdb --json --dynamic"] {
        let output = fake.run(line);
        assert_eq!(serde_json::from_str::<Value>(out(&output)).unwrap(), json!([entry(1), entry(2)]), "{line}");
    }
    let big = fake.run("--json show-fdb --bridge big");
    assert_eq!(serde_json::from_str::<Vec<Value>>(out(&big)).unwrap().len(), 50_000);
    let empty = fake.run("--json show-ports");
    assert_eq!(out(&empty), "[]\n");
}

#[test]
fn routes_are_lines_or_json() {
    let fake = Fake::start();
    assert_eq!(out(&fake.run("show-routes")), "10.0.1.0/24 via 10.0.0.9 dev pods proto static\n1 route\n");
    assert_eq!(serde_json::from_str::<Value>(out(&fake.run("--json show-routes"))).unwrap(), json!([route(1)]));
    let big = fake.run("show-routes --prefix 10.0.0.0/8");
    assert_eq!(out(&big).lines().count(), 50_001);
    assert!(out(&fake.run("show-neigh")).contains("10.0.0.9  -    INCOMPLETE    1  pods    -\n"));
    assert_eq!(out(&fake.run("show-host")), "VALUE  LIMIT  NAME         HELP\n    7      -  icmp_errors  Sent.\n");
    let json: Value = serde_json::from_str(out(&fake.run("show-host --json"))).unwrap();
    assert_eq!((&json[0]["name"], &json[0]["value"]), (&json!("icmp_errors"), &json!(7)));
    let wrong = fake.run("show-routes --prefix 10.0.0.1/8");
    let message = "switchctl: 10.0.0.1/8 has bits set behind its length: write 10.0.0.0/8\n";
    assert_eq!((wrong.status.code(), err(&wrong)), (Some(2), message));
    let nowhere = fake.run("add-route 10.0.0.0/8");
    assert!(err(&nowhere).contains("route 10.0.0.0/8 leads nowhere: give a next hop with --via"), "{}", err(&nowhere));
}

#[test]
fn a_file_of_routes_is_sent_in_pieces_and_its_errors_are_named_by_line() {
    let fake = Fake::start();
    let file = fake.dir.path().join("routes");
    // More than fits one request.
    let text: String = (0..20_000u32)
        .map(|n| {
            if n == 15_000 { "bad one\n".to_owned() } else { format!("10.{}.{}.0/24 via 10.0.0.9\n", n >> 8, n & 255) }
        })
        .collect();
    std::fs::write(&file, text).unwrap();
    let output = fake.run(&format!("load-routes {}", file.display()));
    assert_eq!(out(&output), "19999 routes added, until the next reload\n");
    assert_eq!(err(&output), "switchctl: line 15001: bad one\nswitchctl: 1 line was refused\n");
    assert_eq!(output.status.code(), Some(1));
    let report: Value =
        serde_json::from_str(out(&fake.run(&format!("--json load-routes {}", file.display())))).unwrap();
    assert_eq!(report, json!({"added": 19999, "errors": [{"line": 15001, "message": "bad one"}]}));

    let mut child =
        switchctl(&fake.socket(), "load-routes -").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"# none\r\n\n10.0.0.0/8 blackhole\r\n10.1.0.0/16 blackhole").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), out(&output)), (Some(0), "2 routes added, until the next reload\n"));
    let missing = fake.run("load-routes /nonexistent");
    assert_eq!(missing.status.code(), Some(1));
    assert!(err(&missing).starts_with("switchctl: cannot read /nonexistent: No such file"), "{}", err(&missing));
}

#[test]
fn the_socket_is_named_by_flag_or_environment() {
    let fake = Fake::start();
    let socket = fake.socket();
    for line in [format!("--socket {} version", socket.display()), format!("version --socket {}", socket.display())] {
        let output = switchctl(Path::new("/nonexistent"), &line).output().unwrap();
        assert!(out(&output).contains("switchd        9.9\n"), "{}", err(&output));
    }
    let missing = switchctl(Path::new("/nonexistent/s.sock"), "reload").output().unwrap();
    assert_eq!(missing.status.code(), Some(1));
    assert_eq!(
        err(&missing),
        "switchctl: no switchd answers at /nonexistent/s.sock: start it with switchd --config FILE or name its \
         socket with --socket\n"
    );
}

#[test]
fn commands_report_what_they_did() {
    let fake = Fake::start();
    assert_eq!(out(&fake.run("add-port web0 --bridge pods")), "port added: ?[2J\n");
    assert_eq!(out(&fake.run("flush-fdb")), "flush-fdb: 12 changed\n");
    assert_eq!(out(&fake.run("--json flush-fdb")), "{\"items\":0,\"affected\":12}\n");
    assert_eq!(out(&fake.run("shutdown")), "shutdown: done\n");
    let config = fake.run("show-config");
    assert_eq!(out(&config), "[switch]\nframes = 16384\n");
    assert_eq!(err(&config), "switchctl: note: the file has changed since: reload applies it\n");
    assert_eq!(serde_json::from_str::<Value>(out(&fake.run("show-config --json"))).unwrap()["switch"]["frames"], 16384);
}

#[test]
fn exit_codes_and_error_lines() {
    let fake = Fake::start();
    let table = [
        ("show-fdb --bridge none", 1, "switchctl: no bridge none: see switchctl show-bridges\n"),
        ("del-port web0", 1, "switchctl: the kernel?said no\n"),
        ("reload", 1, "switchctl: the client speaks protocol version 1, this switchd 2\n"),
        ("set-port web0 --isolated on", 2, "switchctl: no such setting\n"),
        ("set-port web0", 2, "switchctl: set-port web0 changes nothing: name a setting, like isolated or mac_limit\n"),
        ("add-port web0", 2, "switchctl: port web0 belongs to no bridge: give a bridge or a trunk\n"),
        ("show-fdb --vlan 4095", 2, "switchctl: VLAN 4095 does not exist: use 0 for untagged or 1 to 4094\n"),
        ("reload --watch", 2, "switchctl: --watch repeats show commands, not reload: leave it out\n"),
        ("dance", 2, "switchctl: unrecognized subcommand 'dance'; see switchctl --help\n"),
    ];
    for (line, code, message) in table {
        let output = fake.run(line);
        assert_eq!((output.status.code(), err(&output), out(&output)), (Some(code), message, ""), "{line}");
    }
    let cut = fake.run("show-fdb --bridge cut");
    assert_eq!(cut.status.code(), Some(1));
    assert!(err(&cut).contains("cannot read") && err(&cut).lines().count() == 1, "{}", err(&cut));
    let help = fake.run("--help");
    assert_eq!((help.status.code(), err(&help)), (Some(0), ""));
    let nothing = fake.run("");
    assert_eq!((nothing.status.code(), out(&nothing)), (Some(2), ""));
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let fake = Fake::start();
    for line in ["show-fdb --bridge big", "--json show-fdb --bridge big"] {
        let mut child = switchctl(&fake.socket(), line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut some = [0; 100];
        child.stdout.take().unwrap().read_exact(&mut some).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), err(&output)), (Some(0), ""), "{line}");
    }
}

#[test]
fn watching_repeats_with_rates() {
    let fake = Fake::start();
    let mut child = switchctl(&fake.socket(), "show-drops --watch 0.1").stdout(Stdio::piped()).spawn().unwrap();
    let lines: Vec<String> = BufReader::new(child.stdout.take().unwrap()).lines().take(7).map(Result::unwrap).collect();
    child.wait().unwrap();
    assert_eq!(lines[..4], ["COUNT  REASON    PORT  HELP", "    5  own_port  web0  h", "5 frames dropped", ""]);
    assert_eq!(lines[4..6], ["COUNT  RATE/S  REASON    PORT  HELP", "    5       0  own_port  web0  h"]);

    let mut child = switchctl(&fake.socket(), "--json --watch=0.1 show-drops").stdout(Stdio::piped()).spawn().unwrap();
    let lines: Vec<Value> = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .take(2)
        .map(|l| serde_json::from_str(&l.unwrap()).unwrap())
        .collect();
    child.wait().unwrap();
    assert_eq!((&lines[0][0]["count"], lines[0][0].get("rate_per_second")), (&json!(5), None));
    assert_eq!(lines[1][0]["rate_per_second"], 0.0);
}

#[test]
fn the_configuration_can_be_watched() {
    let fake = Fake::start();
    let watch = |line: &str, lines: usize| -> Vec<String> {
        let mut child = switchctl(&fake.socket(), line).stdout(Stdio::piped()).spawn().unwrap();
        let read = BufReader::new(child.stdout.take().unwrap()).lines().take(lines).map(Result::unwrap).collect();
        child.wait().unwrap();
        read
    };
    let note = "note: the file has changed since: reload applies it";
    let block = ["[switch]", "frames = 16384", note];
    assert_eq!(watch("show-config --watch=0.1", 7), [&block[..], &[""], &block].concat());
    for line in watch("--json --watch=0.1 show-config", 2) {
        assert_eq!(line, r#"{"switch":{"frames":16384}}"#);
    }
}

#[test]
fn completions_need_no_switch() {
    for shell in ["bash", "zsh", "fish"] {
        let output = switchctl(Path::new("/nonexistent"), &format!("completions {shell}")).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert!(out(&output).contains("show-fdb"), "{shell}");
    }
}
