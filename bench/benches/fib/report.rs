//! Medians and ratios of what was measured, for people and as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

/// Measured values of a family, table, size and figure, a value each round.
pub type Samples = BTreeMap<(&'static str, String, usize, String), Vec<f64>>;

/// In what a figure is printed, and what it is divided by.
#[derive(Clone, Copy, PartialEq)]
enum Unit {
    Nanoseconds,
    Microseconds,
    Milliseconds,
    /// Of measured nanoseconds.
    ThousandsPerSecond,
    Megabytes,
}

impl Unit {
    fn shown(self, value: f64) -> f64 {
        match self {
            Unit::Nanoseconds => value,
            Unit::Microseconds => value / 1e3,
            Unit::Milliseconds => value / 1e6,
            Unit::ThousandsPerSecond => 1e6 / value,
            Unit::Megabytes => value / 1e6,
        }
    }
}

/// What is printed, in this order: figure, unit, title.
const SECTIONS: [(&str, Unit, &str); 11] = [
    ("inside_bulk", Unit::Nanoseconds, "addresses of routes drawn at random, 64 at once: ns each"),
    ("inside_loop", Unit::Nanoseconds, "addresses of routes drawn at random, a call each: ns each"),
    ("anywhere_bulk", Unit::Nanoseconds, "addresses anywhere, 64 at once: ns each"),
    ("anywhere_loop", Unit::Nanoseconds, "addresses anywhere, a call each: ns each"),
    ("one_bulk", Unit::Nanoseconds, "one address again and again, 64 at once: ns each"),
    ("one_loop", Unit::Nanoseconds, "one address again and again, a call each: ns each"),
    ("load", Unit::Milliseconds, "all routes into an empty table: ms"),
    ("update", Unit::ThousandsPerSecond, "a route removed or inserted: thousands a second"),
    ("short", Unit::Microseconds, "the slowest change of a prefix of 0 to 16 bits: us"),
    ("resident", Unit::Megabytes, "memory that the process grew by: MB"),
    ("own", Unit::Megabytes, "memory by the table's own account: MB"),
];

/// One line of the file.
#[derive(Serialize)]
struct Line<'a> {
    family: &'a str,
    table: &'a str,
    routes: usize,
    figure: &'a str,
    /// Nanoseconds, or bytes.
    values: &'a [f64],
}

/// Every sample, an object a line.
pub fn json(samples: &Samples) -> String {
    let line = |((family, table, routes, figure), values): (&(&str, String, usize, String), &Vec<f64>)| {
        let line = Line { family, table, routes: *routes, figure, values };
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

/// A table for each figure: median, lowest and highest, and how many times what the first of `tables` takes.
pub fn text(samples: &Samples, family: &'static str, tables: &[&str], sizes: &[usize]) -> String {
    let mut text = String::new();
    for (figure, unit, title) in SECTIONS {
        let values = |table: &str, size: usize| samples.get(&(family, table.to_owned(), size, figure.to_owned()));
        if !tables.iter().any(|table| sizes.iter().any(|&size| values(table, size).is_some())) {
            continue;
        }
        text += &format!("\n{family}, {title}\n{:14}", "");
        sizes.iter().for_each(|size| text += &format!("{:>32}", format!("{size} routes")));
        text.push('\n');
        for table in tables {
            text += &format!("  {table:12}");
            for &size in sizes {
                let ours = values(tables[0], size).map(|values| median(values));
                text += &values(table, size).map_or(format!("{:>32}", "-"), |values| cell(values, ours, unit));
            }
            text.push('\n');
        }
    }
    text
}

fn cell(values: &[f64], ours: Option<f64>, unit: Unit) -> String {
    let low = values.iter().map(|&value| unit.shown(value)).fold(f64::INFINITY, f64::min);
    let high = values.iter().map(|&value| unit.shown(value)).fold(0.0, f64::max);
    let ratio = ours.map(|ours| format!("x{:.2}", median(values) / ours)).unwrap_or_default();
    format!("{:>10.1} {:>13} {ratio:>7}", unit.shown(median(values)), format!("({low:.1}-{high:.1})"))
}
