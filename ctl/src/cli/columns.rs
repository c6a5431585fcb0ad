//! Aligned columns without borders, for people and for `awk`.
//!
//! The first rows decide the widths and everything after them streams, so a million rows take no memory.

use std::io::{self, Write};

/// Rows looked at before the widths are fixed.
const SAMPLE: usize = 1024;

/// Where a column's text stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Align {
    /// Words.
    Left,
    /// Counts.
    Right,
}

/// A table being written. Rows have as many cells as there are columns; more are cut, fewer are blank.
pub struct Columns {
    heads: Vec<(&'static str, Align)>,
    sample: Vec<Vec<String>>,
    /// Set when the header has been written.
    widths: Option<Vec<usize>>,
}

impl Columns {
    /// A table with these headings.
    pub fn new(heads: &[(&'static str, Align)]) -> Columns {
        Columns { heads: heads.to_vec(), sample: Vec::new(), widths: None }
    }

    /// Adds a row; it may be written now or later.
    pub fn push(&mut self, row: Vec<String>, out: &mut dyn Write) -> io::Result<()> {
        if let Some(widths) = &self.widths {
            return self.write_row(&row, widths, out);
        }
        self.sample.push(row);
        if self.sample.len() >= SAMPLE { self.settle(out) } else { Ok(()) }
    }

    /// Writes what is left. A table without rows is not written at all.
    pub fn end(mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.widths.is_none() && !self.sample.is_empty() { self.settle(out) } else { Ok(()) }
    }

    fn settle(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let widest = |i: usize| self.sample.iter().filter_map(|row| row.get(i)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> =
            self.heads.iter().enumerate().map(|(i, (head, _))| head.len().max(widest(i).unwrap_or(0))).collect();
        let heads: Vec<String> = self.heads.iter().map(|(head, _)| (*head).to_owned()).collect();
        self.write_row(&heads, &widths, out)?;
        for row in std::mem::take(&mut self.sample) {
            self.write_row(&row, &widths, out)?;
        }
        self.widths = Some(widths);
        Ok(())
    }

    fn write_row(&self, row: &[String], widths: &[usize], out: &mut dyn Write) -> io::Result<()> {
        let mut line = String::new();
        for (i, ((_, align), &width)) in self.heads.iter().zip(widths).enumerate() {
            let cell = printable(row.get(i).map_or("", String::as_str));
            if i > 0 {
                line.push_str("  ");
            }
            match align {
                Align::Left => line.push_str(&format!("{cell:<width$}")),
                Align::Right => line.push_str(&format!("{cell:>width$}")),
            }
        }
        writeln!(out, "{}", line.trim_end())
    }
}

/// `text` without control characters: an interface name must not steer the terminal of whoever looks at it.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADS: [(&str, Align); 3] = [("PORT", Align::Left), ("COUNT", Align::Right), ("NOTE", Align::Left)];

    #[test]
    fn words_left_counts_right_no_trailing_blanks() {
        let (mut table, mut out) = (Columns::new(&HEADS), Vec::new());
        table.push(vec!["web0".into(), "5".into(), "x".into()], &mut out).unwrap();
        table.push(vec!["longer-name".into(), "1234567".into()], &mut out).unwrap();
        table.end(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "PORT           COUNT  NOTE\nweb0               5  x\nlonger-name  1234567\n");
    }

    #[test]
    fn streams_after_the_sample_and_writes_nothing_for_nothing() {
        let (mut table, mut out) = (Columns::new(&HEADS), Vec::new());
        for i in 0..3 * SAMPLE {
            table.push(vec![i.to_string()], &mut out).unwrap();
            assert!(table.sample.len() < SAMPLE);
        }
        table.end(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap().lines().count(), 3 * SAMPLE + 1);
        let mut nothing = Vec::new();
        Columns::new(&HEADS).end(&mut nothing).unwrap();
        assert!(nothing.is_empty());
    }

    #[test]
    fn names_cannot_steer_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\nc"), "a?[2Jb?c");
    }
}
