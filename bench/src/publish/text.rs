//! The page of a report: the configuration once, then every file with its groups of figures. Pure, but for the charts,
//! which its caller draws.

use super::figure::{self, Chart, Group, plain};
use super::{Line, Results, facts_that_differ};
use crate::error::Result;
use crate::facts::{Device, Facts};
use crate::report::number;
use std::collections::BTreeMap;

/// Options whose values are paths of one machine, not part of how it was measured.
const PATHS: [&str; 2] = ["--json", "--switchd"];

/// The page. `draw` gets a name and a chart, and says under which file name it is.
///
/// # Errors
/// Those of `draw`.
pub fn page(results: &[Results], draw: &mut dyn FnMut(&str, &Chart) -> Result<String>) -> Result<String> {
    let mut text = String::from(
        "# Benchmark report\n\nMade by `swbench report`. Medians of n trials with the smallest and the largest; the ratio is the \
         first device's median divided by this one's.\n",
    );
    for d in facts_that_differ(results) {
        let kind = if d.grave { "**Warning: do not compare.** " } else { "Note: " };
        let first = results.first().map_or("", |r| &r.name);
        let line = format!("{kind}{}: {} is {}; in {first} it is {}", d.file, d.fact, d.here, d.first);
        text.push_str(&format!("\n> {}\n", cell(&line)));
    }
    if let Some(first) = results.first() {
        text.push_str(&configuration(&first.facts, &devices(results)));
    }
    for result in results {
        text.push_str(&format!("\n## {}\n\n`{}`\n", cell(&result.name), command(&result.command)));
        if result.summary.is_empty() {
            text.push_str("\nNo figures.\n");
        }
        for group in figure::groups(&result.summary) {
            text.push_str(&section(result, &group, draw)?);
        }
    }
    Ok(text)
}

/// One group: heading, charts, table.
fn section(
    result: &Results,
    group: &Group<'_>,
    draw: &mut dyn FnMut(&str, &Chart) -> Result<String>,
) -> Result<String> {
    let (file, devices) = (&result.name, result.facts.devices.keys().map(String::as_str));
    let axes = group.axes();
    let axis_names: Vec<String> = axes.iter().map(|axis| group.axis_name(*axis)).collect();
    let by = axis_names.iter().map(|name| format!(", by {}", name.split(", ").next().unwrap_or_default()));
    let mut text = format!("\n### {}{}\n", cell(&group.name()), cell(&by.collect::<String>()));
    for chart in group.charts() {
        let title = chart.title.split(" (").next().unwrap_or_default();
        let name = draw(&format!("{file} {title}"), &chart)?;
        text.push_str(&format!("\n![{}]({name})\n", cell(&chart.title)));
    }
    let subject = subject(group);
    let mut head: Vec<String> = axis_names;
    head.extend(["device", "median", "min - max", "n"].map(str::to_owned));
    head.extend(subject.map(|subject| format!("{subject}/it")));
    head.push("remark".to_owned());
    let mut rows = vec![head.clone(), vec!["---".to_owned(); head.len()]];
    for (numbers, line) in &group.lines {
        let mut row: Vec<String> = axes.iter().map(|axis| plain(numbers[*axis])).collect();
        let s = line.stats;
        row.extend([
            line.device.clone(),
            number(s.median),
            format!("{} - {}", number(s.min), number(s.max)),
            s.n.to_string(),
        ]);
        row.extend(subject.map(|_| line.ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"))));
        row.push(line.remark.clone());
        rows.push(row);
    }
    text.push('\n');
    text.push_str(&table(&rows));
    let missing: Vec<&str> = devices.filter(|name| !group.lines.iter().any(|(_, line)| line.device == *name)).collect();
    if !missing.is_empty() {
        text.push_str(&format!("\nNo figure of {}.\n", cell(&missing.join(", "))));
    }
    Ok(text)
}

/// The device that the others' ratios are of: the one whose median divided by theirs gives them.
fn subject<'a>(group: &Group<'a>) -> Option<&'a str> {
    let same_place = |a: &[f64], b: &[f64]| a == b;
    let (numbers, other, ratio) = group.lines.iter().find_map(|(n, line)| Some((n, line, line.ratio?)))?;
    let explains = |line: &Line| (line.stats.median / other.stats.median / ratio - 1.0).abs() < 1e-6;
    let beside = group.lines.iter().filter(|(n, line)| same_place(n, numbers) && line.ratio.is_none());
    beside.map(|(_, line)| *line).find(|line| explains(line)).map(|line| line.device.as_str())
}

/// Every device as the first file that has it says.
fn devices(results: &[Results]) -> BTreeMap<&str, &Device> {
    let mut devices = BTreeMap::new();
    for (name, device) in results.iter().flat_map(|result| &result.facts.devices) {
        devices.entry(name.as_str()).or_insert(device);
    }
    devices
}

/// The facts that RFC 8204 section 3.3 wants beside every figure.
fn configuration(facts: &Facts, devices: &BTreeMap<&str, &Device>) -> String {
    let (m, s) = (&facts.machine, &facts.setup);
    let known = |state: Option<bool>| state.map_or("unknown", |on| if on { "on" } else { "off" });
    let list = |map: &BTreeMap<String, String>| {
        let all: Vec<String> = map.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        if all.is_empty() { "none".to_owned() } else { all.join("; ") }
    };
    let or_none = |text: String| if text.is_empty() { "none that matter".to_owned() } else { text };
    let machine = if m.virtual_machine { "virtual" } else { "physical" };
    let governor = m.governor.as_deref().unwrap_or("unknown");
    let facts = [
        ("fact (RFC 8204, 3.3)", "value".to_owned()),
        ("---", "---".to_owned()),
        ("processor", m.cpu.clone()),
        ("machine", format!("{machine}, {} cores, SMT {}, governor {governor}", m.cores, known(m.smt))),
        ("clock", m.clocksource.clone()),
        ("kernel", format!("{} {}", m.kernel, m.kernel_build)),
        ("kernel parameters", or_none(m.kernel_parameters.join(" "))),
        ("mitigations", list(&m.mitigations)),
        ("receive path", list(&m.sysctls)),
        ("program", format!("swbench {}", s.swbench)),
        ("MTU", format!("{} bytes", s.mtu)),
        ("cores", format!("device {}, generator and containers {}", s.device_core, s.traffic_core)),
        ("generator", format!("{} flow, rings of {} descriptors, bursts of {}", s.flows, s.socket_ring, s.burst)),
    ];
    let facts: Vec<Vec<String>> = facts.map(|(name, value)| vec![name.to_owned(), value]).into();
    let head = ["device", "version", "threads", "offloads", "queues", "fault"];
    let mut rows = vec![head.map(str::to_owned).to_vec(), vec!["---".to_owned(); head.len()]];
    for (name, device) in devices {
        let threads = device.threads_shown();
        let fault = device.fault.clone().unwrap_or_default();
        let (version, offloads) = (device.version.clone(), device.offloads_shown());
        rows.push(vec![(*name).to_owned(), version, threads, offloads, list(&device.queues), fault]);
    }
    format!("\n## Configuration\n\n{}\n{}", table(&facts), table(&rows))
}

/// The command line without the program's path and the paths of files.
fn command(words: &[String]) -> String {
    let mut shown = vec!["swbench"];
    let mut words = words.iter().skip(1).map(String::as_str);
    while let Some(word) = words.next() {
        if PATHS.contains(&word) {
            words.next();
        } else if !PATHS.iter().any(|path| word.strip_prefix(path).is_some_and(|rest| rest.starts_with('='))) {
            shown.push(word);
        }
    }
    shown.join(" ").replace('`', "'")
}

fn table(rows: &[Vec<String>]) -> String {
    let line = |row: &Vec<String>| format!("| {} |\n", row.iter().map(|c| cell(c)).collect::<Vec<_>>().join(" | "));
    rows.iter().map(line).collect()
}

/// Text that ends neither its cell nor its line.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ").trim().to_owned()
}
