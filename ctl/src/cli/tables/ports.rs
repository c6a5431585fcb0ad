//! Ports as text: a row each, or everything about one.

use std::io::{self, Write};

use ctl::protocol::{Done, PortState, PortStatus};

use super::super::columns::Align::{Left, Right};
use super::super::columns::{Columns, printable};
use super::{Before, Listing, View, count_of, rate_cell};

impl Listing for PortStatus {
    fn text(
        items: &[Self],
        before: Option<&Before<Self>>,
        _: &Done,
        view: View,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        if view.detail && before.is_none() {
            return items.iter().try_for_each(|port| detail(port, out));
        }
        let mut heads = vec![("PORT", Left), ("BRIDGE", Left), ("STATE", Left), ("MTU", Right)];
        heads.extend(match before {
            None => [
                ("RX-PACKETS", Right),
                ("RX-BYTES", Right),
                ("TX-PACKETS", Right),
                ("TX-BYTES", Right),
                ("DROPS", Right),
            ],
            Some(_) => [
                ("RX-PACKETS/S", Right),
                ("RX-BYTES/S", Right),
                ("TX-PACKETS/S", Right),
                ("TX-BYTES/S", Right),
                ("DROPS/S", Right),
            ],
        });
        heads.push(("LEARNED", Right));
        let mut table = Columns::new(&heads);
        for item in items {
            let old = before.map(|b| (b.items.iter().find(|o| o.interface == item.interface), b.seconds));
            let counter = |count: fn(&PortStatus) -> u64| match old {
                None => count(item).to_string(),
                Some((old, seconds)) => rate_cell(count(item), old.map(count), seconds),
            };
            let row = vec![
                item.interface.clone(),
                domains(item),
                state(item.state).to_owned(),
                if item.mtu == 0 { "-".to_owned() } else { item.mtu.to_string() },
                counter(|p| p.rx_packets),
                counter(|p| p.rx_bytes),
                counter(|p| p.tx_packets),
                counter(|p| p.tx_bytes),
                counter(drops),
                item.learned.to_string(),
            ];
            table.push(row, out)?;
        }
        table.end(out)?;
        footer(items, out)
    }
}

/// How many ports in which state, and what is to be known about them.
fn footer(items: &[PortStatus], out: &mut dyn Write) -> io::Result<()> {
    let mut parts = Vec::new();
    for which in [PortState::Up, PortState::Down, PortState::Waiting] {
        let count = items.iter().filter(|p| p.state == which).count();
        if count > 0 {
            parts.push(format!("{count} {}", state(which)));
        }
    }
    let total = count_of(items.len() as u64, "port", "ports");
    if parts.is_empty() {
        writeln!(out, "{total}")?
    } else {
        writeln!(out, "{total} ({})", parts.join(", "))?
    }
    for item in items {
        for note in &item.notes {
            writeln!(out, "{}: {}", printable(&item.interface), printable(note))?;
        }
    }
    Ok(())
}

/// Everything about one port, a line each.
fn detail(port: &PortStatus, out: &mut dyn Write) -> io::Result<()> {
    let on = |value: bool| if value { "on" } else { "off" };
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let workers: Vec<String> = port.workers.iter().map(u32::to_string).collect();
    let limit = if port.mac_limit == 0 { "no limit".to_owned() } else { format!("limit {}", port.mac_limit) };
    let lines = [
        ("state", state(port.state).to_owned()),
        ("bridge", domains(port)),
        ("mtu", port.mtu.to_string()),
        ("address", or_dash(port.mac.map(|m| m.to_string()))),
        ("index", port.ifindex.to_string()),
        ("peer", or_dash(port.peer.clone())),
        ("mode", or_dash(port.mode.clone())),
        ("queues", format!("{} (workers: {})", port.queues, workers.join(" "))),
        ("received", format!("{} packets, {} bytes", port.rx_packets, port.rx_bytes)),
        ("sent", format!("{} packets, {} bytes", port.tx_packets, port.tx_bytes)),
        ("learned", format!("{} ({limit})", port.learned)),
        ("since start", learning_counts(port)),
        ("flooded", format!("{} of the packets received", port.flooded)),
        ("checksums", format!("{} finished for its senders", port.checksums_finished)),
        ("isolated", on(port.isolated).to_owned()),
        ("learning", on(port.learning).to_owned()),
        (
            "flooding",
            format!(
                "unicast {}, broadcast {}, multicast {}",
                on(port.flood_unicast),
                on(port.flood_broadcast),
                on(port.flood_multicast)
            ),
        ),
        ("container", container(port).to_owned()),
        ("fill frames", port.fill_frames.to_string()),
        ("kernel memory", format!("{} KiB", port.kernel_memory_bytes.div_ceil(1024))),
    ];
    writeln!(out, "{}", printable(&port.interface))?;
    for (name, value) in lines {
        writeln!(out, "  {name:<14} {}", printable(&value))?;
    }
    writeln!(out, "  {:<14} {}", "drops", drops(port))?;
    for (reason, count) in port.drops.iter().filter(|(_, count)| **count > 0) {
        writeln!(out, "    {:<32} {count:>12}", printable(reason))?;
    }
    for (name, count) in port.kernel.iter().filter(|(_, count)| **count > 0) {
        writeln!(out, "  {:<34} {count:>12}", format!("kernel {}", printable(name)))?;
    }
    for note in &port.notes {
        writeln!(out, "  note: {}", printable(note))?;
    }
    Ok(())
}

/// How the container behind a port receives, if it is one.
fn container(port: &PortStatus) -> &'static str {
    match (&port.peer, port.container_gro) {
        (_, true) => "receives in batches (GRO)",
        (Some(_), false) => "receives frame by frame",
        (None, false) => "-",
    }
}

fn learning_counts(port: &PortStatus) -> String {
    format!("{} learned, {} moved here, {} refused", port.learned_total, port.moved, port.learn_refused)
}

fn drops(port: &PortStatus) -> u64 {
    port.drops.values().fold(0, |sum, count| sum.saturating_add(*count))
}

/// `pods` for an access port, `10=blue,20=green` for a trunk, both for a trunk with a native bridge; the addresses of a
/// routed port.
fn domains(port: &PortStatus) -> String {
    if !port.address.is_empty() {
        return port.address.join(",");
    }
    let native = port.bridge.iter().cloned();
    let tagged = port.trunk.iter().map(|(vlan, bridge)| format!("{vlan}={bridge}"));
    let all: Vec<String> = native.chain(tagged).collect();
    if all.is_empty() { "-".to_owned() } else { all.join(",") }
}

fn state(state: PortState) -> &'static str {
    match state {
        PortState::Up => "up",
        PortState::Down => "down",
        PortState::Waiting => "waiting",
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::text_of;
    use super::*;
    use serde_json::json;

    fn two(rx: u64) -> serde_json::Value {
        json!([
            {"interface": "web0", "bridge": "pods", "state": "up", "mtu": 1500, "rx_packets": rx, "rx_bytes": 60 * rx,
             "tx_packets": 2, "tx_bytes": 120, "drops": {"own_port": 3, "runt": 1}, "learned": 4, "workers": [0],
             "learned_total": 5, "moved": 6, "learn_refused": 7, "flooded": 8, "checksums_finished": 9,
             "kernel": {"rx_ring_full": 9}, "kernel_memory_bytes": 2_097_153, "flood_unicast": true,
             "notes": ["VLAN tags arrive out of band"]},
            {"interface": "up0", "bridge": null, "trunk": {"10": "blue", "20": "green"}, "state": "waiting", "mtu": 0,
             "rx_packets": 0, "rx_bytes": 0, "tx_packets": 0, "tx_bytes": 0, "drops": {}}
        ])
    }

    #[test]
    fn a_row_each_and_notes_below() {
        assert_eq!(
            text_of::<PortStatus>(two(10), None, View::default()),
            "\
PORT  BRIDGE            STATE     MTU  RX-PACKETS  RX-BYTES  TX-PACKETS  TX-BYTES  DROPS  LEARNED
web0  pods              up       1500          10       600           2       120      4        4
up0   10=blue,20=green  waiting     -           0         0           0         0      0        0
2 ports (1 up, 1 waiting)
web0: VLAN tags arrive out of band
"
        );
    }

    #[test]
    fn watched_counters_are_rates() {
        let text = text_of::<PortStatus>(two(1010), Some(two(10)), View::default());
        let row: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row, ["web0", "pods", "up", "1500", "500", "30000", "0", "0", "0", "4"]);
        let appeared = text_of::<PortStatus>(two(5), Some(json!([])), View::default());
        assert!(appeared.lines().nth(1).unwrap().contains("  -  "), "{appeared}");
    }

    #[test]
    fn detail_tells_all() {
        let text = text_of::<PortStatus>(two(10), None, View { detail: true, ..View::default() });
        for words in [
            "  kernel memory  2049 KiB\n",
            "own_port",
            "kernel rx_ring_full",
            "  note: VLAN",
            "unicast on, broadcast off",
            "  since start    5 learned, 6 moved here, 7 refused\n",
            "  flooded        8 of",
            "  checksums      9 finished",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }
}
