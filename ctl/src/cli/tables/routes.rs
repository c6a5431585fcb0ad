//! Routes, neighbours and leases as text.

use std::io::{self, Write};

use ctl::protocol::{Done, LeaseEntry, NeighEntry, RouteAnswer, RouteEntry, RouteHop, RouteNeighbour, RouteType};

use super::super::columns::Align::{Left, Right};
use super::super::columns::{Columns, printable};
use super::{Before, Listing, View, count_of};

/// A route in one line, as `ip route` has it: `10.9.0.0/16 via 10.244.1.9 dev pods proto static`.
pub fn route_line(route: &RouteEntry) -> String {
    let mut line = String::new();
    if !matches!(route.kind, RouteType::Unicast | RouteType::Connected) {
        line.push_str(route.kind.as_str());
        line.push(' ');
    }
    match route.prefix {
        prefix if prefix.prefix_len() == 0 => line.push_str(if prefix.addr().is_ipv4() { "default" } else { "::/0" }),
        prefix => line.push_str(&prefix.to_string()),
    }
    if let [only] = route.next_hops.as_slice() {
        line.push_str(&format!(" {}", hop(only)));
    }
    if let Some(interface) = &route.interface {
        line.push_str(&format!(" dev {interface}"));
    }
    line.push_str(&format!(" proto {}", route.origin.as_str()));
    if route.next_hops.len() > 1 {
        for each in &route.next_hops {
            let dead = if each.active { "" } else { " inactive" };
            line.push_str(&format!(" nexthop {} weight {}{dead}", hop(each), each.weight));
        }
    }
    if route.vrf != "default" {
        line.push_str(&format!(" vrf {}", route.vrf));
    }
    if !route.active {
        line.push_str(" inactive");
    }
    printable(&line)
}

fn hop(hop: &RouteHop) -> String {
    match &hop.interface {
        Some(interface) => format!("via {} dev {interface}", hop.via),
        None => format!("via {}", hop.via),
    }
}

/// The routes, line by line.
#[derive(Default)]
pub struct RouteLines {
    routes: u64,
    inactive: u64,
}

impl RouteLines {
    /// Writes one.
    pub fn push(&mut self, route: &RouteEntry, out: &mut dyn Write) -> io::Result<()> {
        self.routes += 1;
        self.inactive += u64::from(!route.active);
        writeln!(out, "{}", route_line(route))
    }

    /// Writes the footer.
    pub fn end(&self, out: &mut dyn Write) -> io::Result<()> {
        let inactive = if self.inactive > 0 { format!(" ({} inactive)", self.inactive) } else { String::new() };
        writeln!(out, "{}{inactive}", count_of(self.routes, "route", "routes"))
    }
}

impl Listing for RouteEntry {
    fn text(items: &[Self], _: Option<&Before<Self>>, _: &Done, _: View, out: &mut dyn Write) -> io::Result<()> {
        let mut lines = RouteLines::default();
        for route in items {
            lines.push(route, out)?;
        }
        lines.end(out)
    }
}

impl Listing for RouteAnswer {
    fn text(items: &[Self], _: Option<&Before<Self>>, _: &Done, _: View, out: &mut dyn Write) -> io::Result<()> {
        items.iter().try_for_each(|answer| explain(answer, out))
    }
}

/// Where packets go, and why.
fn explain(answer: &RouteAnswer, out: &mut dyn Write) -> io::Result<()> {
    match &answer.route {
        Some(route) => writeln!(out, "{} follows {}", answer.to, route_line(route))?,
        None => writeln!(out, "{} has no route", answer.to)?,
    }
    for neighbour in &answer.neighbours {
        writeln!(out, "  {}", neighbour_line(neighbour, answer.neighbours.len() > 1))?;
    }
    for note in &answer.notes {
        writeln!(out, "  {}", printable(note))?;
    }
    Ok(())
}

fn neighbour_line(neighbour: &RouteNeighbour, several: bool) -> String {
    let RouteNeighbour { address, interface, mac, state, port, mtu, chosen } = neighbour;
    let state = state.map_or_else(|| "not asked for yet".to_owned(), |state| state.as_str().to_uppercase());
    let there = match (mac, port) {
        (None, _) => format!("MAC address unknown ({state})"),
        (Some(mac), Some(port)) => format!("{mac} ({state}), port {port}"),
        (Some(mac), None) => format!("{mac} ({state}), port unknown: flooded"),
    };
    let chosen = if several && *chosen { ", taken by this flow" } else { "" };
    printable(&format!("to {address} on {interface}: {there}, mtu {mtu}{chosen}"))
}

impl Listing for NeighEntry {
    fn text(items: &[Self], _: Option<&Before<Self>>, _: &Done, _: View, out: &mut dyn Write) -> io::Result<()> {
        let heads =
            [("ADDRESS", Left), ("MAC", Left), ("STATE", Left), ("AGE", Right), ("BRIDGE", Left), ("PORT", Left)];
        let mut table = Columns::new(&heads);
        for item in items {
            let row = vec![
                item.address.to_string(),
                item.mac.map_or_else(|| "-".to_owned(), |mac| mac.to_string()),
                // As `ip neigh` writes it.
                item.state.as_str().to_uppercase(),
                item.age_seconds.to_string(),
                item.bridge.clone(),
                item.port.clone().unwrap_or_else(|| "-".to_owned()),
            ];
            table.push(row, out)?;
        }
        table.end(out)?;
        writeln!(out, "{}", count_of(items.len() as u64, "neighbour", "neighbours"))
    }
}

impl Listing for LeaseEntry {
    fn text(items: &[Self], _: Option<&Before<Self>>, _: &Done, _: View, out: &mut dyn Write) -> io::Result<()> {
        let heads = [
            ("ADDRESS", Left),
            ("CLIENT", Left),
            ("STATE", Left),
            ("EXPIRES", Right),
            ("BRIDGE", Left),
            ("HOST", Left),
        ];
        let mut table = Columns::new(&heads);
        for item in items {
            let row = vec![
                item.address.to_string(),
                item.client.clone(),
                item.state.clone(),
                item.expires_seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds} s")),
                item.bridge.clone(),
                item.hostname.clone().unwrap_or_else(|| "-".to_owned()),
            ];
            table.push(row, out)?;
        }
        table.end(out)?;
        writeln!(out, "{}", count_of(items.len() as u64, "lease", "leases"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::text_of;
    use super::*;
    use serde_json::json;

    fn text<T: Listing>(items: serde_json::Value) -> String {
        text_of::<T>(items, None, View::default())
    }

    #[test]
    fn routes_read_as_ip_route_prints_them() {
        let hop = |via: &str, dev: Option<&str>, weight: u16, active: bool| -> serde_json::Value {
            json!({"via": via, "interface": dev, "weight": weight, "active": active})
        };
        let items = json!([
            {"prefix": "0.0.0.0/0", "vrf": "default", "type": "unicast", "origin": "static", "active": true,
             "next_hops": [hop("192.168.0.2", Some("up0"), 3, true), hop("192.168.0.6", Some("up1"), 1, false)]},
            {"prefix": "10.9.0.0/16", "vrf": "default", "type": "unicast", "origin": "static", "active": true,
             "next_hops": [hop("10.244.1.9", Some("pods"), 1, true)]},
            {"prefix": "10.8.0.0/16", "vrf": "blue", "type": "unicast", "origin": "runtime", "active": false,
             "next_hops": [hop("10.244.1.9", None, 1, false)]},
            {"prefix": "10.244.1.0/24", "vrf": "default", "type": "connected", "origin": "kernel", "interface": "pods",
             "active": true},
            {"prefix": "10.244.1.1/32", "vrf": "default", "type": "local", "origin": "kernel", "interface": "pods",
             "active": true},
            {"prefix": "172.16.0.0/12", "vrf": "default", "type": "blackhole", "origin": "static", "active": true}
        ]);
        assert_eq!(
            text::<RouteEntry>(items),
            "\
default proto static nexthop via 192.168.0.2 dev up0 weight 3 nexthop via 192.168.0.6 dev up1 weight 1 inactive
10.9.0.0/16 via 10.244.1.9 dev pods proto static
10.8.0.0/16 via 10.244.1.9 proto runtime vrf blue inactive
10.244.1.0/24 dev pods proto kernel
local 10.244.1.1/32 dev pods proto kernel
blackhole 172.16.0.0/12 proto static
6 routes (1 inactive)
"
        );
        assert_eq!(text::<RouteEntry>(json!([])), "0 routes\n");
    }

    #[test]
    fn an_answer_explains_the_way() {
        let route = json!({"prefix": "10.9.0.0/16", "vrf": "default", "type": "unicast", "origin": "static",
            "active": true, "next_hops": [{"via": "10.1.0.9", "interface": "pods", "weight": 1, "active": true}]});
        let neighbour = json!({"address": "10.1.0.9", "interface": "pods", "mac": "02:00:00:00:00:09",
            "state": "reachable", "port": "web0", "mtu": 1500, "chosen": true});
        let answer =
            json!([{"to": "10.9.1.1", "vrf": "default", "route": route, "neighbours": [neighbour], "notes": []}]);
        assert_eq!(
            text::<RouteAnswer>(answer),
            "\
10.9.1.1 follows 10.9.0.0/16 via 10.1.0.9 dev pods proto static
  to 10.1.0.9 on pods: 02:00:00:00:00:09 (REACHABLE), port web0, mtu 1500
"
        );
        let none = json!([{"to": "11.0.0.1", "vrf": "default", "route": null, "neighbours": [],
            "notes": ["no route in VRF default leads to 11.0.0.1", "the route that comes nearest is 10.0.0.0/8"]}]);
        assert_eq!(
            text::<RouteAnswer>(none),
            "\
11.0.0.1 has no route
  no route in VRF default leads to 11.0.0.1
  the route that comes nearest is 10.0.0.0/8
"
        );
    }

    #[test]
    fn neighbours_and_leases_are_tables() {
        let items = json!([
            {"address": "10.1.0.9", "bridge": "pods", "mac": "02:00:00:00:00:09", "port": "web0", "state": "stale",
             "age_seconds": 12},
            {"address": "fd00::9", "bridge": "up0", "mac": null, "port": null, "state": "failed", "age_seconds": 3}
        ]);
        assert_eq!(
            text::<NeighEntry>(items),
            "\
ADDRESS   MAC                STATE   AGE  BRIDGE  PORT
10.1.0.9  02:00:00:00:00:09  STALE    12  pods    web0
fd00::9   -                  FAILED    3  up0     -
2 neighbours
"
        );
        let items = json!([{"address": "10.1.0.20", "bridge": "pods", "client": "02:00:00:00:00:09", "hostname": "web",
            "state": "bound", "expires_seconds": 3599}]);
        assert_eq!(
            text::<LeaseEntry>(items),
            "\
ADDRESS    CLIENT             STATE  EXPIRES  BRIDGE  HOST
10.1.0.20  02:00:00:00:00:09  bound   3599 s  pods    web
1 lease
"
        );
    }
}
