//! What the names of figures say: which belong together, and which numbers in them are an axis.
//!
//! A name like "p50 us at 10 % of NDR, 60" is read as words; every number that stands alone is a place that may differ
//! between figures of one group ("p50 us at {} % of NDR, {}"). A place that does differ is an axis; one that does not
//! stays a part of the name. Pure.

use super::Line;

/// Stands for a number in a pattern.
const PLACE: &str = "{}";

/// Words that begin what can be left out of a name together with the number behind them.
const PREPOSITIONS: [&str; 7] = ["at", "with", "to", "for", "in", "by", "from"];

/// Units that end a quantity, and whether more of it is better.
const UNITS: [(&str, Option<bool>); 13] = [
    ("Mpps", Some(true)),
    ("kpps", Some(true)),
    ("pps", Some(true)),
    ("Gbit/s", Some(true)),
    ("Mbit/s", Some(true)),
    ("addresses/s", Some(true)),
    ("addresses", None),
    ("frames", None),
    ("us", Some(false)),
    ("ms", Some(false)),
    ("ns", Some(false)),
    ("s", Some(false)),
    ("MiB", Some(false)),
];

/// A name, taken apart.
#[derive(Clone, Debug, PartialEq)]
struct Name {
    /// The words of every part between commas, numbers replaced.
    pattern: Vec<Vec<String>>,
    numbers: Vec<f64>,
}

impl Name {
    fn read(name: &str) -> Self {
        let mut numbers = Vec::new();
        let mut word = |word: &str| match word.parse::<f64>() {
            // Words like "inf" are numbers to the parser, but not here.
            Ok(number) if word.starts_with(|c: char| c.is_ascii_digit()) => {
                numbers.push(number);
                PLACE.to_owned()
            }
            _ => word.to_owned(),
        };
        let pattern = name.split(", ").map(|part| part.split_whitespace().map(&mut word).collect()).collect();
        Name { pattern, numbers }
    }
}

/// Figures whose names differ in numbers only.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    pattern: Vec<Vec<String>>,
    /// The numbers of each line's name, and the line.
    pub lines: Vec<(Vec<f64>, &'a Line)>,
}

/// A group as one series per device.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// Quantity and unit.
    pub y_title: String,
    /// The axis, when there is one; otherwise each device has one bar.
    pub x_title: Option<String>,
    /// Devices in the order of the lines, with (place on the axis, median, min, max), by place.
    pub series: Vec<(String, Vec<[f64; 4]>)>,
}

/// Groups in the order in which they first appear.
pub fn groups(lines: &[Line]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for line in lines {
        let Name { pattern, numbers } = Name::read(&line.figure);
        match groups.iter_mut().find(|group| group.pattern == pattern) {
            Some(group) => group.lines.push((numbers, line)),
            None => groups.push(Group { pattern, lines: vec![(numbers, line)] }),
        }
    }
    groups
}

impl Group<'_> {
    /// Places whose number differs between lines.
    pub fn axes(&self) -> Vec<usize> {
        let count = self.lines.first().map_or(0, |(numbers, _)| numbers.len());
        (0..count).filter(|place| self.values(*place).len() > 1).collect()
    }

    /// The different numbers at a place, ascending.
    fn values(&self, place: usize) -> Vec<f64> {
        let mut values: Vec<f64> = self.lines.iter().filter_map(|(numbers, _)| numbers.get(place).copied()).collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        values
    }

    /// The name without its axes.
    pub fn name(&self) -> String {
        let numbers = self.lines.first().map_or(&[][..], |(numbers, _)| numbers);
        self.text(numbers, &self.axes())
    }

    /// The name with these numbers, without what belongs to the places `left_out`.
    fn text(&self, numbers: &[f64], left_out: &[usize]) -> String {
        let mut parts = Vec::new();
        for (at, words) in self.pattern.iter().enumerate() {
            let first = self.first_place(at);
            let places = first..first + words.iter().filter(|word| *word == PLACE).count();
            let drop = places.clone().find(|place| left_out.contains(place));
            // A later part is all about its number; of the first one the quantity must stay.
            let kept = match drop {
                Some(_) if at > 0 => continue,
                Some(place) => phrase(words, place - first),
                None => words.len(),
            };
            let mut place = first;
            let filled: Vec<String> = words[..kept]
                .iter()
                .map(|word| match word.as_str() {
                    PLACE => {
                        place += 1;
                        if left_out.contains(&(place - 1)) { "N".to_owned() } else { plain(numbers[place - 1]) }
                    }
                    other => other.to_owned(),
                })
                .collect();
            // A part that is nothing but a number is a frame size.
            parts.push(if words.len() == 1 && first < place { filled[0].clone() + " bytes" } else { filled.join(" ") });
        }
        parts.join(", ")
    }

    /// Number of the first place in a part.
    fn first_place(&self, part: usize) -> usize {
        self.pattern.iter().take(part).flatten().filter(|word| *word == PLACE).count()
    }

    /// What an axis is called, with its unit.
    pub fn axis_name(&self, place: usize) -> String {
        let numbers = self.lines.first().map_or(&[][..], |(numbers, _)| numbers);
        let part = (0..self.pattern.len()).rfind(|part| self.first_place(*part) <= place).unwrap_or(0);
        let (words, mut next, mut at) = (&self.pattern[part], self.first_place(part), 0);
        let mut filled = Vec::new();
        for word in words {
            let number = (word == PLACE).then_some(next);
            at = if number == Some(place) { filled.len() } else { at };
            next += usize::from(number.is_some());
            filled.push(number.map_or(word.clone(), |number| plain(numbers[number])));
        }
        axis_name(&filled[..at], filled.get(at + 1..).unwrap_or(&[]))
    }

    /// Quantity and unit, as on an axis.
    fn quantity(&self, numbers: &[f64], left_out: &[usize]) -> String {
        let text = self.text(numbers, left_out);
        let first = text.split(", ").next().unwrap_or_default();
        let words: Vec<&str> = first.split(' ').collect();
        match words.iter().position(|word| is_unit(word)) {
            Some(at) => {
                let named: Vec<&str> = [&words[..at], &words[at + 1..]].concat();
                format!("{}, {}", named.join(" "), words[at])
            }
            None if words.first().is_some_and(|word| word.contains('/')) => format!("{first}, ratio"),
            None => first.to_owned(),
        }
    }

    /// Whether more is better, where the unit tells.
    pub fn more_is_better(&self) -> Option<bool> {
        let words = self.pattern.iter().flatten();
        words.filter_map(|word| UNITS.iter().find(|(unit, _)| unit == word)).find_map(|(_, better)| *better)
    }

    /// What the group looks like: one chart, or one for every combination of the axes that are not the longest.
    pub fn charts(&self) -> Vec<Chart> {
        let axes = self.axes();
        let x = axes.iter().copied().max_by_key(|place| (self.values(*place).len(), usize::MAX - place));
        let others: Vec<usize> = axes.iter().copied().filter(|place| Some(*place) != x).collect();
        let combination = |numbers: &[f64]| others.iter().map(|place| numbers[*place]).collect::<Vec<f64>>();
        let mut combinations: Vec<Vec<f64>> = Vec::new();
        for (numbers, _) in &self.lines {
            if !combinations.contains(&combination(numbers)) {
                combinations.push(combination(numbers));
            }
        }
        let of = |wanted: &Vec<f64>| {
            let lines: Vec<_> = self.lines.iter().filter(|(numbers, _)| combination(numbers) == *wanted).collect();
            let numbers = lines.first().map_or(&[][..], |(numbers, _)| numbers);
            let left_out: Vec<usize> = x.into_iter().collect();
            let better = match self.more_is_better() {
                Some(true) => " (more is better)",
                Some(false) => " (less is better)",
                None => "",
            };
            Chart {
                title: self.text(numbers, &left_out) + better,
                y_title: self.quantity(numbers, &axes),
                x_title: x.map(|place| self.axis_name(place)),
                series: series(&lines, x),
            }
        };
        combinations.iter().map(of).collect()
    }
}

/// Where the phrase around the `place`-th number of `words` begins; all of them when none begins there.
fn phrase(words: &[String], place: usize) -> usize {
    let number = words.iter().enumerate().filter(|(_, word)| *word == PLACE).nth(place).map_or(0, |(at, _)| at);
    let before = words.iter().take(number).rposition(|word| PREPOSITIONS.contains(&word.as_str()));
    before.filter(|at| *at > 0).unwrap_or(words.len())
}

/// What a number is, from the words around it: "10 % of NDR", "2 x NDR", "MTU 1500", "65536 addresses", or alone.
fn axis_name(before: &[String], after: &[String]) -> String {
    let rest = |from: usize| after.iter().skip(from).cloned().collect::<Vec<_>>().join(" ");
    match (before.last().map(String::as_str), after.first().map(String::as_str)) {
        (None, None) => "frame size, bytes without FCS".to_owned(),
        (_, Some("%")) if after.get(1).is_some_and(|word| word == "of") => format!("share of {}, %", rest(2)),
        (Some(what), Some("%")) => format!("{what}, %"),
        (_, Some("x")) => format!("load, multiples of {}", rest(1)),
        (Some("MTU"), None) => "MTU, bytes".to_owned(),
        (Some(what), None) => what.to_owned(),
        (_, Some(_)) => rest(0),
    }
}

/// One series per device, in the order in which they appear.
fn series(lines: &[&(Vec<f64>, &Line)], x: Option<usize>) -> Vec<(String, Vec<[f64; 4]>)> {
    let mut series: Vec<(String, Vec<[f64; 4]>)> = Vec::new();
    for (numbers, line) in lines {
        let s = line.stats;
        let point = [x.map_or(0.0, |place| numbers[place]), s.median, s.min, s.max];
        match series.iter_mut().find(|(device, _)| *device == line.device) {
            Some((_, points)) => points.push(point),
            None => series.push((line.device.clone(), vec![point])),
        }
    }
    series.iter_mut().for_each(|(_, points)| points.sort_by(|a, b| a[0].total_cmp(&b[0])));
    series
}

fn is_unit(word: &str) -> bool {
    UNITS.iter().any(|(unit, _)| *unit == word)
}

/// A number of a name as it stood there.
pub fn plain(number: f64) -> String {
    number.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Stats;

    fn line(figure: &str, device: &str, median: f64) -> Line {
        let stats = Stats { n: 3, median, min: median - 0.5, max: median + 0.5, spread: 0.1 };
        Line { figure: figure.into(), device: device.into(), stats, ratio: None, remark: String::new() }
    }

    fn lines(figures: &[&str]) -> Vec<Line> {
        figures.iter().flat_map(|f| [line(f, "switchd", 2.0), line(f, "ovs", 1.0)]).collect()
    }

    #[test]
    fn numbers_that_differ_are_axes_and_others_stay_in_the_name() {
        let all = lines(&["NDR Mpps, 60", "NDR Mpps, 1514", "PDR 0.5 % Mpps, 60", "socket Mpps, imix"]);
        let groups = groups(&all);
        let names: Vec<String> = groups.iter().map(Group::name).collect();
        assert_eq!(names, ["NDR Mpps", "PDR 0.5 % Mpps, 60 bytes", "socket Mpps, imix"]);
        assert_eq!(groups.iter().map(|g| g.axes().len()).collect::<Vec<_>>(), [1, 0, 0]);
        assert_eq!((groups[0].lines.len(), groups[0].axis_name(0)), (4, "frame size, bytes without FCS".into()));
        assert_eq!(groups[0].more_is_better(), Some(true));
    }

    #[test]
    fn axes_are_named_by_the_words_beside_the_number() {
        let name = |figures: &[&str]| {
            let all = lines(figures);
            let group = groups(&all).remove(0);
            (group.axis_name(group.axes()[0]), group.name(), group.charts().remove(0).y_title)
        };
        let check = |figures: [&str; 2], axis: &str, title: &str, y: &str| {
            assert_eq!(name(&figures), (axis.to_owned(), title.to_owned(), y.to_owned()));
        };
        check(
            ["p50 us at 10 % of NDR, 60", "p50 us at 90 % of NDR, 60"],
            "share of NDR, %",
            "p50 us, 60 bytes",
            "p50, us",
        );
        let overload = ["delivered/NDR at 2 x NDR, 60", "delivered/NDR at 5 x NDR, 60"];
        check(overload, "load, multiples of NDR", "delivered/NDR, 60 bytes", "delivered/NDR, ratio");
        let limited = ["delivered/PDR 0.5 % at 2 x PDR 0.5 %, 60", "delivered/PDR 0.5 % at 5 x PDR 0.5 %, 60"];
        let (axis, y) = ("load, multiples of PDR 0.5 %", "delivered/PDR 0.5 %, ratio");
        check(limited, axis, "delivered/PDR 0.5 %, 60 bytes", y);
        check(["TCP Gbit/s, MTU 1500", "TCP Gbit/s, MTU 9000"], "MTU, bytes", "TCP Gbit/s", "TCP, Gbit/s");
        check(["FDB ns, 1024 addresses", "FDB ns, 65536 addresses"], "addresses", "FDB ns", "FDB, ns");
        check(["PDR 0.5 % Mpps, 60", "PDR 1 % Mpps, 60"], "PDR, %", "PDR N % Mpps, 60 bytes", "PDR N %, Mpps");
    }

    #[test]
    fn one_axis_is_drawn_and_the_others_make_charts() {
        let all = lines(&[
            "p50 us at 90 % of NDR, 60",
            "p50 us at 10 % of NDR, 60",
            "p50 us at 10 % of NDR, 1514",
            "p50 us at 50 % of NDR, 60",
        ]);
        let charts = groups(&all).remove(0).charts();
        assert_eq!(charts.len(), 2);
        assert_eq!(charts[0].title, "p50 us, 60 bytes (less is better)");
        assert_eq!(
            (charts[0].y_title.as_str(), charts[1].title.as_str()),
            ("p50, us", "p50 us, 1514 bytes (less is better)")
        );
        let (device, points) = &charts[0].series[0];
        assert_eq!((device.as_str(), points[0]), ("switchd", [10.0, 2.0, 1.5, 2.5]));
        assert_eq!(points.iter().map(|p| p[0]).collect::<Vec<_>>(), [10.0, 50.0, 90.0]);
        let bars = groups(&all[..2]).remove(0).charts().remove(0);
        assert_eq!((bars.x_title, bars.series.len()), (None, 2));
    }

    #[test]
    fn odd_names_are_no_error() {
        for odd in ["", ",", "60", "inf Mpps", "at 3", "a,b", "5 % of", "12 x"] {
            let all = lines(&[odd, &odd.replace(['6', '3', '5', '1'], "7")]);
            for group in groups(&all) {
                assert!(!group.charts().is_empty());
                group.axes().into_iter().for_each(|axis| assert!(!group.axis_name(axis).is_empty(), "{odd}"));
            }
        }
    }
}
