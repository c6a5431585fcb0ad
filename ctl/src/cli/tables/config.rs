//! The configuration in force as TOML or JSON, and who answers.

use std::io::{self, Write};

use ctl::protocol::{ConfigSection, Done, VersionReport};
use serde_json::{Map, Value};

use super::super::columns::printable;
use super::{Before, Listing, View};

/// The sections as the object a TOML reader makes of the file: `{"switch":{},"bridge":[],"port":[]}`.
pub fn config_json(sections: &[ConfigSection]) -> Value {
    let mut file = Map::new();
    for section in sections {
        let values = Value::Object(section.values.clone());
        if !section.repeated {
            file.insert(section.section.clone(), values);
            continue;
        }
        let list = file.entry(section.section.clone()).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(list) = list {
            list.push(values);
        }
    }
    Value::Object(file)
}

/// The sections as a file that switchd reads again.
pub fn config_toml(sections: &[ConfigSection], out: &mut dyn Write) -> io::Result<()> {
    for (i, section) in sections.iter().enumerate() {
        let name = key(&section.section);
        let head = if section.repeated { format!("[[{name}]]") } else { format!("[{name}]") };
        writeln!(out, "{}{head}", if i > 0 { "\n" } else { "" })?;
        // TOML has no null: an absent key says the same.
        for (name, value) in section.values.iter().filter(|(_, value)| !value.is_null()) {
            writeln!(out, "{} = {}", key(name), toml(value))?;
        }
    }
    Ok(())
}

impl Listing for ConfigSection {
    fn text(
        items: &[Self],
        _before: Option<&Before<Self>>,
        _done: &Done,
        _view: View,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        config_toml(items, out)
    }

    fn json_line(items: &[Self], out: &mut dyn Write) -> serde_json::Result<()> {
        serde_json::to_writer(out, &config_json(items))
    }
}

/// A value in TOML's inline form. JSON's strings, numbers and booleans are TOML's but for the escapes of
/// DEL (TOML wants one) and of `/` (never written).
fn toml(value: &Value) -> String {
    match value {
        Value::Null => "\"\"".to_owned(),
        Value::String(text) => quoted(text),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(list) => format!("[{}]", list.iter().map(toml).collect::<Vec<_>>().join(", ")),
        Value::Object(map) if map.is_empty() => "{}".to_owned(),
        Value::Object(map) => {
            let pairs: Vec<String> =
                map.iter().map(|(name, value)| format!("{} = {}", key(name), toml(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
    }
}

/// A bare key where TOML allows it.
fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if bare { name.to_owned() } else { quoted(name) }
}

fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string().replace('\x7f', "\\u007f")
}

/// Who answers, a line each.
pub fn version_text(report: &VersionReport, out: &mut dyn Write) -> io::Result<()> {
    let seconds = report.uptime_seconds;
    let lines = [
        ("switchctl", env!("CARGO_PKG_VERSION").to_owned()),
        ("switchd", report.version.clone()),
        ("protocol", report.protocol.to_string()),
        ("process", report.pid.to_string()),
        ("uptime", format!("{seconds} s")),
        ("kernel", report.kernel.clone()),
        ("configuration", report.config.clone().unwrap_or_else(|| "-".to_owned())),
    ];
    for (name, value) in lines {
        writeln!(out, "{name:<14} {}", printable(&value))?;
    }
    for note in &report.notes {
        writeln!(out, "note: {}", printable(note))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sections() -> Vec<ConfigSection> {
        serde_json::from_value(json!([
            {"section": "switch", "values": {"frames": 16384, "poll": "adaptive", "workers": [0, 1], "control_group": null}},
            {"section": "bridge", "repeated": true, "values": {"name": "a \"b\" \u{7f}"}},
            {"section": "port", "repeated": true, "values": {"interface": "up0", "trunk": {"10": "blue", "20": "a b"}}},
            {"section": "port", "repeated": true, "values": {"interface": "web0", "isolated": false}}
        ]))
        .unwrap()
    }

    #[test]
    fn toml_reads_like_the_file() {
        let mut out = Vec::new();
        config_toml(&sections(), &mut out).unwrap();
        let expected = r#"[switch]
frames = 16384
poll = "adaptive"
workers = [0, 1]

[[bridge]]
name = "a \"b\" \u007f"

[[port]]
interface = "up0"
trunk = { 10 = "blue", 20 = "a b" }

[[port]]
interface = "web0"
isolated = false
"#;
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn json_mirrors_the_file() {
        let json = config_json(&sections());
        assert_eq!(json["switch"]["frames"], 16384);
        assert_eq!(json["port"].as_array().unwrap().len(), 2);
        assert_eq!(json["bridge"][0]["name"], "a \"b\" \u{7f}");
    }
}
