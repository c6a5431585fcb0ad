//! What the user sees on stderr while trials run: a bar on a terminal, one line per trial elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;

/// A counter of trials. Main thread.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    on_terminal: bool,
}

impl Progress {
    /// Starts at 0 of `trials`.
    pub fn new(trials: usize) -> Self {
        let on_terminal = std::io::stderr().is_terminal();
        let bar = if on_terminal { ProgressBar::new(trials as u64) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} (left {eta}) {msg}") {
            bar.set_style(style);
        }
        Progress { bar, on_terminal }
    }

    /// Says what is being measured now.
    pub fn begin(&self, what: &str) {
        self.bar.set_message(what.to_owned());
        self.bar.tick();
    }

    /// Counts one trial as done and says how it went.
    pub fn done(&self, outcome: &str) {
        self.note(outcome);
        self.bar.inc(1);
    }

    /// Writes a line without disturbing the bar.
    pub fn note(&self, line: &str) {
        if self.on_terminal {
            self.bar.println(line);
        } else {
            eprintln!("{line}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
