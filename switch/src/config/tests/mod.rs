//! Every file of configs/, defaults, reloads, run-time changes; refusals and properties in their own files.

mod properties;
mod refusals;
mod routes;
mod services;

use super::*;
use crate::limits::{PORTS_MAX, fixed_entries_max};

const DEMO: &str = include_str!("../../../../configs/demo.toml");
const VLAN: &str = include_str!("../../../../configs/vlan.toml");

fn parse(text: &str) -> Config {
    Config::parse("t.toml", text, &[0, 1]).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

fn access(interface: &str, bridge: &str) -> PortConfig {
    PortConfig { bridge: Some(bridge.to_string()), ..PortConfig::new(interface) }
}

fn entry(last: u8, bridge: &str, port: &str) -> StaticEntry {
    let mac = Mac::new([2, 0, 0, 0, 0, last]);
    StaticEntry { mac, bridge: bridge.to_string(), port: port.to_string(), sticky: false }
}

#[test]
fn every_file_of_configs_loads_and_is_written_back() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs");
    let mut names = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let config = Config::parse(&path.display().to_string(), &text, &[]).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(Config::parse("again", &config.to_toml(), &[]), Ok(config));
        names.push(path.file_name().unwrap().to_string_lossy().into_owned());
    }
    names.sort();
    assert_eq!(names, ["demo.toml", "large.toml", "router.toml", "vlan.toml"]);
}

#[test]
fn the_demo_is_what_its_users_script_against() {
    let demo = parse(DEMO);
    assert_eq!(demo.switch, SwitchConfig { workers: vec![1], ..SwitchConfig::default() });
    assert_eq!(demo.switch.control_socket, "/run/switchd/control.sock");
    assert_eq!(demo.bridges, [BridgeConfig::new("pods")]);
    assert_eq!(demo.ports, ["web0", "db0", "client0"].map(|interface| access(interface, "pods")));
    assert!(demo.fdb.is_empty());
    let golden = "[switch]\ncontrol_socket = \"/run/switchd/control.sock\"\nworkers = [1]\nframes = 16384\n\
        poll = \"adaptive\"\nreceive_threads = false\ncontainer_gro = true\nresume_latency_us = \"auto\"\nfdb_entries = 65536\n\
        state_dir = \"/var/lib/switchd\"\n\n[[bridge]]\nname = \"pods\"\nageing_seconds = 300\n";
    let port = "isolated = false\nlearning = true\nflood_unicast = true\nflood_broadcast = true\n\
        flood_multicast = true\nmac_limit = 0\n";
    let ports = ["web0", "db0", "client0"];
    let ports = ports.map(|name| format!("\n[[port]]\ninterface = \"{name}\"\nbridge = \"pods\"\n{port}"));
    assert_eq!(demo.to_toml(), format!("{golden}{}", ports.concat()));
}

#[test]
fn every_key_is_read() {
    let config = parse(VLAN);
    let router = config.port("router0").unwrap();
    assert_eq!(router.domains().collect::<Vec<_>>(), ["management", "blue", "green"]);
    assert_eq!(router.trunk, BTreeMap::from([(10, "blue".to_string()), (20, "green".to_string())]));
    assert_eq!(config.port("green-web0").map(|port| (port.isolated, port.mac_limit)), Some((true, 4)));
    assert_eq!(config.port("sensor0").map(|port| (port.learning, port.flood_unicast)), Some((false, false)));
    assert_eq!(config.bridge("management").unwrap().ageing_seconds, 3600);
    assert_eq!(config.fdb, [StaticEntry { sticky: true, ..entry(1, "blue", "router0") }]);
    let text = "[switch]\ncontrol_socket = \"/tmp/s\"\ncontrol_group = \"net\"\nworkers = [1, 0]\nframes = 0x1_000\n\
        poll = \"spin\"\nreceive_threads = true\ncontainer_gro = false\nresume_latency_us = 0\nfdb_entries = 7\n\
        state_dir = \"/s\"\n[[bridge]]\nname = \"b\"\n\
        [[port]]\ninterface = \"p\"\nbridge = \"b\"\nflood_broadcast = false\nflood_multicast = false\n";
    let config = parse(text);
    let switch = SwitchConfig {
        control_socket: "/tmp/s".into(),
        control_group: Some("net".into()),
        workers: vec![1, 0],
        frames: 4096,
        poll: PollMode::Spin,
        receive_threads: true,
        container_gro: false,
        resume_latency_us: ResumeLatency::Us(0),
        fdb_entries: 7,
        state_dir: "/s".into(),
    };
    assert_eq!(config.switch, switch);
    assert_eq!(config.ports, [PortConfig { flood_broadcast: false, flood_multicast: false, ..access("p", "b") }]);
}

#[test]
fn idle_cores_resume_as_told_or_as_suits() {
    let cases = [
        ("", ResumeLatency::Auto, "\"auto\""),
        ("resume_latency_us = \"auto\"", ResumeLatency::Auto, "\"auto\""),
        ("resume_latency_us = \"off\"", ResumeLatency::Off, "\"off\""),
        ("resume_latency_us = 0", ResumeLatency::Us(0), "0"),
    ];
    for (text, wanted, written) in cases {
        let config = parse(&format!("[switch]\n{text}"));
        assert_eq!(config.switch.resume_latency_us, wanted, "{text}");
        assert!(config.to_toml().contains(&format!("resume_latency_us = {written}\n")), "{text}");
        let json = serde_json::to_value(&config.switch).unwrap();
        assert_eq!(json["resume_latency_us"].to_string(), written, "show-config says the same");
    }
    let running = parse("[switch]\nresume_latency_us = \"off\"");
    assert_eq!(
        Config::parse_reload("r.toml", "[switch]\nresume_latency_us = 5", &running).unwrap_err().to_string(),
        "r.toml:2:1: switch: \"resume_latency_us\" cannot change at run time (it is \"off\", the file wants 5); \
            put the old value back, or restart switchd"
    );
}

#[test]
fn defaults_come_from_the_host() {
    let empty = parse("");
    assert_eq!((empty.switch.workers.as_slice(), empty.switch.frames), (&[1][..], 16_384));
    assert!(empty.bridges.is_empty() && empty.ports.is_empty());
    let workers = |cores: &[usize]| Config::parse("t", "", cores).unwrap().switch.workers;
    assert_eq!(workers(&[6, 9, 2]), [9]);
    assert_eq!(workers(&[]), [0]);
    assert!(Config::parse("t", "[switch]\nworkers = [63]", &[]).is_ok(), "unknown cores are not judged");
}

#[test]
fn a_reload_says_what_to_do_and_leaves_the_rest() {
    let running = parse(VLAN);
    assert!(Config::parse_reload("t", VLAN, &running).unwrap().1.is_empty());
    let text = VLAN
        .replace("ageing_seconds = 3600 ", "ageing_seconds = 60 ")
        .replace("\"blue-db0\"", "\"blue-db1\"")
        .replace("20 = \"green\"", "30 = \"green\"")
        .replace("mac_limit = 4", "mac_limit = 5")
        .replace("sticky = true", "sticky = false");
    let (config, diff) = Config::parse_reload("t", &text, &running).unwrap();
    let change = |name: &str, membership| PortChange { port: config.port(name).unwrap().clone(), membership };
    let expected = Diff {
        ports_added: vec![PortConfig { isolated: true, ..access("blue-db1", "blue") }],
        ports_removed: vec!["blue-db0".into()],
        ports_changed: vec![change("green-web0", false), change("router0", true)],
        bridges_changed: vec![BridgeConfig { ageing_seconds: 60, ..BridgeConfig::new("management") }],
        fdb_added: vec![entry(1, "blue", "router0")],
        fdb_removed: running.fdb.clone(),
        ..Diff::default()
    };
    assert_eq!(diff, expected);
    let (_, diff) = Config::parse_reload("t", "[[bridge]]\nname = \"red\"", &running).unwrap();
    assert_eq!((diff.bridges_added.len(), diff.bridges_removed.len(), diff.ports_removed.len()), (1, 3, 5));
}

#[test]
fn a_reload_refuses_what_needs_a_restart() {
    let running = parse("[switch]\nworkers = [0]\nframes = 2048");
    let text = "[switch]\nframes = 4096\npoll = \"spin\"\nworkers = [7]\ncontrol_group = \"net\"\n";
    assert_eq!(
        Config::parse_reload("r.toml", text, &running).unwrap_err().to_string(),
        "r.toml:2:1: switch: \"frames\" cannot change at run time (it is 2048, the file wants 4096); \
            put the old value back, or restart switchd\n\
        r.toml:3:1: switch: \"poll\" cannot change at run time (it is \"adaptive\", the file wants \"spin\"); \
            put the old value back, or restart switchd\n\
        r.toml:4:1: switch: \"workers\" cannot change at run time (it is [0], the file wants [7]); \
            put the old value back, or restart switchd\n\
        r.toml:5:1: switch: \"control_group\" cannot change at run time (it is not set, the file wants \"net\"); \
            put the old value back, or restart switchd"
    );
    let other =
        parse("[switch]\ncontrol_socket = \"/x\"\nfdb_entries = 9\nstate_dir = \"/y\"\nworkers = [0]\nframes = 2048");
    assert_eq!(Config::diff(&running, &other).restart_needed, ["control_socket", "fdb_entries", "state_dir"]);
    assert!(Config::parse_reload("r.toml", "", &running).unwrap().1.is_empty(), "what is left out stays");
}

#[test]
fn a_reload_needs_room_in_the_running_pool() {
    let running = parse("[switch]\nframes = 1024\nworkers = [0]");
    let ports: String = (0..9).map(|n| format!("[[port]]\ninterface = \"p{n}\"\nbridge = \"b\"\n")).collect();
    let errors = Config::parse_reload("r.toml", &format!("[[bridge]]\nname = \"b\"\n{ports}"), &running).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "r.toml:1:1: switch: the pool of 1024 frames has no room for 9 ports; \
            set frames = 1152 in the configuration and restart switchd"
    );
}

#[test]
fn ports_come_and_go_at_run_time() {
    let mut config = parse(DEMO);
    let refused = |config: &Config, port: &PortConfig| config.check_new_port(port).unwrap_err().to_string();
    assert_eq!(
        refused(&config, &access("web0", "pods")),
        "port \"web0\": is a port already; change it with set-port, or remove it with del-port first"
    );
    assert_eq!(
        refused(&config, &access("web1", "pod")),
        "port \"web1\": \"bridge\" names bridge \"pod\", which does not exist; did you mean \"pods\"?"
    );
    assert_eq!(
        refused(&config, &PortConfig::new("web1")),
        "port \"web1\": is in no bridge; add bridge = \"NAME\" (access port) or trunk = { VLAN = \"NAME\" }"
    );
    assert!(refused(&config, &access("a b", "pods")).contains("no spaces"));
    let trunk = |vlan| PortConfig { trunk: BTreeMap::from([(vlan, "pods".to_string())]), ..PortConfig::new("t0") };
    assert!(refused(&config, &trunk(0)).contains("VLAN \"0\""));
    assert!(refused(&config, &trunk(4095)).contains("4095 is reserved"));
    assert!(refused(&config, &PortConfig { mac_limit: u32::MAX, ..trunk(1) }).contains("from 0 to 1048576"));
    let before = config.clone();
    config.add_port(trunk(4094)).unwrap();
    assert_eq!(Config::diff(&before, &config).ports_added, [trunk(4094)]);
    assert_eq!(
        config.remove_port("web1").unwrap_err().to_string(),
        "port \"web1\": is no port of this switch; did you mean \"web0\"?"
    );
    assert_eq!(config.remove_port("t0"), Ok((trunk(4094), vec![])));
    assert_eq!(config, before);
}

#[test]
fn run_time_ports_are_bounded() {
    let mut config = parse("[switch]\nframes = 1024\n[[bridge]]\nname = \"b\"");
    for n in 0..8 {
        config.add_port(access(&format!("p{n}"), "b")).unwrap();
    }
    assert_eq!(
        config.add_port(access("p8", "b")).unwrap_err().to_string(),
        "port \"p8\": the pool of 1024 frames has no room for 9 ports; \
            set frames = 1152 in the configuration and restart switchd"
    );
    config.switch.frames = frames_needed(PORTS_MAX + 1);
    for n in 8..PORTS_MAX {
        config.add_port(access(&format!("p{n}"), "b")).unwrap();
    }
    assert!(config.add_port(access("one-more", "b")).unwrap_err().to_string().contains("1025 ports are too many"));
}

#[test]
fn settings_change_at_run_time() {
    let mut config = parse(VLAN);
    let calm = PortSettings { learning: Some(false), flood_multicast: Some(false), ..PortSettings::default() };
    let change = config.set_port("blue-web0", &calm).unwrap().unwrap();
    assert!(!change.membership && !change.port.learning && !change.port.flood_multicast && change.port.flood_unicast);
    assert_eq!(config.port("blue-web0"), Some(&change.port));
    assert_eq!(config.set_port("blue-web0", &calm), Ok(None), "nothing left to do");
    let tagged = PortSettings {
        bridge: Some(None),
        trunk: Some(BTreeMap::from([(7, "green".to_string())])),
        ..PortSettings::default()
    };
    let change = config.set_port("blue-web0", &tagged).unwrap().unwrap();
    assert!(change.membership && change.port.bridge.is_none() && !change.port.learning);

    let before = config.clone();
    let refused = |config: &mut Config, port: &str, settings: &PortSettings| {
        config.set_port(port, settings).unwrap_err().to_string()
    };
    assert_eq!(
        refused(&mut config, "router0", &tagged),
        "port \"router0\": the static entry 02:00:00:00:00:01 keeps it in bridge \"blue\"; \
            remove that with del-fdb first"
    );
    let nowhere = PortSettings { bridge: Some(None), ..PortSettings::default() };
    assert!(refused(&mut config, "blue-db0", &nowhere).contains("is in no bridge"));
    assert!(refused(&mut config, "nosuch", &calm).contains("is no port of this switch"));
    assert_eq!(config, before, "a refused change changes nothing");
}

#[test]
fn static_entries_change_at_run_time() {
    let mut config = parse(DEMO);
    config.add_static(entry(1, "pods", "web0")).unwrap();
    assert_eq!(
        config.add_static(entry(1, "pods", "db0")).unwrap_err().to_string(),
        "static entry \"02:00:00:00:00:01\": bridge \"pods\" has a static entry for this address already; \
            remove it with del-fdb first"
    );
    assert!(config.add_static(entry(2, "pods", "nosuch")).unwrap_err().to_string().contains("is no port"));
    assert!(config.add_static(entry(2, "nosuch", "db0")).unwrap_err().to_string().contains("does not exist"));
    let group = StaticEntry { mac: Mac::BROADCAST, ..entry(2, "pods", "db0") };
    assert!(config.add_static(group).unwrap_err().to_string().contains("broadcast"));
    config.add_static(entry(2, "pods", "db0")).unwrap();
    let gone = config.remove_static(entry(2, "", "").mac, "pods").unwrap();
    assert_eq!(gone, entry(2, "pods", "db0"));
    assert_eq!(
        config.remove_static(gone.mac, "pods").unwrap_err().to_string(),
        "static entry \"02:00:00:00:00:02\": bridge \"pods\" has no static entry for this address; \
            show-fdb lists what there is"
    );
    let (_, entries) = config.remove_port("web0").unwrap();
    assert_eq!(entries, [entry(1, "pods", "web0")], "entries go with their port");
    assert!(config.fdb.is_empty());
}

#[test]
fn a_static_entry_that_could_never_be_in_force_is_refused() {
    let mut config = parse(DEMO);
    let numbered =
        |number: u64| StaticEntry { mac: Mac::from_bits(0x0200_0000_0000 | number), ..entry(0, "pods", "db0") };
    let room = u64::from(fixed_entries_max(config.switch.fdb_entries));
    config.fdb = (1..room).map(numbered).collect();
    config.add_static(numbered(room)).unwrap();
    let text = config.add_static(numbered(room + 1)).unwrap_err().to_string();
    assert!(text.contains("8193 static entries are more than the 8192"), "{text}");
    assert_eq!(config.fdb.len() as u64, room);
}
