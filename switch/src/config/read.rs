//! From TOML text to values with their places. Knows the keys and their types; the rules are in `check`.
//!
//! It walks the parsed tree by hand instead of deriving `Deserialize`, so that one pass finds every
//! wrong key and each message can name the object it belongs to.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, ConfigErrors, Place, Problem, hint, quote};
use super::gateway::{self, ServiceSpots};
use super::{BridgeConfig, PollMode, PortConfig, ResumeLatency, RouteConfig, StaticEntry, interface, route};
use crate::ids::Mac;
use crate::limits::{
    AGEING_SECONDS_MAX, AGEING_SECONDS_MIN, FDB_ENTRIES_MAX, FRAMES_MAX, FRAMES_MIN, RESUME_LATENCY_US_MAX,
};

const SWITCH_KEYS: &[&str] = &[
    "control_socket",
    "control_group",
    "workers",
    "frames",
    "poll",
    "receive_threads",
    "container_gro",
    "resume_latency_us",
    "fdb_entries",
    "state_dir",
];
const BRIDGE_KEYS: &[&str] = &[
    "name",
    "ageing_seconds",
    "vrf",
    "gateway",
    "gateway_mac",
    "mtu",
    "proxy_arp",
    "suppress",
    "redirects",
    "clamp_mss",
    "dhcp",
    "ra",
];
const PORT_KEYS: &[&str] = &[
    "interface",
    "bridge",
    "trunk",
    "address",
    "vrf",
    "isolated",
    "learning",
    "flood_unicast",
    "flood_broadcast",
    "flood_multicast",
    "mac_limit",
];
const STATIC_KEYS: &[&str] = &["mac", "bridge", "port", "sticky"];
const FILE_KEYS: &[&str] = &["switch", "bridge", "port", "fdb", "route"];

/// What the text says, before defaults and rules; a key that is not there is `None`.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub control_socket: Option<String>,
    pub control_group: Option<String>,
    pub workers: Option<Vec<usize>>,
    pub frames: Option<u32>,
    pub poll: Option<PollMode>,
    pub receive_threads: Option<bool>,
    pub container_gro: Option<bool>,
    pub resume_latency_us: Option<ResumeLatency>,
    pub fdb_entries: Option<u32>,
    pub state_dir: Option<String>,
    pub bridges: Vec<BridgeConfig>,
    pub ports: Vec<PortConfig>,
    pub fdb: Vec<StaticEntry>,
    pub routes: Vec<RouteConfig>,
    /// Places of `[switch]`, and of each bridge, port, static entry and route by index.
    pub switch_spot: Spot,
    pub bridge_spots: Vec<Spot>,
    pub service_spots: Vec<ServiceSpots>,
    pub port_spots: Vec<Spot>,
    pub fdb_spots: Vec<Spot>,
    pub route_spots: Vec<Spot>,
}

/// What an object is called in messages and where its parts are, in bytes from the start of the text.
#[derive(Clone, Debug, Default)]
pub(super) struct Spot {
    pub object: String,
    at: usize,
    keys: BTreeMap<String, usize>,
}

/// The text with its name, able to turn byte offsets into lines and columns.
pub(super) struct Source<'s> {
    file: &'s str,
    text: &'s str,
    line_starts: Vec<usize>,
}

impl<'s> Source<'s> {
    pub fn new(file: &'s str, text: &'s str) -> Source<'s> {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let line_starts = std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect();
        Source { file, text, line_starts }
    }

    fn place(&self, offset: usize) -> Place {
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let start = line.checked_sub(1).and_then(|index| self.line_starts.get(index)).copied().unwrap_or(0);
        let before = self.text.get(start..offset).map_or(0, |text| text.chars().count());
        Place { file: self.file.to_string(), line: line.max(1), column: before + 1 }
    }

    /// The line of the object itself.
    pub fn line(&self, spot: &Spot) -> usize {
        self.place(spot.at).line
    }

    /// An error of the object at `spot`, placed at `key` when the text has it.
    pub fn error(&self, spot: &Spot, key: &str, problem: Problem) -> ConfigError {
        let at = spot.keys.get(key).copied().unwrap_or(spot.at);
        ConfigError { place: Some(self.place(at)), object: spot.object.clone(), problem: Box::new(problem) }
    }
}

/// Reads the whole text, or says everything that is wrong with its shape.
pub(super) fn read(source: &Source<'_>) -> Result<Draft, ConfigErrors> {
    let mut errors = Vec::new();
    let mut draft = Draft::default();
    match DeTable::parse(source.text) {
        Ok(root) => read_file(source, &mut errors, root.get_ref(), &mut draft),
        Err(error) => {
            let span = error.span().unwrap_or(0..0);
            let mut message = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
            if let Some(at) = source.text.get(span.clone()).filter(|at| !at.trim().is_empty()) {
                message.push_str(&format!(", at {}", quote(at)));
            }
            let spot = Spot { at: span.start, ..Spot::default() };
            errors.push(source.error(&spot, "", Problem::Syntax(message)));
        }
    }
    ConfigErrors::none_in(errors)?;
    Ok(draft)
}

fn read_file(source: &Source<'_>, errors: &mut Vec<ConfigError>, root: &DeTable<'_>, draft: &mut Draft) {
    let spot = Spot { at: 0, ..spot_of(root, 0, String::new()) };
    let mut file = Section { source, errors, table: root, spot };
    file.refuse_unknown(FILE_KEYS);
    draft.switch_spot.object = "switch".to_string();
    if let Some(mut switch) = file.table("switch", "one table, [switch] in single brackets") {
        switch.refuse_unknown(SWITCH_KEYS);
        read_switch(&mut switch, draft);
    }
    let bridges = file.tables("bridge", "a list of tables, [[bridge]] in double brackets");
    let ports = file.tables("port", "a list of tables, [[port]] in double brackets");
    let entries = file.tables("fdb", "a list of tables, [[fdb]] in double brackets");
    for (number, (at, table)) in bridges.into_iter().enumerate() {
        let mut section = file.inner(at, table, object_name("bridge", table, "name", number));
        section.refuse_unknown(BRIDGE_KEYS);
        let (bridge, services) = read_bridge(&mut section);
        draft.bridges.extend(bridge);
        draft.service_spots.push(services);
        draft.bridge_spots.push(section.spot);
    }
    for (number, (at, table)) in ports.into_iter().enumerate() {
        let mut section = file.inner(at, table, object_name("port", table, "interface", number));
        section.refuse_unknown(PORT_KEYS);
        draft.ports.extend(read_port(&mut section));
        draft.port_spots.push(section.spot);
    }
    for (number, (at, table)) in entries.into_iter().enumerate() {
        let mut section = file.inner(at, table, object_name("static entry", table, "mac", number));
        section.refuse_unknown(STATIC_KEYS);
        draft.fdb.extend(read_static(&mut section));
        draft.fdb_spots.push(section.spot);
    }
    let routes = file.tables("route", "a list of tables, [[route]] in double brackets");
    for (number, (at, table)) in routes.into_iter().enumerate() {
        let mut section = file.inner(at, table, object_name("route", table, "to", number));
        section.refuse_unknown(route::KEYS);
        draft.routes.extend(route::read(&mut section));
        draft.route_spots.push(section.spot);
    }
}

fn read_switch(section: &mut Section<'_, '_>, draft: &mut Draft) {
    draft.control_socket = section.text("control_socket", "a string, like \"/run/switchd/control.sock\"");
    draft.control_group = section.text("control_group", "a string, like \"netdev\"");
    draft.workers = section.cores("workers");
    draft.receive_threads = section.flag("receive_threads");
    draft.container_gro = section.flag("container_gro");
    draft.resume_latency_us = section.resume_latency("resume_latency_us");
    draft.frames = section.number("frames", FRAMES_MIN, FRAMES_MAX);
    draft.fdb_entries = section.number("fdb_entries", 1, FDB_ENTRIES_MAX);
    draft.state_dir = section.text("state_dir", "a string, like \"/var/lib/switchd\"");
    if let Some(word) = section.text("poll", "a string, \"adaptive\" or \"spin\"") {
        draft.poll = [PollMode::Adaptive, PollMode::Spin].into_iter().find(|mode| mode.as_str() == word);
        if draft.poll.is_none() {
            section.report("poll", Problem::PollWord { word });
        }
    }
    draft.switch_spot = section.spot.clone();
}

fn read_bridge(section: &mut Section<'_, '_>) -> (Option<BridgeConfig>, ServiceSpots) {
    let name = section.required("name", "a string, like \"pods\"", "name = \"pods\"");
    let ageing_seconds = section.number("ageing_seconds", AGEING_SECONDS_MIN, AGEING_SECONDS_MAX);
    let mut bridge = BridgeConfig::new(name.as_deref().unwrap_or_default());
    bridge.router = interface::read(section);
    bridge.ageing_seconds = ageing_seconds.unwrap_or(bridge.ageing_seconds);
    let services = gateway::read(section, &mut bridge);
    (name.map(|_| bridge), services)
}

fn read_port(section: &mut Section<'_, '_>) -> Option<PortConfig> {
    let interface = section.required("interface", "a string, like \"web0\"", "interface = \"web0\"");
    let usual = PortConfig::new(interface.as_deref().unwrap_or_default());
    let port = PortConfig {
        bridge: section.text("bridge", "a string, like \"pods\""),
        trunk: section.trunk("trunk"),
        address: section.interface_addresses("address"),
        vrf: section.vrf(),
        isolated: section.flag("isolated").unwrap_or(usual.isolated),
        learning: section.flag("learning").unwrap_or(usual.learning),
        flood_unicast: section.flag("flood_unicast").unwrap_or(usual.flood_unicast),
        flood_broadcast: section.flag("flood_broadcast").unwrap_or(usual.flood_broadcast),
        flood_multicast: section.flag("flood_multicast").unwrap_or(usual.flood_multicast),
        mac_limit: section.number("mac_limit", 0, FDB_ENTRIES_MAX).unwrap_or(usual.mac_limit),
        interface: usual.interface,
    };
    interface.map(|_| port)
}

fn read_static(section: &mut Section<'_, '_>) -> Option<StaticEntry> {
    let text = section.required("mac", "a string, like \"02:42:ac:11:00:02\"", "mac = \"02:42:ac:11:00:02\"");
    let mac = text.and_then(|text| section.mac("mac", text));
    let bridge = section.required("bridge", "a string, like \"pods\"", "bridge = \"pods\"");
    let port = section.required("port", "a string, like \"web0\"", "port = \"web0\"");
    let sticky = section.flag("sticky").unwrap_or(false);
    Some(StaticEntry { mac: mac?, bridge: bridge?, port: port?, sticky })
}

/// `port "web0"`, or `port number 2` while its name is missing or no string.
fn object_name(what: &str, table: &DeTable<'_>, key: &str, index: usize) -> String {
    match table.get(key).and_then(|value| value.get_ref().as_str()) {
        Some(name) => format!("{what} {}", quote(name)),
        None => format!("{what} number {}", index + 1),
    }
}

fn spot_of(table: &DeTable<'_>, at: usize, object: String) -> Spot {
    let keys = table.iter().map(|(key, _)| (key.get_ref().to_string(), key.span().start)).collect();
    Spot { object, at, keys }
}

/// One table being read; what is wrong with it goes to `errors`.
pub(super) struct Section<'e, 't> {
    source: &'e Source<'e>,
    errors: &'e mut Vec<ConfigError>,
    pub table: &'t DeTable<'t>,
    pub spot: Spot,
}

impl<'t> Section<'_, 't> {
    pub fn report(&mut self, key: &str, problem: Problem) {
        let error = self.source.error(&self.spot, key, problem);
        self.errors.push(error);
    }

    pub fn wrong_type(&mut self, key: &str, expected: &'static str, value: &DeValue<'_>) {
        let found = match value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.report(key, Problem::WrongType { key: key.to_string(), expected, found });
    }

    pub fn refuse_unknown(&mut self, known: &'static [&'static str]) {
        let keys: Vec<String> = self.spot.keys.keys().cloned().collect();
        for key in keys.into_iter().filter(|key| !known.contains(&key.as_str())) {
            let hint = hint(&key, "key", known.iter().copied());
            self.report(&key.clone(), Problem::UnknownKey { key, hint });
        }
    }

    /// A section for a table inside this one.
    pub fn inner<'a>(&'a mut self, at: usize, table: &'t DeTable<'t>, object: String) -> Section<'a, 't> {
        Section { source: self.source, errors: self.errors, table, spot: spot_of(table, at, object) }
    }

    /// The value of `key`, if the text has it.
    pub fn value(&self, key: &str) -> Option<&'t DeValue<'t>> {
        self.table.get(key).map(Spanned::get_ref)
    }

    /// Errors found so far, in this section or another.
    pub fn error_count(&self) -> usize {
        self.errors.len()
    }

    fn table<'a>(&'a mut self, key: &'static str, expected: &'static str) -> Option<Section<'a, 't>> {
        self.named_table(key, expected, key.to_string())
    }

    /// A table that belongs to this object, and is named after it.
    pub fn part<'a>(&'a mut self, key: &'static str, expected: &'static str) -> Option<Section<'a, 't>> {
        let object = format!("{} {key}", self.spot.object);
        self.named_table(key, expected, object)
    }

    fn named_table<'a>(
        &'a mut self,
        key: &'static str,
        expected: &'static str,
        object: String,
    ) -> Option<Section<'a, 't>> {
        let value = self.value(key)?;
        let at = self.spot.keys.get(key).copied().unwrap_or(0);
        match value {
            DeValue::Table(table) => Some(self.inner(at, table, object)),
            other => {
                self.wrong_type(key, expected, other);
                None
            }
        }
    }

    /// The tables of a list of tables, each with its offset.
    pub fn tables(&mut self, key: &'static str, expected: &'static str) -> Vec<(usize, &'t DeTable<'t>)> {
        let Some(value) = self.table.get(key) else { return Vec::new() };
        let Some(list) = value.get_ref().as_array() else {
            self.wrong_type(key, expected, value.get_ref());
            return Vec::new();
        };
        let mut tables = Vec::with_capacity(list.len());
        for item in list.iter() {
            match item.get_ref() {
                DeValue::Table(table) => tables.push((item.span().start, table)),
                other => self.wrong_type(key, expected, other),
            }
        }
        tables
    }

    pub fn text(&mut self, key: &str, expected: &'static str) -> Option<String> {
        let value = self.table.get(key)?.get_ref();
        if value.as_str().is_none() {
            self.wrong_type(key, expected, value);
        }
        value.as_str().map(str::to_string)
    }

    pub fn required(&mut self, key: &'static str, expected: &'static str, example: &'static str) -> Option<String> {
        if self.table.get(key).is_none() {
            self.report(key, Problem::Missing { key, example });
        }
        self.text(key, expected)
    }

    /// The MAC address that `text`, the value of `key`, is.
    pub fn mac(&mut self, key: &str, text: String) -> Option<Mac> {
        let mac = text.parse::<Mac>().ok();
        if mac.is_none() {
            self.report(key, Problem::MacText { key: key.to_string(), text });
        }
        mac
    }

    pub fn flag(&mut self, key: &str) -> Option<bool> {
        let value = self.table.get(key)?.get_ref();
        if value.as_bool().is_none() {
            self.wrong_type(key, "true or false", value);
        }
        value.as_bool()
    }

    pub fn number(&mut self, key: &'static str, min: u32, max: u32) -> Option<u32> {
        let value = self.table.get(key)?.get_ref();
        let Some(integer) = value.as_integer() else {
            self.wrong_type(key, "an integer, without quotes or a point", value);
            return None;
        };
        let number = u32::from_str_radix(integer.as_str(), integer.radix()).ok();
        let number = number.filter(|number| (min..=max).contains(number));
        if number.is_none() {
            let value = shorten(&integer.to_string());
            self.report(key, Problem::Range { key, value, min: min.into(), max: max.into() });
        }
        number
    }

    fn resume_latency(&mut self, key: &'static str) -> Option<ResumeLatency> {
        const EXPECTED: &str = "\"auto\", \"off\", or a number of microseconds without quotes";
        match self.value(key)? {
            DeValue::Integer(_) => self.number(key, 0, RESUME_LATENCY_US_MAX).map(ResumeLatency::Us),
            DeValue::String(word) => match word.as_ref() {
                "auto" => Some(ResumeLatency::Auto),
                "off" => Some(ResumeLatency::Off),
                word => {
                    self.report(key, Problem::Value { key, text: word.to_string(), expected: EXPECTED });
                    None
                }
            },
            other => {
                self.wrong_type(key, EXPECTED, other);
                None
            }
        }
    }

    fn cores(&mut self, key: &'static str) -> Option<Vec<usize>> {
        const EXPECTED: &str = "a list of core numbers, like [0, 1]";
        let value = self.table.get(key)?.get_ref();
        let Some(list) = value.as_array() else {
            self.wrong_type(key, EXPECTED, value);
            return None;
        };
        let mut cores = Vec::with_capacity(list.len());
        for item in list.iter() {
            let Some(integer) = item.get_ref().as_integer() else {
                self.wrong_type(key, EXPECTED, item.get_ref());
                return None;
            };
            match u16::from_str_radix(integer.as_str(), integer.radix()) {
                Ok(core) => cores.push(usize::from(core)),
                Err(_) => {
                    let value = shorten(&integer.to_string());
                    self.report(key, Problem::Range { key, value, min: 0, max: u16::MAX.into() });
                    return None;
                }
            }
        }
        Some(cores)
    }

    /// The VLAN map. Ids outside 1 to 4094 that fit a `u16` are left for the rules.
    fn trunk(&mut self, key: &str) -> BTreeMap<u16, String> {
        const EXPECTED: &str = "a table of VLAN ids, like { 10 = \"blue\", 20 = \"green\" }";
        let mut trunk = BTreeMap::new();
        let Some(value) = self.table.get(key).map(Spanned::get_ref) else { return trunk };
        let Some(table) = value.as_table() else {
            self.wrong_type(key, EXPECTED, value);
            return trunk;
        };
        if table.is_empty() {
            self.report(key, Problem::EmptyTrunk);
        }
        for (vlan, domain) in table.iter() {
            let spot_key = trunk_key(vlan.get_ref());
            self.spot.keys.insert(spot_key.clone(), vlan.span().start);
            // A leading zero or sign would let one id be written twice.
            let id = vlan.get_ref().parse::<u16>().ok().filter(|id| id.to_string() == *vlan.get_ref());
            match (id, domain.get_ref().as_str()) {
                (Some(id), Some(domain)) => _ = trunk.insert(id, domain.to_string()),
                (None, _) => self.report(&spot_key, Problem::VlanId { vlan: vlan.get_ref().to_string() }),
                (_, None) => self.wrong_type(&spot_key, "a string, the bridge's name", domain.get_ref()),
            }
        }
        trunk
    }
}

/// The name under which a [`Spot`] knows the place of one VLAN of a trunk.
pub(super) fn trunk_key(vlan: &str) -> String {
    format!("trunk.{vlan}")
}

/// A number as written, cut when nobody would read to its end.
pub(super) fn shorten(number: &str) -> String {
    if number.len() <= 24 { number.to_string() } else { format!("{}...", number.chars().take(20).collect::<String>()) }
}
