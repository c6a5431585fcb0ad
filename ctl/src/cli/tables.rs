//! Listings as text: which columns, which footer. Items in, lines out; nothing here talks to a switch.

use std::io::{self, Write};
use std::time::Instant;

use ctl::protocol::{BridgeStatus, Done, DropStatus, FdbEntry, FdbKind, WorkerState, WorkerStatus};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::columns::Align::{Left, Right};
use super::columns::Columns;

mod config;
mod host;
mod ports;
mod routes;

pub use config::{config_json, config_toml, version_text};
pub use routes::RouteLines;

/// What the user asked to see of a listing.
#[derive(Clone, Copy, Debug, Default)]
pub struct View {
    /// Counters at zero, too.
    pub all: bool,
    /// Everything about each item, not a row.
    pub detail: bool,
}

/// The listing before this one, for rates.
pub struct Before<T> {
    /// What it listed.
    pub items: Vec<T>,
    /// When it was asked for.
    pub at: Instant,
    /// Seconds from it to this one.
    pub seconds: f64,
}

/// Something a show command lists.
pub trait Listing: Serialize + DeserializeOwned {
    /// Writes `items` as text; with `before`, counters as rates.
    fn text(
        items: &[Self],
        before: Option<&Before<Self>>,
        done: &Done,
        view: View,
        out: &mut dyn Write,
    ) -> io::Result<()>;

    /// Fills in the rates that are part of an item.
    fn set_rates(_items: &mut [Self], _before: &Before<Self>) {}

    /// Writes `items` as JSON in one line, without its end.
    fn json_line(items: &[Self], out: &mut dyn Write) -> serde_json::Result<()> {
        serde_json::to_writer(out, items)
    }
}

/// Growth of a counter, per second. A counter that fell started anew: its switch did.
fn rate(now: u64, before: u64, seconds: f64) -> f64 {
    let grown = now.checked_sub(before).unwrap_or(now);
    if seconds > 0.0 { grown as f64 / seconds } else { 0.0 }
}

/// A rate as a whole number: what a person compares.
fn rate_cell(now: u64, before: Option<u64>, seconds: f64) -> String {
    before.map_or_else(|| "-".to_owned(), |before| format!("{:.0}", rate(now, before, seconds)))
}

/// `1 port`, `2 ports`, `3 entries`.
fn count_of(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// The forwarding table, row by row.
pub struct FdbTable {
    columns: Columns,
    entries: u64,
    dynamic: u64,
}

impl FdbTable {
    /// A table without entries.
    pub fn new() -> FdbTable {
        let heads = [("PORT", Left), ("VLAN", Right), ("MAC", Left), ("AGE", Right), ("TYPE", Left), ("BRIDGE", Left)];
        FdbTable { columns: Columns::new(&heads), entries: 0, dynamic: 0 }
    }

    /// Adds an entry.
    pub fn push(&mut self, entry: &FdbEntry, out: &mut dyn Write) -> io::Result<()> {
        self.entries += 1;
        self.dynamic += u64::from(entry.kind == FdbKind::Dynamic);
        let (kind, ages) = match entry.kind {
            FdbKind::Dynamic => ("dynamic", true),
            FdbKind::Static if entry.sticky => ("sticky", false),
            FdbKind::Static => ("static", false),
            FdbKind::Local => ("local", false),
        };
        let row = vec![
            entry.port.clone(),
            if entry.vlan == 0 { "-".to_owned() } else { entry.vlan.to_string() },
            entry.mac.to_string(),
            if ages { entry.age_seconds.to_string() } else { "-".to_owned() },
            if entry.waiting { format!("{kind} (waiting)") } else { kind.to_owned() },
            entry.bridge.clone(),
        ];
        self.columns.push(row, out)
    }

    /// Writes what is left and the footer.
    pub fn end(self, done: &Done, out: &mut dyn Write) -> io::Result<()> {
        self.columns.end(out)?;
        let limit = done.limit.map_or_else(String::new, |limit| format!(", limit {limit}"));
        writeln!(out, "{} ({} dynamic{limit})", count_of(self.entries, "entry", "entries"), self.dynamic)
    }
}

impl Listing for FdbEntry {
    fn text(items: &[Self], _: Option<&Before<Self>>, done: &Done, _: View, out: &mut dyn Write) -> io::Result<()> {
        let mut table = FdbTable::new();
        for entry in items {
            table.push(entry, out)?;
        }
        table.end(done, out)
    }
}

impl Listing for BridgeStatus {
    fn text(items: &[Self], before: Option<&Before<Self>>, _: &Done, _: View, out: &mut dyn Write) -> io::Result<()> {
        let mut heads =
            vec![("BRIDGE", Left), ("AGEING", Right), ("LEARNED", Right), ("STATIC", Right), ("LIMIT", Right)];
        heads.extend(match before {
            None => [("AGED", Right), ("FLOOD-UNICAST", Right), ("FLOOD-BROADCAST", Right), ("FLOOD-MULTICAST", Right)],
            Some(_) => [
                ("AGED/S", Right),
                ("FLOOD-UNICAST/S", Right),
                ("FLOOD-BROADCAST/S", Right),
                ("FLOOD-MULTICAST/S", Right),
            ],
        });
        heads.push(("PORTS", Left));
        let mut table = Columns::new(&heads);
        for item in items {
            let old = before.map(|b| (b.items.iter().find(|o| o.name == item.name), b.seconds));
            let counter = |count: fn(&BridgeStatus) -> u64| match old {
                None => count(item).to_string(),
                Some((old, seconds)) => rate_cell(count(item), old.map(count), seconds),
            };
            let row = vec![
                item.name.clone(),
                format!("{} s", item.ageing_seconds),
                item.fdb_learned.to_string(),
                item.fdb_static.to_string(),
                item.fdb_limit.to_string(),
                counter(|b| b.aged),
                counter(|b| b.flooded_unicast),
                counter(|b| b.flooded_broadcast),
                counter(|b| b.flooded_multicast),
                item.ports.join(" "),
            ];
            table.push(row, out)?;
        }
        table.end(out)?;
        writeln!(out, "{}", count_of(items.len() as u64, "bridge", "bridges"))
    }
}

impl Listing for WorkerStatus {
    fn text(items: &[Self], before: Option<&Before<Self>>, _: &Done, _: View, out: &mut dyn Write) -> io::Result<()> {
        let mut heads = vec![
            ("WORKER", Right),
            ("CORE", Right),
            ("POLL", Left),
            ("STATE", Left),
            ("BUSY-%", Right),
            ("IDLE-%", Right),
        ];
        heads.extend(match before {
            None => [("ITERATIONS", Right), ("BUSY", Right), ("SLEEPS", Right)],
            Some(_) => [("ITERATIONS/S", Right), ("BUSY/S", Right), ("SLEEPS/S", Right)],
        });
        heads.push(("PACKETS/BURST", Right));
        heads.extend(match before {
            None => [("RX-PACKETS", Right), ("RX-BYTES", Right), ("TX-PACKETS", Right), ("TX-BYTES", Right)],
            Some(_) => [("RX-PACKETS/S", Right), ("RX-BYTES/S", Right), ("TX-PACKETS/S", Right), ("TX-BYTES/S", Right)],
        });
        heads.push(("PORTS", Left));
        let mut table = Columns::new(&heads);
        for item in items {
            let old = before.map(|b| (b.items.iter().find(|o| o.worker == item.worker), b.seconds));
            let counter = |count: fn(&WorkerStatus) -> u64| match old {
                None => count(item).to_string(),
                Some((old, seconds)) => rate_cell(count(item), old.map(count), seconds),
            };
            let state = match item.state {
                WorkerState::Busy => "busy",
                WorkerState::Idle => "idle",
                WorkerState::Sleeping => "sleeping",
            };
            let row = vec![
                item.worker.to_string(),
                item.core.to_string(),
                item.poll.clone(),
                state.to_owned(),
                format!("{:.1}", item.busy_percent),
                format!("{:.1}", item.idle_percent),
                counter(|w| w.iterations),
                counter(|w| w.busy_iterations),
                counter(|w| w.sleeps),
                format!("{:.1}", item.packets_per_burst),
                counter(|w| w.rx_packets),
                counter(|w| w.rx_bytes),
                counter(|w| w.tx_packets),
                counter(|w| w.tx_bytes),
                item.ports.join(" "),
            ];
            table.push(row, out)?;
        }
        table.end(out)?;
        let resume = items.iter().find_map(|item| item.resume_latency_us);
        let resume = resume.map_or_else(String::new, |us| format!("; idle cores are asked to resume within {us} us"));
        let sharing: Vec<String> =
            items.iter().filter(|item| item.shares_core).map(|item| item.core.to_string()).collect();
        let sharing = if sharing.is_empty() { String::new() } else { format!("; shared: core {}", sharing.join(", ")) };
        writeln!(out, "{}{resume}{sharing}", count_of(items.len() as u64, "worker", "workers"))
    }
}

impl Listing for DropStatus {
    fn text(
        items: &[Self],
        before: Option<&Before<Self>>,
        _: &Done,
        view: View,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let mut heads = vec![("COUNT", Right)];
        if before.is_some() {
            heads.push(("RATE/S", Right));
        }
        heads.extend([("REASON", Left), ("PORT", Left), ("HELP", Left)]);
        let mut table = Columns::new(&heads);
        for item in items.iter().filter(|item| view.all || item.count > 0) {
            let mut row = vec![item.count.to_string()];
            if before.is_some() {
                row.push(item.rate_per_second.map_or_else(|| "-".to_owned(), |r| format!("{r:.0}")));
            }
            row.extend([item.reason.clone(), item.port.clone().unwrap_or_else(|| "-".to_owned()), item.help.clone()]);
            table.push(row, out)?;
        }
        table.end(out)?;
        let total: u64 = items.iter().fold(0, |sum, item| sum.saturating_add(item.count));
        let quiet = items.iter().filter(|item| item.count == 0).count() as u64;
        let hint = if quiet > 0 && !view.all {
            format!("; {} at zero (--all shows them)", count_of(quiet, "counter", "counters"))
        } else {
            String::new()
        };
        writeln!(out, "{} dropped{hint}", count_of(total, "frame", "frames"))
    }

    fn set_rates(items: &mut [Self], before: &Before<Self>) {
        let old: std::collections::HashMap<(&str, Option<&str>), u64> =
            before.items.iter().map(|o| ((o.reason.as_str(), o.port.as_deref()), o.count)).collect();
        for item in items {
            // A counter that was not listed before had not occurred.
            let was = old.get(&(item.reason.as_str(), item.port.as_deref())).copied().unwrap_or(0);
            item.rate_per_second = Some(rate(item.count, was, before.seconds));
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    /// `items` as text; the JSON is what a switch would send.
    pub fn text_of<T: Listing>(items: serde_json::Value, before: Option<serde_json::Value>, view: View) -> String {
        let mut items: Vec<T> = serde_json::from_value(items).unwrap();
        let before =
            before.map(|b| Before { items: serde_json::from_value(b).unwrap(), at: Instant::now(), seconds: 2.0 });
        if let Some(before) = &before {
            T::set_rates(&mut items, before);
        }
        let mut out = Vec::new();
        let done = Done { limit: Some(65536), ..Done::default() };
        T::text(&items, before.as_ref(), &done, view, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn fdb_rows_and_footer() {
        let items = json!([
            {"mac": "02:00:00:00:00:01", "bridge": "pods", "vlan": 0, "port": "web0", "type": "dynamic", "age_seconds": 12},
            {"mac": "02:00:00:00:00:02", "bridge": "blue", "vlan": 10, "port": "up0", "type": "static", "age_seconds": 0},
            {"mac": "02:00:00:00:00:03", "bridge": "blue", "vlan": 10, "port": "up0", "type": "static", "sticky": true,
             "age_seconds": 0},
            {"mac": "02:00:00:00:00:04", "bridge": "pods", "vlan": 0, "port": "web1", "type": "static", "waiting": true,
             "age_seconds": 0}
        ]);
        let expected = "\
PORT  VLAN  MAC                AGE  TYPE              BRIDGE
web0     -  02:00:00:00:00:01   12  dynamic           pods
up0     10  02:00:00:00:00:02    -  static            blue
up0     10  02:00:00:00:00:03    -  sticky            blue
web1     -  02:00:00:00:00:04    -  static (waiting)  pods
4 entries (1 dynamic, limit 65536)
";
        assert_eq!(text_of::<FdbEntry>(items, None, View::default()), expected);
        assert_eq!(text_of::<FdbEntry>(json!([]), None, View::default()), "0 entries (0 dynamic, limit 65536)\n");
    }

    #[test]
    fn bridges_with_counters_and_with_rates() {
        let items = |unicast: u64| {
            json!([{"name": "pods", "ageing_seconds": 300, "ports": ["web0", "up0.10"], "fdb_learned": 2, "fdb_static": 1,
                    "fdb_limit": 65536, "aged": 9, "flooded_unicast": unicast, "flooded_broadcast": 3, "flooded_multicast": 4}])
        };
        assert_eq!(
            text_of::<BridgeStatus>(items(7), None, View::default()),
            "\
BRIDGE  AGEING  LEARNED  STATIC  LIMIT  AGED  FLOOD-UNICAST  FLOOD-BROADCAST  FLOOD-MULTICAST  PORTS
pods     300 s        2       1  65536     9              7                3                4  web0 up0.10
1 bridge
"
        );
        let watched = text_of::<BridgeStatus>(items(107), Some(items(7)), View::default());
        assert!(watched.contains("FLOOD-UNICAST/S") && watched.contains("  50  "), "{watched}");
        let restarted = text_of::<BridgeStatus>(items(10), Some(items(1_000_000)), View::default());
        assert!(restarted.contains("  5  "), "a fallen counter starts anew: {restarted}");
    }

    #[test]
    fn drops_hide_zeros_and_show_rates() {
        let items = |count: u64| {
            json!([{"reason": "own_port", "port": "web0", "count": count, "help": "the station is behind its own port"},
                   {"reason": "runt", "port": null, "count": 0, "help": "shorter than a header"}])
        };
        assert_eq!(
            text_of::<DropStatus>(items(5), None, View::default()),
            "\
COUNT  REASON    PORT  HELP
    5  own_port  web0  the station is behind its own port
5 frames dropped; 1 counter at zero (--all shows them)
"
        );
        assert!(text_of::<DropStatus>(items(5), None, View { all: true, ..View::default() }).contains("runt"));
        let watched = text_of::<DropStatus>(items(25), Some(items(5)), View::default());
        assert!(
            watched.starts_with("COUNT  RATE/S  REASON") && watched.contains("   25      10  own_port"),
            "{watched}"
        );
    }

    #[test]
    fn workers_show_load() {
        let items = json!([{"worker": 0, "core": 3, "poll": "adaptive", "state": "busy", "busy_percent": 84.06,
            "idle_percent": 15.94, "iterations": 1000, "busy_iterations": 800, "sleeps": 2, "packets_per_burst": 14.0,
            "rx_packets": 11200, "rx_bytes": 672000, "tx_packets": 11200, "tx_bytes": 672000, "ports": ["web0", "db0"]}]);
        assert_eq!(
            text_of::<WorkerStatus>(items.clone(), None, View::default()),
            "\
WORKER  CORE  POLL      STATE  BUSY-%  IDLE-%  ITERATIONS  BUSY  SLEEPS  PACKETS/BURST  RX-PACKETS  RX-BYTES  TX-PACKETS  TX-BYTES  PORTS
     0     3  adaptive  busy     84.1    15.9        1000   800       2           14.0       11200    672000       11200    672000  web0 db0
1 worker
"
        );
        let mut awake = items.clone();
        awake[0]["resume_latency_us"] = json!(0);
        let text = text_of::<WorkerStatus>(awake, None, View::default());
        assert!(text.ends_with("\n1 worker; idle cores are asked to resume within 0 us\n"), "{text}");
        let mut shared = items.clone();
        shared[0]["shares_core"] = json!(true);
        let text = text_of::<WorkerStatus>(shared, None, View::default());
        assert!(text.ends_with("\n1 worker; shared: core 3\n"), "{text}");
        assert!(text_of::<WorkerStatus>(items.clone(), Some(items), View::default()).contains("RX-PACKETS/S"));
    }
}
