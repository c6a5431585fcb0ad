//! `swbench report`: a page with charts from result files.

use bench::error::Result;
use bench::publish::{self, Results};
use std::path::{Path, PathBuf};

/// Writes the report of every file that can be read, and says on stdout where it is.
///
/// # Errors
/// That of the last file that cannot be read, earlier ones being named on stderr; those of [`publish::write`].
pub fn run(files: &[PathBuf], out: &Path) -> Result<()> {
    let (mut results, mut broken) = (Vec::new(), Vec::new());
    for file in files {
        match Results::read(file) {
            Ok(result) => results.push(result),
            Err(error) => broken.push(error),
        }
    }
    if !results.is_empty() {
        let page = publish::write(&results, out)?;
        println!("report: {}", page.display());
    }
    let last = broken.pop();
    broken.iter().for_each(|error| eprintln!("swbench: {error}"));
    last.map_or(Ok(()), Err)
}
