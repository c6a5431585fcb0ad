//! From result files to a report that can be read: one Markdown page with every figure, and an SVG chart for each
//! group of figures. Main thread.

pub mod figure;
pub mod plot;
pub mod text;

use crate::compare::differences;
use crate::error::{Error, Result};
use crate::facts::Facts;
use crate::report::{self, Stats};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Name of the page in its directory.
pub const PAGE: &str = "report.md";

/// What is shown of a result file.
#[derive(Clone, Debug, Deserialize)]
pub struct Results {
    /// Name of the file without its extension; empty until it is known.
    #[serde(skip)]
    pub name: String,
    /// The command line that measured.
    pub command: Vec<String>,
    /// Where and how it ran.
    pub facts: Facts,
    /// The figures.
    pub summary: Vec<Line>,
}

/// One figure of one device, see [`report::Row`].
#[derive(Clone, Debug, Deserialize)]
pub struct Line {
    /// What was measured.
    pub figure: String,
    /// Device measured.
    pub device: String,
    /// What its values came to.
    pub stats: Stats,
    /// The subject's median divided by this device's.
    pub ratio: Option<f64>,
    /// Remark.
    pub remark: String,
}

/// How the facts of a file differ from those of the first one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Name of the file.
    pub file: String,
    /// Dotted name of the fact.
    pub fact: String,
    /// What it is here, and what it is in the first file.
    pub here: String,
    /// See above.
    pub first: String,
    /// Whether figures of the two files must not be compared: another machine, kernel or version.
    pub grave: bool,
}

impl Results {
    /// Reads a file written with --json.
    ///
    /// # Errors
    /// Those of [`report::read_json`].
    pub fn read(path: &Path) -> Result<Self> {
        let results: Results = report::read_json(path)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Results { name, ..results })
    }
}

/// Writes page and charts into `out`, which is made if it is not there. Returns the page's path.
///
/// # Errors
/// [`Error::Io`] when a file cannot be written, [`Error::File`] when a chart cannot be drawn.
pub fn write(results: &[Results], out: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(out).map_err(|e| Error::io(format!("create {}", out.display()), e))?;
    let path = out.join(PAGE);
    remove_charts(&path)?;
    let mut names = BTreeSet::new();
    let mut chart = |title: &str, chart: &figure::Chart| -> Result<String> {
        let name = unused(&slug(title), &mut names);
        let path = out.join(&name);
        let svg = plot::svg(chart).map_err(|why| Error::File { path: path.clone(), why })?;
        save(&path, &svg)?;
        Ok(name)
    };
    let page = text::page(results, &mut chart)?;
    save(&path, &page)?;
    Ok(path)
}

/// Removes the charts that an older page shows: the new one may have others.
fn remove_charts(page: &Path) -> Result<()> {
    let text = std::fs::read_to_string(page).unwrap_or_default();
    let links = text.lines().filter_map(|line| line.strip_prefix("![")?.split_once("](")?.1.strip_suffix(".svg)"));
    for link in links.filter(|link| !link.contains('/')) {
        let path = page.with_file_name(format!("{link}.svg"));
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io(format!("remove {}", path.display()), e));
            }
            _ => {}
        }
    }
    Ok(())
}

fn save(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|e| Error::io(format!("write {}", path.display()), e))
}

/// Facts about machine and set-up in which files differ from the first one, and versions of devices.
pub fn facts_that_differ(results: &[Results]) -> Vec<Difference> {
    let Some((first, others)) = results.split_first() else { return Vec::new() };
    let value = |facts: &Facts| serde_json::to_value(facts).unwrap_or_default();
    let base = value(&first.facts);
    let mut found = Vec::new();
    for other in others {
        for (fact, there, here) in differences(&base, &value(&other.facts)) {
            // A device that one file alone has is no difference.
            let of_device =
                |name: &str| first.facts.devices.contains_key(name) && other.facts.devices.contains_key(name);
            let version = fact.strip_prefix("devices.").and_then(|f| f.strip_suffix(".version")).is_some_and(of_device);
            let grave = fact.starts_with("machine.") || fact == "setup.swbench" || version;
            if grave || fact.starts_with("setup.") {
                found.push(Difference { file: other.name.clone(), fact, here, first: there, grave });
            }
        }
    }
    found
}

/// A file name from a title: lower-case letters, digits and single hyphens.
fn slug(title: &str) -> String {
    let mut slug = String::new();
    for c in title.chars().map(|c| c.to_ascii_lowercase()) {
        if c.is_ascii_alphanumeric() || (c == '.' && !slug.is_empty()) {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.trim_end_matches(['-', '.']).to_owned()
}

/// The name as that of an SVG file, with a number when it is taken.
fn unused(slug: &str, names: &mut BTreeSet<String>) -> String {
    let numbered = (1..).map(|n| if n == 1 { format!("{slug}.svg") } else { format!("{slug}-{n}.svg") });
    let name = numbered.into_iter().find(|name| !names.contains(name)).unwrap_or_default();
    names.insert(name.clone());
    name
}

#[cfg(test)]
mod tests;
