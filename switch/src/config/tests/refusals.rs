//! Every refusal of the parser, with its exact line.

use super::{Config, ConfigErrors};
use crate::limits::{DOMAINS_MAX, PORTS_MAX};

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse("t.toml", text, &[0, 1, 4])
}

/// What stands before each text of [`PORT`].
const BEFORE_PORT: &str = "[[bridge]]\nname = \"pods\"\n[[bridge]]\nname = \"blue\"\n[[port]]\ninterface = \"web0\"\n";

/// What stands before each text of [`FDB`].
const BEFORE_FDB: &str = "[[bridge]]\nname = \"pods\"\n[[bridge]]\nname = \"blue\"\n\
    [[port]]\ninterface = \"web0\"\nbridge = \"pods\"\n[[fdb]]\n";

/// What stands before each text of [`NAME`].
const BEFORE_NAME: &str = "[[bridge]]\nname = \"pods\"\n[[port]]\nbridge = \"pods\"\ninterface = ";

/// `count` static entries on one port, beside at most `fdb_entries` learned ones.
fn with_statics(fdb_entries: u32, count: u32) -> Result<Config, ConfigErrors> {
    let mut text = format!(
        "[switch]\nfdb_entries = {fdb_entries}\n[[bridge]]\nname = \"pods\"\n[[port]]\ninterface = \"web0\"\n\
         bridge = \"pods\"\n"
    );
    for number in 0..count {
        let [a, b, c, d] = number.to_be_bytes();
        let mac = format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}");
        text.push_str(&format!("[[fdb]]\nmac = \"{mac}\"\nbridge = \"pods\"\nport = \"web0\"\n"));
    }
    parse(&text)
}

#[test]
fn static_entries_for_which_the_table_has_no_room_are_refused() {
    for (fdb_entries, limit) in [(1, 8_192), (65_536, 8_192), (80_000, 10_000)] {
        assert_eq!(with_statics(fdb_entries, limit).unwrap().fdb.len(), limit as usize);
        assert_eq!(
            with_statics(fdb_entries, limit + 1).unwrap_err().to_string(),
            format!(
                "t.toml:2:1: switch: {} static entries are more than the {limit} that stand beside fdb_entries = \
                 {fdb_entries} learned ones; remove some or raise fdb_entries to more than eight times their number",
                limit + 1
            )
        );
    }
}

/// Each text of `table` behind `before` is refused with the given lines (less the file's name).
fn refused(before: &str, table: &[(&str, &str)]) {
    for (text, lines) in table {
        let errors = parse(&format!("{before}{text}")).expect_err(text);
        let expected: Vec<String> = lines.lines().map(|line| format!("t.toml:{line}")).collect();
        assert_eq!(errors.to_string(), expected.join("\n"), "{text}");
    }
}

#[test]
fn bad_shapes_switch_tables_and_bridges_are_refused() {
    refused("", FILE);
}

#[test]
fn bad_ports_are_refused() {
    refused(BEFORE_PORT, PORT);
}

#[test]
fn bad_interface_names_are_refused() {
    refused(BEFORE_NAME, NAME);
}

#[test]
fn bad_static_entries_are_refused() {
    refused(BEFORE_FDB, FDB);
}

fn ports(count: usize, frames: &str) -> String {
    let ports = (0..count).map(|n| format!("[[port]]\ninterface = \"p{n}\"\nbridge = \"pods\"\n"));
    format!("[switch]\n{frames}\n[[bridge]]\nname = \"pods\"\n{}", ports.collect::<String>())
}

#[test]
fn the_pool_must_hold_the_ports() {
    assert_eq!(
        parse(&ports(9, "frames = 1151")).unwrap_err().to_string(),
        "t.toml:2:1: switch: \"frames\" is 1151, too few for 9 ports; set frames = 1152 or more"
    );
    assert_eq!(parse(&ports(9, "frames = 1152")).unwrap().switch.frames, 1152);
    assert_eq!(parse(&ports(128, "")).unwrap().switch.frames, 16_384);
    assert_eq!(parse(&ports(129, "")).unwrap().switch.frames, 129 * 128, "the default grows with the ports");
}

#[test]
fn the_switch_has_room_for_so_many_ports_and_bridges() {
    assert!(parse(&ports(PORTS_MAX, "")).is_ok());
    assert_eq!(
        parse(&ports(PORTS_MAX + 1, "")).unwrap_err().to_string(),
        "t.toml:3077:1: port \"p1024\": 1025 ports are too many; a switch has at most 1024"
    );
    let bridges = |count: usize| (0..count).map(|n| format!("[[bridge]]\nname = \"b{n}\"\n")).collect::<String>();
    assert!(parse(&bridges(DOMAINS_MAX)).is_ok());
    assert_eq!(
        parse(&bridges(DOMAINS_MAX + 1)).unwrap_err().to_string(),
        "t.toml:8189:1: bridge \"b4094\": 4095 bridges are too many; a switch has at most 4094"
    );
}

#[test]
fn a_text_full_of_errors_is_refused_soon() {
    let bridges: String = (0..DOMAINS_MAX).map(|n| format!("[[bridge]]\nname = \"bridge-{n}\"\n")).collect();
    let ports: String = (0..50_000).map(|n| format!("[[port]]\ninterface = \"p{n}\"\nbridge = \"x{n}\"\n")).collect();
    let errors = parse(&(bridges + &ports)).unwrap_err();
    assert!((1_000..1_010).contains(&errors.all().len()), "{}", errors.all().len());
    assert!(errors.to_string().lines().count() == 21);
}

/// Whole files.
const FILE: &[(&str, &str)] = &[
    ("[switch", "1:8: not valid TOML: unclosed table, expected `]`"),
    ("frames = 1\nframes = 2", "2:1: not valid TOML: duplicate key, at \"frames\""),
    ("[switch]\nframes = 2000\nframes = 2000", "3:1: not valid TOML: duplicate key, at \"frames\""),
    ("[swich]\n", "1:2: unknown key \"swich\" (did you mean \"switch\"?)"),
    ("[[switch]]\n", "1:3: \"switch\" is a list; write one table, [switch] in single brackets"),
    ("switch = 3", "1:1: \"switch\" is an integer; write one table, [switch] in single brackets"),
    ("[bridge]\nname = \"a\"", "1:2: \"bridge\" is a table; write a list of tables, [[bridge]] in double brackets"),
    ("bridge = [1]", "1:1: \"bridge\" is an integer; write a list of tables, [[bridge]] in double brackets"),
    (
        "[switch]\ncontrol_socket = 3",
        "2:1: switch: \"control_socket\" is an integer; write a string, like \"/run/switchd/control.sock\"",
    ),
    (
        "[switch]\ncontrol_socket = \"run/x\"",
        "2:1: switch: \"control_socket\" is \"run/x\"; write an absolute path of at most 107 bytes, like \
            /run/switchd/control.sock",
    ),
    (
        "[switch]\ncontrol_socket = \"/run/\"",
        "2:1: switch: \"control_socket\" is \"/run/\"; write an absolute path of at most 107 bytes, like \
            /run/switchd/control.sock",
    ),
    (
        "[switch]\ncontrol_group = \"a b\"",
        "2:1: switch: \"control_group\" is \"a b\"; write the name or number of a group, like \"netdev\"",
    ),
    ("[switch]\ncontrol_group = true", "2:1: switch: \"control_group\" is a boolean; write a string, like \"netdev\""),
    ("[switch]\nworkers = 2", "2:1: switch: \"workers\" is an integer; write a list of core numbers, like [0, 1]"),
    ("[switch]\nworkers = [\"a\"]", "2:1: switch: \"workers\" is a string; write a list of core numbers, like [0, 1]"),
    ("[switch]\nworkers = []", "2:1: switch: \"workers\" is empty; name at least one core, like workers = [0]"),
    ("[switch]\nworkers = [1, 0, 1]", "2:1: switch: \"workers\" names core 1 twice; name each core once"),
    ("[switch]\nworkers = [-1]", "2:1: switch: \"workers\" is -1; write a number from 0 to 65535"),
    (
        "[switch]\nworkers = [0, 7]",
        "2:1: switch: \"workers\" names core 7, which does not exist or is not allowed here; choose from 0-1, 4",
    ),
    (
        "[switch]\nworkers = [0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]",
        "2:1: switch: \"workers\" names 17 cores; name at most 16",
    ),
    (
        "[switch]\nframes = \"16384\"",
        "2:1: switch: \"frames\" is a string; write an integer, without quotes or a point",
    ),
    ("[switch]\nframes = 1000", "2:1: switch: \"frames\" is 1000; write a number from 1024 to 2097152"),
    (
        "[switch]\nframes = 99999999999999999999999999999999",
        "2:1: switch: \"frames\" is 99999999999999999999...; write a number from 1024 to 2097152",
    ),
    (
        "[switch]\npoll = \"fast\"",
        "2:1: switch: \"poll\" is \"fast\"; write \"adaptive\" (sleep when idle) or \"spin\" (never sleep)",
    ),
    (
        "[switch]\nresume_latency_us = \"of\"",
        "2:1: switch: \"resume_latency_us\" has \"of\"; write \"auto\", \"off\", or a number of microseconds without \
            quotes",
    ),
    (
        "[switch]\nresume_latency_us = false",
        "2:1: switch: \"resume_latency_us\" is a boolean; write \"auto\", \"off\", or a number of microseconds without \
            quotes",
    ),
    (
        "[switch]\nresume_latency_us = 1000001",
        "2:1: switch: \"resume_latency_us\" is 1000001; write a number from 0 to 1000000",
    ),
    ("[switch]\npoll = 1.5", "2:1: switch: \"poll\" is a float; write a string, \"adaptive\" or \"spin\""),
    (
        "[switch]\nstate_dir = \"lib\"",
        "2:1: switch: \"state_dir\" is \"lib\"; write the absolute path of a directory, like /var/lib/switchd",
    ),
    ("[switch]\nfdb_entries = 0", "2:1: switch: \"fdb_entries\" is 0; write a number from 1 to 1048576"),
    ("[switch]\nfdb_entries = 1048577", "2:1: switch: \"fdb_entries\" is 1048577; write a number from 1 to 1048576"),
    ("[switch]\nworker = [0]", "2:1: switch: unknown key \"worker\" (did you mean \"workers\"?)"),
    ("[[bridge]]\n", "1:1: bridge number 1: \"name\" is missing; add name = \"pods\""),
    ("[[bridge]]\nname = 4", "2:1: bridge number 1: \"name\" is an integer; write a string, like \"pods\""),
    ("[[bridge]]\nname = \"\"", "2:1: bridge \"\": \"name\" is \"\"; use 1 to 63 letters, digits, '.', '_' or '-'"),
    (
        "[[bridge]]\nname = \"a b\\n\"",
        "2:1: bridge \"a b\\n\": \"name\" is \"a b\\n\"; use 1 to 63 letters, digits, '.', '_' or '-'",
    ),
    (
        "[[bridge]]\nname = \"a\"\n\n[[bridge]]\nname = \"a\"",
        "5:1: bridge \"a\": the name is taken by the bridge at line 1; give each bridge a name of its own",
    ),
    (
        "[[bridge]]\nname = \"a\"\nageing_seconds = 9",
        "3:1: bridge \"a\": \"ageing_seconds\" is 9; write a number from 10 to 1000000",
    ),
    (
        "[[bridge]]\nname = \"a\"\nageing_seconds = -300",
        "3:1: bridge \"a\": \"ageing_seconds\" is -300; write a number from 10 to 1000000",
    ),
    (
        "[[bridge]]\nname = \"a\"\nageing = 300",
        "3:1: bridge \"a\": unknown key \"ageing\" (known keys: \"name\", \"ageing_seconds\", \"vrf\", \"gateway\", \
            \"gateway_mac\", \"mtu\", \"proxy_arp\", \"suppress\", \"redirects\", \"clamp_mss\", ...)",
    ),
    ("[[port]]\nbridge = \"a\"", "1:1: port number 1: \"interface\" is missing; add interface = \"web0\""),
    ("[[port]]\ninterface = [\"web0\"]", "2:1: port number 1: \"interface\" is a list; write a string, like \"web0\""),
    (
        "[[port]]\ninterface = \"web0\"",
        "1:1: port \"web0\": is in no bridge; add bridge = \"NAME\" (access port) or trunk = { VLAN = \"NAME\" }",
    ),
    (
        "[[port]]\ninterface = \"web0\"\nbridge = \"pods\"",
        "3:1: port \"web0\": \"bridge\" names bridge \"pods\", which does not exist; there is no bridge yet, \
            add a [[bridge]]",
    ),
    (
        "[[bridge]]\nname = \"pods\"\n[[port]]\ninterface = \"web0\"\nbridge = \"pod\"",
        "5:1: port \"web0\": \"bridge\" names bridge \"pod\", which does not exist; did you mean \"pods\"?",
    ),
    (
        "[[bridge]]\nname = \"pods\"\n[[port]]\n interface = \"web0\"\n  brige = \"pods\"",
        "5:3: port \"web0\": unknown key \"brige\" (did you mean \"bridge\"?)",
    ),
    (
        "[[bridge]]\nname = \"pods\"\n[[port]]\ninterface = \"web0\"\ntrunk = { 10 = \"pods\", 0 = \"x\" }",
        "5:24: port \"web0\": \"trunk\" has VLAN \"0\"; 0 marks a frame without a VLAN: use bridge = \"NAME\" \
            for those, and 1 to 4094 in a trunk\n5:24: port \"web0\": \"trunk\" names bridge \"x\", which \
            does not exist; known bridges: \"pods\"",
    ),
    (
        "[[port]]\ninterface = \"web0\"\nbridge = 7",
        "3:1: port \"web0\": \"bridge\" is an integer; write a string, like \"pods\"",
    ),
    ("[switch.pool]\nframes = 1", "1:9: switch: unknown key \"pool\" (did you mean \"poll\"?)"),
    (
        "[switch]\nfrmaes = 1\npoll = 3\n[[port]]\nbridge = \"pods\"\n",
        "2:1: switch: unknown key \"frmaes\" (did you mean \"frames\"?)\n3:1: switch: \"poll\" is an integer; \
            write a string, \"adaptive\" or \"spin\"\n4:1: port number 1: \"interface\" is missing; add \
            interface = \"web0\"",
    ),
    ("\"a\\nb\" = 1", "1:1: unknown key \"a\\nb\" (known keys: \"switch\", \"bridge\", \"port\", \"fdb\", \"route\")"),
];

/// Ports, from line 7 on.
const PORT: &[(&str, &str)] = &[
    ("bridge = 7", "7:1: port \"web0\": \"bridge\" is an integer; write a string, like \"pods\""),
    (
        "trunk = 10",
        "7:1: port \"web0\": \"trunk\" is an integer; write a table of VLAN ids, like { 10 = \"blue\", 20 = \
            \"green\" }",
    ),
    ("trunk = { }", "7:1: port \"web0\": \"trunk\" is empty; write trunk = { 10 = \"NAME\" }, or leave it out"),
    ("trunk = { 10 = 4 }", "7:11: port \"web0\": \"trunk.10\" is an integer; write a string, the bridge's name"),
    (
        "trunk = { 4095 = \"pods\" }",
        "7:11: port \"web0\": \"trunk\" has VLAN \"4095\"; 4095 is reserved: choose from 1 to 4094",
    ),
    (
        "trunk = { 4096 = \"pods\" }",
        "7:11: port \"web0\": \"trunk\" has VLAN \"4096\"; VLAN ids are plain numbers from 1 to 4094",
    ),
    (
        "trunk = { 70000 = \"pods\" }",
        "7:11: port \"web0\": \"trunk\" has VLAN \"70000\"; VLAN ids are plain numbers from 1 to 4094",
    ),
    (
        "trunk = { ten = \"pods\" }",
        "7:11: port \"web0\": \"trunk\" has VLAN \"ten\"; VLAN ids are plain numbers from 1 to 4094",
    ),
    (
        "trunk = { 010 = \"pods\" }",
        "7:11: port \"web0\": \"trunk\" has VLAN \"010\"; VLAN ids are plain numbers from 1 to 4094",
    ),
    (
        "trunk = { -1 = \"pods\" }",
        "7:11: port \"web0\": \"trunk\" has VLAN \"-1\"; VLAN ids are plain numbers from 1 to 4094",
    ),
    ("trunk = { 1.5 = \"pods\" }", "7:11: port \"web0\": \"trunk.1\" is a table; write a string, the bridge's name"),
    (
        "trunk = { 10 = \"pods\", 20 = \"pods\" }",
        "7:24: port \"web0\": \"trunk\" puts VLAN 10 and VLAN 20 in bridge \"pods\"; a bridge has one VLAN id \
            per port",
    ),
    (
        "bridge = \"pods\"\ntrunk = { 10 = \"blue\", 20 = \"pods\" }",
        "8:24: port \"web0\": bridge \"pods\" has the untagged frames and VLAN 20 of the trunk; take it out of \
            one of \"bridge\" and \"trunk\"",
    ),
    (
        "[port.trunk]\n10 = \"pods\"\n20 = \"green\"",
        "9:1: port \"web0\": \"trunk\" names bridge \"green\", which does not exist; known bridges: \"pods\", \
            \"blue\"",
    ),
    ("bridge = \"pods\"\nlearning = \"yes\"", "8:1: port \"web0\": \"learning\" is a string; write true or false"),
    ("bridge = \"pods\"\nisolated = 1", "8:1: port \"web0\": \"isolated\" is an integer; write true or false"),
    ("bridge = \"pods\"\nflood_unicast = 0.5", "8:1: port \"web0\": \"flood_unicast\" is a float; write true or false"),
    (
        "bridge = \"pods\"\nflood_broadcast = []",
        "8:1: port \"web0\": \"flood_broadcast\" is a list; write true or false",
    ),
    (
        "bridge = \"pods\"\nflood_multicast = 1979-05-27",
        "8:1: port \"web0\": \"flood_multicast\" is a date; write true or false",
    ),
    (
        "bridge = \"pods\"\nmac_limit = 1048577",
        "8:1: port \"web0\": \"mac_limit\" is 1048577; write a number from 0 to 1048576",
    ),
    (
        "bridge = \"pods\"\nmac_limit = \"4\"",
        "8:1: port \"web0\": \"mac_limit\" is a string; write an integer, without quotes or a point",
    ),
    (
        "bridge = \"pods\"\nvlan = 10",
        "8:1: port \"web0\": unknown key \"vlan\" (known keys: \"interface\", \"bridge\", \"trunk\", \
            \"address\", \"vrf\", \"isolated\", \"learning\", \"flood_unicast\", \"flood_broadcast\", \
            \"flood_multicast\", ...)",
    ),
    (
        "bridge = \"pods\"\n\n[[port]]\ninterface = \"web0\"\nbridge = \"blue\"",
        "10:1: port \"web0\": the interface is a port already (line 5, bridge \"pods\"); keep one of the two, \
            and use trunk to put a port in several bridges",
    ),
];

/// Interface names, on line 5.
const NAME: &[(&str, &str)] = &[
    ("\"\"", "5:1: port \"\": \"interface\" is \"\"; write the host end of a veth pair, like \"web0\""),
    ("\"lo\"", "5:1: port \"lo\": \"interface\" is \"lo\"; the loopback interface cannot be a port"),
    ("\"..\"", "5:1: port \"..\": \"interface\" is \"..\"; no interface can be called that"),
    (
        "\"abcdefghijklmnop\"",
        "5:1: port \"abcdefghijklmnop\": \"interface\" is \"abcdefghijklmnop\"; interface names have at most \
            15 bytes",
    ),
    (
        "\"a b\"",
        "5:1: port \"a b\": \"interface\" is \"a b\"; interface names have no spaces, '/', ':' or control \
            characters",
    ),
    (
        "\"a/b\"",
        "5:1: port \"a/b\": \"interface\" is \"a/b\"; interface names have no spaces, '/', ':' or control \
            characters",
    ),
    (
        "\"a:b\"",
        "5:1: port \"a:b\": \"interface\" is \"a:b\"; interface names have no spaces, '/', ':' or control \
            characters",
    ),
    (
        "\"tab\\t\"",
        "5:1: port \"tab\\t\": \"interface\" is \"tab\\t\"; interface names have no spaces, '/', ':' or \
            control characters",
    ),
    ("\"à\"", "5:1: port \"à\": \"interface\" is \"à\"; the kernel takes a byte of this name (0xa0) for a space"),
    (
        "\"a\\nb\"",
        "5:1: port \"a\\nb\": \"interface\" is \"a\\nb\"; interface names have no spaces, '/', ':' or control \
            characters",
    ),
];

/// Static entries, from line 9 on.
const FDB: &[(&str, &str)] = &[
    (
        "",
        "8:1: static entry number 1: \"mac\" is missing; add mac = \"02:42:ac:11:00:02\"\n8:1: static entry \
            number 1: \"bridge\" is missing; add bridge = \"pods\"\n8:1: static entry number 1: \"port\" is \
            missing; add port = \"web0\"",
    ),
    (
        "mac = 1\nbridge = \"pods\"\nport = \"web0\"\n",
        "9:1: static entry number 1: \"mac\" is an integer; write a string, like \"02:42:ac:11:00:02\"",
    ),
    (
        "mac = \"02:00\"\nbridge = \"pods\"\nport = \"web0\"\n",
        "9:1: static entry \"02:00\": \"mac\" is \"02:00\"; write six hex octets, like \"02:42:ac:11:00:02\"",
    ),
    (
        "mac = \"00:00:00:00:00:00\"\nbridge = \"pods\"\nport = \"web0\"\n",
        "9:1: static entry \"00:00:00:00:00:00\": \"mac\" is all zero; a static entry needs the address of one \
            station",
    ),
    (
        "mac = \"ff:ff:ff:ff:ff:ff\"\nbridge = \"pods\"\nport = \"web0\"\n",
        "9:1: static entry \"ff:ff:ff:ff:ff:ff\": \"mac\" is the broadcast address; a static entry needs the \
            address of one station",
    ),
    (
        "mac = \"01:00:5e:00:00:01\"\nbridge = \"pods\"\nport = \"web0\"\n",
        "9:1: static entry \"01:00:5e:00:00:01\": \"mac\" is a multicast address; a static entry needs the \
            address of one station",
    ),
    (
        "mac = \"02:00:00:00:00:01\"\nbridge = \"blue\"\nport = \"web0\"\n",
        "10:1: static entry \"02:00:00:00:00:01\": port \"web0\" is not in bridge \"blue\"; name a bridge of \
            that port: bridge \"pods\"",
    ),
    (
        "mac = \"02:00:00:00:00:01\"\nbridge = \"blu\"\nport = \"web0\"\n",
        "10:1: static entry \"02:00:00:00:00:01\": \"bridge\" names bridge \"blu\", which does not exist; did \
            you mean \"blue\"?",
    ),
    (
        "mac = \"02:00:00:00:00:01\"\nbridge = \"pods\"\nport = \"web1\"\n",
        "11:1: static entry \"02:00:00:00:00:01\": \"port\" names \"web1\", which is no port; did you mean \
            \"web0\"?",
    ),
    (
        "mac = \"02:00:00:00:00:01\"\nbridge = \"pods\"\nport = \"web0\"\nsticky = 1",
        "12:1: static entry \"02:00:00:00:00:01\": \"sticky\" is an integer; write true or false",
    ),
    (
        "mac = \"02:00:00:00:00:01\"\nbridge = \"pods\"\nport = \"web0\"\nvlan = 1",
        "12:1: static entry \"02:00:00:00:00:01\": unknown key \"vlan\" (known keys: \"mac\", \"bridge\", \
            \"port\", \"sticky\")",
    ),
    (
        "mac = \"02:00:00:00:00:01\"\nbridge = \"pods\"\nport = \"web0\"\n[[fdb]]\nmac = \
            \"02:00:00:00:00:01\"\nbridge = \"pods\"\nport = \"web0\"",
        "13:1: static entry \"02:00:00:00:00:01\": the address is set for bridge \"pods\" at line 8 already; \
            keep one of the two",
    ),
];
