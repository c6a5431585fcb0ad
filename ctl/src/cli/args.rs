//! The command line as types: clap reads it, [`Command::request`] turns it into what is sent.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args as Group, Parser, Subcommand};
use clap_complete::Shell;
use ctl::mac::Mac;
use ctl::protocol::{AddFdb, AddPort, DelFdb, FdbFilter, FdbFlush, PortSettings, Request, SOCKET_DEFAULT};

pub use routing::Routing;

mod routing;

/// Shortest pause of `--watch`, in seconds: what a control socket answers without being noticed.
const WATCH_MIN: f64 = 0.1;

/// Longest pause of `--watch`: a day.
const WATCH_MAX: f64 = 86_400.0;

/// Look at and change a running switchd.
#[derive(Debug, Parser)]
#[command(name = "switchctl", version, subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    /// Control socket of switchd.
    #[arg(long, global = true, value_name = "PATH", env = "SWITCHD_SOCKET", default_value = SOCKET_DEFAULT)]
    pub socket: PathBuf,
    /// Print JSON instead of tables.
    #[arg(long, global = true)]
    pub json: bool,
    /// Repeat a show command until interrupted, every second or every SECONDS, with rates.
    #[arg(
        long, short, global = true, value_name = "SECONDS", value_parser = seconds,
        num_args = 0..=1, require_equals = true, default_missing_value = "1"
    )]
    pub watch: Option<f64>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Every command of switchctl.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// List learned and static addresses.
    ShowFdb {
        #[command(flatten)]
        place: Place,
        /// Learned addresses only.
        #[arg(long)]
        dynamic: bool,
    },
    /// List ports with their state and counters; with --port, everything about one.
    ShowPorts {
        /// Only this interface, in detail.
        #[arg(long, value_name = "INTERFACE")]
        port: Option<String>,
    },
    /// List bridge domains.
    ShowBridges,
    /// List workers and how busy they are.
    ShowWorkers,
    /// List why frames were dropped, and what to do about it.
    ShowDrops {
        /// Only drops charged to this interface.
        #[arg(long, value_name = "INTERFACE")]
        port: Option<String>,
        /// Reasons that never occurred, too.
        #[arg(long)]
        all: bool,
    },
    /// Print the configuration in force, as TOML.
    ShowConfig,
    /// Attach a port; its interface may appear later.
    AddPort {
        /// Interface name, the host end of the veth.
        interface: String,
        /// Bridge of untagged frames.
        #[arg(long, value_name = "NAME")]
        bridge: Option<String>,
        /// Carry tagged frames of VLAN in this bridge; once for each VLAN.
        #[arg(long, value_name = "VLAN=BRIDGE", value_parser = trunk_member)]
        trunk: Vec<(u16, String)>,
        /// Make it a routed port, in no bridge, with this address of the router; once for each address.
        #[arg(long, value_name = "IP/LEN")]
        address: Vec<String>,
        /// Routing table of a routed port; the default one unless named.
        #[arg(long, value_name = "NAME")]
        vrf: Option<String>,
        #[command(flatten)]
        settings: Settings,
    },
    /// Detach a port and forget its addresses.
    DelPort {
        /// Interface name.
        interface: String,
    },
    /// Change switches of a port; what is not named stays.
    SetPort {
        /// Interface name.
        interface: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// Add a static address.
    AddFdb {
        /// MAC address, like 02:42:ac:11:00:02.
        mac: Mac,
        /// Port the station is behind.
        #[arg(long, value_name = "INTERFACE")]
        port: String,
        /// Bridge, where the port is in several.
        #[arg(long, value_name = "NAME")]
        bridge: Option<String>,
        /// VLAN, where the port carries several; 0 for untagged.
        #[arg(long, value_name = "ID")]
        vlan: Option<u16>,
        /// Mark the entry sticky.
        #[arg(long)]
        sticky: bool,
    },
    /// Remove one address.
    DelFdb {
        /// MAC address.
        mac: Mac,
        #[command(flatten)]
        place: Place,
    },
    /// Forget learned addresses, all or those that match.
    FlushFdb {
        #[command(flatten)]
        place: Place,
        /// Learned addresses only: what happens anyway.
        #[arg(long, conflicts_with = "include_static")]
        dynamic: bool,
        /// Static and sticky addresses too.
        #[arg(long = "static")]
        include_static: bool,
    },
    #[command(flatten)]
    Routing(Routing),
    /// Read the configuration file again and apply what changed.
    ///
    /// The running configuration becomes equal to the file. Ports, static addresses and routes that were added at
    /// run time and are not in the file are removed, and named in the answer (routes are counted); what is in both and
    /// equal is not touched. Of a file with a mistake, nothing is applied.
    Reload,
    /// End switchd cleanly.
    Shutdown,
    /// Say which switchd answers.
    Version,
    /// Print the completion script of a shell.
    Completions {
        /// Shell to complete for.
        shell: Shell,
    },
}

/// Where an address is.
#[derive(Clone, Debug, Group)]
pub struct Place {
    /// In this bridge.
    #[arg(long, value_name = "NAME")]
    bridge: Option<String>,
    /// Behind this port.
    #[arg(long, value_name = "INTERFACE")]
    port: Option<String>,
    /// In this VLAN of its port; 0 for untagged.
    #[arg(long, value_name = "ID")]
    vlan: Option<u16>,
}

/// Switches of a port.
#[derive(Clone, Debug, Group)]
pub struct Settings {
    /// No frames to or from other isolated ports.
    #[arg(long, value_name = "on|off", value_parser = on_off)]
    isolated: Option<bool>,
    /// Learn source addresses.
    #[arg(long, value_name = "on|off", value_parser = on_off)]
    learning: Option<bool>,
    /// Send frames for unknown stations out of this port.
    #[arg(long, value_name = "on|off", value_parser = on_off)]
    flood_unicast: Option<bool>,
    /// Send broadcast frames out of this port.
    #[arg(long, value_name = "on|off", value_parser = on_off)]
    flood_broadcast: Option<bool>,
    /// Send multicast frames out of this port.
    #[arg(long, value_name = "on|off", value_parser = on_off)]
    flood_multicast: Option<bool>,
    /// Most learned addresses on this port; 0 for no limit.
    #[arg(long, value_name = "COUNT")]
    mac_limit: Option<u32>,
}

impl From<&Settings> for PortSettings {
    fn from(s: &Settings) -> PortSettings {
        PortSettings {
            isolated: s.isolated,
            learning: s.learning,
            flood_unicast: s.flood_unicast,
            flood_broadcast: s.flood_broadcast,
            flood_multicast: s.flood_multicast,
            mac_limit: s.mac_limit,
        }
    }
}

impl Command {
    /// Counters at zero are wanted too.
    pub fn shows_all(&self) -> bool {
        matches!(self, Command::ShowDrops { all: true, .. })
    }

    /// One port was named, so there is room for everything about it.
    pub fn shows_one_port(&self) -> bool {
        matches!(self, Command::ShowPorts { port: Some(_) })
    }

    /// The request to send. Completions, which need no switch, ask for its version.
    pub fn request(&self) -> Request {
        match self.clone() {
            Command::ShowFdb { place: Place { bridge, port, vlan }, dynamic } => {
                Request::ShowFdb(FdbFilter { bridge, port, vlan, dynamic })
            }
            Command::ShowPorts { port } => Request::ShowPorts { port },
            Command::ShowBridges => Request::ShowBridges {},
            Command::ShowWorkers => Request::ShowWorkers {},
            Command::ShowDrops { port, .. } => Request::ShowDrops { port },
            Command::ShowConfig => Request::ShowConfig {},
            Command::AddPort { interface, bridge, trunk, address, vrf, settings } => {
                let trunk = trunk.into_iter().collect();
                Request::AddPort(AddPort { interface, bridge, trunk, address, vrf, settings: (&settings).into() })
            }
            Command::DelPort { interface } => Request::DelPort { port: interface },
            Command::SetPort { interface, settings } => {
                Request::SetPort { port: interface, settings: (&settings).into() }
            }
            Command::AddFdb { mac, port, bridge, vlan, sticky } => {
                Request::AddFdb(AddFdb { mac, port, bridge, vlan, sticky })
            }
            Command::DelFdb { mac, place: Place { bridge, port, vlan } } => {
                Request::DelFdb(DelFdb { mac, bridge, port, vlan })
            }
            Command::FlushFdb { place: Place { bridge, port, vlan }, include_static, .. } => {
                Request::FlushFdb(FdbFlush { bridge, port, vlan, include_static })
            }
            Command::Routing(routing) => routing.request(),
            Command::Reload => Request::Reload {},
            Command::Shutdown => Request::Shutdown {},
            Command::Version | Command::Completions { .. } => Request::Version {},
        }
    }
}

/// `on` or `off`, and the words the configuration file uses.
fn on_off(text: &str) -> Result<bool, String> {
    match text {
        "on" | "true" => Ok(true),
        "off" | "false" => Ok(false),
        _ => Err("write on or off".to_owned()),
    }
}

fn trunk_member(text: &str) -> Result<(u16, String), String> {
    let parts = text.split_once('=').and_then(|(vlan, bridge)| Some((vlan.parse().ok()?, bridge.to_owned())));
    parts.ok_or_else(|| "write VLAN=BRIDGE, like 10=blue".to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|s| (WATCH_MIN..=WATCH_MAX).contains(s));
    value.ok_or_else(|| format!("write seconds, {WATCH_MIN} to {WATCH_MAX}"))
}

/// Lets `--watch 2` mean `--watch=2` without letting `--watch show-ports` take the command for a number.
pub fn join_watch(words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut joined: Vec<OsString> = Vec::new();
    for word in words {
        let number = word.to_str().is_some_and(|w| w.parse::<f64>().is_ok());
        match joined.last_mut() {
            Some(last) if number && (last == "--watch" || last == "-w") => {
                last.push("=");
                last.push(word);
            }
            _ => joined.push(word),
        }
    }
    joined
}

/// clap's message without its usage text, in one line.
pub fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let cut = text.find("\n\nUsage:").or_else(|| text.find("\n\nFor more information")).unwrap_or(text.len());
    let words: Vec<&str> = text[..cut].split_whitespace().collect();
    format!("{}; see switchctl --help", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        let words = std::iter::once("switchctl").chain(line.split_whitespace()).map(OsString::from);
        Args::try_parse_from(join_watch(words))
    }

    fn request(line: &str) -> serde_json::Value {
        serde_json::to_value(parse(line).unwrap().command.request()).unwrap()
    }

    #[test]
    fn the_declaration_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_command_becomes_its_request() {
        let table = [
            ("show-fdb", r#"{"show-fdb":{}}"#),
            (
                "show-fdb --bridge pods --port web0 --vlan 10 --dynamic",
                r#"{"show-fdb":{"bridge":"pods","port":"web0","vlan":10,"dynamic":true}}"#,
            ),
            ("show-ports", r#"{"show-ports":{}}"#),
            ("show-ports --port web0", r#"{"show-ports":{"port":"web0"}}"#),
            ("show-bridges", r#"{"show-bridges":{}}"#),
            ("show-workers", r#"{"show-workers":{}}"#),
            ("show-drops --all --port a", r#"{"show-drops":{"port":"a"}}"#),
            ("show-config", r#"{"show-config":{}}"#),
            ("add-port web0 --bridge pods", r#"{"add-port":{"interface":"web0","bridge":"pods"}}"#),
            (
                "add-port up0 --trunk 10=blue --trunk 20=green --isolated on",
                r#"{"add-port":{"interface":"up0","trunk":{"10":"blue","20":"green"},"settings":{"isolated":true}}}"#,
            ),
            ("del-port web0", r#"{"del-port":{"port":"web0"}}"#),
            (
                "set-port web0 --learning off --flood-unicast off --flood-broadcast on --flood-multicast on --mac-limit 9",
                r#"{"set-port":{"port":"web0","settings":{"learning":false,"flood_unicast":false,
                   "flood_broadcast":true,"flood_multicast":true,"mac_limit":9}}}"#,
            ),
            (
                "add-fdb 02:00:00:00:00:01 --port web0 --vlan 0 --sticky",
                r#"{"add-fdb":{"mac":"02:00:00:00:00:01","port":"web0","vlan":0,"sticky":true}}"#,
            ),
            ("del-fdb 02:00:00:00:00:01 --bridge pods", r#"{"del-fdb":{"mac":"02:00:00:00:00:01","bridge":"pods"}}"#),
            ("flush-fdb --dynamic --port web0", r#"{"flush-fdb":{"port":"web0"}}"#),
            ("flush-fdb --static", r#"{"flush-fdb":{"include_static":true}}"#),
            (
                "show-routes --vrf blue --prefix 10.0.0.0/8 --via 10.0.0.1 --type unicast -4",
                r#"{"show-routes":{"vrf":"blue","prefix":"10.0.0.0/8","via":"10.0.0.1","type":"unicast","family":4}}"#,
            ),
            ("show-routes -6", r#"{"show-routes":{"family":6}}"#),
            ("route-get 10.0.0.1", r#"{"route-get":{"to":"10.0.0.1"}}"#),
            (
                "route-get fd00::1 --from fd00::2 --tcp 1000:80 --vrf blue",
                r#"{"route-get":{"to":"fd00::1","vrf":"blue","from":"fd00::2","flow":{"protocol":6,"sport":1000,"dport":80}}}"#,
            ),
            (
                "add-route 10.9.0.0/16 --via 10.0.0.1,10.0.0.2*3 --dev pods --vrf blue",
                r#"{"add-route":{"to":"10.9.0.0/16","via":[{"to":"10.0.0.1"},{"to":"10.0.0.2","weight":3}],
                   "interface":"pods","vrf":"blue"}}"#,
            ),
            ("add-route ::/0 --type blackhole", r#"{"add-route":{"to":"::/0","type":"blackhole"}}"#),
            ("del-route 10.9.0.0/16 --vrf blue", r#"{"del-route":{"to":"10.9.0.0/16","vrf":"blue"}}"#),
            ("show-neigh --bridge pods --state stale", r#"{"show-neigh":{"bridge":"pods","state":"stale"}}"#),
            (
                "add-neigh 10.0.0.9 02:00:00:00:00:01 --bridge pods",
                r#"{"add-neigh":{"address":"10.0.0.9","mac":"02:00:00:00:00:01","bridge":"pods"}}"#,
            ),
            ("del-neigh 10.0.0.9", r#"{"del-neigh":{"address":"10.0.0.9"}}"#),
            ("flush-neigh --bridge pods", r#"{"flush-neigh":{"bridge":"pods"}}"#),
            ("show-host", r#"{"show-host":{}}"#),
            ("show-dhcp", r#"{"show-dhcp":{}}"#),
            (
                "add-port up0 --address 10.0.0.1/30 --vrf blue",
                r#"{"add-port":{"interface":"up0","address":["10.0.0.1/30"],"vrf":"blue"}}"#,
            ),
            ("reload", r#"{"reload":{}}"#),
            ("shutdown", r#"{"shutdown":{}}"#),
            ("version", r#"{"version":{}}"#),
        ];
        for (line, expected) in table {
            assert_eq!(request(line), serde_json::from_str::<serde_json::Value>(expected).unwrap(), "{line}");
        }
    }

    #[test]
    fn global_flags_stand_before_and_after_the_command() {
        for line in [
            "--json --socket /x --watch 2 show-ports",
            "show-ports --json --socket /x --watch=2",
            "show-ports -w 2 --json --socket=/x",
        ] {
            let args = parse(line).unwrap();
            assert_eq!((args.json, args.socket.to_str(), args.watch), (true, Some("/x"), Some(2.0)), "{line}");
        }
        assert_eq!(parse("--watch show-ports").unwrap().watch, Some(1.0));
        assert_eq!(parse("show-ports --watch").unwrap().watch, Some(1.0));
        assert_eq!(parse("show-ports").unwrap().watch, None);
    }

    #[test]
    fn wrong_usage_is_one_line_that_names_the_mistake() {
        let table = [
            ("show-fdb --brige x", "unexpected argument '--brige' found tip: a similar argument exists: '--bridge'"),
            ("dance", "unrecognized subcommand 'dance'"),
            ("add-fdb zz --port a", "'zz' is not a MAC address"),
            ("add-fdb 02:00:00:00:00:01", "--port <INTERFACE>"),
            ("set-port a --isolated maybe", "write on or off"),
            ("add-port a --trunk blue", "write VLAN=BRIDGE"),
            ("show-ports --watch 0", "write seconds"),
            ("flush-fdb --dynamic --static", "cannot be used with"),
            ("show-routes -4 -6", "cannot be used with"),
            ("add-route 10.0.0.0/8 --via x", "write an IP address, or ADDRESS*WEIGHT"),
            ("route-get 10.0.0.1 --tcp 1:2", "--from"),
            ("show-neigh --state tired", "write one of incomplete, reachable"),
        ];
        for (line, words) in table {
            let text = one_line(&parse(line).unwrap_err());
            assert!(text.contains(words) && !text.contains('\n') && !text.contains("Usage"), "{line}: {text}");
        }
    }
}
