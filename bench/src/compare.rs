//! Two result files side by side: the ratio of every median, and whether the difference is more than noise. Reading
//! aside, pure functions.
//!
//! A difference counts when the two-sided Mann-Whitney test gives less than 5 % for it: it uses ranks only, so one wild
//! trial does not decide, and it needs no assumption on the distribution. With three trials on each side no result
//! can get there.

use crate::error::Result;
use crate::report::{self, Stats};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Probability below which a difference is no noise.
const SIGNIFICANT: f64 = 0.05;

/// What is compared of a result file.
#[derive(Clone, Debug, Deserialize)]
pub struct File {
    /// Facts about machine and set-up.
    facts: Value,
    summary: Vec<Line>,
}

/// One line of a summary.
#[derive(Clone, Debug, Deserialize)]
struct Line {
    figure: String,
    device: String,
    values: Vec<f64>,
}

/// How two series differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The second is higher, by more than noise.
    Higher,
    /// The second is lower, by more than noise.
    Lower,
    /// No more than noise.
    Noise,
    /// Too few trials to tell.
    TooFew,
}

impl File {
    /// Reads a file that [`report::write_json`] wrote.
    ///
    /// # Errors
    /// Those of [`report::read_json`].
    pub fn read(path: &Path) -> Result<Self> {
        report::read_json(path)
    }
}

/// What `swbench compare` prints: facts that differ, a line for every figure and device of both files, and what only
/// one of them has.
pub fn table(a: &File, b: &File) -> String {
    let mut text = String::new();
    for (fact, of_a, of_b) in differences(&a.facts, &b.facts) {
        text.push_str(&format!("differs: {fact}: {of_a} | {of_b}\n"));
    }
    let head = ["figure", "device", "n", "A", "spread", "B", "spread", "B/A", "p", "difference"];
    let mut lines = vec![head.map(str::to_owned)];
    let mut single = String::new();
    for line in &a.summary {
        match b.summary.iter().find(|other| same(line, other)) {
            Some(other) => lines.extend(compared(line, other)),
            None => single.push_str(&format!("only in A: {}, {}\n", line.figure, line.device)),
        }
    }
    for line in b.summary.iter().filter(|line| !a.summary.iter().any(|other| same(line, other))) {
        single.push_str(&format!("only in B: {}, {}\n", line.figure, line.device));
    }
    text + &report::aligned(&lines) + &single
}

fn same(a: &Line, b: &Line) -> bool {
    (&a.figure, &a.device) == (&b.figure, &b.device)
}

/// The cells of one line; `None` when one side has no trials.
fn compared(a: &Line, b: &Line) -> Option<[String; 10]> {
    let (of_a, of_b) = (Stats::of(a.values.iter().copied())?, Stats::of(b.values.iter().copied())?);
    let p = mann_whitney(&a.values, &b.values);
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let ratio = if of_a.median > 0.0 { format!("{:.3}", of_b.median / of_a.median) } else { "-".to_owned() };
    Some([
        a.figure.clone(),
        a.device.clone(),
        format!("{}+{}", of_a.n, of_b.n),
        report::number(of_a.median),
        percent(of_a.spread),
        report::number(of_b.median),
        percent(of_b.spread),
        ratio,
        format!("{p:.3}"),
        verdict(&a.values, &b.values, p).name().to_owned(),
    ])
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Verdict::Higher => "HIGHER",
            Verdict::Lower => "LOWER",
            Verdict::Noise => "noise",
            Verdict::TooFew => "too few trials",
        }
    }
}

fn verdict(a: &[f64], b: &[f64], p: f64) -> Verdict {
    let smallest_p = 2.0 / u_counts(a.len(), b.len()).iter().sum::<f64>();
    match p {
        _ if smallest_p >= SIGNIFICANT => Verdict::TooFew,
        p if p >= SIGNIFICANT => Verdict::Noise,
        _ if wins(b, a) > wins(a, b) => Verdict::Higher,
        _ => Verdict::Lower,
    }
}

/// How often a value of `a` is above one of `b`, ties counted half: Mann and Whitney's U.
fn wins(a: &[f64], b: &[f64]) -> f64 {
    let one = |x: f64, y: f64| match x.total_cmp(&y) {
        std::cmp::Ordering::Greater => 1.0,
        std::cmp::Ordering::Equal => 0.5,
        std::cmp::Ordering::Less => 0.0,
    };
    a.iter().map(|x| b.iter().map(|y| one(*x, *y)).sum::<f64>()).sum()
}

/// Two-sided probability of a difference in ranks at least this large between series of the same kind, exact.
fn mann_whitney(a: &[f64], b: &[f64]) -> f64 {
    // A tie counts for the smaller difference.
    let u = wins(a, b).min(wins(b, a)).ceil() as usize;
    let counts = u_counts(a.len(), b.len());
    let below: f64 = counts.iter().take(u + 1).sum();
    (2.0 * below / counts.iter().sum::<f64>()).min(1.0)
}

/// In how many orders of `n` and `m` values U is 0, 1, 2, ..., n * m.
fn u_counts(n: usize, m: usize) -> Vec<f64> {
    // By the largest value: one of the n, above all m others, or one of the m. Row i holds the counts for i and j.
    let mut rows: Vec<Vec<f64>> = vec![vec![1.0]; n + 1];
    for j in 1..=m {
        for i in 1..=n {
            let mut counts = vec![0.0; i * j + 1];
            for (u, count) in rows[i].iter().enumerate() {
                counts[u] += count;
            }
            for (u, count) in rows[i - 1].iter().enumerate() {
                counts[u + j] += count;
            }
            rows[i] = counts;
        }
    }
    rows.pop().unwrap_or_default()
}

/// Facts that are not the same on both sides: name, first, second.
pub(crate) fn differences(a: &Value, b: &Value) -> Vec<(String, String, String)> {
    let (mut of_a, mut of_b) = (BTreeMap::new(), BTreeMap::new());
    flatten("", a, &mut of_a);
    flatten("", b, &mut of_b);
    let mut names: Vec<&String> = of_a.keys().chain(of_b.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let get = |facts: &BTreeMap<String, String>, name: &str| facts.get(name).cloned().unwrap_or_else(|| "-".to_owned());
    let both = names.into_iter().map(|name| (name.clone(), get(&of_a, name), get(&of_b, name)));
    both.filter(|(_, a, b)| a != b).collect()
}

/// The leaves of a JSON value by their dotted names.
fn flatten(name: &str, value: &Value, leaves: &mut BTreeMap<String, String>) {
    let inner = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| flatten(&inner(key), value, leaves)),
        Value::String(text) => drop(leaves.insert(name.to_owned(), text.clone())),
        other => drop(leaves.insert(name.to_owned(), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::report::{SCHEMA, parse_json};

    fn file(facts: &str, lines: &[(&str, &str, &[f64])]) -> File {
        let lines: Vec<Value> = lines
            .iter()
            .map(|(figure, device, values)| serde_json::json!({"figure": figure, "device": device, "values": values}))
            .collect();
        let facts: Value = serde_json::from_str(facts).unwrap();
        parse_json(&serde_json::json!({"schema": SCHEMA, "facts": facts, "summary": lines}).to_string()).unwrap()
    }

    #[test]
    fn probabilities_are_those_of_the_tables() {
        // Total separation of 3+3, 4+4, 5+5: 2/20, 2/70, 2/252; one value out of place at 5+5: 4/252.
        let p = |a: &[f64], b: &[f64]| (mann_whitney(a, b) * 1e4).round() / 1e4;
        assert_eq!(p(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]), 0.1);
        assert_eq!(p(&[5.0, 6.0, 7.0, 8.0], &[1.0, 2.0, 3.0, 4.0]), 0.0286);
        assert_eq!(p(&[1.0, 2.0, 3.0, 4.0, 5.0], &[6.0, 7.0, 8.0, 9.0, 10.0]), 0.0079);
        assert_eq!(p(&[1.0, 2.0, 3.0, 4.0, 6.0], &[5.0, 7.0, 8.0, 9.0, 10.0]), 0.0159);
        assert_eq!(p(&[1.0, 1.0], &[1.0, 1.0]), 1.0);
        assert_eq!(u_counts(5, 5).iter().sum::<f64>(), 252.0);
        assert_eq!(u_counts(2, 2), [1.0, 1.0, 2.0, 1.0, 1.0]);
    }

    #[test]
    fn only_what_is_outside_the_noise_is_flagged() {
        let of = |a: &[f64], b: &[f64]| verdict(a, b, mann_whitney(a, b));
        let low = [1.0, 1.1, 1.2, 1.15, 1.05];
        let high = [1.3, 1.4, 1.5, 1.45, 1.35];
        assert_eq!(of(&low, &high), Verdict::Higher);
        assert_eq!(of(&high, &low), Verdict::Lower);
        assert_eq!(of(&low, &[1.02, 1.12, 1.22, 1.0, 1.3]), Verdict::Noise);
        assert_eq!(of(&low[..3], &high[..3]), Verdict::TooFew);
    }

    #[test]
    fn the_table_has_ratios_facts_and_what_is_missing() {
        let a = file(r#"{"kernel": "6.1", "cores": 2}"#, &[("Mpps", "switchd", &[1.0; 5]), ("Mpps", "ovs", &[1.0])]);
        let b = file(r#"{"kernel": "6.2", "cores": 2}"#, &[("Mpps", "switchd", &[1.5; 5]), ("RTT", "ovs", &[1.0])]);
        let text = table(&a, &b);
        assert!(text.starts_with("differs: kernel: 6.1 | 6.2\nfigure"), "{text}");
        assert!(text.contains("1.500  0.008  HIGHER") && !text.contains("cores"), "{text}");
        assert!(text.contains("only in A: Mpps, ovs\n") && text.ends_with("only in B: RTT, ovs\n"), "{text}");
    }

    #[test]
    fn what_a_run_writes_can_be_compared() {
        use crate::device::Kind;
        let path = std::env::temp_dir().join(format!("swbench-test-{}.json", std::process::id()));
        let values: Vec<(Kind, f64)> = (0..5).map(|n| (Kind::BridgeNf, f64::from(n) + 1.0)).collect();
        let rows = report::rows("Mpps", Kind::Switchd, &values, |_| String::new());
        report::write_json(&path, &"facts", &rows, &[()]).unwrap();
        let file = File::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let text = table(&file, &file);
        assert!(text.lines().nth(1).is_some_and(|line| line.starts_with("Mpps    bridge-nf  5+5  3.000")), "{text}");
        assert!(text.contains("1.000  1.000  noise"), "{text}");
        assert!(matches!(File::read(&path), Err(Error::File { .. })));
    }

    #[test]
    fn other_files_are_refused_with_a_reason() {
        let refused = |text: &str| parse_json::<File>(text).unwrap_err();
        assert!(refused("x").starts_with("no JSON"));
        assert!(refused("{}").starts_with("no schema number"));
        assert!(refused(r#"{"schema": 1}"#).starts_with("schema 1; this swbench reads"));
        assert!(refused(&format!(r#"{{"schema": {SCHEMA}}}"#)).starts_with("no result file"));
    }
}
