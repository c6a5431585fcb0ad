//! Medians and ratios of what was measured of several tables, for people and as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::report::Stats;

/// What was measured: in which table, with how many entries, which figure of it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Debug)]
pub struct Measured {
    /// What the table has entries of: "addresses", "ipv4 routes".
    pub entries: &'static str,
    /// How many.
    pub count: usize,
    /// The table's name.
    pub table: String,
    /// The figure's name.
    pub figure: String,
}

/// Measured values, one each round: nanoseconds or bytes.
pub type Samples = BTreeMap<Measured, Vec<f64>>;

/// In what a figure is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Of nanoseconds.
    Nanoseconds,
    /// Of nanoseconds.
    Microseconds,
    /// Of nanoseconds.
    Milliseconds,
    /// How often what takes so many nanoseconds can be done in a second.
    ThousandsPerSecond,
    /// The same, in millions.
    MillionsPerSecond,
    /// Of bytes.
    Bytes,
    /// Of bytes.
    Megabytes,
}

impl Unit {
    fn shown(self, value: f64) -> f64 {
        match self {
            Unit::Nanoseconds | Unit::Bytes => value,
            Unit::Microseconds => value / 1e3,
            Unit::Milliseconds | Unit::Megabytes => value / 1e6,
            Unit::ThousandsPerSecond => 1e6 / value,
            Unit::MillionsPerSecond => 1e3 / value,
        }
    }
}

/// What is printed of a figure: its name, in what, under which title.
pub type Section = (&'static str, Unit, &'static str);

#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    measured: &'a Measured,
    values: &'a [f64],
}

/// Every sample, an object a line.
pub fn json(samples: &Samples) -> String {
    let line = |(measured, values): (&Measured, &Vec<f64>)| {
        serde_json::to_string(&Line { measured, values }).expect("plain data") + "\n"
    };
    samples.iter().map(line).collect()
}

/// A table for each section that has values: median, lowest and highest, and how many times the time (or memory) of the
/// first of `tables`.
pub fn text(
    samples: &Samples,
    sections: &[Section],
    entries: &'static str,
    tables: &[&str],
    counts: &[usize],
) -> String {
    let mut text = String::new();
    for &(figure, unit, title) in sections {
        let stats = |table: &str, count: usize| {
            let measured = Measured { entries, count, table: table.to_owned(), figure: figure.to_owned() };
            Stats::of(samples.get(&measured)?.iter().copied())
        };
        if !tables.iter().any(|table| counts.iter().any(|&count| stats(table, count).is_some())) {
            continue;
        }
        text += &format!("\n{title}\n{:14}", "");
        counts.iter().for_each(|count| text += &format!("{:>32}", format!("{count} {entries}")));
        text.push('\n');
        for table in tables {
            text += &format!("  {table:12}");
            for &count in counts {
                let first = stats(tables[0], count);
                text += &stats(table, count).map_or(format!("{:>32}", "-"), |stats| cell(stats, first, unit));
            }
            text.push('\n');
        }
    }
    text
}

fn cell(stats: Stats, first: Option<Stats>, unit: Unit) -> String {
    let (a, b) = (unit.shown(stats.min), unit.shown(stats.max));
    let ratio = first.map(|first| format!("x{:.2}", stats.median / first.median)).unwrap_or_default();
    format!("{:>10.1} {:>13} {ratio:>7}", unit.shown(stats.median), format!("({:.1}-{:.1})", a.min(b), a.max(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Samples {
        let measured = |table: &str, figure: &str| Measured {
            entries: "routes",
            count: 64,
            table: table.to_owned(),
            figure: figure.to_owned(),
        };
        [
            (measured("ours", "hit"), vec![10.0, 30.0, 20.0]),
            (measured("theirs", "hit"), vec![50.0]),
            (measured("ours", "learn"), vec![250.0]),
        ]
        .into()
    }

    #[test]
    fn the_first_table_is_the_one_that_others_are_compared_with() {
        let sections = [
            ("hit", Unit::Nanoseconds, "known"),
            ("learn", Unit::MillionsPerSecond, "new"),
            ("size", Unit::Bytes, "memory"),
        ];
        let text = text(&samples(), &sections, "routes", &["ours", "theirs"], &[64]);
        let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert!(words.contains(&vec!["ours", "20.0", "(10.0-30.0)", "x1.00"]), "{text}");
        assert!(words.contains(&vec!["theirs", "50.0", "(50.0-50.0)", "x2.50"]), "{text}");
        assert!(words.contains(&vec!["ours", "4.0", "(4.0-4.0)", "x1.00"]) && words.contains(&vec!["theirs", "-"]));
        assert!(text.contains("64 routes") && !text.contains("memory"), "{text}");
    }

    #[test]
    fn a_line_of_json_has_what_was_measured_and_every_value() {
        let first: serde_json::Value = serde_json::from_str(json(&samples()).lines().next().unwrap()).unwrap();
        let expected = serde_json::json!({
            "entries": "routes", "count": 64, "table": "ours", "figure": "hit", "values": [10.0, 30.0, 20.0],
        });
        assert_eq!(first, expected);
    }
}
