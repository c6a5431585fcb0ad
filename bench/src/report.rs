//! From many trials to a few lines: median, extremes and spread per device, ratio of the first device to every other.
//! Pure functions, apart from [`write_json`] and [`read_json`].

use crate::device::Kind;
use crate::error::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// Version of the form of result files. Changes whenever a reader of an older one could misread a newer one.
pub const SCHEMA: u32 = 2;

/// What a series of equal trials came to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Number of trials.
    pub n: usize,
    /// Middle value; mean of the two middle ones when `n` is even.
    pub median: f64,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// (max - min) / median.
    pub spread: f64,
}

impl Stats {
    /// Of a series; `None` when it is empty.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let n = sorted.len();
        let median = (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0;
        let spread = if median > 0.0 { (max - min) / median } else { 0.0 };
        Some(Stats { n, median, min, max, spread })
    }
}

/// One line of a report: a device's figure and how the subject compares with it.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was measured, e.g. "socket Mpps".
    pub figure: String,
    /// Device measured.
    pub device: Kind,
    /// What its values came to.
    pub stats: Stats,
    /// Its values, in the order they were measured.
    pub values: Vec<f64>,
    /// The subject's median divided by this device's; `None` on the subject's own line or without a subject.
    pub ratio: Option<f64>,
    /// Remark, e.g. the loss.
    pub remark: String,
}

/// Values of one figure: (device, value) per trial, and a remark per device.
pub fn rows(figure: &str, subject: Kind, values: &[(Kind, f64)], remark: impl Fn(Kind) -> String) -> Vec<Row> {
    let of = |kind: Kind| Stats::of(values.iter().filter(|(k, _)| *k == kind).map(|(_, v)| *v));
    let base = of(subject).map(|s| s.median);
    let mut kinds: Vec<Kind> = values.iter().map(|(k, _)| *k).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let row = |device: Kind| {
        let stats = of(device)?;
        let values = values.iter().filter(|(k, _)| *k == device).map(|(_, v)| *v).collect();
        let ratio = base.filter(|_| device != subject && stats.median > 0.0).map(|b| b / stats.median);
        Some(Row { figure: figure.to_owned(), device, stats, values, ratio, remark: remark(device) })
    };
    kinds.into_iter().filter_map(row).collect()
}

/// The rows as a table of fixed-width columns.
pub fn table(subject: Kind, rows: &[Row]) -> String {
    let ratio_head = format!("{}/it", subject.name());
    let mut lines = vec![[
        "figure".to_owned(),
        "device".to_owned(),
        "n".to_owned(),
        "median".to_owned(),
        "min".to_owned(),
        "max".to_owned(),
        "spread".to_owned(),
        ratio_head,
        "remark".to_owned(),
    ]];
    for row in rows {
        let s = row.stats;
        lines.push([
            row.figure.clone(),
            row.device.name().to_owned(),
            s.n.to_string(),
            number(s.median),
            number(s.min),
            number(s.max),
            format!("{:.1} %", s.spread * 100.0),
            row.ratio.map_or("-".to_owned(), |r| format!("{r:.2}")),
            row.remark.clone(),
        ]);
    }
    aligned(&lines)
}

/// Three decimals for small values, fewer for large ones.
pub(crate) fn number(value: f64) -> String {
    match value {
        v if v < 100.0 => format!("{v:.3}"),
        v if v < 10_000.0 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

pub(crate) fn aligned<const N: usize>(lines: &[[String; N]]) -> String {
    let mut widths = [0usize; N];
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.len());
        }
    }
    let mut text = String::new();
    for line in lines {
        let cells: Vec<String> = line.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Share of all cores' time (0..=1) that is in use, from two readings of /proc/stat's first line; 0 when unreadable.
pub fn busy_share(before: &str, after: &str) -> f64 {
    let ticks = |text: &str| -> Option<(u64, u64)> {
        let fields = text.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
        let all: Vec<u64> = fields.take(8).map_while(|f| f.parse().ok()).collect();
        // Idle and waiting for I/O (proc(5)).
        Some((all.iter().sum(), all.get(3)? + all.get(4)?))
    };
    match (ticks(before), ticks(after)) {
        (Some((all0, idle0)), Some((all1, idle1))) if all1 > all0 => {
            1.0 - idle1.saturating_sub(idle0) as f64 / (all1 - all0) as f64
        }
        _ => 0.0,
    }
}

/// Everything about a campaign, for later comparison.
#[derive(Debug, Serialize)]
pub struct Document<'a, F: Serialize, T: Serialize> {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The command line.
    pub command: Vec<String>,
    /// Where and how it ran, see [`crate::facts::Facts`].
    pub facts: &'a F,
    /// The summary lines.
    pub summary: &'a [Row],
    /// Every trial, in the order they ran.
    pub trials: &'a [T],
}

/// Writes facts, summary and trials as JSON to `path`. A file of that name is there whole or not at all.
///
/// # Errors
/// [`Error::Io`] when the file cannot be written.
pub fn write_json<F: Serialize, T: Serialize>(path: &Path, facts: &F, summary: &[Row], trials: &[T]) -> Result<()> {
    let command = std::env::args().collect();
    let document = Document { schema: SCHEMA, command, facts, summary, trials };
    let what = || format!("write {}", path.display());
    let text = serde_json::to_string_pretty(&document).map_err(|e| Error::io(what(), std::io::Error::from(e)))?;
    // Written beside it first: an interruption leaves no half of a result behind that looks like one.
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unfinished");
    std::fs::write(&unfinished, text + "\n")
        .and_then(|()| std::fs::rename(&unfinished, path))
        .map_err(|e| Error::io(what(), e))
}

/// Reads of a file that [`write_json`] wrote what `T` wants.
///
/// # Errors
/// [`Error::File`] when it cannot be read, is no result file or has another schema.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let fail = |why: String| Error::File { path: path.to_owned(), why };
    let text = std::fs::read_to_string(path).map_err(|e| fail(e.to_string()))?;
    parse_json(&text).map_err(fail)
}

/// What [`read_json`] does with the text, or why it cannot.
pub(crate) fn parse_json<T: DeserializeOwned>(text: &str) -> std::result::Result<T, String> {
    let value: Value = serde_json::from_str(text).map_err(|e| format!("no JSON: {e}"))?;
    match value.get("schema").and_then(Value::as_u64) {
        Some(schema) if schema == u64::from(SCHEMA) => {}
        Some(other) => return Err(format!("schema {other}; this swbench reads {SCHEMA}: measure again")),
        None => return Err(format!("no schema number; this swbench reads {SCHEMA}: measure again")),
    }
    serde_json::from_value(value).map_err(|e| format!("no result file of swbench: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_and_even_series() {
        let odd = Stats::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!((odd.n, odd.median, odd.min, odd.max, odd.spread), (3, 2.0, 1.0, 3.0, 1.0));
        assert_eq!(Stats::of([4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
        assert_eq!(Stats::of([7.0]).unwrap(), Stats { n: 1, median: 7.0, min: 7.0, max: 7.0, spread: 0.0 });
        assert_eq!(Stats::of([]), None);
    }

    #[test]
    fn ratios_are_subject_over_peer() {
        let values = [(Kind::Switchd, 1.2), (Kind::Ovs, 0.8), (Kind::Switchd, 1.2), (Kind::Ovs, 0.8)];
        let rows = rows("Mpps", Kind::Switchd, &values, |_| String::new());
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].device, rows[0].ratio), (Kind::Switchd, None));
        assert_eq!((rows[0].values.as_slice(), rows[1].values.as_slice()), (&[1.2, 1.2][..], &[0.8, 0.8][..]));
        assert_eq!(rows[1].device, Kind::Ovs);
        assert!((rows[1].ratio.unwrap() - 1.5).abs() < 1e-9);
    }

    #[test]
    fn without_the_subject_there_are_no_ratios() {
        let rows = rows("Mpps", Kind::Switchd, &[(Kind::Ovs, 0.8)], |_| "lost".into());
        assert_eq!((rows.len(), rows[0].ratio), (1, None));
        let text = table(Kind::Switchd, &rows);
        assert!(text.contains("switchd/it") && text.contains("0.800") && text.contains("lost"), "{text}");
    }

    #[test]
    fn busy_time_is_all_but_idle() {
        let before = "cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1 1 1 1\n";
        let after = "cpu  150 0 150 790 110 0 0 0 0 0\n";
        assert!((busy_share(before, after) - 0.5).abs() < 1e-9);
        assert_eq!(busy_share("", after), 0.0);
        assert_eq!(busy_share(before, before), 0.0);
    }

    #[test]
    fn columns_line_up() {
        let text = aligned(&[["a".to_owned(), "bb".into()], ["ccc".into(), "d".into()]]);
        assert_eq!(text, "a    bb\nccc  d\n");
    }
}
