//! The one error type of the rig. Made anywhere in the crate, printed by `main`.

use std::io;
use std::path::PathBuf;

/// Why a measurement could not be made. Every message names the object, what is wrong and, where known, the mending.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call of the rig itself failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, with the object's name.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A helper command could not be started or ended with a failure status.
    #[error("`{command}` failed: {why}")]
    Command {
        /// The command line as run.
        command: String,
        /// Exit status and what it wrote on stderr.
        why: String,
    },
    /// The device under test cannot be used on this machine.
    #[error("{device} is not available: {why}")]
    Absent {
        /// Name of the device.
        device: &'static str,
        /// What is missing and how to get it.
        why: String,
    },
    /// The device under test was started but does not do its job.
    #[error("{device} did not come up: {why}")]
    Device {
        /// Name of the device.
        device: &'static str,
        /// What it failed to do, with the end of its log.
        why: String,
    },
    /// A search found no rate that the device carries.
    #[error("{device} carried no rate that was tried: allow more loss with --loss-percent, or see what else runs here")]
    NoRate {
        /// Name of the device.
        device: &'static str,
    },
    /// The traffic generator could not be set up or died during the trial.
    #[error("{load} generator: {why}")]
    Generator {
        /// Name of the load.
        load: &'static str,
        /// What failed.
        why: String,
    },
    /// A helper's output does not have the expected form.
    #[error("cannot read the output of {tool}: {why}")]
    Parse {
        /// Program that wrote the output.
        tool: &'static str,
        /// What was expected.
        why: String,
    },
    /// A file named by the user cannot be used.
    #[error("{}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Some tests of a campaign failed; why is on stderr.
    #[error("of {asked} tests failed: {failed}")]
    Tests {
        /// Their names.
        failed: String,
        /// How many were to run.
        asked: usize,
    },
    /// The user asked for an end (SIGINT or SIGTERM).
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// Wraps an I/O error with the words that say what was being done.
    pub fn io(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Error::Io { what: what.into(), source: source.into() }
    }
}

/// Result of every fallible function of the rig.
pub type Result<T> = std::result::Result<T, Error>;
