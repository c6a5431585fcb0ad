//! A configuration as TOML text, for `show-config`: the same form a user writes, every value spelled out.

use std::fmt::Write;

use super::{Config, PortConfig, ResumeLatency, SwitchConfig, dhcp, interface, is_default_vrf, ra, route};

impl Config {
    /// The text that [`Config::parse`] reads back to an equal configuration.
    pub fn to_toml(&self) -> String {
        let mut text = Text(String::from("[switch]\n"));
        for (key, value) in self.switch.items() {
            text.optional(key, value);
        }
        for bridge in &self.bridges {
            text.0.push_str("\n[[bridge]]\n");
            text.key("name", quoted(&bridge.name));
            text.key("ageing_seconds", bridge.ageing_seconds);
            text.optional("vrf", (!is_default_vrf(&bridge.vrf)).then(|| quoted(&bridge.vrf)));
            text.optional("gateway", (!bridge.gateway.is_empty()).then(|| list(&bridge.gateway)));
            interface::write(bridge, &mut text);
            bridge.dhcp.iter().for_each(|dhcp| dhcp::write(dhcp, &mut text));
            bridge.ra.iter().for_each(|ra| ra::write(ra, &mut text));
        }
        for port in &self.ports {
            text.0.push_str("\n[[port]]\n");
            text.key("interface", quoted(&port.interface));
            text.optional("bridge", port.bridge.as_deref().map(quoted));
            text.optional("trunk", trunk(port));
            text.optional("address", (!port.address.is_empty()).then(|| list(&port.address)));
            text.optional("vrf", port.vrf.as_deref().map(quoted));
            text.key("isolated", port.isolated);
            text.key("learning", port.learning);
            text.key("flood_unicast", port.flood_unicast);
            text.key("flood_broadcast", port.flood_broadcast);
            text.key("flood_multicast", port.flood_multicast);
            text.key("mac_limit", port.mac_limit);
        }
        for entry in &self.fdb {
            text.0.push_str("\n[[fdb]]\n");
            text.key("mac", quoted(&entry.mac.to_string()));
            text.key("bridge", quoted(&entry.bridge));
            text.key("port", quoted(&entry.port));
            text.key("sticky", entry.sticky);
        }
        for route in &self.routes {
            text.0.push_str("\n[[route]]\n");
            route::write(route, &mut text);
        }
        text.0
    }
}

impl SwitchConfig {
    /// Every key of `[switch]` with its value as TOML, `None` when it is not set; always in this order.
    pub(super) fn items(&self) -> [(&'static str, Option<String>); 10] {
        [
            ("control_socket", Some(quoted(&self.control_socket))),
            ("control_group", self.control_group.as_deref().map(quoted)),
            ("workers", Some(format!("{:?}", self.workers))),
            ("frames", Some(self.frames.to_string())),
            ("poll", Some(quoted(self.poll.as_str()))),
            ("receive_threads", Some(self.receive_threads.to_string())),
            ("container_gro", Some(self.container_gro.to_string())),
            ("resume_latency_us", Some(resume_latency(self.resume_latency_us))),
            ("fdb_entries", Some(self.fdb_entries.to_string())),
            ("state_dir", Some(quoted(&self.state_dir))),
        ]
    }
}

fn resume_latency(latency: ResumeLatency) -> String {
    match latency {
        ResumeLatency::Auto => quoted("auto"),
        ResumeLatency::Off => quoted("off"),
        ResumeLatency::Us(latency_us) => latency_us.to_string(),
    }
}

fn trunk(port: &PortConfig) -> Option<String> {
    let vlans: Vec<String> = port.trunk.iter().map(|(vlan, domain)| format!("{vlan} = {}", quoted(domain))).collect();
    (!vlans.is_empty()).then(|| format!("{{ {} }}", vlans.join(", ")))
}

/// `text` as a TOML string.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// Values as a TOML list of strings; their text needs no escapes.
pub(super) fn list(values: &[impl std::fmt::Display]) -> String {
    let values: Vec<String> = values.iter().map(|value| format!("\"{value}\"")).collect();
    format!("[{}]", values.join(", "))
}

/// TOML text being written line by line.
pub(super) struct Text(String);

impl Text {
    /// The head of a table inside the last object.
    pub fn heading(&mut self, heading: &str) {
        let _ = writeln!(self.0, "\n{heading}");
    }

    pub fn key(&mut self, key: &str, value: impl std::fmt::Display) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{key} = {value}");
    }

    pub fn optional(&mut self, key: &str, value: Option<String>) {
        if let Some(value) = value {
            self.key(key, value);
        }
    }
}
