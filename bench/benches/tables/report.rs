//! Medians and ratios of what was measured, for people and as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

/// Measured values of one table, size and figure, a value each round.
pub type Samples = BTreeMap<(String, usize, String), Vec<f64>>;

/// In what a figure is printed.
#[derive(Clone, Copy, PartialEq)]
enum Unit {
    Nanoseconds,
    /// Of measured nanoseconds.
    MillionsPerSecond,
    Bytes,
}

/// Figure that every table has: memory.
pub const BYTES: &str = "bytes";

/// What is printed, in this order: figure, unit, title.
const SECTIONS: [(&str, Unit, &str); 10] = [
    ("hit_bulk", Unit::Nanoseconds, "known addresses, 64 at once: ns each"),
    ("hit_loop", Unit::Nanoseconds, "known addresses, a call each: ns each"),
    ("hit_chained", Unit::Nanoseconds, "known addresses, each call waiting for the last answer: ns each"),
    ("miss_bulk", Unit::Nanoseconds, "unknown addresses, 64 at once: ns each"),
    ("miss_loop", Unit::Nanoseconds, "unknown addresses, a call each: ns each"),
    ("miss_chained", Unit::Nanoseconds, "unknown addresses, each call waiting for the last answer: ns each"),
    ("hit_two", Unit::MillionsPerSecond, "known addresses, two threads: millions a second, of both together"),
    ("learn", Unit::MillionsPerSecond, "new addresses into an empty table: millions a second"),
    ("learn_two", Unit::MillionsPerSecond, "new addresses, two threads: millions a second, of both together"),
    (BYTES, Unit::Bytes, "memory: bytes for each address"),
];

/// One line of the file.
#[derive(Serialize)]
struct Line<'a> {
    table: &'a str,
    addresses: usize,
    figure: &'a str,
    /// Nanoseconds, or bytes.
    values: &'a [f64],
}

/// Every sample, an object a line.
pub fn json(samples: &Samples) -> String {
    let line = |((table, size, figure), values): (&(String, usize, String), &Vec<f64>)| {
        let line = Line { table, addresses: *size, figure, values };
        serde_json::to_string(&line).expect("plain data") + "\n"
    };
    samples.iter().map(line).collect()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

/// A table for each figure: median, lowest and highest, and how many times less the first of `tables` takes.
pub fn text(samples: &Samples, tables: &[&str], sizes: &[usize]) -> String {
    let mut text = String::new();
    for (figure, unit, title) in SECTIONS {
        let values = |table: &str, size: usize| samples.get(&(table.to_owned(), size, figure.to_owned()));
        text += &format!("\n{title}\n{:14}", "");
        sizes.iter().for_each(|size| text += &format!("{:>29}", format!("{size} addresses")));
        text.push('\n');
        for table in tables {
            text += &format!("  {table:12}");
            for &size in sizes {
                let ours = values(tables[0], size).map(|values| median(values));
                text += &values(table, size).map_or(format!("{:>29}", "-"), |values| cell(values, ours, unit));
            }
            text.push('\n');
        }
    }
    text
}

fn cell(values: &[f64], ours: Option<f64>, unit: Unit) -> String {
    let shown = |value: f64| if unit == Unit::MillionsPerSecond { 1e3 / value } else { value };
    let low = values.iter().copied().map(shown).fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().map(shown).fold(0.0, f64::max);
    let ratio = ours.map(|ours| format!("x{:.2}", median(values) / ours)).unwrap_or_default();
    format!("{:>9.1} {:>12} {ratio:>6}", shown(median(values)), format!("({low:.1}-{high:.1})"))
}
